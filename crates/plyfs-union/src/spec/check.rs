//! What can be told about a spec without asking any filesystem.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use super::error::show;
use super::policy::MAX_SECONDS;
use super::{Grammar, IdRange, MountSpec, Perm, SpecError};

/// The most branches of one mount: what container engines allow themselves.
pub const MAX_BRANCHES: usize = 500;

impl MountSpec {
    /// Refuses what could never be mounted: no branch or too many, a branch twice, figures out of range.
    ///
    /// [`super::parse()`] has done this already; it is for specs made by code.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_branches()?;
        if self.create.seconds().is_some_and(|sec| sec > MAX_SECONDS) {
            return Err(bad("create", &self.create.text(), "SEC is 0 to 3600"));
        }
        if self.xattr_permissions > 2 {
            return Err(bad("xattr_permissions", &self.xattr_permissions.to_string(), XATTR_PERMISSIONS));
        }
        check_map("uidmapping", &self.uid_map)?;
        check_map("gidmapping", &self.gid_map)
    }

    fn check_branches(&self) -> Result<(), SpecError> {
        if self.branches.len() > MAX_BRANCHES {
            return Err(SpecError::TooManyBranches { count: self.branches.len() });
        }
        let mut seen = HashSet::new();
        for branch in &self.branches {
            let path = branch.path.as_os_str().as_bytes();
            if path.is_empty() {
                return Err(bad("branch", "", "a directory"));
            }
            if path.contains(&0) {
                return Err(SpecError::Nul { text: show(path) });
            }
            if !seen.insert(&branch.path) {
                return Err(SpecError::BranchTwice { path: show(path) });
            }
        }
        match &self.branches[..] {
            [] => Err(SpecError::NoBranches),
            [lone] if self.grammar == Grammar::Overlay && lone.perm == Perm::Rw => {
                Err(SpecError::UpperWithoutLower { upper: show(lone.path.as_os_str().as_bytes()) })
            }
            _ => Ok(()),
        }
    }
}

/// What is right for `xattr_permissions=`.
pub(super) const XATTR_PERMISSIONS: &str = "0 (off), 1 (privileged) or 2 (user)";

/// What is right for `uidmapping=` and `gidmapping=`.
pub(super) const MAPPING: &str =
    "INSIDE:OUTSIDE:COUNT[:INSIDE:OUTSIDE:COUNT...], COUNT at least 1, every id below 4294967295";

fn check_map(option: &str, map: &[IdRange]) -> Result<(), SpecError> {
    // 4294967295 is no id: it is the -1 that means "leave as it is" to chown(2).
    let fits = |first: u32, count: u32| first.checked_add(count).is_some();
    for range in map {
        if range.count == 0 || !fits(range.inside, range.count) || !fits(range.outside, range.count) {
            let text = format!("{}:{}:{}", range.inside, range.outside, range.count);
            return Err(bad(option, &text, MAPPING));
        }
    }
    Ok(())
}

fn bad(option: &str, text: &str, want: &str) -> SpecError {
    SpecError::BadValue { option: option.to_owned(), text: text.to_owned(), want: want.to_owned() }
}
