//! Walk with stat over the source tree: first use after the mount, again, again with birth times, and with the caches
//! dropped.
//!
//! "second" is for FUSE: reading a directory makes the kernel ask for the directory's attributes once more. "fresh": the backing directories and inodes are in the kernel's caches, those of the union are not (for a plain
//! directory there is no difference). "cold": nothing is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::super::bout::Bout;
use super::super::walk::{Tally, stat_all, statx_all};

pub(super) const ROWS: &[&str] =
    &["walk+stat, fresh", "walk+stat, second", "walk+stat, warm", "walk+statx with birth time, warm"];
pub(super) const COLD_ROWS: &[&str] = &["walk+stat, cold"];

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    timed(bout, ROWS[0], stat_all)?;
    timed(bout, ROWS[1], stat_all)?;
    timed(bout, ROWS[2], stat_all)?;
    timed(bout, ROWS[3], statx_all)
}

pub(super) fn cold(bout: &mut Bout<'_>) -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the caches")?;
    timed(bout, COLD_ROWS[0], stat_all)
}

fn timed(bout: &mut Bout<'_>, row: &'static str, walk: fn(&Path) -> Result<Tally>) -> Result<()> {
    let top = bout.root.join("src");
    let seen = bout.time(row, || walk(&top))?;
    ensure!(seen == bout.stage.source, "walked {seen:?}, there are {:?}", bout.stage.source);
    Ok(())
}
