//! Running programs and shell lines, and keeping all they said.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    /// The line, for messages.
    pub line: String,
    /// Exit code; 128 + n if killed by signal n, as a shell says it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Fails the test unless the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "{} failed\nstdout: {}\nstderr: {}", self.line, self.out, self.err);
        self
    }

    /// Fails the test unless the program ended with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{}\nstdout: {}\nstderr: {}", self.line, self.out, self.err);
        self
    }

    /// Fails the test unless standard error has `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.err.contains(text), "{}: stderr lacks {text:?}: {}", self.line, self.err);
        self
    }
}

/// Runs `command` to its end with no standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    let out = command.stdin(Stdio::null()).output();
    let out = out.unwrap_or_else(|error| panic!("starting {line}: {error}"));
    Ran {
        line,
        code: code(out.status),
        out: String::from_utf8_lossy(&out.stdout).into_owned(),
        err: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// The status as a shell numbers it.
pub fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Runs a shell line, stopping at the first command that fails.
#[track_caller]
pub fn sh(script: impl AsRef<OsStr>) -> Ran {
    sh_in("/", script)
}

/// The same in a folder.
#[track_caller]
pub fn sh_in(dir: impl AsRef<Path>, script: impl AsRef<OsStr>) -> Ran {
    run(Command::new("bash").arg("-ec").arg(script).current_dir(dir))
}
