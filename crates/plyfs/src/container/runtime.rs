//! The OCI runtime: which one, and its commands (runtime-spec runtime.md, "Operations"; the command line is runc's, which
//! crun and youki share).

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use plyfs_sys::mounts;
use plyfs_sys::process::signals;
use plyfs_sys::process::{self, view};

use super::run_dir::RunDir;
use crate::exit::{self, Failure};

/// By preference: crun starts fastest.
const KNOWN: [&str; 3] = ["crun", "runc", "youki"];
/// Root's programs, where PATH lacks them.
const PLACES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Names a runtime, if no option does.
pub(crate) const VARIABLE: &str = "PLYFS_RUNTIME";
const CGROUPS: &str = "/sys/fs/cgroup";

/// A runtime, and how it gets on with this host's control groups.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    program: PathBuf,
    /// It may make control groups.
    pub(crate) cgroups: bool,
    /// A mount that it must not see.
    hidden: Option<PathBuf>,
}

impl Runtime {
    /// The one asked for, by name or path; else the environment's; else the first that is installed.
    pub(crate) fn find(wanted: Option<&str>) -> Result<Runtime, Failure> {
        let asked = wanted.filter(|text| !text.is_empty()).map(str::to_owned);
        let asked = asked.or_else(|| std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()));
        let found = match &asked {
            Some(name) => look_up(name),
            None => KNOWN.iter().find_map(|name| look_up(name)),
        };
        found.map(Runtime::at).ok_or_else(|| {
            let what = match asked {
                Some(name) => anyhow!("no OCI runtime {name:?}"),
                None => anyhow!("no OCI runtime: none of crun, runc, youki is installed"),
            };
            let hint = Some("install one: apt install crun (or runc)".to_owned());
            Failure { code: exit::TRY_FAILED, error: what, hint }
        })
    }

    /// The one at this path.
    pub(crate) fn at(program: PathBuf) -> Runtime {
        let crun = program.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"crun"));
        let hybrid = if crun { hybrid() } else { None };
        if let Some(mount) = &hybrid {
            let mount = mount.display();
            tracing::debug!("crun refuses control groups v1 with v2 at {mount}: run without any");
        }
        Runtime { program, cgroups: hybrid.is_none(), hidden: hybrid }
    }

    /// Its path.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    fn command(&self, run: &RunDir) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(run.file("state")).arg("--log").arg(run.file("log"));
        command.args(["--log-format", "json"]);
        if !self.cgroups {
            command.arg("--cgroup-manager=disabled");
        }
        if let Some(hidden) = &self.hidden {
            view::hide_mount_from(&mut command, hidden)?;
        }
        signals::unblock_all_in(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    /// `create`: the caller adds the standard streams. The process waits for [`Runtime::start`].
    pub(crate) fn create(&self, run: &RunDir, id: &str, tty: bool) -> anyhow::Result<Command> {
        let mut command = self.command(run)?;
        command.arg("create").arg("--bundle").arg(run.path()).arg("--pid-file").arg(run.file("pid"));
        if tty {
            command.arg("--console-socket").arg(run.file("tty.sock"));
        }
        command.arg(id);
        Ok(command)
    }

    /// The process may go.
    pub(crate) fn start(&self, run: &RunDir, id: &str) -> anyhow::Result<()> {
        self.simple(run, &["start", id])
    }

    /// Freezes it.
    pub(crate) fn pause(&self, run: &RunDir, id: &str) -> anyhow::Result<()> {
        self.simple(run, &["pause", id])
    }

    /// Lets it go on.
    pub(crate) fn resume(&self, run: &RunDir, id: &str) -> anyhow::Result<()> {
        self.simple(run, &["resume", id])
    }

    /// Forgets the container, killing what is left of it.
    pub(crate) fn delete(&self, run: &RunDir, id: &str) -> anyhow::Result<()> {
        self.simple(run, &["delete", "--force", id])
    }

    fn simple(&self, run: &RunDir, words: &[&str]) -> anyhow::Result<()> {
        let said = self.command(run)?.args(words).output().context(self.program.display().to_string())?;
        if said.status.success() {
            return Ok(());
        }
        Err(anyhow!("{} {}: {}", self.program.display(), words.join(" "), words_of(run, &said.stderr)))
    }
}

/// The runtime's last words: from its log (JSON lines), else from its standard error.
pub(crate) fn words_of(run: &RunDir, stderr: &[u8]) -> String {
    let log = fs::read_to_string(run.file("log")).unwrap_or_default();
    let message = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let serious = matches!(line["level"].as_str(), Some("error" | "fatal" | "panic") | None);
        serious.then(|| line["msg"].as_str().map(str::to_owned)).flatten()
    };
    let last = log.lines().rev().find_map(message);
    last.unwrap_or_else(|| String::from_utf8_lossy(stderr).trim().to_owned())
}

/// Docker's codes for a process that could not be begun (docker/cli `runStartContainerErr`), from the runtime's words.
pub(crate) fn refusal_code(words: &str) -> u8 {
    let words = words.to_lowercase();
    let has = |any: &[&str]| any.iter().any(|one| words.contains(one));
    if !has(&["exec: ", "executable", "exec container process"]) {
        return exit::TRY_FAILED;
    }
    if has(&["not found", "no such file"]) {
        exit::NOT_FOUND
    } else if has(&["permission denied", "operation not permitted", "is a directory", "exec format"]) {
        exit::NOT_EXECUTABLE
    } else {
        exit::TRY_FAILED
    }
}

/// What the environment says, good in any directory.
pub(crate) fn from_environment() -> anyhow::Result<Option<String>> {
    let said = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    said.map(|name| absolute(&name)).transpose()
}

/// A runtime's name as it is; a path from the root on: it is used later, from elsewhere.
pub(crate) fn absolute(name: &str) -> anyhow::Result<String> {
    if !name.contains('/') {
        return Ok(name.to_owned());
    }
    let path = std::path::absolute(name).with_context(|| format!("finding the runtime {name}"))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| anyhow!("the runtime's path {} is no UTF-8", path.display()))
}

fn look_up(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return std::path::absolute(name).ok().filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(std::env::split_paths(OsStr::new(PLACES)));
    places.map(|dir| dir.join(name)).find(|path| process::may_execute(path))
}

/// Where the v2 hierarchy is mounted, with controllers, beside v1 ones.
fn hybrid() -> Option<PathBuf> {
    let list = mounts::list().ok()?;
    let v2 = list.iter().find(|mount| {
        mount.fs_type == "cgroup2"
            && mount.mount_point.starts_with(CGROUPS)
            && mount.mount_point != Path::new(CGROUPS)
    })?;
    list.iter().any(|mount| mount.fs_type == "cgroup").then(|| v2.mount_point.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_dockers_codes() {
        let cases = [
            ("executable file `nope` not found in $PATH: No such file or directory", exit::NOT_FOUND),
            (
                "runc create failed: unable to start container process: exec: \"/nope\": stat /nope: no such file or directory",
                exit::NOT_FOUND,
            ),
            ("open executable: Permission denied", exit::NOT_EXECUTABLE),
            ("open executable: Operation not permitted", exit::NOT_EXECUTABLE),
            ("unable to start container process: exec: \"/bin\": permission denied", exit::NOT_EXECUTABLE),
            ("mount `/x` to `/y`: No such file or directory", exit::TRY_FAILED),
            ("cannot set rlimits: permission denied", exit::TRY_FAILED),
        ];
        for (words, code) in cases {
            assert_eq!(refusal_code(words), code, "{words}");
        }
    }
}
