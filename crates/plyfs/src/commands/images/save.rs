//! `plyfs save`: images as archives.

use std::io::{self, IsTerminal};

use plyfs_image::save::{Form, save_dir, save_tar};

use super::failed;
use crate::cli::images::{SaveArgs, SaveForm};
use crate::cli::store::StoreArgs;
use crate::commands::interrupt::{Insist, by_signals};
use crate::commands::whole_file;
use crate::exit::{self, Failure, Outcome};
use crate::store;

/// Saves them.
pub(crate) fn run(args: &SaveArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_read(store)?;
    let cancel = by_signals(Insist::Soon)?;
    let form = if args.format == SaveForm::DockerArchive { Form::Docker } else { Form::Oci };
    match (&args.output, args.format) {
        (Some(dir), SaveForm::OciDir) => save_dir(&store, &args.images, dir, &cancel).map_err(failed)?,
        (None, SaveForm::OciDir) => return Err(Failure::usage("--format oci-dir needs --output DIR")),
        (Some(path), _) => {
            whole_file::write(path, |out| save_tar(&store, &args.images, form, out, &cancel).map_err(failed))?
        }
        (None, _) if io::stdout().is_terminal() => {
            return Err(Failure::usage("an archive is nothing for a terminal: give --output FILE"));
        }
        (None, _) => save_tar(&store, &args.images, form, io::stdout().lock(), &cancel).map_err(failed)?,
    }
    Ok(exit::DONE)
}
