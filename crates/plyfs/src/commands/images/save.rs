//! `plyfs save`: images as archives.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use plyfs_image::progress::Cancel;
use plyfs_image::save::{Form, save_dir, save_tar};
use plyfs_store::Store;

use super::failed;
use crate::cli::images::{SaveArgs, SaveForm};
use crate::cli::store::StoreArgs;
use crate::exit::{self, Failure, Outcome};
use crate::{store, whole_file};

/// Saves them.
pub(crate) fn run(args: &SaveArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_read(store)?;
    let cancel = super::stopped_by_signals()?;
    let form = if args.format == SaveForm::DockerArchive { Form::Docker } else { Form::Oci };
    match (&args.output, args.format) {
        (Some(dir), SaveForm::OciDir) => save_dir(&store, &args.images, dir, &cancel).map_err(failed)?,
        (None, SaveForm::OciDir) => return Err(Failure::usage("--format oci-dir needs --output DIR")),
        (Some(path), _) => to_file(&store, args, form, path, &cancel)?,
        (None, _) if io::stdout().is_terminal() => {
            return Err(Failure::usage("an archive is nothing for a terminal: give --output FILE"));
        }
        (None, _) => save_tar(&store, &args.images, form, io::stdout().lock(), &cancel).map_err(failed)?,
    }
    Ok(exit::DONE)
}

fn to_file(store: &Store, args: &SaveArgs, form: Form, path: &Path, cancel: &Cancel) -> Result<(), Failure> {
    whole_file::write(path, |file| {
        let mut out = io::BufWriter::with_capacity(256 << 10, file);
        save_tar(store, &args.images, form, &mut out, cancel).map_err(failed)?;
        Ok(out.flush().context("writing the archive")?)
    })
}
