//! Exit codes, and the error that carries one to the end of the program.

use std::fmt;

/// Everything was done.
pub(crate) const DONE: u8 = 0;
/// Something failed.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// mount(8): the command line makes no sense, or permission is missing.
pub(crate) const HELPER_USAGE: u8 = 1;
/// mount(8): the system refused (out of memory, cannot fork).
pub(crate) const HELPER_SYSTEM: u8 = 2;
/// mount(8): the mount failed.
pub(crate) const MOUNT_FAILED: u8 = 32;
/// `try`, `run`: plyfs itself failed, the command did not run.
pub(crate) const TRY_FAILED: u8 = 125;
/// `try`, `run`: the command is there and cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// `try`, `run`: there is no such command.
pub(crate) const NOT_FOUND: u8 = 127;

/// An error on its way out: what was being done and why it failed, the code, and what may help.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// Context first, cause last; printed on one line.
    pub(crate) error: anyhow::Error,
    /// One line of advice.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// With a code of its own; the hint is looked up.
    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Failure {
        let error = error.into();
        let hint = crate::hints::about(&error);
        Failure { code, error, hint }
    }

    /// A command line that makes no sense.
    pub(crate) fn usage(text: impl fmt::Display) -> Failure {
        Failure { code: USAGE, error: anyhow::anyhow!("{text}"), hint: None }
    }

    /// The same failure under another code.
    pub(crate) fn with_code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// The same failure with this advice, unless there is better.
    pub(crate) fn or_hint(mut self, hint: &str) -> Failure {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::new(FAILED, error)
    }
}

/// An error on one line, context first, cause last. A cause that the words before it tell already is left out.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.starts_with(&cause) || line.ends_with(&cause) || line.contains(&format!(": {cause}")) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plyfs: {}", told(&self.error))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// What a command answers: its exit code, or why it has none.
pub(crate) type Outcome = Result<u8, Failure>;

#[cfg(test)]
mod tests {
    use super::*;
    use plyfs_sys::{Errno, SysError};

    #[test]
    fn nothing_is_told_twice() {
        let engine = || plyfs_union::Error::from(SysError::new("open", Errno::PERM).on("/b"));
        let error = anyhow::Error::new(engine()).context("opening the branches");
        assert_eq!(told(&error), format!("opening the branches: {}", engine()));
        let blamed = plyfs_union::Error::Sys {
            source: SysError::new("open", Errno::PERM).on("/b/f"),
            branch: Some("/b".into()),
        };
        let want = blamed.to_string();
        assert_eq!(told(&anyhow::Error::new(blamed)), want);
        let spec = plyfs_union::spec::SpecError::not_offered("create=rr");
        let error = anyhow::Error::new(plyfs_union::Error::from(spec)).context("opening the branches");
        assert_eq!(told(&error), "opening the branches: not offered by this version of plyfs: create=rr");
    }
}
