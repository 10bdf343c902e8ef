//! The workbench: branches on disk, an engine over them, and the model beside it.

use plyfs_tests::model::layers::{Item, Layer, merge};
use plyfs_tests::model::{Model, engine};
use plyfs_tests::{Scratch, Snapshot, Want};
use plyfs_union::Union;
use plyfs_union::spec::{Bounds, BranchSpec, MountSpec, Perm};

/// Branches, their union and its model.
pub(crate) struct Bench {
    pub(crate) scratch: Scratch,
    pub(crate) spec: MountSpec,
    pub(crate) union: Option<Union>,
    pub(crate) model: Model,
    below: Vec<(String, Snapshot)>,
}

impl Bench {
    /// Writes the layers (top first, `writable` of them `rw`) and opens the union.
    pub(crate) fn new(layers: &[Vec<Item>], writable: usize) -> Result<Bench, String> {
        Bench::bounded(layers, writable, Bounds::default())
    }

    /// The same with other bounds on what is kept in memory.
    pub(crate) fn bounded(layers: &[Vec<Item>], writable: usize, bounds: Bounds) -> Result<Bench, String> {
        Bench::make(layers, writable, bounds, false)
    }

    /// The same with an image index of the read-only branches.
    pub(crate) fn with_image(layers: &[Vec<Item>], writable: usize, bounds: Bounds) -> Result<Bench, String> {
        Bench::make(layers, writable, bounds, true)
    }

    fn make(layers: &[Vec<Item>], writable: usize, bounds: Bounds, image: bool) -> Result<Bench, String> {
        let items: usize = layers.iter().map(Vec::len).sum();
        let layers: Vec<Layer> = layers.iter().map(|items| Layer::new(items)).collect();
        let scratch = Scratch::new();
        let mut spec = MountSpec::default();
        spec.speed.bounds = bounds;
        // Copies of metadata alone in every case, of small files too in half of them.
        spec.speed.metacopy_from = Some(if items.is_multiple_of(2) { 0 } else { 2000 });
        let mut below = Vec::new();
        for (at, layer) in layers.iter().enumerate() {
            let name = format!("br{at}");
            let path = scratch.dir(&name);
            layer.write(&path);
            let perm = if at < writable { Perm::Rw } else { Perm::Ro };
            spec.branches.push(BranchSpec::new(&path, perm).with_wh());
            if at >= writable {
                below.push((name, Snapshot::of(&path, Want::ALL)));
            }
        }
        if image {
            let index = scratch.path("index");
            let below: Vec<_> = spec.branches[writable..].iter().map(|branch| branch.path.clone()).collect();
            plyfs_union::image::build(&below, &index).map_err(|error| format!("image index: {error}"))?;
            spec.image_index = Some(index);
        }
        let union = Union::open(&spec).map_err(|error| format!("open: {error}"))?;
        let bench = Bench { scratch, spec, union: Some(union), model: merge(&layers), below };
        bench.compare("just opened")?;
        Ok(bench)
    }

    pub(crate) fn union(&self) -> &Union {
        self.union.as_ref().expect("an open union")
    }

    /// Drops the engine and opens a new one on the same branches.
    pub(crate) fn reopen(&mut self) -> Result<(), String> {
        self.union = None;
        self.union = Some(Union::open(&self.spec).map_err(|error| format!("open again: {error}"))?);
        Ok(())
    }

    /// The union is what the model says, and an image index is in use if there is to be one.
    pub(crate) fn compare(&self, when: &str) -> Result<(), String> {
        self.compare_image(when)?;
        let seen = engine::snapshot(self.union()).map_err(|error| format!("{when}: {error}"))?;
        plyfs_tests::model::compare(&self.model.snapshot(), &seen, when)
    }

    /// Is the image index in use, if there is one?
    pub(crate) fn compare_image(&self, when: &str) -> Result<(), String> {
        let used = self.union().image_index() == self.spec.image_index.as_deref();
        if used { Ok(()) } else { Err(format!("{when}: the image index is not in use")) }
    }

    /// Everything visible, held as the kernel would: as long as the answer lives.
    pub(crate) fn pin(&self) -> Result<engine::Pinned<'_>, String> {
        engine::pin(self.union())
    }

    /// No read-only branch has changed in anything.
    pub(crate) fn below_unchanged(&self) -> Result<(), String> {
        for (name, before) in &self.below {
            let lines = before.diff(&Snapshot::of(self.scratch.path(name), Want::ALL));
            if !lines.is_empty() {
                return Err(format!("read-only branch {name} changed:\n{}", lines.join("\n")));
            }
        }
        Ok(())
    }
}
