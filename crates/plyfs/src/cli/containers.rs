//! Commands about containers.

use clap::Subcommand;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {}
