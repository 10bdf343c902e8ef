//! A store with one small image, and what must be true when a test is done with it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use plyfs_tests::{Ran, Scratch, images, require_programs, require_root, run};
use serde_json::{Value, json};

pub(crate) struct Store {
    pub(crate) scratch: Scratch,
}

impl Store {
    /// With the image `bb`. `None`: not here (told).
    pub(crate) fn new() -> Option<Store> {
        Store::with(&json!({"Cmd": ["sh"]}))
    }

    /// With another config.
    pub(crate) fn with(config: &Value) -> Option<Store> {
        let store = Store::empty()?;
        images::register(&store.root(), "bb:latest", config, images::busybox);
        Some(store)
    }

    /// Without an image.
    pub(crate) fn empty() -> Option<Store> {
        let able = require_root("running containers") && require_programs(&["crun", "busybox"]);
        able.then(|| Store { scratch: Scratch::new() })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path("store")
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = plyfs_tests::plyfs();
        command.arg("--root").arg(self.root()).args(words).env_remove("PLYFS_RUNTIME");
        command
    }

    /// Runs plyfs to its end.
    #[track_caller]
    pub(crate) fn plyfs(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words))
    }

    /// The same, which must succeed; its standard output without the last line feed.
    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        self.plyfs(words).ok().out.trim_end_matches('\n').to_owned()
    }

    /// Runs plyfs with standard input.
    #[track_caller]
    pub(crate) fn fed(&self, words: &[&str], input: Vec<u8>) -> std::process::Output {
        let mut command = self.command(words);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
        let out = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        out
    }

    /// A container's document.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str) -> Value {
        let all: Value = serde_json::from_str(&self.ok(&["inspect", name])).unwrap();
        all[0].clone()
    }

    /// The directory of its own layer.
    #[track_caller]
    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        let id = self.inspect(name)["Id"].as_str().unwrap().to_owned();
        let record = self.root().join("image/aufs/layerdb/mounts").join(id).join("mount-id");
        self.root().join("aufs/diff").join(fs::read_to_string(record).unwrap())
    }

    /// Mounts below the store, by their mount points.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.root().display().to_string();
        text.lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|at| at.starts_with(&root))
            .map(str::to_owned)
            .collect()
    }

    /// Command lines of living processes that name the store.
    pub(crate) fn processes(&self) -> Vec<String> {
        let root = self.root().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&root) {
                found.push(line);
            }
        }
        found
    }

    /// The monitors of its containers.
    pub(crate) fn monitors(&self) -> Vec<u32> {
        let root = self.root().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&root) && line.contains("__monitor") {
                found.extend(entry.file_name().to_str().unwrap().parse::<u32>().ok());
            }
        }
        found
    }

    /// Nothing is mounted, no server and no monitor lives, nothing is left where containers run.
    #[track_caller]
    pub(crate) fn is_quiet(&self) {
        assert_eq!(self.mounts(), Vec::<String>::new());
        wait_for("the end of all processes", || self.processes().is_empty());
        for id in self.ids() {
            assert!(!PathBuf::from("/run/plyfs/containers").join(&id).exists(), "{id} is left in /run");
        }
        for entry in fs::read_dir(self.root().join("aufs/mnt")).unwrap().flatten() {
            assert_eq!(fs::read_dir(entry.path()).unwrap().count(), 0, "{:?} is not empty", entry.path());
        }
    }

    /// Nothing in it contradicts anything else.
    #[track_caller]
    pub(crate) fn is_sound(&self) {
        self.plyfs(&["check"]).ok();
    }

    fn ids(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join("containers"));
        entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let ids = self.ids();
        if !ids.is_empty() {
            let mut words = vec!["rm", "-f", "-v"];
            words.extend(ids.iter().map(String::as_str));
            let ran = self.plyfs(&words);
            assert!(ran.code == 0 || std::thread::panicking(), "{}", ran.err);
        }
        if !std::thread::panicking() {
            self.is_quiet();
            self.is_sound();
        }
    }
}

/// Waits for something that happens by itself.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + plyfs_tests::mount::PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
