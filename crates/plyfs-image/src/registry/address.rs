//! Where a registry is: its host, and whether HTTP will do. Also where a redirection leads. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

use super::RegistryOptions;
use crate::reference::DEFAULT_DOMAIN;

/// Docker Hub's own host.
const HUB: &str = "registry-1.docker.io";

/// A registry's place.
#[derive(Debug, Clone)]
pub(super) struct Address {
    host: String,
    scheme: &'static str,
    /// HTTP will do.
    plain: bool,
    /// Certificates are not checked.
    unchecked: bool,
    /// It has to be found out which of both it speaks.
    open: bool,
}

impl Address {
    /// Of a reference's domain.
    pub(super) fn of(domain: &str, options: &RegistryOptions) -> Address {
        let host = if domain == DEFAULT_DOMAIN { HUB } else { domain };
        let loopback = is_loopback(host);
        let insecure = options.insecure.iter().any(|one| one == domain);
        let plain = options.plain_http || loopback || insecure;
        Address {
            host: host.to_owned(),
            scheme: if options.plain_http || (loopback && !insecure) { "http" } else { "https" },
            plain,
            unchecked: loopback || insecure,
            open: plain && !options.plain_http,
        }
    }

    /// `https://host:port`
    pub(super) fn base(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }

    /// `host:port`
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it says its port; else that is 443 for HTTPS, 80 for HTTP.
    pub(super) fn has_port(&self) -> bool {
        bare(&self.host) != self.host
    }

    /// Whether HTTP will do, for it and for whom it sends us to.
    pub(super) fn may_be_plain(&self) -> bool {
        self.plain
    }

    /// Whether its certificates are taken as they are.
    pub(super) fn is_unchecked(&self) -> bool {
        self.unchecked
    }

    /// Whether it is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The other scheme, if it is to be tried too.
    pub(super) fn other_scheme(&self) -> Option<&'static str> {
        self.open.then_some(if self.scheme == "http" { "https" } else { "http" })
    }

    /// From now on so.
    pub(super) fn set_scheme(&mut self, scheme: &'static str) {
        self.scheme = scheme;
    }
}

/// The host without its port.
fn bare(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host.ends_with(']') => &host[..at],
        _ => host,
    }
}

/// Whether a host, with or without a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = bare(host);
    let v6 = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || v6.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

/// Scheme, host and port: whoever has the same three is the same server.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
    Some((scheme, uri.host()?.to_lowercase(), port))
}

/// The host of a URL, without its port.
pub(super) fn host(url: &str) -> Option<String> {
    origin(url).map(|(_, host, _)| host)
}

/// Whether both are of the same server.
pub(super) fn same_origin(one: &str, other: &str) -> bool {
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

/// Where `location` in an answer from `url` leads. `plain`: HTTP will do.
pub(super) fn redirected(url: &str, location: &str, plain: bool) -> Result<String, String> {
    let (scheme, host, _) = origin(url).ok_or("it has no host")?;
    let to = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        let authority = url.split('/').nth(2).unwrap_or(&host);
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    match origin(&to) {
        Some((scheme, ..)) if scheme == "https" => Ok(to),
        Some((scheme, host, _)) if scheme == "http" && (plain || is_loopback(&host)) => Ok(to),
        Some((scheme, ..)) if scheme == "http" => {
            Err(format!("it leads to {to}, which is not encrypted: refused (--plain-http allows it)"))
        }
        _ => Err(format!("it leads to {location:?}, which is no address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(plain_http: bool, insecure: &[&str]) -> RegistryOptions {
        RegistryOptions {
            plain_http,
            insecure: insecure.iter().map(|&one| one.to_owned()).collect(),
            ..RegistryOptions::default()
        }
    }

    #[test]
    fn http_is_for_loopback_or_on_request() {
        let of = |domain: &str, plain, insecure: &[&str]| {
            let address = Address::of(domain, &options(plain, insecure));
            (address.base(), address.may_be_plain(), address.other_scheme())
        };
        let told = |base: &str, plain, other| (base.to_owned(), plain, other);
        assert_eq!(of("docker.io", false, &[]), told("https://registry-1.docker.io", false, None));
        assert_eq!(of("quay.io", false, &["other"]), told("https://quay.io", false, None));
        assert_eq!(of("quay.io", false, &["quay.io"]), told("https://quay.io", true, Some("http")));
        assert_eq!(of("quay.io", true, &[]), told("http://quay.io", true, None));
        for loopback in ["localhost:5000", "127.0.0.1", "127.1.2.3:5000", "[::1]:5000", "[::1]"] {
            assert_eq!(of(loopback, false, &[]), told(&format!("http://{loopback}"), true, Some("https")));
        }
        let has_port = |domain: &str| Address::of(domain, &options(false, &[])).has_port();
        assert!(has_port("a.io:80") && has_port("[::1]:80") && !has_port("a.io") && !has_port("[::1]"));
        for other in ["localhost.example.com", "128.0.0.1", "[::2]:5000", "127.0.0.1.example.com"] {
            assert!(!of(other, false, &[]).1, "{other}");
        }
    }

    #[test]
    fn redirections_are_resolved_and_never_become_plain() {
        let at = "https://r.io:444/v2/a/blobs/x";
        let cases = [
            ("/other", Ok("https://r.io:444/other")),
            ("//cdn.io/x", Ok("https://cdn.io/x")),
            ("https://cdn.io/x?y=z", Ok("https://cdn.io/x?y=z")),
            ("http://cdn.io/x", Err("not encrypted")),
            ("ftp://cdn.io/x", Err("no address")),
            ("file:///etc/passwd", Err("no address")),
            ("other", Err("no address")),
        ];
        for (location, want) in cases {
            match (redirected(at, location, false), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                (got, _) => panic!("{location}: {got:?}"),
            }
        }
        assert!(redirected(at, "http://cdn.io/x", true).is_ok());
        assert!(same_origin("https://r.io/a", "https://R.io:443/b"));
        assert!(!same_origin("https://r.io/a", "http://r.io/a"));
        assert!(!same_origin("https://r.io/a", "https://r.io:444/a"));
    }
}
