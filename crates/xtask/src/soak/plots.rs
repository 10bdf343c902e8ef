//! The clients' lower files: a client works through plots, small trees spread over the layers, so that there is something
//! to copy up to the end.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::XattrFlags;

use super::super::bench::tree::{Dice, put};
use super::content::{Content, pattern};
use super::model::{Changed, Kind, Model, Object, join};

/// Files of a plot, symlinks and second names not counted.
pub(crate) const FILES: usize = 44;

const DIRS: [&str; 5] = ["", "a", "a/b", "c", "c/empty"];

/// Where a plot is, below the layers and the mount.
pub(crate) fn place(client: usize, plot: usize) -> PathBuf {
    PathBuf::from(format!("own/c{client}/p{plot:03}"))
}

/// Makes a plot in `layers`.
pub(crate) fn make(layers: &[PathBuf], place: &Path, seed: u64) -> Result<()> {
    build(layers, place, seed, true).map(drop)
}

/// What is known of a plot that [`make`] has made.
pub(crate) fn model(layers: &[PathBuf], place: &Path, seed: u64) -> Result<Model> {
    build(layers, place, seed, false)
}

fn build(layers: &[PathBuf], place: &Path, seed: u64, write: bool) -> Result<Model> {
    let mut dice = Dice(seed);
    let mut model = Model::new();
    for dir in DIRS {
        if !dir.is_empty() {
            model.add(dir.into(), Object::new(Kind::Dir));
        }
        if write {
            // Merged from three layers.
            for _ in 0..3 {
                fs::create_dir_all(layers[dice.below(layers.len() as u64) as usize].join(place).join(dir))?;
            }
        }
    }
    let mut dice = Dice(!seed);
    for number in 0..FILES {
        let dir = DIRS[dice.below(4) as usize];
        let top = layers[dice.below(layers.len() as u64) as usize].join(place);
        let content = content(number, &mut dice);
        let name = join(dir, &format!("l{number}"));
        let path = top.join(&name);
        if write {
            fs::create_dir_all(top.join(dir))?;
            lay(&path, &content).with_context(|| format!("making {}", path.display()))?;
        }
        let mut object = Object::new(Kind::File(content));
        if number % 5 == 0 {
            let value = dice.next().to_le_bytes();
            if write {
                rustix::fs::setxattr(&path, "user.soak.lower", &value, XattrFlags::empty())
                    .with_context(|| format!("xattr on {}", path.display()))?;
            }
            object.xattrs.insert("user.soak.lower".into(), value.to_vec());
        }
        let meta = fs::symlink_metadata(&path)?;
        object.mode = Some(meta.mode() & 0o7777);
        object.owner = Some((meta.uid(), meta.gid()));
        object.changed = Changed::Exactly((meta.mtime(), meta.mtime_nsec()));
        object.lower = true;
        let id = model.add(name, object);
        if number % 11 == 3 {
            let second = join(dir, &format!("h{number}"));
            if write {
                fs::hard_link(&path, top.join(&second))?;
            }
            model.link(id, second);
        }
        if number % 9 == 2 {
            let name = join(dir, &format!("s{number}"));
            let target = format!("../no/{number}");
            if write {
                symlink(&target, top.join(&name))?;
            }
            model.add(name, Object::new(Kind::Symlink(target)));
        }
    }
    Ok(model)
}

/// Most files are small, some have 64 KiB and more, one has 1 to 20 MiB.
fn content(number: usize, dice: &mut Dice) -> Content {
    let seed = dice.next() | 1;
    match number % FILES {
        0 => {
            let size = (1 << 20) + dice.below(19 << 20);
            if dice.below(8) == 0 {
                return Content::of(seed, size);
            }
            // Holes, or the layers would fill the disk.
            let mut content = Content::default();
            for at in [0, size / 2, size - (64 << 10)] {
                content.write(at, 64 << 10, seed);
            }
            content
        }
        1..=5 => Content::of(seed, (64 << 10) - 1 + dice.below(3)),
        6..=9 => Content::of(seed, (64 << 10) + dice.below(256 << 10)),
        10 => Content::default(),
        _ => Content::of(seed, dice.below(16 << 10)),
    }
}

fn lay(path: &Path, content: &Content) -> Result<()> {
    // The old time comes last.
    put(path, b"")?;
    let meta = fs::metadata(path)?;
    let file = File::options().write(true).open(path)?;
    file.set_len(content.size())?;
    for (from, to, seed) in content.runs() {
        file.write_all_at(&pattern(seed, from, to - from), from)?;
    }
    file.set_modified(meta.modified()?)?;
    Ok(())
}
