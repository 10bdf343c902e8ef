//! `plyfs rmi`: in Docker's words.

use plyfs_image::images::remove;

use super::failed;
use crate::cli::images::RmiArgs;
use crate::cli::store::StoreArgs;
use crate::exit::{self, Outcome};
use crate::output;
use crate::store::{self, Servers};

/// Removes what can be removed, and says what could not.
pub(crate) fn run(args: &RmiArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    let mut code = exit::DONE;
    for word in &args.images {
        match remove(&store, word, args.force, &Servers) {
            Ok(gone) => {
                let untagged = gone.untagged.iter().map(|name| format!("Untagged: {name}\n"));
                let image = gone.image.iter().map(|id| format!("Deleted: {id}\n"));
                let layers = gone.layers.iter().map(|chain| format!("Deleted: {chain}\n"));
                output::raw(untagged.chain(image).chain(layers).collect::<String>().as_bytes())?;
            }
            Err(error) => {
                output::failure(&failed(error));
                code = exit::FAILED;
            }
        }
    }
    Ok(code)
}
