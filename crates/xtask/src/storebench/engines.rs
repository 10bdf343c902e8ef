//! What each candidate runs for each work. Every engine gets a mount namespace of its own (alike for all), in which the v2
//! cgroup hierarchy that stands beside v1 ones on some machines is not mounted: crun takes no mixture.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use serde_json::json;

use super::image::{Image, TAG};
use super::servers::Servers;

/// Whose command it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Candidate {
    Plyfs,
    Podman,
    Skopeo,
    Containerd,
    Crun,
}

impl Candidate {
    pub(super) fn name(self) -> &'static str {
        match self {
            Candidate::Plyfs => "plyfs",
            Candidate::Podman => "podman",
            Candidate::Skopeo => "skopeo to containers-storage",
            Candidate::Containerd => "ctr",
            Candidate::Crun => "crun on a plain directory",
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// An archive becomes an image.
    Load,
    /// The same from a registry on loopback.
    Pull,
    /// Create, start, run `true`, remove.
    Run,
}

impl Work {
    pub(super) const ALL: [Work; 3] = [Work::Load, Work::Pull, Work::Run];

    pub(super) fn name(self) -> &'static str {
        match self {
            Work::Load => "load",
            Work::Pull => "pull",
            Work::Run => "run --rm IMAGE true",
        }
    }

    pub(super) fn candidates(self) -> Vec<Candidate> {
        match self {
            Work::Load | Work::Pull => {
                vec![Candidate::Plyfs, Candidate::Podman, Candidate::Skopeo, Candidate::Containerd]
            }
            Work::Run => vec![Candidate::Plyfs, Candidate::Podman, Candidate::Crun],
        }
    }
}

/// Where it happens.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) plyfs: PathBuf,
    pub(super) image: Image,
    pub(super) servers: Servers,
}

/// `program` in a mount namespace of its own.
pub(super) fn alone(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c"]);
    command.arg("umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"").arg("sh").arg(program);
    command
}

impl Stage {
    /// What has to be there before the clock runs: an empty store, or one that has the image.
    pub(super) fn prepare(&self, work: Work, candidate: Candidate) -> Result<()> {
        if candidate == Candidate::Podman || candidate == Candidate::Skopeo {
            let text = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=10000:10000\"]\n\
                        cgroups = \"disabled\"\nnetns = \"none\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
                        events_logger = \"none\"\nruntime = \"crun\"\n";
            fs::write(self.dir.join("containers.conf"), text)?;
            let text = format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/podman\"\nrunroot = \"{0}/podman-run\"\n",
                self.dir.display()
            );
            fs::write(self.dir.join("storage.conf"), text)?;
        }
        match (work, candidate) {
            (Work::Run, Candidate::Plyfs | Candidate::Podman) => self.act(Work::Load, candidate),
            (Work::Run, Candidate::Crun) => self.bundle(),
            _ => Ok(()),
        }
    }

    /// The measured command.
    pub(super) fn act(&self, work: Work, candidate: Candidate) -> Result<()> {
        let mut command = match work {
            Work::Load => self.load(candidate),
            Work::Pull => self.pull(candidate),
            Work::Run => self.run(candidate)?,
        };
        finish(&mut command).map(drop)
    }

    fn load(&self, candidate: Candidate) -> Command {
        let archive = &self.image.archive;
        let mut command = self.command(candidate);
        match candidate {
            Candidate::Skopeo => {
                command.arg(format!("oci-archive:{}:{TAG}", archive.display()));
                command.arg("containers-storage:bench:latest");
            }
            Candidate::Containerd => {
                command
                    .args(["images", "import", "--snapshotter", "overlayfs", "--base-name", "bench"])
                    .arg(archive);
            }
            Candidate::Plyfs | Candidate::Podman | Candidate::Crun => {
                command.args(["load", "-q", "-i"]).arg(archive);
            }
        }
        command
    }

    fn pull(&self, candidate: Candidate) -> Command {
        let reference = &self.servers.reference;
        let mut command = self.command(candidate);
        match candidate {
            Candidate::Skopeo => {
                command.arg("--src-tls-verify=false").arg(format!("docker://{reference}"));
                command.arg("containers-storage:bench:latest");
            }
            Candidate::Containerd => {
                command.args(["images", "pull", "--plain-http", "--snapshotter", "overlayfs", reference]);
            }
            Candidate::Podman => {
                command.args(["pull", "-q", "--tls-verify=false", reference]);
            }
            Candidate::Plyfs | Candidate::Crun => {
                command.args(["pull", "-q", reference]);
            }
        }
        command
    }

    fn run(&self, candidate: Candidate) -> Result<Command> {
        let mut command = self.command(candidate);
        match candidate {
            Candidate::Plyfs => {
                command.args(["run", "--rm", "--network", "none"]).arg(self.loaded(candidate)?)
            }
            Candidate::Podman => command.args(["run", "--rm"]).arg(self.loaded(candidate)?),
            Candidate::Skopeo | Candidate::Containerd | Candidate::Crun => {
                command.arg("--root").arg(self.dir.join("crun"));
                command.args(["--cgroup-manager=disabled", "run", "-b"]).arg(self.dir.join("bundle"));
                command.arg("bench");
                return Ok(command);
            }
        };
        command.args(["/bin/busybox", "true"]);
        Ok(command)
    }

    fn command(&self, candidate: Candidate) -> Command {
        match candidate {
            Candidate::Plyfs => self.plyfs(),
            Candidate::Podman => self.podman(),
            Candidate::Skopeo => self.skopeo(),
            Candidate::Containerd => self.ctr(),
            Candidate::Crun => alone("crun"),
        }
    }

    /// Nothing of the sample stays.
    pub(super) fn clean(&self, candidate: Candidate) -> Result<()> {
        if candidate == Candidate::Containerd {
            for name in finish(self.ctr().args(["images", "ls", "-q"]))?.lines() {
                finish(self.ctr().args(["images", "rm", "--sync"]).arg(name))?;
            }
            return Ok(());
        }
        for name in ["plyfs-root", "podman", "podman-run", "podman-tmp", "crun", "bundle"] {
            let path = self.dir.join(name);
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// The id under which an engine has the image.
    fn loaded(&self, engine: Candidate) -> Result<String> {
        let ids = finish(self.command(engine).args(["images", "-q"]))?;
        match ids.lines().next() {
            Some(id) => Ok(id.to_owned()),
            None => bail!("{} has no image after loading it", engine.name()),
        }
    }

    fn plyfs(&self) -> Command {
        let mut command = alone(&self.plyfs);
        command.arg("--root").arg(self.dir.join("plyfs-root"));
        command
    }

    fn podman(&self) -> Command {
        let mut command = alone("podman");
        command
            .args(["--root"])
            .arg(self.dir.join("podman"))
            .arg("--runroot")
            .arg(self.dir.join("podman-run"));
        command.arg("--tmpdir").arg(self.dir.join("podman-tmp")).args(["--storage-driver", "overlay"]);
        self.configured(&mut command);
        command
    }

    fn skopeo(&self) -> Command {
        let mut command = alone("skopeo");
        command.args(["--insecure-policy", "copy", "-q"]);
        self.configured(&mut command);
        command
    }

    fn configured(&self, command: &mut Command) {
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"));
        command.env("TMPDIR", &self.dir);
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(&self.servers.socket);
        command
    }

    fn bundle(&self) -> Result<()> {
        let bundle = self.dir.join("bundle");
        fs::create_dir_all(&bundle)?;
        finish(Command::new("crun").arg("spec").current_dir(&bundle))?;
        let path = bundle.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["root"] = json!({ "path": self.image.rootfs, "readonly": false });
        config["process"]["args"] = json!(["/bin/busybox", "true"]);
        config["process"]["terminal"] = json!(false);
        if let Some(process) = config["process"].as_object_mut() {
            process.remove("rlimits");
        }
        if let Some(spaces) = config["linux"]["namespaces"].as_array_mut() {
            spaces.retain(|one| one["type"] != "cgroup");
        }
        fs::write(path, config.to_string())?;
        Ok(())
    }
}

/// Runs a command quietly; what it says is told if it fails.
fn finish(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output()?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{:?}: {}: {}", command.get_args().collect::<Vec<_>>(), out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
