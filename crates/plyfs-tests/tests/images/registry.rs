//! Debian's docker-registry on loopback, with a config and a directory of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plyfs_tests::{Scratch, sh};

/// bcrypt of `secret`.
const SECRET: &str = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

pub(crate) struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Without a login.
    pub(crate) fn new(scratch: &Scratch) -> Registry {
        Registry::start(scratch, "")
    }

    /// For the user `me` with the password `secret`.
    pub(crate) fn with_login(scratch: &Scratch) -> Registry {
        let users = scratch.file("users", format!("me:{SECRET}\n"));
        Registry::start(
            scratch,
            &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display()),
        )
    }

    /// By HTTPS, with a certificate that nobody vouches for.
    pub(crate) fn with_tls(scratch: &Scratch) -> Registry {
        let dir = scratch.root().display();
        sh(format!(
            "cd {dir}; openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null"
        ))
        .ok();
        Registry::start(
            scratch,
            &format!("  tls:\n    certificate: {dir}/cert.pem\n    key: {dir}/key.pem\n"),
        )
    }

    #[track_caller]
    fn start(scratch: &Scratch, more: &str) -> Registry {
        let port = free_port();
        let data = scratch.dir("registry");
        let config = scratch.file(
            "registry.yml",
            format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
                data.display()
            ),
        );
        let log = fs::File::create(scratch.path("registry.log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let registry = Registry { child: command.spawn().expect("starting docker-registry"), port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Copies an image there with skopeo; `name` is `path:tag`.
    #[track_caller]
    pub(crate) fn push(&self, from: &str, name: &str, options: &str) {
        sh(format!(
            "skopeo copy -q --dest-tls-verify=false {options} {from} docker://{}/{name}",
            self.host()
        ))
        .ok();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that nobody listens on. Somebody may take it before we do; then the test fails and says so.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
