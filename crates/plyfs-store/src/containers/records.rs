//! Containers by id and name: made, found, changed, removed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::PathBuf;

use super::{Container, ContainerLayers, HostConfig};
use crate::driver::{LayerId, Mounter};
use crate::error::{Doing, Error, Result};
use crate::files::{self, Draft};
use crate::id::{ChainId, ImageId};
use crate::intent::Intent;
use crate::lock;
use crate::store::Store;

const CONFIG: &str = "config.v2.json";
const HOST_CONFIG: &str = "hostconfig.json";
/// Locked by whoever runs the container.
const RUNNER: &str = "runner.lock";
/// In `plyfs/`: documents of a container that is being removed.
const AWAY: &str = "gone-";

impl Store {
    /// A new container's id: 64 random hexadecimal digits.
    pub fn new_container_id(&self) -> Result<String> {
        files::random_hex::<32>()
    }

    /// Makes a container over `parent`: its layers, then its documents, all or nothing. `container.name` must be free; `fill`
    /// as in [`Store::make_container_layers`].
    pub fn create_container(
        &self,
        container: &Container,
        host: &HostConfig,
        parent: Option<ChainId>,
        mounter: &dyn Mounter,
        fill: &mut dyn FnMut(&LayerId) -> Result<()>,
    ) -> Result<ContainerLayers> {
        self.need_name_free(&container.name)?;
        let intent = self.begin(&format!("create container {}", container.id))?;
        let made = match self.make_container_layers(&intent, &container.id, parent, fill) {
            Err(error) => Err((error, Ok(()))),
            // From here on the record of its layers is ours to take back.
            Ok(layers) => match self.publish_container(container, host, &layers) {
                Err(error) => Err((error, self.remove_container_layers(&container.id, mounter))),
                Ok(()) => Ok(layers),
            },
        };
        match made {
            Ok(layers) => intent.done().map(|()| layers),
            Err((error, taken_back)) => {
                taken_back
                    .and_then(|()| intent.undo(self, mounter))
                    .unwrap_or_else(|more| tracing::warn!("taking back container {}: {more}", container.id));
                Err(error)
            }
        }
    }

    /// The draft has the name that the intent knows.
    fn publish_container(
        &self,
        container: &Container,
        host: &HostConfig,
        layers: &ContainerLayers,
    ) -> Result<()> {
        let draft = Draft::begin(&self.layout().chains_tmp(), layers.id.as_str())?;
        let json =
            |value: serde_json::Result<Vec<u8>>| value.map_err(|error| Error::Invalid(error.to_string()));
        draft.write(CONFIG, &json(serde_json::to_vec(container))?)?;
        draft.write(HOST_CONFIG, &json(serde_json::to_vec(host))?)?;
        draft.write(RUNNER, b"")?;
        let _lock = self.lock()?;
        // Again: somebody may have taken it meanwhile.
        self.need_name_free(&container.name)?;
        // Or removed the image: who removes it looks for containers under this lock.
        if let Ok(image) = container.image.parse::<ImageId>()
            && !self.layout().config(&image).exists()
        {
            return Err(Error::not_found("image", image));
        }
        if draft.publish(&self.layout().container(&container.id))? {
            Ok(())
        } else {
            Err(Error::Exists { kind: "container", name: container.id.clone(), by: None })
        }
    }

    fn need_name_free(&self, name: &str) -> Result<()> {
        match self.containers()?.into_iter().find(|one| !name.is_empty() && one.name == name) {
            Some(holder) => Err(Error::Exists {
                kind: "container",
                name: holder.plain_name().to_owned(),
                by: Some(format!("id {}; remove it or choose another --name", holder.short())),
            }),
            None => Ok(()),
        }
    }

    /// Every container, newest first.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let mut all = Vec::new();
        for id in files::names(&self.layout().containers())? {
            match self.container(&id) {
                Err(error) if error.is_not_found() => {}
                container => all.push(container?),
            }
        }
        all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    /// A container by its whole id.
    pub fn container(&self, id: &str) -> Result<Container> {
        let path = self.layout().container(id).join(CONFIG);
        files::read_json(&path)?.ok_or_else(|| Error::not_found("container", id))
    }

    /// Its host's side.
    pub fn host_config(&self, id: &str) -> Result<HostConfig> {
        Ok(files::read_json(&self.layout().container(id).join(HOST_CONFIG))?.unwrap_or_default())
    }

    /// A container by id, name, or the first digits of its id.
    pub fn find_container(&self, text: &str) -> Result<Container> {
        let all = self.containers()?;
        let plain = text.strip_prefix('/').unwrap_or(text);
        if let Some(found) = all.iter().find(|one| one.id == text || one.plain_name() == plain) {
            return Ok(found.clone());
        }
        let mut begins = all.iter().filter(|one| !text.is_empty() && one.id.starts_with(text));
        match (begins.next(), begins.next()) {
            (None, _) => Err(Error::not_found("container", text)),
            (Some(one), None) => Ok(one.clone()),
            (Some(one), Some(other)) => Err(Error::Ambiguous {
                kind: "container",
                name: text.to_owned(),
                first: one.short().to_owned(),
                second: other.short().to_owned(),
            }),
        }
    }

    /// Changes what is known about a container; answers what is known then.
    pub fn update_container(&self, id: &str, change: impl FnOnce(&mut Container)) -> Result<Container> {
        self.need_writable()?;
        let _lock = self.lock()?;
        let mut container = self.container(id)?;
        change(&mut container);
        files::write_json(&self.layout().container(id).join(CONFIG), &container)?;
        Ok(container)
    }

    /// Claims the right to run a container, until the answer is dropped. `None`: somebody runs it.
    pub fn claim_container(&self, id: &str) -> Result<Option<File>> {
        self.need_writable()?;
        let dir = self.layout().container(id);
        if !dir.exists() {
            return Err(Error::not_found("container", id));
        }
        let path = dir.join(RUNNER);
        if !path.exists() {
            // A container of Docker's.
            match lock::exclusive(&path) {
                Err(_) if !dir.exists() => return Err(Error::not_found("container", id)),
                made => drop(made?),
            }
        }
        match lock::try_exclusive_patiently(&path)? {
            // Removed meanwhile, by the one who had it.
            None if !dir.exists() => Err(Error::not_found("container", id)),
            claim => Ok(claim),
        }
    }

    /// Device and inode of the file that is locked by who runs the container: a copy of the store has others. `None`: it was
    /// never run.
    pub fn runner_file(&self, id: &str) -> Result<Option<(u64, u64)>> {
        use std::os::unix::fs::MetadataExt;
        let path = self.layout().container(id).join(RUNNER);
        match fs::metadata(&path) {
            Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("looking at", &path),
        }
    }

    /// Does a living process run the container?
    pub fn is_run(&self, id: &str) -> Result<bool> {
        lock::is_held(&self.layout().container(id).join(RUNNER))
    }

    /// Removes a container and its layers. `claim` proves that nobody runs it.
    pub fn remove_container(&self, id: &str, claim: File, mounter: &dyn Mounter) -> Result<()> {
        self.need_writable()?;
        let intent = self.begin(&format!("rm container {id}"))?;
        self.keep_what_it_stands_on(id, &intent)?;
        let dir = self.layout().container(id);
        let away = self.away(id);
        {
            let _lock = self.lock()?;
            fs::rename(&dir, &away).doing("renaming to be removed", &dir)?;
            files::sync_dir(&self.layout().containers())?;
        }
        self.remove_container_layers(id, mounter)?;
        files::remove_dir(&away)?;
        drop(claim);
        intent.undo(self, mounter)
    }

    /// An image removed by force has left its layers to its containers: the last one lets them go.
    fn keep_what_it_stands_on(&self, id: &str, intent: &Intent) -> Result<()> {
        let parent = match self.container_layers(id) {
            Err(error) if error.is_not_found() => None,
            layers => layers?.parent,
        };
        if let Some(parent) = parent {
            self.use_layer(intent, &parent)?;
        }
        Ok(())
    }

    /// Where a container's documents are while its layers are being removed.
    fn away(&self, id: &str) -> PathBuf {
        self.layout().own().join(format!("{AWAY}{id}"))
    }

    /// Is a living process removing the container?
    fn is_being_removed(&self, id: &str) -> Result<bool> {
        lock::is_held(&self.away(id).join(RUNNER))
    }

    /// What a crash left of creating and removing containers: layers whose container is not there, documents on their way
    /// out.
    pub(crate) fn remove_orphaned_containers(&self, mounter: &dyn Mounter) -> Result<()> {
        for id in self.orphans()? {
            if let Err(error) = self.remove_orphan(&id, mounter) {
                tracing::warn!("removing what is left of container {id}: {error}");
            }
        }
        for name in files::names(&self.layout().own())? {
            if let Some(id) = name.strip_prefix(AWAY)
                && !self.is_being_removed(id)?
            {
                files::remove_dir(&self.away(id))?;
            }
        }
        Ok(())
    }

    fn remove_orphan(&self, id: &str, mounter: &dyn Mounter) -> Result<()> {
        let intent = self.begin(&format!("rm rest of container {id}"))?;
        self.keep_what_it_stands_on(id, &intent)?;
        self.remove_container_layers(id, mounter)?;
        intent.undo(self, mounter)
    }

    fn orphans(&self) -> Result<Vec<String>> {
        let _lock = self.lock()?;
        let alive: HashSet<String> = files::names(&self.layout().containers())?.into_iter().collect();
        let working = self.layers_in_work()?;
        let mut orphans = Vec::new();
        for id in files::names(&self.layout().container_layers())? {
            let being_made = || self.container_layers(&id).is_ok_and(|layers| working.contains(&layers.id));
            if !alive.contains(&id) && !being_made() && !self.is_being_removed(&id)? {
                orphans.push(id);
            }
        }
        Ok(orphans)
    }
}
