//! Commands about containers.

use anyhow::anyhow;
use plyfs_store::Store;
use plyfs_store::containers::Container;

use crate::cli::containers::ContainerCommand;
use crate::cli::store::StoreArgs;
use crate::container::reconcile;
use crate::exit::{self, Failure, Outcome};
use crate::{container, log, output};

mod commit;
pub(crate) mod diff;
mod export;
mod inspect;
mod logs;
mod mount;
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
        ContainerCommand::Logs(args) => logs::run(&args, store),
        ContainerCommand::Inspect(args) => inspect::run(&args, store),
        ContainerCommand::MountContainer(args) => mount::run(&args, store),
        ContainerCommand::Commit(args) => commit::run(&args, store),
        ContainerCommand::Export(args) => export::run(&args, store),
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

/// Opens the store to look at containers. If one has lost its monitor, it is put in order first; where that is refused,
/// things are shown as they are.
fn open_to_look(store: &StoreArgs) -> Result<Store, Failure> {
    let opened = crate::store::open_to_read(store)?;
    let lost = |one: &Container| reconcile::is_lost(&opened, one).unwrap_or(false);
    if opened.containers().is_ok_and(|all| all.iter().any(lost)) {
        match crate::store::open_to_write(store) {
            Ok(writable) => return Ok(writable),
            Err(failure) => tracing::info!("{failure}"),
        }
    }
    Ok(opened)
}

/// Finds a container as it is, in a store that is perhaps only read.
fn look(store: &Store, name: &str) -> Result<Container, Failure> {
    store.find_container(name).map_err(|error| {
        if error.is_not_found() {
            anyhow!("No such container: {name}").into()
        } else {
            anyhow::Error::new(error).into()
        }
    })
}

/// What a running container has written and not yet given to its layer.
fn flush(store: &Store, id: &plyfs_store::LayerId) -> anyhow::Result<()> {
    let driver = store.driver();
    if driver.is_mounted(id)? {
        plyfs_sys::Dir::open(&driver.mount_dir(id))?.syncfs()?;
    }
    Ok(())
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
