//! Micro operations: one system call (or open+read+close) at a time, on one mount, in the order below.
//!
//! Every client thread works in a directory of its own, which is merged from all layers; its lower files of 4 KiB and
//! symbolic links are spread over them. New names are made in the same directory, so that the number of layers matters
//! to them too. Names are looked up relative to the directory's descriptor: no path walk is measured.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::bout::Bout;

const STAT_FRESH: &str = "stat, fresh";
const STAT_WARM: &str = "stat, warm";
const READ: &str = "open+read 4k+close";
const STAT_READ: &str = "stat after a read";
const XATTR: &str = "getxattr";
const READLINK: &str = "readlink";
const MISSING: &str = "missing name, first";
const MISSING_AGAIN: &str = "missing name, again";
const CREATE: &str = "create";
const CHMOD: &str = "chmod";
const RENAME: &str = "rename";
const UNLINK: &str = "unlink";
const MKDIR: &str = "mkdir";
const RMDIR: &str = "rmdir";
const LIST: &str = "list the large directory, first";
const LIST_AGAIN: &str = "list the large directory, again";

pub(super) const ROWS: &[&str] = &[
    STAT_FRESH,
    STAT_WARM,
    READ,
    STAT_READ,
    XATTR,
    READLINK,
    MISSING,
    MISSING_AGAIN,
    CREATE,
    CHMOD,
    RENAME,
    UNLINK,
    MKDIR,
    RMDIR,
    LIST,
    LIST_AGAIN,
];

/// How often warm operations go over the names.
const PASSES: usize = 4;

/// What one client thread works on.
struct Client {
    dir: OwnedFd,
    files: Vec<CString>,
    links: Vec<CString>,
    /// Whole paths of the files: there is no getxattrat.
    paths: Vec<PathBuf>,
    new: Vec<CString>,
    renamed: Vec<CString>,
    missing: Vec<CString>,
}

impl Client {
    fn new(bout: &Bout<'_>, number: usize) -> Result<Client> {
        let dir = bout.root.join(format!("micro/t{number}"));
        let count = bout.stage.sizes.micro_files;
        let names = |word: &str| -> Result<Vec<CString>> {
            (0..count).map(|i| Ok(CString::new(format!("{word}{i:05}"))?)).collect()
        };
        Ok(Client {
            files: names("l")?,
            links: names("s")?,
            paths: (0..count).map(|i| dir.join(format!("l{i:05}"))).collect(),
            new: names(&format!("new-{}-", bout.nonce))?,
            renamed: names(&format!("renamed-{}-", bout.nonce))?,
            missing: names(&format!("missing-{}-", bout.nonce))?,
            dir: open_dir(&dir)?,
        })
    }
}

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    let clients: Vec<Client> =
        (0..bout.threads).map(|number| Client::new(bout, number)).collect::<Result<_>>()?;
    lower_files(bout, &clients)?;
    missing(bout, &clients)?;
    new_names(bout, &clients)?;
    drop(clients);
    listing(bout)
}

/// Times `each` on every name of a list, `passes` times over.
fn each<T>(
    bout: &mut Bout<'_>,
    row: &'static str,
    clients: &[Client],
    passes: usize,
    names: impl Fn(&Client) -> &[T] + Sync,
    each: impl Fn(&Client, &T) -> Result<()> + Sync,
) -> Result<()> {
    bout.time_each(row, |number| {
        let client = &clients[number];
        let names = names(client);
        for _ in 0..passes {
            names.iter().try_for_each(|name| each(client, name))?;
        }
        Ok((passes * names.len()) as u64)
    })
}

fn lower_files(bout: &mut Bout<'_>, clients: &[Client]) -> Result<()> {
    each(bout, STAT_FRESH, clients, 1, |c| &c.files, stat)?;
    each(bout, STAT_WARM, clients, PASSES, |c| &c.files, stat)?;
    each(bout, READ, clients, PASSES, |c| &c.files, read)?;
    for client in clients {
        client.files.iter().try_for_each(|name| read(client, name))?;
    }
    each(bout, STAT_READ, clients, 1, |c| &c.files, stat)?;
    if attributes(bout)? {
        each(bout, XATTR, clients, PASSES, |c| &c.paths, |_, path| no_xattr(path))?;
    } else {
        bout.lacks(XATTR, "no extended attributes");
    }
    each(
        bout,
        READLINK,
        clients,
        PASSES,
        |c| &c.links,
        |client, name| {
            let mut buffer = [0_u8; 64];
            let length = rustix::fs::readlinkat_raw(&client.dir, name.as_c_str(), &mut buffer)?;
            ensure!(&buffer[..length] == b"target", "{name:?} is a link to something else");
            Ok(())
        },
    )
}

fn missing(bout: &mut Bout<'_>, clients: &[Client]) -> Result<()> {
    let absent = |client: &Client, name: &CString| match stat(client, name) {
        Err(error) if error.downcast_ref() == Some(&Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => bail!("{name:?} exists"),
    };
    each(bout, MISSING, clients, 1, |c| &c.missing, absent)?;
    each(bout, MISSING_AGAIN, clients, PASSES, |c| &c.missing, absent)
}

fn new_names(bout: &mut Bout<'_>, clients: &[Client]) -> Result<()> {
    each(
        bout,
        CREATE,
        clients,
        1,
        |c| &c.new,
        |client, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            drop(rustix::fs::openat(&client.dir, name.as_c_str(), flags, Mode::from_raw_mode(0o644))?);
            Ok(())
        },
    )?;
    each(
        bout,
        CHMOD,
        clients,
        1,
        |c| &c.new,
        |client, name| {
            Ok(rustix::fs::chmodat(
                &client.dir,
                name.as_c_str(),
                Mode::from_raw_mode(0o600),
                AtFlags::empty(),
            )?)
        },
    )?;
    bout.time_each(RENAME, |number| {
        let client = &clients[number];
        for (old, new) in client.new.iter().zip(&client.renamed) {
            rustix::fs::renameat(&client.dir, old.as_c_str(), &client.dir, new.as_c_str())?;
        }
        Ok(client.new.len() as u64)
    })?;
    for client in clients {
        let meta = rustix::fs::statat(&client.dir, client.renamed[0].as_c_str(), AtFlags::empty())?;
        ensure!(meta.st_mode & 0o7777 == 0o600, "chmod or rename did not do it");
    }
    each(
        bout,
        UNLINK,
        clients,
        1,
        |c| &c.renamed,
        |client, name| Ok(rustix::fs::unlinkat(&client.dir, name.as_c_str(), AtFlags::empty())?),
    )?;
    each(
        bout,
        MKDIR,
        clients,
        1,
        |c| &c.new,
        |client, name| Ok(rustix::fs::mkdirat(&client.dir, name.as_c_str(), Mode::from_raw_mode(0o755))?),
    )?;
    each(
        bout,
        RMDIR,
        clients,
        1,
        |c| &c.new,
        |client, name| Ok(rustix::fs::unlinkat(&client.dir, name.as_c_str(), AtFlags::REMOVEDIR)?),
    )?;
    for client in clients {
        // A directory's link count is no measure on every filesystem: look at the names.
        let left = names_of(&client.dir)?;
        let stray = left.iter().find(|name| !matches!(name.to_bytes().first(), Some(b'l' | b's')));
        let want = client.files.len() + client.links.len();
        ensure!(left.len() == want, "{} names are left, not {want}; among them {stray:?}", left.len());
    }
    Ok(())
}

fn listing(bout: &mut Bout<'_>) -> Result<()> {
    let path = bout.root.join("wide");
    let want = bout.stage.sizes.wide_names;
    for (row, passes) in [(LIST, 1), (LIST_AGAIN, PASSES)] {
        bout.time_each(row, |_| {
            for _ in 0..passes {
                let seen = count_names(&open_dir(&path)?)?;
                ensure!(seen == want, "{seen} names listed, not {want}");
            }
            Ok(passes as u64)
        })?;
    }
    Ok(())
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn stat(client: &Client, name: &CString) -> Result<()> {
    rustix::fs::statat(&client.dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn read(client: &Client, name: &CString) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&client.dir, name.as_c_str(), flags, Mode::empty())?;
    let mut buffer = [0_u8; 4096];
    let count = rustix::io::read(&file, &mut buffer)?;
    ensure!(count == buffer.len(), "{name:?}: {count} bytes read");
    Ok(())
}

/// Whether the filesystem has extended attributes.
fn attributes(bout: &Bout<'_>) -> Result<bool> {
    match rustix::fs::getxattr(&bout.root, c"user.bench", &mut [0_u8; 64]) {
        Ok(_) | Err(Errno::NODATA) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn no_xattr(path: &Path) -> Result<()> {
    let mut buffer = [0_u8; 64];
    match rustix::fs::getxattr(path, c"user.bench", &mut buffer) {
        Err(Errno::NODATA) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("{} has an attribute that nobody set", path.display()),
    }
}

fn names_of(dir: &OwnedFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Without keeping them: this is timed.
fn count_names(dir: &OwnedFd) -> Result<usize> {
    let mut count = 0;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        count += usize::from(!matches!(entry.file_name().to_bytes(), b"." | b".."));
    }
    Ok(count)
}
