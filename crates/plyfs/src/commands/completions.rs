//! `plyfs completions`.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::{self, Outcome};
use crate::output;

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "plyfs", &mut script);
    output::raw(&script)?;
    Ok(exit::DONE)
}
