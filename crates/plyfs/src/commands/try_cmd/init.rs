//! The first process of `try`'s pid namespace: starts the command, reaps what is orphaned, hands on signals, and takes
//! everything with it when it ends.

use std::io::ErrorKind;
use std::process::Command;

use anyhow::anyhow;
use plyfs_sys::process::signals::Signals;

use crate::cli::TryInitArgs;
use crate::exit::{self, Failure, Outcome};

/// Runs the command to its end; its exit code is ours.
pub(crate) fn run(args: &TryInitArgs) -> Outcome {
    // An init gets only the signals that it asks for, and by asking none is lost before there is a child.
    let signals = Signals::block(&super::WAITED_FOR).map_err(anyhow::Error::new)?;
    let [program, words @ ..] = &args.command[..] else { return Err(Failure::usage("no command")) };
    let mut command = Command::new(program);
    signals.unblock_in(command.args(words));
    let child = command.spawn().map_err(|error| not_started(program, &error))?;
    Ok(super::wait(child.id(), &signals)?.shell_code())
}

fn not_started(program: &std::ffi::OsStr, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::NotFound => exit::NOT_FOUND,
        ErrorKind::PermissionDenied => exit::NOT_EXECUTABLE,
        // ENOEXEC, EISDIR and the like: there is something, and it is no program.
        _ => exit::NOT_EXECUTABLE,
    };
    Failure { code, error: anyhow!("running {}: {error}", program.display()), hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dockers() {
        let code = |kind: ErrorKind| not_started("x".as_ref(), &kind.into()).code;
        assert_eq!(code(ErrorKind::NotFound), exit::NOT_FOUND);
        assert_eq!(code(ErrorKind::PermissionDenied), exit::NOT_EXECUTABLE);
        assert_eq!(code(ErrorKind::Other), exit::NOT_EXECUTABLE);
    }
}
