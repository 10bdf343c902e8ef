//! Platforms: which image of an index is this machine's (containerd `platforms`: `defaults`, `compare.go`, `database.go`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::manifest::Descriptor;

/// `os/architecture[/variant]`, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`
    pub architecture: String,
    /// `v7`; empty where there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The machine that this program was built for.
    pub fn local() -> Platform {
        Platform::new("linux", std::env::consts::ARCH, "")
    }

    /// In the words of Go, with the usual variant left out.
    fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", "v1") | ("x86_64" | "x86-64", "") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386" | "i686" | "x86", variant) => ("386", variant),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64" | "powerpc64le", variant) => ("ppc64le", variant),
            ("loongarch64", variant) => ("loong64", variant),
            other => other,
        };
        Platform { os: os.to_lowercase(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    fn plain(&self) -> Platform {
        Platform::new(&self.os, &self.architecture.to_lowercase(), &self.variant.to_lowercase())
    }

    /// What runs here, best first: ARM runs older variants too, amd64 runs 386.
    fn accepted(&self) -> Vec<(&str, &str)> {
        let own = (self.architecture.as_str(), self.variant.as_str());
        let mut accepted = vec![own];
        let older: &[&str] = match own {
            ("arm", "v8") | ("arm64", _) => &["v8", "v7", "v6", "v5"],
            ("arm", "v7") => &["v7", "v6", "v5"],
            ("arm", "v6") => &["v6", "v5"],
            _ => &[],
        };
        if own.0 == "arm64" && !own.1.is_empty() {
            accepted.push(("arm64", ""));
        }
        accepted.extend(older.iter().map(|variant| ("arm", *variant)));
        if own.0 == "amd64" {
            accepted.extend(["v4", "v3", "v2"].iter().filter(|v| **v < own.1).map(|v| ("amd64", *v)));
            accepted.extend([("amd64", ""), ("386", "")]);
        }
        accepted
    }

    /// How well `other` runs here: 0 is best, `None` not at all.
    pub fn rank(&self, other: &Platform) -> Option<usize> {
        let other = other.plain();
        if other.os != self.os {
            return None;
        }
        let there = (other.architecture.as_str(), other.variant.as_str());
        self.accepted().iter().position(|accepted| *accepted == there)
    }

    /// The best of an index's manifests; `None` if none runs here. A lone one that does not say what it is for is taken.
    pub fn choose<'a>(&self, from: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let images: Vec<&Descriptor> = from.iter().filter(|one| !one.is_attestation()).collect();
        let ranked = images.iter().filter_map(|one| Some((self.rank(one.platform.as_ref()?)?, *one)));
        let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, one)| one);
        best.or_else(|| match images[..] {
            [one] if one.platform.is_none() => Some(one),
            _ => None,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// Why a text is no platform.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is no platform: wanted OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64")]
pub struct BadPlatform(String);

impl FromStr for Platform {
    type Err = BadPlatform;

    fn from_str(text: &str) -> Result<Platform, BadPlatform> {
        let good = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').filter(good).collect();
        match parts[..] {
            _ if parts.len() != text.split('/').count() => Err(BadPlatform(text.to_owned())),
            [os, architecture] => Ok(Platform::new(os, architecture, "").plain()),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, variant).plain()),
            _ => Err(BadPlatform(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(of: &[&str]) -> Vec<Descriptor> {
        let one = |(at, text): (usize, &&str)| {
            let mut one = Descriptor::of("x", &[u8::try_from(at).unwrap()]);
            let mut parts = text.splitn(3, '/').map(str::to_owned);
            one.platform = (!text.is_empty()).then(|| Platform {
                os: parts.next().unwrap(),
                architecture: parts.next().unwrap(),
                variant: parts.next().unwrap_or_default(),
            });
            one
        };
        of.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_best_that_runs_is_chosen() {
        let cases: &[(&str, &[&str], Option<usize>)] = &[
            ("linux/amd64", &["linux/arm64/v8", "linux/amd64", "linux/386"], Some(1)),
            ("linux/amd64", &["linux/386", "linux/arm"], Some(0)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64/v1"], Some(1)),
            ("linux/amd64/v3", &["linux/amd64/v1", "linux/amd64/v2", "linux/amd64/v4"], Some(1)),
            ("linux/amd64", &["windows/amd64"], None),
            ("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], Some(1)),
            ("linux/arm64", &["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5", "linux/arm/v6"], Some(2)),
            ("linux/arm", &["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/aarch64", &["linux/arm64"], Some(0)),
            ("linux/amd64", &["unknown/unknown", "linux/amd64"], Some(1)),
            ("linux/amd64", &[""], Some(0)),
            ("linux/amd64", &["", ""], None),
            ("linux/amd64", &[], None),
        ];
        for (wanted, of, want) in cases {
            let index = index(of);
            let chosen = wanted.parse::<Platform>().unwrap().choose(&index).map(|one| one.digest);
            assert_eq!(chosen, want.map(|at| index[at].digest), "{wanted} of {of:?}");
        }
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for bad in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "a b/c", "linux//v7"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
        assert_eq!("linux/x86_64".parse::<Platform>().unwrap().to_string(), "linux/amd64");
    }
}
