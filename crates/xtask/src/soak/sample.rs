//! Looking at the server: memory, threads, descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::Pid;

use super::super::bench::idle::private_kib;
use super::fence::{Fence, Pressure, word};

/// One look.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Sample {
    /// Since the load began.
    pub(crate) seconds: f64,
    pub(crate) operations: u64,
    /// Private_Clean + Private_Dirty.
    pub(crate) private_kib: u64,
    pub(crate) pss_kib: u64,
    pub(crate) rss_kib: u64,
    pub(crate) anonymous_kib: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    /// Descriptors by kind.
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    pub(crate) pressure: Option<Pressure>,
}

impl Sample {
    pub(crate) fn now(server: Pid, fence: &Fence, seconds: f64, operations: u64) -> Result<Sample> {
        let proc = format!("/proc/{}", server.as_raw_nonzero());
        let text = |file: &str| {
            fs::read_to_string(format!("{proc}/{file}")).with_context(|| format!("the server's {file}"))
        };
        let (rollup, status) = (text("smaps_rollup")?, text("status")?);
        let kinds = kinds(Path::new(&proc))?;
        Ok(Sample {
            seconds,
            operations,
            private_kib: private_kib(&rollup),
            pss_kib: word(&rollup, "Pss"),
            rss_kib: word(&status, "VmRSS"),
            anonymous_kib: word(&rollup, "Anonymous"),
            threads: word(&status, "Threads"),
            descriptors: kinds.values().sum(),
            kinds,
            pressure: fence.pressure()?,
        })
    }
}

/// Open descriptors by what they are of. The server goes on: what closes meanwhile is not counted.
fn kinds(proc: &Path) -> Result<BTreeMap<&'static str, u64>> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(proc.join("fd")).context("the server's descriptors")? {
        let path = entry.context("the server's descriptors")?.path();
        let Ok(target) = fs::read_link(&path) else { continue };
        let target = target.to_string_lossy();
        let kind = if target == "/dev/fuse" {
            "fuse"
        } else if target.starts_with("pipe:") {
            "pipe"
        } else if target.starts_with("anon_inode:") {
            "anonymous"
        } else if target.starts_with("socket:") {
            "socket"
        } else {
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => "directory",
                Ok(meta) if meta.is_file() => "file",
                Ok(_) => "other",
                Err(_) => continue,
            }
        };
        *kinds.entry(kind).or_default() += 1;
    }
    Ok(kinds)
}
