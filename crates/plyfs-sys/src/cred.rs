//! Who we are, and acting as someone else for one call.
//!
//! The filesystem ids and the umask are set for the calling thread alone. The first use in a thread gives it an
//! fs context of its own (unshare(2) CLONE_FS) and keeps its capabilities over changes of ids (securebits), so that
//! making a file as its owner is never refused for what the kernel allowed already.

use std::cell::Cell;
use std::marker::PhantomData;

use rustix::fs::Mode;

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

/// While it lives, files made by this thread belong to the caller and the umask is the caller's.
#[derive(Debug)]
pub struct ActAs {
    ids_changed: bool,
    umask_changed: bool,
    /// Thread-bound: must be dropped where it was made.
    not_send: PhantomData<*const ()>,
}

impl ActAs {
    /// Becomes `uid`/`gid` with `umask` for this thread. Where we lack the privilege the ids stay ours: the maker
    /// of a file must look at its owner afterwards.
    pub fn caller(uid: u32, gid: u32, umask: u32) -> ActAs {
        let ready = prepare_thread();
        let ids_changed = ready && (uid, gid) != (0, 0);
        if ids_changed {
            set_fs_ids(uid, gid);
        }
        let umask_changed = umask != 0;
        if umask_changed {
            rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
        }
        ActAs { ids_changed, umask_changed, not_send: PhantomData }
    }

    /// Ourselves with an empty umask: for copies and marks whose mode is set exactly.
    pub fn server() -> ActAs {
        ActAs::caller(0, 0, 0)
    }
}

impl Drop for ActAs {
    fn drop(&mut self) {
        if self.ids_changed {
            set_fs_ids(0, 0);
        }
        if self.umask_changed {
            rustix::process::umask(Mode::empty());
        }
    }
}

fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: setfsgid takes one integer and changes this thread's credentials only.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    unsafe { libc::setfsuid(uid) };
}
