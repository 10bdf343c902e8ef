//! Progress on standard error: a bar for each layer on a terminal, a line for each change elsewhere.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use plyfs_image::progress::{LayerState, Progress, Silent};

use crate::output;

/// What is done to layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// From a registry.
    Pull,
    /// From an archive.
    Load,
}

/// Progress that ends.
pub(super) trait Shown: Progress {
    /// No more will come.
    fn end(&self) {}
}

impl Shown for Silent {}

/// Bars, lines or nothing.
pub(super) fn new(verb: Verb, quiet: bool) -> Box<dyn Shown> {
    if quiet {
        Box::new(Silent)
    } else if io::stderr().is_terminal() {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Box::new(Bars { verb, all, layers: Mutex::default() })
    } else {
        Box::new(Lines { verb, last: Mutex::default() })
    }
}

/// Docker's words.
fn word(verb: Verb, state: LayerState) -> &'static str {
    match (state, verb) {
        (LayerState::Waiting, _) => "Waiting",
        (LayerState::AlreadyExists, _) => "Already exists",
        (LayerState::Downloading { .. }, Verb::Pull) => "Downloading",
        (LayerState::Downloading { .. }, Verb::Load) => "Loading layer",
        (LayerState::Unpacked, _) => "Extracting",
        (LayerState::Retrying, _) => "Retrying",
        (LayerState::Complete, Verb::Pull) => "Pull complete",
        (LayerState::Complete, Verb::Load) => "Load complete",
    }
}

struct Lines {
    verb: Verb,
    /// What was said last of each layer.
    last: Mutex<HashMap<usize, &'static str>>,
}

impl Progress for Lines {
    fn layer(&self, index: usize, name: &str, state: LayerState) {
        let word = word(self.verb, state);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // As Docker does: the way itself is not told where nobody watches.
        let is_told = !matches!(state, LayerState::Waiting | LayerState::Unpacked);
        if last.insert(index, word) == Some(word) || !is_told {
            return;
        }
        match state {
            // Docker's closing lines belong to the answer.
            LayerState::AlreadyExists | LayerState::Complete if self.verb == Verb::Pull => {
                output::line(format_args!("{name}: {word}"));
            }
            _ => output::verbatim(format_args!("{name}: {word}")),
        }
    }
}

impl Shown for Lines {}

struct Bars {
    verb: Verb,
    all: MultiProgress,
    layers: Mutex<HashMap<usize, ProgressBar>>,
}

impl Bars {
    fn bar(&self, index: usize, name: &str) -> ProgressBar {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let bar = ProgressBar::new(0).with_style(style(WORDS)).with_prefix(name.to_owned());
            self.all.add(bar)
        };
        layers.entry(index).or_insert_with(make).clone()
    }
}

const WORDS: &str = "{prefix}: {msg}";
/// At most 80 columns.
const SIZED: &str = "{prefix}: {msg} [{bar:25}] {bytes}/{total_bytes}";
const UNSIZED: &str = "{prefix}: {msg} {bytes}";

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Progress for Bars {
    fn layer(&self, index: usize, name: &str, state: LayerState) {
        let bar = self.bar(index, name);
        let word = word(self.verb, state);
        match state {
            LayerState::Downloading { done, total } => {
                if bar.message() != word {
                    bar.set_length(total);
                    bar.set_style(style(if total > 0 { SIZED } else { UNSIZED }));
                    bar.set_message(word);
                }
                bar.set_position(done);
            }
            LayerState::AlreadyExists | LayerState::Complete => {
                bar.set_style(style(WORDS));
                bar.finish_with_message(word);
            }
            LayerState::Waiting | LayerState::Unpacked | LayerState::Retrying => {
                bar.set_style(style(WORDS));
                bar.set_message(word);
                bar.tick();
            }
        }
    }

    fn line(&self, text: &str) {
        self.all.suspend(|| Lines { verb: self.verb, last: Mutex::default() }.line(text));
    }
}

impl Shown for Bars {
    fn end(&self) {
        for bar in self.layers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if !bar.is_finished() {
                bar.abandon();
            }
        }
    }
}
