//! The HTTP clients: one for the registry's host, one for everybody else that it sends us to, one for this machine, which
//! no proxy is asked for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::address::{Address, host, is_loopback};
use crate::error::{Doing, Error, Result};
use crate::progress::Cancel;

/// Docker's place for certificates: `HOST[:PORT]/*.crt`.
const CERTS: &str = "/etc/docker/certs.d";
/// A connection that gives nothing for so long is broken.
const STALL: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(30);

/// The clients.
#[derive(Debug)]
pub(super) struct Agents {
    /// For the registry.
    own: Agent,
    host: String,
    /// For others.
    others: Agent,
    /// For loopback addresses.
    here: Agent,
}

impl Agents {
    /// For the registry at `address`. Cancelling breaks all their connections.
    pub(super) fn new(address: &Address, cancel: &Cancel) -> Result<Agents> {
        let certificates = certificates(&Path::new(CERTS).join(address.host()))?;
        let mut tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        if address.is_unchecked() {
            tls = tls.disable_verification(true);
        } else if !certificates.is_empty() {
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let own = agent(tls.build(), address.is_loopback());
        let others = agent(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build(), false);
        let here = agent(TlsConfig::builder().disable_verification(true).build(), true);
        for agent in [&own, &others, &here] {
            let agent = agent.clone();
            cancel.on_cancel(move || agent.clone().shutdown());
        }
        Ok(Agents { own, host: address.host().to_owned(), others, here })
    }

    /// For this URL.
    pub(super) fn of(&self, url: &str) -> &Agent {
        match host(url) {
            Some(there) if host(&format!("https://{}", self.host)).is_some_and(|own| own == there) => {
                &self.own
            }
            Some(there) if is_loopback(&there) => &self.here,
            _ => &self.others,
        }
    }
}

fn agent(tls: TlsConfig, direct: bool) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        // Followed by hand: who gets the credentials is decided at each.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(STALL))
        .timeout_per_write(Some(STALL))
        .user_agent(concat!("plyfs/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls);
    if direct {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// The certificates that vouch for one registry; none if there is no such directory.
fn certificates(dir: &Path) -> Result<Vec<Certificate<'static>>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing("listing", dir)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.doing("listing", dir)?.path();
        if path.extension().is_none_or(|extension| extension != "crt") {
            continue;
        }
        let text = fs::read(&path).doing("reading", &path)?;
        for item in parse_pem(&text) {
            let item = item.map_err(|error| Error::document(path.display(), error))?;
            if let PemItem::Certificate(certificate) = item {
                found.push(certificate);
            }
        }
    }
    Ok(found)
}
