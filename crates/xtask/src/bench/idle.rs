//! What a mount costs while nothing happens: threads, descriptors and private memory of its servers.
//!
//! Private memory is Private_Clean + Private_Dirty of smaps_rollup: what would be free if this mount alone went.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::Pid;

/// One look at a mount's servers; sums if they are several.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Idle {
    /// `after the mount`, `after a walk`.
    pub(crate) when: &'static str,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    pub(crate) private_kib: u64,
}

impl Idle {
    /// Looks now.
    pub(crate) fn now(when: &'static str, servers: &[Pid]) -> Result<Idle> {
        let mut sum = Idle { when, ..Idle::default() };
        for pid in servers {
            let proc = format!("/proc/{}", pid.as_raw_nonzero());
            sum.threads += fs::read_dir(format!("{proc}/task")).context("listing threads")?.count() as u64;
            sum.descriptors +=
                fs::read_dir(format!("{proc}/fd")).context("listing descriptors")?.count() as u64;
            let text = fs::read_to_string(format!("{proc}/smaps_rollup")).context("reading smaps_rollup")?;
            sum.private_kib += private_kib(&text);
        }
        Ok(sum)
    }
}

/// Private_Clean + Private_Dirty of a text of smaps_rollup.
pub(crate) fn private_kib(text: &str) -> u64 {
    let lines =
        text.lines().filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn private_is_clean_and_dirty() {
        let text = "Rss: 9 kB\nPrivate_Clean:      120 kB\nPrivate_Dirty:     8 kB\nPrivate_Hugetlb: 3 kB\n";
        assert_eq!(super::private_kib(text), 128);
    }
}
