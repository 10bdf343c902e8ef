//! What a run of the soak is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::fence;
use super::load::CLIENTS;
use super::plots::FILES;

pub(crate) const USAGE: &str = "\
usage: cargo xtask soak [--minutes N] [--limit SIZE] [--plyfs PATH] [--dir DIR] [--seed N]

--minutes  how long the load lasts (30); growth of memory is judged from two minutes on
--limit    the server's memory (128M): a cgroup if one can be made, else ulimit -v
--plyfs    the program, instead of the release build
--dir      where branches and the mount are made: a disk filesystem (the system's temporary folder)
--seed     of the random choices (1)";

/// A run's parameters.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) duration: Duration,
    pub(crate) limit: u64,
    pub(crate) plyfs: Option<PathBuf>,
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            duration: Duration::from_secs(30 * 60),
            limit: 128 << 20,
            plyfs: None,
            dir: std::env::temp_dir(),
            seed: 1,
        }
    }
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (word, value) = match arg.split_once('=') {
                Some((word, value)) => (word, value.to_owned()),
                None => {
                    let value = rest.next().with_context(|| format!("{arg}: unknown, or lacks its value"))?;
                    (arg.as_str(), value.clone())
                }
            };
            match word {
                "--minutes" => {
                    let minutes: f64 = value.parse().with_context(|| format!("--minutes {value}"))?;
                    if !(0.1..=10_000.0).contains(&minutes) {
                        bail!("--minutes {value}: from 0.1 to 10000");
                    }
                    options.duration = Duration::from_secs_f64(minutes * 60.0);
                }
                "--limit" => options.limit = fence::bytes(&value)?,
                "--plyfs" => options.plyfs = Some(value.into()),
                "--dir" => options.dir = value.into(),
                "--seed" => options.seed = value.parse().with_context(|| format!("--seed {value}"))?,
                _ => bail!("{word}: unknown\n{USAGE}"),
            }
        }
        Ok(options)
    }

    /// Plots of a client: one for twelve seconds or so.
    pub(crate) fn plots(&self) -> usize {
        ((self.duration.as_secs() / 12) as usize).clamp(3, 150)
    }

    /// Files of the shared tree: together with the plots 30,000, if the run is long.
    pub(crate) fn shared_files(&self) -> usize {
        let all = if self.duration < Duration::from_secs(60) { 3_000 } else { 30_000 };
        all.max(self.plots() * FILES * CLIENTS + 2_000) - self.plots() * FILES * CLIENTS
    }

    /// Time between two samples.
    pub(crate) fn interval(&self) -> Duration {
        (self.duration / 40).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known() {
        let parse = |text: &str| Options::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let options = parse("--minutes 2 --limit=64M --seed 7").unwrap();
        assert_eq!((options.duration.as_secs(), options.limit, options.seed), (120, 64 << 20, 7));
        assert!(parse("--minutes 0").is_err() && parse("--nonsense 1").is_err());
        assert_eq!(Options::default().plots() * FILES * CLIENTS + Options::default().shared_files(), 30_000);
    }
}
