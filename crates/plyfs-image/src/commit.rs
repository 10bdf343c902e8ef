//! New images made here: a parent and one layer more, or one layer alone.

use std::io::{self, Read, Write};
use std::sync::OnceLock;
use std::thread;

use plyfs_store::images::Image;
use plyfs_store::intent::Intent;
use plyfs_store::{ChainId, Digest, ImageId};

use crate::config::{self, Changes};
use crate::error::{Doing, Error, Result};
use crate::fill::{Below, Height, fill};
use crate::reference::Reference;
use crate::unpack::Lower;
use crate::work::{Ready, Work};

/// A new image: `parent` (none: an image of this layer alone) and a layer, whose archive `write` writes. It gets `names`.
/// The archive is kept as it was written, so that saving gives it byte for byte.
pub fn commit<W>(
    work: &Work<'_>,
    parent: Option<&ImageId>,
    changes: &Changes,
    names: Vec<Reference>,
    write: W,
) -> Result<Image>
where
    W: FnOnce(&mut dyn Write) -> io::Result<()> + Send,
{
    work.under_intent("commit", |intent| {
        let parent = parent.map(|id| work.store.image(id)).transpose()?;
        let (config, _) = through_pipe(write, |tar| layer_on(work, intent, parent.as_ref(), changes, tar))?;
        let mut images = work.publish(vec![Ready { config, names }])?;
        images.pop().ok_or_else(|| Error::Refused("no image was made".to_owned()))
    })
}

/// Lets `write` write what `read` reads, in a thread of its own. The writer's error is told, unless the reader has a
/// better one.
pub(crate) fn through_pipe<T>(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    read: impl FnOnce(io::PipeReader) -> Result<T>,
) -> Result<T> {
    let (reader, writer) = io::pipe().doing("making", "a pipe")?;
    thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let mut writer = io::BufWriter::with_capacity(256 << 10, writer);
            write(&mut writer)?;
            writer.flush()
        });
        let done = read(reader);
        let wrote = writing.join().unwrap_or_else(|_| Err(io::Error::other("a thread died")));
        match (done, wrote) {
            // The reader went first: its reason is the better one.
            (Err(error), Err(wrote)) if wrote.kind() == io::ErrorKind::BrokenPipe => Err(error),
            (_, Err(wrote)) => Err(wrote).doing("writing", "the layer's archive"),
            (done, Ok(())) => done,
        }
    })
}

/// Brings the layer `tar` into the store over `parent`; answers the config of the image that ends with it, and the
/// archive's digest.
pub(crate) fn layer_on(
    work: &Work<'_>,
    intent: &Intent,
    parent: Option<&Image>,
    changes: &Changes,
    tar: impl Read + Send,
) -> Result<(Vec<u8>, Digest)> {
    let below = parent.and_then(Image::top);
    if let Some(chain) = &below {
        let there = work.store.use_layer(intent, chain)?;
        there.ok_or_else(|| plyfs_store::Error::NotFound { kind: "layer", name: chain.to_string() })?;
    }
    let draft = work.store.draft_layer(intent)?;
    let (height, is_over) = (Height::new(1), || work.cancel.is_cancelled());
    let lower = below.map(|chain| lower(work, chain, &height, &is_over));
    let lower = lower.as_ref().map(|lower| lower as &dyn Lower);
    let filled = fill(&draft, work.cancel.stops(tar), work.limits, lower, "new")?;
    work.cancel.check()?;
    work.store.commit_layer(intent, draft, below, filled.diff, filled.size, work.mounter)?;
    Ok((config::with_layer(parent, filled.diff, changes)?, filled.digest))
}

fn lower<'a>(
    work: &Work<'a>,
    chain: ChainId,
    height: &'a Height,
    is_over: &'a dyn Fn() -> bool,
) -> Below<'a> {
    Below { store: work.store, chain, layers: 1, height, is_over, union: OnceLock::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack;

    #[test]
    fn the_readers_reason_is_told_and_not_the_broken_pipe() {
        let broken = || pack::Error::Write(io::ErrorKind::BrokenPipe.into());
        let refuses = |_| Err::<(), _>(Error::Refused("no tar".to_owned()));
        let told = through_pipe(|_| Err(broken().into()), refuses).unwrap_err().to_string();
        assert_eq!(told, "no tar");
        let shrank = pack::Error::Shrank { path: "a".to_owned() };
        let told = through_pipe(|_| Err(shrank.into()), refuses).unwrap_err().to_string();
        assert!(told.contains("became shorter"), "{told}");
    }
}
