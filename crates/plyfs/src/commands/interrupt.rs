//! Long work that SIGINT, SIGTERM and SIGHUP stop.

use std::sync::Arc;
use std::time::Duration;

use plyfs_image::progress::Cancel;
use plyfs_sys::process::signals::{self, SIGHUP, SIGINT, SIGTERM, Signals};

use crate::exit::Failure;

/// How the process ends if the work does not stop when it is told to. A store's work that is cut off so is undone at the
/// next opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insist {
    /// Not at all: something must be put right first.
    Never,
    /// By the second signal.
    Again,
    /// By the second signal, or a second after the first: the work may wait for somebody who never comes (a pipe).
    Soon,
}

/// A switch that signals turn. Called before other threads are made: these have the signals blocked too.
pub(crate) fn by_signals(insist: Insist) -> Result<Arc<Cancel>, Failure> {
    let signals = Signals::block(&[SIGHUP, SIGINT, SIGTERM]).map_err(anyhow::Error::new)?;
    let cancel = Arc::new(Cancel::new());
    let heard = cancel.clone();
    // It ends with the process.
    std::thread::spawn(move || {
        while let Ok(first) = signals.next() {
            heard.cancel();
            let signal = match insist {
                Insist::Never => continue,
                Insist::Again => signals.next().map_or(first.signal, |again| again.signal),
                Insist::Soon => match signals.next_within(Duration::from_secs(1)) {
                    Ok(Some(again)) => again.signal,
                    _ => first.signal,
                },
            };
            if let Err(error) = signals::end_by(signal) {
                tracing::warn!("{error}");
            }
        }
    });
    Ok(cancel)
}
