//! Creates files of 4 KiB in one new directory: create, write, close.

use std::fs::{self, File};
use std::io::Write;

use anyhow::{Result, ensure};

use super::super::bout::Bout;
use super::super::tree;

pub(super) const ROWS: &[&str] = &["create+write+close"];

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    let files = bout.stage.sizes.create_files;
    let dir = bout.fresh_dir()?;
    let block = tree::text(2, 4096);
    bout.time(ROWS[0], || {
        for i in 0..files {
            File::create_new(dir.join(format!("file-{i:05}")))?.write_all(&block)?;
        }
        Ok(())
    })?;
    let seen = fs::read_dir(&dir)?.count();
    ensure!(seen == files, "{seen} files after creating {files}");
    fs::remove_dir_all(&dir)?;
    Ok(())
}
