//! Image indexes: when one is used, what of the layers is still touched then, and what becomes of objects known from it.
//! That nothing else shows a difference is the model suite's matter.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use plyfs_sys::Errno;
use plyfs_union::spec::{BranchSpec, MountSpec, Perm};
use plyfs_union::{Attr, Ino, Kind, image};

use crate::bench::{Branches, READ, Tree, errno};

/// More than stay open all the time.
const LAYERS: usize = 6;

/// An image of a few layers: files of each, a directory of all, a whiteout, an opaque directory, hard links.
fn image() -> Branches {
    let b = Branches::new();
    for at in 0..LAYERS {
        b.file(&format!("l{at}/shared/only{at}"), "text");
        b.file(&format!("l{at}/shared/same"), &format!("of {at}"));
        b.file(&format!("l{at}/deep/{at}/a/b/file"), "deep");
    }
    b.file("l1/shared/.wh.only3", "");
    b.file("l2/closed/.wh..wh..opq", "");
    b.file("l2/closed/in", "");
    b.file("l3/closed/hidden", "");
    b.file("l4/first", "linked");
    b.hard_link("l4/first", "l4/second");
    symlink("shared/same", b.path("l5/link")).unwrap();
    b.dir("up");
    b
}

fn layers(b: &Branches) -> Vec<PathBuf> {
    (0..LAYERS).map(|at| b.path(&format!("l{at}"))).collect()
}

/// `up` over the layers.
fn spec(b: &Branches, index: Option<PathBuf>) -> MountSpec {
    let mut branches = vec![BranchSpec::new(b.path("up"), Perm::Rw)];
    branches.extend(layers(b).into_iter().map(|path| BranchSpec::new(path, Perm::Ro).with_wh()));
    MountSpec { branches, image_index: index, ..MountSpec::default() }
}

fn built(b: &Branches) -> PathBuf {
    let index = b.path("index");
    image::build(&layers(b), &index).unwrap();
    index
}

fn indexed(b: &Branches) -> Tree {
    let tree = Tree::of(&spec(b, Some(built(b))));
    assert!(tree.image_index().is_some());
    tree
}

type Walked = BTreeMap<PathBuf, (Attr, Option<OsString>)>;

#[track_caller]
fn same(left: &Walked, right: &Walked, what: &str) {
    for path in left.keys().chain(right.keys()) {
        assert_eq!(left.get(path), right.get(path), "{what}: {}", path.display());
    }
}

/// Everything below a directory: path, attributes, target.
fn walk(tree: &Tree) -> Walked {
    let mut all = BTreeMap::new();
    let mut todo = vec![(PathBuf::from("/"), Ino::ROOT)];
    while let Some((path, ino)) = todo.pop() {
        let attr = tree.getattr(ino, None).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let target = (attr.kind == Kind::Symlink).then(|| tree.readlink(ino).unwrap());
        assert_eq!(tree.listxattr(ino).unwrap(), b"", "{}", path.display());
        for name in ["security.capability", "system.posix_acl_access"] {
            // No directory's, nor a symlink's ACL where the filesystem has none.
            if attr.kind != Kind::Symlink {
                assert_eq!(errno(tree.getxattr(ino, OsStr::new(name))), Errno::NODATA, "{}", path.display());
            }
        }
        if attr.kind == Kind::Dir {
            let mut names = Vec::new();
            tree.list(ino, 2, &mut |entry| {
                names.push((entry.name.to_os_string(), entry.ino));
                ControlFlow::Continue(())
            })
            .unwrap();
            for (name, number) in names {
                let child = tree.lookup(ino, &name).unwrap().unwrap();
                assert_eq!(child.attr.ino, number);
                todo.push((path.join(name), child.ino));
            }
            assert!(tree.lookup(ino, OsStr::new("no such name")).unwrap().is_none());
        }
        // Reading changes the time of access.
        all.insert(path, (Attr { atime: attr.mtime, ..attr }, target));
    }
    all
}

/// Takes everything out of the layers that is in them: what is asked of a layer's content finds nothing.
fn empty(b: &Branches) {
    for layer in layers(b) {
        fs::remove_dir_all(&layer).unwrap();
        fs::create_dir(layer).unwrap();
    }
}

#[test]
fn a_walk_touches_no_layer() {
    let b = image();
    b.file("up/shared/own", "mine");
    b.file("up/shared/.wh.only5", "");
    let before = walk(&Tree::of(&spec(&b, None)));
    let tree = indexed(&b);
    empty(&b);
    same(&walk(&tree), &before, "nodes made");
    same(&walk(&tree), &before, "nodes known by now");
    assert!(tree.image_index().is_some());
    assert!(before.len() > 30 && before.contains_key(&PathBuf::from("/shared/only0")));
    // What is not in the index is asked of the layers, and the answer is no lie.
    for path in ["shared/only0", "first"] {
        let refused = errno(tree.open_file(tree.ino(path), READ));
        assert!(matches!(refused, Errno::NOENT | Errno::STALE), "{path}: {refused:?}");
        errno(tree.chmod(tree.ino(path), 0o600));
    }
    assert_eq!(tree.text("shared/own"), "mine");
    // A union without the index shows what is there.
    drop(tree);
    assert_eq!(Tree::of(&spec(&b, None)).names(Ino::ROOT).unwrap(), ["shared"]);
}

#[test]
fn an_index_is_used_over_its_own_layers_alone() {
    let b = image();
    let index = built(&b);
    let used = |change: &dyn Fn(&mut MountSpec)| {
        let mut spec = spec(&b, Some(index.clone()));
        change(&mut spec);
        let tree = Tree::of(&spec);
        let spec = MountSpec { image_index: None, ..spec };
        let shown = walk(&tree);
        let used = tree.image_index().is_some();
        drop(tree);
        same(&shown, &walk(&Tree::of(&spec)), "with and without");
        used
    };
    assert!(used(&|_| {}));
    assert!(used(&|spec| drop(spec.branches.remove(0))), "the image alone");
    assert!(used(&|spec| spec.branches.insert(1, BranchSpec::new(b.dir("init"), Perm::Ro).with_wh())));
    assert!(!used(&|spec| spec.branches.swap(2, 3)), "another order");
    assert!(!used(&|spec| drop(spec.branches.pop())), "a layer less");
    assert!(!used(&|spec| drop(spec.branches.drain(..2))), "the top layer is missing");
    assert!(
        !used(&|spec| spec.branches.push(BranchSpec::new(b.dir("more"), Perm::Ro).with_wh())),
        "one more"
    );
    assert!(!used(&|spec| spec.branches[2].wh = false), "whiteouts do not count there");
    assert!(!used(&|spec| (spec.branches[2].perm, spec.branches[2].wh) = (Perm::Rw, false)), "writable");
    assert!(!used(&|spec| spec.image_index = Some(b.path("no index"))));
    assert!(!used(&|spec| spec.image_index = Some(b.file("text", "no index"))));
    assert!(!used(&|spec| spec.image_index = Some(b.path("up"))));
    image::fits(&index, &layers(&b)).unwrap();
    assert!(image::fits(&index, &layers(&b)[1..]).is_err());
    assert!(image::fits(&index, &[&[b.path("up")], &layers(&b)[..]].concat()).is_err());
    fs::write(b.path("l3/added"), "").unwrap();
    assert!(!used(&|_| {}), "changed since");
    let why = image::fits(&index, &layers(&b)).unwrap_err().to_string();
    assert!(why.contains("l3") && why.contains("changed since (ctime)"), "{why}");
    image::build(&layers(&b), &index).unwrap();
    assert!(used(&|_| {}), "made anew");
}

#[test]
fn a_word_of_change_ends_the_use_of_an_index() {
    let b = image();
    let tree = indexed(&b);
    assert!(tree.find("shared/new").unwrap().is_none());
    // Above the image, it stays in use.
    b.file("up/shared/new", "new");
    tree.branch_changed(0, "shared/new".as_ref()).unwrap();
    assert!(tree.find("shared/new").unwrap().is_some() && tree.image_index().is_some());
    let size = tree.at("shared/same").attr.size;
    b.file("l0/shared/same", "longer than before");
    b.file("l5/shared/from5", "");
    assert_eq!(tree.at("shared/same").attr.size, size, "not told");
    assert!(tree.find("shared/from5").unwrap().is_none(), "not told");
    tree.branch_changed(6, "shared/from5".as_ref()).unwrap();
    assert!(tree.image_index().is_none());
    assert!(tree.find("shared/from5").unwrap().is_some());
    assert_eq!(tree.at("shared/same").attr.size, 18);
}

#[test]
fn numbers_and_links_stay_when_a_known_file_is_copied() {
    let b = image();
    let tree = indexed(&b);
    let (first, second) = (tree.at("first"), tree.at("second"));
    assert_eq!((first.ino, first.attr.nlink), (second.ino, 2));
    assert_eq!(first.attr.ino, fs::metadata(b.path("l4/first")).unwrap().ino());
    assert_eq!(tree.chmod(first.ino, 0o640).unwrap(), 0o640);
    let (first, second) = (tree.at("first"), tree.at("second"));
    assert_eq!((first.ino, second.attr.perm, second.attr.nlink), (second.ino, 0o640, 2));
    assert_eq!(tree.text("second"), "linked");
    tree.rm("first").unwrap();
    assert_eq!(tree.at("second").attr.nlink, 1);
    // A directory that merges what is known moves with it, in this mount and in the next.
    let number = tree.at("deep").attr.ino;
    tree.mv("deep", "moved").unwrap();
    tree.mv("shared/same", "moved/same").unwrap();
    let shown = |tree: &Tree| {
        assert_eq!(tree.names(tree.ino("moved")).unwrap(), ["0", "1", "2", "3", "4", "5", "same"]);
        assert_eq!((tree.text("moved/3/a/b/file"), tree.text("moved/same")), ("deep".into(), "of 0".into()));
        assert_eq!((tree.at("moved").attr.ino, tree.at("moved").attr.nlink), (number, 8));
        assert!(tree.find("deep").unwrap().is_none() && tree.find("shared/same").unwrap().is_none());
        assert!(tree.image_index().is_some());
    };
    shown(&tree);
    drop(tree);
    shown(&Tree::of(&spec(&b, Some(b.path("index")))));
}

#[test]
fn a_removed_file_that_is_open_is_read_to_its_end() {
    let b = image();
    let tree = indexed(&b);
    let ino = tree.ino("shared/only0");
    let open = tree.open_file(ino, READ).unwrap().fh;
    tree.rm("shared/only0").unwrap();
    assert_eq!((tree.read_open(open), tree.nlink(ino)), ("text".to_owned(), 0));
    assert!(tree.find("shared/only0").unwrap().is_none());
    tree.make("shared/only0").unwrap();
    assert_eq!((tree.text("shared/only0"), tree.read_open(open)), (String::new(), "text".to_owned()));
    tree.release(open);
}

#[test]
fn verify_tells_what_is_not_as_it_was() {
    let b = image();
    let index = built(&b);
    let check = || -> Vec<String> {
        let found = image::verify(&index, &layers(&b)).unwrap();
        found.into_iter().map(|one| format!("{}: {}", one.path.display(), one.what)).collect()
    };
    assert_eq!(check(), Vec::<String>::new());
    fs::write(b.path("l2/deep/2/a/b/file"), "changed").unwrap();
    fs::remove_file(b.path("l0/shared/only0")).unwrap();
    b.file("l5/shared/more", "");
    let found = check();
    let has = |text: &str| assert!(found.iter().any(|line| line.starts_with(text)), "{text}: {found:#?}");
    has("/deep/2/a/b/file: size: 4, 7");
    has("/shared/only0: no layer has it");
    has("/shared/more: missing in the index");
    has("/shared: mtime");
    let other: Vec<PathBuf> = layers(&b).into_iter().rev().collect();
    assert!(image::verify(&index, &other).unwrap()[0].what.contains("layer 0 is another directory"));
    let damaged = b.path("damaged");
    let mut bytes = fs::read(&index).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    assert!(image::verify(&damaged, &layers(&b)).unwrap_err().to_string().contains("damaged"));
}
