//! `plyfs which`: which branch serves a path, which ones it hides, and why.

use std::io;
use std::path::Path;

use anyhow::Context;
use plyfs_sys::Errno;
use plyfs_sys::stat::Kind;
use plyfs_union::{BranchInfo, DataAt, Layer, LayerSays};
use serde::Serialize;

use crate::cli::WhichArgs;
use crate::exit::{self, Failure, Outcome};
use crate::mounted;
use crate::output::{self, Page, Report, Tone, path_line};

/// The answer.
#[derive(Debug, Serialize)]
struct Which {
    paths: Vec<One>,
}

#[derive(Debug, Serialize)]
struct One {
    path: String,
    mount_point: String,
    /// The path shows in the union.
    exists: bool,
    /// The file that serves it: where to look on the branch.
    serves: Option<String>,
    /// Every branch that has something to say, top first.
    branches: Vec<Say>,
}

#[derive(Debug, Serialize)]
struct Say {
    index: u16,
    /// The path in the branch, branch included.
    path: String,
    perm: String,
    says: &'static str,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    /// Where its data is, if it is a copy of metadata alone.
    data: Option<Data>,
}

#[derive(Debug, Serialize)]
struct Data {
    /// `None`: lost.
    index: Option<u16>,
    path: String,
}

/// Runs the command. Fails (after showing everything) when a path is served by no branch.
pub(crate) fn run(args: &WhichArgs) -> Outcome {
    let paths = args.paths.iter().map(|path| explain(path)).collect::<Result<Vec<_>, _>>()?;
    let all_there = paths.iter().all(|one| one.exists);
    output::show(&Which { paths }, args.json)?;
    Ok(if all_there { exit::DONE } else { exit::FAILED })
}

fn explain(path: &Path) -> Result<One, Failure> {
    let (mounted, inner) = mounted::containing(path)?;
    let union = mounted.open_read_only()?;
    let steps = match union.explain(&inner) {
        Ok(explained) => explained.steps,
        // A parent is missing or no directory: no branch has anything to say.
        Err(error) if [Errno::NOENT, Errno::NOTDIR].iter().any(|e| e.raw_os_error() == error.errno()) => {
            Vec::new()
        }
        Err(error) => Err(error).with_context(|| format!("looking up {}", path.display()))?,
    };
    let branches = union.branches();
    let say = |layer: &Layer| {
        let branch = branches.get(usize::from(layer.branch));
        let root = branch.map(|branch| branch.path.as_path()).unwrap_or(Path::new(""));
        let (says, kind) = words(layer.what);
        Say {
            index: layer.branch,
            path: path_line(&inside(root, &layer.path)),
            perm: branch.map(|branch| branch.perm.clone()).unwrap_or_default(),
            says,
            kind: kind.map(kind_word),
            data: layer.data.as_ref().map(|data| where_data_is(data, &branches)),
        }
    };
    let says: Vec<Say> = steps.iter().map(say).collect();
    let serves = says.iter().find(|say| say.says == "serves").map(|say| say.path.clone());
    Ok(One {
        path: path_line(path),
        mount_point: path_line(&mounted.info.mount_point),
        exists: serves.is_some(),
        serves,
        branches: says,
    })
}

/// The path in the branch, branch included; of lost data, the path that no branch below has.
fn where_data_is(data: &DataAt, branches: &[BranchInfo]) -> Data {
    let branch = data.branch.and_then(|index| branches.get(usize::from(index)));
    let path = branch.map_or(data.path.clone(), |branch| inside(&branch.path, &data.path));
    Data { index: data.branch, path: path_line(&path) }
}

fn inside(root: &Path, path: &Path) -> std::path::PathBuf {
    let inner = path.strip_prefix("/").unwrap_or(path);
    if inner.as_os_str().is_empty() { root.to_path_buf() } else { root.join(inner) }
}

fn words(says: LayerSays) -> (&'static str, Option<Kind>) {
    match says {
        LayerSays::Serves(kind) => ("serves", Some(kind)),
        LayerSays::Merged => ("merged", Some(Kind::Dir)),
        LayerSays::Hidden(kind) => ("hidden", Some(kind)),
        LayerSays::OtherType(kind) => ("other-type", Some(kind)),
        LayerSays::Whiteout => ("whiteout", None),
        LayerSays::WhitedOut(kind) => ("whited-out", Some(kind)),
        LayerSays::BehindOpaque(kind) => ("behind-opaque", Some(kind)),
    }
}

/// A word for a type of file, in text and JSON.
pub(crate) fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "char-device",
        Kind::BlockDevice => "block-device",
    }
}

/// The reason in a sentence's end.
fn sentence(says: &str) -> &'static str {
    match says {
        "serves" => "serves it",
        "merged" => "merged into it",
        "hidden" => "hidden by the branch above",
        "other-type" => "left out: not a directory like those above, or the other way round",
        "whiteout" => "deleted here: a whiteout of this name hides everything below",
        "whited-out" => "hidden by a whiteout above",
        _ => "hidden by an opaque directory above",
    }
}

fn data_line(page: &Page<'_>, data: &Data) -> String {
    match data.index {
        Some(index) => page.paint(
            Tone::Faint,
            format!("        its data is in br{index}, {}: only metadata was copied up", data.path),
        ),
        None => page
            .paint(Tone::Bad, format!("        its data is lost: no branch below has it at {}", data.path)),
    }
}

impl Report for Which {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for one in &self.paths {
            let state = if one.exists { String::new() } else { page.paint(Tone::Bad, " (not in the union)") };
            page.line(format_args!("{}{state}", page.paint(Tone::Strong, &one.path)))?;
            for say in &one.branches {
                let tone = if say.says == "serves" { Tone::Good } else { Tone::Faint };
                let what = say.kind.unwrap_or("-");
                let line = format!(
                    "  br{:<3} {:<6} {:<10} {}  {}",
                    say.index,
                    say.perm,
                    what,
                    say.path,
                    sentence(say.says)
                );
                let line = page.paint(tone, line);
                page.line(line)?;
                if let Some(data) = &say.data {
                    page.line(data_line(page, data))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_branches() {
        assert_eq!(inside(Path::new("/b"), Path::new("")), Path::new("/b"));
        assert_eq!(inside(Path::new("/b"), Path::new("/x/y")), Path::new("/b/x/y"));
        assert_eq!(inside(Path::new("/b"), Path::new("x")), Path::new("/b/x"));
    }

    #[test]
    fn every_say_has_its_sentence() {
        let say = Say {
            index: 0,
            path: "/b/x".into(),
            perm: "rw".into(),
            says: "whiteout",
            kind: None,
            data: None,
        };
        let one = One {
            path: "m/x".into(),
            mount_point: "/m".into(),
            exists: false,
            serves: None,
            branches: vec![say],
        };
        let text = output::plain(&Which { paths: vec![one] });
        assert!(text.contains("(not in the union)") && text.contains("deleted here"), "{text}");
    }
}
