//! The limit on the server's memory: a cgroup of its own (version 2, or version 1's memory controller), where the page
//! cache of what it touches counts as well; else `ulimit -v`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What stands around the server.
#[derive(Debug)]
pub(crate) enum Fence {
    /// Goes when dropped; the server must have ended.
    V2(PathBuf),
    V1(PathBuf),
    /// Address space, in bytes.
    Ulimit(u64),
}

/// What the cgroup says.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Pressure {
    pub(crate) current: u64,
    /// How often the limit was met and pages were taken back.
    pub(crate) met: u64,
    pub(crate) oom: u64,
    pub(crate) oom_kill: u64,
}

impl Fence {
    /// The best there is here.
    pub(crate) fn new(limit: u64) -> Fence {
        let name = format!("plyfs-soak-{}", std::process::id());
        let mut whys = Vec::new();
        for top in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let has = fs::read_to_string(format!("{top}/cgroup.controllers"));
            if !has.is_ok_and(|text| text.split_whitespace().any(|word| word == "memory")) {
                continue;
            }
            let fence = Fence::V2(Path::new(top).join(&name));
            // On by default where there is a service manager; harmless if it is.
            fs::write(format!("{top}/cgroup.subtree_control"), "+memory").unwrap_or_default();
            match fence.set(&[("memory.max", limit), ("memory.swap.max", 0)]) {
                Ok(()) => return fence,
                Err(error) => whys.push(format!("{error:#}")),
            }
        }
        if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
            let fence = Fence::V1(Path::new("/sys/fs/cgroup/memory").join(&name));
            match fence.set(&[("memory.limit_in_bytes", limit), ("memory.swappiness", 0)]) {
                Ok(()) => return fence,
                Err(error) => whys.push(format!("{error:#}")),
            }
        }
        println!("no cgroup for the server: {}", whys.join("; "));
        Fence::Ulimit(limit)
    }

    fn set(&self, files: &[(&str, u64)]) -> Result<()> {
        let dir = self.dir().context("no cgroup")?;
        fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?;
        for (file, value) in files {
            let path = dir.join(file);
            // No swap, no limit of it.
            if path.exists() || !file.contains("swap") {
                fs::write(&path, value.to_string()).with_context(|| format!("setting {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            Fence::V2(dir) | Fence::V1(dir) => Some(dir),
            Fence::Ulimit(_) => None,
        }
    }

    /// What it is, for the report.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Fence::V2(_) => "cgroup v2, memory.max",
            Fence::V1(_) => "cgroup v1, memory.limit_in_bytes",
            Fence::Ulimit(_) => "ulimit -v (no cgroup: address space alone, no page cache)",
        }
    }

    /// A command that runs `program` inside.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let (enter, arg): (&str, OsString) = match self {
            Fence::V2(dir) | Fence::V1(dir) => ("echo $$ > \"$0\"", dir.join("cgroup.procs").into()),
            Fence::Ulimit(bytes) => ("ulimit -v \"$0\"", (bytes >> 10).to_string().into()),
        };
        command.arg("-c").arg(format!("{enter} && exec \"$@\"")).arg(arg).arg(program);
        command
    }

    /// What it has seen; nothing of a ulimit.
    pub(crate) fn pressure(&self) -> Result<Option<Pressure>> {
        let text = |dir: &Path, file: &str| {
            let path = dir.join(file);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        Ok(Some(match self {
            Fence::Ulimit(_) => return Ok(None),
            Fence::V2(dir) => {
                let events = text(dir, "memory.events")?;
                Pressure {
                    current: number(&text(dir, "memory.current")?),
                    met: word(&events, "max"),
                    oom: word(&events, "oom"),
                    oom_kill: word(&events, "oom_kill"),
                }
            }
            Fence::V1(dir) => {
                let control = text(dir, "memory.oom_control")?;
                Pressure {
                    current: number(&text(dir, "memory.usage_in_bytes")?),
                    met: number(&text(dir, "memory.failcnt")?),
                    oom: word(&control, "under_oom"),
                    oom_kill: word(&control, "oom_kill"),
                }
            }
        }))
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        let Some(dir) = self.dir() else { return };
        let gone = |_: &i32| {
            let gone = fs::remove_dir(dir).is_ok() || !dir.exists();
            if !gone {
                std::thread::sleep(Duration::from_millis(20));
            }
            gone
        };
        if !(0..250).any(|at| gone(&at)) {
            eprintln!("soak: {} cannot be removed", dir.display());
        }
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// The number after a word at the begin of a line.
pub(super) fn word(text: &str, word: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix([' ', ':']));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// `64M`, `1G`.
pub(crate) fn bytes(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => bail!("--limit {text}: a number with K, M or G"),
    };
    let number: u64 = digits.parse().with_context(|| format!("--limit {text}"))?;
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes >= 8 << 20)
        .with_context(|| format!("--limit {text}: at least 8M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        let text = "max 3\noom 1\noom_kill 2\nThreads:\t7\n";
        assert_eq!([word(text, "oom"), word(text, "oom_kill"), word(text, "Threads")], [1, 2, 7]);
        assert_eq!(word(text, "low"), 0);
    }

    #[test]
    fn limits_are_sizes() {
        assert_eq!(bytes("128M").unwrap(), 128 << 20);
        assert!(bytes("1K").is_err() && bytes("12X").is_err());
    }
}
