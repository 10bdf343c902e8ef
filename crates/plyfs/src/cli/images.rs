//! Commands about images.

use clap::Subcommand;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {}
