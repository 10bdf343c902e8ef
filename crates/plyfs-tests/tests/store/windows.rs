//! What lies between two steps: each state that a death at that place leaves, made by hand, and mended at the next opening;
//! and what two processes can do to each other there.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use plyfs_store::containers::{Container, HostConfig, MountPoint};
use plyfs_store::{Access, ChainId, Error, Store};
use plyfs_tests::Scratch;

use super::common::{Never, put};
use super::crash::{emptied, listing};
use super::worker::{self, image_of};

fn open(root: &Path) -> Store {
    Store::open(root, Access::Write, &Never).unwrap()
}

/// The record of the layer at the top of image 2, and that image's stack.
fn top(store: &Store) -> ChainId {
    store.image(&image_of(2)).unwrap().top().unwrap()
}

/// As `rmi --force` of image 2 leaves it while its container is there.
fn without_image(store: &Store) {
    store.remove_image(&image_of(2), true, &Never).unwrap();
    assert!(store.image(&image_of(2)).is_err());
}

fn container(store: &Store) -> String {
    store.find_container("c").unwrap().id
}

/// A layer's record on its way out, by the one who died then.
fn hide(store: &Store, chain: &ChainId) {
    let record = store.layout().chain(chain);
    let hidden = store.layout().chains().join(format!("{}-{}-removing", chain.0.hex(), "5".repeat(64)));
    fs::rename(record, hidden).unwrap();
}

fn forget_container(store: &Store) {
    let id = container(store);
    fs::remove_dir_all(store.layout().container(&id)).unwrap();
}

type Death = fn(&Store);

/// What had happened, and the state that it left.
const DEATHS: [(&str, Death); 13] = [
    ("the intent was written", |store| drop(store.begin("nothing yet").unwrap())),
    ("a layer was made", |store| {
        let intent = store.begin("pull").unwrap();
        std::mem::forget(store.draft_layer(&intent).unwrap());
    }),
    ("a layer was registered", |store| {
        let intent = store.begin("pull").unwrap();
        let draft = store.draft_layer(&intent).unwrap();
        let diff = worker::diff_of(77);
        store.commit_layer(&intent, draft, Some(top(store)), diff, 1, &Never).unwrap();
    }),
    ("of two layers to be removed the upper one was hidden", |store| {
        let (top, id) = (top(store), container(store));
        let claim = store.claim_container(&id).unwrap().unwrap();
        store.remove_container(&id, claim, &Never).unwrap();
        fs::remove_file(store.layout().config(&image_of(2))).unwrap();
        fs::remove_file(store.layout().repositories()).unwrap();
        hide(store, &top);
    }),
    ("rmi had taken the image and not its layers", |store| {
        let intent = store.begin("rmi").unwrap();
        let chain = ChainId::over(None, worker::diff_of(78));
        let draft = store.draft_layer(&intent).unwrap();
        store.commit_layer(&intent, draft, None, worker::diff_of(78), 1, &Never).unwrap();
        assert!(store.layer(&chain).unwrap().is_some());
    }),
    ("a container's layers had their record, it had no documents", forget_container),
    ("the same, and its image was removed by force", |store| {
        without_image(store);
        forget_container(store);
    }),
    ("a container was put away to be removed, its image by force", |store| {
        without_image(store);
        let id = container(store);
        let away = store.layout().own().join(format!("gone-{id}"));
        fs::rename(store.layout().container(&id), away).unwrap();
    }),
    ("a container's layers were removed, their record was not", |store| {
        let layers = store.container_layers(&container(store)).unwrap();
        forget_container(store);
        store.driver().remove(&layers.id, &Never).unwrap();
        store.driver().remove(&layers.init, &Never).unwrap();
    }),
    ("a layer had directories and no file", |store| {
        put(&store.layout().diffs().join("aa/f"), "x");
        put(&store.layout().mounts().join("aa/"), "");
    }),
    ("a layer had lost its file, and was not renamed", |store| {
        let intent = store.begin("pull").unwrap();
        let draft = store.draft_layer(&intent).unwrap();
        fs::remove_file(store.layout().parents_of(draft.id())).unwrap();
        std::mem::forget(draft);
    }),
    ("files were half written", |store| {
        let layout = store.layout();
        let dirs = [layout.own(), layout.image(), layout.configs(), layout.parents(), layout.counts()];
        dirs.iter().for_each(|dir| fs::write(dir.join(".tmp-0123456789abcdef"), "half").unwrap());
        fs::write(layout.container(&container(store)).join(".tmp-00"), "half").unwrap();
    }),
    ("a count was left of a layer that is gone, and a draft of nobody", |store| {
        fs::write(store.layout().counts().join("bb"), "3").unwrap();
        put(&store.layout().chains_tmp().join("write-set-123/diff"), "x");
    }),
];

#[test]
fn each_death_is_mended() {
    for (what, death) in DEATHS {
        let scratch = Scratch::new();
        let root = scratch.path("root");
        open(&root);
        let empty = listing(&root);
        worker::fill(&root);
        death(&open(&root));
        let store = open(&root);
        assert_eq!(store.check().unwrap(), [], "{what}");
        assert!(store.image(&image_of(0)).is_ok(), "{what}: the other image");
        assert_eq!(emptied(&store), empty, "{what}: what is left when all was removed");
    }
}

/// Version, then everything else: a store that was being made when its maker died, or is being made by others, is no
/// store of Docker's.
/// Whoever dies between a container and its nameless volumes: only volumes without a container go, and only nameless ones.
#[test]
fn volumes_go_with_their_container_alone() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    worker::fill(&root);
    let store = open(&root);
    let volume = |name: &str| store.layout().volume(name).join("_data/f");
    let (lonely, used) = ("a".repeat(64), "b".repeat(64));
    let point = MountPoint { name: used.clone(), ..MountPoint::default() };
    let add = |container: &mut Container| drop(container.mount_points.insert("/data".to_owned(), point));
    store.update_container(&container(&store), add).unwrap();
    let intent = store.begin("test").unwrap();
    for name in [&lonely, &used, "data", "../kept"] {
        intent.volume(name).unwrap();
        put(&volume(name), "x");
    }
    drop(intent);
    open(&root);
    let left = [&lonely, &used, "data", "../kept"].map(|name| volume(name).exists());
    assert_eq!(left, [false, true, true, true]);
}

#[test]
fn a_store_that_is_being_made() {
    for made in [&[][..], &["plyfs/"], &["plyfs/lock"], &["plyfs/lock", "plyfs/.tmp-00"]] {
        let scratch = Scratch::new();
        scratch.dir("root");
        made.iter().for_each(|name| put(&scratch.path("root").join(name), ""));
        assert_eq!(open(&scratch.path("root")).check().unwrap(), [], "{made:?}");
    }
    for _ in 0..20 {
        let scratch = Scratch::new();
        let root = scratch.path("a/b/root");
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&root))).collect();
            all.into_iter().for_each(|one| drop(one.join().unwrap()));
        });
    }
}

#[test]
fn a_newer_format_is_refused() {
    let scratch = Scratch::new();
    open(&scratch.path("root"));
    scratch.file("root/plyfs/version", "2\n");
    for access in [Access::Read, Access::Write, Access::Adopt] {
        let error = Store::open(&scratch.path("root"), access, &Never).unwrap_err();
        assert!(matches!(error, Error::Version { known: 1, .. }), "{error}");
    }
}

fn new_container(store: &Store, id: &str, name: &str) -> Result<(), Error> {
    let image = store.image(&image_of(2))?;
    let container = Container {
        id: id.to_owned(),
        name: format!("/{name}"),
        image: image.id.to_string(),
        ..Container::default()
    };
    store.create_container(&container, &HostConfig::default(), image.top(), &Never, &mut |_| Ok(())).map(drop)
}

#[test]
fn a_taken_id_or_name_takes_nothing_from_its_owner() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    worker::fill(&root);
    let store = open(&root);
    let before = listing(&root);
    let owner = container(&store);
    for (id, name) in [(owner.as_str(), "other"), ("f00", "c")] {
        let error = new_container(&store, id, name).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        assert_eq!(listing(&root), before, "{id} {name}");
    }
}

/// Either the container is made first and keeps its image, or the image is gone and there is no container of it.
#[test]
fn rmi_while_a_container_is_created() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let mut seen = [0, 0];
    for round in 0..40 {
        worker::fill(&root);
        let store = open(&root);
        for container in store.containers().unwrap() {
            let claim = store.claim_container(&container.id).unwrap().unwrap();
            store.remove_container(&container.id, claim, &Never).unwrap();
        }
        let (made, removed) = std::thread::scope(|scope| {
            let made = scope.spawn(|| new_container(&store, &format!("{round:064x}"), &format!("r{round}")));
            let removed = scope.spawn(|| {
                // Not always at the same distance from the other.
                std::thread::sleep(std::time::Duration::from_micros(round * 600));
                store.remove_image(&image_of(2), false, &Never)
            });
            (made.join().unwrap(), removed.join().unwrap())
        });
        match (made, removed) {
            (Ok(()), Err(Error::InUse { .. })) => seen[0] += 1,
            (Err(Error::NotFound { .. }), Ok(_)) => seen[1] += 1,
            other => panic!("round {round}: {other:?}"),
        }
        assert_eq!(store.check().unwrap(), [], "round {round}");
        assert_eq!(store.image(&image_of(2)).is_ok(), store.containers().unwrap().len() == 1);
    }
    eprintln!("made first: {}, removed first: {}", seen[0], seen[1]);
}

/// Also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is being pulled has no name and no container yet.
#[test]
fn prune_while_images_are_pulled() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let store = open(&root);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                store.prune(true, &Never).unwrap();
            }
        });
        let _stop = Stop(&stop);
        (0..15).for_each(|_| worker::fill_images(&root));
    });
    assert_eq!(store.check().unwrap(), []);
}

/// Who only asks whether a container runs must not look like somebody who runs it.
#[test]
fn asking_is_not_running() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    worker::fill(&root);
    let store = open(&root);
    let id = container(&store);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    store.is_run(&id).unwrap();
                    std::thread::yield_now();
                }
            });
        }
        let _stop = Stop(&stop);
        for _ in 0..50 {
            let claim = store.claim_container(&id).unwrap().expect("nobody runs it");
            assert!(store.is_run(&id).unwrap());
            drop(claim);
        }
        // A program that another test is just starting has our claim too, until it really starts.
        plyfs_tests::mount::wait_until("the claim is free", || !store.is_run(&id).unwrap());
        (0..5000).for_each(|_| assert!(!store.is_run(&id).unwrap()));
    });
    assert!(!store.is_run(&id).unwrap());
}
