//! `MountSpec`: everything a mount is asked to be, as plain data.
//!
//! Here lives: the data types. Not here: option texts ([`parse()`] reads both grammars, [`MountSpec::options`] prints
//! them), opened branches (`crate::branch`).
//! Sources: aufs.5 ("MOUNT OPTIONS"), fuse-overlayfs(1), mount(8).

mod aufs;
mod branch_text;
mod check;
mod common;
mod error;
mod overlay;
mod parse;
mod policy;
mod print;
mod speed;
mod split;
#[cfg(test)]
mod tests;

pub use branch_text::branch_text;
pub use check::MAX_BRANCHES;
pub use error::SpecError;
pub use parse::{Action, Parsed, Unknown, parse, remount};

use std::ffi::OsString;
use std::path::PathBuf;

/// What may be done to a branch (aufs.5, "Branch Syntax").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Perm {
    /// Read and write; whiteouts honoured.
    Rw,
    /// Read only through this mount.
    #[default]
    Ro,
    /// Really read-only: a promise that nobody changes it (squashfs, iso9660, ...).
    Rr,
}

/// One member directory of the union.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BranchSpec {
    /// As given; resolved by the kernel, never lexically.
    pub path: PathBuf,
    /// `rw`, `ro` or `rr`.
    pub perm: Perm,
    /// Whether `perm` was written down. If not, `perm` is the default of the branch's place (`rw` at the top of a
    /// writable mount, else `ro`), and [`BranchSpec::settle`] may still make it `rr`.
    pub perm_said: bool,
    /// `+wh`: whiteouts and opaque marks of a read-only branch are honoured. Never set for `rw`, which always does:
    /// ask [`BranchSpec::reads_whiteouts`].
    pub wh: bool,
    /// `+nolwh`: whiteouts are files of their own, not hard links of `.wh..wh.aufs`.
    pub nolwh: bool,
    /// Other attributes, accepted and printed back in AUFS's fixed order (coo_reg, moo, fhsm, icex..., unpin).
    pub other: Vec<BranchAttr>,
}

impl BranchSpec {
    /// A branch with its permission written down and no attributes.
    pub fn new(path: impl Into<PathBuf>, perm: Perm) -> Self {
        Self { path: path.into(), perm, perm_said: true, ..Self::default() }
    }

    /// The same with `+wh`.
    #[must_use]
    pub fn with_wh(self) -> Self {
        Self { wh: self.perm != Perm::Rw, ..self }
    }

    /// Whether whiteouts and opaque marks of this branch hide what is below.
    pub fn reads_whiteouts(&self) -> bool {
        self.perm == Perm::Rw || self.wh
    }

    /// Tells the branch what filesystem it lies on (the type's name as in mountinfo). AUFS takes `rr` where no
    /// permission was written and the filesystem can never change.
    pub fn settle(&mut self, fs_type: &str) {
        if !self.perm_said && matches!(fs_type, "squashfs" | "iso9660" | "cramfs" | "romfs") {
            self.perm = Perm::Rr;
        }
    }

    /// [`BranchSpec::settle`] by the magic number of statfs(2).
    pub fn settle_magic(&mut self, magic: u64) {
        const SQUASHFS: u64 = 0x7371_7368;
        const ISOFS: u64 = 0x9660;
        const CRAMFS: u64 = 0x28cd_3d45;
        const CRAMFS_OTHER_ENDIAN: u64 = 0x453d_cd28;
        const ROMFS: u64 = 0x7275;
        match magic {
            SQUASHFS => self.settle("squashfs"),
            ISOFS => self.settle("iso9660"),
            CRAMFS | CRAMFS_OTHER_ENDIAN => self.settle("cramfs"),
            ROMFS => self.settle("romfs"),
            _ => {}
        }
    }
}

/// Branch attributes that the engine carries but that later work gives meaning to (aufs.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are aufs.5's own")]
pub enum BranchAttr {
    CooReg,
    CooAll,
    Unpin,
    Fhsm,
    IcexSec,
    IcexSys,
    IcexTr,
    IcexUsr,
    IcexOth,
    Moo,
}

/// Which branch takes a new entry (aufs.5 `create=`). Figures: bytes and seconds as given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are aufs.5's own")]
pub enum CreatePolicy {
    #[default]
    Tdp,
    Rr,
    Mfs {
        sec: Option<u32>,
    },
    Tdmfs {
        low: u64,
        sec: Option<u32>,
    },
    MfsRr {
        low: u64,
        sec: Option<u32>,
    },
    Pmfs {
        sec: Option<u32>,
    },
    PmfsRr {
        low: u64,
        sec: Option<u32>,
    },
}

/// Which branch takes a copied-up file (aufs.5 `cpup=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are aufs.5's own")]
pub enum CopyupPolicy {
    #[default]
    Tdp,
    Bup,
    Bu,
}

/// How changes made directly in a branch are noticed (aufs.5 `udba=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are aufs.5's own")]
pub enum Udba {
    None,
    #[default]
    Reval,
    Notify,
}

/// Which of the two grammars the spec was read from, and prints back in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grammar {
    /// `br:/rw=rw:/ro=ro,...`
    #[default]
    Aufs,
    /// `lowerdir=...,upperdir=...,workdir=...`
    Overlay,
}

/// One line of an id map: `inside` ids as the union shows them, `outside` ids as the branches hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id shown in the union (fuse-overlayfs: "container").
    pub inside: u32,
    /// First id on the branches (fuse-overlayfs: "host").
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// fuse-overlayfs' `squash_to_*`: every owner shown as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Squash {
    /// `squash_to_root`: both ids 0.
    pub root: bool,
    /// `squash_to_uid=N`.
    pub uid: Option<u32>,
    /// `squash_to_gid=N`.
    pub gid: Option<u32>,
}

/// Flags that the kernel keeps for the mount (mount(8), filesystem-independent options).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelFlags {
    /// `ro`.
    pub read_only: bool,
    /// `nosuid`; `None`: not said (suid as root, nosuid through fusermount3).
    pub nosuid: Option<bool>,
    /// `nodev`; `None`: not said.
    pub nodev: Option<bool>,
    /// `noexec`.
    pub noexec: bool,
    /// `noatime` (the default of plyfs, as of AUFS and fuse-overlayfs); `atime`, `relatime`, `strictatime` say no.
    /// `atime` is read as `relatime`, which is what the kernel makes of it.
    pub atime: Atime,
    /// `sync`.
    pub sync: bool,
    /// `dirsync`.
    pub dirsync: bool,
    /// `allow_other`, `noallow_other` (a word of plyfs); `None`: as root yes, else no.
    pub allow_other: Option<bool>,
    /// `allow_root`.
    pub allow_root: bool,
    /// `max_write=`: bytes, where given. (`max_read=` is inert.)
    pub max_write: Option<u32>,
}

/// Access-time behaviour as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are mount(8)'s own")]
pub enum Atime {
    #[default]
    Unsaid,
    Noatime,
    Relatime,
    Strictatime,
}

/// Whether listings carry attributes (FUSE_READDIRPLUS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readdirplus {
    /// Every one.
    #[default]
    Always,
    /// Where the kernel guesses that a stat of each name follows.
    Auto,
    /// None.
    Never,
}

/// How fast, never what (`docs/performance.md` has what each is worth).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Speed {
    /// `passthrough`, `nopassthrough`: the kernel reads and writes branch files itself; `None`: where permitted.
    pub passthrough: Option<bool>,
    /// `readdirplus=`.
    pub readdirplus: Readdirplus,
    /// `nodircache`: directories are opened, and listings asked for, each time.
    pub no_dir_cache: bool,
    /// `btime`: birth times are told. The kernel does not keep them, so that whatever asks for one (`stat`, programs in
    /// Rust) asks anew each time.
    pub birth_times: bool,
    /// `io_uring`: requests travel by io_uring instead of read and write on /dev/fuse, where the kernel allows it.
    pub io_uring: bool,
    /// `metacopy=`: changes of metadata copy no data; `None`: the grammar's default.
    pub metacopy: Option<bool>,
    /// Only files of more bytes are meant; `None`: 64 KiB. Never read from text.
    pub metacopy_from: Option<u64>,
    /// `max_threads=`: at most so many threads serve, and at least two.
    pub max_threads: Option<u32>,
    /// What may be kept in memory. Never read from text.
    pub bounds: Bounds,
}

/// Bounds of what is kept in memory and can be had again (`docs/caches.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Names in the merged indexes of all directories together; beyond it, the least recently used are dropped.
    pub index_lines: usize,
    /// Objects that the kernel has names for; beyond it, it is asked to let go of some that nobody uses.
    pub nodes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { index_lines: 512 << 10, nodes: 200_000 }
    }
}

/// Everything a mount is asked to be. Prints back (`Display`-like, [`MountSpec::options`]) to what was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountSpec {
    /// The grammar it was read in.
    pub grammar: Grammar,
    /// Top first; index 0 is AUFS's `br0`. Overlay: upperdir (if any, `rw`), then lowerdirs, `ro` with `wh` set.
    pub branches: Vec<BranchSpec>,
    /// overlay's `workdir=`: accepted, printed back, not used (temporary names live in the branch).
    pub workdir: Option<PathBuf>,
    /// Answer as AUFS to the letter (EXDEV, 242-byte names ...).
    pub strict: bool,
    /// `create=`.
    pub create: CreatePolicy,
    /// `cpup=`.
    pub copyup: CopyupPolicy,
    /// `udba=`.
    pub udba: Udba,
    /// `noplink`: hard links come apart at copy-up.
    pub noplink: bool,
    /// `diropq=always`: every mkdir makes an opaque mark.
    pub diropq_always: bool,
    /// `sum`: statfs adds up all filesystems.
    pub sum: bool,
    /// `xino=PATH` as given (needs nothing here); `Some("")` for `noxino`.
    pub xino: Option<OsString>,
    /// fuse-overlayfs `volatile`: fsync does nothing, copy-up does not wait for the disk.
    pub volatile: bool,
    /// `noacl`: POSIX ACLs are off.
    pub noacl: bool,
    /// fuse-overlayfs `noxattrs`: extended attributes are off (ENOTSUP).
    pub noxattrs: bool,
    /// fuse-overlayfs `uidmapping=`; empty: identity.
    pub uid_map: Vec<IdRange>,
    /// fuse-overlayfs `gidmapping=`; empty: identity.
    pub gid_map: Vec<IdRange>,
    /// fuse-overlayfs `squash_to_*`.
    pub squash: Squash,
    /// fuse-overlayfs `xattr_permissions`: 0 off, 1 `user.containers.override_stat` written by root in `security.`, 2 in `user.`.
    pub xattr_permissions: u8,
    /// Entry and attribute timeout in the kernel, seconds; `None`: without limit.
    pub timeout: Option<Seconds>,
    /// What is only about speed.
    pub speed: Speed,
    /// Kernel-kept flags.
    pub kernel: KernelFlags,
    /// `fsname=` or the SOURCE word; shown in /proc/mounts.
    pub source: Option<OsString>,
    /// `image_index=`: where the merged tree of the lowest branches is kept ([`crate::image`]). Not used unless it was
    /// built from just these branches.
    pub image_index: Option<PathBuf>,
    /// Only to be looked at: the branches may be another mount's at the same time, and nothing may be changed.
    /// Never read from text.
    pub look_only: bool,
    /// Owners that this user namespace does not map show as the server's own ids, with the rights the server really
    /// has to them (`plyfs try` as an ordinary user). Never read from text.
    pub adopt_unmapped: bool,
    /// Options accepted without effect, kept as written (escapes and quotes included) so that the text prints back
    /// whole (`context="a,b"`, `dirperm1`, `rdcache=5`). Ask [`MountSpec::has`] for one of them.
    pub inert: Vec<OsString>,
}

impl MountSpec {
    /// Whether an option without a field of its own was given (`dirperm1`, `static_nlink`), as written.
    pub fn has(&self, word: &str) -> bool {
        self.inert.iter().any(|w| w == word)
    }
}

/// Milliseconds inside, so that specs compare equal; written as decimal seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(
    /// Milliseconds.
    pub u64,
);
