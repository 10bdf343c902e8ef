//! Nameless volumes, which come and go with a container: removing those that were left without one. Not here: making
//! volumes and filling them (`plyfs`), and volumes with names, which stay until somebody removes them.

use std::collections::HashSet;

use crate::error::Result;
use crate::store::Store;
use crate::tree;

impl Store {
    /// Removes those of the volumes `names` to which no container refers.
    pub(crate) fn remove_lonely_volumes(&self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut used = HashSet::new();
        {
            let _lock = self.lock()?;
            for container in self.containers()? {
                used.extend(container.mount_points.into_values().map(|point| point.name));
            }
        }
        let mut lonely = names.iter().filter(|name| !used.contains(*name));
        lonely.try_for_each(|name| tree::remove(&self.layout().volume(name)))
    }
}
