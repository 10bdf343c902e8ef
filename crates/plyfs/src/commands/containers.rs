//! Commands about containers.

use anyhow::anyhow;
use plyfs_store::Store;
use plyfs_store::containers::Container;

use crate::cli::containers::ContainerCommand;
use crate::cli::store::StoreArgs;
use crate::container::reconcile;
use crate::exit::{self, Failure, Outcome};
use crate::{container, log, output};

mod ps;
mod rm;
mod run;
mod start;
mod stop;

/// Carries out one of them.
pub(crate) fn run(command: ContainerCommand, store: &StoreArgs) -> Outcome {
    if !matches!(command, ContainerCommand::Monitor(_)) {
        log::start(false, false);
    }
    match command {
        ContainerCommand::Create(args) => run::create(&args.create, store).map_err(not_run),
        ContainerCommand::Run(args) => run::run(&args, store).map_err(not_run),
        ContainerCommand::Start(args) => start::run(&args, store),
        ContainerCommand::Stop(args) => stop::stop(&args, store),
        ContainerCommand::Kill(args) => stop::kill(&args, store),
        ContainerCommand::Wait(args) => stop::wait(&args, store),
        ContainerCommand::Ps(args) => ps::run(&args, store),
        ContainerCommand::Rm(args) => rm::run(&args, store),
        ContainerCommand::Monitor(args) => container::monitor::run(&args, store),
        _ => Err(Failure::usage("not yet")),
    }
}

/// What `create` and `run` themselves could not do must not look like the command's own failure.
fn not_run(failure: Failure) -> Failure {
    if failure.code == exit::FAILED { failure.with_code(exit::TRY_FAILED) } else { failure }
}

/// Finds a container, in Docker's words if there is none, and puts it in order if its monitor was lost.
fn find(store: &Store, name: &str) -> Result<Container, Failure> {
    let none = || Failure::from(anyhow!("No such container: {name}"));
    match store.find_container(name) {
        Ok(container) => reconcile::one(store, &container)?.ok_or_else(none),
        Err(error) if error.is_not_found() => Err(none()),
        Err(error) => Err(anyhow::Error::new(error).into()),
    }
}

/// Does something with each of several containers; failures are told, and do not keep the others.
fn each(names: &[String], act: &mut dyn FnMut(&str) -> Result<(), Failure>) -> Outcome {
    let mut code = exit::DONE;
    for name in names {
        if let Err(failure) = act(name) {
            output::failure(&failure);
            code = exit::FAILED;
        }
    }
    Ok(code)
}
