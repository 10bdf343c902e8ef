//! Going to the background: the parent stays until the mount is usable, then leaves; or says why it is not.

use std::io::{PipeReader, PipeWriter, Read, Write};

use anyhow::{Context, anyhow};
use plyfs_sys::process::{self, Ended, Forked, signals};

use crate::exit::{self, Failure, Outcome};
use crate::{log, output};

/// The child's first byte is the parent's exit code; text may follow. This one: the mount is usable.
const READY: u8 = exit::DONE;

/// The promise to say "usable" once. Dropped unsaid, the waiting parent reports a failure.
#[derive(Debug)]
pub(crate) struct Ready(Option<PipeWriter>);

impl Ready {
    /// For the foreground: nobody waits.
    pub(crate) fn nobody() -> Ready {
        Ready(None)
    }

    /// Whether a parent waits, i.e. we are in the background.
    pub(crate) fn is_background(&self) -> bool {
        self.0.is_some()
    }

    /// The mount is usable: lets go of the caller's directory and standard streams and lets the parent leave.
    pub(crate) fn say(self) -> anyhow::Result<()> {
        let Some(mut pipe) = self.0 else { return Ok(()) };
        std::env::set_current_dir("/").context("leaving the working directory")?;
        // Before the word: an engine that sees the parent leave then waits for the end of this stderr.
        process::silence_stdio()?;
        pipe.write_all(&[READY]).context("telling the parent")
    }
}

/// Runs `serve` in a child of its own session and waits until it says that it is ready or failed.
///
/// Call before any thread is made.
pub(crate) fn detach(serve: impl FnOnce(Ready) -> Outcome) -> Outcome {
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    match process::fork().map_err(anyhow::Error::new)? {
        Forked::Parent(child) => {
            drop(writer);
            wait(child, reader)
        }
        Forked::Child => {
            drop(reader);
            Ok(child(writer, serve))
        }
    }
}

fn child(pipe: PipeWriter, serve: impl FnOnce(Ready) -> Outcome) -> u8 {
    // Two ends of one pipe: one goes with the promise, one stays for last words.
    let last_words = pipe.try_clone();
    let outcome = process::new_session()
        .map_err(|error| Failure::from(anyhow::Error::new(error)))
        .and_then(|()| serve(Ready(Some(pipe))));
    // A server that fails before it has a file for its log tells it here.
    log::settle(None);
    match (outcome, last_words) {
        (Ok(code), _) => code,
        (Err(failure), Ok(mut pipe)) => {
            let mut words = vec![failure.code];
            words.extend(failure.to_string().into_bytes());
            if pipe.write_all(&words).is_err() {
                // The parent has left long ago, when all was well.
                tracing::error!("{}", exit::told(&failure.error));
            }
            failure.code
        }
        (Err(failure), Err(_)) => {
            output::failure(&failure);
            failure.code
        }
    }
}

fn wait(child: u32, mut pipe: PipeReader) -> Outcome {
    let mut first = [0];
    match pipe.read(&mut first).context("waiting for the server")? {
        0 => Err(died(child)),
        _ if first[0] == READY => Ok(exit::DONE),
        _ => {
            let mut words = Vec::new();
            pipe.read_to_end(&mut words).context("listening to the server")?;
            output::verbatim(String::from_utf8_lossy(&words));
            Ok(first[0])
        }
    }
}

fn died(child: u32) -> Failure {
    let how = match process::wait_for(child) {
        Ok(Ended::Signal(signal)) => format!("killed by SIG{}", signals::name(signal)),
        Ok(Ended::Code(code)) => format!("exit code {code}"),
        Err(error) => error.to_string(),
    };
    Failure::from(anyhow!("mounting: the server ended without a word ({how})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // fork() refuses in a process with threads, and a test always has some: what the two sides say to each other is
    // tested here, the fork itself by the mounted tests.

    #[test]
    fn the_parent_passes_on_what_the_child_says() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&[READY]).unwrap();
        assert_eq!(wait(0, reader).unwrap(), exit::DONE);

        let (reader, writer) = std::io::pipe().unwrap();
        let last = writer.try_clone().unwrap();
        let failure = Failure { code: exit::MOUNT_FAILED, error: anyhow!("no"), hint: None };
        let mut words = vec![failure.code];
        words.extend(failure.to_string().into_bytes());
        let mut last = last;
        last.write_all(&words).unwrap();
        drop((writer, last));
        assert_eq!(wait(0, reader).unwrap(), exit::MOUNT_FAILED);
    }

    #[test]
    fn a_child_that_dies_is_a_failure() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        let failure = wait(u32::MAX, reader).unwrap_err();
        assert!(failure.to_string().contains("without a word"), "{failure}");
    }
}
