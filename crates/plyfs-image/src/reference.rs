//! References: names of images as people write them (`debian`, `localhost:5000/app:1`, `repo@sha256:...`).
//!
//! Source of the rules: distribution/reference (`reference.go`, `regexp.go`, `normalize.go`). Written by hand: oci-spec's
//! parser takes letters of all scripts in tags, no IPv6 hosts and no hosts in capitals, and does not tell whether a tag
//! was written. Only sha256 digests are known here, as everywhere in the store.

use std::fmt;

use plyfs_store::Digest;

/// The registry that is meant when none is named.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// What a name without a tag means.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
/// Longest name, without tag and digest.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A name of an image, with what was written of tag and digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name of an image: {why}")]
pub struct BadReference {
    /// As it was written.
    pub text: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

impl Reference {
    /// Reads a reference; nothing is added but the default registry.
    pub fn parse(text: &str) -> Result<Reference, BadReference> {
        let bad = |why| BadReference { text: text.chars().take(300).collect(), why };
        read(text).map_err(bad)
    }

    /// The same name with `latest`, if there is neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// As a name that an image here can be given: `latest` if there is no tag. A digest is nothing that one gives: only a
    /// registry's answer that hashes to it makes it a name, or it would vouch for what nobody checked.
    pub fn as_new_name(&self) -> Result<Reference, BadReference> {
        if self.digest.is_some() {
            let why = "a digest cannot be given as a name; give a tag";
            return Err(BadReference { text: self.familiar(), why });
        }
        Ok(self.clone().or_latest())
    }

    /// The same name with this digest, and without a tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same name with this tag, and without a digest.
    pub fn tagged(&self, tag: &str) -> Result<Reference, BadReference> {
        check_tag(tag).map_err(|why| BadReference { text: tag.to_owned(), why })?;
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in its registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name without tag and digest, in full: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name without tag and digest, as people write it: `debian`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            // `foo.com/bar` alone would be another registry's.
            _ if self.path.split_once('/').is_some_and(|(first, _)| is_domain(first)) => self.name(),
            _ => self.path.clone(),
        }
    }

    /// The whole, as people write it and as Docker keeps it: `debian:12`, `debian@sha256:...`.
    pub fn familiar(&self) -> String {
        self.with_rest(self.familiar_name())
    }

    /// The key that the store keeps: where a digest is written, the tag beside it does not count.
    pub fn key(&self) -> String {
        match self.digest {
            Some(digest) => self.at(digest).familiar(),
            None => self.clone().or_latest().familiar(),
        }
    }

    fn with_rest(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

/// In full: `docker.io/library/debian:12`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_rest(self.name()))
    }
}

impl std::str::FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Reference, BadReference> {
        Reference::parse(text)
    }
}

fn read(text: &str) -> Result<Reference, &'static str> {
    let is_hex = text.len() == 64 && Digest::from_hex(text).is_ok();
    if is_hex {
        return Err("64 hexadecimal digits are an id, not a name");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest.parse().map_err(|_| "its digest is not sha256: and 64 hexadecimal digits")?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let name_at = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[name_at..].find(':') {
        Some(at) => (&rest[..name_at + at], Some(&rest[name_at + at + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (domain, path) = split_domain(name);
    check_domain(&domain)?;
    check_path(&path)?;
    if domain.len() + 1 + path.len() > NAME_MAX {
        return Err("it is longer than 255 characters");
    }
    Ok(Reference { domain, path, tag: tag.map(str::to_owned), digest })
}

/// Whether the first component of a name is a host (normalize.go, `splitDockerDomain`).
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|c| c.is_ascii_uppercase())
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = match domain.rfind(':') {
        Some(at) if !domain.ends_with(']') => (&domain[..at], Some(&domain[at + 1..])),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|c| c.is_ascii_digit())) {
        return Err("the registry's port is no number");
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let good = address.parse::<std::net::Ipv6Addr>().is_ok();
        return if good { Ok(()) } else { Err("the registry's address is no IPv6 address") };
    }
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    if host.split('.').all(good) { Ok(()) } else { Err("the registry's name is no host name") }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|c| c.is_ascii_uppercase()) {
        return Err("a repository's name has small letters only");
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err("a repository's name is made of letters and digits, with one of . _ __ - between them, and /")
    }
}

/// `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = part;
    loop {
        let word = rest.trim_start_matches(letter);
        if word.len() == rest.len() {
            return false;
        }
        if word.is_empty() {
            return true;
        }
        let next = word.trim_start_matches(|c| !letter(c));
        let between = &word[..word.len() - next.len()];
        if !matches!(between, "." | "_" | "__") && !between.bytes().all(|c| c == b'-') {
            return false;
        }
        rest = next;
    }
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let mut bytes = tag.bytes();
    if !bytes.next().is_some_and(word) || !bytes.all(|c| word(c) || c == b'.' || c == b'-') {
        return Err("its tag is not made of letters, digits and _ . - (not first)");
    }
    if tag.len() > TAG_MAX { Err("its tag is longer than 128 characters") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    // From reference_test.go and normalize_test.go of distribution/reference.
    #[test]
    fn names_are_read_as_docker_reads_them() {
        let at = format!("@sha256:{HEX}");
        let cases: &[(&str, &str, &str)] = &[
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("docker.io/library/foo/bar", "docker.io/library/foo/bar", "library/foo/bar"),
            ("test.com:tag", "docker.io/library/test.com:tag", "test.com:tag"),
            ("test.com:5000", "docker.io/library/test.com:5000", "test.com:5000"),
            ("test.com/repo:tag", "test.com/repo:tag", "test.com/repo:tag"),
            ("test:5000/repo", "test:5000/repo", "test:5000/repo"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("lowercase:Uppercase", "docker.io/library/lowercase:Uppercase", "lowercase:Uppercase"),
            ("HOST/repo", "HOST/repo", "HOST/repo"),
            ("[::1]:5000/repo", "[::1]:5000/repo", "[::1]:5000/repo"),
            ("[2001:db8::1]/repo", "[2001:db8::1]/repo", "[2001:db8::1]/repo"),
            ("xn--n3h.com/myimage:x", "xn--n3h.com/myimage:x", "xn--n3h.com/myimage:x"),
            ("foo__bar/a-b--c.d", "docker.io/foo__bar/a-b--c.d", "foo__bar/a-b--c.d"),
            ("docker.io/foo.com/bar", "docker.io/foo.com/bar", "docker.io/foo.com/bar"),
        ];
        for (text, full, familiar) in cases {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (*full, *familiar));
            let with = format!("{text}{at}");
            assert_eq!(Reference::parse(&with).unwrap().to_string(), format!("{full}{at}"));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a/".repeat(128) + "a";
        let tag = format!("a:{}", "t".repeat(129));
        let upper = format!("a@sha256:{}", "F".repeat(64));
        for bad in [
            "",
            ":tag",
            "@sha256:ff",
            "repo@sha256:ffff",
            "validname@md5:ff",
            "Uppercase:tag",
            "test:5000/Upper/x",
            "a//b",
            "/a",
            "a/",
            "a b",
            "a\n",
            "..",
            "a/../b",
            "../a",
            "a:..",
            "a:-x",
            "a:.x",
            "a:",
            "a:b/c:d e",
            "-foo/bar.com/x",
            "foo/-bar",
            "a___b",
            "a._b",
            "a..b",
            "a-",
            "-a",
            "_a",
            ".a",
            "h\u{f6}st/x",
            "a:\u{f6}",
            "host-.com/a",
            "host:port/a",
            "host:/a",
            "[::1/a",
            "[zz]/a",
            "a@b@c",
            HEX,
            &long,
            &tag,
            &upper,
            "https://host/x",
            "docker.io/",
            "docker.io",
        ] {
            // `docker.io` alone is a repository of that name.
            if bad == "docker.io" {
                assert!(Reference::parse(bad).is_ok());
                continue;
            }
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_the_store_keeps() {
        let key = |text: &str| Reference::parse(text).unwrap().key();
        assert_eq!(key("debian"), "debian:latest");
        assert_eq!(key("docker.io/library/debian:12"), "debian:12");
        assert_eq!(key(&format!("debian:12@sha256:{HEX}")), format!("debian@sha256:{HEX}"));
        assert!(Reference::parse("a").unwrap().tagged("..").is_err());
    }

    #[test]
    fn a_digest_is_no_name_to_give() {
        let new = |text: &str| Reference::parse(text).unwrap().as_new_name().map(|name| name.familiar());
        assert_eq!(new("debian").unwrap(), "debian:latest");
        assert_eq!(new("debian:12").unwrap(), "debian:12");
        for digest in [format!("debian@sha256:{HEX}"), format!("debian:12@sha256:{HEX}")] {
            assert!(new(&digest).unwrap_err().to_string().contains("digest"), "{digest}");
        }
    }

    proptest! {
        #[test]
        fn every_form_reads_back(domain in prop::option::of("[a-z]{1,5}\\.[a-z]{2}(:[0-9]{1,4})?|localhost|docker\\.io"),
            path in "[a-z0-9]{1,4}((_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,5}){0,2}", tag in prop::option::of("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,9}")) {
            let mut text = domain.map_or(String::new(), |domain| format!("{domain}/")) + &path;
            if let Some(tag) = &tag { text = format!("{text}:{tag}"); }
            let one = Reference::parse(&text).unwrap();
            prop_assert_eq!(&Reference::parse(&one.familiar()).unwrap(), &one);
            prop_assert_eq!(&Reference::parse(&one.to_string()).unwrap(), &one);
            prop_assert_eq!(one.tag(), tag.as_deref());
        }

        #[test]
        fn nothing_makes_it_panic_or_leave_the_grammar(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}|.{0,30}") {
            if let Ok(one) = Reference::parse(&text) {
                let full = one.to_string();
                prop_assert!(full.is_ascii() && !full.contains("..") || one.tag().is_some_and(|tag| tag.contains("..")));
                prop_assert_eq!(Reference::parse(&full).unwrap(), one);
            }
        }
    }
}
