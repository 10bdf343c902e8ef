//! `plyfs check`: what does not fit together in a store.

use std::io;

use plyfs_image::tarsplit;
use plyfs_store::Store;
use plyfs_store::check::Problem as Found;
use plyfs_store::layers::Layer;
use plyfs_sys::Dir;
use serde::Serialize;

use crate::cli::store::{CheckArgs, StoreArgs};
use crate::exit::{self, Failure, Outcome};
use crate::output::{self, Page, Report, Tone, path_line};
use crate::store;

/// What was looked at, and found.
#[derive(Debug, Serialize)]
struct Answer {
    store_root: String,
    layers: usize,
    images: usize,
    containers: usize,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    path: String,
    what: String,
}

/// Looks and tells; the exit code says whether anything was found.
pub(crate) fn run(args: &CheckArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_read(store)?;
    let mut found = store.check().map_err(anyhow::Error::new)?;
    if args.contents {
        found.extend(contents(&store)?);
        found.extend(store.check_indexes().map_err(anyhow::Error::new)?);
    }
    let counts = store.counts().map_err(anyhow::Error::new)?;
    let problem = |one: Found| Problem { path: path_line(&one.path), what: one.what };
    let mut problems: Vec<Problem> = found.into_iter().map(problem).collect();
    problems.sort_by(|a, b| (&a.path, &a.what).cmp(&(&b.path, &b.what)));
    let answer = Answer {
        store_root: path_line(store.layout().root()),
        layers: counts.layers,
        images: counts.images,
        containers: counts.containers,
        problems,
    };
    output::show(&answer, args.json)?;
    Ok(if answer.problems.is_empty() { exit::DONE } else { exit::FAILED })
}

/// Makes the archive of each image layer again, and compares its digest.
fn contents(store: &Store) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for layer in store.layers().map_err(anyhow::Error::new)? {
        match compare(store, &layer) {
            // Removed since it was listed.
            _ if !store.driver().exists(&layer.id) => {}
            Ok(None) => {}
            Ok(Some(problem)) => found.push(problem),
            Err(error) => {
                let path = store.driver().diff_dir(&layer.id);
                found.push(Found { path, what: format!("{error} (pull the image again)") });
            }
        }
    }
    Ok(found)
}

fn compare(store: &Store, layer: &Layer) -> anyhow::Result<Option<Found>> {
    let Some(record) = store.tar_split(&layer.chain)? else {
        let path = store.layout().chain(&layer.chain).join("tar-split.json.gz");
        let what = "is missing: the layer's contents can't be compared with its digest".to_owned();
        return Ok(Some(Found { path, what }));
    };
    let path = store.driver().diff_dir(&layer.id);
    let diff = tarsplit::assemble(record, &Dir::open(&path)?, &mut io::sink())?;
    if diff == layer.diff {
        return Ok(None);
    }
    let what = format!("makes an archive with digest {diff}, not {} (pull the image again)", layer.diff);
    Ok(Some(Found { path, what }))
}

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for Problem { path, what } in &self.problems {
            let word = page.paint(Tone::Bad, "problem:");
            page.line(format_args!("{word} {path}: {what}"))?;
        }
        let Answer { store_root, layers, images, containers, .. } = self;
        let found = match self.problems.len() {
            0 => "no problem".to_owned(),
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        page.line(format_args!(
            "{store_root}: {layers} layers, {images} images, {containers} containers: {found}"
        ))
    }
}
