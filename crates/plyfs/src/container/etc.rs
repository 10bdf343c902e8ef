//! `resolv.conf`, `hosts` and `hostname`: files of the container's own directory, made anew at each start and bound over
//! the empty ones of the `-init` layer.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::containers::Network;

/// What a container without a network knows of names (moby `libnetwork/etchosts`).
const ALONE: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// File of the container's directory, and its place inside.
pub(crate) const FILES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")];

/// Writes them into `dir`.
pub(crate) fn write(dir: &Path, hostname: &str, network: Network) -> anyhow::Result<()> {
    let hosts = match network {
        Network::Host => of_host("/etc/hosts")?,
        Network::None => ALONE.to_owned(),
    };
    let resolv = match network {
        Network::Host => of_host("/etc/resolv.conf")?,
        Network::None => String::new(),
    };
    put(dir.join("hosts"), &known(hosts, hostname))?;
    put(dir.join("resolv.conf"), &resolv)?;
    put(dir.join("hostname"), &format!("{hostname}\n"))
}

/// A program that looks for its own host name finds it.
fn known(mut hosts: String, hostname: &str) -> String {
    let named = |line: &str| {
        line.split('#').next().unwrap_or_default().split_whitespace().skip(1).any(|n| n == hostname)
    };
    if !hosts.lines().any(named) {
        if !hosts.is_empty() && !hosts.ends_with('\n') {
            hosts.push('\n');
        }
        hosts.push_str(&format!("127.0.1.1\t{hostname}\n"));
    }
    hosts
}

fn of_host(path: &str) -> anyhow::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| path.to_owned()),
    }
}

/// In place: it may be bound somewhere. Readable by every user of the container.
fn put(path: PathBuf, text: &str) -> anyhow::Result<()> {
    let written =
        fs::write(&path, text).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)));
    written.with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_name_is_known_once() {
        assert_eq!(known("127.0.0.1 a # b".into(), "a"), "127.0.0.1 a # b");
        assert_eq!(known("127.0.0.1 a # b".into(), "b"), "127.0.0.1 a # b\n127.0.1.1\tb\n");
        assert_eq!(known(String::new(), "b"), "127.0.1.1\tb\n");
    }
}
