//! Random branches: on disk in AUFS's words, and merged in memory as aufs.5 says.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::op::{Place, TARGET, name, perm, place};
use super::{Body, Model, Node};

/// Something a branch has, in the order of making; what does not fit is left out.
#[derive(Debug, Clone)]
pub enum Item {
    /// A file with this many bytes of this letter.
    File(Place, u8, u16, u32),
    /// A directory.
    Dir(Place, u32),
    /// An opaque directory.
    Opaque(Place, u32),
    /// A whiteout.
    Whiteout(Place),
    /// A symlink.
    Symlink(Place),
    /// A FIFO.
    Fifo(Place, u32),
    /// A second name of a file.
    Link(Place, Place),
}

/// One branch.
#[derive(Debug, Clone)]
pub struct Layer {
    files: Vec<(Node, u32)>,
    root: Folder,
}

#[derive(Debug, Clone, Default)]
struct Folder {
    perm: u32,
    opaque: bool,
    entries: BTreeMap<u8, Thing>,
}

#[derive(Debug, Clone)]
enum Thing {
    /// Index into `files`.
    File(usize),
    Folder(Folder),
    Whiteout,
}

/// Branches as proptest makes them.
pub fn layer() -> impl Strategy<Value = Vec<Item>> {
    let item = prop_oneof![
        6 => (place(), any::<u8>(), 0..6000_u16, perm()).prop_map(|(p, b, n, m)| Item::File(p, b, n, m)),
        5 => (place(), perm()).prop_map(|(p, m)| Item::Dir(p, m)),
        1 => (place(), perm()).prop_map(|(p, m)| Item::Opaque(p, m)),
        2 => place().prop_map(Item::Whiteout),
        1 => place().prop_map(Item::Symlink),
        1 => (place(), perm()).prop_map(|(p, m)| Item::Fifo(p, m)),
        2 => (place(), place()).prop_map(|(a, b)| Item::Link(a, b)),
    ];
    vec(item, 0..14)
}

impl Layer {
    /// The branch that `items` describe.
    pub fn new(items: &[Item]) -> Layer {
        let root = Folder { perm: 0o755, ..Folder::default() };
        let mut layer = Layer { files: Vec::new(), root };
        for item in items {
            layer.add(item);
        }
        layer
    }

    fn add(&mut self, item: &Item) {
        let (place, body, perm) = match item {
            Item::File(p, byte, length, m) => (p, Body::File(vec![*byte | 1; usize::from(*length)]), *m),
            Item::Symlink(p) => (p, Body::Symlink(TARGET.to_owned()), 0o777),
            Item::Fifo(p, m) => (p, Body::Fifo, *m),
            Item::Dir(p, m) => return self.put(p, Thing::Folder(Folder { perm: *m, ..Folder::default() })),
            Item::Opaque(p, m) => {
                let folder = Folder { perm: *m, opaque: true, ..Folder::default() };
                return self.put(p, Thing::Folder(folder));
            }
            Item::Whiteout(p) => return self.put(p, Thing::Whiteout),
            Item::Link(from, to) => {
                if let Some(Thing::File(index)) = self.get(from) {
                    let index = *index;
                    self.put(to, Thing::File(index));
                }
                return;
            }
        };
        self.files.push((Node { body, perm, linked_below: false }, 0));
        self.put(place, Thing::File(self.files.len() - 1));
    }

    fn get(&self, place: &Place) -> Option<&Thing> {
        let mut folder = &self.root;
        for part in &place.0[..place.0.len() - 1] {
            folder = match folder.entries.get(part)? {
                Thing::Folder(inner) => inner,
                _ => return None,
            };
        }
        folder.entries.get(&place.last())
    }

    /// Parents are made; what stands in the way wins.
    fn put(&mut self, place: &Place, thing: Thing) {
        let mut folder = &mut self.root;
        for part in &place.0[..place.0.len() - 1] {
            let fresh = || Thing::Folder(Folder { perm: 0o755, ..Folder::default() });
            folder = match folder.entries.entry(*part).or_insert_with(fresh) {
                Thing::Folder(inner) => inner,
                _ => return,
            };
        }
        if let std::collections::btree_map::Entry::Vacant(vacant) = folder.entries.entry(place.last()) {
            if let Thing::File(index) = thing {
                self.files[index].1 += 1;
            }
            vacant.insert(thing);
        }
    }

    /// Makes the branch in an empty folder. `whiteouts`: false leaves whiteouts and marks out (a plain folder).
    pub fn write(&self, root: &Path) {
        let mut written: BTreeMap<usize, std::path::PathBuf> = BTreeMap::new();
        self.write_folder(&self.root, root, &mut written);
    }

    fn write_folder(&self, folder: &Folder, dir: &Path, written: &mut BTreeMap<usize, std::path::PathBuf>) {
        for (part, thing) in &folder.entries {
            let path = dir.join(name(*part));
            match thing {
                Thing::Whiteout => fs::write(dir.join(format!(".wh.{}", name(*part))), "").unwrap(),
                Thing::Folder(inner) => {
                    fs::create_dir(&path).unwrap();
                    self.write_folder(inner, &path, written);
                }
                Thing::File(index) => match written.get(index) {
                    Some(first) => fs::hard_link(first, &path).unwrap(),
                    None => {
                        write_node(&self.files[*index].0, &path);
                        written.insert(*index, path);
                    }
                },
            }
        }
        if folder.opaque {
            fs::write(dir.join(".wh..wh..opq"), "").unwrap();
        }
        fs::set_permissions(dir, Permissions::from_mode(folder.perm)).unwrap();
    }
}

/// Makes one object that is no directory.
pub fn write_node(node: &Node, path: &Path) {
    match &node.body {
        Body::File(data) => fs::write(path, data).unwrap(),
        Body::Symlink(target) => return std::os::unix::fs::symlink(target, path).unwrap(),
        Body::Fifo => super::real::mkfifo(path, 0o600).unwrap(),
        Body::Dir(_) => panic!("a directory"),
    }
    fs::set_permissions(path, Permissions::from_mode(node.perm)).unwrap();
}

/// The union of `layers`, top first.
pub fn merge(layers: &[Layer]) -> Model {
    let mut model = Model::new(layers[0].root.perm);
    let mut known = BTreeMap::new();
    let roots: Vec<(usize, &Folder)> =
        layers.iter().enumerate().map(|(at, layer)| (at, &layer.root)).collect();
    merge_folder(layers, &roots, 0, &mut model, &mut known);
    model
}

fn merge_folder(
    layers: &[Layer],
    folders: &[(usize, &Folder)],
    into: usize,
    model: &mut Model,
    known: &mut BTreeMap<(usize, usize), usize>,
) {
    let mut names: Vec<u8> = folders.iter().flat_map(|(_, folder)| folder.entries.keys().copied()).collect();
    names.sort_unstable();
    names.dedup();
    for part in names {
        let mut merged: Vec<(usize, &Folder)> = Vec::new();
        for (at, folder) in folders {
            match folder.entries.get(&part) {
                None => {}
                Some(Thing::Whiteout) => break,
                // A file above hides all; a file below directories is skipped.
                Some(Thing::File(_)) if !merged.is_empty() => {}
                Some(Thing::File(index)) => {
                    let (node, names) = &layers[*at].files[*index];
                    let node = Node { linked_below: *names > 1, ..node.clone() };
                    let number = *known.entry((*at, *index)).or_insert_with(|| model.add(node));
                    model.name(into, part, number);
                    break;
                }
                Some(Thing::Folder(inner)) => {
                    merged.push((*at, inner));
                    if inner.opaque {
                        break;
                    }
                }
            }
        }
        if let Some((_, top)) = merged.first() {
            let node = Node { body: Body::Dir(BTreeMap::new()), perm: top.perm, linked_below: false };
            let number = model.add(node);
            model.name(into, part, number);
            merge_folder(layers, &merged, number, model, known);
        }
    }
}
