//! `plyfs tag`.

use plyfs_image::images::tag;

use super::failed;
use crate::cli::images::TagArgs;
use crate::cli::store::StoreArgs;
use crate::exit::{self, Outcome};
use crate::store;

/// Names an image.
pub(crate) fn run(args: &TagArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    tag(&store, &args.image, &args.name).map_err(failed)?;
    Ok(exit::DONE)
}
