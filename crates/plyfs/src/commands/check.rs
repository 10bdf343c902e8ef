//! `plyfs check`: what does not fit together in a store.

use std::io;

use serde::Serialize;

use crate::cli::store::{CheckArgs, StoreArgs};
use crate::exit::{self, Outcome};
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
    let found = store.check().map_err(anyhow::Error::new)?;
    let counts = store.counts().map_err(anyhow::Error::new)?;
    let problem = |one: plyfs_store::check::Problem| Problem { path: path_line(&one.path), what: one.what };
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
