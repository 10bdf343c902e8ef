//! What the kernel has cached of a mount, and how it comes to forget it: nodes beyond the bound, and branches changed
//! directly. Skipped, aloud, where FUSE cannot be mounted.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use plyfs_fuse::Session;
use plyfs_union::Union;
use plyfs_union::spec::{Bounds, BranchSpec, MountSpec, Perm};

mod common;

struct Mounted {
    dir: tempfile::TempDir,
    target: tempfile::TempDir,
    session: Session,
    union: Arc<Union>,
}

/// `0` writable over `1` and `2`, which honour whiteouts; what `make` puts there is there before the mount.
fn mounted(bounds: Bounds, make: impl Fn(&Path)) -> Option<Mounted> {
    let (dir, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut spec = MountSpec::default();
    for (name, perm) in [("0", Perm::Rw), ("1", Perm::Ro), ("2", Perm::Ro)] {
        fs::create_dir(dir.path().join(name)).unwrap();
        spec.branches.push(BranchSpec::new(dir.path().join(name), perm).with_wh());
    }
    spec.speed.bounds = bounds;
    make(dir.path());
    let union = Arc::new(Union::open(&spec).unwrap());
    let session = common::unless_impossible(Session::start(union.clone(), target.path(), &spec))?;
    Some(Mounted { dir, target, session, union })
}

impl Mounted {
    fn at(&self, path: &str) -> PathBuf {
        self.target.path().join(path)
    }

    /// A path on a branch: `0/x`.
    fn on(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn changed(&self, path: &str) {
        let (branch, path) = path.split_once('/').unwrap();
        self.session.teller().branch_changed(branch.parse().unwrap(), Path::new(path)).unwrap();
    }

    /// Everything, by path: type, mode, size, and text or target. Names that are looked for in vain, too.
    fn seen(&self) -> BTreeMap<PathBuf, String> {
        seen(self.target.path())
    }

    /// The mount shows what a union of the same branches, opened now, would: by a second mount.
    fn is_true(&self, after: &str) {
        let mut spec = MountSpec { look_only: true, ..MountSpec::default() };
        for (name, perm) in [("0", Perm::Rw), ("1", Perm::Ro), ("2", Perm::Ro)] {
            spec.branches.push(BranchSpec::new(self.on(name), perm).with_wh());
        }
        let target = tempfile::tempdir().unwrap();
        let fresh = Session::start(Arc::new(Union::open(&spec).unwrap()), target.path(), &spec).unwrap();
        assert_eq!(self.seen(), seen(target.path()), "after {after}");
        drop(fresh);
    }
}

const MISSED: [&str; 4] = ["new", "gone", "sub", "file"];

fn said(error: std::io::Error) -> String {
    error.to_string()
}

fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let short = path.strip_prefix(root).unwrap().to_path_buf();
        let text = match fs::symlink_metadata(&path) {
            Err(error) => error.kind().to_string(),
            Ok(meta) => {
                let what = if meta.is_symlink() {
                    fs::read_link(&path).map_or_else(said, |target| target.display().to_string())
                } else if meta.is_dir() {
                    let names =
                        fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().file_name());
                    todo.extend(
                        names
                            .filter(|name| !name.as_encoded_bytes().starts_with(b".wh."))
                            .map(|name| path.join(name)),
                    );
                    todo.extend(MISSED.map(|name| path.join(name)));
                    String::new()
                } else {
                    fs::read_to_string(&path).unwrap_or_else(said)
                };
                let size = if meta.is_dir() { 0 } else { meta.size() };
                format!("{:o} {} {size} {what}", meta.mode(), meta.nlink())
            }
        };
        all.insert(short, text);
    }
    all
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn tree(dir: &Path) {
    for name in ["a/file", "a/keep", "a/gone", "d/sub/deep/file", "d/sub/low"] {
        put(&dir.join("2").join(name), &format!("two {name}"));
    }
    put(&dir.join("1/a/middle"), "one");
    put(&dir.join("1/b/file"), "one");
    put(&dir.join("0/top"), "zero");
    symlink("a/file", dir.join("2/link")).unwrap();
}

/// Each change made directly in a branch, and the path told.
#[expect(clippy::too_many_lines, reason = "a table")]
fn changes(m: &Mounted, step: usize) -> Option<&'static str> {
    let on = |path: &str| m.on(path);
    Some(match step {
        0 => {
            put(&on("2/a/new"), "added");
            "2/a/new"
        }
        1 => {
            fs::remove_file(on("2/a/gone")).unwrap();
            "2/a/gone"
        }
        2 => {
            put(&on("2/a/x"), "replaced");
            fs::rename(on("2/a/x"), on("2/a/file")).unwrap();
            "2/a/file"
        }
        3 => {
            fs::write(on("2/a/keep"), "in place").unwrap();
            "2/a/keep"
        }
        4 => {
            fs::write(on("2/a/keep"), "IN PLACE").unwrap();
            "2/a/keep"
        }
        5 => {
            fs::set_permissions(on("2/a/keep"), fs::Permissions::from_mode(0o604)).unwrap();
            "2/a/keep"
        }
        6 => {
            fs::remove_file(on("2/link")).unwrap();
            symlink("elsewhere", on("2/link")).unwrap();
            "2/link"
        }
        7 => {
            put(&on("1/a/.wh.keep"), "");
            "1/a/.wh.keep"
        }
        8 => {
            fs::remove_file(on("1/a/.wh.keep")).unwrap();
            "1/a/.wh.keep"
        }
        9 => {
            put(&on("1/a/.wh..wh..opq"), "");
            "1/a/.wh..wh..opq"
        }
        10 => {
            fs::remove_file(on("1/a/.wh..wh..opq")).unwrap();
            "1/a/.wh..wh..opq"
        }
        11 => {
            put(&on("1/d/sub/deep/new"), "between");
            "1/d/sub/deep/new"
        }
        12 => {
            put(&on("1/d/sub/.wh.low"), "");
            "1/d/sub/.wh.low"
        }
        13 => {
            fs::remove_dir_all(on("1/d")).unwrap();
            "1/d"
        }
        14 => {
            fs::remove_dir_all(on("2/d/sub")).unwrap();
            put(&on("2/d/sub"), "a file now");
            "2/d/sub"
        }
        15 => {
            fs::remove_file(on("2/d/sub")).unwrap();
            put(&on("2/d/sub/file"), "a directory again");
            "2/d/sub"
        }
        16 => {
            put(&on("1/a/file"), "hides the lower");
            "1/a/file"
        }
        17 => {
            fs::remove_file(on("1/a/file")).unwrap();
            "1/a/file"
        }
        18 => {
            fs::rename(on("2/d"), on("2/moved")).unwrap();
            "2/d"
        }
        19 => "2/moved",
        20 => {
            put(&on("0/b/file"), "on top");
            "0/b/file"
        }
        21 => {
            fs::set_permissions(on("0/b"), fs::Permissions::from_mode(0o700)).unwrap();
            "0/b"
        }
        22 => {
            fs::remove_dir_all(on("0/b")).unwrap();
            "0/b"
        }
        23 => {
            fs::remove_dir_all(on("2/a")).unwrap();
            put(&on("2/a/deep/er/file"), "new tree");
            "2/a"
        }
        _ => return None,
    })
}

#[test]
fn a_branch_changed_directly_shows_as_it_is() {
    each_change(Bounds::default());
}

/// The same while hardly any index stays in memory: what the kernel knows is older than what the engine does.
#[test]
fn a_branch_changed_directly_shows_as_it_is_without_indexes() {
    each_change(Bounds { index_lines: 2, ..Bounds::default() });
}

fn each_change(bounds: Bounds) {
    let Some(m) = mounted(bounds, tree) else { return };
    m.is_true("mounting");
    let mut step = 0;
    loop {
        // Cached: everything there, and what is not.
        m.seen();
        let Some(path) = changes(&m, step) else { break };
        m.changed(path);
        if step == 18 {
            m.changed("2/moved");
        }
        m.is_true(path);
        step += 1;
    }
}

#[test]
fn a_refresh_shows_everything_as_it_is() {
    for bounds in [Bounds::default(), Bounds { index_lines: 2, ..Bounds::default() }] {
        let Some(m) = mounted(bounds, tree) else { return };
        let mut step = 0;
        loop {
            m.seen();
            if changes(&m, step).is_none() {
                break;
            }
            // Some at a time.
            if step % 3 == 0 {
                m.session.teller().refresh().unwrap();
                m.is_true(&format!("step {step}"));
            }
            step += 1;
        }
        m.session.teller().refresh().unwrap();
        m.is_true("all of it");
    }
}

#[test]
fn who_has_a_lost_object_open_keeps_it_and_the_rest_stays_known() {
    let Some(m) = mounted(Bounds::default(), tree) else { return };
    let mut open = File::open(m.at("a/gone")).unwrap();
    let same = fs::metadata(m.at("a/keep")).unwrap().ino();
    let kept = m.union.node_count();
    m.seen();
    fs::remove_file(m.on("2/a/gone")).unwrap();
    m.changed("2/a/gone");
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "two a/gone");
    assert!(open.metadata().is_ok(), "an open file has attributes");
    assert!(fs::metadata(m.at("a/gone")).is_err());
    assert_eq!(fs::metadata(m.at("a/keep")).unwrap().ino(), same);
    assert!(m.union.node_count() >= kept);
    // Into the union itself goes on as ever.
    put(&m.at("a/gone"), "made again");
    put(&m.at("d/sub/deep/made"), "through the mount");
    m.is_true("writing through the mount");
}

#[test]
fn changes_are_taken_in_under_load() {
    let Some(m) = mounted(Bounds { index_lines: 8, nodes: 10 }, tree) else { return };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (m, ended) = (&m, &ended);
            scope.spawn(move || {
                let mut turn = 0;
                while !ended.load(SeqCst) {
                    // Anything may be missing at any moment; nothing may hang, and nothing be half there.
                    let _missing = fs::read_dir(m.at("a")).map(Iterator::count);
                    let _missing = fs::read(m.at("a/keep"));
                    let _missing = fs::metadata(m.at("d/sub/deep/file"));
                    let mine = m.at(&format!("b/{thread}"));
                    fs::write(&mine, turn.to_string()).unwrap();
                    assert_eq!(fs::read_to_string(&mine).unwrap(), turn.to_string());
                    turn += 1;
                }
            });
        }
        for step in 0..19 {
            let path = changes(&m, step).unwrap();
            m.changed(path);
            std::thread::sleep(Duration::from_millis(5));
        }
        ended.store(true, SeqCst);
    });
    m.session.teller().refresh().unwrap();
    m.is_true("the load");
}

#[test]
fn the_kernel_lets_go_of_nodes_beyond_the_bound() {
    let make = |dir: &Path| {
        tree(dir);
        for n in 0..600 {
            put(&dir.join(format!("2/many/{}/{n}", n % 10)), "x");
        }
    };
    let Some(m) = mounted(Bounds { nodes: 60, ..Bounds::default() }, make) else { return };
    let open = File::open(m.at("a/file")).unwrap();
    let before = m.seen();
    assert!(before.len() > 600);
    let start = Instant::now();
    while m.union.node_count() > 60 && start.elapsed() < Duration::from_secs(20) {
        // Traffic, without which nobody looks.
        assert!(fs::metadata(m.at("nothing/such")).is_err());
        fs::metadata(m.at(&format!("many/{}", start.elapsed().as_millis() % 10))).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        let _refused = File::open(m.at(&format!("many/absent{}", start.elapsed().as_millis())));
    }
    assert!(m.union.node_count() <= 60, "{} nodes are left", m.union.node_count());
    assert!(open.metadata().unwrap().nlink() == 1 && m.seen() == before);
}
