//! `plyfs export`.

use std::io::{self, BufWriter, IsTerminal, Write};

use anyhow::{Context, anyhow};
use plyfs_image::pack;
use plyfs_union::Union;

use super::{flush, look, open_to_look};
use crate::cli::containers::ExportArgs;
use crate::cli::store::StoreArgs;
use crate::exit::{self, Outcome};
use crate::{output, whole_file};

/// Writes the archive.
pub(crate) fn run(args: &ExportArgs, store: &StoreArgs) -> Outcome {
    if args.output.is_none() && io::stdout().is_terminal() {
        let what = anyhow!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        return Err(what.into());
    }
    let store = open_to_look(store)?;
    let container = look(&store, &args.container)?;
    let layers = store.container_layers(&container.id).map_err(anyhow::Error::new)?;
    flush(&store, &layers.id)?;
    let union = store.driver().union_against(&layers.id, Some(&layers.init)).map_err(anyhow::Error::new)?;
    match &args.output {
        Some(path) => whole_file::write(path, |file| {
            Ok(write(&union, file).with_context(|| path.display().to_string())?)
        })?,
        None => write(&union, io::stdout().lock()).context("writing to standard output")?,
    }
    Ok(exit::DONE)
}

fn write(union: &Union, out: impl Write) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    let packed = pack::pack_tree(union, &mut out)?;
    out.flush()?;
    for path in &packed.left_out {
        output::warn(format_args!("{path} is left out: it is a socket"));
    }
    Ok(())
}
