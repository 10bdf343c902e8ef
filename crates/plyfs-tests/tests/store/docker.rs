//! A data root that Docker 20.10 wrote (`fixtures/docker-aufs.sh`, which says how): seen in place, changed only when told to.

use std::fs;
use std::path::{Path, PathBuf};

use plyfs_store::containers::{Container, HostConfig};
use plyfs_store::{Access, ChangeKind, Error, Store};
use plyfs_tests::{Scratch, Snapshot, Want, plyfs, require_root, run};

use super::common::{Never, Real};

pub(crate) fn docker_root(scratch: &Scratch) -> PathBuf {
    let root = scratch.dir("docker");
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/docker-aufs.tar.gz");
    let mut tar = std::process::Command::new("tar");
    run(tar.args(["--numeric-owner", "-xpzf"]).arg(archive).arg("-C").arg(&root)).ok();
    root
}

fn open(root: &Path, access: Access) -> Store {
    Store::open(root, access, &Real).unwrap()
}

fn image(store: &Store, tag: &str) -> plyfs_store::ImageId {
    store.tags().unwrap().find(tag).unwrap_or_else(|| panic!("{tag}"))
}

/// Images, tags and containers as `docker images` and `docker ps -a` showed them.
fn appears(store: &Store) {
    let tags: Vec<String> = store.tags().unwrap().all().map(|tag| tag.reference).collect();
    assert_eq!(tags, ["app:latest", "app:v1", "app:v2", "tiny:1"]);
    let layers = |tag: &str| store.image(&image(store, tag)).unwrap().diffs.len();
    assert_eq!((layers("tiny:1"), layers("app:v1"), layers("app:v2")), (1, 3, 4));
    let mut names: Vec<_> =
        store.containers().unwrap().iter().map(|one| one.plain_name().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["never", "talker", "writer"]);
    let talker = store.find_container("talker").unwrap();
    assert_eq!((talker.state.exit_code, talker.state.running), (3, false));
    assert_eq!(talker.config.labels["purpose"], "test");
    assert_eq!(talker.image, image(store, "app:v2").to_string());
    let writer = store.find_container("writer").unwrap();
    assert!(writer.mount_points.contains_key("/mnt"));
    let info = store.info().unwrap();
    assert_eq!((info.containers, info.running, info.stopped), (3, 0, 3));
    // Those that have no name are steps of a build, as Docker counts them.
    assert_eq!(info.images, 7);
    assert_eq!(info.driver.dirs, 10);
}

/// `(kind, path)` of what a container changed.
fn changed(store: &Store, name: &str) -> Vec<(ChangeKind, String)> {
    let layers = store.container_layers(&store.find_container(name).unwrap().id).unwrap();
    let changes = store.driver().changes(&layers.id, Some(&layers.init)).unwrap();
    changes.into_iter().map(|change| (change.kind, change.path.display().to_string())).collect()
}

#[test]
fn to_read_it_changes_nothing() {
    if !require_root("files of root") {
        return;
    }
    let scratch = Scratch::new();
    let root = docker_root(&scratch);
    let before = Snapshot::of(&root, Want::ALL);
    let store = open(&root, Access::Read);
    assert!(store.is_dockers());
    appears(&store);
    assert_eq!(store.check().unwrap(), []);
    let written = [(ChangeKind::Modify, "/etc".to_owned()), (ChangeKind::Add, "/etc/written".to_owned())];
    assert_eq!(changed(&store, "writer")[..2], written);
    assert!(changed(&store, "never").is_empty());
    let said = |command: &str| run(plyfs().arg("--root").arg(&root).arg(command)).ok().out;
    let info = said("info");
    assert!(info.contains("Containers: 3\n") && info.contains("Storage Driver: aufs\n"), "{info}");
    assert!(said("check").ends_with(": 10 layers, 7 images, 3 containers: no problem\n"));
    let error = store.untag("app:v1").unwrap_err();
    assert!(matches!(error, Error::ReadOnly(_)), "{error}");
    before.same(&Snapshot::of(&root, Want::ALL), "Docker's root");
}

#[test]
fn to_write_it_is_refused() {
    if !require_root("files of root") {
        return;
    }
    let scratch = Scratch::new();
    let root = docker_root(&scratch);
    let before = Snapshot::of(&root, Want::ALL);
    let error = Store::open(&root, Access::Write, &Never).unwrap_err();
    assert!(error.to_string().contains("it was not made by plyfs (Docker's data root?)"), "{error}");
    assert!(error.to_string().contains("--writable"), "{error}");
    let ran = run(plyfs().arg("--root").arg(&root).args(["prune", "--force"]));
    assert!(ran.code != 0 && ran.err.contains("--writable"), "{ran:?}");
    before.same(&Snapshot::of(&root, Want::ALL), "Docker's root");
}

#[test]
fn adopted_it_is_a_store_like_any_other() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let root = docker_root(&scratch);
    let store = open(&root, Access::Adopt);
    assert!(!store.is_dockers());
    appears(&store);
    // Adopting is done once.
    let store = open(store.layout().root(), Access::Write);
    assert_eq!(store.check().unwrap(), []);
    let own = new_container(&store);
    let got = store.driver().get(&own, &Real).unwrap();
    let seen = |name: &str| fs::read_to_string(got.path().join(name)).ok();
    assert_eq!(seen("etc/gone"), None);
    assert_eq!(seen("etc/opaque/old"), None);
    assert_eq!(seen("etc/opaque/new").as_deref(), Some("new"));
    assert_eq!(seen("srv/one").as_deref(), Some("changed"));
    assert_eq!(seen("etc/motd.link").as_deref(), Some("base\n"));
    fs::remove_file(got.path().join("srv/two")).unwrap();
    got.put().unwrap();
    assert!(store.driver().diff_dir(&own).join("srv/.wh.two").exists());
    let error = store.remove_image(&image(&store, "app:v2"), false, &Real).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    for container in store.containers().unwrap() {
        let claim = store.claim_container(&container.id).unwrap().expect("nobody runs it");
        store.remove_container(&container.id, claim, &Real).unwrap();
    }
    let removed = store.remove_image(&image(&store, "app:v2"), false, &Real).unwrap();
    assert_eq!(removed.untagged, ["app:v2"]);
    assert_eq!(removed.freed.layers.len(), 1);
    assert_eq!(store.check().unwrap(), []);
    store.prune(true, &Real).unwrap();
    assert_eq!(store.check().unwrap(), []);
    assert_eq!(fs::read_dir(root.join("aufs/diff")).unwrap().count(), 0);
}

fn new_container(store: &Store) -> plyfs_store::LayerId {
    let image = store.image(&image(store, "app:v2")).unwrap();
    let container = Container {
        id: store.new_container_id().unwrap(),
        name: "/mine".to_owned(),
        image: image.id.to_string(),
        ..Container::default()
    };
    let host = HostConfig::default();
    store.create_container(&container, &host, image.top(), &Real, &mut |_| Ok(())).unwrap().id
}

#[test]
fn what_plyfs_does_not_know_is_kept() {
    if !require_root("files of root") {
        return;
    }
    let scratch = Scratch::new();
    let store = open(&docker_root(&scratch), Access::Adopt);
    let talker = store.find_container("talker").unwrap();
    let config = store.layout().container(&talker.id).join("config.v2.json");
    let read = || serde_json::from_slice::<serde_json::Value>(&fs::read(&config).unwrap()).unwrap();
    let before = read();
    store.update_container(&talker.id, |container| container.state.exit_code = 7).unwrap();
    let mut after = read();
    assert_eq!(after["State"]["ExitCode"], 7);
    after["State"]["ExitCode"] = 3.into();
    let lost = differences("", &before, &after);
    assert!(lost.is_empty(), "{lost:#?}");
}

/// What differs between Docker's document and ours; what is empty may be written in more than one way.
fn differences(at: &str, before: &serde_json::Value, after: &serde_json::Value) -> Vec<String> {
    use serde_json::Value;
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut lines = Vec::new();
            for (key, value) in old {
                let place = format!("{at}/{key}");
                lines.extend(differences(&place, value, new.get(key).unwrap_or(&Value::Null)));
            }
            lines
        }
        (old, new) if old == new || (empty(old) && empty(new)) => Vec::new(),
        (old, new) => vec![format!("{at}: {old} | {new}")],
    }
}
