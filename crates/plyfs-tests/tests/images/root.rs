//! A store of its own for each test, asked through the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use plyfs_tests::{Mount, Ran, Scratch, plyfs, run};
use serde_json::Value;

pub(crate) struct Root {
    dir: PathBuf,
}

impl Root {
    pub(crate) fn new(scratch: &Scratch) -> Root {
        Root { dir: scratch.path("root") }
    }

    pub(crate) fn at(dir: &Path) -> Root {
        Root { dir: dir.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `plyfs --root DIR WORDS...`
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = plyfs();
        command
            .arg("--root")
            .arg(&self.dir)
            .args(words)
            .env("DOCKER_CONFIG", "/nonexistent")
            .env("REGISTRY_AUTH_FILE", "/nonexistent");
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words))
    }

    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        self.run(words).ok().out
    }

    #[track_caller]
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }

    /// `REPOSITORY:TAG` of all images, sorted.
    #[track_caller]
    pub(crate) fn names(&self) -> Vec<String> {
        let list = self.json(&["images", "--json"]);
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let name = |row: &Value| format!("{}:{}", word(&row["repository"]), word(&row["tag"]));
        let mut names: Vec<String> = list["images"].as_array().unwrap().iter().map(name).collect();
        names.sort();
        names
    }

    #[track_caller]
    pub(crate) fn id(&self, image: &str) -> String {
        self.json(&["history", "--json", image])["image"].as_str().unwrap().to_owned()
    }

    /// The diff IDs of an image, bottom first.
    #[track_caller]
    pub(crate) fn diff_ids(&self, image: &str) -> Vec<String> {
        let hex = self.id(image).replace("sha256:", "");
        let config = fs::read(self.path("image/aufs/imagedb/content/sha256").join(hex)).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// The directories of all layers, top first; there must be one image only.
    #[track_caller]
    fn stack(&self) -> Vec<PathBuf> {
        let layers = self.path("aufs/layers");
        let mut best = Vec::new();
        for entry in fs::read_dir(&layers).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let text = fs::read_to_string(layers.join(&name)).unwrap();
            let stack: Vec<String> = std::iter::once(name).chain(text.lines().map(str::to_owned)).collect();
            if stack.len() > best.len() {
                best = stack;
            }
        }
        best.iter().map(|id| self.path("aufs/diff").join(id)).collect()
    }

    /// Mounts the layers of the only image, read-only.
    #[track_caller]
    pub(crate) fn mount(&self, scratch: &Scratch) -> Mount {
        let branches: Vec<String> =
            self.stack().iter().map(|dir| format!("{}=ro+wh", dir.display())).collect();
        Mount::new(&format!("br:{}", branches.join(":")), scratch.dir("mnt"))
    }

    /// Nothing but an empty store.
    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.names(), Vec::<String>::new());
        for dir in [
            "aufs/diff",
            "aufs/layers",
            "aufs/mnt",
            "image/aufs/layerdb/sha256",
            "image/aufs/layerdb/tmp",
            "plyfs/intents",
        ] {
            // What a killed writer left under a temporary name is swept when it is an hour old.
            let mut names = entries(&self.path(dir));
            names.retain(|name| !name.starts_with(".tmp-"));
            assert_eq!(names, Vec::<String>::new(), "{dir}");
        }
    }
}

pub(crate) fn entries(dir: &Path) -> Vec<String> {
    if dir.is_dir() { plyfs_tests::tree::names(dir) } else { Vec::new() }
}
