//! New images from a parent and a layer: what `plyfs commit` and `plyfs load` of a root filesystem rest on.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::io::{self, Write};
use std::path::Path;

use plyfs_image::config::Changes;
use plyfs_image::limits::Limits;
use plyfs_image::progress::{Cancel, Silent};
use plyfs_image::save::{Form, save_tar};
use plyfs_image::{Error, Reference, Work, commit, history, inspect};
use plyfs_store::images::Image;
use plyfs_store::{Access, DiffId, Digest, ImageId, MountError, Mounter, Store};
use plyfs_union::spec::MountSpec;
use serde_json::json;

#[derive(Debug)]
struct Nobody;

impl Mounter for Nobody {
    fn mount(&self, _: &MountSpec, _: &Path) -> Result<(), MountError> {
        Err("nothing is mounted in this test".into())
    }

    fn unmount(&self, _: &Path) -> Result<(), MountError> {
        Err("nothing is mounted in this test".into())
    }
}

struct Place {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root"), Access::Write, &Nobody).unwrap();
        Place { _dir: dir, store }
    }

    fn commit(
        &self,
        parent: Option<&ImageId>,
        changes: &Changes,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    ) -> Result<Image, Error> {
        let (limits, cancel) = (Limits::default(), Cancel::new());
        let work = Work {
            store: &self.store,
            mounter: &Nobody,
            limits: &limits,
            jobs: 1,
            progress: &Silent,
            cancel: &cancel,
        };
        commit(&work, parent, changes, vec![Reference::parse(name).unwrap().or_latest()], write)
    }
}

fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == tar::EntryType::Directory { 0o711 } else { 0o640 });
        if *kind == tar::EntryType::Link {
            header.set_size(0);
            builder.append_link(&mut header, name, text).unwrap();
        } else {
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_layer_stands_on_its_parent() {
    use std::os::unix::fs::MetadataExt;
    use tar::EntryType::{Directory, Link, Regular};
    let place = Place::new();
    let first = tar(&[("d", Directory, ""), ("d/low", Regular, "low")]);
    let base = place.commit(None, &Changes::default(), "base:1", |out| out.write_all(&first)).unwrap();
    assert_eq!(base.diffs, [DiffId(Digest::of(&first))]);
    // A parent without an entry, and a hard link to what only the parent has.
    let second = tar(&[("d/new", Regular, "new!"), ("d/link", Link, "d/low")]);
    let changes = Changes {
        config: json!({"Cmd": ["sh"], "Env": ["A=1"]}).as_object().cloned(),
        author: "me".to_owned(),
        comment: "second".to_owned(),
        created_by: "sh -c x".to_owned(),
    };
    let image = place.commit(Some(&base.id), &changes, "next", |out| out.write_all(&second)).unwrap();
    assert_eq!(image.diffs, [base.diffs[0], DiffId(Digest::of(&second))]);
    let layer = place.store.need_layer(&image.top().unwrap()).unwrap();
    let dir = place.store.driver().diff_dir(&layer.id).join("d");
    assert_eq!(dir.metadata().unwrap().mode() & 0o777, 0o711);
    assert_eq!(std::fs::read(dir.join("low")).unwrap(), b"low");
    assert_eq!(dir.join("low").metadata().unwrap().nlink(), 2);
    assert_eq!(place.store.check().unwrap(), []);

    let told = inspect(&place.store, &image.id).unwrap();
    assert_eq!(told["Config"]["Cmd"], json!(["sh"]));
    assert_eq!((&told["Author"], &told["Comment"]), (&json!("me"), &json!("second")));
    assert_eq!(told["RepoTags"], json!(["next:latest"]));
    let steps = history(&place.store, &image.id).unwrap();
    assert_eq!((steps.len(), steps[0].step.created_by.as_str(), steps[0].size), (2, "sh -c x", 7));
    assert_eq!(steps[1].id, "<missing>");

    let mut archive = Vec::new();
    save_tar(&place.store, &["next".to_owned()], Form::Docker, &mut archive, &Cancel::new()).unwrap();
    let mut read = tar::Archive::new(&archive[..]);
    let wanted = format!("blobs/sha256/{}", Digest::of(&second).hex());
    let mut entries = read.entries().unwrap().map(Result::unwrap);
    let mut found = entries.find(|entry| entry.path().unwrap().to_str() == Some(&wanted)).unwrap();
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut found, &mut bytes).unwrap();
    assert!(bytes == second, "the layer is saved as it was written");
}

#[test]
fn what_fails_leaves_nothing() {
    let place = Place::new();
    let half = tar(&[("f", tar::EntryType::Regular, "contents")]);
    let untouched = || {
        let layout = place.store.layout();
        for dir in [layout.diffs(), layout.parents(), layout.chains(), layout.configs(), layout.intents()] {
            assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "{}", dir.display());
        }
    };
    let error = place.commit(None, &Changes::default(), "x", |out| {
        out.write_all(&half[..600])?;
        Err(io::Error::other("the writer broke"))
    });
    assert!(error.unwrap_err().to_string().contains("the writer broke"));
    untouched();
    let error = place.commit(None, &Changes::default(), "x", |out| out.write_all(&half[..515]));
    assert!(error.unwrap_err().to_string().contains("layer new"));
    untouched();
    let hostile = tar(&[("a", tar::EntryType::Link, "../../etc/passwd")]);
    assert!(place.commit(None, &Changes::default(), "x", |out| out.write_all(&hostile)).is_err());
    untouched();
    let nobody = ImageId(Digest::of(b"nobody"));
    let error = place.commit(Some(&nobody), &Changes::default(), "x", |out| out.write_all(&half));
    assert!(error.unwrap_err().to_string().contains("no such image"));
    untouched();
}
