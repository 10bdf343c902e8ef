//! Where a run takes place: a temporary folder with the plain tree, the layers, and a folder per mount. It goes when the
//! run ends, also when it fails or is interrupted.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::sizes::Sizes;
use super::tree::{self, Part};
use super::walk::{self, Tally};
use super::{layers, options::Options};
use crate::run;

/// The C program that does what safe Rust has no word for.
const MMAP_READ: &str = include_str!("mmapread.c");

/// The folder of a run.
#[derive(Debug)]
pub(crate) struct Stage {
    temp: TempDir,
    pub(crate) sizes: Sizes,
    /// What `src` holds.
    pub(crate) source: Tally,
    /// The directories of `src`, relative to it.
    pub(crate) source_dirs: Vec<PathBuf>,
}

impl Stage {
    /// Makes the plain tree and the layers of every number of layers asked for.
    pub(crate) fn new(
        options: &Options,
        parts: &BTreeSet<Part>,
        mut tell: impl FnMut(&str),
    ) -> Result<Stage> {
        let temp = tempfile::Builder::new()
            .prefix("plyfs-bench-")
            .tempdir_in(&options.dir)
            .with_context(|| format!("making a folder in {}", options.dir.display()))?;
        let mut stage =
            Stage { temp, sizes: Sizes::new(options), source: Tally::default(), source_dirs: Vec::new() };
        tell("making the tree");
        let parts: Vec<Part> = parts.iter().copied().collect();
        let threads = options.threads.iter().copied().max().unwrap_or(1);
        let plain = stage.plain();
        fs::create_dir_all(&plain)?;
        tree::make(&plain, &parts, &stage.sizes, threads)?;
        for count in &options.layers {
            tell(&format!("spreading the tree over {count} layers"));
            layers::spread(&plain, &stage.layers(*count))?;
        }
        let source = plain.join("src");
        if source.is_dir() {
            stage.source = walk::stat_all(&source)?;
            stage.source_dirs = walk::all_dirs(&source)?;
        }
        Ok(stage)
    }

    /// The run's folder.
    pub(crate) fn path(&self) -> &Path {
        self.temp.path()
    }

    /// The tree as one directory.
    pub(crate) fn plain(&self) -> PathBuf {
        self.path().join("plain")
    }

    /// The layers of one number of layers, top first.
    pub(crate) fn layers(&self, count: usize) -> Vec<PathBuf> {
        layers::paths(self.path(), count)
    }

    /// Brings what the works of `parts` read into the page cache, names and contents.
    pub(crate) fn warm(&self, count: usize, parts: &[Part]) -> Result<()> {
        let tops = self.layers(count).into_iter().chain([self.plain()]);
        for top in tops {
            for part in parts {
                let dir = top.join(part.dir());
                if dir.is_dir() {
                    walk::read_all(&dir)?;
                }
            }
        }
        Ok(())
    }

    /// The program that maps a file and reads every page; compiled at first use.
    pub(crate) fn mmap_reader(&self) -> Result<PathBuf> {
        let program = self.path().join("mmapread");
        if !program.is_file() {
            let source = self.path().join("mmapread.c");
            fs::write(&source, MMAP_READ)?;
            run::output(Command::new("cc").args(["-O1", "-Wall", "-o"]).arg(&program).arg(&source))?;
        }
        Ok(program)
    }
}
