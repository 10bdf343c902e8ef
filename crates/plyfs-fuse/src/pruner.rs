//! `Pruner`: asks the kernel to let go of nodes when there are too many.
//!
//! By a thread of its own, which is there only while there are too many: forgetting a name waits for the directory's
//! lock, which a request may hold that is being answered. Which nodes: `plyfs_union::Cold`. How the kernel is asked:
//! [`Notifier::prune`] (Linux 6.18), by which it gives up what nobody uses and nothing else; before that, by forgetting
//! names of files that are not open.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use plyfs_union::{Cold, Union};
use plyfs_wire::Notifier;
use tracing::{debug, warn};

/// Asked for at a time, at least: a walk brings the next ones soon.
const BATCH: usize = 1024;
/// Rounds without any success before giving up for a while.
const ROUNDS: u32 = 4;
/// That while.
const PAUSE: Duration = Duration::from_secs(1);
/// The kernel's forgets are requests: so long they may take to arrive.
const ARRIVE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pruner {
    union: Arc<Union>,
    notifier: OnceLock<Notifier>,
    running: AtomicBool,
    ended: AtomicBool,
    not_before: Mutex<Option<Instant>>,
}

impl Pruner {
    pub(crate) fn new(union: Arc<Union>) -> Arc<Pruner> {
        Arc::new(Pruner {
            union,
            notifier: OnceLock::new(),
            running: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            not_before: Mutex::new(None),
        })
    }

    /// The connection to ask by.
    pub(crate) fn connect(&self, notifier: Notifier) {
        // There is one connection in a skin's life.
        self.notifier.get_or_init(|| notifier);
    }

    /// The connection has ended.
    pub(crate) fn end(&self) {
        self.ended.store(true, SeqCst);
    }

    /// Looks whether there is work, and starts the thread that does it.
    pub(crate) fn tick(self: &Arc<Pruner>) {
        if self.union.surplus_nodes() == 0 || self.running.load(SeqCst) {
            return;
        }
        if self.not_before.lock().is_some_and(|then| Instant::now() < then) || self.running.swap(true, SeqCst)
        {
            return;
        }
        let this = Arc::clone(self);
        let started =
            thread::Builder::new().name("plyfs-pruner".into()).stack_size(128 << 10).spawn(move || {
                let done = this.run();
                *this.not_before.lock() = (!done).then(|| Instant::now() + PAUSE);
                this.running.store(false, SeqCst);
            });
        if let Err(error) = started {
            debug!("no thread to let go of nodes with: {error}");
            self.running.store(false, SeqCst);
        }
    }

    /// Whether there are few enough now.
    fn run(&self) -> bool {
        let Some(notifier) = self.notifier.get() else { return false };
        let mut fruitless = 0;
        while fruitless < ROUNDS && !self.ended.load(SeqCst) {
            let before = self.union.surplus_nodes();
            if before == 0 {
                return true;
            }
            let cold = self.union.cold_nodes(before.max(BATCH));
            match ask(notifier, &cold) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    warn!("the kernel keeps more names than it should: {error}");
                    return false;
                }
            }
            let asked = Instant::now();
            while self.union.surplus_nodes() >= before && asked.elapsed() < ARRIVE {
                thread::sleep(Duration::from_millis(1));
            }
            fruitless = if self.union.surplus_nodes() < before { 0 } else { fruitless + 1 };
        }
        self.union.surplus_nodes() == 0
    }
}

/// False: nobody is there any more.
fn ask(notifier: &Notifier, cold: &[Cold]) -> Result<bool, plyfs_sys::SysError> {
    if notifier.can_prune() {
        let nodes: Vec<u64> = cold.iter().map(|one| one.ino.0).collect();
        return notifier.prune(&nodes);
    }
    by_name(notifier, cold)
}

fn by_name(notifier: &Notifier, cold: &[Cold]) -> Result<bool, plyfs_sys::SysError> {
    for (parent, name) in cold.iter().flat_map(|one| &one.names) {
        // False: the kernel had let go of the name itself.
        notifier.inval_entry(parent.0, name)?;
    }
    Ok(true)
}
