//! Where log lines go: in the foreground to standard error; of a server in the background to the file `log` in the
//! mount's runtime directory, warnings to standard error too while it is there.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Mutex;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The environment variable with a filter such as `debug` or `plyfs_fuse=trace`.
pub(crate) const FILTER: &str = "PLYFS_LOG";

static LOG: Mutex<State> = Mutex::new(State::Stderr);

enum State {
    Stderr,
    /// The file is not there yet: it lies in a directory that is made once the mount is there.
    Held(Vec<Line>),
    File(File),
}

struct Line {
    /// Shown on standard error already.
    shown: bool,
    text: Vec<u8>,
}

/// Starts logging. `debug` is what `-d` and `-o debug` ask for; the environment has the last word. In the background
/// lines are held back until [`settle`].
pub(crate) fn start(debug: bool, background: bool) {
    let default = if debug { "debug" } else { "warn" };
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(default));
    if background {
        with(|state| *state = State::Held(Vec::new()));
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Sinks);
    if builder.try_init().is_err() {
        crate::output::warn("logging was started twice");
    }
}

/// Lines held back go to `file`, and all later ones; without a file, to standard error. The first call counts.
pub(crate) fn settle(file: Option<File>) {
    let written = with(|state| match state {
        State::Held(lines) => {
            let lines = std::mem::take(lines);
            *state = file.map_or(State::Stderr, State::File);
            lines.iter().try_for_each(|line| state.write(line))
        }
        State::Stderr | State::File(_) => Ok(()),
    });
    if let Err(error) = written {
        crate::output::warn(format_args!("writing the log: {error}"));
    }
}

fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    // A panic while a line was written leaves nothing half-done here.
    let mut state = LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    act(&mut state)
}

impl State {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        match self {
            State::Stderr if line.shown => Ok(()),
            State::Stderr => io::stderr().write_all(&line.text),
            State::File(file) => file.write_all(&line.text),
            State::Held(lines) => {
                lines.push(Line { shown: line.shown, text: line.text.clone() });
                Ok(())
            }
        }
    }
}

struct Sinks;

/// Takes one line.
struct Sink {
    /// Whoever starts the mount should see it.
    warning: bool,
}

impl<'a> MakeWriter<'a> for Sinks {
    type Writer = Sink;

    fn make_writer(&'a self) -> Sink {
        Sink { warning: false }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Sink {
        Sink { warning: *meta.level() <= Level::WARN }
    }
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        with(|state| {
            let shown = self.warning && matches!(state, State::Held(_));
            if shown {
                io::stderr().write_all(buf)?;
            }
            state.write(&Line { shown, text: buf.to_owned() })
        })?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_goes_to_the_file_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        with(|state| *state = State::Held(Vec::new()));
        for (warning, text) in [(false, "one\n"), (true, "two\n")] {
            Sink { warning }.write_all(text.as_bytes()).unwrap();
        }
        settle(Some(File::create(&path).unwrap()));
        Sink { warning: true }.write_all(b"three\n").unwrap();
        settle(None);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        with(|state| *state = State::Stderr);
    }
}
