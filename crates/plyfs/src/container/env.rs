//! Variables of a container's process.

use std::path::Path;

use anyhow::{Context, bail};

/// Docker's default for images without one (`oci.DefaultPathEnv`).
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `base` with `more` in place of what has the same name.
pub(crate) fn merge(base: Vec<String>, more: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut env = base;
    for line in more {
        let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
        match env.iter_mut().find(|one| name(one) == name(&line)) {
            Some(place) => *place = line,
            None => env.push(line),
        }
    }
    env
}

/// What Docker gives every process, and then `own`.
pub(crate) fn of_process(own: &[String], hostname: &str, tty: bool, home: &str) -> Vec<String> {
    let mut base = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        base.push("TERM=xterm".to_owned());
    }
    base.push(format!("HOME={home}"));
    let mut env = merge(base, own.iter().cloned());
    // A name alone takes the variable away.
    env.retain(|line| line.contains('='));
    env
}

/// `NAME=VALUE`; a name alone takes the value that it has here, and is left out if it has none.
pub(crate) fn given(line: &str) -> anyhow::Result<Option<String>> {
    if line.is_empty() || line.starts_with('=') {
        bail!("invalid environment variable: {line:?}");
    }
    if line.contains('=') {
        return Ok(Some(line.to_owned()));
    }
    Ok(std::env::var(line).ok().map(|value| format!("{line}={value}")))
}

/// The lines of an `--env-file`.
pub(crate) fn file(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut env = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.contains([' ', '\t']) {
            bail!("{}: variable {name:?} contains white space", path.display());
        }
        env.extend(given(line).with_context(|| path.display().to_string())?);
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn later_variables_win_in_place() {
        let merged = merge(lines(&["A=1", "B=2"]), lines(&["A=3", "C=4", "C=5"]));
        assert_eq!(merged, lines(&["A=3", "B=2", "C=5"]));
    }

    #[test]
    fn a_process_has_a_path_and_a_home() {
        let env = of_process(&lines(&["PATH=/x", "HOME"]), "h", true, "/root");
        assert_eq!(env, lines(&["PATH=/x", "HOSTNAME=h", "TERM=xterm"]));
    }

    #[test]
    fn files_have_comments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "# no\n\nA=b c\n  B=\nPLYFS_NOT_SET\n").unwrap();
        assert_eq!(file(&path).unwrap(), lines(&["A=b c", "B="]));
        std::fs::write(&path, "A B=c\n").unwrap();
        assert!(file(&path).is_err());
    }
}
