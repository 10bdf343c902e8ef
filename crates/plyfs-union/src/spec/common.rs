//! Options of both grammars: mount(8)'s flags, FUSE's words, fuse-overlayfs' id maps and xattr words, AUFS's policies
//! (useful over overlay layers too), and plyfs' own `strict` and `noallow_other`.

use std::os::unix::ffi::OsStringExt;

use super::check::{MAPPING, XATTR_PERMISSIONS};
use super::parse::{Build, Known, Takes, Then};
use super::split::{Word, number};
use super::{Atime, Grammar, IdRange, MountSpec, Seconds, SpecError, policy};

const NUMBER: &str = "a decimal number";
const ID: &str = "a numeric id, 0 to 4294967294";
const BYTES: &str = "a number of bytes, 1 to 4294967295";
const SECONDS: &str = "seconds as 5 or 0.25, at most three decimals";

/// Whether an option belongs to other programs that read the same text: `x-systemd.automount`, `comment=...`.
pub(super) fn is_foreign(word: &Word) -> bool {
    word.text.starts_with(b"x-") || word.text.starts_with(b"X-") || word.name() == "comment"
}

/// The table.
pub(super) const WORDS: &[Known] = &[
    // mount(8), kept by the kernel.
    Known::flag("ro", |s| s.kernel.read_only = true),
    Known::flag("rw", |s| s.kernel.read_only = false),
    Known::flag("suid", |s| s.kernel.nosuid = Some(false)),
    Known::flag("nosuid", |s| s.kernel.nosuid = Some(true)),
    Known::flag("dev", |s| s.kernel.nodev = Some(false)),
    Known::flag("nodev", |s| s.kernel.nodev = Some(true)),
    Known::flag("exec", |s| s.kernel.noexec = false),
    Known::flag("noexec", |s| s.kernel.noexec = true),
    Known::flag("sync", |s| s.kernel.sync = true),
    Known::flag("async", |s| s.kernel.sync = false),
    Known::flag("dirsync", |s| s.kernel.dirsync = true),
    Known::flag("noatime", |s| s.kernel.atime = Atime::Noatime),
    Known::flag("atime", |s| s.kernel.atime = Atime::Relatime),
    Known::flag("relatime", |s| s.kernel.atime = Atime::Relatime),
    Known::flag("norelatime", |s| forget_atime(s, Atime::Relatime)),
    Known::flag("strictatime", |s| s.kernel.atime = Atime::Strictatime),
    Known::flag("nostrictatime", |s| forget_atime(s, Atime::Strictatime)),
    // mount(8): who may mount. The flags these imply may be overridden by later words.
    Known::other("user", Takes::Either, Then::Set(imply_user)),
    Known::flag("users", imply_user),
    Known::flag("owner", imply_owner),
    Known::flag("group", imply_owner),
    Known::other("nouser", Takes::Nothing, Then::Drop),
    Known::other("defaults", Takes::Nothing, Then::Drop),
    Known::other("auto", Takes::Nothing, Then::Drop),
    Known::other("noauto", Takes::Nothing, Then::Drop),
    // The action was noted before the words were read.
    Known::other("remount", Takes::Nothing, Then::Drop),
    // mount(8), nothing to do here.
    Known::inert("diratime", Takes::Nothing),
    Known::inert("nodiratime", Takes::Nothing),
    Known::inert("lazytime", Takes::Nothing),
    Known::inert("nolazytime", Takes::Nothing),
    Known::inert("mand", Takes::Nothing),
    Known::inert("nomand", Takes::Nothing),
    Known::inert("iversion", Takes::Nothing),
    Known::inert("noiversion", Takes::Nothing),
    Known::inert("silent", Takes::Nothing),
    Known::inert("loud", Takes::Nothing),
    Known::inert("nosymfollow", Takes::Nothing),
    Known::inert("_netdev", Takes::Nothing),
    Known::inert("nofail", Takes::Nothing),
    Known::inert("bind", Takes::Nothing),
    Known::inert("rbind", Takes::Nothing),
    Known::inert("private", Takes::Nothing),
    Known::inert("rprivate", Takes::Nothing),
    Known::inert("shared", Takes::Nothing),
    Known::inert("rshared", Takes::Nothing),
    Known::inert("slave", Takes::Nothing),
    Known::inert("rslave", Takes::Nothing),
    Known::inert("unbindable", Takes::Nothing),
    Known::inert("runbindable", Takes::Nothing),
    // Security contexts: kept whole, the union takes the branches' own.
    Known::inert("context", Takes::Value("a security context")),
    Known::inert("fscontext", Takes::Value("a security context")),
    Known::inert("defcontext", Takes::Value("a security context")),
    Known::inert("rootcontext", Takes::Value("a security context")),
    // FUSE.
    Known::flag("allow_other", |s| s.kernel.allow_other = Some(true)),
    Known::flag("noallow_other", |s| s.kernel.allow_other = Some(false)),
    Known::flag("allow_root", |s| s.kernel.allow_root = true),
    Known::value("max_write", BYTES, read_max_write),
    Known::value("max_read", BYTES, keep_bytes),
    Known::value("fsname", "a name", read_fsname),
    Known::inert("subtype", Takes::Value("a name")),
    Known::inert("default_permissions", Takes::Nothing),
    Known::inert("debug", Takes::Nothing),
    Known::inert("auto_unmount", Takes::Nothing),
    Known::inert("nonempty", Takes::Nothing),
    Known::inert("kernel_cache", Takes::Nothing),
    Known::inert("auto_cache", Takes::Nothing),
    Known::inert("big_writes", Takes::Nothing),
    Known::inert("use_ino", Takes::Nothing),
    Known::inert("clone_fd", Takes::Nothing),
    Known::inert("async_read", Takes::Nothing),
    Known::inert("sync_read", Takes::Nothing),
    Known::inert("max_idle_threads", Takes::Value(NUMBER)),
    Known::inert("max_background", Takes::Value(NUMBER)),
    Known::inert("max_readahead", Takes::Value(NUMBER)),
    Known::inert("congestion_threshold", Takes::Value(NUMBER)),
    // fuse-overlayfs.
    Known::value("uidmapping", MAPPING, |b, w| id_map(w).map(|map| b.spec.uid_map = map)),
    Known::value("gidmapping", MAPPING, |b, w| id_map(w).map(|map| b.spec.gid_map = map)),
    Known::flag("squash_to_root", |s| s.squash.root = true),
    Known::value("squash_to_uid", ID, |b, w| id(w).map(|id| b.spec.squash.uid = Some(id))),
    Known::value("squash_to_gid", ID, |b, w| id(w).map(|id| b.spec.squash.gid = Some(id))),
    Known::value("timeout", SECONDS, read_timeout),
    Known::flag("volatile", |s| s.volatile = true),
    Known::flag("novolatile", |s| s.volatile = false),
    Known::flag("noacl", |s| s.noacl = true),
    Known::flag("acl", |s| s.noacl = false),
    Known::other("noxattrs", Takes::Either, Then::Read(read_noxattrs)),
    Known::value("xattr_permissions", XATTR_PERMISSIONS, read_xattr_permissions),
    // plyfs.
    Known::flag("strict", |s| s.strict = true),
    Known::flag("nostrict", |s| s.strict = false),
    // AUFS: what has a meaning whatever the branches were written in.
    Known::value("create", "a create policy", read_create),
    Known::value("create_policy", "a create policy", read_create),
    Known::value("cpup", "tdp, bup or bu", read_copyup),
    Known::value("copyup", "tdp, bup or bu", read_copyup),
    Known::value("copyup_policy", "tdp, bup or bu", read_copyup),
    Known::value("udba", "none, reval or notify", |b, w| policy::udba(w).map(|udba| b.spec.udba = udba)),
    Known::flag("plink", |s| s.noplink = false),
    Known::flag("noplink", |s| s.noplink = true),
    Known::value("diropq", "whiteouted (w) or always (a)", read_diropq),
    Known::flag("sum", |s| s.sum = true),
    Known::flag("nosum", |s| s.sum = false),
    Known::flag("noxino", |s| s.xino = Some("".into())),
];

fn forget_atime(spec: &mut MountSpec, what: Atime) {
    if spec.kernel.atime == what {
        spec.kernel.atime = Atime::Unsaid;
    }
}

fn imply_user(spec: &mut MountSpec) {
    imply_owner(spec);
    spec.kernel.noexec = true;
}

fn imply_owner(spec: &mut MountSpec) {
    spec.kernel.nosuid = Some(true);
    spec.kernel.nodev = Some(true);
}

fn read_create(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.create = policy::create(word)?;
    Ok(())
}

fn read_copyup(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.copyup = policy::copyup(word)?;
    Ok(())
}

fn read_diropq(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.diropq_always = match word.value_text() {
        "always" | "a" => true,
        "whiteouted" | "w" => false,
        _ => return Err(word.bad("whiteouted (w) or always (a)")),
    };
    Ok(())
}

fn bytes(word: &Word) -> Result<u32, SpecError> {
    number(word.value_text()).filter(|n| *n > 0).ok_or_else(|| word.bad(BYTES))
}

fn read_max_write(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.kernel.max_write = Some(bytes(word)?);
    Ok(())
}

fn keep_bytes(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    bytes(word)?;
    build.keep(word);
    Ok(())
}

fn read_fsname(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.source = Some(OsStringExt::from_vec(build.plain_value(word)));
    Ok(())
}

fn read_noxattrs(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.noxattrs = match word.value().map(|_| word.value_text()) {
        None | Some("1") => true,
        Some("0") => false,
        Some(_) => return Err(word.bad("0 or 1, or no value")),
    };
    Ok(())
}

fn read_xattr_permissions(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    let level = number(word.value_text()).filter(|level| *level <= 2);
    build.spec.xattr_permissions = level.ok_or_else(|| word.bad(XATTR_PERMISSIONS))?;
    Ok(())
}

fn id(word: &Word) -> Result<u32, SpecError> {
    number(word.value_text()).filter(|id| *id != u32::MAX).ok_or_else(|| word.bad(ID))
}

/// Triples joined by colons. Podman writes one colon too many, in front; others may end with one.
fn id_map(word: &Word) -> Result<Vec<IdRange>, SpecError> {
    let text = word.value_text();
    let text = text.strip_prefix(':').unwrap_or(text);
    let text = text.strip_suffix(':').unwrap_or(text);
    let ids: Option<Vec<u32>> = text.split(':').map(number).collect();
    let ids = ids.filter(|ids| ids.len() % 3 == 0).ok_or_else(|| word.bad(MAPPING))?;
    Ok(ids.chunks_exact(3).map(|c| IdRange { inside: c[0], outside: c[1], count: c[2] }).collect())
}

fn read_timeout(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.timeout = Some(milliseconds(word.value_text()).ok_or_else(|| word.bad(SECONDS))?);
    Ok(())
}

fn milliseconds(text: &str) -> Option<Seconds> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    Some(Seconds(number::<u64>(whole)?.checked_mul(1000)?.checked_add(part)?))
}

/// Escapes of a path as value of an option of its own, where only the comma separates.
pub(super) const VALUE_SPECIAL: &[u8] = b",";

/// Escapes of a path in the list of branches.
pub(super) fn list_special(grammar: Grammar) -> &'static [u8] {
    match grammar {
        Grammar::Aufs => b",:=",
        Grammar::Overlay => b",:",
    }
}
