//! What can go wrong, as conditions that callers branch on; the rest is [`Error::Io`] and says what was being done.

use std::io;
use std::path::{Path, PathBuf};

use crate::id::{BadDigest, DiffId};

/// The result of an operation of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation of the store failed. Nothing was changed, unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, e.g. `writing`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call on a layer's contents failed.
    #[error("{doing} {}: {source}", path.display())]
    Sys {
        /// What was being done.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The call and its errno.
        source: plyfs_sys::SysError,
    },
    /// The engine failed.
    #[error("{doing}: {source}")]
    Union {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: plyfs_union::Error,
    },
    /// A file of the store holds what it must not.
    #[error("{}: {what}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is no such thing.
    #[error("no such {kind}: {name}")]
    NotFound {
        /// `layer`, `image`, `container`, `parent layer` ...
        kind: &'static str,
        /// Its name as asked for.
        name: String,
    },
    /// There is one already.
    #[error("{kind} {name} exists already{}", note(by))]
    Exists {
        /// As in [`Error::NotFound`].
        kind: &'static str,
        /// Its name.
        name: String,
        /// Who has it, if that helps.
        by: Option<String>,
    },
    /// More than one thing begins so.
    #[error("{name:?} is ambiguous: {kind}s {first} and {second} begin so; give more digits")]
    Ambiguous {
        /// As in [`Error::NotFound`].
        kind: &'static str,
        /// As asked for.
        name: String,
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// Used by others.
    #[error("{kind} {name} is in use{}", note(by))]
    InUse {
        /// As in [`Error::NotFound`].
        kind: &'static str,
        /// Its name.
        name: String,
        /// By whom.
        by: Option<String>,
    },
    /// A name, tag or id that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Layers that are too many (Docker: 125 under a container).
    #[error("{0} layers: the driver's limit is {1}")]
    TooDeep(usize, usize),
    /// The store is open for reading only.
    #[error(
        "the store {} is open for reading only: it was not made by plyfs (Docker's data root?); \
         give --writable to let plyfs change it, with Docker stopped",
        .0.display()
    )]
    ReadOnly(PathBuf),
    /// The store was written by a newer plyfs.
    #[error("the store {} has format version {found}; this plyfs knows {known}: use a newer one", root.display())]
    Version {
        /// The store.
        root: PathBuf,
        /// What its version file says.
        found: String,
        /// What this program reads.
        known: u32,
    },
    /// The root lies on a filesystem that the driver does not work on.
    #[error("{} lies on {fs}: the aufs driver does not work on it; choose another --root", root.display())]
    Incompatible {
        /// The root.
        root: PathBuf,
        /// The filesystem.
        fs: &'static str,
    },
    /// A layer's archive does not hash to what its image says.
    #[error("layer has diff ID {found}, its image says {wanted}: the archive is damaged or forged")]
    WrongDiff {
        /// What the image's config says.
        wanted: DiffId,
        /// What it is.
        found: DiffId,
    },
    /// No digest.
    #[error(transparent)]
    Digest(#[from] BadDigest),
    /// The mounter failed.
    #[error("mounting layer {id}: {source}")]
    Mount {
        /// Of which layer.
        id: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn note(by: &Option<String>) -> String {
    by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default()
}

/// Adds what was being done to an I/O error.
pub(crate) trait Doing<T> {
    /// `doing` the file at `path`.
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { doing, path: path.as_ref().to_owned(), source })
    }
}

impl<T> Doing<T> for plyfs_sys::Result<T> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Sys { doing, path: path.as_ref().to_owned(), source })
    }
}

impl Error {
    /// A file that holds what it must not.
    pub(crate) fn corrupt(path: impl AsRef<Path>, what: impl ToString) -> Error {
        Error::Corrupt { path: path.as_ref().to_owned(), what: what.to_string() }
    }

    /// There is no such thing.
    pub(crate) fn not_found(kind: &'static str, name: impl ToString) -> Error {
        Error::NotFound { kind, name: name.to_string() }
    }

    /// Whether this is [`Error::NotFound`].
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }
}
