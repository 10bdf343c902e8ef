//! `plyfs info`: what `docker info` printed for a store with the AUFS driver.

use std::io;

use plyfs_store::{Driver, Store};
use serde::Serialize;

use crate::cli::store::{InfoArgs, StoreArgs};
use crate::exit::{self, Failure, Outcome};
use crate::output::{self, Page, Report, Tone};
use crate::store;

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    containers: usize,
    running: usize,
    paused: usize,
    stopped: usize,
    images: usize,
    storage_driver: &'static str,
    /// Docker's rows, in its order and words.
    driver_status: Vec<(&'static str, String)>,
    store_root: String,
    /// Made by Docker, and only read.
    made_by_docker: bool,
}

/// Shows it.
pub(crate) fn run(args: &InfoArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_read(store)?;
    output::show(&ask(&store)?, args.json)?;
    Ok(exit::DONE)
}

fn ask(store: &Store) -> Result<Answer, Failure> {
    let info = store.info().map_err(anyhow::Error::new)?;
    Ok(Answer {
        containers: info.containers,
        running: info.running,
        paused: info.paused,
        stopped: info.stopped,
        images: info.images,
        storage_driver: Driver::NAME,
        driver_status: info.driver.rows().into(),
        store_root: output::path_line(store.layout().root()),
        made_by_docker: store.is_dockers(),
    })
}

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(format_args!("Containers: {}", self.containers))?;
        page.line(format_args!(" Running: {}", self.running))?;
        page.line(format_args!(" Paused: {}", self.paused))?;
        page.line(format_args!(" Stopped: {}", self.stopped))?;
        page.line(format_args!("Images: {}", self.images))?;
        page.line(format_args!("Server Version: {}", env!("CARGO_PKG_VERSION")))?;
        page.line(format_args!("Storage Driver: {}", self.storage_driver))?;
        for (key, value) in &self.driver_status {
            page.line(format_args!(" {key}: {value}"))?;
        }
        page.line(format_args!("Docker Root Dir: {}", self.store_root))?;
        if self.made_by_docker {
            let note = page.paint(Tone::Warn, "made by Docker: only read (--writable changes that)");
            page.line(note)?;
        }
        Ok(())
    }
}
