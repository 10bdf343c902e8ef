//! AUFS's grammar: branches (`br:/rw=rw:/ro=ro+wh`) and the options only AUFS has. Source: aufs.5.
//!
//! Where AUFS is lenient (unknown permissions and attributes), so is this, with a warning. Where AUFS loses something
//! without a word (all that follows an empty element of a list), this refuses.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::error::show;
use super::parse::{Action, Build, Known, Takes, Then};
use super::policy::MAX_SECONDS;
use super::split::{self, Word, elements, find, number};
use super::{BranchAttr, BranchSpec, Grammar, Perm, SpecError};

/// The words that tell this grammar.
pub(super) const MARKS: [&str; 8] = ["br", "dirs", "append", "prepend", "add", "ins", "del", "mod"];

/// AUFS reads these numbers as C's int.
const INT_MAX: u32 = i32::MAX.cast_unsigned();
const LIST: &str = "DIR[=PERM[+ATTR...]][:DIR...]";
const BRANCH: &str = "DIR[=PERM[+ATTR...]]";
const INDEXED: &str = "INDEX:DIR[=PERM[+ATTR...]]";
const OBSOLETE: &str = "obsolete, ignored";
const RESERVED: &str = "reserved by AUFS and never implemented, ignored";

/// The table.
pub(super) const WORDS: &[Known] = &[
    Known::list("br", LIST, read_list),
    Known::other("dirs", Takes::Value(LIST), Then::Read(read_list)),
    Known::list("add", INDEXED, read_insert),
    Known::list("ins", INDEXED, read_insert),
    Known::list("append", BRANCH, |b, w| one_branch(b, w, false, Action::Append)),
    Known::list("prepend", BRANCH, |b, w| one_branch(b, w, true, Action::Prepend)),
    Known::list("del", "DIR", read_delete),
    Known::list("mod", "DIR=PERM[+ATTR...]", read_modify),
    Known::other("idel", Takes::List("an index"), Then::DropWarn(RESERVED)),
    Known::other("imod", Takes::List("an index"), Then::DropWarn(RESERVED)),
    Known::other("zxino", Takes::Value("a path"), Then::DropWarn(RESERVED)),
    Known::other("trunc_xino_v", Takes::Value("a range"), Then::DropWarn(RESERVED)),
    // Inode numbers need no file here; the path is kept to be shown.
    Known::value("xino", "a path", read_xino),
    Known::inert("trunc_xib", Takes::Nothing),
    Known::inert("notrunc_xib", Takes::Nothing),
    Known::inert("trunc_xino", Takes::Either),
    Known::inert("trunc_xino_path", Takes::Value("a path")),
    Known::inert("notrunc_xino", Takes::Nothing),
    Known::value("itrunc_xino", "an index", |b, w| keep_number(b, w, 0, INT_MAX)),
    Known::inert("dio", Takes::Nothing),
    Known::inert("nodio", Takes::Nothing),
    Known::inert("verbose", Takes::Nothing),
    Known::inert("v", Takes::Nothing),
    Known::inert("noverbose", Takes::Nothing),
    Known::inert("quiet", Takes::Nothing),
    Known::inert("q", Takes::Nothing),
    Known::other("wsum", Takes::Nothing, Then::KeepWarn("not implemented in AUFS either, ignored")),
    Known::value("dirwh", "a number", |b, w| keep_number(b, w, 0, INT_MAX)),
    Known::value("rdblk", "a number or def", read_rdblk),
    Known::value("rdhash", "a number or def", read_rdhash),
    Known::value("rdcache", "seconds", |b, w| keep_number(b, w, 0, MAX_SECONDS)),
    Known::value("fhsm_sec", "seconds", |b, w| keep_number(b, w, 0, INT_MAX)),
    Known::other("clean_plink", Takes::Nothing, Then::DropWarn(OBSOLETE)),
    Known::other("list_plink", Takes::Nothing, Then::DropWarn(OBSOLETE)),
    Known::inert("warn_perm", Takes::Nothing),
    Known::inert("nowarn_perm", Takes::Nothing),
    Known::other("shwh", Takes::Nothing, Then::KeepWarn("whiteouts are never shown, ignored")),
    Known::inert("noshwh", Takes::Nothing),
    Known::inert("dirperm1", Takes::Nothing),
    Known::inert("nodirperm1", Takes::Nothing),
    Known::inert("dirren", Takes::Nothing),
    Known::inert("nodirren", Takes::Nothing),
    // So that the text of /proc/mounts can be fed back.
    Known::other("si", Takes::Value("a number"), Then::Drop),
    Known::other("nodlgt", Takes::Nothing, Then::Drop),
    // Unionfs 1.x. Without a value `debug` is FUSE's.
    Known::other("debug", Takes::Either, Then::Read(read_debug)),
    Known::other("delete", Takes::Value("a word"), Then::DropWarn(OBSOLETE)),
    Known::other("imap", Takes::Value("a path"), Then::DropWarn(OBSOLETE)),
    // mount.aufs.
    Known::value("droplvl", "-3 to -1 or 1 to 3", read_droplvl),
    Known::other("ephemeral", Takes::Nothing, Then::Read(|b, _| expand(b, LOWER_3))),
];

/// `br:` and `dirs=`. Each branch goes to the next index, counted over all lists, as AUFS does.
fn read_list(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    for text in elements(word)? {
        let index = build.listed;
        build.listed += 1;
        let branch = branch(build, word, text, index == 0)?;
        if build.changes {
            build.actions.push(Action::Insert { index, branch });
        } else {
            // After `del:` there may be fewer than were listed.
            let at = index.min(build.spec.branches.len());
            build.spec.branches.insert(at, branch);
        }
    }
    Ok(())
}

/// `add:IDX:BRANCH` and `ins:IDX:BRANCH`.
fn read_insert(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    let value = word.value().unwrap_or_default();
    let colon = value.iter().position(|b| *b == b':').ok_or_else(|| word.bad(INDEXED))?;
    let index = std::str::from_utf8(&value[..colon]).ok().and_then(number::<usize>);
    let index = index.ok_or_else(|| word.bad(INDEXED))?;
    let branch = branch(build, word, lone(word, &value[colon + 1..], INDEXED)?, index == 0)?;
    if build.changes {
        build.actions.push(Action::Insert { index, branch });
        return Ok(());
    }
    let count = build.spec.branches.len();
    if index > count {
        return Err(SpecError::IndexOutOfRange { option: word.name().to_owned(), index, count });
    }
    build.spec.branches.insert(index, branch);
    Ok(())
}

/// `append:BRANCH` (never the default `rw`) and `prepend:BRANCH`.
fn one_branch(
    build: &mut Build,
    word: &Word,
    top: bool,
    action: fn(BranchSpec) -> Action,
) -> Result<(), SpecError> {
    let branch = branch(build, word, lone(word, word.value().unwrap_or_default(), BRANCH)?, top)?;
    if build.changes {
        build.actions.push(action(branch));
    } else {
        let at = if top { 0 } else { build.spec.branches.len() };
        build.spec.branches.insert(at, branch);
    }
    Ok(())
}

/// Refuses a list where one branch is wanted. (AUFS takes the colon as part of the path, and finds nothing there.)
fn lone<'a>(word: &Word, text: &'a [u8], want: &str) -> Result<&'a [u8], SpecError> {
    match find(text, b':') {
        None if !text.is_empty() => Ok(text),
        _ => Err(word.bad(format!("{want}, one branch; '\\:' for a colon in a name"))),
    }
}

fn read_delete(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    let path = PathBuf::from(OsString::from_vec(build.plain_value(word)));
    if build.changes {
        build.actions.push(Action::Delete(path));
        return Ok(());
    }
    let at = build.spec.branches.iter().position(|b| b.path == path).ok_or_else(|| no_such_branch(word))?;
    build.spec.branches.remove(at);
    Ok(())
}

fn read_modify(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    let text = lone(word, word.value().unwrap_or_default(), "DIR=PERM[+ATTR...]")?;
    if find(text, b'=').is_none() {
        return Err(word.bad("DIR=PERM[+ATTR...], the permission is needed"));
    }
    let branch = branch(build, word, text, false)?;
    if build.changes {
        build.actions.push(Action::Modify(branch));
        return Ok(());
    }
    let old = build.spec.branches.iter_mut().find(|b| b.path == branch.path);
    *old.ok_or_else(|| no_such_branch(word))? = branch;
    Ok(())
}

fn no_such_branch(word: &Word) -> SpecError {
    SpecError::NoSuchBranch { option: word.name().to_owned(), path: show(word.value().unwrap_or_default()) }
}

/// One `PATH[=PERM[+ATTR...]]`. `top`: AUFS looks at it as the first branch, which is writable unless said.
fn branch(build: &mut Build, word: &Word, text: &[u8], top: bool) -> Result<BranchSpec, SpecError> {
    let (path, perm) = match find(text, b'=') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    if path.is_empty() {
        return Err(word.bad_part(text, "DIR[=PERM[+ATTR...]], the directory is missing"));
    }
    let path = OsString::from_vec(split::unescape(Grammar::Aufs, path));
    let Some(perm) = perm else {
        let perm = default_perm(top, build.read_only);
        return Ok(BranchSpec { path: path.into(), perm, ..BranchSpec::default() });
    };
    let mut branch = BranchSpec::new(path, Perm::Ro);
    read_perm(build, text, perm, &mut branch);
    Ok(branch)
}

/// The permission of a branch that does not say any.
pub(super) fn default_perm(top: bool, read_only: bool) -> Perm {
    if top && !read_only { Perm::Rw } else { Perm::Ro }
}

/// `PERM[+ATTR...]` with AUFS's tolerance: an unknown permission is `ro` without attributes, an unknown attribute ends
/// the attributes, and those that do not go with the permission are left out.
fn read_perm(build: &mut Build, whole: &[u8], text: &[u8], branch: &mut BranchSpec) {
    let mut warn = |what: String| build.warnings.push(format!("branch '{}': {what}", show(whole)));
    if text.is_empty() {
        return;
    }
    let mut words = text.split(|b| *b == b'+');
    branch.perm = match words.next() {
        Some(b"rw") => Perm::Rw,
        Some(b"ro") => Perm::Ro,
        Some(b"rr") => Perm::Rr,
        other => {
            warn(format!("unknown permission '{}', taken as ro", show(other.unwrap_or_default())));
            return;
        }
    };
    let mut unpin = false;
    for attr in words {
        match attr {
            b"wh" => branch.wh = true,
            b"nolwh" => branch.nolwh = true,
            b"unpin" => unpin = true,
            b"icex" => branch.other.extend(ICEX.map(|(_, attr)| attr)),
            _ => match ATTRS.iter().chain(&ICEX).find(|(name, _)| name.as_bytes() == attr) {
                Some((_, attr)) => {
                    if EXCLUSIVE.contains(attr) {
                        branch.other.retain(|had| !EXCLUSIVE.contains(had));
                    }
                    branch.other.push(*attr);
                }
                None => {
                    warn(format!("unknown attribute '{}' ignored, with those after it", show(attr)));
                    break;
                }
            },
        }
    }
    branch.other.sort_unstable();
    branch.other.dedup();
    let rw = branch.perm == Perm::Rw;
    let mut leave_out = |bad: bool, name: &str, why: &str| {
        if bad {
            warn(format!("attribute '{name}' ignored: {why}"));
        }
    };
    leave_out(unpin, "unpin", "obsolete, branch roots are never pinned");
    leave_out(rw && branch.wh, "wh", "a rw branch always honours whiteouts");
    leave_out(!rw && branch.nolwh, "nolwh", "for rw branches only");
    leave_out(!rw && branch.other.contains(&BranchAttr::Moo), "moo", "for rw branches only");
    branch.wh &= !rw;
    branch.nolwh &= rw;
    branch.other.retain(|attr| rw || *attr != BranchAttr::Moo);
}

const ATTRS: [(&str, BranchAttr); 4] = [
    ("coo_reg", BranchAttr::CooReg),
    ("coo_all", BranchAttr::CooAll),
    ("moo", BranchAttr::Moo),
    ("fhsm", BranchAttr::Fhsm),
];

const ICEX: [(&str, BranchAttr); 5] = [
    ("icexsec", BranchAttr::IcexSec),
    ("icexsys", BranchAttr::IcexSys),
    ("icextr", BranchAttr::IcexTr),
    ("icexusr", BranchAttr::IcexUsr),
    ("icexoth", BranchAttr::IcexOth),
];

/// Of these the last one written counts.
const EXCLUSIVE: [BranchAttr; 3] = [BranchAttr::CooReg, BranchAttr::CooAll, BranchAttr::Moo];

fn read_xino(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.xino = Some(OsString::from_vec(build.plain_value(word)));
    Ok(())
}

/// Checks a number as AUFS does, and keeps the option.
fn keep_number(build: &mut Build, word: &Word, least: u32, most: u32) -> Result<(), SpecError> {
    let fits = number::<u32>(word.value_text()).is_some_and(|n| (least..=most).contains(&n));
    if !fits {
        return Err(word.bad(format!("a number from {least} to {most}")));
    }
    build.keep(word);
    Ok(())
}

/// `rdblk=`: a block must hold the longest name; 0 is an estimate per directory.
fn read_rdblk(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    match word.value_text() {
        "0" | "def" => build.keep(word),
        _ => keep_number(build, word, 255, INT_MAX).map_err(|_| word.bad("0, at least 255, or def"))?,
    }
    Ok(())
}

fn read_rdhash(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    match word.value_text() {
        "def" => build.keep(word),
        _ => keep_number(build, word, 0, INT_MAX).map_err(|_| word.bad("a number, or def"))?,
    }
    Ok(())
}

fn read_debug(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    match word.value() {
        None => build.keep(word),
        Some(_) => build.warn(word, OBSOLETE),
    }
    Ok(())
}

const LOWER_1: &[&str] = &["noatime", "dirperm1", "udba=none", "nodirren"];
const LOWER_2: &[&str] = &["noatime", "dirperm1", "udba=none", "nodirren", "notrunc_xino", "notrunc_xib"];
const LOWER_3: &[&str] =
    &["noatime", "dirperm1", "udba=none", "nodirren", "notrunc_xino", "notrunc_xib", "noplink", "noxino"];
const HIGHER_1: &[&str] = &["relatime", "nodirperm1", "udba=reval"];
const HIGHER_2: &[&str] = &["relatime", "nodirperm1", "udba=reval", "notrunc_xino", "notrunc_xib"];
const HIGHER_3: &[&str] =
    &["relatime", "nodirperm1", "udba=reval", "notrunc_xino", "notrunc_xib", "plink", "xino=/tmp/.aufs.xino"];

/// mount.aufs' level of AUFS-ness to do without. Later words override, earlier ones are overridden.
fn read_droplvl(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    match word.value_text() {
        "1" => expand(build, LOWER_1),
        "2" => expand(build, LOWER_2),
        "3" => expand(build, LOWER_3),
        "-1" => expand(build, HIGHER_1),
        "-2" => expand(build, HIGHER_2),
        "-3" => expand(build, HIGHER_3),
        _ => Err(word.bad("-3, -2, -1, 1, 2 or 3")),
    }
}

fn expand(build: &mut Build, words: &[&str]) -> Result<(), SpecError> {
    words.iter().try_for_each(|word| build.word(&Word::new(word.as_bytes().to_vec())))
}

/// Branches that took their default in a place they have lost since (`append:/a` alone is `ro`; after `prepend:`
/// the old top stays `rw`) count as said, for their text must say it to mean the same again.
pub(super) fn finish(build: &mut Build) {
    for (index, branch) in build.spec.branches.iter_mut().enumerate() {
        branch.perm_said |= branch.perm != default_perm(index == 0, build.read_only);
    }
}
