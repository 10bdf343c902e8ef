//! What a run of the bench is asked to do: the words of the command line and the three presets.
//!
//! Parsed by hand: clap belongs to the binary alone (`deny.toml`).

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::candidates::{self, Candidate};
use super::works;

/// The words, for the usage text.
pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [--short | --full] [--candidates LIST] [--works LIST] [--layers LIST] [--threads LIST]
                         [--rounds N] [--scale X] [--big-size SIZE] [--out DIR] [--dir DIR] [--no-requests]
                         [--plyfs PATH] [--fuse-overlayfs PATH]

--candidates    of plain, overlay, plyfs, fuse-overlayfs, unionfs-fuse; each NAME[@PROGRAM][:OPTION,OPTION...];
                a word that is no name is one more option of the candidate before it; may be given several times
--works         see --list-works
--layers        numbers of lower layers (1,127; --full: 1,16,127)
--threads       client threads of the micro operations (1,4)
--rounds        how often every cell is measured (5)
--scale         1 is a tree of 50,000 files and an archive of 20,000 (0.4)
--big-size      the big file, e.g. 64M or 1G (256M; --full: 1G)
--out           where bench.md, bench.json and bench.svg go (target/bench)
--dir           where branches and mounts are made: a disk filesystem (the system's temporary folder)
--no-requests   leave out the round that counts FUSE requests
--plyfs, --fuse-overlayfs   the programs, instead of the release build and the one in PATH
--short         everything once or twice in a tiny form: does it work? No candidate may fail
--together A.json B.json ...   no run: the reports of several runs as one table
--full          all of it: every candidate, work and number of layers; an hour or so";

/// A run's parameters.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) layers: Vec<usize>,
    pub(crate) threads: Vec<usize>,
    pub(crate) works: Vec<String>,
    pub(crate) scale: f64,
    pub(crate) big: u64,
    pub(crate) out: Option<PathBuf>,
    pub(crate) dir: PathBuf,
    pub(crate) requests: bool,
    pub(crate) short: bool,
    pub(crate) plyfs: Option<PathBuf>,
    pub(crate) fuse_overlayfs: Option<PathBuf>,
}

impl Options {
    fn regular() -> Result<Options> {
        Ok(Options {
            rounds: 5,
            candidates: candidates::parse_list("plain,overlay,plyfs,fuse-overlayfs")?,
            layers: vec![1, 127],
            threads: vec![1, 4],
            works: works::names().into_iter().filter(|name| *name != "cold").map(str::to_owned).collect(),
            scale: 0.4,
            big: 256 << 20,
            out: None,
            dir: std::env::temp_dir(),
            requests: true,
            short: false,
            plyfs: None,
            fuse_overlayfs: None,
        })
    }

    fn full() -> Result<Options> {
        Ok(Options {
            candidates: candidates::parse_list("plain,overlay,plyfs,fuse-overlayfs,unionfs-fuse")?,
            layers: vec![1, 16, 127],
            works: works::names().into_iter().map(str::to_owned).collect(),
            scale: 1.0,
            big: 1 << 30,
            ..Options::regular()?
        })
    }

    /// The form that only checks that the bench and the mounts work.
    pub(crate) fn short() -> Result<Options> {
        Ok(Options {
            candidates: candidates::parse_list("plain,overlay,plyfs,fuse-overlayfs,unionfs-fuse")?,
            layers: vec![1, 3],
            threads: vec![1, 2],
            rounds: 2,
            scale: 0.004,
            big: 2 << 20,
            short: true,
            ..Options::regular()?
        })
    }

    /// The options that `args` ask for; presets first, whatever their place.
    pub(crate) fn parse(args: &[String]) -> Result<Options> {
        let has = |word: &str| args.iter().any(|arg| arg == word);
        let mut options = match (has("--short"), has("--full")) {
            (true, true) => bail!("--short or --full, not both"),
            (true, false) => Options::short()?,
            (false, true) => Options::full()?,
            (false, false) => Options::regular()?,
        };
        let mut chosen = Vec::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            match arg.as_str() {
                "--short" | "--full" => continue,
                "--no-requests" => {
                    options.requests = false;
                    continue;
                }
                _ => {}
            }
            let (word, value) = match arg.split_once('=') {
                Some((word, value)) => (word, value.to_owned()),
                None => {
                    let value = rest.next().with_context(|| format!("{arg}: unknown, or lacks its value"))?;
                    (arg.as_str(), value.clone())
                }
            };
            if word == "--candidates" {
                chosen.extend(candidates::parse_list(&value)?);
            } else {
                options.set(word, &value)?;
            }
        }
        if !chosen.is_empty() {
            options.candidates = chosen;
        }
        Ok(options)
    }

    fn set(&mut self, word: &str, value: &str) -> Result<()> {
        match word {
            "--rounds" => self.rounds = positive(word, value)?,
            "--layers" => self.layers = numbers(word, value)?,
            "--threads" => self.threads = numbers(word, value)?,
            "--works" => self.works = known_works(value)?,
            "--scale" => {
                self.scale = value.parse().with_context(|| format!("--scale {value}"))?;
                if !(0.0001..=100.0).contains(&self.scale) {
                    bail!("--scale {value}: from 0.0001 to 100");
                }
            }
            "--big-size" => self.big = size(value)?,
            "--out" => self.out = Some(value.into()),
            "--dir" => self.dir = value.into(),
            "--plyfs" => self.plyfs = Some(value.into()),
            "--fuse-overlayfs" => self.fuse_overlayfs = Some(value.into()),
            _ => bail!("{word}: unknown\n{USAGE}"),
        }
        Ok(())
    }
}

fn positive(word: &str, value: &str) -> Result<usize> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => bail!("{word} {value}: a number from 1 on is needed"),
    }
}

fn numbers(word: &str, value: &str) -> Result<Vec<usize>> {
    value.split(',').map(|part| positive(word, part)).collect()
}

fn known_works(value: &str) -> Result<Vec<String>> {
    let known = works::names();
    for name in value.split(',') {
        if !known.contains(&name) {
            bail!("--works {name}: unknown; there are {}", known.join(", "));
        }
    }
    Ok(value.split(',').map(str::to_owned).collect())
}

/// `4096`, `64K`, `256M`, `1G`.
fn size(value: &str) -> Result<u64> {
    let digits = value.trim_end_matches(['K', 'M', 'G']);
    let shift = match &value[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => bail!("--big-size {value}: a number with K, M or G"),
    };
    let number: u64 = digits.parse().with_context(|| format!("--big-size {value}"))?;
    let size = number.checked_shl(shift).filter(|size| size >> shift == number).unwrap_or(0);
    if size < 1 << 20 {
        bail!("--big-size {value}: at least 1M");
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn presets_come_first_and_words_change_them() {
        let options = parse("--rounds 3 --layers=1,16 --full --big-size 64M").unwrap();
        assert_eq!((options.rounds, options.layers, options.big), (3, vec![1, 16], 64 << 20));
        assert_eq!(options.candidates.len(), 5);
    }

    #[test]
    fn candidates_add_up() {
        let options = parse("--candidates plain,plyfs --candidates plyfs:nopassthrough,timeout=0").unwrap();
        let names: Vec<String> = options.candidates.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["plain", "plyfs", "plyfs:nopassthrough,timeout=0"]);
    }

    #[test]
    fn wrong_words_are_refused() {
        for text in
            ["--rounds 0", "--works nonsense", "--big-size 1", "--nonsense 1", "--layers", "--short --full"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
