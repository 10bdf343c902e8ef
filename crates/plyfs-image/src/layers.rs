//! The layers of one image: filled at the same time, each in a draft of its own, committed from the bottom up.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use plyfs_store::intent::Intent;
use plyfs_store::layers::LayerDraft;
use plyfs_store::{ChainId, DiffId, Digest, Store};

use crate::error::{Error, Result};
use crate::fill::{Below, Filled, Height, fill};
use crate::limits::Limits;
use crate::progress::{Cancel, LayerState};
use crate::unpack::Lower;
use crate::work::{Work, check_diff};

/// Where an image's layers come from. Asked from several threads.
pub(crate) trait Blobs: Sync {
    /// Short, for people.
    fn name(&self, layer: usize) -> String;

    /// The blob, compressed or not.
    fn open(&self, layer: usize) -> Result<Box<dyn Read + Send + '_>>;

    /// What the blob must hash to, if that is known.
    fn digest(&self, layer: usize) -> Option<Digest>;

    /// The layer could not be filled. `true`: it came from a stale copy, which was thrown away; it is worth another try.
    fn is_stale(&self, _layer: usize) -> bool {
        false
    }
}

/// A layer that was filled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brought {
    /// Counted from the bottom.
    pub(crate) layer: usize,
    /// Of its blob, as it came.
    pub(crate) digest: Digest,
}

/// Brings the stack `diffs` (bottom first) into the store; layers that are there are left alone. Answers which blobs
/// were used. Whatever fails: `intent` undoes.
pub(crate) fn bring(
    work: &Work<'_>,
    intent: &Intent,
    diffs: &[DiffId],
    blobs: &dyn Blobs,
) -> Result<Vec<Brought>> {
    let chains = ChainId::each(diffs);
    let first = find_missing(work, intent, &chains, blobs)?;
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(first));
    let height = Height::new(first);
    let (tell, told) = mpsc::channel();
    let job = Job {
        store: work.store,
        limits: work.limits,
        cancel: work.cancel,
        stop: &stop,
        next: &next,
        intent,
        diffs,
        chains: &chains,
        height: &height,
        blobs,
        spoilt: Mutex::default(),
    };
    for layer in first..diffs.len() {
        work.tell(layer, &blobs.name(layer), LayerState::Waiting);
    }
    let brought = thread::scope(|scope| {
        for _ in 0..work.jobs.clamp(1, 64).min(diffs.len() - first) {
            let (job, tell) = (&job, tell.clone());
            scope.spawn(move || job.run(&tell));
        }
        drop(tell);
        let mut commits = Commits::new(work, &job, first);
        let mut brought = Vec::new();
        let mut failed = None;
        for (layer, filled) in told {
            let done = match filled {
                Ok(filled) if failed.is_none() => {
                    brought.push(Brought { layer, digest: filled.1.digest });
                    commits.add(layer, filled)
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                stop.store(true, SeqCst);
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(brought), Err)
    })?;
    for draft in job.spoilt.into_inner().unwrap_or_else(PoisonError::into_inner) {
        work.store.drop_draft(draft, work.mounter)?;
    }
    Ok(brought)
}

/// The lowest layer that is not there. From here on the intent keeps those below.
fn find_missing(work: &Work<'_>, intent: &Intent, chains: &[ChainId], blobs: &dyn Blobs) -> Result<usize> {
    for (layer, chain) in chains.iter().enumerate() {
        if work.store.use_layer(intent, chain)?.is_none() {
            return Ok(layer);
        }
        work.tell(layer, &blobs.name(layer), LayerState::AlreadyExists);
    }
    Ok(chains.len())
}

/// What the threads that fill share.
struct Job<'a> {
    store: &'a Store,
    limits: &'a Limits,
    cancel: &'a Cancel,
    stop: &'a AtomicBool,
    next: &'a AtomicUsize,
    intent: &'a Intent,
    diffs: &'a [DiffId],
    chains: &'a [ChainId],
    height: &'a Height,
    blobs: &'a dyn Blobs,
    /// Drafts that were filled from stale copies.
    spoilt: Mutex<Vec<LayerDraft>>,
}

type Told = (usize, Result<(LayerDraft, Filled)>);

impl Job<'_> {
    fn run(&self, tell: &Sender<Told>) {
        loop {
            let layer = self.next.fetch_add(1, SeqCst);
            if layer >= self.diffs.len() || self.is_over() {
                return;
            }
            // Nobody listens only when the main thread has panicked.
            if tell.send((layer, self.fill(layer))).is_err() {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(SeqCst) || self.cancel.is_cancelled()
    }

    fn fill(&self, layer: usize) -> Result<(LayerDraft, Filled)> {
        let draft = self.store.draft_layer(self.intent)?;
        match self.fill_draft(&draft, layer) {
            Err(error) if !self.is_over() && is_about_content(&error) && self.blobs.is_stale(layer) => {
                self.spoilt.lock().unwrap_or_else(PoisonError::into_inner).push(draft);
                let draft = self.store.draft_layer(self.intent)?;
                self.fill_draft(&draft, layer).map(|filled| (draft, filled))
            }
            filled => filled.map(|filled| (draft, filled)),
        }
    }

    fn fill_draft(&self, draft: &LayerDraft, layer: usize) -> Result<Filled> {
        self.cancel.check()?;
        let name = self.blobs.name(layer);
        let blob = Stoppable { inner: self.blobs.open(layer)?, job: self };
        let is_over = || self.is_over();
        let below = layer.checked_sub(1).map(|below| Below {
            store: self.store,
            chain: self.chains[below],
            layers: layer,
            height: self.height,
            is_over: &is_over,
            union: OnceLock::new(),
        });
        let lower = below.as_ref().map(|below| below as &dyn Lower);
        let filled = fill(draft, blob, self.limits, lower, &name)?;
        if let Some(wanted) = self.blobs.digest(layer).filter(|wanted| *wanted != filled.digest) {
            return Err(Error::WrongDigest { what: format!("layer {name}"), wanted, found: filled.digest });
        }
        check_diff(self.diffs[layer], filled.diff).map_err(|error| Error::layer(name, error))?;
        Ok(filled)
    }
}

/// The blob itself is to blame, not the disk or the layers below.
fn is_about_content(error: &Error) -> bool {
    use crate::unpack::Error as Unpack;
    match error {
        Error::WrongDigest { .. } => true,
        Error::Layer { source, .. } => match source.downcast_ref::<Unpack>() {
            Some(Unpack::Sys { .. } | Unpack::Record(_) | Unpack::Lower { .. }) => false,
            Some(_) => true,
            None => matches!(
                source.downcast_ref::<Error>(),
                Some(Error::Store(plyfs_store::Error::WrongDiff { .. }))
            ),
        },
        _ => false,
    }
}

/// A reader that ends with an error when its work is not wanted any more.
struct Stoppable<'a, R> {
    inner: R,
    job: &'a Job<'a>,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.job.is_over() {
            return Err(io::Error::other("not wanted any more"));
        }
        self.inner.read(buf)
    }
}

/// Layers that are filled, committed as soon as those below are.
struct Commits<'a> {
    work: &'a Work<'a>,
    job: &'a Job<'a>,
    next: usize,
    ready: BTreeMap<usize, (LayerDraft, Filled)>,
}

impl<'a> Commits<'a> {
    fn new(work: &'a Work<'a>, job: &'a Job<'a>, next: usize) -> Commits<'a> {
        Commits { work, job, next, ready: BTreeMap::new() }
    }

    fn add(&mut self, layer: usize, filled: (LayerDraft, Filled)) -> Result<()> {
        let (work, job) = (self.work, self.job);
        work.tell(layer, &job.blobs.name(layer), LayerState::Unpacked);
        self.ready.insert(layer, filled);
        while let Some((draft, filled)) = self.ready.remove(&self.next) {
            work.cancel.check()?;
            let parent = self.next.checked_sub(1).map(|below| job.chains[below]);
            let diff = job.diffs[self.next];
            work.store.commit_layer(job.intent, draft, parent, diff, filled.size, work.mounter)?;
            work.tell(self.next, &job.blobs.name(self.next), LayerState::Complete);
            self.next += 1;
            job.height.reach(self.next);
        }
        Ok(())
    }
}
