//! Diff and ApplyDiff: Docker's tests of them (aufs_test.go, graphtest), and the contents of registered layers against their
//! diff IDs.

use std::fs;
use std::path::Path;

use plyfs_image::limits::Limits;
use plyfs_image::pack::pack_dir;
use plyfs_image::tarsplit;
use plyfs_image::unpack::{UnpackOptions, unpack};
use plyfs_store::{Access, ChainId, Driver, Store};
use plyfs_sys::Dir;
use plyfs_tests::tree::Random;
use plyfs_tests::{Scratch, Snapshot, Want, plyfs, require_root, run};

use super::common::{Never, Real, id, layer, put, store};

/// Docker's Diff against the direct parent.
fn diff(driver: &Driver, name: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    pack_dir(&Dir::open(&driver.diff_dir(&id(name))).unwrap(), &mut archive).unwrap();
    archive
}

/// Docker's ApplyDiff against the direct parent; answers the size.
fn apply_diff(driver: &Driver, name: &str, archive: &[u8]) -> u64 {
    let into = Dir::open(&driver.diff_dir(&id(name))).unwrap();
    let limits = Limits::default();
    let parents = driver.parents(&id(name)).unwrap();
    let lower = parents.first().map(|parent| driver.union_against(parent, None).unwrap());
    let lower = lower.as_ref().map(|union| union as &dyn plyfs_image::unpack::Lower);
    let options = UnpackOptions { lower, ..UnpackOptions::new(&limits) };
    let unpacked = unpack(archive, &into, &options, None).unwrap();
    assert!(unpacked.warnings.is_empty(), "{:?}", unpacked.warnings);
    unpacked.size
}

#[test]
fn get_diff() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    layer(store.driver(), "1", None, &["test_file"]);
    let archive = diff(store.driver(), "1");
    assert!(archive.windows(9).any(|window| window == b"test_file"));
    assert_eq!(archive.len() % 512, 0);
}

#[test]
fn apply_diff_to_another_layer() {
    if !require_root("owners") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    let driver = store.driver();
    let dir = layer(driver, "1", None, &[]);
    fs::File::create(dir.join("test_file")).unwrap().set_len(1024).unwrap();
    let archive = diff(driver, "1");
    layer(driver, "2", None, &[]);
    layer(driver, "3", Some("2"), &[]);
    assert_eq!(apply_diff(driver, "3", &archive), 1024);
    assert_eq!(fs::metadata(driver.diff_dir(&id("3")).join("test_file")).unwrap().len(), 1024);
}

fn content(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..64).map(|_| random.below(256) as u8).collect()
}

fn add_many(root: &Path, seed: u64) {
    fs::create_dir_all(root.join("directory-0")).unwrap();
    (0..20)
        .for_each(|at| fs::write(root.join(format!("directory-0/file-{at}")), content(seed + at)).unwrap());
}

fn check_many(root: &Path, seed: u64) {
    for at in 0..20 {
        assert!(fs::read(root.join(format!("directory-0/file-{at}"))).unwrap() == content(seed + at), "{at}");
    }
}

/// graphtest's DiffApply: a file and a directory deleted, all others overwritten; Diff, and ApplyDiff to a sibling.
#[test]
fn diff_apply() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    let driver = store.driver();
    driver.create(&id("base"), None).unwrap();
    let base = driver.get(&id("base"), &Real).unwrap();
    add_many(base.path(), 3);
    put(&base.path().join("file-remove.txt"), "This file should get removed in upper!");
    put(&base.path().join("var/lib/"), "");
    base.put().unwrap();
    driver.create(&id("upper"), Some(&id("base"))).unwrap();
    let upper = driver.get(&id("upper"), &Real).unwrap();
    add_many(upper.path(), 6);
    fs::remove_file(upper.path().join("file-remove.txt")).unwrap();
    fs::remove_dir(upper.path().join("var/lib")).unwrap();
    let wanted = Snapshot::of(upper.path(), Want::VIEW);
    upper.put().unwrap();

    driver.create(&id("diff"), Some(&id("base"))).unwrap();
    let before = driver.get(&id("diff"), &Real).unwrap();
    check_many(before.path(), 3);
    assert!(before.path().join("file-remove.txt").exists() && before.path().join("var/lib").exists());
    before.put().unwrap();
    assert_eq!(apply_diff(driver, "diff", &diff(driver, "upper")), driver.diff_size(&id("upper")).unwrap());
    let after = driver.get(&id("diff"), &Real).unwrap();
    check_many(after.path(), 6);
    assert!(!after.path().join("file-remove.txt").exists() && !after.path().join("var/lib").exists());
    wanted.same(&Snapshot::of(after.path(), Want::VIEW), "the union of the layer that was applied");
    after.put().unwrap();
}

/// A store with one image of two layers, unpacked as a pull does it.
fn with_contents(root: &Path) -> Store {
    let store = Store::open(root, Access::Write, &Never).unwrap();
    let scratch = Scratch::new();
    scratch.file("one/etc/motd", "hello\n");
    scratch.file("one/bin/tool", [7_u8; 3000]);
    scratch.file("two/etc/.wh.motd", "");
    scratch.file("two/etc/issue", "two\n");
    let intent = store.begin("load").unwrap();
    let (mut parent, mut diffs) = (None, Vec::new());
    for name in ["one", "two"] {
        let mut archive = Vec::new();
        pack_dir(&Dir::open(&scratch.path(name)).unwrap(), &mut archive).unwrap();
        let draft = store.draft_layer(&intent).unwrap();
        let into = Dir::open(draft.dir()).unwrap();
        let mut record = tarsplit::Writer::new(draft.tar_split().unwrap(), &into).unwrap();
        let limits = Limits::default();
        let done =
            unpack(archive.as_slice(), &into, &UnpackOptions::new(&limits), Some(&mut record)).unwrap();
        record.finish().unwrap().sync_all().unwrap();
        store.commit_layer(&intent, draft, parent, done.diff_id, done.size, &Never).unwrap();
        parent = Some(ChainId::over(parent, done.diff_id));
        diffs.push(done.diff_id);
    }
    let config = serde_json::json!({ "rootfs": { "type": "layers", "diff_ids": diffs } });
    let image = store.put_image(serde_json::to_vec(&config).unwrap()).unwrap();
    store.tag("two", "two:latest", &image.id).unwrap();
    intent.done().unwrap();
    store
}

#[test]
fn check_contents() {
    if !require_root("owners") {
        return;
    }
    let scratch = Scratch::new();
    let store = with_contents(&scratch.path("root"));
    let check =
        |words: &[&str]| run(plyfs().arg("--root").arg(scratch.path("root")).arg("check").args(words));
    assert!(check(&["--contents"]).exits(0).out.ends_with(": no problem\n"));
    let image = store.image(&store.tags().unwrap().find("two:latest").unwrap()).unwrap();
    let bottom = store.stack(&image.top().unwrap()).unwrap().pop().unwrap();
    let tool = store.driver().diff_dir(&bottom.id).join("bin/tool");
    // One bit, and the time as it was: metadata cannot tell.
    let time = fs::metadata(&tool).unwrap().modified().unwrap();
    let mut bytes = fs::read(&tool).unwrap();
    bytes[1234] ^= 1;
    fs::write(&tool, &bytes).unwrap();
    fs::File::open(&tool).unwrap().set_modified(time).unwrap();
    check(&[]).exits(0);
    let said = check(&["--contents"]).exits(1).out;
    assert!(said.contains("bin/tool: changed since the layer was unpacked"), "{said}");
    fs::remove_file(&tool).unwrap();
    let said = check(&["--contents", "--json"]).exits(1).out;
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["problems"].as_array().unwrap().len(), 1, "{said}");
    // A layer without a record cannot be checked, which is said and is no damage by itself.
    fs::remove_file(store.layout().chain(&bottom.chain).join("tar-split.json.gz")).unwrap();
    let said = check(&["--contents"]).exits(1).out;
    assert!(said.contains("tar-split.json.gz") && said.contains("is missing"), "{said}");
}

/// The records that Docker wrote are read too.
#[test]
fn check_contents_of_dockers_layers() {
    if !require_root("owners") {
        return;
    }
    let scratch = Scratch::new();
    let root = super::docker::docker_root(&scratch);
    let said = run(plyfs().arg("--root").arg(&root).args(["check", "--contents"])).exits(0).out;
    assert!(said.ends_with(": 10 layers, 7 images, 3 containers: no problem\n"), "{said}");
}
