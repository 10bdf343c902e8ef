//! The order of a run: per number of layers, work and number of threads, rounds in which every candidate has its turn, the
//! order moved on by one each round, so that whatever the machine does meanwhile falls on all of them.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::bout::{Bout, Told};
use super::candidates::{Candidate, Kind, Programs};
use super::mounts::{Mounted, Watchdog};
use super::options::Options;
use super::requests::Tracer;
use super::results::{Key, Results, Trouble};
use super::stage::Stage;
use super::works::{self, Only, Work};

/// No bout of a sound mount lasts that long; that of a hanging one must end.
const PATIENCE: Duration = Duration::from_secs(900);

/// A run under way.
struct Runner<'a> {
    options: &'a Options,
    programs: &'a Programs,
    stage: &'a Stage,
    tracer: Option<Tracer>,
    results: Results,
    stop: Arc<AtomicBool>,
    bouts: usize,
}

/// The works that were asked for.
pub(crate) fn chosen(options: &Options) -> Vec<Work> {
    works::ALL.iter().filter(|work| options.works.iter().any(|name| name == work.name)).copied().collect()
}

/// Runs all of it. What fails stands in the results; an error is what ends the run.
pub(crate) fn run(options: &Options, programs: &Programs) -> Result<Results> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("watching for signals")?;
    }
    let works = chosen(options);
    let parts: BTreeSet<_> = works.iter().flat_map(|work| work.parts.iter().copied()).collect();
    let stage = Stage::new(options, &parts, progress)?;
    let mut results = Results {
        candidates: options.candidates.iter().map(ToString::to_string).collect(),
        reference: position(options, Kind::Overlay).unwrap_or(0),
        plain: position(options, Kind::Plain),
        layers: options.layers.clone(),
        threads: options.threads.clone(),
        rows: Results::rows_of(&works),
        ..Results::default()
    };
    let tracer = tracer(options, &stage, &mut results);
    let mut runner = Runner { options, programs, stage: &stage, tracer, results, stop, bouts: 0 };
    for layers in &options.layers {
        for work in &works {
            runner.work(*layers, work)?;
        }
    }
    if runner.stop.load(Ordering::Relaxed) {
        runner.results.notes.push("interrupted: cells may lack rounds or be missing".to_owned());
        runner.results.interrupted = true;
    }
    progress("");
    Ok(runner.results)
}

fn position(options: &Options, kind: Kind) -> Option<usize> {
    options.candidates.iter().position(|candidate| candidate.kind == kind)
}

fn tracer(options: &Options, stage: &Stage, results: &mut Results) -> Option<Tracer> {
    if !options.requests || !options.candidates.iter().any(|candidate| candidate.kind.is_fuse()) {
        return None;
    }
    match Tracer::new(stage.path()) {
        Ok(tracer) => Some(tracer),
        Err(error) => {
            results.notes.push(format!("requests are not counted: {error:#}"));
            None
        }
    }
}

/// One line on a terminal that is written over; nothing else.
fn progress(text: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        // A terminal that cannot be written to has nobody watching.
        drop(write!(err, "\r\x1b[K{text}"));
        drop(err.flush());
    }
}

impl Runner<'_> {
    fn work(&mut self, layers: usize, work: &Work) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.stage.warm(layers, work.parts)?;
        let once = [1];
        let threads = if work.threaded { &self.options.threads[..] } else { &once[..] };
        for (at, threads) in threads.iter().enumerate() {
            let mut able = self.able(layers, *threads, work);
            if at == 0 && self.tracer.is_some() && work.only != Only::Servers {
                for candidate in able.clone() {
                    if self.options.candidates[candidate].kind.is_fuse() {
                        self.turn(layers, *threads, work, candidate, None, &mut able);
                    }
                }
            }
            let rounds = if work.only == Only::Servers { 1 } else { self.options.rounds };
            for round in 0..rounds {
                let mut order = able.clone();
                let by = round % order.len().max(1);
                order.rotate_left(by);
                for candidate in order {
                    self.turn(layers, *threads, work, candidate, Some(round), &mut able);
                }
            }
        }
        if work.only == Only::Root {
            self.stage.warm(layers, work.parts)?;
        }
        Ok(())
    }

    /// The candidates that can do this work; the cells of the others get their reason.
    fn able(&mut self, layers: usize, threads: usize, work: &Work) -> Vec<usize> {
        let mut able = Vec::new();
        for (at, candidate) in self.options.candidates.iter().enumerate() {
            let why = match (work.only, candidate.kind) {
                (Only::Mounts | Only::Servers, Kind::Plain) => {
                    Some("a plain directory is not mounted".to_owned())
                }
                (Only::Servers, Kind::Overlay) => Some("the kernel serves it".to_owned()),
                (Only::Root, _) if !self.programs.root() => Some("dropping the caches needs root".to_owned()),
                _ => self.programs.missing(candidate),
            };
            match why {
                None => able.push(at),
                Some(why) => self.mark(layers, threads, work, at, Trouble::Unavailable(why)),
            }
        }
        able
    }

    /// One bout; `round` is none if requests are counted. A candidate that fails leaves this work.
    fn turn(
        &mut self,
        layers: usize,
        threads: usize,
        work: &Work,
        candidate: usize,
        round: Option<usize>,
        able: &mut Vec<usize>,
    ) {
        if self.stop.load(Ordering::Relaxed) || !able.contains(&candidate) {
            return;
        }
        let who = &self.options.candidates[candidate];
        let what = round.map_or("counting".to_owned(), |round| format!("round {}", round + 1));
        progress(&format!("{layers} layers, {threads} threads, {}, {what}, {who}", work.name));
        self.bouts += 1;
        let (told, outcome) = self.bout(layers, threads, work, who, round.is_none());
        let key = |row| Key { layers, threads, row, candidate };
        for (row, value) in &told.samples {
            self.results.cells.entry(key(*row)).or_default().samples.push(*value);
        }
        for (row, counts) in told.requests {
            self.results.requests.insert(key(row), counts);
        }
        for (row, why) in told.lacks {
            self.results.mark(key(row), Trouble::Unavailable(why));
        }
        self.results.idle.extend(told.idle.into_iter().map(|idle| (layers, candidate, idle)));
        if let Err(error) = outcome {
            able.retain(|other| *other != candidate);
            self.failed(key, work, told.last, &format!("{error:#}"));
        }
    }

    fn bout(
        &self,
        layers: usize,
        threads: usize,
        work: &Work,
        candidate: &Candidate,
        count: bool,
    ) -> (Told, Result<()>) {
        let mounted = match candidate.kind {
            Kind::Plain => None,
            _ => {
                let base = self.stage.path().join(format!("b{}", self.bouts));
                match Mounted::new(candidate, self.programs, &self.stage.layers(layers), base) {
                    Ok(mounted) => Some(mounted),
                    Err(error) => return (Told::default(), Err(error)),
                }
            }
        };
        // What the bout before left dirty must not be written in this one's time.
        if let Ok(dir) = std::fs::File::open(self.stage.path()) {
            rustix::fs::syncfs(&dir).unwrap_or_default();
        }
        let watchdog = mounted.as_ref().map(|mounted| Watchdog::new(mounted, PATIENCE));
        let tracer = self.tracer.as_ref().filter(|_| count);
        let nonce = format!("{}", self.bouts);
        let (told, outcome) = match Bout::new(self.stage, mounted.as_ref(), threads, nonce, tracer) {
            Err(error) => (Told::default(), Err(error)),
            Ok(mut bout) => {
                let outcome = (work.run)(&mut bout);
                (bout.told, outcome)
            }
        };
        drop(watchdog);
        let closed = mounted.map_or(Ok(()), Mounted::close);
        (told, outcome.and(closed))
    }

    /// The row begun last failed, and those after it were not reached.
    fn failed(
        &mut self,
        key: impl Fn(&'static str) -> Key,
        work: &Work,
        last: Option<&'static str>,
        why: &str,
    ) {
        let first = last.and_then(|last| work.rows.iter().position(|row| *row == last)).unwrap_or(0);
        for (at, row) in work.rows.iter().enumerate().skip(first) {
            let text = if at == first { why.to_owned() } else { format!("not reached: {why}") };
            self.results.mark(key(row), Trouble::Failed(text));
        }
        if work.rows.is_empty() {
            let who = &self.results.candidates[key("").candidate];
            self.results.notes.push(format!("{}, {who}: {why}", work.name));
        }
    }

    fn mark(&mut self, layers: usize, threads: usize, work: &Work, candidate: usize, trouble: Trouble) {
        for row in work.rows {
            self.results.mark(Key { layers, threads, row, candidate }, trouble.clone());
        }
    }
}
