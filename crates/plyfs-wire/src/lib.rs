//! The FUSE kernel protocol: typed messages, sessions on /dev/fuse, mounting. It knows nothing of unions.
//!
//! # The protocol in one page
//!
//! A mount of type `fuse` is tied to an open description of /dev/fuse ([`mount()`]). The kernel puts one *request* per
//! read(2) there: an [`messages::InHeader`] (opcode, `unique`, node id, caller), a struct of that opcode
//! ([`messages::requests`]), then names ended by NUL or data. A *reply* is one writev(2): an
//! [`messages::OutHeader`] with the same `unique`, zero or a negated errno, and a struct
//! ([`messages::replies`]) or data. FORGET, BATCH_FORGET and INTERRUPT have no reply.
//!
//! The first request is INIT: each side says its version and what it can do; the smaller minor version and the
//! flags that the server echoes are agreed ([`init`]). ENOSYS to most requests means "never ask again".
//!
//! The kernel names files by *node id*, handed out by LOOKUP (and MKDIR, CREATE, READDIRPLUS ...). Each handing out
//! counts; FORGET gives counts back, and at zero the number may be dropped. Replies carry times for which
//! names, absent names and attributes may be cached. A server that learns of changes made elsewhere sends
//! *notifications*: replies with `unique` zero ([`notify`]); never from inside a request on the same directory,
//! whose lock the kernel holds.
//!
//! unmount ends the connection: read(2) answers ENODEV and the session is over ([`session`]).
//!
//! # Where things are
//!
//! bytes: [`messages`]; bytes to typed requests: [`request`] (pure); typed answers to bytes: [`reply`], [`dirents`];
//! what a file system implements: [`Filesystem`]; the loops: [`session`], and `uring` where requests come by io_uring;
//! mount(2), fusermount3: [`mount()`].

mod backing;
pub mod dirents;
mod dispatch;
pub mod filesystem;
mod fusermount;
pub mod init;
pub mod messages;
pub mod mount;
pub mod notify;
pub mod reply;
pub mod request;
pub mod session;
mod uring;
mod workers;

pub use backing::Backings;
pub use dirents::Dirents;
pub use filesystem::{Answer, Filesystem, RequestContext};
pub use init::{Agreed, Readdirplus};
pub use mount::{MountError, MountOptions, mount, unmount};
pub use notify::Notifier;
pub use plyfs_sys::Errno;
pub use session::{Config, Session, SessionError};
