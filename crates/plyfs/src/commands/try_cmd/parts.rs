//! Which of the host's mounts the view needs, and in which form. Pure: from mountinfo to a list.

use std::path::{Path, PathBuf};

use plyfs_sys::mounts::MountInfo;

use crate::mounted::has_option;

/// One mount of the host as the view is to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where, absolute.
    pub(crate) at: PathBuf,
    /// How.
    pub(crate) form: Form,
}

/// How a mount of the host appears in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Copy-on-write.
    Union,
    /// As it is, read-only.
    ReadOnly,
}

/// Directories of which the view gets its own or the host's, with everything below.
pub(crate) const SYSTEM_DIRS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Filesystems without files of anybody, wherever they are mounted.
const NO_STORAGE: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// The mounts below `/` that can be reached, parents first. `is_dir` tells about a mount point.
pub(crate) fn parts(mounts: &[MountInfo], binds: &[PathBuf], is_dir: impl Fn(&Path) -> bool) -> Vec<Part> {
    let root = Path::new("/");
    let mut parts: Vec<Part> = Vec::new();
    for mount in mounts {
        let at = &mount.mount_point;
        let elsewhere = at == root
            || SYSTEM_DIRS.iter().any(|dir| at.starts_with(dir))
            || binds.iter().any(|bind| at.starts_with(bind));
        if elsewhere || top_at(mounts, at).is_none_or(|top| top.id != mount.id) {
            continue;
        }
        if let Some(form) = form(mount, is_dir(at)) {
            parts.push(Part { at: at.clone(), form });
        }
    }
    parts.sort_by(|a, b| a.at.cmp(&b.at));
    parts
}

fn form(mount: &MountInfo, is_dir: bool) -> Option<Form> {
    let kind = mount.fs_type.to_string_lossy();
    if NO_STORAGE.contains(&&*kind) {
        return None;
    }
    // A FUSE filesystem of somebody: it may answer nobody else, and may be ours, whose files are no branch.
    let foreign = kind == "fuse" || kind.starts_with("fuse.");
    let read_only = has_option(&mount.options, "ro") || has_option(&mount.super_options, "ro");
    Some(if is_dir && !foreign && !read_only { Form::Union } else { Form::ReadOnly })
}

/// The mount that a walk to `path` ends in, if it ends at a mount point; mounts hidden by others are not found.
fn top_at<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let is_listed = |id| mounts.iter().any(|mount| mount.id == id);
    // The root's own parent (the initial ramfs, or a namespace's old root) is not in the list.
    let root = mounts.iter().find(|mount| mount.mount_point == Path::new("/") && !is_listed(mount.parent));
    let mut here = root.or_else(|| mounts.iter().find(|mount| mount.mount_point == Path::new("/")))?;
    let mut prefixes: Vec<&Path> = path.ancestors().collect();
    prefixes.reverse();
    for prefix in prefixes {
        while let Some(next) = mounts
            .iter()
            .find(|mount| mount.parent == here.id && mount.id != here.id && mount.mount_point == prefix)
        {
            here = next;
        }
    }
    (here.mount_point == path).then_some(here)
}

/// A name for the branch of `at`: `root` for `/`, `mount-home-user` for `/home/user`; never one of `taken`.
pub(crate) fn branch_name(at: &Path, taken: &[String]) -> String {
    let words: Vec<String> = at.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let base = if words.is_empty() { "root".to_owned() } else { format!("mount-{}", words.join("-")) };
    // A name longer than the filesystem takes would fail the whole view.
    let base: String = base.chars().take(60).collect();
    let mut name = base.clone();
    let mut number = 2;
    while taken.contains(&name) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(text: &str) -> Vec<MountInfo> {
        plyfs_sys::mounts::parse(text.as_bytes())
    }

    fn view(text: &str, binds: &[&str]) -> Vec<(String, Form)> {
        let binds: Vec<PathBuf> = binds.iter().map(PathBuf::from).collect();
        let parts = parts(&mounts(text), &binds, |at| !at.ends_with("resolv.conf"));
        parts.into_iter().map(|part| (part.at.display().to_string(), part.form)).collect()
    }

    const HOST: &str = "\
22 27 0:21 / /proc rw - proc proc rw
24 27 0:6 / /dev rw - devtmpfs devtmpfs rw
25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw
27 1 254:0 / / rw - ext4 /dev/vda rw
40 27 254:1 / /home rw - xfs /dev/vdb rw
41 40 0:40 / /home/me/remote rw - fuse.sshfs host: rw
42 27 0:41 / /tmp rw - tmpfs tmpfs rw
43 27 0:42 / /media/cd ro - iso9660 /dev/sr0 ro
44 27 254:0 /etc/r /etc/resolv.conf rw - ext4 /dev/vda rw
45 27 0:43 / /net rw - autofs systemd-1 rw
46 42 0:44 / /tmp/hidden rw - ext4 /dev/vdc rw
47 42 0:45 / /tmp rw - tmpfs tmpfs rw
";

    #[test]
    fn every_real_mount_once() {
        let want = [
            ("/etc/resolv.conf", Form::ReadOnly),
            ("/home", Form::Union),
            ("/home/me/remote", Form::ReadOnly),
            ("/media/cd", Form::ReadOnly),
            ("/tmp", Form::Union),
        ];
        let want: Vec<_> = want.into_iter().map(|(at, form)| (at.to_owned(), form)).collect();
        assert_eq!(view(HOST, &[]), want);
    }

    #[test]
    fn what_is_bound_for_real_needs_no_part() {
        let view = view(HOST, &["/home"]);
        assert!(view.iter().all(|(at, _)| !at.starts_with("/home")), "{view:?}");
    }

    #[test]
    fn hidden_mounts_are_not_found() {
        let mounts = mounts(HOST);
        assert_eq!(top_at(&mounts, Path::new("/tmp")).unwrap().id, 47);
        assert!(top_at(&mounts, Path::new("/tmp/hidden")).is_none());
        assert_eq!(top_at(&mounts, Path::new("/")).unwrap().id, 27);
        assert!(top_at(&mounts, Path::new("/etc")).is_none());
    }

    #[test]
    fn names_do_not_meet() {
        let mut taken = Vec::new();
        for (at, want) in
            [("/", "root"), ("/root", "mount-root"), ("/a/b", "mount-a-b"), ("/a-b", "mount-a-b-2")]
        {
            let name = branch_name(Path::new(at), &taken);
            assert_eq!(name, want);
            taken.push(name);
        }
    }
}
