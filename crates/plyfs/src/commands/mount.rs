//! `plyfs mount` and its other forms.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, anyhow};
use plyfs_sys::process;
use plyfs_union::spec::{self, Action, MountSpec, Parsed, Unknown};

use crate::daemon::{self, Ready};
use crate::exit::{self, Failure, Outcome};
use crate::personality::MountPlan;
use crate::{log, output, serve};

pub(crate) mod remount;

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
        return remount::run(plan, &options, unknown).map_err(fail);
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
        return serve::open(&spec, &target).map(|_| exit::DONE).map_err(|error| fail(error.into()));
    }
    // fuse-overlayfs' word: `-o debug` is `-d`, which stays in the foreground.
    let debug = plan.debug || spec.has("debug");
    let foreground = plan.foreground || debug;
    log::start(debug, !foreground);
    if foreground {
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
