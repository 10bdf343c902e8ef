//! One line of advice for errors that people meet often.

use plyfs_sys::{Errno, SysError};

/// As root. The rule makes it last: udev sets the mode anew at each boot.
pub(crate) const OPEN_UP_FUSE: &str = "as root: chmod 666 /dev/fuse; and to make it last: \
echo 'KERNEL==\"fuse\", MODE=\"0666\"' > /etc/udev/rules.d/99-fuse.rules";

/// Looks through the causes of `error`.
pub(crate) fn about(error: &anyhow::Error) -> Option<String> {
    let text = format!("{error:#}");
    let errno = error.chain().find_map(|cause| cause.downcast_ref::<SysError>()).map(SysError::errno);
    find(&text, errno).map(str::to_owned)
}

fn find(text: &str, errno: Option<Errno>) -> Option<&'static str> {
    let denied = errno.is_some_and(|e| e == Errno::PERM || e == Errno::ACCESS)
        || text.contains("Permission denied")
        || text.contains("not permitted");
    if text.contains("/dev/fuse may not be opened") {
        return Some(OPEN_UP_FUSE);
    }
    if text.contains("/dev/fuse") {
        return Some(
            "is the fuse module loaded (modprobe fuse), and may you open /dev/fuse? See: plyfs doctor",
        );
    }
    if text.contains("fusermount3") {
        return Some(
            "fusermount3 comes with the package fuse3 and must be set-user-id root. See: plyfs doctor",
        );
    }
    if text.contains("user_allow_other") {
        return Some("add the line user_allow_other to /etc/fuse.conf, or leave allow_other out");
    }
    if denied && text.contains("unshare") {
        return Some("user namespaces are switched off for you; run as root, or see: plyfs doctor");
    }
    if denied {
        return Some("what this user and kernel allow is listed by: plyfs doctor");
    }
    if errno == Some(Errno::NOTCONN) || text.contains("not connected") {
        return Some("the server of this mount is gone; detach it with: plyfs umount --lazy DIR");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_the_cause() {
        let error =
            anyhow::Error::new(SysError::new("open", Errno::NOENT).on("/dev/fuse")).context("mounting");
        assert!(about(&error).unwrap().contains("modprobe"));
        let error = anyhow::anyhow!("mounting on /m: /dev/fuse may not be opened by this user");
        assert!(about(&error).unwrap().contains("chmod 666"));
        let error = anyhow::Error::new(SysError::new("unshare", Errno::PERM));
        assert!(about(&error).unwrap().contains("user namespaces"));
        assert_eq!(about(&anyhow::anyhow!("no such branch")), None);
    }
}
