//! A [`MountSpec`] back to an options text, in the grammar it has.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::aufs::default_perm;
use super::common::{VALUE_SPECIAL, list_special};
use super::split::escape_into;
use super::{
    Atime, BranchSpec, CopyupPolicy, CreatePolicy, Grammar, IdRange, KernelFlags, MountSpec, Perm,
    Readdirplus, Seconds, Speed, Udba,
};

impl MountSpec {
    /// The whole options text: branches, flags, options other than their defaults, inert options as given. What
    /// [`super::parse()`] accepted comes back equal from its own text.
    ///
    /// overlay's grammar has fewer words for a branch than [`BranchSpec`] has fields: a `rw` branch on top is
    /// `upperdir`, every other branch a `lowerdir`, and attributes are not printed.
    pub fn options(&self) -> OsString {
        let mut list = List { text: Vec::new() };
        match self.grammar {
            Grammar::Aufs => self.print_aufs_branches(&mut list),
            Grammar::Overlay => self.print_overlay_branches(&mut list),
        }
        self.kernel.print(&mut list);
        self.print_aufs_options(&mut list);
        self.print_other_options(&mut list);
        for word in &self.inert {
            list.word(word.as_bytes());
        }
        OsString::from_vec(list.text)
    }

    fn print_aufs_branches(&self, list: &mut List) {
        let mut text = b"br:".to_vec();
        for (index, branch) in self.branches.iter().enumerate() {
            if index > 0 {
                text.push(b':');
            }
            escape_into(&mut text, branch.path.as_os_str().as_bytes(), list_special(Grammar::Aufs));
            if needs_perm(branch, default_perm(index == 0, self.kernel.read_only)) {
                text.push(b'=');
                text.extend(branch.perm_text().bytes());
            }
        }
        list.word(&text);
    }

    fn print_overlay_branches(&self, list: &mut List) {
        let (upper, lower) = match self.branches.split_first() {
            Some((top, rest)) if top.perm == Perm::Rw => (Some(top), rest),
            _ => (None, &self.branches[..]),
        };
        let mut text = b"lowerdir=".to_vec();
        for (index, branch) in lower.iter().enumerate() {
            if index > 0 {
                text.push(b':');
            }
            escape_into(&mut text, branch.path.as_os_str().as_bytes(), list_special(Grammar::Overlay));
        }
        list.word(&text);
        list.path("upperdir", upper.map(|branch| branch.path.as_path()));
        list.path("workdir", self.workdir.as_deref());
    }

    /// In the order of AUFS's own /proc/mounts.
    fn print_aufs_options(&self, list: &mut List) {
        list.flag(self.noacl, "noacl");
        match &self.xino {
            Some(path) if path.is_empty() => list.flag(true, "noxino"),
            // In the other grammar `xino=` means something else, and is inert.
            Some(path) if self.grammar == Grammar::Aufs => list.path("xino", Some(Path::new(path))),
            _ => {}
        }
        list.value(self.udba != Udba::default(), "udba", self.udba.text());
        list.flag(self.noplink, "noplink");
        list.value(self.create != CreatePolicy::default(), "create", &self.create.text());
        list.value(self.copyup != CopyupPolicy::default(), "cpup", self.copyup.text());
        list.value(self.diropq_always, "diropq", "a");
        list.flag(self.sum, "sum");
    }

    fn print_other_options(&self, list: &mut List) {
        list.flag(self.strict, "strict");
        list.flag(self.volatile, "volatile");
        list.flag(self.noxattrs, "noxattrs");
        list.value(!self.uid_map.is_empty(), "uidmapping", &map_text(&self.uid_map));
        list.value(!self.gid_map.is_empty(), "gidmapping", &map_text(&self.gid_map));
        list.flag(self.squash.root, "squash_to_root");
        list.number("squash_to_uid", self.squash.uid);
        list.number("squash_to_gid", self.squash.gid);
        let level = u32::from(self.xattr_permissions);
        list.number("xattr_permissions", Some(level).filter(|level| *level != 0));
        if let Some(timeout) = self.timeout {
            list.value(true, "timeout", &timeout.to_string());
        }
        self.speed.print(list);
        list.path("image_index", self.image_index.as_deref());
        list.path("fsname", self.source.as_deref().map(Path::new));
    }
}

impl Speed {
    fn print(&self, list: &mut List) {
        list.either(self.passthrough, "passthrough", "nopassthrough");
        list.value(self.readdirplus != Readdirplus::default(), "readdirplus", self.readdirplus.text());
        list.flag(self.no_dir_cache, "nodircache");
        list.flag(self.birth_times, "btime");
        list.flag(self.io_uring, "io_uring");
        list.value(
            self.metacopy.is_some(),
            "metacopy",
            if self.metacopy == Some(true) { "on" } else { "off" },
        );
        list.number("max_threads", self.max_threads);
    }
}

impl KernelFlags {
    fn print(&self, list: &mut List) {
        list.flag(self.read_only, "ro");
        list.either(self.nosuid, "nosuid", "suid");
        list.either(self.nodev, "nodev", "dev");
        list.flag(self.noexec, "noexec");
        list.flag(self.sync, "sync");
        list.flag(self.dirsync, "dirsync");
        match self.atime {
            Atime::Unsaid => {}
            Atime::Noatime => list.flag(true, "noatime"),
            Atime::Relatime => list.flag(true, "relatime"),
            Atime::Strictatime => list.flag(true, "strictatime"),
        }
        list.either(self.allow_other, "allow_other", "noallow_other");
        list.flag(self.allow_root, "allow_root");
        list.number("max_write", self.max_write);
    }
}

/// Whether the branch must say its permission to get it.
fn needs_perm(branch: &BranchSpec, default: Perm) -> bool {
    branch.perm_said || branch.perm != default || branch.wh || branch.nolwh || !branch.other.is_empty()
}

fn map_text(map: &[IdRange]) -> String {
    let triples: Vec<String> =
        map.iter().map(|r| format!("{}:{}:{}", r.inside, r.outside, r.count)).collect();
    triples.join(":")
}

impl std::fmt::Display for Seconds {
    /// Decimal seconds, without zeros at the end: `5`, `0.25`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Options joined by commas.
struct List {
    text: Vec<u8>,
}

impl List {
    fn word(&mut self, word: &[u8]) {
        if !self.text.is_empty() {
            self.text.push(b',');
        }
        self.text.extend(word);
    }

    fn flag(&mut self, yes: bool, word: &str) {
        if yes {
            self.word(word.as_bytes());
        }
    }

    fn either(&mut self, what: Option<bool>, yes: &str, no: &str) {
        self.flag(what == Some(true), yes);
        self.flag(what == Some(false), no);
    }

    fn value(&mut self, yes: bool, name: &str, value: &str) {
        if yes {
            self.word(format!("{name}={value}").as_bytes());
        }
    }

    fn number(&mut self, name: &str, number: Option<u32>) {
        if let Some(number) = number {
            self.value(true, name, &number.to_string());
        }
    }

    fn path(&mut self, name: &str, path: Option<&Path>) {
        if let Some(path) = path {
            let mut text = format!("{name}=").into_bytes();
            escape_into(&mut text, path.as_os_str().as_bytes(), VALUE_SPECIAL);
            self.word(&text);
        }
    }
}
