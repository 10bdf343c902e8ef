//! `plyfs save`: images as archives.

use std::fs::File;
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
use crate::store;

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

/// The file appears whole. What is no regular file (a pipe, a device) is written to as it is.
fn to_file(store: &Store, args: &SaveArgs, form: Form, path: &Path, cancel: &Cancel) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok_and(|status| !status.is_file()) {
        let file = File::options().write(true).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        return save_tar(store, &args.images, form, &file, cancel).map_err(failed);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temp = tempfile::NamedTempFile::new_in(dir);
    let temp = temp.with_context(|| format!("making a file in {}", dir.display()))?;
    let mut out = io::BufWriter::with_capacity(256 << 10, temp);
    save_tar(store, &args.images, form, &mut out, cancel).map_err(failed)?;
    out.flush().context("writing the archive")?;
    let temp = out.into_inner().map_err(io::IntoInnerError::into_error).context("writing the archive")?;
    temp.persist(path).with_context(|| format!("renaming to {}", path.display()))?;
    Ok(())
}
