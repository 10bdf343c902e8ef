//! Who we are, and acting as someone else for one call.
//!
//! The filesystem ids and the umask are set for the calling thread alone. The first use in a thread gives it an
//! fs context of its own (unshare(2) CLONE_FS) and keeps its capabilities over changes of ids (securebits), so that
//! making a file as its owner is never refused for what the kernel allowed already.

use std::cell::Cell;
use std::marker::PhantomData;

use rustix::fs::Mode;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Named, Result};

/// geteuid(2).
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// getegid(2).
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

thread_local! {
    static READY: Cell<Option<bool>> = const { Cell::new(None) };
}

/// SECBIT_NO_SETUID_FIXUP (capabilities(7)).
const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

/// `true` if this thread may change its filesystem ids and keep its capabilities.
fn prepare_thread() -> bool {
    if let Some(ready) = READY.get() {
        return ready;
    }
    // SAFETY: CLONE_FS only gives this thread its own umask, root and working directory; no memory is touched.
    let own_fs = unsafe { libc::unshare(libc::CLONE_FS) } == 0;
    // SAFETY: PR_SET_SECUREBITS takes one integer and changes this thread's credentials only.
    let keeps = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0) } == 0;
    if own_fs {
        rustix::process::umask(Mode::empty());
    }
    let ready = own_fs && keeps && effective_uid() == 0;
    READY.set(Some(ready));
    ready
}

/// Whom a thread acts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Acting {
    uid: u32,
    gid: u32,
    umask: u32,
}

const SERVER: Acting = Acting { uid: 0, gid: 0, umask: 0 };

thread_local! {
    static ACTING: Cell<Acting> = const { Cell::new(SERVER) };
}

/// While it lives, files made by this thread belong to the caller and the umask is the caller's. They nest.
#[derive(Debug)]
pub struct ActAs {
    before: Acting,
    /// Thread-bound: must be dropped where it was made.
    not_send: PhantomData<*const ()>,
}

impl ActAs {
    /// Becomes `uid`/`gid` with `umask` for this thread. Where we lack the privilege the ids stay ours: the maker
    /// of a file must look at its owner afterwards.
    pub fn caller(uid: u32, gid: u32, umask: u32) -> ActAs {
        prepare_thread();
        let before = ACTING.get();
        become_one(before, Acting { uid, gid, umask: umask & 0o777 });
        ActAs { before, not_send: PhantomData }
    }

    /// Ourselves with an empty umask: for copies and marks whose mode is set exactly.
    pub fn server() -> ActAs {
        ActAs::caller(SERVER.uid, SERVER.gid, SERVER.umask)
    }
}

impl Drop for ActAs {
    fn drop(&mut self) {
        become_one(ACTING.get(), self.before);
    }
}

/// While it lives, this thread lacks CAP_FSETID: files that it gives to the kernel for passthrough are then written
/// with set-id bits cleared, as for ordinary writers.
#[derive(Debug)]
pub struct WithoutFsetid {
    before: CapabilitySets,
    /// Thread-bound: must be dropped where it was made.
    not_send: PhantomData<*const ()>,
}

impl WithoutFsetid {
    /// Lowers the capability.
    pub fn begin() -> Result<WithoutFsetid> {
        let before = rustix::thread::capabilities(None).named("capget")?;
        let lowered = CapabilitySets { effective: before.effective - CapabilitySet::FSETID, ..before };
        rustix::thread::set_capabilities(None, lowered).named("capset")?;
        Ok(WithoutFsetid { before, not_send: PhantomData })
    }
}

impl Drop for WithoutFsetid {
    fn drop(&mut self) {
        // It is still permitted, so raising it again cannot be refused.
        rustix::thread::set_capabilities(None, self.before).ok();
    }
}

fn become_one(now: Acting, next: Acting) {
    if (now.uid, now.gid) != (next.uid, next.gid) && prepare_thread() {
        // SAFETY: setfsgid takes one integer and changes this thread's credentials only.
        unsafe { libc::setfsgid(next.gid) };
        // SAFETY: as above.
        unsafe { libc::setfsuid(next.uid) };
    }
    if now.umask != next.umask {
        rustix::process::umask(Mode::from_raw_mode(next.umask));
    }
    ACTING.set(next);
}
