//! Archives of images: a tar or a directory whose members are read by name, in any order.
//!
//! Nothing is unpacked here: an uncompressed tar is indexed and read in place, so that several layers are read at the same
//! time. Links are followed inside the archive only.

mod directory;
mod docker;
mod oci;
mod range;
mod spool;
mod tarred;

use std::io::Read;

use plyfs_store::Digest;
use plyfs_store::images::Image;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::reference::Reference;

pub(crate) use directory::Directory;
pub(crate) use docker::find_images as docker_images;
pub(crate) use oci::find_images as oci_images;
pub(crate) use range::Range;
pub(crate) use spool::spool;
pub(crate) use tarred::Tarred;

/// Most images of one archive.
const IMAGES_MAX: usize = 4096;
/// Symlinks followed for one name.
const HOPS: usize = 8;

/// What a name leads to.
pub(crate) enum Found {
    /// Contents and how many bytes.
    File(Box<dyn Read + Send>, u64),
    /// A symlink: relative to the directory of its name.
    Symlink(String),
    /// A hard link: another member's name.
    Link(String),
}

/// A tar or a directory.
pub(crate) trait Members: Sync {
    /// The member `name` (clean: no `.`, no `..`, no slash in front) itself.
    fn look(&self, name: &str) -> Result<Option<Found>>;

    /// Whether the member is there, and no directory.
    fn has(&self, name: &str) -> bool;
}

impl dyn Members + '_ {
    /// Opens the contents that `name` leads to, and tells how many bytes they are.
    pub(crate) fn open(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        let missing = || Error::Refused(format!("the archive has no file {name:?}"));
        let mut at = clean("", name).ok_or_else(missing)?;
        for _ in 0..HOPS {
            at = match self.look(&at)?.ok_or_else(missing)? {
                Found::File(contents, size) => return Ok((contents, size)),
                Found::Symlink(to) => {
                    let above = at.rsplit_once('/').map_or("", |(above, _)| above);
                    clean(above, &to)
                        .ok_or_else(|| Error::Refused(format!("{at}: a link out of the archive: refused")))?
                }
                Found::Link(to) => clean("", &to).ok_or_else(missing)?,
            };
        }
        Err(Error::Refused(format!("{name}: too many links in the archive")))
    }

    /// A document: all of it, if it is not larger than the limit for documents.
    pub(crate) fn read(&self, name: &str, limits: &Limits) -> Result<Vec<u8>> {
        let (contents, size) = self.open(name)?;
        if size > limits.manifest_bytes {
            let over = crate::limits::OverLimit::new("manifest_bytes", limits.manifest_bytes);
            return Err(Error::document(name, over));
        }
        let mut bytes = Vec::new();
        let got = contents.take(limits.manifest_bytes).read_to_end(&mut bytes);
        got.map_err(|error| Error::document(name, error))?;
        Ok(bytes)
    }

    /// A document that must hash to `digest`.
    pub(crate) fn read_verified(
        &self,
        name: &str,
        digest: Option<Digest>,
        limits: &Limits,
    ) -> Result<Vec<u8>> {
        let bytes = self.read(name, limits)?;
        match (digest, Digest::of(&bytes)) {
            (Some(wanted), found) if wanted != found => {
                Err(Error::WrongDigest { what: name.to_owned(), wanted, found })
            }
            _ => Ok(bytes),
        }
    }
}

/// `name` relative to `above`, without `.` and `..`; `None` if it leads out, or nowhere.
fn clean(above: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let above = if name.starts_with('/') { "" } else { above };
    for part in above.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

/// Adds up the configs that are kept while an archive is loaded.
struct Kept<'a> {
    limits: &'a Limits,
    bytes: u64,
}

impl Kept<'_> {
    fn new(limits: &Limits) -> Kept<'_> {
        Kept { limits, bytes: 0 }
    }

    fn add(&mut self, image: &Image) -> Result<()> {
        self.bytes += image.raw.len() as u64;
        crate::limits::check(self.bytes, "kept_in_memory", self.limits.kept_in_memory)
            .map_err(|over| Error::document("the archive's configs", over))
    }
}

/// Refuses archives of more than [`IMAGES_MAX`] images.
fn check_count(document: &str, images: usize) -> Result<()> {
    if images > IMAGES_MAX {
        return Err(Error::document(document, format!("it lists more than {IMAGES_MAX} images")));
    }
    Ok(())
}

/// An image in an archive.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its config, checked.
    pub(crate) image: Image,
    /// Its layers, bottom first: member, and what that must hash to if known.
    pub(crate) layers: Vec<(String, Option<Digest>)>,
    /// Its names.
    pub(crate) names: Vec<Reference>,
    /// A tag without a repository.
    pub(crate) lone_tag: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn names_stay_inside() {
        let cases = [
            ("", "a/b", Some("a/b")),
            ("", "./a//b/.", Some("a/b")),
            ("x", "../y/layer.tar", Some("y/layer.tar")),
            ("x/y", "/a", Some("a")),
            ("x", "../../etc/passwd", None),
            ("", "..", None),
            ("", "", None),
            ("x", "..", None),
        ];
        for (above, name, want) in cases {
            assert_eq!(clean(above, name).as_deref(), want, "{above:?} {name:?}");
        }
    }
}
