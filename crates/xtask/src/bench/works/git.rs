//! `git status` on a clean tree in the lower layers: first use after the mount, and again. git may not write its index,
//! and must not compare what a copy can't keep (tree.rs says how), else it would read every file.

use anyhow::{Result, ensure};

use super::super::bout::Bout;
use super::super::tree;
use crate::run;

pub(super) const ROWS: &[&str] = &["git status, fresh", "git status, second", "git status, warm"];

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    let top = bout.root.join("src");
    for row in ROWS {
        let said = bout.time(row, || {
            run::output(tree::git_command(&top).args(["--no-optional-locks", "status", "--porcelain"]))
        })?;
        ensure!(said.is_empty(), "git sees changes: {}", said.lines().next().unwrap_or_default());
    }
    Ok(())
}
