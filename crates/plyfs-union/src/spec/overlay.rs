//! overlay's grammar: kernel overlayfs' and fuse-overlayfs' `lowerdir=,upperdir=,workdir=` and their other options.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::error::show;
use super::parse::{Build, Known, Takes, Then};
use super::split::{Word, elements, unescape};
use super::{BranchSpec, Grammar, Perm, SpecError};

/// The words that tell this grammar.
pub(super) const MARKS: [&str; 4] = ["lowerdir", "lowerdir+", "upperdir", "workdir"];

const DIRS: &str = "DIR[:DIR...], the uppermost first";
const ON_OFF: &str = "on or off";

/// The table.
pub(super) const WORDS: &[Known] = &[
    Known::value("lowerdir", DIRS, read_lower),
    Known::value("lowerdir+", "DIR", add_lower),
    Known::value("upperdir", "DIR", read_upper),
    Known::value("workdir", "DIR", read_work),
    // Kernel overlayfs. Directories are renamed by redirect here whatever is said.
    Known::inert("index", Takes::Value(ON_OFF)),
    Known::inert("nfs_export", Takes::Value(ON_OFF)),
    Known::inert("redirect_dir", Takes::Value("on, follow, nofollow or off")),
    Known::inert("xino", Takes::Value("on, auto or off")),
    Known::inert("uuid", Takes::Value("on, auto, null or off")),
    Known::inert("verity", Takes::Value("on, require or off")),
    Known::inert("userxattr", Takes::Nothing),
    // fuse-overlayfs.
    Known::inert("threaded", Takes::Either),
    Known::inert("fsync", Takes::Either),
    Known::inert("fast_ino", Takes::Either),
    Known::inert("writeback", Takes::Either),
    Known::inert("ino32_t", Takes::Either),
    Known::inert("static_nlink", Takes::Either),
    Known::other("plugins", Takes::Value("a list"), Then::KeepWarn("plugins are not supported, ignored")),
];

/// The directories as they come.
#[derive(Default)]
pub(super) struct Given {
    /// `lowerdir=` itself was there.
    listed: bool,
    lower: Vec<PathBuf>,
    upper: Option<PathBuf>,
}

fn path(text: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(Grammar::Overlay, text)).into()
}

/// Branches cannot change in a remount of this grammar, but mount(8) repeats the words of /etc/fstab.
fn at_remount(build: &mut Build, word: &Word) -> bool {
    if build.changes {
        build.warn(
            word,
            "ignored: the branches stay as they are, live changes of the stack are not offered yet",
        );
    }
    build.changes
}

fn again(word: &Word) -> SpecError {
    SpecError::GivenTwice { option: word.name().to_owned(), text: show(word.value().unwrap_or_default()) }
}

fn read_lower(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    if at_remount(build, word) {
        return Ok(());
    }
    if std::mem::replace(&mut build.given.listed, true) {
        return Err(again(word));
    }
    build.given.lower.extend(elements(word)?.into_iter().map(path));
    Ok(())
}

/// The kernel's newer form, one directory each; a colon is an ordinary byte.
fn add_lower(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    if !at_remount(build, word) {
        build.given.lower.push(path(word.value().unwrap_or_default()));
    }
    Ok(())
}

fn read_upper(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    if at_remount(build, word) {
        return Ok(());
    }
    match build.given.upper.replace(path(word.value().unwrap_or_default())) {
        Some(_) => Err(again(word)),
        None => Ok(()),
    }
}

fn read_work(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    if at_remount(build, word) {
        return Ok(());
    }
    match build.spec.workdir.replace(path(word.value().unwrap_or_default())) {
        Some(_) => Err(again(word)),
        None => Ok(()),
    }
}

/// Upper and lower directories as branches: overlay's layers always honour whiteouts.
pub(super) fn finish(build: &mut Build) -> Result<(), SpecError> {
    let given = std::mem::take(&mut build.given);
    let lower = given.lower.into_iter().map(|path| BranchSpec::new(path, Perm::Ro).with_wh());
    let upper = given.upper.into_iter().map(|path| BranchSpec::new(path, Perm::Rw));
    build.spec.branches = upper.chain(lower).collect();
    if build.spec.branches.is_empty() {
        return Err(SpecError::NeedsValue { option: "lowerdir".to_owned(), want: DIRS.to_owned() });
    }
    Ok(())
}
