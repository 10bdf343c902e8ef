//! Extended attributes and ACLs: of the topmost entry only, never merged; reserved ones neither seen nor set.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use plyfs_sys::{Errno, SetXattr};

use crate::attr::{CAPABILITY, Ino, XattrFlags};
use crate::error::{Refusal, Result};
use crate::marks;
use crate::ops::complete::Need;
use crate::union::Union;

impl Union {
    /// The value of one xattr; ENODATA if it is absent.
    pub fn getxattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>> {
        if self.is_hidden(name) {
            return Err(Refusal::NoAttribute.into());
        }
        self.check_offered(name)?;
        let node = self.node(ino)?;
        let capability = name == CAPABILITY;
        if capability && node.lacks_capability() {
            return Err(Refusal::NoAttribute.into());
        }
        if self.lacks_xattr(&node, name) {
            return Err(Refusal::NoAttribute.into());
        }
        let (spot, _) = self.spot(&node)?;
        let value = spot.obj().xattr_strict(name);
        if capability && matches!(&value, Err(e) if e.errno() == Errno::NODATA) {
            node.has_no_capability(true);
        }
        value.map_err(|e| self.stack.branch(spot.branch).blame(e))
    }

    /// Sets one; copies the object up first.
    pub fn setxattr(&self, ino: Ino, name: &OsStr, value: &[u8], flags: XattrFlags) -> Result<()> {
        if self.is_hidden(name) {
            return Err(Refusal::Reserved.into());
        }
        self.check_offered(name)?;
        let how = match (flags.contains(XattrFlags::CREATE), flags.contains(XattrFlags::REPLACE)) {
            (true, false) => SetXattr::Create,
            (false, true) => SetXattr::Replace,
            (false, false) => SetXattr::Any,
            (true, true) => return Err(Refusal::Invalid.into()),
        };
        let node = self.node_to_change(ino, Need::Attributes)?;
        let (spot, _) = self.spot(&node)?;
        let set = spot.obj().set_xattr(name, value, how);
        if name == CAPABILITY {
            // After it, so that who looked in between does not have the last word.
            node.has_no_capability(false);
        }
        set.map_err(|e| self.stack.branch(spot.branch).blame(e))
    }

    /// Names, each ended by NUL.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        if self.noxattrs {
            return Err(Refusal::Unsupported.into());
        }
        let node = self.node(ino)?;
        if self.has_no_xattrs(&node) {
            return Ok(Vec::new());
        }
        let (spot, _) = self.spot(&node)?;
        let names = spot.obj().xattr_names().map_err(|e| self.stack.branch(spot.branch).blame(e))?;
        let mut list = Vec::new();
        for name in names.iter().filter(|name| !self.is_hidden(OsStr::from_bytes(name))) {
            list.extend_from_slice(name);
            list.push(0);
        }
        Ok(list)
    }

    /// Removes one; ENODATA if it is absent.
    pub fn removexattr(&self, ino: Ino, name: &OsStr) -> Result<()> {
        if self.is_hidden(name) {
            return Err(Refusal::NoAttribute.into());
        }
        self.check_offered(name)?;
        let node = self.node(ino)?;
        // Absent: nothing to copy up for. An ACL may be removed that is not there (acl(5)).
        let (spot, _) = self.spot(&node)?;
        match spot.obj().xattr_strict(name) {
            Err(e) if e.errno() == Errno::NODATA && name.as_bytes().starts_with(b"system.posix_acl_") => {
                return Ok(());
            }
            found => found.map(drop).map_err(|e| self.stack.branch(spot.branch).blame(e))?,
        }
        let node = self.node_to_change(ino, Need::Attributes)?;
        let (spot, _) = self.spot(&node)?;
        spot.obj().remove_xattr(name).map_err(|e| self.stack.branch(spot.branch).blame(e))
    }

    fn is_hidden(&self, name: &OsStr) -> bool {
        marks::is_hidden_xattr(name.as_bytes()) || self.overrides.is(name.as_bytes())
    }

    fn check_offered(&self, name: &OsStr) -> Result<()> {
        let acl = name.as_bytes().starts_with(b"system.posix_acl_");
        if self.noxattrs || acl && self.noacl { Err(Refusal::Unsupported.into()) } else { Ok(()) }
    }
}
