//! Telling a run: `bench.md` to read, `bench.json` with every sample, `bench.svg` to look at.

mod json;
pub(super) mod machine;
pub(super) mod markdown;
mod svg;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use self::machine::Machine;
use super::options::Options;
use super::results::Results;

/// Writes all three into `out`.
pub(super) fn write(out: &Path, options: &Options, machine: &Machine, results: &Results) -> Result<()> {
    let put = |name: &str, text: &str| {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    put("bench.json", &json::text(options, machine, results)?)?;
    put("bench.md", &markdown::text(options, machine, results))?;
    put("bench.svg", &svg::text(results))
}
