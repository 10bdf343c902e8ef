//! What can be wrong with an options text. Every message names the option, the text, and what would be right.

use super::check::MAX_BRANCHES;

/// A refusal of an options text, or of a [`super::MountSpec`] by its check.
///
/// The strings are for people: bytes outside printable ASCII are escaped in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Neither grammar's branch option was given.
    #[error(
        "no branches: give br:DIR[=rw|ro|rr][:DIR...] or lowerdir=DIR[:DIR...][,upperdir=DIR,workdir=DIR]"
    )]
    NoBranches,
    /// Words of both grammars in one text.
    #[error("options mix two grammars: '{aufs}' is AUFS's, '{overlay}' is overlay's; use one of them")]
    MixedGrammars {
        /// The AUFS option.
        aufs: String,
        /// The overlay option.
        overlay: String,
    },
    /// An option nobody knows.
    #[error("unknown option '{option}'{hint}")]
    UnknownOption {
        /// As written.
        option: String,
        /// Empty, or what may have been meant.
        hint: String,
    },
    /// An option that needs a value has none.
    #[error("option '{option}' needs a value: {want}")]
    NeedsValue {
        /// The option's name.
        option: String,
        /// What would be right.
        want: String,
    },
    /// An option that takes no value has one.
    #[error("option '{option}' takes no value, but has '{text}'")]
    NoValueAllowed {
        /// The option's name.
        option: String,
        /// The value.
        text: String,
    },
    /// A value that does not fit.
    #[error("option '{option}': '{text}' is not right: {want}")]
    BadValue {
        /// The option's name.
        option: String,
        /// The value, or the offending part of it.
        text: String,
        /// What would be right.
        want: String,
    },
    /// An empty element amid a list of directories. (AUFS drops the rest of the list without a word.)
    #[error(
        "option '{option}': empty element in '{text}'; write one ':' between directories, '\\:' for a colon in a name"
    )]
    EmptyElement {
        /// The option's name.
        option: String,
        /// The list.
        text: String,
    },
    /// An option that may be given once was given again.
    #[error("option '{option}' is given twice, the second time as '{text}'; give it once")]
    GivenTwice {
        /// The option's name.
        option: String,
        /// The second value.
        text: String,
    },
    /// `upperdir=` alone.
    #[error(
        "option 'upperdir' ('{upper}') needs lowerdir=; for a lone writable directory use an empty one: lowerdir=EMPTYDIR"
    )]
    UpperWithoutLower {
        /// The upper directory.
        upper: String,
    },
    /// `add:IDX:` beyond the end.
    #[error(
        "option '{option}': index {index} is out of range; there are {count} branches so far, 0 to {count} is right"
    )]
    IndexOutOfRange {
        /// The option's name.
        option: String,
        /// The index asked for.
        index: usize,
        /// How many branches there are.
        count: usize,
    },
    /// `del:` or `mod:` of something that is no branch.
    #[error("option '{option}': '{path}' is not a branch so far")]
    NoSuchBranch {
        /// The option's name.
        option: String,
        /// The path.
        path: String,
    },
    /// More branches than fit.
    #[error("{count} branches; at most {MAX_BRANCHES} are possible")]
    TooManyBranches {
        /// How many there were.
        count: usize,
    },
    /// The same path twice.
    #[error("branch '{path}' is given twice; give it once")]
    BranchTwice {
        /// The path.
        path: String,
    },
    /// `context="...` without the closing quote.
    #[error("option '{option}' has no closing quote; write {option}=\"VALUE\"")]
    OpenQuote {
        /// The option's name.
        option: String,
    },
    /// A NUL byte, which no path and no option can hold.
    #[error("options hold a NUL byte: '{text}'; remove it")]
    Nul {
        /// The argument.
        text: String,
    },
    /// Well formed, but not (yet) within what the engine does: refused rather than half done.
    #[error("not offered by this version of plyfs: {what}")]
    NotOffered {
        /// The option or combination.
        what: String,
    },
}

impl SpecError {
    /// [`SpecError::NotOffered`], for the engine.
    pub fn not_offered(what: impl Into<String>) -> Self {
        Self::NotOffered { what: what.into() }
    }
}

/// Bytes as people may see them in a message.
pub(super) fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}
