//! `plyfs load`: images from archives.

use std::io::{self, IsTerminal};
use std::path::Path;

use plyfs_image::load::{Input, LoadOptions, Loaded, load};
use plyfs_image::platform::Platform;

use super::progress::{self, Verb};
use crate::cli::images::LoadArgs;
use crate::cli::store::StoreArgs;
use crate::commands::interrupt::Insist;
use crate::exit::{self, Failure, Outcome};
use crate::output;
use crate::store;

/// Loads, and says what in Docker's words.
pub(crate) fn run(args: LoadArgs, store: &StoreArgs) -> Outcome {
    let input = input(args.archive.or(args.input).as_deref())?;
    let store = store::open_to_write(store)?;
    let options = LoadOptions { name: args.name, platform: args.platform.unwrap_or_else(Platform::local) };
    let progress = progress::new(Verb::Load, args.quiet);
    let loaded =
        super::at_work(&store, &args.limits, &*progress, Insist::Soon, |work| load(work, input, &options));
    progress.end();
    for one in loaded? {
        tell(&one)?;
    }
    Ok(exit::DONE)
}

fn input(path: Option<&Path>) -> Result<Input, Failure> {
    match path {
        Some(path) if path != Path::new("-") => Ok(Input::Path(path.to_owned())),
        None if io::stdin().is_terminal() => {
            Err(Failure::usage("nothing to load: give a file, a directory, or an archive on standard input"))
        }
        _ => Ok(Input::Stream(Box::new(io::stdin()))),
    }
}

fn tell(loaded: &Loaded) -> Result<(), Failure> {
    for (name, old) in &loaded.moved {
        let name = name.familiar();
        let text =
            format!("The image {name} already exists, renaming the old one with ID {old} to empty string\n");
        output::raw(text.as_bytes())?;
    }
    if loaded.names.is_empty() {
        return output::raw(format!("Loaded image ID: {}\n", loaded.image.id).as_bytes());
    }
    for name in &loaded.names {
        output::raw(format!("Loaded image: {}\n", name.familiar()).as_bytes())?;
    }
    Ok(())
}
