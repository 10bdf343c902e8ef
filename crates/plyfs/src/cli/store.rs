//! Commands about the store as a whole, and the options that say which store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Which store, before the command word: `plyfs --root DIR images`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// The store of images and containers [default: /var/lib/plyfs; ordinary users: $XDG_DATA_HOME/plyfs]
    #[arg(long, value_name = "DIR", help_heading = "Store")]
    pub(crate) root: Option<PathBuf>,
    /// Change a store that Docker made (stop Docker first); without it such a store is only read
    #[arg(long, help_heading = "Store")]
    pub(crate) writable: bool,
}

/// The commands about the whole.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Show the store's numbers and its driver, as docker info did
    Info(InfoArgs),
    /// Look for what does not fit together in the store; changes nothing
    Check(CheckArgs),
    /// Remove stopped containers, images without a name, unused layers and broken downloads
    Prune(PruneArgs),
}

/// `plyfs info`
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plyfs check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Also read every file of every image layer and compare with the layer's digest
    #[arg(long)]
    pub(crate) contents: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plyfs prune`
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also images that have a name but no container
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short = 'f', long)]
    pub(crate) force: bool,
    /// Print JSON (does not ask)
    #[arg(long)]
    pub(crate) json: bool,
}
