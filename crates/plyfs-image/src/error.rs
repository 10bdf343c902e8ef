//! What can go wrong with images. Causes of other crates are kept as they are.

use std::io;
use std::path::{Path, PathBuf};

use plyfs_store::Digest;

use crate::reference::BadReference;

/// The result of an operation on images.
pub type Result<T> = std::result::Result<T, Error>;

/// Why it failed. The store is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed, or has no such thing.
    #[error(transparent)]
    Store(#[from] plyfs_store::Error),
    /// A file operation failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No reference.
    #[error(transparent)]
    Reference(#[from] BadReference),
    /// A manifest, index or config is not what it must be.
    #[error("{what}: {why}")]
    Document {
        /// Which.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A manifest that is in order, but of something else than an image (an artifact).
    #[error("{what}: {why}")]
    NotAnImage {
        /// Which.
        what: String,
        /// What it is.
        why: String,
    },
    /// Content does not hash to what it was asked for by.
    #[error("{what} has digest {found} instead of {wanted}: damaged or forged; it was not used")]
    WrongDigest {
        /// Which content.
        what: String,
        /// As asked for.
        wanted: Digest,
        /// As it is.
        found: Digest,
    },
    /// A layer could not be unpacked.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Its short digest, or its file in the archive.
        layer: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A registry could not be asked, or refused.
    #[error("{url}: {why}")]
    Registry {
        /// What was asked for.
        url: String,
        /// The answer.
        why: String,
    },
    /// Rules forbid it.
    #[error("{0}")]
    Refused(String),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted; nothing was changed")]
    Cancelled,
}

impl Error {
    /// A document that is not what it must be.
    pub(crate) fn document(what: impl ToString, why: impl ToString) -> Error {
        Error::Document { what: what.to_string(), why: why.to_string() }
    }

    /// What a registry answered.
    pub(crate) fn registry(url: impl ToString, why: impl ToString) -> Error {
        Error::Registry { url: url.to_string(), why: why.to_string() }
    }

    /// There is no such image.
    pub(crate) fn no_image(name: impl ToString) -> Error {
        Error::Store(plyfs_store::Error::NotFound { kind: "image", name: name.to_string() })
    }

    /// Something about a layer.
    pub(crate) fn layer(
        layer: impl ToString,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Layer { layer: layer.to_string(), source: source.into() }
    }
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
