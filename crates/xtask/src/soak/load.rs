//! The threads of the load, and what they share.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::bench::tree::Dice;
use super::client::{Client, same};
use super::model::Model;
use super::{ops, plots};

/// Clients with a subtree of their own.
pub(crate) const CLIENTS: usize = 4;
const WALKERS: usize = 2;
/// Descriptors opened at once.
const HOARD: usize = 500;
/// Wrong answers after which the load ends.
const ENOUGH: usize = 20;

/// What all threads see.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) mount: PathBuf,
    pub(crate) layers: Vec<PathBuf>,
    /// The shared tree as it is in the layers, in one directory.
    pub(crate) plain: PathBuf,
    /// Files of the shared tree, relative.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) seed: u64,
    pub(crate) plots: usize,
    pub(crate) duration: Duration,
    /// Set from outside, too.
    pub(crate) stop: &'a AtomicBool,
    pub(crate) operations: AtomicU64,
    pub(crate) files_read: AtomicU64,
    pub(crate) hoards: AtomicU64,
    pub(crate) drops: AtomicU64,
    pub(crate) pinned: AtomicU64,
    pub(crate) wrong: Mutex<Vec<String>>,
}

impl Load<'_> {
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Starts all threads in `scope`.
    pub(crate) fn start<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) {
        for number in 0..CLIENTS {
            scope.spawn(move || self.client(number));
        }
        for number in 0..WALKERS {
            scope.spawn(move || self.until_stopped("walker", number, Duration::from_millis(50), Load::walk));
        }
        scope.spawn(move || self.until_stopped("hoarder", 0, Duration::from_secs(3), Load::hoard));
        if rustix::process::geteuid().is_root() {
            scope.spawn(move || self.until_stopped("dropper", 0, Duration::from_secs(7), Load::drop_caches));
        } else {
            println!("not root: kernel caches are not dropped");
        }
    }

    fn tell(&self, who: &str, text: &str) {
        let message = format!("stale or wrong answer: {who}: {text}");
        eprintln!("{message}");
        let mut wrong = self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        wrong.push(message);
        if wrong.len() >= ENOUGH {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// A client goes through its plots, and ends with the last.
    fn client(&self, number: usize) {
        let start = Instant::now();
        for plot in 0..self.plots {
            if self.stopped() {
                return;
            }
            let end = start + self.duration.mul_f64((plot + 1) as f64 / self.plots as f64);
            let place = plots::place(number, plot);
            let seed = self.seed ^ ((number as u64) << 32) ^ plot as u64;
            let model = match plots::model(&self.layers, &place, seed) {
                Ok(model) => model,
                Err(error) => return self.tell(&format!("client {number}"), &format!("{error:#}")),
            };
            let mut client = Client::new(self.mount.join(&place), model, !seed);
            let outcome = self.season(&mut client, end);
            self.pinned.fetch_add(client.pinned_reads, Ordering::Relaxed);
            if let Err(error) = outcome {
                self.tell(
                    &format!("client {number}, plot {plot}, seed {seed}"),
                    &format!("{error:#}\n  operations before:{}", client.log()),
                );
            }
        }
    }

    fn season(&self, client: &mut Client, end: Instant) -> Result<()> {
        while Instant::now() < end && !self.stopped() {
            ops::one(client)?;
            self.operations.fetch_add(1, Ordering::Relaxed);
        }
        client.check_all()?;
        // Descriptors that outlive their names.
        if client.chance(2) {
            client.held.clear();
        }
        ops::remove_all(client)?;
        client.held.clear();
        client.model = Model::default();
        Ok(())
    }

    fn until_stopped(
        &self,
        who: &str,
        number: usize,
        pause: Duration,
        body: fn(&Self, &mut Dice) -> Result<()>,
    ) {
        let mut dice = Dice(self.seed ^ 0x5eed ^ number as u64);
        let start = Instant::now();
        while !self.stopped() && start.elapsed() < self.duration {
            if let Err(error) = body(self, &mut dice) {
                self.tell(&format!("{who} {number}"), &format!("{error:#}"));
            }
            // The end must not wait for a pause.
            let from = Instant::now();
            while from.elapsed() < pause && !self.stopped() && start.elapsed() < self.duration {
                thread::sleep(pause.min(Duration::from_millis(100)));
            }
        }
    }

    /// Some files and directories of the shared tree, compared with the layers.
    fn walk(&self, dice: &mut Dice) -> Result<()> {
        for _ in 0..100 {
            let name = &self.files[dice.below(self.files.len() as u64) as usize];
            let (here, there) = (self.mount.join(name), self.plain.join(name));
            let meta = |path: &Path| {
                let stat = rustix::fs::lstat(path).with_context(|| format!("lstat {}", path.display()))?;
                anyhow::Ok((stat.st_size, stat.st_mode, stat.st_mtime, stat.st_mtime_nsec))
            };
            same(&here, "size, mode, mtime", meta(&there)?, meta(&here)?)?;
            let got = fs::read(&here).with_context(|| format!("reading {}", here.display()))?;
            if let Some(text) = super::client::difference(&fs::read(&there)?, &got) {
                bail!("{}: {text}", here.display());
            }
            let dir = &self.dirs[dice.below(self.dirs.len() as u64) as usize];
            same(
                &self.mount.join(dir),
                "listing",
                list(&self.plain.join(dir))?,
                list(&self.mount.join(dir))?,
            )?;
            self.files_read.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Many descriptors at once, some of them read.
    fn hoard(&self, dice: &mut Dice) -> Result<()> {
        let mut open = Vec::with_capacity(HOARD);
        for _ in 0..HOARD {
            let name = &self.files[dice.below(self.files.len() as u64) as usize];
            let path = self.mount.join(name);
            open.push((File::open(&path).with_context(|| format!("opening {}", path.display()))?, name));
        }
        for (file, name) in open.iter_mut().step_by(10) {
            let there = self.plain.join(*name);
            same(&self.mount.join(*name), "size", fs::metadata(&there)?.size(), file.metadata()?.size())?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).with_context(|| format!("reading {}", name.display()))?;
            if let Some(text) = super::client::difference(&fs::read(&there)?, &bytes) {
                bail!("{}: {text}", self.mount.join(name).display());
            }
        }
        self.hoards.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn drop_caches(&self, _: &mut Dice) -> Result<()> {
        fs::write("/proc/sys/vm/drop_caches", "2").context("dropping the caches")?;
        self.drops.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn list(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let names =
        || fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
    let mut names = names().with_context(|| format!("listing {}", dir.display()))?;
    names.sort();
    Ok(names)
}
