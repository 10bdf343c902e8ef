//! `plyfs create`, `plyfs run`.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::Command;

use anyhow::{Context, anyhow};
use plyfs_store::Store;
use plyfs_store::containers::Container;
use plyfs_store::images::Image;

use crate::cli::containers::{CreateArgs, Pull, RunArgs};
use crate::cli::store::StoreArgs;
use crate::container::runtime::Runtime;
use crate::container::{attach, create as made, image};
use crate::exit::{self, Failure, Outcome};
use crate::store::Named;
use crate::{output, store};

/// Makes a container and prints its id.
pub(crate) fn create(args: &CreateArgs, store: &StoreArgs) -> Outcome {
    let opened = store::open_to_write(store)?;
    let container = make(&opened, args, store)?;
    output::raw(format!("{}\n", container.id).as_bytes())?;
    Ok(exit::DONE)
}

/// Makes a container and runs it.
pub(crate) fn run(args: &RunArgs, store: &StoreArgs) -> Outcome {
    // Before anything is made.
    if args.create.interactive && args.create.tty && !args.detach && !io::stdin().is_terminal() {
        let what = anyhow!("the input device is not a TTY");
        // Docker's code for it: the only one of `run` that is not 125.
        output::failure(&Failure { code: exit::FAILED, error: what, hint: None });
        return Ok(exit::FAILED);
    }
    Runtime::find(args.create.runtime.as_deref())?;
    let opened = store::open_to_write(store)?;
    let container = make(&opened, &args.create, store)?;
    let root = opened.layout().root();
    if args.detach {
        attach::detached(store, root, &container.id)?;
        output::raw(format!("{}\n", container.id).as_bytes())?;
        return Ok(exit::DONE);
    }
    attach::foreground(store, root, &container, args.create.interactive)
}

fn make(store: &Store, args: &CreateArgs, which: &StoreArgs) -> Result<Container, Failure> {
    let image = match args.pull {
        Pull::Never => image::need(store, &args.image)?,
        Pull::Always => pulled(store, args, which)?,
        Pull::Missing => match image::find(store, &args.image)? {
            Some(image) => image,
            None => {
                output::note(format_args!("unable to find image {:?} locally", args.image));
                pulled(store, args, which)?
            }
        },
    };
    made::create(store, args, &image)
}

/// Pulls the image by a program of its own, so that its signals and threads do not mix with ours; what it says goes to
/// standard error: standard output is the container's.
fn pulled(store: &Store, args: &CreateArgs, which: &StoreArgs) -> Result<Image, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0_plyfs().arg("--root").arg(store.layout().root());
    if which.writable {
        command.arg("--writable");
    }
    let said = io::stderr().as_fd().try_clone_to_owned().context("using standard error")?;
    let status =
        command.args(["pull", "--", &args.image]).stdout(said).status().context("running plyfs pull")?;
    if !status.success() {
        return Err(anyhow!("{} was not pulled", args.image).into());
    }
    image::need(store, &args.image)
}
