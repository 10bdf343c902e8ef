//! A session: INIT, then requests read, answered and replied to until the connection ends.
//!
//! Not here: how many threads do so (`crate::workers`), what INIT agrees ([`crate::init`]), mounting
//! ([`crate::mount()`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use plyfs_sys::dev::Device;
use plyfs_sys::{Errno, SysError};
use tracing::{debug, error, warn};

use crate::backing::Backings;
use crate::dispatch::dispatch;
use crate::filesystem::{Answer, Filesystem};
use crate::init::{Agreed, Readdirplus, Verdict, Wishes, negotiate};
use crate::messages::flags::InitFlags;
use crate::messages::{HEADROOM, opcode};
use crate::notify::Notifier;
use crate::reply::{self, Reply};
use crate::request::{Body, Dialect, DirOp, FileOp, Malformed, Request, parse};
use crate::uring::{self, Rings};
use crate::workers;

/// How a session is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Worker threads under load; at least 2.
    pub max_workers: usize,
    /// Bytes per WRITE and READ.
    pub max_write: u32,
    /// Entries in listings.
    pub readdirplus: Readdirplus,
    /// OPENDIR is answered with ENOSYS: the kernel opens directories by itself and keeps their listings.
    pub no_opendir: bool,
    /// Files may be given to the kernel to read and write by itself.
    pub passthrough: bool,
    /// Whether the kernel is to check POSIX ACLs.
    pub posix_acl: bool,
    /// Requests that the kernel may send ahead.
    pub max_background: u16,
    /// `allow_root`: only this user and root are answered, others get EACCES.
    pub only_for: Option<u32>,
    /// Requests come by io_uring where the kernel allows it; more threads then wait.
    pub io_uring: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_workers: 4,
            max_write: 1 << 20,
            readdirplus: Readdirplus::Always,
            no_opendir: false,
            passthrough: false,
            posix_acl: true,
            max_background: 64,
            only_for: None,
            io_uring: false,
        }
    }
}

/// Why a session ended other than by unmounting, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The device failed.
    #[error("the connection to the kernel failed: {0}")]
    Device(#[from] SysError),
    /// The kernel's FUSE is older than 7.31 (Linux 5.4).
    #[error("this kernel's FUSE is too old: Linux 5.4 or later is needed")]
    KernelTooOld,
    /// Ended by force (`/sys/fs/fuse/connections/N/abort`, `umount -f`); the dead mount is still there.
    #[error("the connection was aborted")]
    Aborted,
    /// What came first was not INIT.
    #[error("the kernel's first message is not INIT")]
    NoInit,
    /// Unmounted before the session began.
    #[error("unmounted before the session began")]
    Gone,
}

/// A connection whose INIT is answered.
#[derive(Debug)]
pub struct Session<F> {
    pub(crate) shared: Arc<Shared<F>>,
    rings: Option<Rings>,
}

/// What all workers use.
#[derive(Debug)]
pub(crate) struct Shared<F> {
    pub(crate) device: Arc<Device>,
    pub(crate) fs: F,
    pub(crate) config: Config,
    pub(crate) agreed: Agreed,
    pub(crate) load: workers::Load,
}

impl<F: Filesystem> Session<F> {
    /// Waits for INIT on a mounted device and answers it.
    pub fn start(device: Device, fs: F, config: Config) -> Result<Session<F>, SessionError> {
        // Before INIT: what is agreed there must not fail afterwards.
        let rings = if config.io_uring { uring::prepare(&config) } else { None };
        let agreed = handshake(&device, &config, rings.is_some())?;
        debug!(?agreed, "session begins");
        let rings = rings.filter(|_| agreed.io_uring());
        let load = workers::Load::default();
        let shared = Shared { device: Arc::new(device), fs, config, agreed, load };
        Ok(Session { shared: Arc::new(shared), rings })
    }

    /// The file system given to [`Session::start`].
    pub fn filesystem(&self) -> &F {
        &self.shared.fs
    }

    /// What INIT settled.
    pub fn agreed(&self) -> &Agreed {
        &self.shared.agreed
    }

    /// For telling the kernel of changes, from threads that answer no request.
    pub fn notifier(&self) -> Notifier {
        Notifier::new(Arc::clone(&self.shared.device), self.shared.agreed.minor)
    }

    /// For giving the kernel files to read and write by itself, if that was agreed.
    pub fn backings(&self) -> Option<Backings> {
        let agreed = self.shared.agreed.flags.contains(InitFlags::PASSTHROUGH);
        agreed.then(|| Backings::new(Arc::clone(&self.shared.device)))
    }

    /// Serves on this thread and as many more as the load wants, until the connection ends.
    pub fn run(self) -> Result<(), SessionError> {
        let by_ring = self.rings.map(|rings| uring::serve(rings, &self.shared));
        let result = workers::run(&self.shared);
        if let Some(by_ring) = by_ring {
            by_ring.end();
        }
        workers::wait_for_all(&self.shared);
        self.shared.fs.destroy();
        result.map_err(|error| match error.errno() {
            Errno::CONNABORTED => SessionError::Aborted,
            _ => SessionError::Device(error),
        })
    }
}

/// One worker's memory: the request as read, the reply's body as made.
pub(crate) struct Buffers {
    request: Vec<u8>,
    body: Vec<u8>,
    /// Much of them was used.
    pub(crate) grown: bool,
}

/// A buffer of which no more was used is not worth giving back.
const SMALL: usize = 64 << 10;

impl Buffers {
    pub(crate) fn new(max_write: u32) -> Buffers {
        // Zeroed by the allocator: pages never used cost nothing.
        let body = vec![0; reply::room(max_write)];
        Buffers { request: vec![0; HEADROOM + max_write as usize], body, grown: false }
    }
}

/// What became of an attempt to read a request.
pub(crate) enum Taken {
    /// A request of this many bytes is in the buffer.
    Request(usize),
    /// None now: interrupted, withdrawn, or (non-blocking) none there.
    Nothing,
    /// Unmounted.
    Ended,
}

pub(crate) fn take(device: &Device, buffers: &mut Buffers) -> Result<Taken, SysError> {
    match device.receive(&mut buffers.request) {
        Ok(0) => Ok(Taken::Ended),
        Ok(length) => Ok(Taken::Request(length)),
        Err(error) => match error.errno() {
            Errno::NODEV => Ok(Taken::Ended),
            // ENOENT: the request was withdrawn between being chosen and being copied.
            Errno::INTR | Errno::AGAIN | Errno::NOENT => Ok(Taken::Nothing),
            _ => Err(error),
        },
    }
}

impl<F: Filesystem> Shared<F> {
    /// Answers the request in the first `length` bytes of the buffer.
    pub(crate) fn serve(&self, device: &Device, buffers: &mut Buffers, length: usize) {
        let Buffers { request, body, grown } = buffers;
        let Some((unique, answer)) = self.answer_raw(&request[..length], body) else {
            return;
        };
        *grown |= length > SMALL || matches!(answer, Ok(Reply::Body(length)) if length > SMALL);
        if let Err(error) = reply::send(device, unique, &answer, body) {
            match error.errno() {
                // The caller is gone (aborted) or all of it is: nobody waits.
                Errno::NOENT | Errno::NODEV => debug!(unique, "nobody waits for this reply"),
                _ => {
                    error!(unique, "a reply was refused: {error}");
                    self.answer_eio(device, unique);
                }
            }
        }
    }

    /// Whom to answer what; `None` if there is nobody.
    pub(crate) fn answer_raw(&self, raw: &[u8], body: &mut [u8]) -> Option<(u64, Answer<Reply>)> {
        match parse(raw, self.agreed.dialect()) {
            Ok(request) => Some((request.header.unique, self.answer(&request, body))),
            Err(Malformed::NoHeader) => {
                warn!("a message without a header was ignored");
                None
            }
            Err(bad @ Malformed::Body { unique, .. }) => {
                error!("{bad}");
                Some((unique, Err(Errno::IO)))
            }
        }
    }

    /// The handler's answer; a handler that panics fails its own request only.
    fn answer(&self, request: &Request<'_>, body: &mut [u8]) -> Answer<Reply> {
        if self.is_denied(request) {
            return Err(Errno::ACCESS);
        }
        // Unwind safety: `body` is plain bytes; the file system's locks (parking_lot) do not poison.
        let outcome = catch_unwind(AssertUnwindSafe(|| dispatch(&self.fs, request, body)));
        outcome.unwrap_or_else(|_| {
            let header = request.header;
            error!(opcode = header.opcode, node = header.nodeid, "a request's handler panicked");
            Err(Errno::IO)
        })
    }

    /// A reply that the kernel found malformed must not leave the caller waiting for ever.
    fn answer_eio(&self, device: &Device, unique: u64) {
        if let Err(error) = reply::send(device, unique, &Err(Errno::IO), &[]) {
            debug!(unique, "nor was EIO taken: {error}");
        }
    }

    /// `allow_root`: others may not begin anything; what they hold open (by inheritance) goes on working.
    fn is_denied(&self, request: &Request<'_>) -> bool {
        let Some(owner) = self.config.only_for else {
            return false;
        };
        let uid = request.header.uid;
        let begins = matches!(
            request.body,
            Body::Name(_)
                | Body::Node(_)
                | Body::Xattr(_)
                | Body::File(FileOp::Open(_))
                | Body::Dir(DirOp::Opendir(_))
        );
        begins && uid != 0 && uid != owner
    }
}

/// Waits for INIT and answers it.
fn handshake(device: &Device, config: &Config, io_uring: bool) -> Result<Agreed, SessionError> {
    let wishes = Wishes {
        readdirplus: config.readdirplus,
        no_opendir: config.no_opendir,
        passthrough: config.passthrough,
        posix_acl: config.posix_acl,
        max_write: config.max_write,
        max_background: config.max_background,
        io_uring,
    };
    let mut buffers = Buffers::new(config.max_write);
    loop {
        let length = match take(device, &mut buffers)? {
            Taken::Request(length) => length,
            Taken::Nothing => continue,
            Taken::Ended => return Err(SessionError::Gone),
        };
        let request = parse(&buffers.request[..length], Dialect::default());
        let (header, offer) = match request {
            Ok(Request { header, body: Body::Init(offer) }) => (header, offer),
            _ => return Err(SessionError::NoInit),
        };
        debug_assert_eq!(header.opcode, opcode::INIT);
        let mut body = vec![0; reply::room(0)];
        let (answer, verdict) = match negotiate(&offer, &wishes) {
            Verdict::Agree(agreed, out) => (Ok(Reply::of(&out, &mut body)), Some(Ok(agreed))),
            Verdict::Again(out) => (Ok(Reply::of(&out, &mut body)), None),
            Verdict::TooOld => (Err(Errno::PROTO), Some(Err(SessionError::KernelTooOld))),
        };
        reply::send(device, header.unique, &answer, &body)?;
        if let Some(verdict) = verdict {
            return verdict;
        }
    }
}
