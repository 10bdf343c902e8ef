//! Unpacks an archive of small files into the union, as tar does (create, write, close, times, mode), and removes it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, chmod, utimensat};

use super::super::bout::Bout;
use super::super::tree;
use super::super::walk;

pub(super) const ROWS: &[&str] = &["unpack small files", "rm -r of them"];

/// 2020-01-01, as everything here.
const OLD: Timespec = Timespec { tv_sec: 1_577_836_800, tv_nsec: 0 };

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    let files = bout.stage.sizes.unpack_files;
    let top = bout.fresh_dir()?;
    let dirs = tree::dirs(files);
    let block = tree::text(1, 8 << 10);
    bout.time(ROWS[0], || unpack(&top, &dirs, files, &block))?;
    let seen = walk::stat_all(&top)?;
    let want = (files + dirs.len()) as u64;
    ensure!(seen.entries == want, "{} entries after unpacking {want}", seen.entries);
    bout.time(ROWS[1], || Ok(fs::remove_dir_all(&top)?))?;
    ensure!(fs::symlink_metadata(&top).is_err(), "still there after rm -r");
    Ok(())
}

fn unpack(top: &Path, dirs: &[String], files: usize, block: &[u8]) -> Result<()> {
    let times = Timestamps { last_access: OLD, last_modification: OLD };
    let per_dir = files.div_ceil(dirs.len());
    let mut made = 0;
    for dir in dirs {
        let dir = top.join(dir);
        DirBuilder::new().mode(0o700).create(&dir)?;
        for i in 0..per_dir.min(files - made) {
            let path = dir.join(format!("file-{i:03}"));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&block[..(made * 37) % block.len()])?;
            drop(file);
            utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            chmod(&path, Mode::from_raw_mode(0o644))?;
            made += 1;
        }
        chmod(&dir, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}
