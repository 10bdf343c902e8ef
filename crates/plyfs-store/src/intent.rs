//! Intents: what a process is about to do to the store, written down before it does it.
//!
//! An intent is a file in `plyfs/intents`, locked (flock) by its owner as long as it lives. Lines are appended (each by one
//! write, so that threads do not mix theirs) and synced before the step they tell of: `layer ID` (this layer is being made), `chain ID` (this stack of layers is needed, although
//! no image or container refers to it yet), `volume NAME` (this nameless volume comes, or goes, with a container). Whoever
//! finds an intent whose lock is free undoes it: layers and such volumes that nothing refers to are removed, chains that
//! nothing needs are let go. The same undoing happens when an operation fails.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::driver::{LayerId, Mounter};
use crate::error::{Doing, Result};
use crate::id::{ChainId, Digest};
use crate::layers::Freed;
use crate::store::Store;
use crate::{files, lock};

/// Work in progress. Say [`Intent::done`] at the end; dropped unsaid, what was begun stays until the store is opened again
/// or [`Intent::undo`] is called.
#[derive(Debug)]
pub struct Intent {
    path: PathBuf,
    file: File,
    /// What the file says already.
    kept: Mutex<HashSet<ChainId>>,
}

impl Drop for Intent {
    /// Closing the file would not do: a program that another thread is just starting has it open for a moment too.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!("unlocking {}: {error}", self.path.display());
        }
    }
}

/// What an intent file says.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) layers: Vec<LayerId>,
    pub(crate) chains: HashSet<ChainId>,
    pub(crate) volumes: Vec<String>,
}

impl Store {
    /// Begins work; `what` is for people who look into the file.
    pub fn begin(&self, what: &str) -> Result<Intent> {
        self.need_writable()?;
        // Under the store's lock, so that nobody finds the file before it is locked.
        let _lock = self.lock()?;
        let path = self.layout().intents().join(files::random_hex::<8>()?);
        let file = files::create_new(&path)?;
        file.try_lock().map_err(std::io::Error::from).doing("locking", &path)?;
        let intent = Intent { path, file, kept: Mutex::default() };
        intent.tell(&format!("# {} (process {})", what.replace('\n', " "), std::process::id()))?;
        // The lines to come are worth nothing if the file can be lost.
        files::sync_dir(&self.layout().intents())?;
        Ok(intent)
    }

    /// Undoes what dead processes left. Called when the store is opened for writing. What cannot be undone now is told, and
    /// stays for the next time.
    pub(crate) fn undo_stale(&self, mounter: &dyn Mounter) -> Result<()> {
        let mut dead = Vec::new();
        {
            let _lock = self.lock()?;
            for name in files::names(&self.layout().intents())? {
                let path = self.layout().intents().join(name);
                let kept = Mutex::default();
                dead.extend(lock::try_exclusive(&path)?.map(|file| Intent { path, file, kept }));
            }
        }
        for intent in dead {
            let path = intent.path.clone();
            if let Err(error) = intent.undo(self, mounter) {
                tracing::warn!("undoing what a dead process left ({}): {error}", path.display());
            }
        }
        Ok(())
    }

    /// Is a living process at work?
    pub(crate) fn is_worked_on(&self) -> Result<bool> {
        for name in files::names(&self.layout().intents())? {
            if lock::is_held(&self.layout().intents().join(name))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The layers that living processes are making.
    pub(crate) fn layers_in_work(&self) -> Result<HashSet<LayerId>> {
        let mut layers = HashSet::new();
        for name in files::names(&self.layout().intents())? {
            layers.extend(read(&self.layout().intents().join(name))?.layers);
        }
        Ok(layers)
    }

    /// The chains that living processes need, other than the owner of `but`.
    pub(crate) fn chains_in_work(&self, but: Option<&Intent>) -> Result<HashSet<ChainId>> {
        let mut chains = HashSet::new();
        for name in files::names(&self.layout().intents())? {
            let path = self.layout().intents().join(name);
            if but.is_none_or(|but| but.path != path) {
                chains.extend(read(&path)?.chains);
            }
        }
        Ok(chains)
    }
}

impl Intent {
    /// To be called before the layer is made.
    pub(crate) fn making(&self, id: &LayerId) -> Result<()> {
        self.tell(&format!("layer {id}"))
    }

    /// From now on the chain stays, although nothing refers to it. Call under the store's lock if it exists already.
    pub(crate) fn keeps(&self, chain: &ChainId) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.contains(chain) {
            return Ok(());
        }
        self.tell(&format!("chain {}", chain.0.hex()))?;
        kept.insert(*chain);
        Ok(())
    }

    /// The volume `name` (a container's id or alike: [`Store::new_container_id`]) stays only if a container refers to it when
    /// this work is undone. To be called before the volume is made, or before its last container is removed.
    pub fn volume(&self, name: &str) -> Result<()> {
        self.tell(&format!("volume {name}"))
    }

    fn tell(&self, line: &str) -> Result<()> {
        // In one call: several threads tell.
        (&self.file).write_all(format!("{line}\n").as_bytes()).doing("writing", &self.path)?;
        self.file.sync_data().doing("syncing", &self.path)
    }

    /// From now on nothing is kept, and the work still goes on. Call under the store's lock.
    pub(crate) fn keeps_nothing(&self) -> Result<()> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.file.set_len(0).doing("truncating", &self.path)
    }

    /// All is done: what was made is referred to by something that lasts.
    pub fn done(self) -> Result<()> {
        files::remove_file(&self.path)
    }

    /// Takes back what was begun and is not referred to.
    pub fn undo(self, store: &Store, mounter: &dyn Mounter) -> Result<()> {
        self.end_letting_go(store, mounter).map(drop)
    }

    /// The same, and tells what became free.
    pub(crate) fn end_letting_go(self, store: &Store, mounter: &dyn Mounter) -> Result<Freed> {
        let told = read(&self.path)?;
        let owned = if told.layers.is_empty() { HashSet::new() } else { store.layers_in_use()? };
        for id in &told.layers {
            files::remove_draft(&store.layout().chains_tmp(), id.as_str())?;
            if !owned.contains(id) {
                store.driver().remove(id, mounter)?;
            }
        }
        let freed = store.let_go(told.chains, Some(&self), mounter)?;
        store.remove_lonely_volumes(&told.volumes)?;
        // Last: as long as the file is there and locked, everybody knows that somebody is at work.
        files::remove_file(&self.path)?;
        Ok(freed)
    }
}

/// A torn last line, one without its end, tells of a step that was not begun.
fn read(path: &Path) -> Result<Told> {
    let mut told = Told::default();
    let Some(bytes) = files::read(path)? else { return Ok(told) };
    let text = String::from_utf8_lossy(&bytes);
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_once(' ') {
            Some(("layer", id)) => told.layers.extend(LayerId::parse(id).ok()),
            Some(("chain", hex)) => told.chains.extend(Digest::from_hex(hex).ok().map(ChainId)),
            // Of people's names and of paths nothing is removed.
            Some(("volume", name)) if Digest::from_hex(name).is_ok() => told.volumes.push(name.to_owned()),
            _ => {}
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i");
        let chain = "0a".repeat(32);
        std::fs::write(&path, format!("# x\nlayer aa\nchain {chain}\nlayer bb")).unwrap();
        let told = read(&path).unwrap();
        assert_eq!(told.layers, [LayerId::parse("aa").unwrap()]);
        assert_eq!(told.chains.len(), 1);
    }
}
