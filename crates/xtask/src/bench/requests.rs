//! Counting FUSE requests by operation, without the server's help: the kernel's tracepoint `fuse:fuse_request_send` in a
//! tracing instance of our own, filtered by connection (kernel 6.10; root).
//!
//! Counted in a round of its own, whose times are thrown away: writing the trace takes time, and only from FUSE
//! candidates. FORGET does not pass the tracepoint and is not counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Where the kernel's tracing is mounted by default.
const TRACING: &str = "/sys/kernel/tracing";
/// KiB per CPU; some half a million requests.
const BUFFER_KB: u32 = 32 << 10;

/// Requests by operation (`LOOKUP`), and whether the buffer was too small for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    pub(crate) by_operation: BTreeMap<String, u64>,
    pub(crate) lost_some: bool,
}

impl Counts {
    pub(crate) fn total(&self) -> u64 {
        self.by_operation.values().sum()
    }
}

/// The tracing instance; gone when dropped.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// Our own mount of tracefs, if there was none.
    mounted: Option<PathBuf>,
    instance: PathBuf,
}

impl Tracer {
    /// Sets it up; `spare` is where tracefs may be mounted.
    pub(crate) fn new(spare: &Path) -> Result<Tracer> {
        let mut tracer = Tracer { mounted: None, instance: PathBuf::new() };
        let mut tracing = PathBuf::from(TRACING);
        if !tracing.join("instances").is_dir() {
            tracing = spare.join("tracing");
            fs::create_dir_all(&tracing)?;
            mount("bench", &tracing, "tracefs", MountFlags::empty(), None).context("mounting tracefs")?;
            tracer.mounted = Some(tracing.clone());
        }
        let instance = tracing.join("instances").join(format!("plyfs-bench-{}", std::process::id()));
        fs::create_dir(&instance).context("making a tracing instance")?;
        tracer.instance = instance;
        fs::metadata(tracer.event()).context("this kernel has no tracepoint fuse:fuse_request_send")?;
        tracer.put("buffer_size_kb", &BUFFER_KB.to_string())?;
        Ok(tracer)
    }

    fn event(&self) -> PathBuf {
        self.instance.join("events/fuse/fuse_request_send")
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.instance.join(name), text).with_context(|| format!("tracing: {name} = {text}"))
    }

    /// Counts from now on what is sent on `connection`.
    pub(crate) fn start(&self, connection: u32) -> Result<()> {
        self.put("events/fuse/fuse_request_send/filter", &format!("connection == {connection}"))?;
        self.put("trace", "")?;
        self.put("events/fuse/fuse_request_send/enable", "1")
    }

    /// What was sent since.
    pub(crate) fn stop(&self) -> Result<Counts> {
        self.put("events/fuse/fuse_request_send/enable", "0")?;
        let text = fs::read(self.instance.join("trace")).context("reading the trace")?;
        let counts = count(&String::from_utf8_lossy(&text));
        self.put("trace", "")?;
        Ok(counts)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if !self.instance.as_os_str().is_empty()
            && let Err(error) = fs::remove_dir(&self.instance)
        {
            eprintln!("bench: removing {}: {error}", self.instance.display());
        }
        if let Some(dir) = &self.mounted
            && let Err(error) = unmount(dir, UnmountFlags::empty())
        {
            eprintln!("bench: unmounting {}: {error}", dir.display());
        }
    }
}

/// Reads `server-1 [000] ..... 1.2: fuse_request_send: connection 45 req 2 opcode 1 (FUSE_LOOKUP) len 48`.
fn count(trace: &str) -> Counts {
    let mut counts = Counts::default();
    for line in trace.lines() {
        if let Some(rest) = line.strip_prefix("# entries-in-buffer/entries-written:") {
            let numbers = rest.split_whitespace().next().and_then(|word| word.split_once('/'));
            counts.lost_some = numbers.is_some_and(|(kept, written)| kept != written);
        } else if let Some((_, rest)) = line.split_once(" opcode ") {
            let mut words = rest.split_whitespace();
            let number = words.next().unwrap_or("?");
            let name = words.next().and_then(|word| word.strip_prefix("(FUSE_")?.strip_suffix(')'));
            *counts.by_operation.entry(name.unwrap_or(number).to_owned()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 3/4   #P:2
           xtask-12  [001] .....  1.2: fuse_request_send: connection 45 req 2 opcode 1 (FUSE_LOOKUP) len 48
           xtask-12  [001] .....  1.3: fuse_request_send: connection 45 req 4 opcode 1 (FUSE_LOOKUP) len 48
           xtask-12  [000] .....  1.4: fuse_request_send: connection 45 req 6 opcode 99 (0x63) len 48
";

    #[test]
    fn traces_are_counted() {
        let counts = count(TRACE);
        assert!(counts.lost_some);
        assert_eq!(counts.total(), 3);
        assert_eq!(counts.by_operation["LOOKUP"], 2);
        assert_eq!(counts.by_operation["99"], 1);
    }
}
