//! Reads every file of the source tree, as tar does.

use anyhow::{Result, ensure};

use super::super::bout::Bout;
use super::super::walk;

pub(super) const ROWS: &[&str] = &["read all files, fresh", "read all files, warm"];

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    let top = bout.root.join("src");
    for row in ROWS {
        let seen = bout.time(row, || walk::read_all(&top))?;
        ensure!(seen == bout.stage.source, "read {seen:?}, there are {:?}", bout.stage.source);
    }
    Ok(())
}
