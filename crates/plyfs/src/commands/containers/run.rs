//! `plyfs create`, `plyfs run`.

use plyfs_store::Store;
use plyfs_store::containers::Container;

use crate::cli::containers::{CreateArgs, RunArgs};
use crate::cli::store::StoreArgs;
use crate::container::runtime::Runtime;
use crate::container::{attach, create as made, image};
use crate::exit::{self, Failure, Outcome};
use crate::{output, store};

/// Makes a container and prints its id.
pub(crate) fn create(args: &CreateArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    let container = make(&store, args)?;
    output::raw(format!("{}\n", container.id).as_bytes())?;
    Ok(exit::DONE)
}

/// Makes a container and runs it.
pub(crate) fn run(args: &RunArgs, store: &StoreArgs) -> Outcome {
    // Before anything is made.
    Runtime::find(args.create.runtime.as_deref())?;
    let opened = store::open_to_write(store)?;
    let container = make(&opened, &args.create)?;
    let root = opened.layout().root();
    if args.detach {
        attach::detached(store, root, &container.id)?;
        output::raw(format!("{}\n", container.id).as_bytes())?;
        return Ok(exit::DONE);
    }
    attach::foreground(store, root, &container, args.create.interactive)
}

fn make(store: &Store, args: &CreateArgs) -> Result<Container, Failure> {
    let image = image::need(store, &args.image)?;
    made::create(store, args, &image)
}
