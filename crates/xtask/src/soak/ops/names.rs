//! Operations that make, move and take away names.

use std::fs;
use std::os::unix::fs::symlink as make_symlink;

use anyhow::{Context, Result};
use rustix::fs::{CWD, RenameFlags};

use super::super::client::Client;
use super::super::model::{Kind, Object};

/// Onto a fresh name, or onto another file.
pub(super) fn rename_file(client: &mut Client) -> Result<()> {
    let Some(from) = client.pick(|_, kind| !matches!(kind, Kind::Dir)) else { return Ok(()) };
    let over = if client.chance(3) { client.pick(|_, kind| !matches!(kind, Kind::Dir)) } else { None };
    let to = over.unwrap_or_else(|| client.fresh());
    client.note(format!("rename {from} to {to}"));
    let (old, new) = (client.path(&from), client.path(&to));
    fs::rename(&old, &new).with_context(|| format!("renaming {} to {}", old.display(), new.display()))?;
    // Two names of one file: nothing happens.
    if client.model.names.get(&to) != client.model.names.get(&from) {
        client.model.unlink(&to);
        client.model.rename(&from, &to);
        client.bury(&from);
    }
    client.check_stat(&to)
}

pub(super) fn rename_dir(client: &mut Client) -> Result<()> {
    let Some(from) = client.pick(|name, kind| !name.is_empty() && matches!(kind, Kind::Dir)) else {
        return Ok(());
    };
    let to = client.fresh();
    if to.starts_with(&format!("{from}/")) || to.matches('/').count() > 6 {
        return Ok(());
    }
    client.note(format!("rename directory {from} to {to}"));
    let (old, new) = (client.path(&from), client.path(&to));
    fs::rename(&old, &new).with_context(|| format!("renaming {} to {}", old.display(), new.display()))?;
    client.model.rename(&from, &to);
    client.bury(&from);
    client.check_list(&to)
}

pub(super) fn exchange(client: &mut Client) -> Result<()> {
    let (Some(one), Some(two)) = (client.pick_file(), client.pick_file()) else { return Ok(()) };
    let (Ok(a), Ok(b)) = (client.id(&one), client.id(&two)) else { return Ok(()) };
    client.note(format!("exchange {one} and {two}"));
    let (old, new) = (client.path(&one), client.path(&two));
    rustix::fs::renameat_with(CWD, &old, CWD, &new, RenameFlags::EXCHANGE)
        .with_context(|| format!("exchanging {} and {}", old.display(), new.display()))?;
    client.model.names.insert(one.clone(), b);
    client.model.names.insert(two.clone(), a);
    client.check_stat(&one)?;
    client.check_read(&two)
}

pub(super) fn link(client: &mut Client) -> Result<()> {
    let Some(from) = client.pick_file() else { return Ok(()) };
    let to = client.fresh();
    client.note(format!("link {from} as {to}"));
    let (old, new) = (client.path(&from), client.path(&to));
    fs::hard_link(&old, &new).with_context(|| format!("linking {} as {}", old.display(), new.display()))?;
    client.model.link(client.id(&from)?, to.clone());
    client.check_stat(&to)?;
    client.check_stat(&from)
}

pub(super) fn symlink(client: &mut Client) -> Result<()> {
    let name = client.fresh();
    let target = format!("../to/{}", client.dice.next());
    client.note(format!("symlink {name}"));
    let path = client.path(&name);
    make_symlink(&target, &path).with_context(|| format!("symlink {}", path.display()))?;
    client.model.add(name.clone(), Object::new(Kind::Symlink(target)));
    client.check_stat(&name)
}

pub(super) fn unlink(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick(|_, kind| !matches!(kind, Kind::Dir)) else { return Ok(()) };
    client.note(format!("unlink {name}"));
    let path = client.path(&name);
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    client.model.unlink(&name);
    client.bury(&name);
    Ok(())
}

pub(super) fn mkdir(client: &mut Client) -> Result<()> {
    let name = client.fresh();
    if name.matches('/').count() > 6 {
        return Ok(());
    }
    client.note(format!("mkdir {name}"));
    let path = client.path(&name);
    fs::create_dir(&path).with_context(|| format!("mkdir {}", path.display()))?;
    client.model.add(name.clone(), Object::new(Kind::Dir));
    client.check_list(&name)
}

/// An empty directory goes; another says so.
pub(super) fn rmdir(client: &mut Client) -> Result<()> {
    let Some(name) = client.pick(|name, kind| !name.is_empty() && matches!(kind, Kind::Dir)) else {
        return Ok(());
    };
    client.note(format!("rmdir {name}"));
    let path = client.path(&name);
    let outcome = fs::remove_dir(&path);
    if !client.model.children(&name).is_empty() {
        return match outcome.map_err(|error| error.kind()) {
            Err(std::io::ErrorKind::DirectoryNotEmpty) => Ok(()),
            other => anyhow::bail!("{}: rmdir: expected ENOTEMPTY, got {other:?}", path.display()),
        };
    }
    outcome.with_context(|| format!("rmdir {}", path.display()))?;
    client.model.unlink(&name);
    client.bury(&name);
    Ok(())
}

/// Removes the whole subtree, name by name.
pub(crate) fn remove_all(client: &mut Client) -> Result<()> {
    client.note("remove everything".into());
    let names: Vec<String> = client.model.names.keys().cloned().collect();
    for name in names.iter().rev() {
        let path = client.path(name);
        let is_dir = client.model.object(name).is_some_and(|(_, object)| matches!(object.kind, Kind::Dir));
        let removed = if is_dir { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("removing {}", path.display()))?;
        client.model.unlink(name);
    }
    match fs::symlink_metadata(&client.top).map_err(|error| error.kind()) {
        Err(std::io::ErrorKind::NotFound) => Ok(()),
        other => anyhow::bail!("{}: removed, but stat says {other:?}", client.top.display()),
    }
}
