//! Where log lines go: standard error while there is one, then the file `log` in the mount's runtime directory.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// The only environment variable that plyfs reads for itself: a filter such as `debug` or `plyfs_fuse=trace`.
pub(crate) const FILTER: &str = "PLYFS_LOG";

static FILE: OnceLock<File> = OnceLock::new();

/// Starts logging. `debug` is what `-d` and `-o debug` ask for; the environment has the last word.
pub(crate) fn start(debug: bool) {
    let default = if debug { "debug" } else { "warn" };
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Sink);
    if builder.try_init().is_err() {
        crate::output::warn("logging was started twice");
    }
}

/// From now on log lines go to `file`; the first call counts.
pub(crate) fn redirect(file: File) {
    if FILE.set(file).is_err() {
        tracing::debug!("the log had a file already");
    }
}

struct Sink;

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match FILE.get() {
            Some(mut file) => file.write(buf),
            None => io::stderr().write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
