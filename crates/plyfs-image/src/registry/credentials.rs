//! Logins: from Podman's and Docker's files and their helpers (containers-auth.json(5); docker login). Files are read when a
//! registry asks for a login, and not kept.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError as Reason, DockerCredential, get_credential_from_reader};
use serde_json::Value;

use crate::error::{Doing, Error, Result};
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// Docker Hub's name in these files.
const HUB: &str = "https://index.docker.io/v1/";
/// No such file is larger.
const FILE_BYTES: u64 = 4 << 20;

/// Where logins are looked for.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
}

/// A login.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// User and password.
    Password(String, String),
    /// What a token server gave at login.
    Identity(String),
}

impl Credentials {
    /// Those of these files only.
    pub fn from_files(files: Vec<PathBuf>) -> Credentials {
        Credentials { files }
    }

    /// `$REGISTRY_AUTH_FILE` alone if set; else Podman's files, then Docker's.
    pub fn from_environment() -> Credentials {
        from(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// The login for `reference`, if there is one.
    pub(super) fn find(&self, reference: &Reference) -> Result<Option<Login>> {
        for path in &self.files {
            let mut text = Vec::new();
            match File::open(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                file => file
                    .and_then(|file| file.take(FILE_BYTES).read_to_end(&mut text))
                    .doing("reading", path)?,
            };
            let config: Value =
                serde_json::from_slice(&text).map_err(|error| Error::document(path.display(), error))?;
            for key in keys(reference, &config) {
                if let Some(login) = ask(&text, &key)? {
                    return Ok(Some(login));
                }
            }
        }
        Ok(None)
    }
}

fn from(set: impl Fn(&str) -> Option<OsString>) -> Credentials {
    let path = |name: &str| set(name).map(PathBuf::from);
    if let Some(file) = path("REGISTRY_AUTH_FILE") {
        return Credentials { files: vec![file] };
    }
    let runtime = path("XDG_RUNTIME_DIR")
        .unwrap_or_else(|| format!("/run/containers/{}", plyfs_sys::cred::effective_uid()).into());
    let home = path("HOME");
    let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
    let config = path("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = path("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    let runtime = if set("XDG_RUNTIME_DIR").is_some() { runtime.join("containers") } else { runtime };
    let files = [
        Some(runtime.join("auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
    ];
    Credentials { files: files.into_iter().flatten().collect() }
}

/// The keys to ask for, most exact first. Namespaces only where the file has them, so that helpers are asked once.
fn keys(reference: &Reference, config: &Value) -> Vec<String> {
    let has = |key: &String| {
        ["auths", "credHelpers"]
            .iter()
            .any(|part| config.get(part).is_some_and(|part| part.get(key).is_some()))
    };
    let domain = reference.domain();
    let mut keys = Vec::new();
    let mut name = reference.name();
    while name != domain {
        keys.push(name.clone());
        name.truncate(name.rfind('/').unwrap_or(0).max(domain.len()));
    }
    keys.retain(has);
    if domain == DEFAULT_DOMAIN {
        let aliases = [domain.to_owned(), "index.docker.io".to_owned(), "registry-1.docker.io".to_owned()];
        keys.extend(aliases.into_iter().filter(has));
        keys.push(HUB.to_owned());
    } else {
        keys.push(domain.to_owned());
    }
    keys
}

fn ask(config: &[u8], key: &str) -> Result<Option<Login>> {
    match get_credential_from_reader(config, key) {
        Ok(DockerCredential::IdentityToken(token)) if token.is_empty() => Ok(None),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Login::Identity(token))),
        Ok(DockerCredential::UsernamePassword(user, _)) if user.is_empty() => Ok(None),
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some(Login::Password(user, password))),
        Err(Reason::NoCredentialConfigured) => Ok(None),
        Err(Reason::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => Ok(None),
        // Without a login many registries answer too: Docker's own file often names a helper that is not installed.
        Err(Reason::HelperCommunicationError) => {
            tracing::warn!("the credential helper for {key} cannot be run; going on without a login");
            Ok(None)
        }
        Err(Reason::HelperFailure { helper, stdout, stderr }) => {
            let words: String =
                format!("{stdout} {stderr}").chars().filter(|c| !c.is_control()).take(200).collect();
            tracing::warn!("{helper} has no login for {key}: {}; going on without", words.trim());
            Ok(None)
        }
        Err(error) => Err(Error::Refused(format!("the login for {key} cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(config: &str, name: &str) -> Option<Login> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let missing = PathBuf::from("/nonexistent/auth.json");
        let files = vec![missing, file.path().to_owned()];
        Credentials::from_files(files).find(&Reference::parse(name).unwrap()).unwrap()
    }

    fn password(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password(user.to_owned(), password.to_owned()))
    }

    #[test]
    fn logins_are_found_by_registry_and_namespace() {
        // base64 of user:pass, other:word
        let config = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dXNlcjpwYXNz"},
            "localhost:5000": {"auth": "dXNlcjpwYXNz"},
            "localhost:5000/team": {"auth": "b3RoZXI6d29yZA=="},
            "tokens.io": {"auth": "dXNlcjpwYXNz", "identitytoken": "secret"},
            "empty.io": {}
        }}"#;
        assert!(find(config, "debian") == password("user", "pass"));
        assert!(find(config, "localhost:5000/x") == password("user", "pass"));
        assert!(find(config, "localhost:5000/team/x/y") == password("other", "word"));
        assert!(find(config, "localhost:5000/teamx") == password("user", "pass"));
        assert!(find(config, "tokens.io/a") == Some(Login::Identity("secret".to_owned())));
        assert!(find(config, "empty.io/a").is_none());
        assert!(find(config, "other.io/a").is_none());
        assert!(find("{}", "debian").is_none());
    }

    // That helpers are run is tested with the whole program: the search path belongs to all tests of this process.
    #[test]
    fn a_helper_that_is_not_there_is_no_failure() {
        assert!(find(r#"{"credsStore": "plyfs-there-is-no-such-helper"}"#, "helped.io/a").is_none());
    }

    #[test]
    fn where_is_looked() {
        let look = |set: &[(&str, &str)]| {
            let get = |name: &str| set.iter().find(|one| one.0 == name).map(|one| OsString::from(one.1));
            from(get).files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(look(&[("REGISTRY_AUTH_FILE", "/a"), ("HOME", "/h")]), ["/a"]);
        let all = look(&[("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h")]);
        assert_eq!(
            all,
            ["/r/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
        );
        assert_eq!(look(&[("XDG_RUNTIME_DIR", "/r"), ("DOCKER_CONFIG", "/d")])[1], "/d/config.json");
    }
}
