//! `Image`: an image index at work in an opened stack: the branches that it covers, and directories from it.
//!
//! It is used as long as nothing speaks against it. A stamp that does not fit, damage, a word that a covered branch was
//! changed: from then on the layers are read as if there were none. What was read from it before stays right as far as
//! the layers are what they were.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use plyfs_sys::Leaf;

use crate::branch::{Branch, Stack};
use crate::image::tree::{Entry, Folder, PlaceAt, Tree};
use crate::image::{ImageIndex, Record, stamp};
use crate::nodes::{DirAt, Node, Place, Places};
use crate::resolve::{BranchIdx, Sightings};

/// The root's number.
const ROOT: Record = 0;

const DAMAGED: &str = "it is damaged; check the store, and have it made anew";

/// See the module.
#[derive(Debug)]
pub(crate) struct Image {
    index: ImageIndex,
    /// The topmost of the covered branches, which are the last ones.
    first: BranchIdx,
    off: AtomicBool,
}

/// What a merged directory has on the covered branches.
pub(crate) struct Below {
    pub(crate) places: Places,
    pub(crate) lines: Vec<(Leaf, Sightings)>,
}

impl Image {
    /// Takes the index at `path` into use if the stack ends with its layers; else says why not, and does without.
    pub(crate) fn attach(path: &Path, branches: &[Branch]) -> Option<Image> {
        let index = match ImageIndex::open(path) {
            Ok(index) => index,
            Err(e) => {
                tracing::warn!("the layers are read without an image index: {e}");
                return None;
            }
        };
        match stamp::first_covered(index.tree(), branches) {
            Ok(first) => {
                tracing::debug!(index = %path.display(), first, "image index in use");
                Some(Image { index, first, off: AtomicBool::new(false) })
            }
            Err(why) => {
                let path = path.display();
                tracing::warn!(
                    "the layers are read without the image index {path}, which does not fit: {why}"
                );
                None
            }
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.off.load(Ordering::Acquire)
    }

    /// From now on the layers themselves are asked.
    pub(crate) fn turn_off(&self, why: &str) {
        if !self.off.swap(true, Ordering::AcqRel) {
            let path = self.index.path.display();
            tracing::warn!("the image index {path} is not used any more: {why}");
        }
    }

    /// Gives memory back that can be had again.
    pub(crate) fn idle(&self) {
        self.index.map.idle();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.index.path
    }

    pub(crate) fn covers(&self, branch: BranchIdx) -> bool {
        branch >= self.first
    }

    /// The index' own number of a covered branch.
    pub(super) fn layer(&self, branch: BranchIdx) -> Option<u16> {
        branch.checked_sub(self.first)
    }

    pub(super) fn tree(&self) -> Tree<'_> {
        self.index.tree()
    }

    pub(super) fn entry(&self, folder: Record, name: &Leaf) -> Option<Entry<'_>> {
        self.tree().folder(folder)?.find(name.as_bytes())
    }

    /// The directory below `folder` that shows under `name`.
    fn child(&self, folder: Record, name: &Leaf) -> Option<Folder<'_>> {
        let folder = self.tree().folder(folder)?;
        let entry = folder.find(name.as_bytes())?;
        let child = folder.child(entry);
        if child.is_none() && entry.kind().is_some_and(plyfs_sys::Kind::is_dir) {
            self.turn_off(DAMAGED);
        }
        child
    }

    /// All that lies on the covered branches of a directory whose topmost one there is `at`, the others in `more`
    /// (top last). `None`: read the layers.
    pub(crate) fn below(&self, at: &DirAt, more: &[DirAt]) -> Option<Below> {
        let folder = self.tree().folder(at.record?);
        let below = folder.and_then(|folder| {
            let places = self.places(folder, at, more)?;
            let lines = (0..folder.names()).map(|number| {
                let entry = folder.name(number)?;
                Some((entry.leaf()?, entry.seen(self.first)?))
            });
            Some(Below { places, lines: lines.collect::<Option<_>>()? })
        });
        if below.is_none() {
            self.turn_off(DAMAGED);
        }
        below
    }

    fn places(&self, folder: Folder<'_>, at: &DirAt, more: &[DirAt]) -> Option<Places> {
        let place = |PlaceAt { layer, path }: PlaceAt| {
            let branch = self.first.checked_add(layer)?;
            let record = Some(folder.number);
            match path {
                Some(path) => Some(DirAt { branch, ino: 0, place: Place::Path(path.into()), record }),
                None => std::iter::once(at).chain(more).find(|one| one.branch == branch).cloned(),
            }
        };
        folder.places()?.into_iter().map(place).collect()
    }

    /// The record of what lies on the covered ones of `places`, where a walk along `path` has led: if it is just what the
    /// index has there.
    fn walked(&self, path: &Path, places: &[DirAt]) -> Option<Record> {
        let mut folder = self.tree().folder(ROOT)?;
        let mut leaves = Vec::new();
        for component in path.components() {
            let std::path::Component::Normal(name) = component else { continue };
            folder = folder.child(folder.find(name.as_bytes())?)?;
            leaves.push(Leaf::new(name)?);
            // Behind a redirect inside of the image, paths on the layers are others.
            if folder.places()?.iter().any(|place| place.path.is_some()) {
                return None;
            }
        }
        let covered = places.iter().filter(|at| self.covers(at.branch));
        let ours = folder.places()?.into_iter().map(|place| self.first.checked_add(place.layer));
        let same = covered.clone().map(|at| Some(at.branch)).eq(ours);
        let straight = |at: &DirAt| matches!(&at.place, Place::Path(path) if **path == *leaves);
        (same && covered.clone().all(straight)).then_some(folder.number)
    }
}

impl Stack {
    /// The image index, while it is in use.
    pub(crate) fn image(&self) -> Option<&Image> {
        self.image.as_ref().filter(|image| image.is_on())
    }

    /// Somebody may have changed a covered branch.
    pub(crate) fn distrust_image(&self, branch: Option<BranchIdx>, why: &str) {
        if let Some(image) = self.image()
            && branch.is_none_or(|branch| image.covers(branch))
        {
            image.turn_off(why);
        }
    }

    /// The root's record, for the covered ones of its branches.
    pub(crate) fn root_record(&self, branch: BranchIdx) -> Option<Record> {
        self.image().filter(|image| image.covers(branch)).map(|_| ROOT)
    }

    /// The record of the directory `name` in `parent`, for the covered ones of its branches.
    pub(crate) fn record_of<'a>(
        &'a self,
        parent: &Node,
        name: &Leaf,
    ) -> impl Fn(BranchIdx) -> Option<Record> + use<'a> {
        let image = self.image();
        let record = image.and_then(|image| Some(image.child(record(parent)?, name)?.number));
        move |branch| record.filter(|_| image.is_some_and(|image| image.covers(branch)))
    }

    /// Notes which of the places that a walk along `path` has led to are in the index.
    pub(crate) fn recognise(&self, path: &Path, places: &mut Places) {
        let Some(image) = self.image() else { return };
        let Some(record) = image.walked(path, places) else { return };
        for at in places.iter_mut().filter(|at| image.covers(at.branch)) {
            at.record = Some(record);
        }
    }
}

/// The record of a directory's covered part: of its last places, if any.
pub(super) fn record(dir: &Node) -> Option<Record> {
    dir.as_dir().ok()?.at.read().last()?.record
}
