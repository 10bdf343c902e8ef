//! What it takes to mount, and what a mount costs while idle.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::bout::Bout;
use super::super::idle::Idle;
use super::super::walk;

pub(super) const ROWS: &[&str] = &["mount until the first stat"];
/// Its numbers are in a table of their own.
pub(super) const IDLE_ROWS: &[&str] = &[];

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    let took = bout.mounted.context("nothing is mounted")?.took();
    bout.record(ROWS[0], took.as_secs_f64());
    Ok(())
}

pub(super) fn idle(bout: &mut Bout<'_>) -> Result<()> {
    let servers = bout.mounted.context("nothing is mounted")?.servers();
    let wait = Duration::from_secs_f64(bout.stage.sizes.idle_seconds);
    thread::sleep(wait);
    bout.told.idle.push(Idle::now("after the mount", servers)?);
    walk::stat_all(&bout.root.join("src"))?;
    thread::sleep(wait);
    bout.told.idle.push(Idle::now("after a walk", servers)?);
    Ok(())
}
