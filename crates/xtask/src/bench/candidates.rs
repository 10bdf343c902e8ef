//! What is compared: a plain directory, kernel overlayfs, plyfs with any options, and the FUSE peers.
//!
//! Here: names, programs and whether they are there. How each is mounted is in [`super::mounts`].

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::options::Options;
use crate::run;

/// The kinds of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All layers' content in one directory, no mount: what the disk's filesystem takes.
    Plain,
    /// The kernel's overlayfs, by the mount API (`lowerdir+`, Linux 6.8).
    Overlay,
    Plyfs,
    FuseOverlayfs,
    /// Debian's package unionfs-fuse, program `unionfs`; with one thread (`mounts.rs` says why).
    UnionfsFuse,
}

impl Kind {
    const ALL: [(&'static str, Kind); 5] = [
        ("plain", Kind::Plain),
        ("overlay", Kind::Overlay),
        ("plyfs", Kind::Plyfs),
        ("fuse-overlayfs", Kind::FuseOverlayfs),
        ("unionfs-fuse", Kind::UnionfsFuse),
    ];

    fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// Whether a FUSE server answers for it.
    pub(crate) fn is_fuse(self) -> bool {
        matches!(self, Kind::Plyfs | Kind::FuseOverlayfs | Kind::UnionfsFuse)
    }
}

/// One column of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    /// Instead of the program that the run uses for this kind.
    pub(crate) program: Option<PathBuf>,
    /// Mount options, appended to those that name the branches.
    pub(crate) options: Vec<String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(program) = &self.program {
            write!(f, "@{}", program.display())?;
        }
        if !self.options.is_empty() {
            write!(f, ":{}", self.options.join(","))?;
        }
        Ok(())
    }
}

/// Reads `plain,plyfs:nopassthrough,timeout=0,fuse-overlayfs@/opt/fo`: a word that names no candidate is an option of
/// the candidate before it.
pub(crate) fn parse_list(text: &str) -> Result<Vec<Candidate>> {
    let mut list: Vec<Candidate> = Vec::new();
    for word in text.split(',') {
        let (head, option) = match word.split_once(':') {
            Some((head, option)) => (head, Some(option.to_owned())),
            None => (word, None),
        };
        let (name, program) = match head.split_once('@') {
            Some((name, program)) => (name, Some(PathBuf::from(program))),
            None => (head, None),
        };
        match (Kind::named(name), list.last_mut()) {
            (Some(kind), _) => {
                list.push(Candidate { kind, program, options: option.into_iter().collect() });
            }
            (None, Some(before)) if !before.options.is_empty() => before.options.push(word.to_owned()),
            (None, _) => {
                bail!("candidate {word}: unknown; there are {}", Kind::ALL.map(|(name, _)| name).join(", "))
            }
        }
    }
    Ok(list)
}

/// The programs of this run.
#[derive(Debug)]
pub(crate) struct Programs {
    plyfs: PathBuf,
    fuse_overlayfs: PathBuf,
    root: bool,
}

impl Programs {
    /// `plyfs` is the release build.
    pub(crate) fn new(options: &Options, plyfs: PathBuf) -> Programs {
        let fuse_overlayfs = options.fuse_overlayfs.clone().unwrap_or_else(|| "fuse-overlayfs".into());
        Programs { plyfs, fuse_overlayfs, root: run::is_root() }
    }

    /// Whether the run is root's.
    pub(crate) fn root(&self) -> bool {
        self.root
    }

    /// The program that serves `candidate`; plain and overlay have none.
    pub(crate) fn of(&self, candidate: &Candidate) -> Option<PathBuf> {
        let default = match candidate.kind {
            Kind::Plain | Kind::Overlay => return None,
            Kind::Plyfs => self.plyfs.clone(),
            Kind::FuseOverlayfs => self.fuse_overlayfs.clone(),
            Kind::UnionfsFuse => "unionfs".into(),
        };
        Some(candidate.program.clone().unwrap_or(default))
    }

    /// Why `candidate` cannot be run here, if so.
    pub(crate) fn missing(&self, candidate: &Candidate) -> Option<String> {
        if candidate.kind == Kind::Overlay && !self.root {
            return Some("mounting overlayfs needs root".into());
        }
        let program = self.of(candidate)?;
        let there =
            if program.components().count() > 1 { program.is_file() } else { run::have(&text(&program)) };
        if there {
            return None;
        }
        let package = match candidate.kind {
            Kind::FuseOverlayfs => "; install the Debian package fuse-overlayfs",
            Kind::UnionfsFuse => "; install the Debian package unionfs-fuse",
            Kind::Plain | Kind::Overlay | Kind::Plyfs => "",
        };
        Some(format!("no program {}{package}", program.display()))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_belong_to_the_candidate_before_them() {
        let list = parse_list("plain,plyfs:nopassthrough,timeout=0,fuse-overlayfs@/opt/fo,overlay").unwrap();
        let names: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["plain", "plyfs:nopassthrough,timeout=0", "fuse-overlayfs@/opt/fo", "overlay"]);
        assert_eq!(list[2].program.as_deref(), Some(Path::new("/opt/fo")));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(parse_list("plain,nonsense").is_err());
        assert!(parse_list("").is_err());
    }
}
