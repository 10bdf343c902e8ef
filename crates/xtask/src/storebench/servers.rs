//! A registry and a containerd of our own, on loopback; they end with the run.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::engines::alone;
use super::image::{Image, TAG};
use crate::run;

/// Both, running.
#[derive(Debug)]
pub(super) struct Servers {
    running: Vec<Child>,
    /// `127.0.0.1:PORT/bench:latest`
    pub(super) reference: String,
    /// containerd's socket.
    pub(super) socket: PathBuf,
}

impl Servers {
    pub(super) fn start(dir: &Path, image: &Image) -> Result<Servers> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut servers = Servers {
            running: Vec::new(),
            reference: format!("127.0.0.1:{port}/bench:{TAG}"),
            socket: dir.join("containerd.sock"),
        };
        servers.registry(dir, port)?;
        servers.containerd(dir)?;
        let from = format!("oci:{}:{TAG}", image.layout.display());
        let to = format!("docker://{}", servers.reference);
        run::output(Command::new("skopeo").args([
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            &from,
            &to,
        ]))?;
        Ok(servers)
    }

    fn registry(&mut self, dir: &Path, port: u16) -> Result<()> {
        let config = dir.join("registry.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
                dir.join("registry").display()
            ),
        )?;
        let mut command = Command::new("docker-registry");
        self.spawn(command.arg("serve").arg(&config))?;
        wait("the registry", || TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    fn containerd(&mut self, dir: &Path) -> Result<()> {
        let config = dir.join("containerd.toml");
        fs::write(
            &config,
            format!(
                "version = 2\nroot = '{0}/containerd'\nstate = '{0}/containerd-state'\n\
                 disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.internal.v1.opt']\n[grpc]\naddress = '{1}'\n",
                dir.display(),
                self.socket.display()
            ),
        )?;
        self.spawn(alone("containerd").arg("-c").arg(&config))?;
        let socket = self.socket.clone();
        wait("containerd", || {
            run::output(Command::new("ctr").arg("-a").arg(&socket).arg("version").stderr(Stdio::null()))
                .is_ok()
        })
    }

    fn spawn(&mut self, command: &mut Command) -> Result<()> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.running.push(child.with_context(|| format!("starting {:?}", command.get_program()))?);
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.running {
            // Gone already, or gone now.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn wait(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > Duration::from_secs(30) {
            bail!("{what} does not answer");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
