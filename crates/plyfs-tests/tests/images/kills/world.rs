//! The store that lives through all rounds, with an image and a container that are never touched; its registry and archives.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use plyfs_tests::{Scratch, Snapshot, Want, images, require_programs, require_root, run, sh};
use rustix::process::{Pid, Signal, kill_process};

use super::operation::{WORK, WRITE};
use crate::registry::Registry;
use crate::root::Root;

/// Containers are made of it.
pub(super) const BASE: &str = "base:1";
/// The image that is never touched.
pub(super) const KEPT: &str = "kept:1";
/// The container that is never touched.
const STILL: &str = "still";
/// In the environment of all that the commands start.
const VARIABLE: &str = "PLYFS_TEST_KILLS";

/// Three images on the same two layers below: `base`, `kept`, and `moving`, which comes and goes. The first layer is there.
const IMAGES: &str = r#"
mkdir saved two kept many big top
mkdir -p two/opt two/data; head -c 300000 /dev/urandom > two/opt/b
mkdir kept/kept; for n in $(seq 40); do head -c $((n * 1000)) /dev/urandom > kept/kept/$n; done
mkdir many/many; for n in $(seq 300); do head -c $((n * 20)) /dev/urandom > many/many/$n; done; ln many/many/1 many/hard
mkdir big/usr; head -c 4000000 /dev/urandom > big/usr/big; truncate -s 5M big/usr/zeros
mkdir -p top/many top/usr; touch top/many/.wh.7 top/usr/.wh.zeros; echo top > top/usr/big
add() { image=$1; shift; for layer in "$@"; do
    tar -C $layer --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --sort=name -cf $layer.tar .
    umoci raw add-layer --image lay:$image $layer.tar; done; }
umoci init --layout lay; umoci new --image lay:base; add base one two; umoci config --image lay:base --config.volume /data
umoci tag --image lay:base kept; add kept kept
umoci tag --image lay:base moving; add moving many big top
skopeo copy -q oci:lay:base docker-archive:base.tar:base:1
skopeo copy -q oci:lay:moving docker-archive:docker.tar:moving:docker
skopeo copy -q oci:lay:moving oci-archive:oci.tar; gzip -1 oci.tar
"#;

pub(super) struct World {
    pub(super) scratch: Scratch,
    /// Marks the processes of this store.
    pub(super) mark: String,
    registry: Registry,
    root: Root,
    /// What a new store consists of.
    new: Snapshot,
    untouched: Untouched,
}

/// What was never touched, as it was.
#[derive(Default)]
struct Untouched {
    image: String,
    export: Vec<u8>,
    layers: Vec<(PathBuf, Snapshot)>,
}

#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) state: String,
}

impl World {
    pub(super) fn new() -> Option<World> {
        let programs = ["docker-registry", "skopeo", "umoci", "tar", "gzip", "crun", "busybox"];
        if !require_root("running containers") || !require_programs(&programs) {
            return None;
        }
        let scratch = Scratch::new();
        images::busybox(&scratch.dir("one"));
        sh(format!("cd {}; {IMAGES}", scratch.root().display())).ok();
        let registry = Registry::new(&scratch);
        for name in ["kept", "moving"] {
            registry.push(&format!("oci:{}/lay:{name}", scratch.root().display()), &format!("{name}:1"), "");
        }
        let mark = format!("{}!", scratch.root().file_name().unwrap().display());
        let root = Root::new(&scratch);
        root.ok(&["prune", "-f"]);
        let new = Snapshot::of(root.path(""), Want::PLAIN);
        let mut world = World { scratch, mark, registry, root, new, untouched: Untouched::default() };
        world.fill();
        Some(world)
    }

    fn fill(&mut self) {
        let kept = format!("{}/kept:1", self.registry.host());
        self.ok(&["pull", "-q", &kept]);
        self.ok(&["tag", &kept, KEPT]);
        self.ok(&["load", "-q", "-i", self.path("base.tar").as_str()]);
        self.ok(&["run", "--name", WORK, BASE, "sh", "-c", WRITE]);
        let still = format!("{WRITE}; rm /kept/7; chmod 600 /kept/8");
        self.ok(&["run", "--name", STILL, KEPT, "sh", "-c", &still]);
        let layers = fs::read_dir(self.root.path("aufs/diff")).unwrap().map(|entry| entry.unwrap().path());
        self.untouched = Untouched {
            image: self.root.id(KEPT),
            export: self.exported(),
            layers: layers.map(|dir| (dir.clone(), Snapshot::of(&dir, Want::ALL))).collect(),
        };
    }

    /// Fails unless what was never touched is as it was.
    pub(super) fn is_untouched(&self, what: &str) {
        assert_eq!(self.root.id(KEPT), self.untouched.image, "{what}");
        assert!(self.exported() == self.untouched.export, "{what}: the container's files are others");
        for (dir, before) in &self.untouched.layers {
            before.same(&Snapshot::of(dir, Want::ALL), &format!("{what}: {}", dir.display()));
        }
    }

    fn exported(&self) -> Vec<u8> {
        let file = self.scratch.path("exported");
        self.ok(&["export", "-o", file.to_str().unwrap(), STILL]);
        fs::read(file).unwrap()
    }

    /// A file beside the store.
    pub(super) fn path(&self, name: &str) -> String {
        self.scratch.path(name).to_str().unwrap().to_owned()
    }

    /// The image that comes and goes, in the registry.
    pub(super) fn remote(&self) -> String {
        format!("{}/moving:1", self.registry.host())
    }

    /// The names of the image that comes and goes.
    pub(super) fn moving(&self) -> Vec<String> {
        let mut names = self.names();
        names.retain(|name| name.contains("moving"));
        names
    }

    /// The ids of images without a name.
    pub(super) fn nameless(&self) -> Vec<String> {
        let list = self.root.json(&["images", "--json"]);
        let all = list["images"].as_array().unwrap().iter();
        all.filter(|row| row["repository"].is_null())
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.root.names()
    }

    pub(super) fn has_container(&self, name: &str) -> bool {
        self.containers().iter().any(|one| one.name == name)
    }

    /// All containers, after those that have lost their monitor were put in order.
    pub(super) fn containers(&self) -> Vec<Listed> {
        let list: serde_json::Value = serde_json::from_str(&self.ok(&["ps", "-a", "--json"])).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let listed =
            |row: &serde_json::Value| Listed { name: text(&row["name"]), state: text(&row["state"]) };
        list["containers"].as_array().unwrap().iter().map(listed).collect()
    }

    /// A command with the mark.
    pub(super) fn command<S: AsRef<str>>(&self, words: &[S]) -> Command {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let mut command = self.root.command(&words);
        command.env(VARIABLE, &self.mark).env_remove("PLYFS_RUNTIME");
        command
    }

    #[track_caller]
    pub(super) fn ok(&self, words: &[&str]) -> String {
        run(&mut self.command(words)).ok().out
    }

    /// `check` finds nothing.
    #[track_caller]
    pub(super) fn check(&self, words: &[&str], what: &str) {
        let ran = run(&mut self.command(words));
        assert_eq!(ran.code, 0, "{what}: {}\n{}{}", ran.line, ran.out, ran.err);
    }

    /// What is mounted below the store.
    pub(super) fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.path("root");
        let points = text.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with(&root)).map(str::to_owned).collect()
    }

    /// The living processes that commands have started, and those in containers: pid and command line.
    fn marked(&self) -> Vec<(i32, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may be gone by now; of a dead one nothing is told.
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let (line, environment) = (read("cmdline"), read("environ"));
            let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&self.mark);
            if has(&line) || has(&environment) {
                found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        found
    }

    pub(super) fn processes(&self) -> Vec<String> {
        self.marked().into_iter().map(|(_, line)| line).collect()
    }

    /// Kills all that commands have started, but not what runs in containers: who finds them is to end them.
    pub(super) fn kill_all(&self) {
        loop {
            let all = self.marked();
            let ours: Vec<_> = all.iter().filter(|(_, line)| !line.starts_with("sh -c")).collect();
            if ours.is_empty() {
                return;
            }
            for (pid, _) in ours {
                // ESRCH: it has just ended.
                kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL).ok();
            }
        }
    }

    /// Removes everything; then nothing is left but what a new store has.
    pub(super) fn ends_empty(&self) {
        for one in self.containers() {
            self.ok(&["rm", "-v", &one.name]);
        }
        // By id: a commit that was done again has taken the name from the first one's image.
        let ids = self.ok(&["images", "-q", "--no-trunc"]);
        for id in ids.lines().collect::<BTreeSet<_>>() {
            self.ok(&["rmi", "-f", id]);
        }
        // Partial downloads.
        self.ok(&["prune", "-f"]);
        self.check(&["check"], "in the end");
        let mut left = Snapshot::of(self.root.path(""), Want::PLAIN);
        for own in ["image/aufs/repositories.json", "volumes"] {
            left.0.remove(&PathBuf::from(own));
        }
        // What blobs unpack to is remembered, as Docker does: a short file for each.
        let is_memory = |path: &Path| {
            path.starts_with("image/aufs/distribution") && !path.to_string_lossy().contains(".tmp-")
        };
        left.0.retain(|path, _| !is_memory(path));
        self.new.same(&left, "a new store, and the one of which everything was removed");
        assert_eq!(self.processes(), Vec::<String>::new());
        assert_eq!(self.mounts(), Vec::<String>::new());
        let run = sh(format!("grep -rlsF {} /run/plyfs || true", self.path("root")));
        assert_eq!(run.ok().out, "", "left in the runtime directory");
        let saved = sh(format!("ls -A {}", self.path("saved"))).ok().out;
        assert_eq!(saved, "tar\n", "beside what was saved");
    }
}
