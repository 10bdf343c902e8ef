//! Why a layer was not unpacked, and what was lost where it was.

use std::fmt;
use std::io;

use plyfs_sys::SysError;

use crate::limits::OverLimit;

/// The result of unpacking.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a layer was not unpacked. What had been unpacked by then is in its directory, which is to be thrown away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source failed, or its compression is broken.
    #[error("reading the layer: {0}")]
    Read(io::Error),
    /// Not a tar archive, or one that different readers read differently.
    #[error("broken archive, byte {at}: {what}")]
    Archive {
        /// Bytes from the start of the uncompressed archive.
        at: u64,
        /// What is wrong there.
        what: String,
    },
    /// An entry that no honest layer has.
    #[error("{path}: refused: {why}")]
    Refused {
        /// The entry's name, escaped.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A limit was passed.
    #[error("{path}: {over}")]
    Limit {
        /// The entry's name, escaped, or `layer`.
        path: String,
        /// Which limit.
        over: OverLimit,
    },
    /// A system call failed.
    #[error("{path}: {source}")]
    Sys {
        /// The entry's name, escaped.
        path: String,
        /// The call.
        source: SysError,
    },
    /// The branches below could not be asked.
    #[error("{path}: in the layers below: {source}")]
    Lower {
        /// The entry's name, escaped.
        path: String,
        /// Why.
        source: plyfs_union::Error,
    },
    /// The tar-split record could not be written.
    #[error("writing the layer's tar-split record: {0}")]
    Record(io::Error),
}

impl Error {
    pub(crate) fn refused(path: &[u8], why: &'static str) -> Error {
        Error::Refused { path: shown(path), why }
    }

    pub(crate) fn limit(path: &[u8]) -> impl Fn(OverLimit) -> Error + '_ {
        move |over| Error::Limit { path: shown(path), over }
    }

    /// The source failed; a limit may be its reason.
    pub(crate) fn read(error: io::Error) -> Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<OverLimit>()) {
            Some(over) => Error::Limit { path: "layer".to_owned(), over: over.clone() },
            None => Error::Read(error),
        }
    }

    pub(crate) fn write(path: &[u8]) -> impl Fn(io::Error) -> Error + '_ {
        move |e| Error::Sys { path: shown(path), source: SysError::from_io("write", &e) }
    }

    pub(crate) fn sys(path: &[u8]) -> impl Fn(SysError) -> Error + '_ {
        move |source| Error::Sys { path: shown(path), source }
    }
}

/// A name from an archive, for people: nothing in it reaches a terminal as a control sequence.
pub(crate) fn shown(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { path.escape_ascii().to_string() }
}

/// What was not kept, or changed, to unpack the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// An xattr that would change what a union shows.
    MarkXattr,
    /// An xattr that the filesystem or our privileges do not allow.
    Xattr,
    /// A device that we may not make.
    Device,
    /// An owner that we may not set.
    Owner,
    /// A mode without our own access.
    Mode,
    /// A word of a branch's own (`.wh..wh.*`).
    PrivateWord,
    /// A whiteout with contents, attributes or a link that it must not have.
    Whiteout,
    /// A hard link to itself.
    SelfLink,
    /// Bytes behind the archive's end.
    Trailing,
    /// Attributes in a form that is not read.
    Unread,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::MarkXattr => "extended attributes of union filesystems were left out",
            Loss::Xattr => "extended attributes could not be set here",
            Loss::Device => "device nodes could not be made here",
            Loss::Owner => "owners could not be set without privileges",
            Loss::Mode => "modes were widened so that we can read what is ours",
            Loss::PrivateWord => "private entries (.wh..wh.*) were left out",
            Loss::Whiteout => "whiteouts were made plain empty files",
            Loss::SelfLink => "hard links to themselves were ignored",
            Loss::Trailing => "there is data behind the archive's end",
            Loss::Unread => "attributes in a form that is not read were left out",
        })
    }
}

/// One kind of loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What was lost.
    pub loss: Loss,
    /// The first entry that lost it, escaped.
    pub first: String,
    /// How many entries did.
    pub count: u64,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.first, self.loss)?;
        if self.count > 1 { write!(f, " ({} entries)", self.count) } else { Ok(()) }
    }
}

/// Collects warnings, one per kind.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Vec<Warning>);

impl Warnings {
    pub(crate) fn add(&mut self, loss: Loss, path: &[u8]) {
        match self.0.iter_mut().find(|warning| warning.loss == loss) {
            Some(warning) => warning.count += 1,
            None => self.0.push(Warning { loss, first: shown(path), count: 1 }),
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Warning> {
        self.0
    }
}
