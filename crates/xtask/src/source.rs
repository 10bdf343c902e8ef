//! Reading Rust sources by eye: which lines are code, which are comments, which belong to a test module.
//!
//! No parser: rustfmt's layout is relied on (a module closes with `}` at the column where it opened).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A line that is code, outside comments.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
    /// Inside a `#[cfg(test)]` module.
    pub(crate) in_test: bool,
}

impl Source {
    /// `plyfs-union` for `crates/plyfs-union/src/names.rs`.
    pub(crate) fn krate(&self) -> &str {
        self.path.components().nth(1).and_then(|part| part.as_os_str().to_str()).unwrap_or("")
    }

    /// Whether the whole file is test code (`tests/`, `benches/`, `src/foo/tests.rs`, the suites' crate).
    pub(crate) fn is_test(&self) -> bool {
        let text = self.path.to_string_lossy();
        self.krate() == "plyfs-tests"
            || text.contains("/tests/")
            || text.contains("/benches/")
            || text.ends_with("/tests.rs")
    }

    /// The lines that are neither blank nor comment.
    pub(crate) fn code(&self) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        let mut block_comment = false;
        let mut test_indent: Option<usize> = None;
        let mut pending_test = false;
        for (at, text) in self.text.lines().enumerate() {
            let trimmed = text.trim();
            if block_comment {
                block_comment = !trimmed.contains("*/");
                continue;
            }
            if trimmed.starts_with("/*") {
                block_comment = !trimmed.contains("*/");
                continue;
            }
            if trimmed.is_empty() || trimmed.starts_with("//") {
                continue;
            }
            let indent = text.len() - text.trim_start().len();
            if trimmed.starts_with("#[cfg(test)]") || trimmed.starts_with("#[cfg(all(test") {
                pending_test = true;
                lines.push(Line { number: at + 1, text, in_test: true });
                continue;
            }
            if pending_test && !trimmed.starts_with('#') {
                pending_test = false;
                if trimmed.ends_with('{') {
                    test_indent = Some(indent);
                    lines.push(Line { number: at + 1, text, in_test: true });
                    continue;
                }
            }
            lines.push(Line { number: at + 1, text, in_test: test_indent.is_some() || pending_test });
            if test_indent == Some(indent) && trimmed.starts_with('}') {
                test_indent = None;
            }
        }
        lines
    }
}

/// Every `.rs` file of the workspace's crates and of `fuzz/`, sorted.
pub(crate) fn all(root: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for top in ["crates", "fuzz"] {
        let dir = root.join(top);
        if dir.is_dir() {
            collect(root, &dir, &mut found)?;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(root: &Path, dir: &Path, into: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if path.is_dir() {
            if !matches!(name, "target" | "corpus" | "artifacts") {
                collect(root, &path, into)?;
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            into.push(Source { path, text });
        }
    }
    Ok(())
}

/// `line` without what follows `//`, and with the text of string literals taken out.
pub(crate) fn bare(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match (in_string, c) {
            (true, '\\') => {
                chars.next();
            }
            (true, '"') => in_string = false,
            (true, _) => {}
            (false, '"') => in_string = true,
            (false, '/') if chars.peek() == Some(&'/') => break,
            (false, _) => out.push(c),
        }
    }
    out
}

/// Whether `word` stands in `line` as a whole word.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: PathBuf::from("crates/plyfs-union/src/x.rs"), text: text.into() }
    }

    #[test]
    fn comments_blanks_and_test_modules_are_told_apart() {
        let s = source(
            "//! x\n\nfn a() {}\n/* b\nc */\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\nfn z() {}\n",
        );
        let code = s.code();
        let plain: Vec<usize> = code.iter().filter(|l| !l.in_test).map(|l| l.number).collect();
        assert_eq!(plain, [3, 10]);
        assert_eq!(code.len(), 6);
    }

    #[test]
    fn words_in_strings_and_comments_do_not_count() {
        assert_eq!(bare(r#"let a = "unsafe \" x"; // unsafe"#), "let a = ; ");
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
    }
}
