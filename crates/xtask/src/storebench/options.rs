//! What a run is asked to do.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The words, for the usage text.
pub(crate) const USAGE: &str = "\
usage: cargo xtask bench-store [--short] [--rounds N] [--mib N] [--layers N] [--dir DIR] [--plyfs PATH]

--rounds   how often every command is measured (5)
--mib      uncompressed size of the image (300)
--layers   its layers (8)
--dir      where stores are made: a disk filesystem (the system's temporary folder)
--plyfs    the program, instead of the release build
--short    everything once with a small image: does it work?
The report is target/bench/store.md.";

/// A run's parameters.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) rounds: usize,
    pub(super) mib: u64,
    pub(super) layers: usize,
    pub(super) dir: PathBuf,
    pub(super) plyfs: Option<PathBuf>,
}

impl Options {
    pub(super) fn short() -> Options {
        Options { rounds: 1, mib: 12, layers: 3, ..Options::regular() }
    }

    fn regular() -> Options {
        Options { rounds: 5, mib: 300, layers: 8, dir: std::env::temp_dir(), plyfs: None }
    }

    pub(super) fn parse(args: &[String]) -> Result<Options> {
        let short = args.iter().any(|arg| arg == "--short");
        let mut options = if short { Options::short() } else { Options::regular() };
        let mut rest = args.iter().filter(|arg| *arg != "--short");
        while let Some(word) = rest.next() {
            let value =
                rest.next().with_context(|| format!("{word}: unknown, or lacks its value\n{USAGE}"))?;
            let number =
                || value.parse::<usize>().with_context(|| format!("{word} {value}: a number is needed"));
            match word.as_str() {
                "--rounds" => options.rounds = number()?.max(1),
                "--mib" => options.mib = number()?.max(1) as u64,
                "--layers" => options.layers = number()?.clamp(1, 120),
                "--dir" => options.dir = value.into(),
                "--plyfs" => options.plyfs = Some(value.into()),
                _ => bail!("{word}: unknown\n{USAGE}"),
            }
        }
        Ok(options)
    }
}
