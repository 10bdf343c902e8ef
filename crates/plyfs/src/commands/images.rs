//! Commands about images.

use crate::cli::images::ImageCommand;
use crate::cli::store::StoreArgs;
use crate::exit::Outcome;

/// Carries out one of them.
pub(crate) fn run(command: ImageCommand, _store: &StoreArgs) -> Outcome {
    match command {}
}
