//! `plyfs mount` and its other forms, `mount.aufs -o remount,...` included.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, anyhow};
use plyfs_sys::mounts::{self, MountFlags};
use plyfs_sys::process;
use plyfs_union::spec::{self, Action, MountSpec, Parsed, Unknown};

use crate::daemon::{self, Ready};
use crate::exit::{self, Failure, Outcome};
use crate::mounted::{self, Mounted};
use crate::personality::MountPlan;
use crate::{log, output, serve};

/// Carries out any form of mount, with the exit codes of that form.
pub(crate) fn run(plan: &MountPlan) -> Outcome {
    let helper = plan.helper;
    let fail = |failure: Failure| match failure.code {
        exit::USAGE if helper => failure.with_code(exit::HELPER_USAGE),
        exit::FAILED if helper => failure.with_code(exit::MOUNT_FAILED),
        _ => failure,
    };
    if let Some(file) = &plan.namespace {
        process::enter_mount_namespace(file)
            .map_err(|error| Failure::new(if helper { exit::HELPER_SYSTEM } else { exit::FAILED }, error))?;
    }
    let options: Vec<&OsStr> = plan.options.iter().map(|text| text.as_os_str()).collect();
    let unknown = if plan.lenient { Unknown::Warn } else { Unknown::Refuse };
    let parsed = read(&options, unknown).map_err(fail)?;
    if parsed.actions.contains(&Action::Remount) {
        return remount(plan, &options, unknown).map_err(fail);
    }
    parsed.warnings.iter().for_each(output::warn);
    start(plan, parsed.spec, fail)
}

fn read(options: &[&OsStr], unknown: Unknown) -> Result<Parsed, Failure> {
    spec::parse(options, unknown)
        .map_err(|error| Failure::usage(format_args!("reading the options: {error}")))
}

fn start(plan: &MountPlan, mut spec: MountSpec, fail: impl Fn(Failure) -> Failure) -> Outcome {
    if spec.source.is_none() {
        spec.source.clone_from(&plan.source);
    }
    let target = target(&plan.target).map_err(&fail)?;
    if plan.verbose {
        output::note(format_args!("mounting {} on {}", spec.options().display(), target.display()));
    }
    if plan.fake {
        return Ok(exit::DONE);
    }
    // fuse-overlayfs' word: `-o debug` is `-d`, which stays in the foreground.
    let debug = plan.debug || spec.has("debug");
    log::start(debug);
    if plan.foreground || debug {
        serve::serve(&spec, &target, Ready::nobody()).map_err(fail)
    } else {
        daemon::detach(|ready| serve::serve(&spec, &target, ready).map_err(&fail))
    }
}

/// The mount point, absolute: a directory that exists.
fn target(given: &Path) -> Result<std::path::PathBuf, Failure> {
    let real = given.canonicalize().with_context(|| format!("mount point {}", given.display()))?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(Failure::from(anyhow!("mount point {}: is not a directory", given.display())))
    }
}

/// `remount,ro` and `remount,rw`. Everything else of AUFS's remount grammar is refused: saying "done" to a change that
/// did not happen would be worse.
fn remount(plan: &MountPlan, options: &[&OsStr], unknown: Unknown) -> Outcome {
    let mounted = mounted::at(&plan.target)?;
    let base = mounted.found.as_ref().map(|found| found.record.options()).unwrap_or_default();
    let base = spec::parse(&[base.as_os_str()], Unknown::Warn).map(|parsed| parsed.spec).unwrap_or_default();
    let parsed = spec::remount(&base, options, unknown)
        .map_err(|error| Failure::usage(format_args!("reading the options: {error}")))?;
    // mount(8) repeats the kernel's own words of /proc/mounts; nobody wrote them.
    let kernels = |warning: &&String| ["'user_id=", "'group_id="].iter().any(|word| warning.contains(word));
    parsed.warnings.iter().filter(|warning| !kernels(warning)).for_each(output::warn);
    if changes_more_than_flags(&base, &parsed) {
        return Err(Failure::from(anyhow!(
            "remounting {}: only ro and rw can be changed in a live mount so far; unmount it and mount it anew",
            plan.target.display()
        )));
    }
    if plan.verbose {
        output::note(format_args!("remounting {}", mounted.info.mount_point.display()));
    }
    if plan.fake {
        return Ok(exit::DONE);
    }
    set_read_only(&mounted, parsed.spec.kernel.read_only)?;
    Ok(exit::DONE)
}

fn changes_more_than_flags(base: &MountSpec, parsed: &Parsed) -> bool {
    let known = |action: &Action| match action {
        Action::Remount => true,
        // mount(8) repeats the list of /etc/fstab.
        Action::Insert { index, branch } => {
            base.branches.get(*index).is_some_and(|present| present.path == branch.path)
        }
        _ => false,
    };
    // mount(8) repeats the words of /proc/mounts too; they mean nothing here.
    let asked = MountSpec {
        kernel: base.kernel.clone(),
        source: base.source.clone(),
        inert: base.inert.clone(),
        timeout: base.timeout,
        ..parsed.spec.clone()
    };
    !parsed.actions.iter().all(known) || asked != *base
}

/// Sets or clears `ro` of the filesystem and the mount, leaving the mount's other flags.
pub(crate) fn set_read_only(mounted: &Mounted, read_only: bool) -> anyhow::Result<()> {
    // mount(2)'s MS_REMOUNT: no mount flag but a command, and so not among the flags' names.
    const REMOUNT: u32 = 32;
    let mut flags = MountFlags::from_bits_retain(REMOUNT);
    let names = [
        ("nosuid", MountFlags::NOSUID),
        ("nodev", MountFlags::NODEV),
        ("noexec", MountFlags::NOEXEC),
        ("noatime", MountFlags::NOATIME),
        ("nodiratime", MountFlags::NODIRATIME),
        ("relatime", MountFlags::RELATIME),
    ];
    for (word, flag) in names {
        flags.set(flag, mounted::has_option(&mounted.info.options, word));
    }
    flags.set(MountFlags::RDONLY, read_only);
    let place = &mounted.info.mount_point;
    mounts::mount(mounted.source(), place, &mounted.info.fs_type, flags, OsStr::new(""))
        .with_context(|| format!("remounting {}", place.display()))
}
