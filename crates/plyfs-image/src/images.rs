//! The images of a store: finding, listing, naming, removing.

use std::cell::RefCell;

use plyfs_store::images::Image;
use plyfs_store::tags::Tags;
use plyfs_store::{ChainId, ImageId, Mounter, Store};

use crate::error::{Error, Result};
use crate::reference::Reference;

/// One row of the list of images: an image under one of its names, or without any.
#[derive(Debug, Clone)]
pub struct Row {
    /// `debian`, if it has a name.
    pub repository: Option<String>,
    /// `12`, if it has a tag in this repository.
    pub tag: Option<String>,
    /// `sha256:...` of its manifest in this repository, if it came from a registry.
    pub digest: Option<String>,
    /// The image.
    pub id: ImageId,
    /// When it was made, if it says so.
    pub created: Option<jiff::Timestamp>,
    /// Bytes of all its layers.
    pub size: u64,
}

/// What a word on the command line means: a name (with `latest` if nothing is said), or the beginning of an id.
pub fn find(store: &Store, word: &str) -> Result<ImageId> {
    if let Some(id) = full_id(word) {
        return store.image(&id).map(|image| image.id).map_err(Error::from);
    }
    if let Ok(reference) = Reference::parse(word)
        && let Some(id) = store.tags()?.find(&reference.key())
    {
        return Ok(id);
    }
    store.image_by_prefix(word)?.ok_or_else(|| Error::no_image(word))
}

fn full_id(word: &str) -> Option<ImageId> {
    let digest = word.parse().or_else(|_| plyfs_store::Digest::from_hex(word));
    digest.ok().map(ImageId)
}

/// Bytes of all layers of an image.
pub fn size(store: &Store, image: &Image) -> Result<u64> {
    let Some(top) = image.top() else { return Ok(0) };
    Ok(store.stack(&top)?.iter().map(|layer| layer.size).sum())
}

/// All images, newest first; only those of `repository` if that is said (with a tag: only that).
pub fn list(store: &Store, only: Option<&Reference>) -> Result<Vec<Row>> {
    let tags = store.tags()?;
    let mut rows = Vec::new();
    for id in store.image_ids()? {
        let image = match store.image(&id) {
            // Removed in this moment.
            Err(error) if error.is_not_found() => continue,
            image => image?,
        };
        let size = match size(store, &image) {
            Err(Error::Store(error)) if error.is_not_found() => {
                match store.image(&id) {
                    Err(error) if error.is_not_found() => continue,
                    again => drop(again?),
                }
                tracing::warn!("image {}: {error}; its size is not known", id.0.short());
                0
            }
            size => size?,
        };
        let names: Vec<Reference> =
            tags.of(&id).iter().filter_map(|tag| Reference::parse(&tag.reference).ok()).collect();
        for (repository, tag, digest) in named(&names, only) {
            rows.push(Row { repository, tag, digest, id, created: image.created, size });
        }
    }
    rows.sort_by(|a, b| {
        b.created
            .cmp(&a.created)
            .then_with(|| (&a.repository, &a.tag, a.id).cmp(&(&b.repository, &b.tag, b.id)))
    });
    Ok(rows)
}

type Names = (Option<String>, Option<String>, Option<String>);

/// A row for each tag; for a repository that has only the digest, one without a tag; for an image without any, one.
fn named(names: &[Reference], only: Option<&Reference>) -> Vec<Names> {
    let mut rows = Vec::new();
    for name in names {
        let fits = only.is_none_or(|only| {
            only.name() == name.name() && (only.tag().is_none() || only.tag() == name.tag())
        });
        let of_same = |other: &&Reference| other.name() == name.name();
        let has_tag = names.iter().filter(of_same).any(|other| other.tag().is_some());
        if !fits || (name.tag().is_none() && has_tag) {
            continue;
        }
        let digest = names.iter().filter(of_same).find_map(|other| other.digest().map(ToString::to_string));
        rows.push((Some(name.familiar_name()), name.tag().map(str::to_owned), digest));
    }
    if names.is_empty() && only.is_none() {
        rows.push((None, None, None));
    }
    rows
}

/// Names an image.
pub fn tag(store: &Store, image: &str, name: &Reference) -> Result<()> {
    let name = name.as_new_name()?;
    let id = find(store, image)?;
    store.tag(&name.familiar_name(), &name.key(), &id)?;
    Ok(())
}

/// What removing did, in order.
#[derive(Debug, Clone, Default)]
pub struct Gone {
    /// Names that were taken away.
    pub untagged: Vec<String>,
    /// The image, if it went.
    pub image: Option<ImageId>,
    /// Stacks whose top layers went with it.
    pub layers: Vec<ChainId>,
}

/// Removes what `word` means, by Docker's rules: a name is taken away, and with its last name the image goes; by its id an
/// image goes with its names if these are one tag at most and all of one repository (else only with `force`).
pub fn remove(store: &Store, word: &str, force: bool, mounter: &dyn Mounter) -> Result<Gone> {
    let id = find(store, word)?;
    let key = Reference::parse(word).ok().map(|name| name.key());
    let names = |tags: &Tags| tags.of(&id).into_iter().map(|tag| tag.reference).collect::<Vec<_>>();
    let by_name = key
        .filter(|key| full_id(word).is_none() && store.tags().is_ok_and(|tags| tags.find(key) == Some(id)));
    // Under the store's lock: nobody names the image or makes a container of it between the decision and the deed.
    let decided = RefCell::new(Removal::Image);
    let may = |image: &Image, tags: &Tags| {
        let removal = decide(&names(tags), by_name.as_deref(), force);
        let whole = matches!(removal, Removal::Image);
        decided.replace(removal);
        if whole {
            store.check_image_unused(image, force)?;
        }
        Ok(whole)
    };
    if let Some(removed) = store.remove_image_if(&id, &may, mounter)? {
        return Ok(Gone { untagged: removed.untagged, image: Some(id), layers: removed.freed.layers });
    }
    match decided.into_inner() {
        Removal::Names(all) => {
            all.iter().try_for_each(|name| store.untag(name).map(drop))?;
            Ok(Gone { untagged: all, ..Gone::default() })
        }
        Removal::Image => Err(Error::no_image(word)),
        Removal::Nothing(all) if all.is_empty() => Err(Error::no_image(word)),
        Removal::Nothing(all) => Err(Error::Refused(format!(
            "unable to delete {} (must be forced) - image is referenced in multiple repositories: {}; remove them by \
             name, or give --force",
            id.0.short(),
            all.join(", ")
        ))),
    }
}

/// What is to be removed.
#[derive(Debug, PartialEq, Eq)]
enum Removal {
    /// The image with all its names.
    Image,
    /// These names; others keep the image.
    Names(Vec<String>),
    /// It has these names, and that is too much; with none: the name that was meant is gone.
    Nothing(Vec<String>),
}

/// What removing the image with these names means: `by_name`, the one that was said, or (`None`) its id (moby
/// `image_delete.go`).
fn decide(names: &[String], by_name: Option<&str>, force: bool) -> Removal {
    match by_name {
        Some(key) if !names.iter().any(|name| name == key) => Removal::Nothing(Vec::new()),
        Some(key) => match rest_after(names, key) {
            rest if rest.is_empty() => Removal::Image,
            rest => Removal::Names(names.iter().filter(|name| !rest.contains(name)).cloned().collect()),
        },
        None if force || is_single(names) => Removal::Image,
        None => Removal::Nothing(names.to_vec()),
    }
}

/// The names that are left after `key` is taken away. With the last tag of a repository its digests go too (moby
/// `image_delete.go`): they are names that nobody gave.
fn rest_after(names: &[String], key: &str) -> Vec<String> {
    let repository = |name: &str| Reference::parse(name).map(|name| name.name()).unwrap_or_default();
    let mut rest: Vec<String> = names.iter().filter(|name| *name != key).cloned().collect();
    let own = repository(key);
    let last_tag = !rest.iter().any(|name| repository(name) == own && !name.contains('@'));
    if last_tag && !key.contains('@') {
        rest.retain(|name| repository(name) != own);
    }
    rest
}

/// Whether it is one tag at most, and all is of one repository.
fn is_single(names: &[String]) -> bool {
    let all: Vec<Reference> = names.iter().filter_map(|name| Reference::parse(name).ok()).collect();
    let tags = all.iter().filter(|name| name.digest().is_none()).count();
    tags < 2 && all.iter().all(|name| name.name() == all[0].name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(names: &[&str]) -> Vec<Reference> {
        names.iter().map(|name| Reference::parse(name).unwrap()).collect()
    }

    #[test]
    fn rows_are_dockers() {
        let at = format!("sha256:{}", "0a".repeat(32));
        let in_a = format!("a@{at}");
        let in_b = format!("b@{at}");
        let names = references(&["a:1", "a:2", &in_a, &in_b, "c:latest"]);
        let told = |only: Option<&str>| {
            let only = only.map(|only| Reference::parse(only).unwrap());
            let show = |(repository, tag, digest): Names| {
                let word = |of: Option<String>| of.unwrap_or_else(|| "-".to_owned());
                format!("{} {} {}", word(repository), word(tag), if digest.is_some() { "d" } else { "-" })
            };
            named(&names, only.as_ref()).into_iter().map(show).collect::<Vec<_>>()
        };
        assert_eq!(told(None), ["a 1 d", "a 2 d", "b - d", "c latest -"]);
        assert_eq!(told(Some("a")), ["a 1 d", "a 2 d"]);
        assert_eq!(told(Some("docker.io/library/a:2")), ["a 2 d"]);
        assert_eq!(named(&[], None).len(), 1);
        assert!(named(&[], Some(&names[0])).is_empty());
    }

    #[test]
    fn the_last_tag_takes_the_digest_with_it() {
        let digest = format!("a@sha256:{}", "0a".repeat(32));
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(rest_after(&names(&["a:1", &digest]), "a:1").is_empty());
        assert_eq!(rest_after(&names(&["a:1", "a:2", &digest]), "a:1"), ["a:2", &digest]);
        assert_eq!(rest_after(&names(&["a:1", "b:1", &digest]), "a:1"), ["b:1"]);
        assert_eq!(rest_after(&names(&["a:1", &digest]), &digest), ["a:1"]);
        let by_id = |all: &[&str], force| decide(&names(all), None, force);
        assert_eq!(by_id(&[], false), Removal::Image);
        assert_eq!(by_id(&["a:1", &digest], false), Removal::Image);
        for several in [&["a:1", "a:2"][..], &["a:1", "b:1"], &["b:1", &digest]] {
            assert_eq!(by_id(several, false), Removal::Nothing(names(several)));
            assert_eq!(by_id(several, true), Removal::Image);
        }
        let by_name = |all: &[&str]| decide(&names(all), Some("a:1"), false);
        assert_eq!(by_name(&["a:1", &digest]), Removal::Image);
        assert_eq!(by_name(&["a:1", "a:2"]), Removal::Names(names(&["a:1"])));
        assert_eq!(by_name(&["a:2"]), Removal::Nothing(Vec::new()));
    }
}
