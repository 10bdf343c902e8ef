//! Changing what is in a lower layer: `chmod -R` over a tree with the big file, the first byte written into the big file,
//! small files copied up by one and by two clients. Each on a mount of its own. A plain directory is changed in place.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::thread;

use anyhow::{Result, anyhow, ensure};
use rustix::fs::{Mode, chmod as set_mode};

use super::super::bout::Bout;
use super::super::tree::text;

pub(super) const CHMOD: &[&str] = &["chmod -R with the big file"];
pub(super) const FIRST_BYTE: &[&str] = &["first byte into the big file"];
pub(super) const SMALL_1: &[&str] = &["copy-up of small files, 1 client"];
pub(super) const SMALL_2: &[&str] = &["copy-up of small files, 2 clients"];

pub(super) fn chmod(bout: &mut Bout<'_>) -> Result<()> {
    let top = bout.root.join("grove");
    bout.time(CHMOD[0], || chmod_all(&top))?;
    for name in ["big", "small/s0000"] {
        let mode = fs::metadata(top.join(name))?.permissions().mode() & 0o7777;
        ensure!(mode == 0o640, "{name} has mode {mode:o}");
    }
    let size = fs::metadata(top.join("big"))?.len();
    ensure!(size == bout.stage.sizes.big_bytes, "big has {size} bytes after chmod");
    Ok(())
}

fn chmod_all(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_dir = entry.file_type()?.is_dir();
        set_mode(entry.path(), Mode::from_raw_mode(if is_dir { 0o750 } else { 0o640 }))?;
        if is_dir {
            chmod_all(&entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn first_byte(bout: &mut Bout<'_>) -> Result<()> {
    let path = bout.root.join("grove/big");
    // The byte that is there already: a plain directory keeps its content for the other rounds.
    let byte = text(7, 1);
    bout.time(FIRST_BYTE[0], || {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(file.write_all_at(&byte, 0)?)
    })?;
    let size = fs::metadata(&path)?.len();
    ensure!(size == bout.stage.sizes.big_bytes, "big has {size} bytes after a write");
    Ok(())
}

pub(super) fn small_1(bout: &mut Bout<'_>) -> Result<()> {
    small(bout, SMALL_1[0], 1)
}

pub(super) fn small_2(bout: &mut Bout<'_>) -> Result<()> {
    small(bout, SMALL_2[0], 2)
}

fn small(bout: &mut Bout<'_>, row: &'static str, clients: usize) -> Result<()> {
    let dir = bout.root.join("grove/small");
    let files = bout.stage.sizes.small_files;
    bout.time(row, || {
        thread::scope(|scope| {
            let start = |client| {
                let dir = &dir;
                scope.spawn(move || write_each(dir, (client..files).step_by(clients)))
            };
            let all: Vec<_> = (0..clients).map(start).collect();
            all.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
        })
    })?;
    let last = fs::read(dir.join(format!("s{:04}", files - 1)))?;
    ensure!(last == text(files - 1, last.len()) && last.len() >= 1_000, "a copied file has other content");
    Ok(())
}

fn write_each(dir: &Path, numbers: impl Iterator<Item = usize>) -> Result<()> {
    for i in numbers {
        let file = OpenOptions::new().write(true).open(dir.join(format!("s{i:04}")))?;
        file.write_all_at(&text(i, 1), 0)?;
    }
    Ok(())
}
