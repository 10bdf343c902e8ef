//! Walk with stat over the source tree: first use after the mount, again, and with the caches dropped.
//!
//! "fresh": the backing directories and inodes are in the kernel's caches, those of the union are not (for a plain
//! directory there is no difference). "cold": nothing is.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::super::bout::Bout;
use super::super::walk;

pub(super) const ROWS: &[&str] = &["walk+stat, fresh", "walk+stat, warm"];
pub(super) const COLD_ROWS: &[&str] = &["walk+stat, cold"];

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    for row in ROWS {
        timed(bout, row)?;
    }
    Ok(())
}

pub(super) fn cold(bout: &mut Bout<'_>) -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the caches")?;
    timed(bout, COLD_ROWS[0])
}

fn timed(bout: &mut Bout<'_>, row: &'static str) -> Result<()> {
    let top = bout.root.join("src");
    let seen = bout.time(row, || walk::stat_all(&top))?;
    ensure!(seen == bout.stage.source, "walked {seen:?}, there are {:?}", bout.stage.source);
    Ok(())
}
