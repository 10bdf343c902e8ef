//! `mount.aufs -o remount,...`: the kernel's flags are changed; whatever else would change a live mount is refused,
//! since saying "done" to a change that did not happen would be worse.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, anyhow};
use plyfs_sys::mounts::{self, MountFlags};
use plyfs_sys::process;
use plyfs_union::spec::{self, Action, Atime, BranchSpec, KernelFlags, MountSpec, Parsed, Unknown};

use crate::exit::{self, Failure, Outcome};
use crate::mounted::{self, Mounted, has_option};
use crate::output;
use crate::personality::MountPlan;

/// Carries out a remount.
pub(super) fn run(plan: &MountPlan, options: &[&OsStr], unknown: Unknown) -> Outcome {
    let mounted = mounted::at(&plan.target)?;
    let base = mounted.spec()?;
    let parsed = spec::remount(&base, options, unknown)
        .map_err(|error| Failure::usage(format_args!("reading the options: {error}")))?;
    // mount(8) repeats the kernel's own words of /proc/mounts; nobody wrote them.
    let kernels = |warning: &&String| ["'user_id=", "'group_id="].iter().any(|word| warning.contains(word));
    parsed.warnings.iter().filter(|warning| !kernels(warning)).for_each(output::warn);
    if let Some(what) = refused(&mounted, &base, &parsed) {
        return Err(Failure::from(anyhow!(
            "remounting {}: {what} cannot be changed in a live mount; unmount it and mount it anew",
            plan.target.display()
        )));
    }
    if plan.verbose {
        output::note(format_args!("remounting {}", mounted.info.mount_point.display()));
    }
    if !plan.fake {
        change(&mounted, &parsed.spec.kernel).map_err(not_allowed)?;
    }
    Ok(exit::DONE)
}

fn not_allowed(error: anyhow::Error) -> Failure {
    if process::may_administer() {
        return error.into();
    }
    let hint = "only root can remount, fusermount3 cannot; unmount it and mount it anew";
    Failure { hint: Some(hint.to_owned()), ..error.into() }
}

/// What of the changes asked for is none of the kernel's flags, for people.
fn refused(mounted: &Mounted, base: &MountSpec, parsed: &Parsed) -> Option<String> {
    if !parsed.actions.iter().all(|action| is_so(base, action)) {
        return Some("the stack of branches".to_owned());
    }
    let mut asked = parsed.spec.clone();
    let old = &base.kernel;
    asked.kernel = KernelFlags {
        read_only: old.read_only,
        nosuid: old.nosuid,
        nodev: old.nodev,
        noexec: old.noexec,
        atime: old.atime,
        sync: old.sync,
        ..asked.kernel
    };
    // mount(8) repeats these from /proc/mounts, where they stand without having been written.
    if asked.kernel.allow_other == Some(has_option(&mounted.info.super_options, "allow_other")) {
        asked.kernel.allow_other = old.allow_other;
    }
    if asked.source.as_deref() == Some(mounted.source()) {
        asked.source.clone_from(&base.source);
    }
    asked.inert.clone_from(&base.inert);
    (asked != *base).then(|| difference(&base.options(), &asked.options()))
}

/// Whether what a remount asks for is there already: mount(8) repeats the list of /etc/fstab.
fn is_so(base: &MountSpec, action: &Action) -> bool {
    match action {
        Action::Remount => true,
        Action::Insert { index, branch } => {
            base.branches.get(*index).is_some_and(|present| is_same(present, branch))
        }
        _ => false,
    }
}

fn is_same(present: &BranchSpec, asked: &BranchSpec) -> bool {
    let same_place =
        present.path == asked.path || asked.path.canonicalize().is_ok_and(|real| real == present.path);
    let written = |branch: &BranchSpec| (branch.perm, branch.wh, branch.nolwh, branch.other.clone());
    same_place && (!asked.perm_said || written(present) == written(asked))
}

/// The words that are new, or else those that are gone.
fn difference(old: &OsStr, new: &OsStr) -> String {
    let words = |text: &OsStr| -> Vec<OsString> {
        text.as_bytes().split(|byte| *byte == b',').map(|word| OsStr::from_bytes(word).to_owned()).collect()
    };
    let (old, new) = (words(old), words(new));
    let fresh: Vec<_> = new.iter().filter(|word| !old.contains(word)).collect();
    let gone: Vec<_> = old.iter().filter(|word| !new.contains(word)).collect();
    let told = if fresh.is_empty() { gone } else { fresh };
    told.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(", ")
}

/// Makes a mount read-only, leaving its other flags.
pub(crate) fn set_read_only(mounted: &Mounted) -> anyhow::Result<()> {
    let kernel = mounted.spec()?.kernel;
    change(mounted, &KernelFlags { read_only: true, ..kernel })
}

/// Gives the filesystem and the mount these flags.
fn change(mounted: &Mounted, wanted: &KernelFlags) -> anyhow::Result<()> {
    let place = &mounted.info.mount_point;
    let flags = flags(mounted, wanted);
    mounts::mount(mounted.source(), place, &mounted.info.fs_type, flags, OsStr::new(""))
        .with_context(|| format!("remounting {}", place.display()))
}

fn flags(mounted: &Mounted, wanted: &KernelFlags) -> MountFlags {
    // mount(2)'s MS_REMOUNT: no mount flag but a command, and so not among the flags' names.
    const REMOUNT: u32 = 32;
    const NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(256);
    let mut flags = MountFlags::from_bits_retain(REMOUNT)
        | match wanted.atime {
            // As in mounting.
            Atime::Unsaid | Atime::Noatime => MountFlags::NOATIME,
            Atime::Relatime => MountFlags::RELATIME,
            Atime::Strictatime => MountFlags::STRICTATIME,
        };
    let (mount, filesystem) = (&mounted.info.options, &mounted.info.super_options);
    for (on, flag) in [
        (wanted.read_only, MountFlags::RDONLY),
        (wanted.nosuid == Some(true), MountFlags::NOSUID),
        (wanted.nodev == Some(true), MountFlags::NODEV),
        (wanted.noexec, MountFlags::NOEXEC),
        (wanted.sync, MountFlags::SYNCHRONOUS),
        // Flags that others have set: they stay.
        (has_option(mount, "nodiratime"), MountFlags::NODIRATIME),
        (has_option(mount, "nosymfollow"), NOSYMFOLLOW),
        (has_option(filesystem, "lazytime"), MountFlags::LAZYTIME),
    ] {
        flags.set(flag, on);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use plyfs_sys::mounts::MountInfo;

    fn mounted() -> Mounted {
        let info = MountInfo {
            id: 1,
            parent: 0,
            dev: (0, 57),
            root: "/".into(),
            mount_point: "/m".into(),
            options: "rw,nosuid,noatime".into(),
            fs_type: "fuse.aufs".into(),
            source: "none".into(),
            super_options: "rw,user_id=0,group_id=0,allow_other".into(),
        };
        Mounted { info, found: None }
    }

    fn base() -> MountSpec {
        let text = OsStr::new("br:/rw=rw:/image=ro,nosuid,timeout=5,fsname=none");
        spec::parse(&[text], Unknown::Refuse).unwrap().spec
    }

    fn asked(options: &str) -> (Option<String>, MountFlags) {
        let parsed = spec::remount(&base(), &[OsStr::new(options)], Unknown::Warn).unwrap();
        (refused(&mounted(), &base(), &parsed), flags(&mounted(), &parsed.spec.kernel))
    }

    #[test]
    fn flags_are_changed_and_the_others_stay() {
        let remount = MountFlags::from_bits_retain(32);
        let kept = remount | MountFlags::NOSUID | MountFlags::NOATIME;
        assert_eq!(asked("remount"), (None, kept));
        assert_eq!(asked("remount,ro"), (None, kept | MountFlags::RDONLY));
        assert_eq!(asked("remount,noexec,nodev"), (None, kept | MountFlags::NOEXEC | MountFlags::NODEV));
        assert_eq!(asked("remount,suid,relatime"), (None, remount | MountFlags::RELATIME));
        assert_eq!(asked("remount,sync"), (None, kept | MountFlags::SYNCHRONOUS));
    }

    #[test]
    fn what_holds_already_may_be_repeated() {
        for same in [
            "remount,br:/rw=rw:/image",
            "rw,nosuid,noatime,user_id=0,group_id=0,default_permissions,allow_other,remount",
            "remount,timeout=5,fsname=none",
        ] {
            assert_eq!(asked(same).0, None, "{same}");
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (options, word) in [
            ("remount,timeout=3", "timeout=3"),
            ("remount,noexec,allow_root", "allow_root"),
            ("remount,noallow_other", "noallow_other"),
            ("remount,dirsync", "dirsync"),
            ("remount,strict,max_write=4096", "max_write=4096, strict"),
            ("remount,fsname=x", "fsname=x"),
            ("remount,br:/rw=ro", "the stack of branches"),
            ("remount,add:0:/new", "the stack of branches"),
            ("remount,del:/rw", "the stack of branches"),
        ] {
            assert_eq!(asked(options).0.as_deref(), Some(word), "{options}");
        }
    }
}
