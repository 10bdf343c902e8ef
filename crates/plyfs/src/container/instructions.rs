//! The instructions of `commit --change`: those of a Dockerfile that change an image's config and nothing else. Pure.

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

/// Applies `text` (`CMD ["a"]`, `ENV A=b` ...) to Docker's container config.
pub(crate) fn apply(config: &mut Map<String, Value>, text: &str) -> anyhow::Result<()> {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let bad = || format!("--change {text:?}");
    if rest.is_empty() {
        bail!("--change {text:?}: the instruction says nothing");
    }
    match word.to_ascii_uppercase().as_str() {
        "CMD" => set(config, "Cmd", json!(command(rest))),
        "ENTRYPOINT" => {
            set(config, "Entrypoint", json!(command(rest)));
            // The old arguments belonged to the old program (Dockerfile reference, ENTRYPOINT).
            config.remove("Cmd");
        }
        "ENV" => env(config, pairs(rest).with_context(bad)?),
        "LABEL" => {
            for (name, value) in pairs(rest).with_context(bad)? {
                add(config, "Labels", name, value.into());
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                add(config, "ExposedPorts", exposed(port).with_context(bad)?, json!({}));
            }
        }
        "VOLUME" => {
            for place in words_or_json(rest) {
                add(config, "Volumes", super::volumes::place(&place).with_context(bad)?, json!({}));
            }
        }
        "USER" => set(config, "User", rest.into()),
        "WORKDIR" => {
            let before = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
            let path = if rest.starts_with('/') { rest.to_owned() } else { format!("{before}/{rest}") };
            let path = super::volumes::place(&format!("/{path}")).unwrap_or_else(|_| "/".to_owned());
            set(config, "WorkingDir", path.into());
        }
        "STOPSIGNAL" => {
            plyfs_sys::process::signals::parse(rest).with_context(bad)?;
            set(config, "StopSignal", rest.into());
        }
        other => bail!(
            "--change: {other} is not one of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR"
        ),
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

/// Adds to the object under `key`, made if it is missing or null.
fn add(config: &mut Map<String, Value>, key: &str, name: String, value: Value) {
    let mut all = match config.remove(key) {
        Some(Value::Object(all)) => all,
        _ => Map::new(),
    };
    all.insert(name, value);
    config.insert(key.to_owned(), Value::Object(all));
}

/// The exec form (a JSON array), or the shell form.
fn command(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|_| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn words_or_json(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| text.split_whitespace().map(str::to_owned).collect())
}

fn env(config: &mut Map<String, Value>, pairs: Vec<(String, String)>) {
    let own = config.get("Env").cloned().and_then(|env| serde_json::from_value(env).ok()).unwrap_or_default();
    let more = pairs.into_iter().map(|(name, value)| format!("{name}={value}"));
    set(config, "Env", json!(super::env::merge(own, more)));
}

/// `80`, `80/udp`
fn exposed(port: &str) -> anyhow::Result<String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    number.parse::<u16>().with_context(|| format!("{number:?} is no port"))?;
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        bail!("{protocol:?} is no protocol: tcp, udp or sctp");
    }
    Ok(format!("{number}/{protocol}"))
}

/// `A=b C="d e"`, or the old form `A b c`.
fn pairs(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let words = split(text)?;
    let Some(first) = words.first() else { bail!("no name") };
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace).context("a name needs a value")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').with_context(|| format!("{word:?} is not NAME=VALUE"))?;
        if name.is_empty() {
            bail!("{word:?} has no name");
        }
        Ok((name.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

/// Words with a shell's quotes: `"` with backslashes, `'` without.
fn split(text: &str) -> anyhow::Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().push(chars.next().context("ends with a backslash")?),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        bail!("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Value, changes: &[&str]) -> Value {
        let Value::Object(mut config) = start else { panic!("an object") };
        changes.iter().for_each(|change| apply(&mut config, change).unwrap());
        Value::Object(config)
    }

    #[test]
    fn instructions_are_a_dockerfiles() {
        let cases = [
            (json!({}), r#"CMD ["a","b c"]"#, json!({"Cmd": ["a", "b c"]})),
            (json!({}), "cmd a b", json!({"Cmd": ["/bin/sh", "-c", "a b"]})),
            (json!({"Cmd": ["x"]}), r#"ENTRYPOINT ["e"]"#, json!({"Entrypoint": ["e"]})),
            (
                json!({"Env": ["A=1", "B=2"]}),
                r#"ENV A="x y" C='$z'"#,
                json!({"Env": ["A=x y", "B=2", "C=$z"]}),
            ),
            (json!({"Env": null}), "ENV A b c", json!({"Env": ["A=b c"]})),
            (json!({"Labels": null}), "LABEL a=b c=\\\"", json!({"Labels": {"a": "b", "c": "\""}})),
            (json!({}), "EXPOSE 80 53/udp", json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}})),
            (json!({}), r#"VOLUME ["/a", "/b/"]"#, json!({"Volumes": {"/a": {}, "/b": {}}})),
            (json!({"WorkingDir": "/a"}), "WORKDIR b/../c", json!({"WorkingDir": "/a/c"})),
            (json!({}), "WORKDIR /", json!({"WorkingDir": "/"})),
            (json!({}), "USER web:www", json!({"User": "web:www"})),
            (json!({}), "STOPSIGNAL SIGINT", json!({"StopSignal": "SIGINT"})),
        ];
        for (start, change, want) in cases {
            assert_eq!(after(start, &[change]), want, "{change}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = [
            "",
            "CMD",
            "RUN x",
            "ENV A",
            "ENV =b",
            "ENV A=\"b",
            "EXPOSE x",
            "EXPOSE 80/x",
            "STOPSIGNAL no",
            "VOLUME /",
        ];
        for change in bad {
            assert!(apply(&mut Map::new(), change).is_err(), "{change}");
        }
    }
}
