//! Requests that come by io_uring: a queue per processor, and threads that serve one entry each.
//!
//! The kernel puts a request into the queue of the processor where it was made, so its answer is made there as well.
//! Of a queue's free entries it takes the one used last: the second thread of a queue works only while the
//! first is busy. FORGET, INTERRUPT and notifications keep going through /dev/fuse, which
//! `crate::workers` goes on serving. Not here: the ring itself ([`plyfs_sys::uring`]).

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use plyfs_sys::uring::{self, Came, End, Entry};
use plyfs_sys::{Errno, SysError};
use tracing::{debug, error, warn};
use zerocopy::IntoBytes;

use crate::filesystem::Filesystem;
use crate::reply::{self, Reply};
use crate::session::{Config, Shared};

/// Threads per queue, at least: one slow request must not hold up all others of its processor.
const LEAST_PER_QUEUE: usize = 2;

/// Everything that the transport needs, made before it is agreed on.
#[derive(Debug)]
pub(crate) struct Rings {
    /// With the queue that each is for.
    entries: Vec<(u16, Entry)>,
    end: Arc<End>,
}

/// Threads that serve entries.
#[derive(Debug)]
pub(crate) struct ByRing {
    end: Arc<End>,
    threads: Vec<JoinHandle<()>>,
}

/// Makes the rings; where they can't be had, says why and how to change it.
pub(crate) fn prepare(config: &Config) -> Option<Rings> {
    if !is_allowed() {
        return None;
    }
    make(config).inspect_err(|error| warn!("io_uring is not used, the mount works without it: {error}")).ok()
}

fn is_allowed() -> bool {
    let on = uring::is_switched_on();
    match on {
        Some(true) => {}
        Some(false) => warn!(
            "io_uring is not used, the mount works without it: the kernel has it switched off for FUSE; \
             to allow it, as root before mounting: echo Y > {}",
            uring::SWITCH
        ),
        None => warn!(
            "io_uring is not used, the mount works without it: this kernel has no FUSE over io_uring \
             (Linux 6.14 or later, CONFIG_FUSE_IO_URING)"
        ),
    }
    on == Some(true)
}

fn make(config: &Config) -> Result<Rings, SysError> {
    let queues = uring::queues();
    let each = config.max_workers.div_ceil(queues.into()).max(LEAST_PER_QUEUE);
    let payload = reply::room(config.max_write);
    let queue_of_each = (0..queues).flat_map(|queue| std::iter::repeat_n(queue, each));
    let entries = queue_of_each.map(|queue| Ok((queue, Entry::new(payload)?))).collect::<Result<_, _>>()?;
    Ok(Rings { entries, end: Arc::new(End::new()?) })
}

/// Starts serving. INIT must have agreed on it: until every queue has an entry, no request comes at all.
pub(crate) fn serve<F: Filesystem>(rings: Rings, shared: &Arc<Shared<F>>) -> ByRing {
    let Rings { entries, end } = rings;
    let mut threads = Vec::with_capacity(entries.len());
    for (queue, entry) in entries {
        let (theirs, ending) = (Arc::clone(shared), Arc::clone(&end));
        let name = format!("plyfs-ring-{queue}");
        match thread::Builder::new().name(name).spawn(move || thread_of(&theirs, queue, entry, &ending)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                warn!("no further thread for io_uring: {error}");
                do_without(shared);
                break;
            }
        }
    }
    ByRing { end, threads }
}

/// Nobody would be answered while the kernel waits for entries that will not come.
fn do_without<F>(shared: &Shared<F>) {
    let refused = Entry::new(0).and_then(|entry| entry.refuse(&shared.device));
    if let Err(error) = refused {
        error!("the kernel could not be told to go on without io_uring: {error}");
    }
}

impl ByRing {
    /// Ends the threads, also those that the kernel did not tell of the end.
    pub(crate) fn end(self) {
        if let Err(error) = self.end.tell() {
            error!("threads may be left: {error}");
        }
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a thread that served io_uring panicked");
            }
        }
    }
}

fn thread_of<F: Filesystem>(shared: &Shared<F>, queue: u16, mut entry: Entry, end: &End) {
    if let Err(error) = uring::stay_on(queue) {
        // Offline, or not for us: any other does as well.
        debug!(queue, "{error}");
    }
    if let Err(error) = entry.begin(&shared.device, queue, end) {
        error!(queue, "no io_uring entry: {error}");
        return do_without(shared);
    }
    match serve_entry(shared, &mut entry) {
        Ok(()) => {}
        Err(error) if is_end(error.errno()) => debug!(queue, "the connection has ended"),
        Err(error) => error!(queue, "an io_uring entry is out of use: {error}"),
    }
}

fn is_end(errno: Errno) -> bool {
    matches!(errno, Errno::NOTCONN | Errno::CONNABORTED | Errno::NODEV | Errno::CANCELED)
}

fn serve_entry<F: Filesystem>(shared: &Shared<F>, entry: &mut Entry) -> Result<(), SysError> {
    // For answers to requests that fill the ring's memory themselves: what is written, names. These are short.
    let mut spare = vec![0; reply::room(0)];
    while entry.wait()? == Came::Request {
        let (request, place) = entry.parts();
        let in_place = !place.is_empty();
        let body = if in_place { place } else { &mut spare[..] };
        let Some((unique, answer)) = shared.answer_raw(request, body) else {
            continue;
        };
        let sent = if let (true, Ok(Reply::Body(length))) = (in_place, &answer) {
            entry.reply_in_place(reply::header(unique, *length, None).as_bytes(), *length)
        } else {
            let (head, bytes) = reply::parts(unique, &answer, &spare);
            entry.reply(head.as_bytes(), bytes)
        };
        if let Err(error) = sent {
            error!(unique, "a reply was refused: {error}");
            let eio = reply::header(unique, 0, Some(Errno::IO));
            entry.reply(eio.as_bytes(), &[])?;
        }
    }
    Ok(())
}
