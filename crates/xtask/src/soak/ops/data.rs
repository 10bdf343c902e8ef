//! Operations that make files and change their data.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::super::client::Client;
use super::super::content::{Content, pattern};
use super::super::model::{Kind, Object, now, parent};
use super::names;

/// Names that a subtree may have.
const CROWD: usize = 160;
/// Files do not grow beyond.
const BIGGEST: u64 = 24 << 20;

/// A length: mostly short.
fn length(client: &mut Client) -> u64 {
    match client.dice.below(12) {
        0 => client.dice.below(512 << 10),
        1..=3 => client.dice.below(80 << 10),
        _ => client.dice.below(6 << 10),
    }
}

pub(super) fn create(client: &mut Client) -> Result<()> {
    if client.model.names.len() > CROWD {
        return names::unlink(client);
    }
    let name = client.fresh();
    let (len, seed) = (length(client), client.dice.next() | 1);
    client.note(format!("create {name} of {len}"));
    let path = client.path(&name);
    let before = now();
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("creating {}", path.display()))?;
    file.write_all(&pattern(seed, 0, len)).with_context(|| format!("writing {}", path.display()))?;
    let mut object = Object::new(Kind::File(Content::of(seed, len)));
    object.written(before);
    client.model.add(name.clone(), object);
    client.check_stat(&name)
}

/// Changes the data of a file in the union, and then in the model.
fn change(client: &mut Client, name: &str, at: u64, len: u64, append: bool) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    let path = client.path(name);
    let seed = client.dice.next() | 1;
    let before = now();
    let open = File::options().write(true).append(append).open(&path);
    let mut file = open.with_context(|| format!("opening {} for writing", path.display()))?;
    let bytes = pattern(seed, at, len);
    let written = if append { file.write_all(&bytes) } else { file.write_all_at(&bytes, at) };
    written.with_context(|| format!("writing {} at {at}", path.display()))?;
    if client.chance(50) {
        file.sync_data().with_context(|| format!("syncing {}", path.display()))?;
    }
    drop(file);
    wrote(client, client.id(name)?, at, len, seed, before);
    client.check_stat(name)
}

/// Tells the model.
pub(super) fn wrote(client: &mut Client, id: u64, at: u64, len: u64, seed: u64, before: (i64, i64)) {
    if let Some(object) = client.model.objects.get_mut(&id) {
        object.written(before);
        if let Some(content) = object.content_mut() {
            content.write(at, len, seed);
        }
    }
}

pub(super) fn append(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick_file() else { return Ok(()) };
    let (size, len) = (client.size(client.id(&name)?), length(client));
    if size + len > BIGGEST {
        return Ok(());
    }
    client.note(format!("append {len} to {name} of {size}"));
    change(client, &name, size, len, true)
}

pub(super) fn overwrite(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick_file() else { return Ok(()) };
    overwrite_this(client, &name)
}

/// Somewhere in the file, or a little beyond its end.
pub(super) fn overwrite_this(client: &mut Client, name: &str) -> Result<()> {
    let size = client.size(client.id(name)?);
    let (at, len) = (client.dice.below((size + 5_000).min(BIGGEST)), length(client));
    client.note(format!("write {len} at {at} to {name} of {size}"));
    change(client, name, at, len, false)
}

pub(super) fn truncate(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick_file() else { return Ok(()) };
    let id = client.id(&name)?;
    let size = client.size(id);
    let to = match client.dice.below(4) {
        0 => 0,
        1 => (size + client.dice.below(100_000)).min(BIGGEST),
        _ => client.dice.below(size.max(1)),
    };
    client.note(format!("truncate {name} of {size} to {to}"));
    if to == size {
        return Ok(());
    }
    let path = client.path(&name);
    let before = now();
    let opened = if to == 0 {
        File::create(&path).map(drop)
    } else {
        File::options().write(true).open(&path).and_then(|file| file.set_len(to))
    };
    opened.with_context(|| format!("truncating {} to {to}", path.display()))?;
    if let Some(object) = client.model.objects.get_mut(&id) {
        object.written(before);
        if let Some(content) = object.content_mut() {
            content.truncate(to);
        }
    }
    client.check_stat(&name)?;
    client.check_read(&name)
}

/// A file without a name, that may get one.
pub(super) fn temporary(client: &mut Client) -> Result<()> {
    let name = client.fresh();
    let dir = client.path(parent(&name));
    client.note(format!("O_TMPFILE for {name}"));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let before = now();
    let fd = rustix::fs::open(&dir, flags, Mode::from(0o644))
        .with_context(|| format!("O_TMPFILE in {}", dir.display()))?;
    let file = File::from(fd);
    let (len, seed) = (length(client), client.dice.next() | 1);
    file.write_all_at(&pattern(seed, 0, len), 0).context("writing a file without a name")?;
    let got = super::super::client::read(&file, 0, len as usize).context("reading a file without a name")?;
    if let Some(text) = super::super::client::difference(&pattern(seed, 0, len), &got) {
        anyhow::bail!("{}: O_TMPFILE: {text}", dir.display());
    }
    if client.chance(2) {
        return Ok(());
    }
    let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    rustix::fs::linkat(CWD, proc, CWD, client.path(&name), AtFlags::SYMLINK_FOLLOW)
        .with_context(|| format!("naming {}", client.path(&name).display()))?;
    let mut object = Object::new(Kind::File(Content::of(seed, len)));
    object.written(before);
    client.model.add(name.clone(), object);
    client.check_stat(&name)
}
