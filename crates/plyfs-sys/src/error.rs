//! `SysError`: which call, on what, which errno. Decisions compare [`SysError::errno`]; text is for people only.

use std::fmt;
use std::path::{Path, PathBuf};

pub use rustix::io::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, SysError>;

/// A failed system call.
#[derive(Clone, PartialEq, Eq)]
pub struct SysError {
    call: &'static str,
    on: Option<Box<Path>>,
    errno: Errno,
}

impl SysError {
    /// `call` failed with `errno`.
    pub fn new(call: &'static str, errno: Errno) -> SysError {
        SysError { call, on: None, errno }
    }

    /// From an `io::Error` that a std call gave; EIO where it carries no number.
    pub fn from_io(call: &'static str, error: &std::io::Error) -> SysError {
        SysError::new(call, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// Adds the object, unless one is known already.
    #[must_use]
    pub fn on(mut self, object: impl AsRef<Path>) -> SysError {
        if self.on.is_none() {
            self.on = Some(object.as_ref().into());
        }
        self
    }

    /// The name of the call.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The object, if known.
    pub fn object(&self) -> Option<PathBuf> {
        self.on.as_ref().map(|path| path.to_path_buf())
    }

    /// The error number.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.on {
            Some(on) => write!(f, "{}({}): {}", self.call, on.display(), self.errno),
            None => write!(f, "{}: {}", self.call, self.errno),
        }
    }
}

impl fmt::Debug for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SysError {}

/// Names the call on a `rustix` result.
pub(crate) trait Named<T> {
    /// `call` names the system call.
    fn named(self, call: &'static str) -> Result<T>;
}

impl<T> Named<T> for std::result::Result<T, Errno> {
    fn named(self, call: &'static str) -> Result<T> {
        self.map_err(|errno| SysError::new(call, errno))
    }
}
