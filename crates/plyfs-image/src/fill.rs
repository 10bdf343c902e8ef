//! Filling one layer's draft from its blob: unpacked and recorded for tar-split in one pass.

use std::io::Read;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use plyfs_store::layers::LayerDraft;
use plyfs_store::{ChainId, DiffId, Digest, Store};
use plyfs_union::Union;

use crate::error::{Doing, Error, Result};
use crate::limits::Limits;
use crate::tarsplit;
use crate::unpack::{Lower, Object, Owners, UnpackOptions, unpack_blob};

/// What a filled draft is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    /// Of the uncompressed archive.
    pub(crate) diff: DiffId,
    /// Of the blob.
    pub(crate) digest: Digest,
    /// As the store counts a layer's bytes.
    pub(crate) size: u64,
}

/// Fills `draft`. `name` is for messages.
pub(crate) fn fill(
    draft: &LayerDraft,
    blob: impl Read + Send,
    limits: &Limits,
    lower: Option<&dyn Lower>,
    name: &str,
) -> Result<Filled> {
    let bad = |error: crate::unpack::Error| Error::layer(name, error);
    let into = plyfs_sys::Dir::open(draft.dir()).map_err(|error| Error::layer(name, error))?;
    // Contents that an archive replaces itself are set aside beside the layer, in files without a name.
    let mut record = tarsplit::Writer::new(draft.tar_split()?, &into).doing("recording", draft.dir())?;
    let options = UnpackOptions { limits, owners: owners(), lower };
    let unpacked = unpack_blob(blob, &into, &options, Some(&mut record)).map_err(bad)?;
    let record = record.finish().doing("recording", draft.dir())?;
    record.sync_data().doing("recording", draft.dir())?;
    for warning in &unpacked.layer.warnings {
        tracing::warn!("layer {name}: {warning}");
    }
    Ok(Filled { diff: unpacked.layer.diff_id, digest: unpacked.digest, size: unpacked.layer.size })
}

/// Only root can give files away, and in a user namespace only to ids that it has: a range as images use it, or none.
fn owners() -> Owners {
    const ENOUGH: u64 = 65_536;
    let is_root = plyfs_sys::cred::effective_uid() == 0;
    let has_ids = ["/proc/self/uid_map", "/proc/self/gid_map"].iter().all(|path| {
        // Without /proc there is no telling: then it shows when the first file is given away.
        std::fs::read_to_string(path).map_or(true, |map| mapped(&map) >= ENOUGH)
    });
    if is_root && has_ids { Owners::AsIs } else { Owners::Ours }
}

/// How many ids a map of user_namespaces(7) has.
fn mapped(map: &str) -> u64 {
    let count = |line: &str| line.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok());
    map.lines().filter_map(count).sum()
}

/// How many layers of an image are in the store: those who fill the layers above wait for it where they need what is
/// below.
#[derive(Debug, Default)]
pub(crate) struct Height {
    committed: Mutex<usize>,
    more: Condvar,
}

impl Height {
    /// So many are there, counted from the bottom.
    pub(crate) fn new(committed: usize) -> Height {
        Height { committed: Mutex::new(committed), more: Condvar::new() }
    }

    /// So many are there now.
    pub(crate) fn reach(&self, committed: usize) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = committed;
        self.more.notify_all();
    }

    /// Waits until so many are there; `false` if `is_over` says that it is in vain.
    fn wait(&self, wanted: usize, is_over: &dyn Fn() -> bool) -> bool {
        // Who ends the work does not always come by here.
        const LOOK: Duration = Duration::from_millis(100);
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        while *committed < wanted {
            if is_over() {
                return false;
            }
            committed = self.more.wait_timeout(committed, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// What lies below a layer that is being filled, opened when it is asked for: few layers ask.
pub(crate) struct Below<'a> {
    pub(crate) store: &'a Store,
    /// Of the layer right below.
    pub(crate) chain: ChainId,
    /// How many layers there are below.
    pub(crate) layers: usize,
    pub(crate) height: &'a Height,
    pub(crate) is_over: &'a dyn Fn() -> bool,
    pub(crate) union: OnceLock<Union>,
}

impl Below<'_> {
    fn open(&self) -> plyfs_union::Result<Union> {
        let failed = |why: String| {
            plyfs_union::Error::from(plyfs_sys::SysError::from_io("open", &std::io::Error::other(why)))
        };
        if !self.height.wait(self.layers, self.is_over) {
            return Err(failed("not wanted any more".to_owned()));
        }
        let layer = self.store.need_layer(&self.chain).map_err(|error| failed(error.to_string()))?;
        let spec = self.store.driver().spec(&layer.id, false).map_err(|error| failed(error.to_string()))?;
        Union::open(&spec)
    }
}

impl Lower for Below<'_> {
    fn find(&self, path: &[u8]) -> plyfs_union::Result<Option<Object<'_>>> {
        if self.union.get().is_none() {
            // Asked by one thread alone: the other one's would be as good.
            drop(self.union.set(self.open()?));
        }
        match self.union.get() {
            Some(union) => union.find(path),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::mapped;

    #[test]
    fn ids_of_a_map_are_counted() {
        assert_eq!(mapped("         0          0 4294967295\n"), 4_294_967_295);
        assert_eq!(mapped("         0       1000          1\n         1     100000      65536\n"), 65_537);
        assert_eq!(mapped(""), 0);
    }
}
