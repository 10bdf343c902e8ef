//! Sending one `GET` until it is answered: logins, redirections, and trying again.

use std::io::{ErrorKind, Read};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde::Deserialize;
use ureq::Body;
use ureq::http::{HeaderMap, Response};

use super::Registry;
use super::address::{redirected, same_origin};
use super::challenge;
use crate::error::{Error, Result};

const REDIRECTS: usize = 10;
/// Longest wait between two tries, whatever the registry asks for.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes of an error's text.
const WORDS: u64 = 64 << 10;

/// How one try ended.
enum Tried {
    Answer(Box<Response<Body>>),
    Again { why: String, after: Option<Duration> },
}

impl Registry<'_> {
    /// Gets `url` from byte `from` on. The answer is a success (200 or 206), or 416.
    pub(super) fn get(&self, url: &str, accept: Option<&str>, from: u64) -> Result<Response<Body>> {
        let mut wait = self.options.wait;
        for left in (0..self.options.tries.max(1)).rev() {
            self.cancel.check()?;
            match self.try_get(url, accept, from) {
                Ok(Tried::Answer(answer)) => {
                    self.reached.store(true, SeqCst);
                    return Ok(*answer);
                }
                Ok(Tried::Again { why, .. }) if left == 0 => return Err(Error::registry(url, why)),
                Ok(Tried::Again { why, after }) => {
                    tracing::info!("{url}: {why}; trying again");
                    self.cancel.sleep(after.unwrap_or(wait).min(LONGEST))?;
                    wait = wait.saturating_mul(2).min(LONGEST);
                }
                Err(error) => return Err(if self.cancel.is_cancelled() { Error::Cancelled } else { error }),
            }
        }
        Err(Error::registry(url, "no answer"))
    }

    fn try_get(&self, url: &str, accept: Option<&str>, from: u64) -> Result<Tried> {
        let mut at = url.to_owned();
        let mut logins = 0;
        let mut redirects = 0;
        loop {
            let own = same_origin(&at, &self.address.base());
            let header = if own { self.auth.header() } else { None };
            let answer = match self.once(&at, accept, from, header.as_deref()) {
                Ok(answer) => answer,
                Err(error) => return self.transport_failed(&at, &error),
            };
            let status = answer.status().as_u16();
            match status {
                200 | 206 | 416 => return Ok(Tried::Answer(Box::new(answer))),
                301 | 302 | 303 | 307 | 308 if redirects < REDIRECTS => {
                    redirects += 1;
                    let to = text(answer.headers(), "location").unwrap_or_default();
                    at = redirected(&at, to, self.address.may_be_plain())
                        .map_err(|why| Error::registry(&at, format!("redirected: {why}")))?;
                }
                // Twice: a token may have ended; a new one that is refused means it.
                401 if own && logins < 2 => {
                    logins += 1;
                    let all = answer.headers().get_all("www-authenticate").iter();
                    let challenges: Vec<_> =
                        all.filter_map(|one| one.to_str().ok()).flat_map(challenge::parse).collect();
                    if logins == 2 && header.as_deref().is_some_and(|header| header.starts_with("Basic")) {
                        return Err(refused(&at, answer));
                    }
                    self.auth.renew(header.as_deref(), &challenges, &self.agents, &at)?;
                }
                408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                    let after = text(answer.headers(), "retry-after").and_then(|text| text.parse().ok());
                    let why = format!("HTTP status {status}");
                    return Ok(Tried::Again { why, after: after.map(Duration::from_secs) });
                }
                _ => return Err(refused(&at, answer)),
            }
        }
    }

    fn once(
        &self,
        url: &str,
        accept: Option<&str>,
        from: u64,
        auth: Option<&str>,
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = self.agents.of(url).get(url);
        if let Some(accept) = accept {
            request = request.header("Accept", accept);
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(auth) = auth {
            request = request.header("Authorization", auth);
        }
        request.call()
    }

    /// Broken connections are tried again; a server that was never there is not.
    fn transport_failed(&self, url: &str, error: &ureq::Error) -> Result<Tried> {
        let again = match error {
            ureq::Error::Io(error) => {
                error.kind() != ErrorKind::ConnectionRefused || self.reached.load(SeqCst)
            }
            ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
            ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => self.reached.load(SeqCst),
            _ => false,
        };
        // A certificate that is not accepted comes as an I/O error.
        let is_tls = matches!(error, ureq::Error::Rustls(_)) || error.to_string().contains("certificate");
        if again && !is_tls {
            return Ok(Tried::Again { why: error.to_string(), after: None });
        }
        Err(Error::registry(url, error))
    }

    /// Asks a registry that may be either, whether it speaks HTTP or HTTPS.
    pub(super) fn settle_scheme(&mut self) {
        let Some(other) = self.address.other_scheme() else { return };
        let url = format!("{}/v2/", self.address.base());
        let spoken = match self.once(&url, None, 0, None) {
            // What Go's servers answer to HTTP where HTTPS is spoken.
            Ok(answer) => answer.status() != 400,
            // Nobody is there. Where a port is said, the other one would not be either; else it has a port of its own.
            Err(ureq::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                let url = format!("{other}://{}/v2/", self.address.host());
                self.address.has_port() || self.once(&url, None, 0, None).is_err()
            }
            Err(_) => false,
        };
        if !spoken {
            self.address.set_scheme(other);
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// An answer that is final: the registry's own words if it has some (distribution-spec, "Error Codes").
fn refused(url: &str, answer: Response<Body>) -> Error {
    let status = answer.status().as_u16();
    let mut words = Vec::new();
    let read = answer.into_body().into_reader().take(WORDS).read_to_end(&mut words);
    let told: Option<Errors> = read.ok().and_then(|_| serde_json::from_slice(&words).ok());
    let told = told.and_then(|told| told.errors.into_iter().next()).map(|one| {
        let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        format!(": {} ({})", clean(one.message), clean(one.code))
    });
    let what = match status {
        401 | 403 => "access denied; is the name right, and are you logged in (docker login, podman login)?",
        404 => "not found",
        _ => "refused",
    };
    Error::registry(url, format!("{what} (HTTP status {status}){}", told.unwrap_or_default()))
}
