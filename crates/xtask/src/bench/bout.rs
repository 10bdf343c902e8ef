//! A bout: one candidate's turn at one work, on a mount of its own. The work gets the root of its tree, and tells what
//! took how long; a bout that counts requests does the same and keeps no times.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};

use super::idle::Idle;
use super::mounts::Mounted;
use super::requests::{Counts, Tracer};
use super::stage::Stage;

/// What a work sees and says.
#[derive(Debug)]
pub(crate) struct Bout<'a> {
    /// The union, or the plain directory.
    pub(crate) root: PathBuf,
    pub(crate) stage: &'a Stage,
    /// `None` for the plain directory.
    pub(crate) mounted: Option<&'a Mounted>,
    /// Client threads of the micro operations.
    pub(crate) threads: usize,
    /// A word that no other bout of the run has: for names never looked up before.
    pub(crate) nonce: String,
    tracer: Option<(&'a Tracer, u32)>,
    pub(crate) told: Told,
}

/// The outcome of a bout, by row.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) samples: BTreeMap<&'static str, f64>,
    pub(crate) requests: BTreeMap<&'static str, Counts>,
    pub(crate) idle: Vec<Idle>,
    /// Rows that the candidate does not have, and why.
    pub(crate) lacks: Vec<(&'static str, String)>,
    /// The row begun last: an error belongs to it.
    pub(crate) last: Option<&'static str>,
}

impl<'a> Bout<'a> {
    /// `tracer` makes it one that counts.
    pub(crate) fn new(
        stage: &'a Stage,
        mounted: Option<&'a Mounted>,
        threads: usize,
        nonce: String,
        tracer: Option<&'a Tracer>,
    ) -> Result<Bout<'a>> {
        let root = mounted.map_or_else(|| stage.plain(), Mounted::dir);
        let tracer = match (tracer, mounted) {
            (Some(tracer), Some(mounted)) => Some((tracer, mounted.connection()?)),
            _ => None,
        };
        Ok(Bout { root, stage, mounted, threads, nonce, tracer, told: Told::default() })
    }

    /// An empty directory in the upper layer, for what a work makes.
    pub(crate) fn fresh_dir(&self) -> Result<PathBuf> {
        let dir = self.root.join(format!("made-{}", self.nonce));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Times `body`, in seconds.
    pub(crate) fn time<T>(&mut self, row: &'static str, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.told.last = Some(row);
        self.start()?;
        let start = Instant::now();
        let outcome = body();
        let seconds = start.elapsed().as_secs_f64();
        self.stop(row)?;
        let value = outcome?;
        self.record(row, seconds);
        Ok(value)
    }

    /// Times `body` on every client thread at once; it returns how many operations it did. The sample is wall time by
    /// all operations in microseconds: with perfect scaling, that of one thread by the number of threads.
    pub(crate) fn time_each(
        &mut self,
        row: &'static str,
        body: impl Fn(usize) -> Result<u64> + Sync,
    ) -> Result<()> {
        self.told.last = Some(row);
        self.start()?;
        let outcome = if self.threads == 1 { timed(&body, 0) } else { together(self.threads, &body) };
        self.stop(row)?;
        let (start, end, count) = outcome?;
        self.record(row, (end - start).as_secs_f64() * 1e6 / count.max(1) as f64);
        Ok(())
    }

    /// Keeps a sample that was measured elsewhere.
    pub(crate) fn record(&mut self, row: &'static str, value: f64) {
        self.told.last = Some(row);
        if self.tracer.is_none() {
            self.told.samples.insert(row, value);
        }
    }

    /// The candidate has no such thing; the work goes on.
    pub(crate) fn lacks(&mut self, row: &'static str, why: &str) {
        self.told.lacks.push((row, why.to_owned()));
    }

    fn start(&self) -> Result<()> {
        self.tracer.map_or(Ok(()), |(tracer, connection)| tracer.start(connection))
    }

    fn stop(&mut self, row: &'static str) -> Result<()> {
        if let Some((tracer, _)) = self.tracer {
            self.told.requests.insert(row, tracer.stop()?);
        }
        Ok(())
    }
}

/// Begin, end and number of operations of one client.
fn timed(body: &(impl Fn(usize) -> Result<u64> + Sync), client: usize) -> Result<(Instant, Instant, u64)> {
    let start = Instant::now();
    let count = body(client)?;
    Ok((start, Instant::now(), count))
}

/// The same of all clients, let go at once: the first begin, the last end, the sum. Their own clocks count: the thread that
/// waits for them may run last.
fn together(
    clients: usize,
    body: &(impl Fn(usize) -> Result<u64> + Sync),
) -> Result<(Instant, Instant, u64)> {
    let gate = Barrier::new(clients);
    let times: Vec<_> = thread::scope(|scope| {
        let start = |client| {
            let gate = &gate;
            scope.spawn(move || {
                gate.wait();
                timed(body, client)
            })
        };
        let all: Vec<_> = (0..clients).map(start).collect();
        let join = |client: thread::ScopedJoinHandle<'_, Result<_>>| {
            client.join().map_err(|_| anyhow!("a client thread panicked"))?
        };
        all.into_iter().map(join).collect::<Result<_>>()
    })?;
    let merge =
        |a: (Instant, Instant, u64), b: (Instant, Instant, u64)| (a.0.min(b.0), a.1.max(b.1), a.2 + b.2);
    times.into_iter().reduce(merge).ok_or_else(|| anyhow!("no client"))
}
