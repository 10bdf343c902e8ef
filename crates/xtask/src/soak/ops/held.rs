//! Operations through descriptors that stay open while other things happen.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};

use super::super::client::{Client, Held, difference, read};
use super::super::content::pattern;
use super::super::model::now;
use super::data;

/// Descriptors a client keeps.
const MOST: usize = 12;
/// From this size on a descriptor may go on reading the layer's file (passthrough).
const PINNED: u64 = 64 << 10;

pub(super) fn open(client: &mut Client) -> Result<()> {
    if client.held.len() == MOST {
        let at = client.dice.below(MOST as u64) as usize;
        client.held.swap_remove(at);
        forget(client);
    }
    let Some(name) = client.pick_file() else { return Ok(()) };
    let writable = client.chance(3);
    client.note(format!("open {name} {}", if writable { "read-write" } else { "read-only" }));
    hold(client, &name, writable).map(drop)
}

/// Nameless objects go with their last descriptor.
fn forget(client: &mut Client) {
    let held: Vec<u64> = client.held.iter().map(|held| held.id).collect();
    client.model.sweep(|id| held.contains(&id));
}

fn hold(client: &mut Client, name: &str, writable: bool) -> Result<usize> {
    let path = client.path(name);
    let open = File::options().read(true).write(writable).open(&path);
    let file = open.with_context(|| format!("opening {}", path.display()))?;
    let id = client.id(name)?;
    let object = client.model.objects.get(&id);
    let lower = object.filter(|object| object.lower && !writable).and_then(|object| object.content());
    let pinned = lower.filter(|content| content.size() >= PINNED).cloned();
    client.held.push(Held { file, id, writable, pinned });
    Ok(client.held.len() - 1)
}

/// Reads and stats through any descriptor.
pub(super) fn look(client: &mut Client) -> Result<()> {
    if client.held.is_empty() {
        return Ok(());
    }
    let at = client.dice.below(client.held.len() as u64) as usize;
    client.note(format!("look through a descriptor of {}", client.shown(client.held[at].id).display()));
    client.check_held_stat(at)?;
    look_at(client, at)
}

fn look_at(client: &mut Client, number: usize) -> Result<()> {
    let id = client.held[number].id;
    let (at, len) = client.range(client.size(id));
    let held = &client.held[number];
    let got = read(&held.file, at, len).context("reading through an open descriptor")?;
    let Some(text) = difference(&client.expected(id, at, len), &got) else { return Ok(()) };
    let kept = held.pinned.as_ref().map(|content| difference(&content.read(at, len), &got));
    match kept {
        Some(None) => client.pinned_reads += 1,
        Some(Some(kept)) => bail!(
            "{}: a descriptor opened before copy-up, read of {len} at {at}: neither the file's data ({text}) nor the layer's ({kept})",
            client.shown(id).display()
        ),
        None => bail!(
            "{}: an open descriptor (writable: {}), read of {len} at {at}: {text}",
            client.shown(id).display(),
            held.writable
        ),
    }
    Ok(())
}

pub(super) fn write(client: &mut Client) -> Result<()> {
    let Some(number) = client.held.iter().position(|held| held.writable) else { return Ok(()) };
    let id = client.held[number].id;
    let at = client.dice.below((client.size(id) + 1_000).min(20 << 20));
    let (len, seed) = (1 + client.dice.below(9_000), client.dice.next() | 1);
    client.note(format!("write {len} at {at} through a descriptor of {}", client.shown(id).display()));
    let before = now();
    client.held[number]
        .file
        .write_all_at(&pattern(seed, at, len), at)
        .with_context(|| format!("writing through a descriptor of {}", client.shown(id).display()))?;
    data::wrote(client, id, at, len, seed, before);
    client.check_held_stat(number)?;
    look_at(client, number)
}

/// A lower file is read through one descriptor, written by another, and read through the first again.
pub(super) fn copy_up_under(client: &mut Client) -> Result<()> {
    let lower: Vec<u64> =
        client.model.objects.iter().filter(|(_, object)| object.lower).map(|(id, _)| *id).collect();
    let of_lower = client.model.names.iter().filter(|(_, id)| lower.contains(id));
    let names: Vec<String> = of_lower.map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let name = names[client.dice.below(names.len() as u64) as usize].clone();
    client.note(format!("copy {name} up under an open descriptor"));
    let number = hold(client, &name, false)?;
    let outcome = look_at(client, number)
        .and_then(|()| data::overwrite_this(client, &name))
        .and_then(|()| look_at(client, number))
        .and_then(|()| client.check_read(&name))
        .and_then(|()| client.check_held_stat(number));
    client.held.truncate(number);
    outcome
}
