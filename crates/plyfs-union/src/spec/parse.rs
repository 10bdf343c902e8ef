//! From option texts to a [`MountSpec`]: which grammar it is, word by word through the tables, and the checks.
//!
//! Here lives: the entry points, the tables' types, and what holds for every option. Not here: the options
//! themselves ([`super::common`], [`super::aufs`], [`super::overlay`]).

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::error::show;
use super::split::{self, Word};
use super::{BranchSpec, Grammar, MountSpec, SpecError, aufs, common, overlay, speed};

/// What an option that nobody knows is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// An error: `plyfs mount`, `plyfs remount`.
    Refuse,
    /// A warning: the mount helpers and fuse-overlayfs' own form, whose callers hand on options of other programs.
    Warn,
}

/// What an options text asks to be done, beyond the state it describes. In the order written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// `remount` was among the words: a mount is to be changed, see [`remount`].
    Remount,
    /// `add:IDX:`, `ins:IDX:`; also each branch of a `br:` list, which AUFS takes as `add:0:`, `add:1:` and so on and
    /// which is silently right if it is there already (mount(8) repeats the list of /etc/fstab).
    Insert {
        /// 0 to the number of branches.
        index: usize,
        /// What to insert.
        branch: BranchSpec,
    },
    /// `append:`: below all others.
    Append(BranchSpec),
    /// `prepend:`: above all others.
    Prepend(BranchSpec),
    /// `del:`. No branch there: nothing to do, says AUFS.
    Delete(PathBuf),
    /// `mod:`: permission and attributes of the branch with this path. No branch there: nothing to do, says AUFS.
    Modify(BranchSpec),
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The state asked for.
    pub spec: MountSpec,
    /// One sentence each, to be shown to the user by the caller.
    pub warnings: Vec<String>,
    /// Empty unless `remount` was among the words: then [`Action::Remount`] and the changes of branches.
    pub actions: Vec<Action>,
}

/// Reads the options of a mount: each argument of `-o` in order, in either grammar.
///
/// The grammar is told by the words: `br`, `dirs`, `append`, `prepend`, `add`, `ins` (also `del`, `mod`) are AUFS's;
/// `lowerdir`, `upperdir`, `workdir` are overlay's. With `remount` among the words no branches are needed: the caller
/// sees [`Action::Remount`], finds out what is mounted, and calls [`remount`].
pub fn parse(options: &[&OsStr], unknown: Unknown) -> Result<Parsed, SpecError> {
    let words = read_words(options)?;
    let changes = words.iter().any(|w| w.text == b"remount");
    let grammar = match detect(&words)? {
        Some(grammar) => grammar,
        None if changes => Grammar::default(),
        None => return Err(SpecError::NoBranches),
    };
    run(MountSpec { grammar, ..MountSpec::default() }, &words, unknown, changes)
}

/// Reads the options of a remount on top of what is mounted: options not mentioned stay. The branches of the answer
/// are those of `base`; their changes are [`Parsed::actions`], for whoever can tell which directories are the same.
pub fn remount(base: &MountSpec, options: &[&OsStr], unknown: Unknown) -> Result<Parsed, SpecError> {
    let words = read_words(options)?;
    detect(&words)?;
    run(base.clone(), &words, unknown, true)
}

fn read_words(options: &[&OsStr]) -> Result<Vec<Word>, SpecError> {
    let arguments: Vec<&[u8]> = options.iter().map(|o| o.as_bytes()).collect();
    split::words(&arguments)
}

fn detect(words: &[Word]) -> Result<Option<Grammar>, SpecError> {
    let first = |names: &[&str]| words.iter().find(|w| names.contains(&w.name()));
    match (first(&aufs::MARKS), first(&overlay::MARKS)) {
        (Some(a), Some(o)) => {
            Err(SpecError::MixedGrammars { aufs: a.name().to_owned(), overlay: o.name().to_owned() })
        }
        (Some(_), None) => Ok(Some(Grammar::Aufs)),
        (None, Some(_)) => Ok(Some(Grammar::Overlay)),
        (None, None) => Ok(None),
    }
}

fn run(base: MountSpec, words: &[Word], unknown: Unknown, changes: bool) -> Result<Parsed, SpecError> {
    // The defaults of branches depend on it, wherever it is written: `br:/a,ro` is `ro,br:/a`.
    let read_only = words.iter().rev().find_map(|w| match &w.text[..] {
        b"ro" => Some(true),
        b"rw" => Some(false),
        _ => None,
    });
    let read_only = read_only.unwrap_or(base.kernel.read_only);
    let actions = if changes { vec![Action::Remount] } else { Vec::new() };
    let given = overlay::Given::default();
    let mut build =
        Build { spec: base, unknown, changes, read_only, listed: 0, given, warnings: Vec::new(), actions };
    words.iter().try_for_each(|word| build.word(word))?;
    build.finish()
}

/// The work in hand.
pub(super) struct Build {
    /// What has been read so far.
    pub(super) spec: MountSpec,
    unknown: Unknown,
    /// Branches are not set but changed: a remount.
    pub(super) changes: bool,
    /// The mount is `ro`, said before or after.
    pub(super) read_only: bool,
    /// AUFS: how many branches the `br:` and `dirs=` lists had so far.
    pub(super) listed: usize,
    /// Overlay: the directories so far.
    pub(super) given: overlay::Given,
    /// For [`Parsed::warnings`].
    pub(super) warnings: Vec<String>,
    /// For [`Parsed::actions`].
    pub(super) actions: Vec<Action>,
}

/// Reads one option into the work.
pub(super) type Reader = fn(&mut Build, &Word) -> Result<(), SpecError>;

/// What an option does.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// Sets something.
    Set(fn(&mut MountSpec)),
    /// Reads its value.
    Read(Reader),
    /// Goes to `inert`.
    Keep,
    /// Goes to `inert`, with a warning.
    KeepWarn(&'static str),
    /// Means nothing here and now.
    Drop,
    /// Is left out, with a warning.
    DropWarn(&'static str),
}

/// Whether an option has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// No.
    Nothing,
    /// `=VALUE`, which must look like this.
    Value(&'static str),
    /// Both forms are known.
    Either,
    /// `:VALUE` or `=VALUE`, AUFS's branch options.
    List(&'static str),
}

/// One line of a table of options.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) then: Then,
}

impl Known {
    /// A word without value that sets something.
    pub(super) const fn flag(name: &'static str, set: fn(&mut MountSpec)) -> Self {
        Self { name, takes: Takes::Nothing, then: Then::Set(set) }
    }

    /// A word with a value that is read.
    pub(super) const fn value(name: &'static str, want: &'static str, read: Reader) -> Self {
        Self { name, takes: Takes::Value(want), then: Then::Read(read) }
    }

    /// A branch option of AUFS.
    pub(super) const fn list(name: &'static str, want: &'static str, read: Reader) -> Self {
        Self { name, takes: Takes::List(want), then: Then::Read(read) }
    }

    /// A word, with or without value, that needs nothing here.
    pub(super) const fn inert(name: &'static str, takes: Takes) -> Self {
        Self { name, takes, then: Then::Keep }
    }

    /// Any other.
    pub(super) const fn other(name: &'static str, takes: Takes, then: Then) -> Self {
        Self { name, takes, then }
    }
}

impl Build {
    /// Takes one option.
    pub(super) fn word(&mut self, word: &Word) -> Result<(), SpecError> {
        if common::is_foreign(word) {
            self.keep(word);
            return Ok(());
        }
        let (own, others) = match self.spec.grammar {
            Grammar::Aufs => (aufs::WORDS, overlay::WORDS),
            Grammar::Overlay => (overlay::WORDS, aufs::WORDS),
        };
        let of = |table: &'static [Known]| table.iter().find(|known| known.name == word.name());
        match of(own).or_else(|| of(common::WORDS)).or_else(|| of(speed::WORDS)) {
            Some(known) => self.known(known, word),
            None => self.unknown(word, of(others).is_some()),
        }
    }

    fn known(&mut self, known: &Known, word: &Word) -> Result<(), SpecError> {
        let given = word.value().is_some_and(|v| !v.is_empty());
        match (known.takes, word.separator()) {
            (Takes::Value(_) | Takes::Either | Takes::Nothing, Some(b':')) => {
                return self.unknown(word, false);
            }
            (Takes::Nothing, Some(_)) => {
                let text = show(word.value().unwrap_or_default());
                return Err(SpecError::NoValueAllowed { option: word.name().to_owned(), text });
            }
            (Takes::Value(want) | Takes::List(want), _) if !given => {
                return Err(SpecError::NeedsValue { option: word.name().to_owned(), want: want.to_owned() });
            }
            _ => {}
        }
        match known.then {
            Then::Set(set) => set(&mut self.spec),
            Then::Read(read) => return read(self, word),
            Then::Keep => self.keep(word),
            Then::KeepWarn(why) => {
                self.warn(word, why);
                self.keep(word);
            }
            Then::Drop => {}
            Then::DropWarn(why) => self.warn(word, why),
        }
        Ok(())
    }

    fn unknown(&mut self, word: &Word, elsewhere: bool) -> Result<(), SpecError> {
        let hint = match (self.spec.grammar, elsewhere) {
            (Grammar::Aufs, true) => "; it is known with lowerdir= only",
            (Grammar::Overlay, true) => "; it is known with br: only",
            (_, false) => "",
        };
        match self.unknown {
            Unknown::Refuse => {
                Err(SpecError::UnknownOption { option: show(&word.text), hint: hint.to_owned() })
            }
            Unknown::Warn => {
                self.warnings.push(format!("unknown option '{}' ignored{hint}", show(&word.text)));
                Ok(())
            }
        }
    }

    /// Notes a warning about an option.
    pub(super) fn warn(&mut self, word: &Word, why: &str) {
        self.warnings.push(format!("option '{}': {why}", show(&word.text)));
    }

    /// Puts an option to the inert ones; said again, it counts at its last place.
    pub(super) fn keep(&mut self, word: &Word) {
        let text = OsStringExt::from_vec(word.text.clone());
        self.spec.inert.retain(|kept| *kept != text);
        self.spec.inert.push(text);
    }

    /// The value of an option as a path or name, escapes taken out.
    pub(super) fn plain_value(&self, word: &Word) -> Vec<u8> {
        split::unescape(self.spec.grammar, word.value().unwrap_or_default())
    }

    fn finish(mut self) -> Result<Parsed, SpecError> {
        if !self.changes {
            match self.spec.grammar {
                Grammar::Aufs => aufs::finish(&mut self),
                Grammar::Overlay => overlay::finish(&mut self)?,
            }
            self.spec.check()?;
        }
        Ok(Parsed { spec: self.spec, warnings: self.warnings, actions: self.actions })
    }
}
