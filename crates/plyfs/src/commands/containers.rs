//! Commands about containers.

use crate::cli::containers::ContainerCommand;
use crate::cli::store::StoreArgs;
use crate::exit::Outcome;

/// Carries out one of them.
pub(crate) fn run(command: ContainerCommand, _store: &StoreArgs) -> Outcome {
    match command {}
}
