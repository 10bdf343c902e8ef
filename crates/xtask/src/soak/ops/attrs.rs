//! Operations that change attributes: of lower files, copies without data.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, chown as chown_path};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustix::fs::XattrFlags;

use super::super::client::Client;
use super::super::model::{Changed, Kind};
use super::data;

pub(super) fn chmod(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick(|_, kind| !matches!(kind, Kind::Symlink(_))) else { return Ok(()) };
    chmod_this(client, &name)
}

fn chmod_this(client: &mut Client, name: &str) -> Result<()> {
    let id = client.id(name)?;
    let mode = 0o700 | client.dice.below(0o100) as u32;
    client.note(format!("chmod {mode:o} {name}"));
    let path = client.path(name);
    fs::set_permissions(&path, Permissions::from_mode(mode))
        .with_context(|| format!("chmod {}", path.display()))?;
    if let Some(object) = client.model.objects.get_mut(&id) {
        object.mode = Some(mode);
    }
    client.check_stat(name)
}

/// Root's alone.
pub(super) fn chown(client: &mut Client) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some(name) = client.pick_file() else { return Ok(()) };
    let id = client.id(&name)?;
    let (uid, gid) = (client.dice.below(5) as u32, client.dice.below(5) as u32);
    client.note(format!("chown {uid}:{gid} {name}"));
    let path = client.path(&name);
    chown_path(&path, Some(uid), Some(gid)).with_context(|| format!("chown {}", path.display()))?;
    if let Some(object) = client.model.objects.get_mut(&id) {
        object.owner = Some((uid, gid));
    }
    client.check_stat(&name)
}

pub(super) fn utimes(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick_file() else { return Ok(()) };
    let id = client.id(&name)?;
    let (secs, nanos) = (client.dice.below(1 << 30), client.dice.below(1_000_000_000));
    client.note(format!("utimes {secs}.{nanos} {name}"));
    let path = client.path(&name);
    let time = SystemTime::UNIX_EPOCH + Duration::new(secs, nanos as u32);
    File::open(&path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
        .with_context(|| format!("utimes {}", path.display()))?;
    if let Some(object) = client.model.objects.get_mut(&id) {
        object.changed = Changed::Exactly((secs.cast_signed(), nanos.cast_signed()));
    }
    client.check_stat(&name)
}

pub(super) fn setxattr(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick(|_, kind| !matches!(kind, Kind::Symlink(_))) else { return Ok(()) };
    let id = client.id(&name)?;
    let key = format!("user.soak.{}", client.dice.below(4));
    let value = client.dice.next().to_le_bytes().repeat(1 + client.dice.below(20) as usize);
    let path = client.path(&name);
    let there = client.model.objects.get(&id).is_some_and(|object| object.xattrs.contains_key(&key));
    if there && client.chance(2) {
        client.note(format!("removexattr {key} {name}"));
        rustix::fs::removexattr(&path, &key)
            .with_context(|| format!("removexattr {key} {}", path.display()))?;
        client.model.objects.entry(id).and_modify(|object| drop(object.xattrs.remove(&key)));
        return Ok(());
    }
    client.note(format!("setxattr {key} {name}"));
    rustix::fs::setxattr(&path, &key, &value, XattrFlags::empty())
        .with_context(|| format!("setxattr {key} {}", path.display()))?;
    client.model.objects.entry(id).and_modify(|object| drop(object.xattrs.insert(key, value)));
    Ok(())
}

/// A lower file gets other attributes, is read, and is written then.
pub(super) fn change_then_data(client: &mut Client) -> Result<()> {
    let lower: Vec<u64> =
        client.model.objects.iter().filter(|(_, object)| object.lower).map(|(id, _)| *id).collect();
    let name = client.model.names.iter().find(|(_, id)| lower.contains(id)).map(|(name, _)| name.clone());
    let Some(name) = name else { return Ok(()) };
    chmod_this(client, &name)?;
    client.check_read(&name)?;
    data::overwrite_this(client, &name)?;
    client.check_read(&name)
}
