//! Which blob of which repository a layer came as: Docker's `distribution/` (moby `distribution/metadata`). Only a memory:
//! nothing breaks without it.

use std::fs;
use std::path::Path;

use plyfs_store::{DiffId, Digest, Store, write_atomic};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};

/// Sources of one layer that are remembered (Docker's number).
const MOST: usize = 100;

/// One source of a layer, as Docker writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Source {
    digest: Digest,
    source_repository: String,
    #[serde(rename = "HMAC", default)]
    hmac: String,
}

/// Remembers that `blob` of `repository` (in full) unpacks to `diff`.
pub(crate) fn remember(store: &Store, diff: DiffId, blob: Digest, repository: &str) -> Result<()> {
    let layout = store.layout();
    put(&layout.diff_by_digest(&blob), diff.to_string().as_bytes())?;
    let path = layout.blobs_by_diff(&diff);
    let source = Source { digest: blob, source_repository: repository.to_owned(), hmac: String::new() };
    let mut sources: Vec<Source> = match fs::read(&path) {
        // What cannot be read is written anew.
        Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).doing("reading", path),
    };
    sources.retain(|one| *one != source);
    sources.push(source);
    let first = sources.len().saturating_sub(MOST);
    let text =
        serde_json::to_vec(&sources[first..]).map_err(|error| Error::document(path.display(), error))?;
    put(&path, &text)
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).doing("making", dir)?;
    Ok(write_atomic(path, bytes)?)
}
