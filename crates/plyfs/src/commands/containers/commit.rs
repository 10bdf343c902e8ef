//! `plyfs commit`.

use anyhow::anyhow;
use plyfs_image::config::Changes;
use plyfs_image::limits::Limits;
use plyfs_image::pack;
use plyfs_image::progress::{Cancel, Silent};
use plyfs_image::{Reference, Work};
use plyfs_store::containers::Container;
use plyfs_store::{ImageId, Store};
use serde_json::{Map, Value, json};

use super::{find, flush};
use crate::cli::containers::CommitArgs;
use crate::cli::store::StoreArgs;
use crate::commands::interrupt::{Insist, by_signals};
use crate::container::instructions;
use crate::container::run_dir::RunDir;
use crate::container::runtime::Runtime;
use crate::exit::{self, Failure, Outcome, told};
use crate::store::Servers;
use crate::{output, store};

/// Makes the image and prints its id.
pub(crate) fn run(args: &CommitArgs, store: &StoreArgs) -> Outcome {
    let names = args.reference.as_deref().map(name).transpose()?;
    let store = store::open_to_write(store)?;
    let container = find(&store, &args.container)?;
    let parent: ImageId = container.image.parse().map_err(anyhow::Error::new)?;
    let changes = changes(&store, args, &container, &parent)?;
    // Before it is frozen: who presses Ctrl-C wants no image, and the container to go on.
    let cancel = by_signals(Insist::Never)?;
    let frozen = if args.pause { freeze(&container) } else { None };
    let image = commit(&store, &container, &parent, &changes, names.into_iter().collect(), &cancel);
    drop(frozen);
    output::raw(format!("{}\n", image?).as_bytes())?;
    Ok(exit::DONE)
}

/// The name that the image is to have.
fn name(text: &str) -> Result<Reference, Failure> {
    Reference::parse(text).and_then(|name| name.as_new_name()).map_err(Failure::usage)
}

fn commit(
    store: &Store,
    container: &Container,
    parent: &ImageId,
    changes: &Changes,
    names: Vec<Reference>,
    cancel: &Cancel,
) -> Result<ImageId, Failure> {
    let layers = store.container_layers(&container.id).map_err(anyhow::Error::new)?;
    flush(store, &layers.id)?;
    let union = store.driver().union_against(&layers.id, Some(&layers.init)).map_err(anyhow::Error::new)?;
    let limits = Limits::default();
    let work = Work { store, mounter: &Servers, limits: &limits, jobs: 1, progress: &Silent, cancel };
    let image = plyfs_image::commit(&work, Some(parent), changes, names, |out| {
        let packed = pack::pack_changes(&union, out)?;
        for path in &packed.left_out {
            output::warn(format_args!("{path} is left out: it is a socket"));
        }
        Ok(())
    });
    Ok(image.map_err(anyhow::Error::new)?.id)
}

/// A container that stands still; it goes on when this goes, whatever happened meanwhile.
struct Frozen {
    runtime: Runtime,
    run: RunDir,
    id: String,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = self.runtime.resume(&self.run, &self.id) {
            output::warn(format_args!("the container is still paused: {}", told(&error)));
        }
    }
}

/// The image's config with what the container was told otherwise, and then with the command line's changes.
fn changes(
    store: &Store,
    args: &CommitArgs,
    container: &Container,
    parent: &ImageId,
) -> anyhow::Result<Changes> {
    let image = store.image(parent)?;
    let mut document: Map<String, Value> = serde_json::from_slice(&image.raw)?;
    let mut config = match document.remove("config") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    let own = &container.config;
    let mut set = |key: &str, value: Value| drop(config.insert(key.to_owned(), value));
    set("Cmd", json!(own.cmd));
    set("Entrypoint", if own.entrypoint.is_empty() { Value::Null } else { json!(own.entrypoint) });
    set("Env", json!(own.env));
    set("User", json!(own.user));
    set("WorkingDir", json!(own.working_dir));
    set("Labels", json!(own.labels));
    set("Volumes", if own.volumes.is_empty() { Value::Null } else { json!(own.volumes) });
    if !own.stop_signal.is_empty() {
        set("StopSignal", json!(own.stop_signal));
    }
    for change in &args.changes {
        instructions::apply(&mut config, change)?;
    }
    let words: Vec<&str> =
        std::iter::once(&container.path).chain(&container.args).map(String::as_str).collect();
    Ok(Changes {
        config: Some(config),
        author: args.author.clone(),
        comment: args.message.clone(),
        created_by: words.join(" "),
    })
}

/// Stops a running container for a while, so that its files are of one moment. Where its runtime cannot, it goes on.
fn freeze(container: &Container) -> Option<Frozen> {
    if !container.state.running {
        return None;
    }
    let run = RunDir::of(&container.id).ok()?;
    let runtime = Runtime::at(run.runtime()?);
    let paused = if runtime.cgroups {
        runtime.pause(&run, &container.id)
    } else {
        Err(anyhow!("it runs without control groups"))
    };
    match paused {
        Ok(()) => Some(Frozen { runtime, run, id: container.id.clone() }),
        Err(error) => {
            output::note(format_args!("the container is not paused meanwhile: {}", told(&error)));
            None
        }
    }
}
