//! `plyfs pull`: an image from a registry, told in Docker's words.

use plyfs_image::Reference;
use plyfs_image::platform::Platform;
use plyfs_image::pull::{PullOptions, Pulled, pull};
use plyfs_image::registry::RegistryOptions;

use super::progress::{self, Verb};
use crate::cli::images::PullArgs;
use crate::cli::store::StoreArgs;
use crate::commands::interrupt::Insist;
use crate::exit::{self, Outcome};
use crate::output;
use crate::store;

/// Pulls it.
pub(crate) fn run(args: PullArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    let reference = args.image.or_latest();
    let options = PullOptions {
        platform: args.platform.unwrap_or_else(Platform::local),
        registry: RegistryOptions {
            plain_http: args.plain_http,
            insecure: args.insecure_registry,
            ..RegistryOptions::default()
        },
    };
    if !args.quiet {
        let what = reference.digest().map(ToString::to_string);
        let what = what.as_deref().or(reference.tag()).unwrap_or_default();
        output::line(format_args!("{what}: Pulling from {}", reference.path()));
    }
    let progress = progress::new(Verb::Pull, args.quiet);
    let pulled = super::at_work(&store, &args.limits, &*progress, Insist::Again, |work| {
        pull(work, &reference, &options)
    });
    progress.end();
    let pulled = pulled?;
    if !args.quiet {
        tell(&reference, &pulled);
    }
    output::raw(format!("{reference}\n").as_bytes())?;
    Ok(exit::DONE)
}

fn tell(reference: &Reference, pulled: &Pulled) {
    let what = if pulled.is_new { "Downloaded newer image" } else { "Image is up to date" };
    output::line(format_args!("Digest: {}", pulled.digest));
    output::line(format_args!("Status: {what} for {}", reference.familiar()));
}
