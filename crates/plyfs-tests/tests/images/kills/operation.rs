//! The commands that are killed: what each needs before, and how its effect is seen.

use std::fs;
use std::time::Duration;

use super::time;
use super::world::{BASE, World};

/// The container of `run --rm`.
pub(super) const RUNNING: &str = "running";
/// The container that is removed.
const GONE: &str = "gone";
/// The container that is committed.
pub(super) const WORK: &str = "work";
/// The image that is committed.
const MADE: &str = "made:1";
/// Writes something into a container: much, a change, a deletion, and into its volume.
pub(super) const WRITE: &str = "dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; echo 1 > /data/x; echo 2 >> /opt/b; rm /etc/group; mkdir /d; \
    for n in $(seq 50); do echo $n > /d/$n; done";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Pull,
    LoadDocker,
    LoadOci,
    Commit,
    Rm,
    Rmi,
    Run,
    Save,
}

use Operation::{Commit, LoadDocker, LoadOci, Pull, Rm, Rmi, Run, Save};

impl Operation {
    pub(super) const ALL: [Operation; 8] = [Pull, Rmi, LoadDocker, Commit, Run, Save, Rm, LoadOci];

    /// How long it takes when nobody kills it.
    pub(super) fn measured(self, world: &World) -> Duration {
        self.prepare(world);
        let words = self.words(world);
        let took = time(|| drop(plyfs_tests::run(&mut world.command(&words)).ok()));
        assert!(self.is_done(world), "{self:?} was not done");
        took
    }

    /// Makes the store such that the operation has something to do.
    pub(super) fn prepare(self, world: &World) {
        match self {
            Pull | LoadDocker | LoadOci => {
                world.moving().iter().for_each(|name| drop(world.ok(&["rmi", name])));
                // A killed `rmi` may have taken the name alone.
                world.nameless().iter().for_each(|id| drop(world.ok(&["rmi", id])));
            }
            Commit => {
                if world.names().iter().any(|name| name == MADE) {
                    world.ok(&["rmi", MADE]);
                }
            }
            Rm => {
                if world.has_container(GONE) {
                    world.ok(&["rm", "-v", GONE]);
                }
                world.ok(&["run", "--name", GONE, BASE, "sh", "-c", WRITE]);
            }
            Rmi | Save => {
                let names = world.moving();
                if names.is_empty() {
                    world.ok(&["load", "-q", "-i", world.path("docker.tar").as_str()]);
                }
                names.iter().skip(1).for_each(|name| drop(world.ok(&["rmi", name])));
                if self == Save && fs::exists(world.path("saved/tar")).unwrap() {
                    fs::remove_file(world.path("saved/tar")).unwrap();
                }
            }
            Run => {}
        }
    }

    /// Its words.
    pub(super) fn words(self, world: &World) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let image = || world.moving().first().cloned().expect("the image is there");
        match self {
            Pull => words(&["pull", "-q", &world.remote()]),
            LoadDocker => words(&["load", "-q", "-i", &world.path("docker.tar")]),
            LoadOci => words(&["load", "-q", "--name", "moving:oci", "-i", &world.path("oci.tar.gz")]),
            Commit => words(&["commit", "-m", "made by a test", WORK, MADE]),
            Rm => words(&["rm", "-v", GONE]),
            Rmi => words(&["rmi", &image()]),
            Run => {
                let script = format!("{WRITE}; sleep 0.1; : {}", world.mark);
                words(&["run", "--rm", "--name", RUNNING, BASE, "sh", "-c", &script])
            }
            Save => words(&["save", "-o", &world.path("saved/tar"), &image()]),
        }
    }

    /// Whether nothing is half done. (What is in the store, `check` looks at.)
    pub(super) fn is_whole(self, world: &World) -> bool {
        self != Save || !fs::exists(world.path("saved/tar")).unwrap() || is_saved(world)
    }

    /// Whether it takes something away.
    pub(super) fn removes(self) -> bool {
        matches!(self, Rm | Rmi)
    }

    /// Whether what it printed says that it is done (the others say nothing, or say it by their exit code).
    pub(super) fn has_reported(self, said: &str) -> bool {
        !matches!(self, Run | Save) && said.ends_with('\n')
    }

    /// Whether its effect is seen.
    pub(super) fn is_done(self, world: &World) -> bool {
        let named = |name: &str| world.names().iter().any(|one| one == name);
        match self {
            Pull => named(&world.remote()),
            LoadDocker => named("moving:docker"),
            LoadOci => named("moving:oci"),
            Commit => named(MADE),
            Rm => !world.has_container(GONE),
            Rmi => world.moving().is_empty(),
            Run => !world.has_container(RUNNING),
            Save => is_saved(world),
        }
    }
}

/// The same image gives the same bytes.
fn is_saved(world: &World) -> bool {
    let image = world.moving().first().cloned().expect("the image is there");
    let again = world.command(&["save", &image]).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    fs::read(world.path("saved/tar")).is_ok_and(|saved| saved == again.stdout)
}
