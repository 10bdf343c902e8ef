//! SIGKILL at random instants while several processes change one store: whoever opens it next finds a whole store, nothing
//! that was said to be done is undone, no space is lost, and those who live go on as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plyfs_store::{Access, ChainId, Store};
use plyfs_tests::Scratch;
use plyfs_tests::random::{number, seed};
use plyfs_tests::tree::Random;

use super::common::Never;
use super::worker::{self, diff_of, files_of, image_of, layers_of, log_of};

/// Processes at work.
const WORKERS: u64 = 3;

/// What the logs say of each image that one worker alone makes and removes, last: `P`, it was put; `R`, its removal was
/// begun; and how much they say of it.
pub(crate) fn logs(root: &Path, workers: u64) -> BTreeMap<u64, (char, usize)> {
    let mut last = BTreeMap::new();
    for who in 0..workers {
        for line in fs::read_to_string(log_of(root, who)).unwrap_or_default().lines() {
            let (word, number) = line.split_once(' ').unwrap();
            let entry = last.entry(number.parse().unwrap()).or_insert((' ', 0));
            *entry = (word.chars().next().unwrap(), entry.1 + 1);
        }
    }
    last
}

/// Fails unless the store fits together, has all of `must`, and each image and layer that it has is whole.
#[track_caller]
pub(crate) fn is_whole(store: &Store, must: &BTreeSet<u64>, what: &str) {
    let problems = store.check().unwrap();
    assert!(problems.is_empty(), "{what}: {problems:#?}");
    for number in must {
        let image =
            store.image(&image_of(*number)).unwrap_or_else(|error| panic!("{what}: {number}: {error}"));
        let tag = store.tags().unwrap().find(&format!("r{number}:t"));
        assert_eq!(tag, Some(image.id), "{what}: the name of {number}");
    }
    let numbers = (0..worker::SHARED).chain(must.iter().copied());
    for number in numbers.filter(|number| store.image(&image_of(*number)).is_ok()) {
        let layers = layers_of(number);
        let diffs: Vec<_> = layers.iter().map(|layer| diff_of(*layer)).collect();
        for (chain, layer) in ChainId::each(&diffs).iter().zip(layers) {
            let id = store.need_layer(chain).unwrap_or_else(|error| panic!("{what}: {number}: {error}")).id;
            for (name, content) in files_of(layer) {
                let path = store.driver().diff_dir(&id).join(name);
                let found =
                    fs::read(&path).unwrap_or_else(|error| panic!("{what}: {}: {error}", path.display()));
                assert!(
                    found == content,
                    "{what}: {}: {} bytes of {}",
                    path.display(),
                    found.len(),
                    content.len()
                );
            }
        }
    }
    let in_diff: BTreeSet<String> = plyfs_tests::tree::names(store.layout().diffs()).into_iter().collect();
    let known = store.driver().layers().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(in_diff, known, "{what}: directories in diff/ and layers");
}

/// Removes everything as a user would, and says what is left on disk.
pub(crate) fn emptied(store: &Store) -> Vec<PathBuf> {
    store.prune(false, &Never).unwrap();
    for id in store.image_ids().unwrap() {
        store.remove_image(&id, false, &Never).unwrap();
    }
    listing(store.layout().root())
}

/// Every path below `root`, but the file of tags, which stays, empty.
pub(crate) fn listing(root: &Path) -> Vec<PathBuf> {
    let snapshot = plyfs_tests::Snapshot::of(root, plyfs_tests::Want::PLAIN);
    snapshot.0.into_keys().filter(|path| !path.ends_with("repositories.json")).collect()
}

fn wait(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

#[test]
fn sigkill_at_any_instant() {
    let scratch = Scratch::new();
    // Fast, so that there is much to kill.
    let dir = if plyfs_tests::gate::is_root() { scratch.tmpfs("fast") } else { scratch.dir("fast") };
    let root = dir.join("root");
    let open = || Store::open(&root, Access::Write, &Never).unwrap();
    let empty = {
        open();
        listing(&root)
    };
    let mut random = Random::new(seed());
    let rounds = number("PLYFS_ROUNDS", 25);
    let mut put = 0;
    for round in 0..rounds {
        let what = format!("round {round} (PLYFS_SEED={})", seed());
        let mut workers: Vec<_> =
            (0..WORKERS).map(|who| worker::start(&root, "storm", who, seed() * 1000 + round)).collect();
        wait(50 + random.below(350));
        // One dies; the others work on while we open the store and mend what it left.
        let mut victim = workers.remove(random.below(WORKERS) as usize);
        victim.kill().unwrap();
        victim.wait().unwrap();
        let problems = open().check().unwrap();
        assert!(problems.is_empty(), "{what}, others at work: {problems:#?}");
        wait(random.below(60));
        let orderly = random.below(2) == 0;
        for worker in &mut workers {
            if orderly {
                drop(worker.stdin.take());
            } else {
                worker.kill().unwrap();
            }
        }
        for mut worker in workers {
            let status = worker.wait().unwrap();
            assert!(!orderly || status.success(), "{what}: {status}");
        }
        let logs = logs(&root, WORKERS);
        let must: BTreeSet<u64> =
            logs.iter().filter(|(_, (word, _))| *word == 'P').map(|(number, _)| *number).collect();
        put += must.len();
        let store = open();
        is_whole(&store, &must, &what);
        let left = emptied(&store);
        assert_eq!(left, empty, "{what}: what is left when all was removed");
        (0..WORKERS).for_each(|who| drop(fs::remove_file(log_of(&root, who))));
    }
    assert!(put as u64 > rounds, "only {put} images in {rounds} rounds: nothing was tried");
}
