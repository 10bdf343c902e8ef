//! Commands about images.

mod history;
mod list;
mod load;
mod progress;
mod pull;
mod rmi;
mod save;
mod tag;
mod times;

use plyfs_image::Work;
use plyfs_image::limits::Limits;
use plyfs_image::progress::{Cancel, Progress};
use plyfs_store::Store;
use plyfs_sys::process::signals::Signals;

use crate::cli::images::{ImageCommand, LimitArgs};
use crate::cli::store::StoreArgs;
use crate::exit::{Failure, Outcome};
use crate::output::table;
use crate::store::Servers;

/// Carries out one of them.
pub(crate) fn run(command: ImageCommand, store: &StoreArgs) -> Outcome {
    match command {
        ImageCommand::Pull(args) => pull::run(args, store),
        ImageCommand::Load(args) => load::run(args, store),
        ImageCommand::Save(args) => save::run(&args, store),
        ImageCommand::Images(args) => list::run(&args, store),
        ImageCommand::Rmi(args) => rmi::run(&args, store),
        ImageCommand::Tag(args) => tag::run(&args, store),
        ImageCommand::History(args) => history::run(&args, store),
    }
}

/// An error of the library on its way out.
fn failed(error: plyfs_image::Error) -> Failure {
    anyhow::Error::new(error).into()
}

/// Does long work: with the limits of the command line, stopped by SIGINT, SIGTERM and SIGHUP.
fn at_work<T>(
    store: &Store,
    args: &LimitArgs,
    progress: &dyn Progress,
    act: impl FnOnce(&Work<'_>) -> plyfs_image::Result<T>,
) -> Result<T, Failure> {
    let mut limits = Limits::default();
    for (name, value) in &args.limits {
        limits.set(name, *value);
    }
    let cancel = stopped_by_signals()?;
    let work = Work {
        store,
        mounter: &Servers,
        limits: &limits,
        jobs: usize::from(args.jobs),
        progress,
        cancel: &cancel,
    };
    act(&work).map_err(failed)
}

/// A switch that signals turn. Called before other threads are made: these have the signals blocked too.
pub(crate) fn stopped_by_signals() -> Result<std::sync::Arc<Cancel>, Failure> {
    const HANGUP: i32 = 1;
    const INTERRUPT: i32 = 2;
    const TERMINATE: i32 = 15;
    let signals = Signals::block(&[HANGUP, INTERRUPT, TERMINATE]).map_err(anyhow::Error::new)?;
    let cancel = std::sync::Arc::new(Cancel::new());
    let heard = cancel.clone();
    // It ends with the process.
    std::thread::spawn(move || {
        while signals.next().is_ok() {
            heard.cancel();
        }
    });
    Ok(cancel)
}

/// Twelve digits of an id, as Docker shows it.
fn short(id: &str) -> String {
    match id.strip_prefix("sha256:") {
        Some(digits) => digits.chars().take(12).collect(),
        None => id.to_owned(),
    }
}
