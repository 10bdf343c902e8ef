//! Why something could not be packed.

use std::io;

use plyfs_sys::SysError;

/// The result of packing.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an archive was not written. What was written by then is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{path}: {source}")]
    Sys {
        /// In the tree, escaped.
        path: String,
        /// The call.
        source: SysError,
    },
    /// The union failed.
    #[error("{path}: {source}")]
    Union {
        /// In the union, escaped.
        path: String,
        /// Why.
        source: plyfs_union::Error,
    },
    /// Reading a file failed.
    #[error("reading {path}: {source}")]
    Read {
        /// Escaped.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file lost bytes while it was read.
    #[error("{path}: became shorter while it was read; stop or pause what writes to it, then try again")]
    Shrank {
        /// Escaped.
        path: String,
    },
    /// A directory that is more than a layer in AUFS's dialect.
    #[error(
        "{path}: its meaning depends on the branches below ({xattr}); pack it through the union that it is part of"
    )]
    NotPlain {
        /// Escaped.
        path: String,
        /// The mark that says so.
        xattr: String,
    },
    /// The archive could not be written.
    #[error("writing the archive: {0}")]
    Write(io::Error),
}

/// For those who hand on I/O errors: that of the writer as it is (a broken pipe stays one), all else inside a new one.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        match error {
            Error::Write(source) => source,
            other => io::Error::other(other),
        }
    }
}

impl Error {
    pub(crate) fn sys(path: &[u8]) -> impl Fn(SysError) -> Error + '_ {
        move |source| Error::Sys { path: shown(path), source }
    }

    pub(crate) fn union(path: &[u8]) -> impl Fn(plyfs_union::Error) -> Error + '_ {
        move |source| Error::Union { path: shown(path), source }
    }
}

pub(crate) fn shown(path: &[u8]) -> String {
    crate::unpack::shown(path)
}
