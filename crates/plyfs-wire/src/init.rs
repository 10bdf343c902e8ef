//! INIT: what we ask for, what is agreed. Pure.
//!
//! Not here: reading and answering the request (`crate::session`).

use crate::messages::flags::InitFlags;
use crate::messages::replies::InitOut;
use crate::messages::requests::InitIn;
use crate::messages::{MAJOR, MINOR, OLDEST_MINOR};
use crate::request::Dialect;

/// When a listing carries entries and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readdirplus {
    /// Whenever the kernel reads a directory.
    #[default]
    Always,
    /// When the kernel guesses that a stat of each name follows.
    Auto,
    /// Never.
    Never,
}

/// What a session asks of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Entries in listings.
    pub readdirplus: Readdirplus,
    /// The kernel opens directories without asking once OPENDIR was answered with ENOSYS, and keeps their listings.
    pub no_opendir: bool,
    /// The kernel reads and writes files that it was given ([`crate::Backings`]).
    pub passthrough: bool,
    /// The kernel checks POSIX ACLs, which it reads as extended attributes.
    pub posix_acl: bool,
    /// Bytes per WRITE and READ.
    pub max_write: u32,
    /// Requests that the kernel may send ahead (readahead, forgets).
    pub max_background: u16,
    /// Requests come by io_uring once every processor's queue has an entry.
    pub io_uring: bool,
}

/// What both sides settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The protocol's minor version.
    pub minor: u32,
    /// Capabilities in force.
    pub flags: InitFlags,
    /// Bytes per WRITE.
    pub max_write: u32,
}

impl Agreed {
    /// The form of later requests.
    pub fn dialect(&self) -> Dialect {
        Dialect { setxattr_ext: self.flags.contains(InitFlags::SETXATTR_EXT) }
    }

    /// Whether requests come by io_uring.
    pub fn io_uring(&self) -> bool {
        self.flags.contains(InitFlags::OVER_IO_URING)
    }
}

/// What to answer to an INIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This, and the session begins.
    Agree(Agreed, InitOut),
    /// This, and another INIT follows: the kernel speaks a later major version too.
    Again(InitOut),
    /// EPROTO: the kernel is older than anything spoken here.
    TooOld,
}

const PAGE: u32 = 4096;
/// Without MAX_PAGES a request has at most this many pages.
const OLD_MAX_PAGES: u32 = 32;

/// Decides the answer to `offer`.
pub fn negotiate(offer: &InitIn, wishes: &Wishes) -> Verdict {
    if offer.major > MAJOR {
        return Verdict::Again(InitOut { major: MAJOR, minor: MINOR, ..InitOut::default() });
    }
    if offer.major < MAJOR || offer.minor < OLDEST_MINOR {
        return Verdict::TooOld;
    }
    let mut offered = u64::from(offer.flags);
    if offered & InitFlags::INIT_EXT.bits() != 0 {
        offered |= u64::from(offer.flags2) << 32;
    }
    let flags = InitFlags::from_bits_retain(offered) & wanted(wishes);
    let pages = wishes.max_write.div_ceil(PAGE).max(1);
    let pages = if flags.contains(InitFlags::MAX_PAGES) { pages } else { pages.min(OLD_MAX_PAGES) };
    let agreed = Agreed { minor: offer.minor.min(MINOR), flags, max_write: pages.saturating_mul(PAGE) };
    Verdict::Agree(agreed, answer(offer, wishes, &agreed, pages))
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a 64-bit word")]
fn answer(offer: &InitIn, wishes: &Wishes, agreed: &Agreed, pages: u32) -> InitOut {
    let bits = agreed.flags.bits();
    InitOut {
        major: MAJOR,
        minor: agreed.minor,
        max_readahead: offer.max_readahead,
        flags: bits as u32,
        flags2: (bits >> 32) as u32,
        max_background: wishes.max_background,
        congestion_threshold: (wishes.max_background / 4) * 3,
        max_write: agreed.max_write,
        time_gran: 1,
        max_pages: u16::try_from(pages).unwrap_or(u16::MAX),
        // Files of stacked filesystems are not for the kernel to read by itself; in return one may be stacked on us.
        max_stack_depth: agreed.flags.contains(InitFlags::PASSTHROUGH).into(),
        ..InitOut::default()
    }
}

/// Not among them, on purpose: WRITEBACK_CACHE (the kernel would own sizes and times), POSIX_LOCKS and FLOCK_LOCKS
/// (locks stay in the kernel), EXPORT_SUPPORT, AUTO_INVAL_DATA, NO_OPEN_SUPPORT; ATOMIC_O_TRUNC (the server would cut
/// a running program's text before the kernel looks whether it may: ETXTBSY must come first).
fn wanted(wishes: &Wishes) -> InitFlags {
    let mut flags = InitFlags::ASYNC_READ
        | InitFlags::ABORT_ERROR
        | InitFlags::BIG_WRITES
        | InitFlags::DONT_MASK
        | InitFlags::ASYNC_DIO
        | InitFlags::PARALLEL_DIROPS
        | InitFlags::MAX_PAGES
        | InitFlags::CACHE_SYMLINKS
        | InitFlags::HANDLE_KILLPRIV_V2
        | InitFlags::SETXATTR_EXT
        // A file whose pages are not to be kept (`Pages::Bypass` of the engine) can be mapped all the same.
        | InitFlags::DIRECT_IO_ALLOW_MMAP
        | InitFlags::INIT_EXT;
    flags.set(InitFlags::NO_OPENDIR_SUPPORT, wishes.no_opendir);
    flags.set(InitFlags::PASSTHROUGH, wishes.passthrough);
    flags.set(InitFlags::POSIX_ACL, wishes.posix_acl);
    flags.set(InitFlags::DO_READDIRPLUS, wishes.readdirplus != Readdirplus::Never);
    flags.set(InitFlags::READDIRPLUS_AUTO, wishes.readdirplus == Readdirplus::Auto);
    flags.set(InitFlags::OVER_IO_URING, wishes.io_uring);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISHES: Wishes = Wishes {
        readdirplus: Readdirplus::Always,
        no_opendir: true,
        passthrough: true,
        posix_acl: true,
        max_write: 1 << 20,
        max_background: 64,
        io_uring: false,
    };

    fn offer(minor: u32, flags: InitFlags) -> InitIn {
        let bits = flags.bits();
        InitIn {
            major: 7,
            minor,
            max_readahead: 131_072,
            flags: bits as u32,
            flags2: (bits >> 32) as u32,
            ..InitIn::default()
        }
    }

    #[test]
    fn only_what_is_offered_and_wanted_is_agreed() {
        let Verdict::Agree(agreed, out) = negotiate(&offer(99, InitFlags::all()), &WISHES) else { panic!() };
        assert_eq!((agreed.minor, out.minor, out.major), (45, 45, 7));
        assert_eq!((out.max_pages, out.max_write), (256, 1 << 20));
        assert!(agreed.flags.contains(InitFlags::POSIX_ACL | InitFlags::DONT_MASK));
        let never = InitFlags::WRITEBACK_CACHE | InitFlags::POSIX_LOCKS | InitFlags::READDIRPLUS_AUTO;
        assert!(!agreed.flags.intersects(never));
        assert!(agreed.flags.contains(InitFlags::PASSTHROUGH | InitFlags::NO_OPENDIR_SUPPORT));
        assert_eq!(out.max_stack_depth, 1);
        assert!(agreed.dialect().setxattr_ext);
        let Verdict::Agree(agreed, out) = negotiate(&offer(31, InitFlags::ASYNC_READ), &WISHES) else {
            panic!()
        };
        assert_eq!(agreed.flags, InitFlags::ASYNC_READ);
        assert_eq!((out.minor, out.max_pages, out.max_write), (31, 32, 131_072));
        assert!(!agreed.dialect().setxattr_ext);
    }

    #[test]
    fn io_uring_is_agreed_only_if_both_want_it() {
        for (wanted, offered) in [(true, true), (true, false), (false, true)] {
            let mut flags = InitFlags::all();
            flags.set(InitFlags::OVER_IO_URING, offered);
            let wishes = Wishes { io_uring: wanted, ..WISHES };
            let Verdict::Agree(agreed, _) = negotiate(&offer(99, flags), &wishes) else { panic!() };
            assert_eq!(agreed.io_uring(), wanted && offered);
        }
    }

    #[test]
    fn other_versions() {
        assert_eq!(negotiate(&offer(30, InitFlags::all()), &WISHES), Verdict::TooOld);
        let later = InitIn { major: 8, ..offer(0, InitFlags::empty()) };
        assert!(matches!(negotiate(&later, &WISHES), Verdict::Again(InitOut { major: 7, .. })));
    }
}
