//! How many threads serve: one, and more only while one is not enough.
//!
//! A second thread costs a single client dearly (its requests change processors), so none is added because a request
//! came, but because requests *stay* waiting while all workers are at work. An *usher* thread looks every tick
//! while there is traffic; it and the extra workers leave when they were not needed for a while, so an idle
//! mount has one thread. Not here: what serving is (`crate::session`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use plyfs_sys::SysError;
use plyfs_sys::dev::{Device, Waiter};
use tracing::{debug, error};

use crate::filesystem::Filesystem;
use crate::session::{Buffers, Shared, Taken, take};

/// How often the usher looks.
const TICK: Duration = Duration::from_millis(2);
/// So many looks in a row must find requests waiting and nobody free before a worker is added.
const LOOKS: u32 = 2;
/// So many looks without any request, and the usher leaves.
const QUIET_LOOKS: u32 = 250;
/// After so long without a request, the first worker gives large buffers back.
const CALM: Duration = Duration::from_secs(1);
/// An extra worker leaves when it was not needed for so long.
const UNNEEDED: Duration = Duration::from_secs(2);

/// Who is at work.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Extra workers alive.
    extra: AtomicUsize,
    /// Workers answering a request now, the first one included.
    busy: AtomicUsize,
    /// Requests taken so far.
    taken: AtomicU64,
    /// An usher is there.
    usher: AtomicBool,
    /// The connection has ended.
    ended: AtomicBool,
}

impl Load {
    fn workers(&self) -> usize {
        1 + self.extra.load(SeqCst)
    }
}

/// Serves on this thread until the connection ends. What else uses `shared` may still be at work then.
pub(crate) fn run<F: Filesystem>(shared: &Arc<Shared<F>>) -> Result<(), SysError> {
    // Also a mount that nobody asks is idle in a while, and what starting took goes.
    ensure_usher(shared);
    let mut buffers = Buffers::new(shared.agreed.max_write);
    let result = loop {
        if buffers.grown && !shared.device.wait(CALM)? {
            buffers = Buffers::new(shared.agreed.max_write);
            shared.fs.idle();
        }
        match take(&shared.device, &mut buffers) {
            Ok(Taken::Request(length)) => {
                ensure_usher(shared);
                serve(shared, &shared.device, &mut buffers, length);
            }
            Ok(Taken::Nothing) => shared.fs.interrupted(),
            Ok(Taken::Ended) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    shared.load.ended.store(true, SeqCst);
    result
}

/// Waits for the extra workers, who see the end at their device, and for the usher, who does at its next tick. It lets
/// the caller take the file system apart when this returns.
pub(crate) fn wait_for_all<F>(shared: &Arc<Shared<F>>) {
    while Arc::strong_count(shared) > 1 {
        thread::sleep(TICK);
    }
}

fn serve<F: Filesystem>(shared: &Shared<F>, device: &Device, buffers: &mut Buffers, length: usize) {
    shared.load.taken.fetch_add(1, SeqCst);
    shared.load.busy.fetch_add(1, SeqCst);
    shared.serve(device, buffers, length);
    shared.load.busy.fetch_sub(1, SeqCst);
}

/// Starts the usher if there is none: traffic has begun.
fn ensure_usher<F: Filesystem>(shared: &Arc<Shared<F>>) {
    if shared.load.usher.load(SeqCst) || shared.load.usher.swap(true, SeqCst) {
        return;
    }
    let theirs = Arc::clone(shared);
    let started = thread::Builder::new().name("plyfs-usher".into()).stack_size(128 << 10).spawn(move || {
        let guard = Leave(|| theirs.load.usher.store(false, SeqCst));
        usher(&theirs);
        drop(guard);
    });
    if let Err(error) = started {
        debug!("no thread to watch the load: {error}");
        shared.load.usher.store(false, SeqCst);
    }
}

fn usher<F: Filesystem>(shared: &Arc<Shared<F>>) {
    let load = &shared.load;
    let (mut waiting, mut quiet, mut seen) = (0, 0, load.taken.load(SeqCst));
    while !load.ended.load(SeqCst) && quiet < QUIET_LOOKS {
        thread::sleep(TICK);
        shared.fs.tick();
        let taken = load.taken.load(SeqCst);
        let all_busy = load.busy.load(SeqCst) >= load.workers();
        quiet = if taken == seen && !all_busy { quiet + 1 } else { 0 };
        seen = taken;
        let stuck = all_busy && shared.device.has_pending().unwrap_or(false);
        waiting = if stuck { waiting + 1 } else { 0 };
        if waiting >= LOOKS && load.workers() < shared.config.max_workers.max(2) {
            waiting = 0;
            add_worker(shared);
        }
    }
    if !load.ended.load(SeqCst) {
        shared.fs.idle();
    }
}

fn add_worker<F: Filesystem>(shared: &Arc<Shared<F>>) {
    shared.load.extra.fetch_add(1, SeqCst);
    let theirs = Arc::clone(shared);
    let started = thread::Builder::new().name("plyfs-worker".into()).spawn(move || {
        let guard = Leave(|| {
            theirs.load.extra.fetch_sub(1, SeqCst);
        });
        if let Err(error) = extra_worker(&theirs) {
            error!("a worker thread gave up: {error}");
        }
        // Its memory is free now, and the usher may have left before.
        theirs.fs.idle();
        drop(guard);
    });
    if let Err(error) = started {
        debug!("no thread for a further worker: {error}");
        shared.load.extra.fetch_sub(1, SeqCst);
    }
}

/// Serves on a description of its own, so that it can stop waiting.
fn extra_worker<F: Filesystem>(shared: &Shared<F>) -> Result<(), SysError> {
    let Ok(device) = shared.device.clone_nonblocking() else {
        return helper_worker(shared);
    };
    let waiter = Waiter::new(&device)?;
    let mut buffers = Buffers::new(shared.agreed.max_write);
    let mut needed = Instant::now();
    while needed.elapsed() < UNNEEDED {
        match take(&device, &mut buffers)? {
            Taken::Request(length) => {
                serve(shared, &device, &mut buffers, length);
                // Needed is who finds all others at work when it is done itself.
                if shared.load.busy.load(SeqCst) + 1 >= shared.load.workers() {
                    needed = Instant::now();
                }
            }
            Taken::Ended => return Ok(()),
            Taken::Nothing => {
                waiter.wait(UNNEEDED)?;
            }
        }
    }
    // A request wakes one waiter only. If that was this one, at its last moment, nobody else would ever look: so
    // it stops being woken first, and takes what is there after that.
    drop(waiter);
    while let Taken::Request(length) = take(&device, &mut buffers)? {
        serve(shared, &device, &mut buffers, length);
    }
    Ok(())
}

/// Where /dev/fuse cannot be opened again (fusermount3 opened it for us): serves on the first description while
/// requests wait there, and leaves as soon as none does.
fn helper_worker<F: Filesystem>(shared: &Shared<F>) -> Result<(), SysError> {
    let mut buffers = Buffers::new(shared.agreed.max_write);
    while shared.device.has_pending()? {
        match take(&shared.device, &mut buffers)? {
            Taken::Request(length) => serve(shared, &shared.device, &mut buffers, length),
            Taken::Nothing => {}
            Taken::Ended => return Ok(()),
        }
    }
    Ok(())
}

/// Runs its closure when dropped: also when the thread panics.
struct Leave<A: FnMut()>(A);

impl<A: FnMut()> Drop for Leave<A> {
    fn drop(&mut self) {
        (self.0)();
    }
}
