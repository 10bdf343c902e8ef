//! Check: everything in a store's metadata that does not fit together. Reads only; what a crash can leave is mended
//! whenever the store is opened for writing, so that anything found here has another cause.
//!
//! Not here: whether contents are what their digests say (`plyfs-image`: needs archives), whether image indexes are right
//! (`plyfs_union::image`).

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::driver::LayerId;
use crate::error::Result;
use crate::files;
use crate::id::{ChainId, Digest};
use crate::layers::Layer;
use crate::layout::REMOVING;
use crate::store::Store;

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub path: PathBuf,
    /// What is wrong, and what helps.
    pub what: String,
}

/// Of what opening the store for writing takes away.
const MENDED: &str = "(the next command that changes the store takes it away)";

struct Finder<'a> {
    store: &'a Store,
    found: Vec<Problem>,
}

/// How much there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Directories with contents.
    pub layers: usize,
    /// Image configs.
    pub images: usize,
    /// Containers, whether they can be read or not.
    pub containers: usize,
}

impl Store {
    /// How much a check looks at.
    pub fn counts(&self) -> Result<Counts> {
        Ok(Counts {
            layers: self.driver().layers()?.len(),
            images: self.image_ids()?.len(),
            containers: files::names(&self.layout().containers())?.len(),
        })
    }

    /// Everything that does not fit together, in no order. Work of living processes is no problem: what does not look the
    /// same twice was theirs.
    pub fn check(&self) -> Result<Vec<Problem>> {
        let mut found = self.look_over()?;
        for _ in 0..2 {
            if found.is_empty() {
                break;
            }
            let again = self.look_over()?;
            found.retain(|problem| again.contains(problem));
        }
        Ok(found)
    }

    fn look_over(&self) -> Result<Vec<Problem>> {
        let mut finder = Finder { store: self, found: Vec::new() };
        let layers = finder.records()?;
        finder.driver()?;
        finder.layers(&layers)?;
        finder.orphans(&layers)?;
        finder.unneeded(&layers)?;
        finder.images(&layers)?;
        finder.containers(&layers)?;
        finder.leftovers()?;
        Ok(finder.found)
    }
}

impl Finder<'_> {
    fn say(&mut self, path: PathBuf, what: impl Into<String>) {
        self.found.push(Problem { path, what: what.into() });
    }

    /// The triples of directories.
    fn driver(&mut self) -> Result<()> {
        let (driver, layout) = (self.store.driver(), self.store.layout());
        let ids: HashSet<LayerId> = driver.layers()?.into_iter().collect();
        for id in &ids {
            for dir in [layout.diff(id), layout.mount(id)] {
                match dir.metadata() {
                    Ok(found) if found.is_dir() => {}
                    Err(error) if error.kind() == ErrorKind::NotConnected => {
                        let what = "is mounted, and the mount's server has died (whoever mounts it next, or plyfs rm, unmounts it)";
                        self.say(dir, what);
                    }
                    _ => self.say(dir, "is missing, although the layer exists"),
                }
            }
            let parents = match driver.parents(id) {
                Ok(parents) => parents,
                Err(error) => {
                    self.say(layout.parents_of(id), error.to_string());
                    continue;
                }
            };
            for (at, parent) in parents.iter().enumerate() {
                if !ids.contains(parent) {
                    self.say(layout.parents_of(id), format!("names {parent}, which does not exist"));
                } else if at == 0 && driver.parents(parent).is_ok_and(|theirs| theirs != parents[1..]) {
                    self.say(layout.parents_of(id), format!("differs from the ancestors of {parent}"));
                }
            }
        }
        Ok(())
    }

    /// The records that can be read.
    fn records(&mut self) -> Result<HashMap<ChainId, Layer>> {
        let chains = self.store.layout().chains();
        let mut layers = HashMap::new();
        for name in files::names(&chains)?.iter().filter(|name| !name.ends_with(REMOVING)) {
            let Ok(digest) = Digest::from_hex(name) else {
                self.say(chains.join(name), "is no chain ID");
                continue;
            };
            match self.store.layer(&ChainId(digest)) {
                Ok(Some(layer)) => drop(layers.insert(layer.chain, layer)),
                Ok(None) => self.say(chains.join(name), "has no file \"cache-id\""),
                Err(error) => self.say(chains.join(name), error.to_string()),
            }
        }
        Ok(layers)
    }

    /// The records by chain ID.
    fn layers(&mut self, layers: &HashMap<ChainId, Layer>) -> Result<()> {
        let (driver, layout) = (self.store.driver(), self.store.layout());
        for layer in layers.values() {
            let record = layout.chain(&layer.chain);
            if ChainId::over(layer.parent, layer.diff) != layer.chain {
                self.say(record.clone(), "is not named by the chain ID of its diff and parent");
            }
            if !driver.exists(&layer.id) {
                self.say(record, format!("names layer {}, which does not exist", layer.id));
                continue;
            }
            let below = layer.parent.map(|parent| layers.get(&parent).map(|layer| &layer.id));
            let nearest = match driver.parents(&layer.id) {
                Ok(parents) => parents.into_iter().next(),
                // Told above, or removed since.
                Err(_) => continue,
            };
            match below {
                Some(None) => self.say(record, "has a parent that is not registered"),
                Some(Some(parent)) if nearest.as_ref() != Some(parent) => {
                    self.say(record, format!("stands on {nearest:?} on disk, on {parent} by its record"));
                }
                None if nearest.is_some() => self.say(record, "has no parent by its record, but one on disk"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Layers on disk that nothing refers to, and containers' layers without a container: lost space.
    fn orphans(&mut self, layers: &HashMap<ChainId, Layer>) -> Result<()> {
        let mut used: HashSet<LayerId> = layers.values().map(|layer| layer.id.clone()).collect();
        let layout = self.store.layout();
        let records = files::names(&layout.container_layers())?;
        let alive: HashSet<String> = files::names(&layout.containers())?.into_iter().collect();
        let worked_on = self.store.is_worked_on()?;
        for name in &records {
            match self.store.container_layers(name) {
                Ok(one) => used.extend([one.id, one.init]),
                // Its files are being deleted, which may last longer than we look.
                Err(error) if error.is_not_found() && worked_on && !alive.contains(name) => {}
                Err(error) => self.say(layout.container_layer(name), error.to_string()),
            }
        }
        for id in records {
            if !alive.contains(&id) && !worked_on {
                self.say(layout.container_layer(&id), format!("has no container {MENDED}"));
            }
        }
        used.extend(self.store.layers_in_work()?);
        used.extend(self.store.hidden_layers()?);
        for id in self.store.driver().layers()? {
            if !used.contains(&id) {
                let path = self.store.layout().diff(&id);
                self.say(path, "is a layer that no image and no container uses (`plyfs prune` removes it)");
            }
        }
        Ok(())
    }

    /// Registered layers of no image: lost space too. Nothing is said while there are images that cannot be read.
    fn unneeded(&mut self, layers: &HashMap<ChainId, Layer>) -> Result<()> {
        let Ok(needed) = self.store.needed(layers) else { return Ok(()) };
        for layer in layers.values().filter(|layer| !needed.contains(&layer.chain)) {
            let path = self.store.layout().chain(&layer.chain);
            self.say(path, "is a layer that no image and no container needs (`plyfs prune` removes it)");
        }
        Ok(())
    }

    fn images(&mut self, layers: &HashMap<ChainId, Layer>) -> Result<()> {
        let ids: HashSet<_> = self.store.image_ids()?.into_iter().collect();
        for id in &ids {
            let path = self.store.layout().config(id);
            match self.store.image(id) {
                Ok(image) => {
                    for chain in
                        ChainId::each(&image.diffs).iter().filter(|chain| !layers.contains_key(chain))
                    {
                        self.say(
                            path.clone(),
                            format!("needs layer {chain}, which is not there: pull it again"),
                        );
                    }
                }
                Err(error) => self.say(path, error.to_string()),
            }
        }
        for tag in self.store.tags()?.all().filter(|tag| !ids.contains(&tag.image)) {
            let what = format!("{} names image {}, which is not there", tag.reference, tag.image);
            self.say(self.store.layout().repositories(), what);
        }
        Ok(())
    }

    fn containers(&mut self, layers: &HashMap<ChainId, Layer>) -> Result<()> {
        for name in files::names(&self.store.layout().containers())? {
            let path = self.store.layout().container(&name);
            match self.store.container(&name) {
                Ok(container) if container.id != name => {
                    self.say(path.clone(), format!("says that it is container {:?}", container.id));
                }
                Ok(_) => {}
                Err(error) => {
                    self.say(path, error.to_string());
                    continue;
                }
            }
            // Those without a record are told here, broken ones above.
            let own = match self.store.container_layers(&name) {
                Ok(own) => own,
                Err(error) if error.is_not_found() => {
                    self.say(path, error.to_string());
                    continue;
                }
                Err(_) => continue,
            };
            if let Some(parent) = own.parent.filter(|parent| !layers.contains_key(parent)) {
                self.say(path.clone(), format!("stands on {parent}, which is not registered"));
            }
            for id in [own.id, own.init] {
                if !self.store.driver().exists(&id) {
                    self.say(path.clone(), format!("has layer {id}, which does not exist"));
                }
            }
        }
        Ok(())
    }

    /// What start-up should have taken away.
    fn leftovers(&mut self) -> Result<()> {
        if self.store.is_worked_on()? {
            // Not left: somebody is at it.
            return Ok(());
        }
        let layout = self.store.layout();
        for name in files::names(&layout.intents())? {
            self.say(layout.intents().join(name), format!("was left by a process that died {MENDED}"));
        }
        for name in files::drafts(&layout.chains_tmp())? {
            self.say(layout.chains_tmp().join(name), format!("was being written and never ended {MENDED}"));
        }
        for dir in [layout.diffs(), layout.mounts(), layout.chains()] {
            for name in files::names(&dir)?.iter().filter(|name| name.ends_with(REMOVING)) {
                self.say(dir.join(name), format!("was to be removed, and is still there {MENDED}"));
            }
        }
        for dir in [layout.diffs(), layout.mounts()] {
            for name in files::names(&dir)? {
                if LayerId::parse(&name).is_ok_and(|id| !self.store.driver().exists(&id)) {
                    self.say(dir.join(name), format!("has no file in layers/: nothing uses it {MENDED}"));
                }
            }
        }
        Ok(())
    }
}
