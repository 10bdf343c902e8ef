//! Names of entries: from bytes in an archive to a path inside the layer and its meaning there. Pure.

use plyfs_sys::Leaf;
use plyfs_union::layer::{LayerWord, layer_word};

use super::error::{Error, Result};
use crate::limits::{self, Limits};

/// A path inside the layer: components joined by `/`, none of them empty, `.` or `..`; the root is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside(Vec<u8>);

impl Inside {
    /// Leading and trailing slashes and `.` go; `..` and NUL are refused.
    pub(crate) fn new(name: &[u8], limits: &Limits) -> Result<Inside> {
        let mut path = Vec::with_capacity(name.len());
        let mut depth = 0;
        for part in name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            if part == b".." {
                return Err(Error::refused(name, "`..` in a name"));
            }
            if part.contains(&0) {
                return Err(Error::refused(name, "NUL in a name"));
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
            depth += 1;
        }
        limits::check(depth, "depth", limits.depth as u64 + 1).map_err(Error::limit(name))?;
        Ok(Inside(path))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory and the name in it; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&[u8], Leaf)> {
        let (above, last) = match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&self.0[..0], &self.0[..]),
        };
        Leaf::from_bytes(last).map(|leaf| (above, leaf))
    }

    /// What the path means in a layer.
    pub(crate) fn meaning(&self) -> Result<Meaning> {
        let Some((above, leaf)) = self.split() else { return Ok(Meaning::Root) };
        for part in above.split(|&byte| byte == b'/') {
            match Leaf::from_bytes(part).map_or(LayerWord::Plain, |part| layer_word(&part)) {
                LayerWord::Plain => {}
                LayerWord::Plinks if part.len() == above.len() => return Ok(Meaning::Plink(leaf)),
                LayerWord::Whiteout(_) | LayerWord::Bad | LayerWord::Opaque => {
                    return Err(Error::refused(&self.0, "an entry below a whiteout"));
                }
                LayerWord::Plinks | LayerWord::LongWhiteout | LayerWord::Private => {
                    return Ok(Meaning::Private);
                }
            }
        }
        Ok(match layer_word(&leaf) {
            LayerWord::Plain => Meaning::Plain(leaf),
            LayerWord::Whiteout(hidden) => Meaning::Whiteout(hidden),
            LayerWord::Opaque => Meaning::Opaque(leaf),
            LayerWord::Plinks | LayerWord::LongWhiteout | LayerWord::Private => Meaning::Private,
            LayerWord::Bad => {
                return Err(Error::refused(&self.0, "a whiteout of no name, of `.` or of `..`"));
            }
        })
    }
}

/// See [`Inside::meaning`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    Root,
    Plain(Leaf),
    /// The name that is gone.
    Whiteout(Leaf),
    Opaque(Leaf),
    /// A source of hard links, `.wh..wh.plnk/NAME`.
    Plink(Leaf),
    /// Nothing of a layer.
    Private,
}

/// `above/leaf`, where `above` may be the root.
pub(crate) fn joined(above: &[u8], leaf: &Leaf) -> Vec<u8> {
    if above.is_empty() { leaf.as_bytes().to_vec() } else { [above, b"/", leaf.as_bytes()].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(name: &str) -> std::result::Result<Meaning, String> {
        let inside = Inside::new(name.as_bytes(), &Limits::default()).map_err(|e| e.to_string())?;
        inside.meaning().map_err(|e| e.to_string())
    }

    #[test]
    fn names_are_made_clean() {
        let check = |name: &str, want: &str| {
            let inside = Inside::new(name.as_bytes(), &Limits::default()).unwrap();
            assert_eq!(inside.as_bytes(), want.as_bytes(), "{name}");
        };
        check("a", "a");
        check("/a/b", "a/b");
        check("./a//b/./c/", "a/b/c");
        check("a/", "a");
        check("...", "...");
        for root in ["", "/", "./", ".", "//./"] {
            check(root, "");
        }
        for bad in ["..", "../a", "a/..", "a/../b", "/..", "a\0b"] {
            assert!(Inside::new(bad.as_bytes(), &Limits::default()).is_err(), "{bad:?}");
        }
        let deep = vec!["d"; 257].join("/");
        assert!(Inside::new(deep.as_bytes(), &Limits::default()).is_ok());
        assert!(Inside::new(format!("{deep}/d").as_bytes(), &Limits::default()).is_err());
    }

    #[test]
    fn meanings() {
        let leaf = |name: &str| Leaf::from_bytes(name.as_bytes()).unwrap();
        assert_eq!(meaning("./"), Ok(Meaning::Root));
        assert_eq!(meaning("a/b"), Ok(Meaning::Plain(leaf("b"))));
        assert_eq!(meaning("a/.wh.b"), Ok(Meaning::Whiteout(leaf("b"))));
        assert_eq!(meaning("a/.wh..wh..opq"), Ok(Meaning::Opaque(leaf(".wh..wh..opq"))));
        assert_eq!(meaning(".wh..wh.plnk/1.2"), Ok(Meaning::Plink(leaf("1.2"))));
        for private in [
            ".wh..wh.plnk",
            ".wh..wh.aufs",
            "a/.wh..wh.plnk/x",
            ".wh..wh.plnk/x/y",
            ".wh..wh.orph/x",
            ".wh..wh..long.1",
        ] {
            assert_eq!(meaning(private), Ok(Meaning::Private), "{private}");
        }
        for bad in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b", ".wh.../b", ".wh..wh..opq/b"] {
            assert!(meaning(bad).is_err(), "{bad}");
        }
    }
}
