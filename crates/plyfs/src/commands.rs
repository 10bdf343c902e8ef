//! One file for each command; this one finds it.

use crate::cli::Command;
use crate::cli::store::{StoreArgs, StoreCommand};
use crate::exit::{Failure, Outcome};
use crate::personality::{Request, UmountPlan};

mod check;
mod completions;
mod containers;
mod diff;
mod doctor;
mod images;
mod info;
mod interrupt;
mod man;
mod mount;
mod prune;
mod status;
mod times;
mod try_cmd;
pub(crate) mod umount;
pub(crate) mod which;
mod whole_file;

/// Does what was asked for.
pub(crate) fn run(request: Request) -> Outcome {
    match request {
        Request::Mount(plan) => mount::run(&plan),
        Request::Umount(plan) => umount::run(&plan),
        Request::Command(command, store) => other(command, &store),
    }
}

fn other(command: Command, store: &StoreArgs) -> Outcome {
    match command {
        Command::Mount(args) => mount::run(&args.into()),
        Command::Umount(args) => umount::run(&UmountPlan::from(args)),
        Command::Try(args) => try_cmd::run(&args).map_err(try_failure),
        Command::TryInit(args) => try_cmd::init::run(&args).map_err(try_failure),
        Command::Status(args) => status::run(&args),
        Command::Which(args) => which::run(&args),
        Command::Diff(args) => diff::run(&args, store),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Store(StoreCommand::Info(args)) => info::run(&args, store),
        Command::Store(StoreCommand::Check(args)) => check::run(&args, store),
        Command::Store(StoreCommand::Prune(args)) => prune::run(&args, store),
        Command::Image(command) => images::run(command, store),
        Command::Container(command) => containers::run(command, store),
    }
}

/// What `try` itself could not do must not look like the command's own failure.
fn try_failure(failure: Failure) -> Failure {
    if failure.code == crate::exit::FAILED { failure.with_code(crate::exit::TRY_FAILED) } else { failure }
}
