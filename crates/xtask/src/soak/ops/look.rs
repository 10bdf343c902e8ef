//! Operations that only look.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::super::client::{Client, same};
use super::super::model::{Kind, join};

pub(super) fn read(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick_file() else { return Ok(()) };
    client.note(format!("read {name}"));
    client.check_read(&name)
}

pub(super) fn stat(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick(|_, _| true) else { return Ok(()) };
    client.note(format!("stat {name}"));
    client.check_stat(&name)
}

pub(super) fn list(client: &mut Client) -> Result<()> {
    let dir = client.pick_dir();
    client.note(format!("list {dir}"));
    client.check_list(&dir)
}

/// Names that never were, and names that were.
pub(super) fn missing(client: &mut Client) -> Result<()> {
    let dir = client.pick_dir();
    let never = join(&dir, &format!("missing-{}", client.dice.below(50)));
    let names = client.graves.iter().filter(|name| !client.model.names.contains_key(*name)).cloned();
    for name in names.chain([never]).collect::<Vec<_>>() {
        let path = client.path(&name);
        match fs::symlink_metadata(&path).map_err(|error| error.kind()) {
            Err(ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            other => bail!("{}: expected no such file, got {other:?}", path.display()),
        }
    }
    Ok(())
}

pub(super) fn readlink(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick(|_, kind| matches!(kind, Kind::Symlink(_))) else { return Ok(()) };
    client.note(format!("readlink {name}"));
    let path = client.path(&name);
    let got = fs::read_link(&path).with_context(|| format!("readlink {}", path.display()))?;
    let Some((_, object)) = client.model.object(&name) else { return Ok(()) };
    let Kind::Symlink(target) = &object.kind else { return Ok(()) };
    same(&path, "target", Path::new(target), got.as_path())
}

/// All of an object's attributes.
pub(super) fn xattr(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick(|_, kind| !matches!(kind, Kind::Symlink(_))) else { return Ok(()) };
    client.note(format!("xattrs of {name}"));
    let path = client.path(&name);
    let mut buffer = vec![0_u8; 4096];
    let len = rustix::fs::listxattr(&path, &mut buffer[..])
        .with_context(|| format!("listxattr {}", path.display()))?;
    let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
    let mut got: Vec<&str> = text.split('\0').filter(|name| name.starts_with("user.")).collect();
    got.sort_unstable();
    let Some((_, object)) = client.model.object(&name) else { return Ok(()) };
    same(&path, "xattrs", object.xattrs.keys().map(String::as_str).collect(), got)?;
    for (key, value) in &object.xattrs {
        let len = rustix::fs::getxattr(&path, key, &mut buffer[..])
            .with_context(|| format!("getxattr {key} {}", path.display()))?;
        same(&path, key, value.as_slice(), &buffer[..len])?;
    }
    Ok(())
}
