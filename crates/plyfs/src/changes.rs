//! The list of changes that `diff` and `try` show.

use std::io;
use std::path::{Path, PathBuf};

use plyfs_union::{Change, ChangeKind, Union};
use serde::Serialize;

use crate::commands::which::kind_word;
use crate::output::{self, Page, Tone, path_line};

/// Changes of one union or several, sorted by path.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Changes {
    changes: Vec<Line>,
    summary: Summary,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    /// `A`, `C` or `D`.
    kind: char,
    path: String,
    /// After the change; of what is gone (D).
    #[serde(rename = "type")]
    file: &'static str,
    /// Bytes of a regular file: after the change (A, C), of what is gone (D).
    size: u64,
    /// By which the lines are sorted.
    #[serde(skip)]
    place: PathBuf,
}

/// Figures over all changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    added: u64,
    changed: u64,
    deleted: u64,
    /// Bytes of regular files added and changed.
    bytes: u64,
}

impl Changes {
    /// Adds the changes of `union`, which is mounted at `at`.
    pub(crate) fn add(&mut self, at: &Path, union: &Union) -> Result<(), plyfs_union::Error> {
        self.add_unless(at, union, &|_| false)
    }

    /// The same without those that are not to be shown.
    pub(crate) fn add_unless(
        &mut self,
        at: &Path,
        union: &Union,
        hidden: &dyn Fn(&Change) -> bool,
    ) -> Result<(), plyfs_union::Error> {
        // All or nothing: a comparison that failed half-way may be tried again.
        let mut all = Vec::new();
        union.changes(&mut |change| all.push(change))?;
        all.iter().filter(|change| !hidden(change)).for_each(|change| self.push(at, change));
        self.changes.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(())
    }

    fn push(&mut self, at: &Path, change: &Change) {
        let place = at.join(change.path.strip_prefix("/").unwrap_or(&change.path));
        let (kind, count) = match change.kind {
            ChangeKind::Added => ('A', &mut self.summary.added),
            ChangeKind::Changed => ('C', &mut self.summary.changed),
            ChangeKind::Deleted => ('D', &mut self.summary.deleted),
        };
        *count += 1;
        if change.kind != ChangeKind::Deleted {
            self.summary.bytes += change.size;
        }
        let file = kind_word(change.file);
        self.changes.push(Line { kind, path: path_line(&place), file, size: change.size, place });
    }

    /// Nothing was changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// `A /path`, with sizes in front of the paths of regular files where asked.
    pub(crate) fn lines(&self, page: &mut Page<'_>, sizes: bool) -> io::Result<()> {
        for line in &self.changes {
            let tone = match line.kind {
                'A' => Tone::Good,
                'C' => Tone::Warn,
                _ => Tone::Bad,
            };
            let kind = page.paint(tone, line.kind);
            let slash = if line.file == "directory" && line.path != "/" { "/" } else { "" };
            if sizes {
                let size = if line.file == "file" { output::size(line.size) } else { String::new() };
                page.line(format_args!("{kind} {size:>6} {}{slash}", line.path))?;
            } else {
                page.line(format_args!("{kind} {}", line.path))?;
            }
        }
        Ok(())
    }

    /// `3 added, 1 changed, 0 deleted; 12K written`
    pub(crate) fn summary(&self) -> String {
        let Summary { added, changed, deleted, bytes } = self.summary;
        format!("{added} added, {changed} changed, {deleted} deleted; {} written", output::size(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Report;
    use plyfs_sys::stat::Kind;

    #[derive(Serialize)]
    struct Shown<'a>(&'a Changes, bool);

    impl Report for Shown<'_> {
        fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
            self.0.lines(page, self.1)
        }
    }

    fn change(kind: ChangeKind, path: &str, file: Kind, size: u64) -> Change {
        Change { kind, path: path.into(), file, size, hides_other: false }
    }

    #[test]
    fn lines_with_and_without_sizes() {
        let mut changes = Changes::default();
        changes.push(Path::new("/"), &change(ChangeKind::Changed, "/etc", Kind::Dir, 0));
        changes.push(Path::new("/"), &change(ChangeKind::Added, "/etc/new\nline", Kind::File, 2048));
        changes.push(Path::new("/home"), &change(ChangeKind::Deleted, "/old", Kind::File, 5));
        assert_eq!(output::plain(&Shown(&changes, false)), "C /etc\nA /etc/new\\012line\nD /home/old\n");
        assert_eq!(
            output::plain(&Shown(&changes, true)),
            "C        /etc/\nA   2.0K /etc/new\\012line\nD     5B /home/old\n"
        );
        assert_eq!(changes.summary(), "1 added, 1 changed, 1 deleted; 2.0K written");
    }
}
