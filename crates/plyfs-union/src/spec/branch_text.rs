//! A branch as AUFS shows it in sysfs (`/sys/fs/aufs/si_*/br0`) and /proc/mounts.
//!
//! Here lives: permission with attributes in AUFS's fixed order, the octal escapes of the path. Not here: the option
//! text ([`super::MountSpec::options`]), which escapes differently.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{BranchAttr, BranchSpec, Perm};

const ICEX: [(BranchAttr, &str); 5] = [
    (BranchAttr::IcexSec, "icexsec"),
    (BranchAttr::IcexSys, "icexsys"),
    (BranchAttr::IcexTr, "icextr"),
    (BranchAttr::IcexUsr, "icexusr"),
    (BranchAttr::IcexOth, "icexoth"),
];

impl BranchSpec {
    /// Permission and attributes in AUFS's words and fixed order: `rw+coo_reg+nolwh`.
    pub fn perm_text(&self) -> String {
        let perm = match self.perm {
            Perm::Rw => "rw",
            Perm::Ro => "ro",
            Perm::Rr => "rr",
        };
        let has = |attr: BranchAttr| self.other.contains(&attr);
        let mut words = vec![perm];
        let mut push = |yes: bool, word: &'static str| {
            if yes {
                words.push(word);
            }
        };
        push(has(BranchAttr::CooReg), "coo_reg");
        push(has(BranchAttr::CooAll), "coo_all");
        push(has(BranchAttr::Unpin), "unpin");
        push(has(BranchAttr::Fhsm), "fhsm");
        if ICEX.iter().all(|(attr, _)| has(*attr)) {
            push(true, "icex");
        } else {
            ICEX.iter().for_each(|(attr, word)| push(has(*attr), word));
        }
        push(self.wh, "wh");
        push(has(BranchAttr::Moo), "moo");
        push(self.nolwh, "nolwh");
        words.join("+")
    }
}

/// The line of a `br0` file without its newline: `path` (as resolved, which `branch.path` need not be) with the bytes
/// 0x01 to 0x20, backslash and 0x7f in octal, `=`, permission and attributes.
pub fn branch_text(path: &Path, branch: &BranchSpec) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            0x01..=0x20 | b'\\' | 0x7f => text.extend(format!("\\{byte:03o}").bytes()),
            _ => text.push(*byte),
        }
    }
    text.push(b'=');
    text.extend(branch.perm_text().bytes());
    text
}
