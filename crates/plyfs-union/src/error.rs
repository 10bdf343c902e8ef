//! The engine's error, and the one place where it becomes an errno.
#![deny(clippy::wildcard_enum_match_arm)]

use std::path::PathBuf;

use plyfs_sys::{Errno, SysError};

use crate::names::BadName;
use crate::spec::SpecError;

/// The result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation was refused before anything was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No writable branch at or above the object.
    ReadOnly,
    /// The name exists.
    Exists,
    /// The name is absent.
    Absent,
    /// A directory was needed.
    NotADirectory,
    /// A directory is not allowed here.
    IsADirectory,
    /// The directory shows names.
    NotEmpty,
    /// Directory rename that AUFS refuses (`strict`), or whose redirect the branch can't keep.
    CrossesBranches,
    /// A directory into itself, unknown flags, or a call that makes no sense for this type.
    Invalid,
    /// A reserved name or attribute.
    Reserved,
    /// Longer than the limit in force.
    NameTooLong,
    /// Too many links.
    TooManyLinks,
    /// The filesystem or the mount's options do not offer it.
    Unsupported,
    /// Not permitted to anybody here.
    Forbidden,
    /// The extended attribute is absent.
    NoAttribute,
    /// A branch's directory may be passed through but not listed.
    Denied,
}

/// An engine error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Refused before anything was done.
    #[error("{0:?}")]
    Refused(Refusal),
    /// A system call failed; `branch` is its branch where known.
    #[error("{source}{}", on_branch(.branch))]
    Sys {
        /// The call.
        source: SysError,
        /// Root of the branch.
        branch: Option<PathBuf>,
    },
    /// The node is unknown or its object vanished from the branch behind our back.
    #[error("stale node")]
    Stale,
    /// A copy of metadata alone whose data is not in the branches below any more.
    #[error("no data: {} is not in the branches below {}", .path.display(), .branch.display())]
    DataLost {
        /// Root of the copy's branch.
        branch: PathBuf,
        /// Where the data should be, in the branches below.
        path: PathBuf,
    },
    /// No such open file.
    #[error("bad handle")]
    BadHandle,
    /// The mount was asked for something that can't be.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A branch can't be part of this stack.
    #[error("branch {}: {why}", .path.display())]
    Branch {
        /// As given.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
        /// The kernel's reason, where there is one; EINVAL otherwise (aufs.5).
        errno: Option<i32>,
    },
    /// An image index can't be built, or used.
    #[error("image index {}: {why}", .path.display())]
    ImageIndex {
        /// The index, or what in a layer stands in its way.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

fn on_branch(branch: &Option<PathBuf>) -> String {
    branch.as_ref().map_or_else(String::new, |path| format!(" (branch {})", path.display()))
}

impl Error {
    /// The Linux errno, positive.
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Error::Refused(refusal) => refusal.errno(),
            Error::Sys { source, .. } => source.errno(),
            Error::Stale => Errno::STALE,
            Error::DataLost { .. } => Errno::IO,
            Error::BadHandle => Errno::BADF,
            Error::Spec(_) | Error::ImageIndex { .. } => Errno::INVAL,
            Error::Branch { errno, .. } => return errno.unwrap_or(Errno::INVAL.raw_os_error()),
        };
        errno.raw_os_error()
    }
}

impl Refusal {
    fn errno(self) -> Errno {
        match self {
            Refusal::ReadOnly => Errno::ROFS,
            Refusal::Exists => Errno::EXIST,
            Refusal::Absent => Errno::NOENT,
            Refusal::NotADirectory => Errno::NOTDIR,
            Refusal::IsADirectory => Errno::ISDIR,
            Refusal::NotEmpty => Errno::NOTEMPTY,
            Refusal::CrossesBranches => Errno::XDEV,
            Refusal::Invalid => Errno::INVAL,
            Refusal::Reserved | Refusal::Forbidden => Errno::PERM,
            Refusal::NameTooLong => Errno::NAMETOOLONG,
            Refusal::TooManyLinks => Errno::MLINK,
            Refusal::Unsupported => Errno::OPNOTSUPP,
            Refusal::NoAttribute => Errno::NODATA,
            Refusal::Denied => Errno::ACCESS,
        }
    }
}

impl From<SysError> for Error {
    fn from(source: SysError) -> Error {
        Error::Sys { source, branch: None }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal)
    }
}

impl From<BadName> for Error {
    fn from(bad: BadName) -> Error {
        Error::Refused(match bad {
            BadName::TooLong => Refusal::NameTooLong,
            BadName::Reserved => Refusal::Reserved,
            BadName::NotAName => Refusal::Invalid,
        })
    }
}
