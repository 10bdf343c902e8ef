//! `/run/plyfs/si_<id>/`: what AUFS shows in `/sys/fs/aufs` (aufs.5, "SYSFS"), one directory for each mount, plus
//! `mount.json` for plyfs' own commands.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use plyfs_sys::mounts::MountInfo;
use plyfs_sys::process;
use plyfs_union::BranchInfo;
use plyfs_union::spec::{self, MountSpec, SpecError, Unknown};
use serde::{Deserialize, Serialize};

/// Where root's mounts are written down.
const SYSTEM: &str = "/run/plyfs";
const PREFIX: &str = "si_";
const RECORD: &str = "mount.json";

/// `mount.json`. Texts that may hold any byte are escaped as mountinfo does ([`escape`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Of this file's form.
    pub(crate) version: u32,
    /// The server.
    pub(crate) pid: u32,
    /// Its start in clock ticks, so that a pid used again is not taken for it.
    pub(crate) pid_start: u64,
    /// Seconds since the epoch.
    pub(crate) started: u64,
    /// Escaped.
    mount_point: String,
    /// `major:minor` of the mounted filesystem.
    pub(crate) device: String,
    /// Escaped.
    source: String,
    /// Escaped.
    options: String,
    /// The kernel reads and writes branch files by itself, where their filesystem lets it; `None` in a record of before
    /// this was written down.
    pub(crate) passthrough: Option<bool>,
    /// Top first.
    branches: Vec<BranchRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BranchRecord {
    path: String,
    perm: String,
    id: u32,
}

impl Record {
    /// A record of this process serving `mount_point`.
    pub(crate) fn new(
        mount: &MountInfo,
        spec: &MountSpec,
        branches: &[BranchInfo],
        passthrough: bool,
    ) -> Record {
        let pid = std::process::id();
        let branch = |b: &BranchInfo| BranchRecord {
            path: escape(b.path.as_os_str().as_bytes()),
            perm: b.perm.clone(),
            id: b.id,
        };
        Record {
            version: 1,
            pid,
            pid_start: process::start_time(pid).unwrap_or_default(),
            started: now(),
            mount_point: escape(mount.mount_point.as_os_str().as_bytes()),
            device: device(mount),
            source: escape(mount.source.as_bytes()),
            options: escape(absolute(spec, branches).options().as_bytes()),
            passthrough: Some(passthrough),
            branches: branches.iter().map(branch).collect(),
        }
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        unescape(&self.mount_point).into()
    }

    /// The mount's options as they were at its beginning, with absolute paths.
    pub(crate) fn spec(&self) -> Result<MountSpec, SpecError> {
        spec::parse(&[&unescape(&self.options)], Unknown::Warn).map(|parsed| parsed.spec)
    }

    pub(crate) fn branches(&self) -> Vec<BranchInfo> {
        let branch =
            |b: &BranchRecord| BranchInfo { path: unescape(&b.path).into(), perm: b.perm.clone(), id: b.id };
        self.branches.iter().map(branch).collect()
    }

    /// Whether the server still runs.
    pub(crate) fn is_alive(&self) -> bool {
        process::start_time(self.pid) == Some(self.pid_start)
    }

    /// Whether this is the record of `mount`.
    pub(crate) fn is_of(&self, mount: &MountInfo) -> bool {
        self.device == device(mount)
    }
}

/// `spec` as it can be said anywhere: paths as the server resolved them.
fn absolute(spec: &MountSpec, branches: &[BranchInfo]) -> MountSpec {
    let mut spec = spec.clone();
    let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for at in 0..spec.branches.len() {
        let given = full(&spec.branches[at].path);
        let resolved = branches.get(at).map_or(&given, |opened| &opened.path);
        // Two names of one directory are two branches only as long as they differ.
        let taken = spec.branches[..at].iter().any(|above| above.path == *resolved);
        spec.branches[at].path = if taken { given } else { resolved.clone() };
    }
    spec.workdir = spec.workdir.map(|path| full(&path));
    spec.image_index = spec.image_index.map(|path| full(&path));
    // The empty one is `noxino`.
    for path in spec.xino.iter_mut().filter(|path| !path.is_empty()) {
        *path = full(Path::new(path)).into_os_string();
    }
    spec
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

fn device(mount: &MountInfo) -> String {
    format!("{}:{}", mount.dev.0, mount.dev.1)
}

/// A record found, and the directory it lies in.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// `.../si_<id>`
    pub(crate) dir: PathBuf,
    /// What `mount.json` says.
    pub(crate) record: Record,
}

impl Found {
    /// `<id>` of `si_<id>`.
    pub(crate) fn id(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(PREFIX).unwrap_or_default().to_owned()
    }
}

/// Every directory in which mounts may be written down, for reading.
fn homes() -> Vec<PathBuf> {
    let mut homes = vec![PathBuf::from(SYSTEM)];
    homes.extend(own_homes());
    homes
}

/// Those of this user.
fn own_homes() -> Vec<PathBuf> {
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let mut homes: Vec<PathBuf> = xdg.map(|dir| dir.join("plyfs")).into_iter().collect();
    homes.push(PathBuf::from(format!("/tmp/plyfs-{}", crate::rootless::user_outside())));
    homes
}

/// The first directory that this user may write in, made if it is missing.
pub(crate) fn home() -> anyhow::Result<PathBuf> {
    let mut places = Vec::new();
    if plyfs_sys::cred::effective_uid() == 0 {
        places.push((PathBuf::from(SYSTEM), 0o755));
    }
    places.extend(own_homes().into_iter().map(|home| (home, 0o700)));
    let mut refusal = None;
    for (place, mode) in places {
        match make_home(&place, mode) {
            Ok(()) => return Ok(place),
            Err(error) => refusal = Some(anyhow::Error::new(error).context(format!("{}", place.display()))),
        }
    }
    Err(refusal.unwrap_or_else(|| anyhow::anyhow!("no place")))
}

fn make_home(place: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // In /tmp anybody could have made it first.
    let meta = fs::symlink_metadata(place)?;
    if !meta.is_dir() || meta.uid() != plyfs_sys::cred::effective_uid() {
        return Err(io::Error::other("belongs to somebody else"));
    }
    if process::may_write(place) { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// One mount's directory; it goes away with this value.
#[derive(Debug)]
pub(crate) struct Registered {
    dir: PathBuf,
}

impl Registered {
    /// Writes everything down under a random id. Readers see the whole directory or none.
    pub(crate) fn write(home: &Path, record: &Record, xino: Option<&OsStr>) -> anyhow::Result<Registered> {
        let id = random_id().context("reading /dev/urandom")?;
        let fresh = home.join(format!(".new_{id:x}"));
        let dir = home.join(format!("{PREFIX}{id:x}"));
        // Modes are said in full: a server's umask is 0.
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&fresh)
            .with_context(|| format!("making {}", fresh.display()))?;
        let written = write_files(&fresh, record, xino).and_then(|()| fs::rename(&fresh, &dir));
        if let Err(error) = written {
            // The error that matters is the first one.
            drop(fs::remove_dir_all(&fresh));
            return Err(error).with_context(|| format!("writing {}", dir.display()));
        }
        Ok(Registered { dir })
    }

    /// The file that takes log lines once we are in the background.
    pub(crate) fn log_file(&self) -> io::Result<File> {
        File::options().create(true).append(true).mode(0o600).open(self.dir.join("log"))
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// Removes a mount's directory.
pub(crate) fn remove(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("removing {}: {error}", dir.display());
        }
        _ => {}
    }
}

fn random_id() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn write_files(dir: &Path, record: &Record, xino: Option<&OsStr>) -> io::Result<()> {
    for (name, text) in files(&record.branches(), xino) {
        put(&dir.join(name), &text)?;
    }
    put(&dir.join(RECORD), &serde_json::to_vec_pretty(record)?)
}

fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    // Servers have umask 0. One call less for each of two files per branch.
    fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?.write_all(text)
}

/// AUFS's files: name, content.
fn files(branches: &[BranchInfo], xino: Option<&OsStr>) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for (at, branch) in branches.iter().enumerate() {
        let path = escape(branch.path.as_os_str().as_bytes());
        files.push((format!("br{at}"), format!("{path}={}\n", branch.perm).into_bytes()));
        files.push((format!("brid{at}"), format!("{}\n", branch.id).into_bytes()));
    }
    files.push(("xi_path".to_owned(), xi_path(branches, xino)));
    files
}

/// The inode number table that AUFS would have: its default place, `xino=PATH`, or nothing for `noxino`.
fn xi_path(branches: &[BranchInfo], xino: Option<&OsStr>) -> Vec<u8> {
    let path = match xino {
        Some(none) if none.is_empty() => return Vec::new(),
        Some(given) => given.to_owned(),
        None => {
            let writable = branches.iter().find(|branch| branch.perm.starts_with("rw"));
            writable.map_or(Path::new("/tmp"), |branch| &branch.path).join(".aufs.xino").into_os_string()
        }
    };
    format!("{}\n", escape(path.as_bytes())).into_bytes()
}

/// Bytes 0x01 to 0x20, backslash, 0x7f, and what is no UTF-8, as a backslash and three octal digits.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match u8::try_from(c) {
                Ok(byte @ (..=0x20 | b'\\' | 0x7f)) => text.push_str(&format!("\\{byte:03o}")),
                _ => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\{byte:03o}"));
        }
    }
    text
}

/// Undoes [`escape`].
pub(crate) fn unescape(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| first == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// Every record that can be read, whoever made it.
pub(crate) fn all() -> Vec<Found> {
    homes().iter().flat_map(|home| in_home(home)).collect()
}

fn in_home(home: &Path) -> Vec<Found> {
    // No such directory: nobody has mounted anything yet.
    let Ok(entries) = fs::read_dir(home) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let dir = entry.path();
        let record = fs::read(dir.join(RECORD)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(record) = record {
            found.push(Found { dir, record });
        }
    }
    found.sort_by_key(|found| (found.record.started, found.dir.clone()));
    found
}

/// Removes the directories of mounts that are gone with their servers.
pub(crate) fn sweep(mounts: &[MountInfo]) {
    for Found { dir, record } in all() {
        // A server without a mount here may serve one of another mount namespace; a mount without a server is
        // broken, and `status` is to tell so: only when both are gone nobody needs the directory.
        let mounted =
            mounts.iter().any(|mount| record.is_of(mount) && mount.mount_point == record.mount_point());
        if !mounted && !record.is_alive() && dir.parent().is_some_and(process::may_write) {
            remove(&dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(path: &str, perm: &str, id: u32) -> BranchInfo {
        BranchInfo { path: path.into(), perm: perm.to_owned(), id }
    }

    fn text(files: &[(String, Vec<u8>)], name: &str) -> String {
        let (_, text) = files.iter().find(|(n, _)| n == name).unwrap();
        String::from_utf8(text.clone()).unwrap()
    }

    #[test]
    fn the_files_read_as_in_sysfs() {
        let branches = [branch("/x/container layer", "rw", 64), branch("/x/image\\4", "ro+wh", 65)];
        let files = files(&branches, None);
        assert_eq!(text(&files, "br0"), "/x/container\\040layer=rw\n");
        assert_eq!(text(&files, "br1"), "/x/image\\1344=ro+wh\n");
        assert_eq!((text(&files, "brid0"), text(&files, "brid1")), ("64\n".into(), "65\n".into()));
        assert_eq!(text(&files, "xi_path"), "/x/container\\040layer/.aufs.xino\n");
    }

    #[test]
    fn xino_as_asked() {
        let branches = [branch("/lower", "ro", 64)];
        assert_eq!(xi_path(&branches, None), b"/tmp/.aufs.xino\n");
        assert_eq!(xi_path(&branches, Some(OsStr::new(""))), b"");
        assert_eq!(xi_path(&branches, Some(OsStr::new("/tmp/x"))), b"/tmp/x\n");
    }

    #[test]
    fn any_bytes_survive_escaping() {
        let all: Vec<u8> = (1..=255).collect();
        assert_eq!(unescape(&escape(&all)).as_bytes(), all);
        assert_eq!(unescape("\\9\\04"), "\\9\\04");
    }

    fn info(point: &Path) -> MountInfo {
        MountInfo {
            id: 1,
            parent: 0,
            dev: (0, 57),
            root: "/".into(),
            mount_point: point.into(),
            options: "rw".into(),
            fs_type: "fuse.aufs".into(),
            source: "none".into(),
            super_options: "rw".into(),
        }
    }

    #[test]
    fn a_record_is_written_read_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let mount = info(Path::new(OsStr::from_bytes(b"/m \xff")));
        let spec =
            spec::parse(&[OsStr::new("br:a=rw,xino=x,noatime,image_index=i")], Unknown::Refuse).unwrap().spec;
        let record = Record::new(&mount, &spec, &[branch("/a", "rw", 64)], true);
        let registered = Registered::write(home.path(), &record, None).unwrap();
        let found = in_home(home.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].record, record);
        assert!(found[0].record.is_alive() && found[0].record.is_of(&mount));
        assert_eq!(found[0].record.mount_point(), mount.mount_point);
        let xino = std::env::current_dir().unwrap().join("x");
        let want = format!(
            "br:/a=rw,noatime,xino={},image_index={}",
            xino.display(),
            xino.with_file_name("i").display()
        );
        assert_eq!(found[0].record.spec().unwrap().options(), *want);
        assert!(u64::from_str_radix(&found[0].id(), 16).is_ok());
        let mode = fs::metadata(found[0].dir.join("br0")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o444);
        drop(registered);
        assert!(in_home(home.path()).is_empty());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
