//! Processes that work on a store, so that they can be many, and be killed: this test program again, as `worker`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use plyfs_store::containers::{Container, HostConfig};
use plyfs_store::{Access, ChainId, DiffId, Digest, Error, ImageId, Store};
use plyfs_tests::tree::Random;

use super::common::{Never, Real, id};

const WORK: &str = "PLYFS_STORE_WORKER";
const TOLD: &str = "PLYFS_STORE_WORKER_TOLD";

/// Starts a worker; it stops in order when its standard input is closed.
#[track_caller]
pub(crate) fn start(root: &Path, what: &str, who: u64, seed: u64) -> Child {
    start_telling(root, root, what, who, seed)
}

/// The same, with its log beside `told`.
#[track_caller]
pub(crate) fn start_telling(root: &Path, told: &Path, what: &str, who: u64, seed: u64) -> Child {
    command(root, told, what, who, seed).spawn().expect("starting a worker")
}

fn command(root: &Path, told: &Path, what: &str, who: u64, seed: u64) -> Command {
    let exe = std::env::current_exe().expect("the path of this test");
    let mut command = Command::new(exe);
    command.args(["--exact", "worker::worker", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(WORK, format!("{what} {who} {seed} {}", root.display())).env(TOLD, told);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

/// Runs a worker to its end as user and group 1234.
#[track_caller]
pub(crate) fn run_as_user(root: &Path, what: &str) -> std::process::Output {
    use std::os::unix::process::CommandExt;
    // A copy where the user can reach it.
    let exe = root.with_file_name("worker");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let like = command(root, root, what, 0, 1);
    let mut own = Command::new(exe);
    own.args(like.get_args()).current_dir("/").uid(1234).gid(1234);
    own.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    own.output().expect("starting a worker")
}

/// Where a worker writes what it has done: beside the store, not in it.
pub(crate) fn log_of(told: &Path, who: u64) -> PathBuf {
    told.with_extension(format!("log{who}"))
}

#[test]
#[ignore = "no test: a process for other tests"]
fn worker() {
    let Ok(work) = std::env::var(WORK) else { return };
    let mut words = work.splitn(4, ' ');
    let (what, who, seed) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let root = PathBuf::from(words.next().unwrap());
    let who = who.parse().unwrap();
    match what {
        "access" => access(&root, who),
        "share" => share(&root, who),
        "stubborn" => stubborn(&root),
        "storm" => Storm::new(&root, who, seed.parse().unwrap()).run(),
        what => panic!("no work {what:?}"),
    }
}

/// 64 ids by eight threads: made, got, put, removed.
fn access(root: &Path, who: u64) {
    let store = Store::open(root, Access::Write, &Real).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let driver = store.driver();
            scope.spawn(move || {
                for at in 0..8 {
                    let own = id(format!("layer-{who}-{thread}-{at}"));
                    driver.create(&own, Some(&id("base"))).unwrap();
                    let got = driver.get(&own, &Real).unwrap();
                    assert!(got.path().join("below").exists());
                    fs::write(got.path().join("own"), own.as_str()).unwrap();
                    got.put().unwrap();
                    assert_eq!(fs::read_to_string(driver.diff_dir(&own).join("own")).unwrap(), own.as_str());
                    driver.remove(&own, &Real).unwrap();
                }
            });
        }
    });
}

/// Four threads that get and put the same layer.
fn share(root: &Path, who: u64) {
    let store = Store::open(root, Access::Write, &Real).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let driver = store.driver();
            scope.spawn(move || {
                for at in 0..5 {
                    let got = driver.get(&id("2"), &Real).unwrap();
                    assert!(got.path().join("below").exists(), "it is mounted while we have it");
                    fs::write(got.path().join(format!("{who}-{thread}-{at}")), "x").unwrap();
                    got.put().unwrap();
                }
            });
        }
    });
}

/// As an ordinary user: what has no permissions for its owner can be removed all the same.
fn stubborn(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let store = Store::open(root, Access::Write, &Never).unwrap();
    let driver = store.driver();
    driver.create(&id("1"), None).unwrap();
    let dir = driver.diff_dir(&id("1"));
    let mut places = vec![dir.join("a"), dir.join("a/b"), dir.join("a/b/c"), dir.join("d")];
    for place in &places {
        fs::create_dir(place).unwrap();
        fs::write(place.join("f"), "x").unwrap();
    }
    places.reverse();
    places.push(dir);
    for (place, mode) in places.iter().zip([0, 0o555, 0o111, 0o444, 0o555]) {
        fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
    }
    assert!(fs::read_dir(&places[0]).is_err(), "the modes count for us");
    driver.remove(&id("1"), &Never).unwrap();
    assert_eq!(fs::read_dir(store.layout().diffs()).unwrap().count(), 0);
}

/// The layers of image `number`: the first are shared by many images.
pub(crate) fn layers_of(number: u64) -> Vec<u64> {
    let all = [number % 2, 10 + number % 5, 100 + number % 30, 1000 + number];
    all[..2 + (number % 3) as usize].to_vec()
}

pub(crate) fn diff_of(layer: u64) -> DiffId {
    DiffId(Digest::of(format!("layer {layer}").as_bytes()))
}

/// The files of a layer, which tell whether it is whole.
pub(crate) fn files_of(layer: u64) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..3 + layer % 4).map(move |at| {
        let length = (layer * 7919 + at * 104_729) % 60_000;
        let content = (0..length).map(|byte| (byte * (layer + 3) + at) as u8).collect();
        (format!("d{}/f{at}", at % 2), content)
    })
}

pub(crate) fn config_of(number: u64) -> Vec<u8> {
    let diffs: Vec<String> = layers_of(number).into_iter().map(|layer| diff_of(layer).to_string()).collect();
    let config = serde_json::json!({ "rootfs": { "type": "layers", "diff_ids": diffs }, "number": number });
    serde_json::to_vec(&config).unwrap()
}

pub(crate) fn image_of(number: u64) -> ImageId {
    ImageId(Digest::of(&config_of(number)))
}

/// Images that only one worker makes and removes, so that its log says what must be there; and shared ones.
const OWN: u64 = 12;
pub(crate) const SHARED: u64 = 8;

/// Everything at random: images made and removed, named and renamed, containers made and removed, prune.
struct Storm {
    root: PathBuf,
    who: u64,
    random: Random,
    log: fs::File,
    containers: Vec<String>,
}

/// A little of everything, made in order: two images that share a layer, a container called `c`.
pub(crate) fn fill(root: &Path) {
    fill_images(root);
    let store = Store::open(root, Access::Write, &Never).unwrap();
    Storm::new(root, 0, 1).create(&store, 2, "/c").unwrap();
}

/// The images alone.
pub(crate) fn fill_images(root: &Path) {
    let store = Store::open(root, Access::Write, &Never).unwrap();
    let mut storm = Storm::new(root, 0, 1);
    for number in [0, 2] {
        while !storm.pull(&store, number).unwrap() {}
    }
}

impl Storm {
    fn new(root: &Path, who: u64, seed: u64) -> Storm {
        let told = std::env::var_os(TOLD).map_or_else(|| root.to_owned(), PathBuf::from);
        let log = OpenOptions::new().create(true).append(true).open(log_of(&told, who)).unwrap();
        let random = Random::new(seed.wrapping_mul(31).wrapping_add(who));
        Storm { root: root.to_owned(), who, random, log, containers: Vec::new() }
    }

    fn run(&mut self) {
        let (told, stop) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            drop(std::io::stdin().read_line(&mut String::new()));
            drop(told);
        });
        while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            // Each as a command does it: opened (and mended), one thing, closed.
            let store = Store::open(&self.root, Access::Write, &Never).unwrap();
            self.one(&store).unwrap_or_else(|error| panic!("worker {}: {error} ({error:?})", self.who));
        }
    }

    fn one(&mut self, store: &Store) -> Result<(), Error> {
        let own = 10_000 * (self.who + 1) + self.random.below(OWN);
        let shared = self.random.below(SHARED);
        match self.random.below(20) {
            0..=5 => self.put(store, own),
            6..=8 => self.remove(store, own),
            9 | 10 => expected(self.pull(store, shared).map(drop)),
            11 | 12 => {
                let force = self.random.below(2) == 0;
                expected(store.remove_image(&image_of(shared), force, &Never).map(drop))
            }
            13 => {
                let name = format!("moving:{}", self.random.below(4));
                expected(store.tag("moving", &name, &image_of(shared)).map(drop))
            }
            14 => expected(store.untag(&format!("moving:{}", self.random.below(4))).map(drop)),
            15 | 16 => {
                let name = format!("/c{}", self.random.below(1000));
                expected(self.create(store, shared, &name))
            }
            17 | 18 => expected(self.remove_container(store)),
            _ => {
                self.containers.clear();
                expected(store.prune(false, &Never).map(drop))
            }
        }
    }

    fn tell(&mut self, word: char, number: u64) {
        // One write, so that a kill leaves a whole line or none.
        self.log.write_all(format!("{word} {number}\n").as_bytes()).unwrap();
    }

    fn put(&mut self, store: &Store, number: u64) -> Result<(), Error> {
        if self.pull(store, number)? {
            self.tell('P', number);
        }
        Ok(())
    }

    fn remove(&mut self, store: &Store, number: u64) -> Result<(), Error> {
        self.tell('R', number);
        expected(store.remove_image(&image_of(number), false, &Never).map(drop))
    }

    /// As a pull does it; the layers are filled at the same time. `false`: it was broken off.
    fn pull(&mut self, store: &Store, number: u64) -> Result<bool, Error> {
        let layers = layers_of(number);
        let diffs: Vec<DiffId> = layers.iter().map(|layer| diff_of(*layer)).collect();
        let chains = ChainId::each(&diffs);
        let intent = store.begin("pull")?;
        let broken_off = self.random.below(12) == 0;
        let fill = |chain: &ChainId, layer: u64| {
            if store.use_layer(&intent, chain)?.is_some() {
                return Ok(None);
            }
            let draft = store.draft_layer(&intent)?;
            for (name, content) in files_of(layer) {
                let path = draft.dir().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            draft.tar_split()?.write_all(b"tar-split").unwrap();
            Ok::<_, Error>(Some(draft))
        };
        let drafts: Vec<_> = std::thread::scope(|scope| {
            let fill = &fill;
            let start = |(chain, layer)| scope.spawn(move || fill(chain, layer));
            let all: Vec<_> = chains.iter().zip(layers.iter().copied()).map(start).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let mut parent = None;
        for ((draft, chain), diff) in drafts.into_iter().zip(&chains).zip(&diffs) {
            if let Some(draft) = draft? {
                store.commit_layer(&intent, draft, parent, *diff, 1, &Never)?;
            }
            parent = Some(*chain);
            if broken_off {
                return intent.undo(store, &Never).map(|()| false);
            }
        }
        let image = store.put_image(config_of(number))?;
        store.tag(&format!("r{number}"), &format!("r{number}:t"), &image.id)?;
        intent.done().map(|()| true)
    }

    fn create(&mut self, store: &Store, number: u64, name: &str) -> Result<(), Error> {
        let image = store.image(&image_of(number))?;
        let container = Container {
            id: store.new_container_id()?,
            name: name.to_owned(),
            image: image.id.to_string(),
            ..Container::default()
        };
        store.create_container(&container, &HostConfig::default(), image.top(), &Never, &mut |init| {
            fs::write(store.driver().diff_dir(init).join("hosts"), "x").unwrap();
            Ok(())
        })?;
        store.update_container(&container.id, |container| container.state.exit_code = 3)?;
        self.containers.push(container.id);
        Ok(())
    }

    fn remove_container(&mut self, store: &Store) -> Result<(), Error> {
        let Some(id) = self.containers.pop() else { return Ok(()) };
        let Some(claim) = store.claim_container(&id)? else { return Ok(()) };
        store.remove_container(&id, claim, &Never)
    }
}

/// What others may do to us: take what we wanted, have what we give, use what we remove. Nothing else.
fn expected(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::NotFound { .. } | Error::InUse { .. } | Error::Exists { kind: "container", .. }) => Ok(()),
        done => done,
    }
}
