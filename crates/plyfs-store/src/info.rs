//! What `docker info` told of a store with the AUFS driver.

use crate::driver::Status;
use crate::error::Result;
use crate::store::Store;

/// Numbers of a store.
#[derive(Debug, Clone)]
pub struct Info {
    /// All containers.
    pub containers: usize,
    /// Those that run.
    pub running: usize,
    /// Those that are paused.
    pub paused: usize,
    /// The others.
    pub stopped: usize,
    /// Images.
    pub images: usize,
    /// The driver's four rows.
    pub driver: Status,
}

impl Store {
    /// The numbers.
    pub fn info(&self) -> Result<Info> {
        let all = self.containers()?;
        let running = all.iter().filter(|one| one.state.running && !one.state.paused).count();
        let paused = all.iter().filter(|one| one.state.paused).count();
        Ok(Info {
            containers: all.len(),
            running,
            paused,
            stopped: all.len() - running - paused,
            images: self.image_ids()?.len(),
            driver: self.driver().status()?,
        })
    }
}
