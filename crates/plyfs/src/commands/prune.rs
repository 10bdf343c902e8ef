//! `plyfs prune`: removes what nothing needs.

use std::io;

use plyfs_store::Pruned;
use serde::Serialize;

use crate::cli::store::{PruneArgs, StoreArgs};
use crate::exit::{self, Failure, Outcome};
use crate::output::{self, Page, Report};
use crate::store::{self, Servers};

/// What went.
#[derive(Debug, Serialize)]
struct Answer {
    containers: Vec<String>,
    images: Vec<String>,
    layers: Vec<String>,
    bytes: u64,
}

/// Asks, and removes.
pub(crate) fn run(args: &PruneArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    if !args.force && !args.json && !agreed(args.all)? {
        output::note("nothing was removed");
        return Ok(exit::DONE);
    }
    let pruned = store.prune(args.all, &Servers).map_err(anyhow::Error::new)?;
    output::show(&Answer::from(pruned), args.json)?;
    Ok(exit::DONE)
}

fn agreed(all: bool) -> Result<bool, Failure> {
    let images = if all { "all images that no container uses" } else { "images without a name" };
    let question = format!(
        "This removes all stopped containers, {images}, unused layers and broken downloads. Go on? [y/N] "
    );
    match output::ask(&question) {
        Some(answer) => Ok(matches!(answer.as_str(), "y" | "yes")),
        None => Err(Failure::usage("prune asks first, and there is no terminal to ask on: give --force")),
    }
}

impl From<Pruned> for Answer {
    fn from(pruned: Pruned) -> Answer {
        Answer {
            containers: pruned.containers,
            images: pruned.images.iter().map(ToString::to_string).collect(),
            layers: pruned.layers.iter().map(ToString::to_string).collect(),
            bytes: pruned.bytes,
        }
    }
}

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for (title, ids) in
            [("Containers", &self.containers), ("Images", &self.images), ("Layers", &self.layers)]
        {
            if !ids.is_empty() {
                page.line(format_args!("Deleted {title}:"))?;
                ids.iter().try_for_each(|id| page.line(id))?;
                page.line("")?;
            }
        }
        page.line(format_args!("Total reclaimed space: {}", output::size(self.bytes)))
    }
}
