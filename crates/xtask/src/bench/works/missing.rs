//! Looks up names that do not exist in the directories of the source tree, each name new, and the same names again.
//! The first round includes what a directory's first use costs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use rustix::io::Errno;

use super::super::bout::Bout;

pub(super) const ROWS: &[&str] = &["missing names, first", "missing names, again"];

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    let top = bout.root.join("src");
    let dirs = &bout.stage.source_dirs;
    let name = |i: usize| top.join(&dirs[i % dirs.len()]).join(format!("missing-{}-{i}", bout.nonce));
    let names: Vec<PathBuf> = (0..bout.stage.sizes.missing_names).map(name).collect();
    for row in ROWS {
        bout.time_each(row, |_| {
            for path in &names {
                match rustix::fs::lstat(path) {
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                    Ok(_) => bail!("{} exists", path.display()),
                }
            }
            Ok(names.len() as u64)
        })?;
    }
    Ok(())
}
