//! Telling the samples: a table of some, and all as JSON.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::sample::Sample;

/// Lines of the table.
const LINES: usize = 20;

/// All that a run has found.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) fence: String,
    pub(crate) limit: u64,
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    /// Operations by what did them.
    pub(crate) done: Vec<(&'static str, u64)>,
    pub(crate) before: Sample,
    pub(crate) samples: Vec<Sample>,
    pub(crate) after: Sample,
    /// Anonymous KiB in the second and the last quarter.
    pub(crate) quarters: Option<(f64, f64)>,
    pub(crate) wrong: Vec<String>,
    pub(crate) faults: Vec<String>,
}

impl Report {
    /// Prints the table, writes the file.
    pub(crate) fn tell(&self, dir: &Path) -> Result<PathBuf> {
        println!("\n{}", self.table());
        let done: Vec<String> = self.done.iter().map(|(what, count)| format!("{count} {what}")).collect();
        println!("{} in {:.0} s; seed {}", done.join(", "), self.seconds, self.seed);
        if let Some((early, late)) = self.quarters {
            println!(
                "anonymous memory, medians: {early:.0} KiB in the second quarter, {late:.0} KiB in the last"
            );
        }
        fs::create_dir_all(dir)?;
        let path = dir.join("soak.json");
        fs::write(&path, serde_json::to_string_pretty(self)?)?;
        println!("{}", path.display());
        Ok(path)
    }

    fn table(&self) -> String {
        let mut text = "| when | operations | anonymous KiB | private KiB | Pss KiB | RSS KiB | threads | descriptors | cgroup MiB | limit met | oom kills |\n".to_owned();
        text += &"|--:".repeat(11);
        text += "|\n";
        text += &line("before", &self.before);
        let step = self.samples.len().div_ceil(LINES).max(1);
        for (at, sample) in self.samples.iter().enumerate() {
            if at % step == step - 1 || at + 1 == self.samples.len() {
                text += &line(&format!("{:.0} s", sample.seconds), sample);
            }
        }
        text += &line("idle", &self.after);
        text
    }
}

fn line(when: &str, sample: &Sample) -> String {
    let of = |word: fn(&super::fence::Pressure) -> u64| {
        sample.pressure.as_ref().map_or("-".to_owned(), |pressure| word(pressure).to_string())
    };
    let cells = [
        when.to_owned(),
        sample.operations.to_string(),
        sample.anonymous_kib.to_string(),
        sample.private_kib.to_string(),
        sample.pss_kib.to_string(),
        sample.rss_kib.to_string(),
        sample.threads.to_string(),
        sample.descriptors.to_string(),
        of(|pressure| pressure.current >> 20),
        of(|pressure| pressure.met),
        of(|pressure| pressure.oom_kill),
    ];
    format!("| {} |\n", cells.join(" | "))
}
