//! `plyfs diff`: what the writable branches change against the branches below.

use std::io;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::changes::Changes;
use crate::cli::DiffArgs;
use crate::cli::store::StoreArgs;
use crate::commands::containers;
use crate::exit::{self, Outcome};
use crate::mounted;
use crate::output::{self, Page, Report, path_line};

#[derive(Debug, Serialize)]
struct Diff {
    mount_point: String,
    #[serde(flatten)]
    changes: Changes,
}

/// Runs the command; a word without a slash may be a container's. Paths are those inside the union, as `docker diff` prints them.
pub(crate) fn run(args: &DiffArgs, store: &StoreArgs) -> Outcome {
    if let Some(name) = args.dir.to_str().filter(|name| !name.contains('/'))
        && let Some(outcome) = containers::diff::run(name, args.json, store)
    {
        return outcome;
    }
    let mounted = mounted::at(&args.dir)?;
    let beside = mounted.open_read_only()?;
    let mut changes = Changes::default();
    let added = changes.add(Path::new("/"), &beside).map_err(anyhow::Error::new);
    added.with_context(|| format!("comparing the branches of {}", args.dir.display()))?;
    output::show(&Diff { mount_point: path_line(&mounted.info.mount_point), changes }, args.json)?;
    Ok(exit::DONE)
}

impl Report for Diff {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.changes.lines(page, false)
    }
}
