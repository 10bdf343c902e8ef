//! `Leaf`: one component of a path on disk. No `/`, no NUL, not empty, not `.` or `..`.
//!
//! Not here: which leaves users may see (that is a rule of the union).

use std::borrow::Borrow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// One on-disk name. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leaf(Arc<OsStr>);

impl Leaf {
    /// `None` for what can't be one component: empty, `.`, `..`, or with `/` or NUL. Length is not judged here.
    pub fn new(name: &OsStr) -> Option<Leaf> {
        let bytes = name.as_bytes();
        let single = !bytes.is_empty() && bytes != b"." && bytes != b"..";
        (single && !bytes.iter().any(|&b| b == b'/' || b == 0)).then(|| Leaf(name.into()))
    }

    /// From bytes; rules of [`Leaf::new`].
    pub fn from_bytes(name: &[u8]) -> Option<Leaf> {
        Leaf::new(OsStr::from_bytes(name))
    }

    /// The name.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// An owned copy for the outside.
    pub fn to_os_string(&self) -> OsString {
        self.0.to_os_string()
    }
}

impl Borrow<OsStr> for Leaf {
    fn borrow(&self) -> &OsStr {
        &self.0
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_components_are_leaves() {
        for good in ["a", ".a", "...", "a b", ".wh.x"] {
            assert!(Leaf::new(OsStr::new(good)).is_some(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "/", "a\0"] {
            assert!(Leaf::new(OsStr::new(bad)).is_none(), "{bad:?}");
        }
    }
}
