//! `plyfs status`: every union mounted here, or one.

use std::io;

use plyfs_union::BranchInfo;
use serde::Serialize;

use crate::cli::StatusArgs;
use crate::exit::{self, Outcome};
use crate::mounted::{self, Mounted};
use crate::output::{self, Page, Report, Tone, path_line};

/// The answer.
#[derive(Debug, Serialize)]
struct Status {
    mounts: Vec<One>,
    /// One was asked for by name.
    #[serde(skip)]
    alone: bool,
}

#[derive(Debug, Serialize)]
struct One {
    mount_point: String,
    source: String,
    read_only: bool,
    /// The kernel's options of the mount.
    mount_options: String,
    /// `<id>` of `/run/plyfs/si_<id>`; null when nothing is known but the mount itself.
    id: Option<String>,
    /// The directory with `br0` and its like.
    runtime_dir: Option<String>,
    pid: Option<u32>,
    /// The server runs.
    alive: Option<bool>,
    /// Seconds since the epoch.
    started: Option<u64>,
    options: Option<String>,
    /// The kernel reads and writes branch files by itself.
    passthrough: Option<bool>,
    /// Top first.
    branches: Vec<Branch>,
}

#[derive(Debug, Serialize)]
struct Branch {
    path: String,
    perm: String,
    id: u32,
}

/// Runs the command.
pub(crate) fn run(args: &StatusArgs) -> Outcome {
    let mounts = match &args.dir {
        Some(dir) => vec![mounted::at(dir)?],
        None => mounted::all()?,
    };
    let status = Status { mounts: mounts.iter().map(One::of).collect(), alone: args.dir.is_some() };
    output::show(&status, args.json)?;
    Ok(exit::DONE)
}

impl One {
    fn of(mounted: &Mounted) -> One {
        let found = mounted.found.as_ref();
        let record = found.map(|found| &found.record);
        let branches = record.map(|record| record.branches()).unwrap_or_default();
        One {
            mount_point: path_line(&mounted.info.mount_point),
            source: mounted.source().to_string_lossy().into_owned(),
            // Without a writable branch the kernel's `rw` is an empty promise.
            read_only: mounted.is_read_only() || !branches.is_empty() && branches.iter().all(is_read_only),
            mount_options: mounted.info.options.to_string_lossy().into_owned(),
            id: found.map(|found| found.id()),
            runtime_dir: found.map(|found| path_line(&found.dir)),
            pid: record.map(|record| record.pid),
            alive: record.map(|record| record.is_alive()),
            started: record.map(|record| record.started),
            options: found
                .and_then(|_| mounted.spec().ok())
                .map(|spec| spec.options().to_string_lossy().into_owned()),
            passthrough: record.and_then(|record| record.passthrough),
            branches: branches.iter().map(Branch::of).collect(),
        }
    }
}

fn is_read_only(branch: &BranchInfo) -> bool {
    !branch.perm.starts_with("rw")
}

impl Branch {
    fn of(info: &BranchInfo) -> Branch {
        Branch { path: path_line(&info.path), perm: info.perm.clone(), id: info.id }
    }
}

impl Report for Status {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.mounts.is_empty() && !self.alone {
            return page.line("no unions are mounted");
        }
        for (at, mount) in self.mounts.iter().enumerate() {
            if at > 0 {
                page.line("")?;
            }
            mount.text(page)?;
        }
        Ok(())
    }
}

impl One {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let access = if self.read_only { "ro" } else { "rw" };
        let server = match (self.pid, self.alive) {
            (Some(pid), Some(true)) => format!("server {pid}"),
            (Some(pid), _) => page.paint(Tone::Bad, format!("server {pid} is gone; plyfs umount --lazy it")),
            (None, _) => page.paint(Tone::Faint, "no record"),
        };
        let id = self.id.as_ref().map(|id| format!(", si_{id}")).unwrap_or_default();
        let place = page.paint(Tone::Strong, &self.mount_point);
        page.line(format_args!("{place} ({}) {access}, {server}{id}", self.source))?;
        for (at, branch) in self.branches.iter().enumerate() {
            page.line(format_args!("  br{at} {:<6} {:<6} {}", branch.id, branch.perm, branch.path))?;
        }
        if let Some(options) = &self.options {
            page.line(format_args!("  options {options}"))?;
        }
        match self.passthrough {
            Some(on) => page.line(format_args!("  passthrough {}", if on { "on" } else { "off" })),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mount_as_text_and_json() {
        let one = One {
            mount_point: "/m".into(),
            source: "none".into(),
            read_only: false,
            mount_options: "rw".into(),
            id: Some("ab".into()),
            runtime_dir: Some("/run/plyfs/si_ab".into()),
            pid: Some(7),
            alive: Some(true),
            started: Some(1),
            options: Some("br:/a=rw".into()),
            passthrough: None,
            branches: vec![Branch { path: "/a".into(), perm: "rw".into(), id: 64 }],
        };
        let mut status = Status { mounts: vec![one], alone: false };
        let text = output::plain(&status);
        assert_eq!(text, "/m (none) rw, server 7, si_ab\n  br0 64     rw     /a\n  options br:/a=rw\n");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["mounts"][0]["branches"][0]["id"], 64);
        status.mounts[0].passthrough = Some(true);
        assert_eq!(output::plain(&status), text + "  passthrough on\n");
        assert_eq!(serde_json::to_value(&status).unwrap()["mounts"][0]["passthrough"], true);
        assert_eq!(output::plain(&Status { mounts: vec![], alone: false }), "no unions are mounted\n");
    }
}
