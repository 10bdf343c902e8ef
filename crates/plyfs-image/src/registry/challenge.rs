//! `WWW-Authenticate` (RFC 9110, 11.6.1): what a registry wants before it answers. Pure.

use std::collections::BTreeMap;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token from elsewhere.
    Bearer {
        /// From where.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

/// The challenges of a header that are known, in order.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = Rest(header);
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    loop {
        rest.skip(|c| c == ',' || c.is_ascii_whitespace());
        let word = rest.token();
        if word.is_empty() {
            break;
        }
        rest.skip(|c| c == ' ' || c == '\t');
        if rest.eat('=') {
            rest.skip(|c| c == ' ' || c == '\t');
            let value = rest.value();
            if let Some((_, words)) = found.last_mut() {
                words.entry(word.to_lowercase()).or_insert(value);
            }
        } else {
            found.push((word.to_lowercase(), BTreeMap::new()));
        }
    }
    found.into_iter().filter_map(|(scheme, words)| known(&scheme, words)).collect()
}

fn known(scheme: &str, mut words: BTreeMap<String, String>) -> Option<Challenge> {
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: words.remove("realm")?,
            service: words.remove("service"),
            scope: words.remove("scope"),
        }),
        _ => None,
    }
}

struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(what);
    }

    fn eat(&mut self, c: char) -> bool {
        let rest = self.0.strip_prefix(c);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn token(&mut self) -> String {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token.to_owned()
    }

    /// A token (taken generously: up to a comma) or a quoted string.
    fn value(&mut self) -> String {
        if !self.eat('"') {
            let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return value.to_owned();
        }
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, c)| c)),
                c => value.push(c),
            }
        }
        self.0 = "";
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }
    }

    #[test]
    fn challenges_of_registries() {
        let cases = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/debian:pull"),
                )],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (r#"BEARER Realm="https://a" , SERVICE=b"#, vec![bearer("https://a", Some("b"), None)]),
            (
                r#"Bearer realm="https://a",scope="repository:x:pull,push", Basic realm="b", Negotiate"#,
                vec![bearer("https://a", None, Some("repository:x:pull,push")), Challenge::Basic],
            ),
            (r#"Bearer realm="a \"b\" \\ c""#, vec![bearer(r#"a "b" \ c"#, None, None)]),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Digest realm="x", nonce="y""#, vec![]),
            (r#"Bearer realm="unclosed"#, vec![bearer("unclosed", None, None)]),
            ("", vec![]),
        ];
        for (header, want) in cases {
            assert_eq!(parse(header), want, "{header}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_without_panic(header in ".{0,80}|[Ba-z=\", \\\\]{0,60}") {
            parse(&header);
        }
    }
}
