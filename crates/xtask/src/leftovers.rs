//! What a run must not leave behind: mounts, servers, loop devices, temporary files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// The state of the machine as far as the suites could change it.
#[derive(Debug)]
pub(crate) struct Before {
    mounts: BTreeSet<String>,
    servers: BTreeSet<String>,
    loops: BTreeSet<String>,
    temps: BTreeSet<String>,
    sysfs: BTreeSet<String>,
}

impl Before {
    /// Takes stock.
    pub(crate) fn now() -> Before {
        Before {
            mounts: mounts(),
            servers: servers(),
            loops: loops(),
            temps: temps(),
            sysfs: names("/run/plyfs"),
        }
    }

    /// An error that lists what is there now and was not before.
    pub(crate) fn compare(&self) -> Result<()> {
        let mut left = Vec::new();
        let mut more = |what: &str, before: &BTreeSet<String>, now: &BTreeSet<String>| {
            left.extend(now.difference(before).map(|item| format!("{what} {item}")));
        };
        more("mount", &self.mounts, &mounts());
        more("process", &self.servers, &servers());
        more("loop device", &self.loops, &loops());
        more("temporary file", &self.temps, &temps());
        more("/run/plyfs entry", &self.sysfs, &names("/run/plyfs"));
        if left.is_empty() {
            println!("no mount, server, loop device or temporary file is left");
            return Ok(());
        }
        bail!("left behind: {}", left.join("; "))
    }
}

/// Mount points of FUSE filesystems and of anything below a temporary folder of the suites.
fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let relevant = text.lines().filter(|line| line.contains(" - fuse") || line.contains("plyfs-test"));
    relevant.filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

/// Running plyfs programs, as "pid command".
fn servers() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pid in names("/proc").iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let dir = Path::new("/proc").join(pid);
        let Ok(exe) = fs::read_link(dir.join("exe")) else { continue };
        let name = exe.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "plyfs" || name.starts_with("plyfs ") {
            let words = fs::read(dir.join("cmdline")).unwrap_or_default();
            found.insert(format!("{pid} {}", String::from_utf8_lossy(&words).replace('\0', " ")));
        }
    }
    found
}

/// Loop devices in use, with their files.
fn loops() -> BTreeSet<String> {
    let devices = names("/sys/block");
    let used = devices.iter().filter(|name| name.starts_with("loop")).filter_map(|name| {
        let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
        Some(format!("{name} {}", file.trim()))
    });
    used.collect()
}

fn temps() -> BTreeSet<String> {
    let all = names(&std::env::temp_dir().to_string_lossy());
    all.into_iter().filter(|name| name.starts_with("plyfs")).collect()
}

fn names(dir: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeSet::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
