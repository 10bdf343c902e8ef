//! Kernel, privileges and helper programs.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use plyfs_sys::{cred, process, uring};

use super::{Check, State};
use crate::hints;

/// Names of plyfs as a helper: by the type that is mounted, and by the kernel's name of it.
const HELPERS: [&str; 7] = [
    "mount.aufs",
    "mount.plyfs",
    "mount.fuse.aufs",
    "mount.fuse.plyfs",
    "umount.aufs",
    "umount.plyfs",
    "umount.fuse.aufs",
];

/// Everything that does not depend on a filesystem.
pub(super) fn checks() -> Vec<Check> {
    let release = read("/proc/sys/kernel/osrelease");
    let version = version(&release);
    let device = File::options().read(true).write(true).open("/dev/fuse").map_err(|e| e.to_string());
    let helper = find("fusermount3");
    vec![
        kernel(&release, version),
        fuse(&device),
        fusermount(helper.as_deref()),
        namespaces(),
        passthrough(version),
        io_uring(),
        overlay(),
        allow_other(),
        open_files(),
        mount_helper(),
    ]
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// `6.18.44-fc` is (6, 18).
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel(release: &str, version: (u32, u32)) -> Check {
    let state = if version >= (5, 4) { State::Ok } else { State::Missing };
    Check::new("kernel", state, format!("Linux {release}"), "everything (5.4 or later)", "run a newer kernel")
}

fn fuse(device: &Result<File, String>) -> Check {
    // fusermount3 is no way around: it opens the device with its caller's rights.
    let (state, found) = match device {
        Ok(_) => (State::Ok, "can be opened".to_owned()),
        Err(error) => (State::Missing, error.clone()),
    };
    let mend = if Path::new("/dev/fuse").exists() { hints::OPEN_UP_FUSE } else { "modprobe fuse (as root)" };
    Check::new("/dev/fuse", state, found, "every mount, also through fusermount3", mend)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn is_set_uid(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.uid() == 0 && meta.permissions().mode() & 0o4000 != 0)
}

fn fusermount(helper: Option<&Path>) -> Check {
    let (state, found, mend) = match helper {
        Some(file) if is_set_uid(file) => (State::Ok, file.display().to_string(), String::new()),
        Some(file) => {
            let file = file.display();
            (State::Lacking, format!("{file} is not set-user-id root"), format!("chmod u+s {file}"))
        }
        None => (State::Lacking, "not found in PATH".to_owned(), "apt-get install fuse3".to_owned()),
    };
    Check::new("fusermount3", state, found, "mounting and unmounting as an ordinary user", mend)
}

fn namespaces() -> Check {
    let most = read("/proc/sys/user/max_user_namespaces");
    let clone = read("/proc/sys/kernel/unprivileged_userns_clone");
    let restricted = read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    let (state, found, mend) = if most == "0" || most.is_empty() {
        (State::Lacking, "none are allowed", "sysctl user.max_user_namespaces=10000")
    } else if clone == "0" {
        (State::Lacking, "for root only", "sysctl kernel.unprivileged_userns_clone=1")
    } else if restricted == "1" {
        let mend = "sysctl kernel.apparmor_restrict_unprivileged_userns=0";
        (State::Lacking, "restricted by AppArmor", mend)
    } else {
        (State::Ok, "allowed", "")
    };
    Check::new("user namespaces", state, found, "plyfs try as an ordinary user, rootless engines", mend)
}

fn passthrough(version: (u32, u32)) -> Check {
    let enables = "reading and writing file data at the speed of the branch, sharing its page cache";
    if version < (6, 9) {
        return Check::new(
            "passthrough",
            State::Lacking,
            "the kernel is too old",
            enables,
            "Linux 6.9 or later",
        );
    }
    if process::may_pass_through() {
        return Check::new("passthrough", State::Ok, "kernel and privileges allow it", enables, "");
    }
    Check::new("passthrough", State::Lacking, "the kernel has it for root only", enables, "mount as root")
}

fn io_uring() -> Check {
    let (state, found, mend) = match (uring::is_switched_on(), uring::Entry::new(0)) {
        (None, _) => {
            let mend = "Linux 6.14 or later with CONFIG_FUSE_IO_URING";
            (State::Lacking, "this kernel's FUSE cannot".to_owned(), mend.to_owned())
        }
        (Some(false), _) => {
            let mend = format!("echo Y > {} (as root, before mounting)", uring::SWITCH);
            (State::Lacking, "switched off for FUSE".to_owned(), mend)
        }
        (Some(true), Err(error)) => {
            (State::Lacking, error.to_string(), "sysctl kernel.io_uring_disabled=0".to_owned())
        }
        (Some(true), Ok(_)) => (State::Ok, "allowed".to_owned(), String::new()),
    };
    Check::new("io_uring", state, found, "the option io_uring; mounts without it do not need it", mend)
}

fn overlay() -> Check {
    let listed =
        read("/proc/filesystems").lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    let found = if listed { "in this kernel" } else { "not loaded (plyfs does not need it)" };
    Check::new("overlay", State::Ok, found, "comparing with the kernel's own union", "")
}

fn allow_other() -> Check {
    let enables = "the option allow_other for ordinary users";
    let conf = read("/etc/fuse.conf");
    let set = conf.lines().any(|line| line.trim() == "user_allow_other");
    if set || cred::effective_uid() == 0 {
        let found = if set { "set in /etc/fuse.conf" } else { "not needed by root" };
        return Check::new("user_allow_other", State::Ok, found, enables, "");
    }
    let mend = "echo user_allow_other >> /etc/fuse.conf (as root)";
    Check::new("user_allow_other", State::Lacking, "not set in /etc/fuse.conf", enables, mend)
}

fn open_files() -> Check {
    let (soft, hard) = process::open_files_limit();
    let word = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let state = if hard.is_none_or(|hard| hard >= 4096) { State::Ok } else { State::Lacking };
    let found = format!("{} now, {} at most (servers take the most)", word(soft), word(hard));
    Check::new(
        "open files",
        state,
        found,
        "many files open in a union at once",
        "ulimit -Hn 1048576 (as root)",
    )
}

fn mount_helper() -> Check {
    let enables = "mount -t aufs, /etc/fstab lines, umount";
    let missing: Vec<&str> = HELPERS.into_iter().filter(|name| !is_helper_there(name)).collect();
    if missing.is_empty() {
        return Check::new("mount.aufs", State::Ok, "installed, and its other names", enables, "");
    }
    let me =
        std::env::current_exe().map_or_else(|_| "/usr/bin/plyfs".to_owned(), |exe| exe.display().to_string());
    let missing = missing.join(" ");
    let mend = format!("for n in {missing}; do ln -s {me} /sbin/$n; done");
    Check::new("mount.aufs", State::Lacking, format!("not installed: {missing}"), enables, mend)
}

/// Where mount(8) and umount(8) look for helpers.
fn is_helper_there(name: &str) -> bool {
    ["/sbin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.44-fc-v657"), (6, 18));
        assert_eq!(version("5.4"), (5, 4));
        assert_eq!(version(""), (0, 0));
    }

    #[test]
    fn every_check_says_what_it_is_for() {
        for check in checks() {
            assert!(!check.enables.is_empty() && !check.found.is_empty(), "{check:?}");
        }
    }
}
