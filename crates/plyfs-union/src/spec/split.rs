//! Cutting option texts into words, lists and values, and the escapes in them. Bytes in, bytes out.
//!
//! Escapes. A backslash takes the special meaning from the byte after it. overlay (kernel): from any byte. AUFS had no
//! escapes at all, so that a comma, colon or `=` in a branch path was impossible and a backslash was an ordinary
//! byte; plyfs adds `\:` `\,` `\=` and `\\` there and leaves every other backslash as it is. A lone backslash at the
//! end of an argument is itself in both.

use super::Grammar;
use super::error::{SpecError, show};

/// One option as written.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// The whole option, escapes and quotes included.
    pub(super) text: Vec<u8>,
    /// Where the name ends: at the first `=` or `:`, or at the end.
    name_len: usize,
}

impl Word {
    /// From its text, completing a lone backslash at the end: it must not escape a comma when printed back.
    pub(super) fn new(mut text: Vec<u8>) -> Self {
        if ends_in_escape(&text) {
            text.push(b'\\');
        }
        let name_len = text.iter().position(|b| matches!(b, b'=' | b':')).unwrap_or(text.len());
        Self { text, name_len }
    }

    /// The option's name; empty if it is not even text.
    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(&self.text[..self.name_len]).unwrap_or_default()
    }

    /// `=` or `:`, if there is a value.
    pub(super) fn separator(&self) -> Option<u8> {
        self.text.get(self.name_len).copied()
    }

    /// What follows the separator, as written.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.text.get(self.name_len + 1..)
    }

    /// The value as text for words and numbers; what is not text fits none of them.
    pub(super) fn value_text(&self) -> &str {
        self.value().and_then(|v| std::str::from_utf8(v).ok()).unwrap_or("\u{fffd}")
    }

    /// An error about the whole value.
    pub(super) fn bad(&self, want: impl Into<String>) -> SpecError {
        self.bad_part(self.value().unwrap_or_default(), want)
    }

    /// An error about a part of the value.
    pub(super) fn bad_part(&self, part: &[u8], want: impl Into<String>) -> SpecError {
        SpecError::BadValue { option: self.name().to_owned(), text: show(part), want: want.into() }
    }
}

/// Whether the last byte is a backslash that waits for a byte to escape.
fn ends_in_escape(text: &[u8]) -> bool {
    text.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

/// Security contexts hold commas, and are the one place where double quotes mean something.
const QUOTABLE: [&str; 4] = ["context=\"", "fscontext=\"", "defcontext=\"", "rootcontext=\""];

/// All options of all arguments in order. Empty ones (`a,,b`) vanish, as mount(8) has it.
pub(super) fn words<T: AsRef<[u8]>>(arguments: &[T]) -> Result<Vec<Word>, SpecError> {
    let mut found = Vec::new();
    for argument in arguments {
        let mut rest = argument.as_ref();
        if rest.contains(&0) {
            return Err(SpecError::Nul { text: show(rest) });
        }
        while !rest.is_empty() {
            let end = quoted_len(rest)?;
            let end = end + find(&rest[end..], b',').unwrap_or(rest.len() - end);
            if end > 0 {
                found.push(Word::new(rest[..end].to_vec()));
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    Ok(found)
}

/// How many bytes at the start of `text` a quoted value takes, closing quote included; 0 if none starts here.
fn quoted_len(text: &[u8]) -> Result<usize, SpecError> {
    let Some(start) = QUOTABLE.iter().find(|q| text.starts_with(q.as_bytes())) else { return Ok(0) };
    match text[start.len()..].iter().position(|b| *b == b'"') {
        Some(len) => Ok(start.len() + len + 1),
        None => Err(SpecError::OpenQuote { option: start.trim_end_matches("=\"").to_owned() }),
    }
}

/// The first unescaped `wanted` in `text`.
pub(super) fn find(text: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        if text[at] == wanted {
            return Some(at);
        }
        // A backslash before an ordinary byte escapes nothing in AUFS, but skipping an ordinary byte does no harm.
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    None
}

/// The elements of a colon-separated list of directories. Colons at the end are harmless; an empty element before
/// the end is refused, and so is a list of nothing.
pub(super) fn elements(word: &Word) -> Result<Vec<&[u8]>, SpecError> {
    let list = word.value().unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = Some(list);
    while let Some(text) = rest {
        let colon = find(text, b':');
        found.push(&text[..colon.unwrap_or(text.len())]);
        rest = colon.map(|c| &text[c + 1..]);
    }
    while found.last().is_some_and(|e| e.is_empty()) {
        found.pop();
    }
    if found.is_empty() {
        return Err(SpecError::NeedsValue {
            option: word.name().to_owned(),
            want: "DIR[:DIR...]".to_owned(),
        });
    }
    if found.iter().any(|e| e.is_empty()) {
        return Err(SpecError::EmptyElement { option: word.name().to_owned(), text: show(list) });
    }
    Ok(found)
}

/// Takes the escapes out of a value.
pub(super) fn unescape(grammar: Grammar, text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escapes = match (text[at], text.get(at + 1)) {
            (b'\\', Some(next)) => grammar == Grammar::Overlay || b":,=\\".contains(next),
            _ => false,
        };
        at += usize::from(escapes);
        plain.push(text[at]);
        at += 1;
    }
    plain
}

/// Appends `plain` with a backslash before each backslash and each of `special`.
pub(super) fn escape_into(out: &mut Vec<u8>, plain: &[u8], special: &[u8]) {
    for byte in plain {
        if *byte == b'\\' || special.contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
}

/// A plain decimal number. No sign, no blank, no suffix, no leading zero: the kernel reads `010` as eight, people read
/// ten, so it is refused.
pub(super) fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
