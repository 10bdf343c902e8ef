//! fusermount3: the set-user-id helper that mounts and unmounts for users.
//!
//! It is told a socket by _FUSE_COMMFD, opens /dev/fuse with its caller's rights, mounts with root's, and passes the
//! descriptor back. Not here: when to use it ([`crate::mount()`]).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use plyfs_sys::dev::{DEVICE_PATH, Device, descriptor_pair, receive_descriptor};
use plyfs_sys::mounts::MountFlags;
use plyfs_sys::{Errno, SysError};

use crate::mount::{MountError, MountOptions};

/// By preference: fuse3's, then the same program of fuse 2.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Mounts through the helper.
pub(crate) fn mount(target: &Path, options: &MountOptions) -> Result<Device, MountError> {
    let (ours, theirs) = descriptor_pair()?;
    let words = option_words(options);
    let child = spawn(|command| {
        // The socket becomes the helper's standard input: the one descriptor that is inherited without further ado.
        let socket = theirs.try_clone()?;
        command.arg("-o").arg(&words).arg("--").arg(target);
        command.env("_FUSE_COMMFD", "0").stdin(Stdio::from(socket));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    })?;
    // Otherwise a helper that fails would leave us waiting for our own copy to be closed.
    drop(theirs);
    let passed = receive_descriptor(&ours)?;
    let output = child.wait_with_output().map_err(|error| SysError::from_io("wait4(fusermount3)", &error))?;
    match passed {
        Some(fd) if output.status.success() => Ok(Device::from_fd(fd)),
        _ => Err(explain(&output, target)),
    }
}

/// Unmounts through the helper: users may unmount what they mounted.
pub(crate) fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    let child = spawn(|command| {
        command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(target);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    })?;
    let output = child.wait_with_output().map_err(|error| SysError::from_io("wait4(fusermount3)", &error))?;
    if output.status.success() { Ok(()) } else { Err(explain(&output, target)) }
}

/// Starts whichever helper is installed.
fn spawn<C>(start: impl Fn(&mut Command) -> std::io::Result<C>) -> Result<C, MountError> {
    for helper in HELPERS {
        match start(Command::new(helper).env("LC_ALL", "C")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(SysError::from_io("execve", &error).on(helper).into()),
            Ok(child) => return Ok(child),
        }
    }
    Err(MountError::NoHelper)
}

/// `-o`'s text. The helper adds nosuid and nodev itself; fd, rootmode and ids are its own matter.
fn option_words(options: &MountOptions) -> OsString {
    let flags = options.flags;
    let mut text = Vec::new();
    for (on, word) in [
        (true, if flags.contains(MountFlags::RDONLY) { "ro" } else { "rw" }),
        (flags.contains(MountFlags::NOSUID), "nosuid"),
        (flags.contains(MountFlags::NODEV), "nodev"),
        (flags.contains(MountFlags::NOEXEC), "noexec"),
        (flags.contains(MountFlags::NOATIME), "noatime"),
        (flags.contains(MountFlags::SYNCHRONOUS), "sync"),
        (flags.contains(MountFlags::DIRSYNC), "dirsync"),
        (options.default_permissions, "default_permissions"),
        (options.allow_other, "allow_other"),
    ] {
        if on {
            text.extend_from_slice(word.as_bytes());
            text.push(b',');
        }
    }
    text.extend_from_slice(format!("max_read={}", options.max_read).as_bytes());
    escape(&mut text, ",subtype=", OsStr::new(&options.subtype));
    escape(&mut text, ",fsname=", &options.source);
    OsString::from_vec(text)
}

/// The helper reads `\,` and `\\` as what follows the backslash.
fn escape(text: &mut Vec<u8>, key: &str, value: &OsStr) {
    text.extend_from_slice(key.as_bytes());
    for byte in value.as_bytes() {
        if matches!(byte, b',' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
}

/// The helper's own words, or ours where it is known what they mean.
fn explain(output: &Output, target: &Path) -> MountError {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("fusermount3: ").trim_start_matches("fusermount: ");
    if said.contains("user_allow_other") {
        MountError::AllowOtherDenied
    } else if said.contains("resource busy") {
        MountError::Busy(target.into())
    } else if said.contains("not found in /etc/mtab") || said.contains("Invalid argument") {
        MountError::NotMounted(target.into())
    } else if said.contains("device not found") {
        MountError::NoDevice(SysError::new("open", Errno::NOENT).on(DEVICE_PATH))
    } else if said.contains("/dev/fuse: Permission denied") {
        MountError::DeviceDenied(SysError::new("open", Errno::ACCESS).on(DEVICE_PATH))
    } else if said.is_empty() {
        MountError::Helper(format!("ended with {}, without a word", output.status))
    } else {
        MountError::Helper(said.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn options_are_words_with_commas_escaped() {
        let options = MountOptions {
            source: "a,b\\c".into(),
            subtype: "aufs".into(),
            flags: MountFlags::RDONLY | MountFlags::NOATIME,
            allow_other: false,
            default_permissions: true,
            max_read: 4096,
        };
        let want = "ro,noatime,default_permissions,max_read=4096,subtype=aufs,fsname=a\\,b\\\\c";
        assert_eq!(option_words(&options), want);
    }

    #[test]
    fn the_helpers_words_become_conditions() {
        let say = |text: &str| Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: Vec::new(),
            stderr: text.as_bytes().to_vec(),
        };
        let target = Path::new("/t");
        let other =
            "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf\n";
        assert!(matches!(explain(&say(other), target), MountError::AllowOtherDenied));
        let odd = explain(&say("fusermount3: odd thing\n"), target);
        assert_eq!(odd.to_string(), "fusermount3: odd thing");
        let denied = explain(&say("fusermount3: failed to open /dev/fuse: Permission denied"), target);
        assert!(matches!(denied, MountError::DeviceDenied(_)));
        let busy = "fusermount3: failed to unmount /t: Device or resource busy";
        assert!(matches!(explain(&say(busy), target), MountError::Busy(_)));
    }
}
