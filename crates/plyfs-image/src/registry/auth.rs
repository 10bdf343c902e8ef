//! Getting past a challenge: the `Authorization` of the requests to one repository. Token servers: Docker's token
//! authentication specification (`GET` with Basic) and its OAuth2 form (`POST` with a refresh token).
//!
//! A token is used until the registry refuses it (then a new one is asked for): its own word about when it ends is not
//! needed.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::address::redirected;
use super::agents::Agents;
use super::challenge::Challenge;
use super::credentials::{Credentials, Login};
use crate::error::{Error, Result};
use crate::reference::Reference;

/// No token is larger.
const ANSWER_BYTES: u64 = 1 << 20;

/// The state of one repository.
pub(super) struct Auth<'a> {
    credentials: &'a Credentials,
    reference: Reference,
    /// Token servers may be reached by HTTP.
    plain: bool,
    header: Mutex<Option<String>>,
}

/// Secrets are not shown.
impl std::fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("reference", &self.reference).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Auth<'a> {
    pub(super) fn new(credentials: &'a Credentials, reference: &Reference, plain: bool) -> Auth<'a> {
        Auth { credentials, reference: reference.clone(), plain, header: Mutex::default() }
    }

    /// What to send.
    pub(super) fn header(&self) -> Option<String> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers `challenges`, which met a request with `refused` as its header. Another thread may have done so already.
    pub(super) fn renew(
        &self,
        refused: Option<&str>,
        challenges: &[Challenge],
        agents: &Agents,
        url: &str,
    ) -> Result<()> {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if header.as_deref() != refused {
            return Ok(());
        }
        *header = Some(self.answer(challenges, agents, url)?);
        Ok(())
    }

    fn answer(&self, challenges: &[Challenge], agents: &Agents, url: &str) -> Result<String> {
        let login = self.credentials.find(&self.reference)?;
        let bearer = challenges.iter().find(|one| matches!(one, Challenge::Bearer { .. }));
        match (bearer, login) {
            (Some(Challenge::Bearer { realm, service, scope }), login) => {
                let scope =
                    scope.clone().unwrap_or_else(|| format!("repository:{}:pull", self.reference.path()));
                let token = self.token(agents, realm, service.as_deref(), &scope, login.as_ref())?;
                Ok(format!("Bearer {token}"))
            }
            (_, Some(Login::Password(user, password))) if challenges.contains(&Challenge::Basic) => {
                Ok(basic(&user, &password))
            }
            (_, _) if challenges.contains(&Challenge::Basic) => Err(Error::registry(
                url,
                format!("needs a login: docker login {d} or podman login {d}", d = self.reference.domain()),
            )),
            _ => Err(Error::registry(url, "refused, and does not say how to log in")),
        }
    }

    fn token(
        &self,
        agents: &Agents,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        login: Option<&Login>,
    ) -> Result<String> {
        let bad = |why: String| Error::registry(realm, why);
        let realm =
            redirected(realm, realm, self.plain).map_err(|why| bad(format!("the token server: {why}")))?;
        let agent = agents.of(&realm);
        let answer = match login {
            Some(Login::Identity(token)) => {
                let mut form = vec![
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token),
                    ("scope", scope),
                    ("client_id", "plyfs"),
                ];
                form.extend(service.map(|service| ("service", service)));
                agent.post(&realm).send_form(form)
            }
            login => {
                let mut request = agent.get(&realm).query("scope", scope);
                if let Some(service) = service {
                    request = request.query("service", service);
                }
                if let Some(Login::Password(user, password)) = login {
                    request = request.query("account", user).header("Authorization", basic(user, password));
                }
                request.call()
            }
        };
        let answer = answer.map_err(|error| bad(error.to_string()))?;
        if answer.status() != 200 {
            let who = if login.is_some() { "the login was refused" } else { "no token without a login" };
            return Err(bad(format!("{who} (HTTP status {})", answer.status().as_u16())));
        }
        let mut text = Vec::new();
        let body = answer.into_body().into_reader();
        body.take(ANSWER_BYTES).read_to_end(&mut text).map_err(|error| bad(error.to_string()))?;
        let answer: Answer = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
        token.ok_or_else(|| bad("its answer has no token".to_owned()))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}
