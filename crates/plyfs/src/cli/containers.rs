//! Commands about containers.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// Make a container of an image, not started
    Create(Box<CreateCommand>),
    /// Make a container of an image and run a command in it
    Run(Box<RunArgs>),
    /// Start containers that do not run
    Start(StartArgs),
    /// Stop running containers: their stop signal, and after a while SIGKILL
    Stop(StopArgs),
    /// Send a signal to running containers
    Kill(KillArgs),
    /// Wait until containers have ended and print their exit codes
    Wait(Containers),
    /// List containers
    Ps(PsArgs),
    /// Remove containers
    Rm(RmArgs),
    /// Show what a container has written to standard output and error
    Logs(LogsArgs),
    /// Show all that is known about containers and images, as a JSON array like Docker's
    Inspect(InspectArgs),
    /// Mount a container's files and print where (they stay mounted)
    MountContainer(MountContainerArgs),
    /// Make an image of what a container has changed
    Commit(CommitArgs),
    /// Write all files of a container as a tar archive
    Export(ExportArgs),
    /// The process that runs one container
    #[command(name = MONITOR, hide = true)]
    Monitor(MonitorArgs),
}

/// The hidden command that watches a container.
pub(crate) const MONITOR: &str = "__monitor";

/// What a container is to be, for `create` and `run`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Remove the container, with its nameless volumes, when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(short = 'v', long = "volume", value_name = "[SRC:]DST[:ro]", help = VOLUME_HELP)]
    pub(crate) volumes: Vec<String>,
    /// Mount an empty tmpfs
    #[arg(long, value_name = "DST[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Set a variable; without a value, as it is here
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set the variables of a file, one a line; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Where the command begins (made if missing)
    #[arg(short = 'w', long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Who it is: names of the container, or numbers
    #[arg(short = 'u', long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// The container's name [default: two words]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Nothing but volumes can be written
    #[arg(long)]
    pub(crate) read_only: bool,
    /// What is run, instead of the image's entry point; empty: the command alone
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Host name inside [default: the host's; with --network none the id's first twelve digits]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Words about it
    #[arg(short = 'l', long = "label", value_name = "NAME[=VALUE]")]
    pub(crate) labels: Vec<String>,
    /// The host's network, or none: plyfs builds no networks
    #[arg(long, value_name = "MODE", default_value = "host")]
    pub(crate) network: Network,
    /// Whether to pull the image first
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: Pull,
    /// Write the container's id into FILE, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// What `stop` sends [default: SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// The OCI runtime, by name or path [default: $PLYFS_RUNTIME, or the first of crun, runc, youki that is installed]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) runtime: Option<String>,
    /// The image: name, name:tag, name@digest, or id
    pub(crate) image: String,
    /// The command instead of the image's, or arguments for its entry point
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

const VOLUME_HELP: &str = "\
SRC:DST[:ro] shows a directory or file of the host (made if missing), or a volume if SRC is a name; DST alone, a nameless \
volume. What is written there does not go into the container";

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// The host's own
    Host,
    /// Nothing but a loopback
    None,
}

/// When to pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    /// If it is not here
    Missing,
    /// Never
    Never,
    /// Each time
    Always,
}

/// `plyfs create`
#[derive(Debug, Args)]
pub(crate) struct CreateCommand {
    /// What it is to be.
    #[command(flatten)]
    pub(crate) create: CreateArgs,
}

/// `plyfs run`
#[derive(Debug, Args)]
#[command(after_help = RUN_CODES)]
pub(crate) struct RunArgs {
    /// Run it in the background and print its id
    #[arg(short = 'd', long)]
    pub(crate) detach: bool,
    /// What it is to be.
    #[command(flatten)]
    pub(crate) create: CreateArgs,
}

const RUN_CODES: &str = "\
Exit code: the command's (128+n if signal n killed it); 125 plyfs failed, 126 the command cannot be executed, \
127 there is no such command.";

/// `plyfs start`
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Show its output and pass on signals and its exit code (one container)
    #[arg(short = 'a', long)]
    pub(crate) attach: bool,
    /// Also give it standard input (one container)
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `plyfs stop`
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// How long to wait before SIGKILL
    #[arg(short = 't', long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) time: u64,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `plyfs kill`
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// By name or number
    #[arg(short = 's', long, default_value = "KILL")]
    pub(crate) signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Containers alone.
#[derive(Debug, Args)]
pub(crate) struct Containers {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `plyfs ps`
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also those that do not run
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// Ids alone
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plyfs rm`
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Kill those that run
    #[arg(short = 'f', long)]
    pub(crate) force: bool,
    /// Also their nameless volumes
    #[arg(short = 'v', long)]
    pub(crate) volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `plyfs logs`
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on until the container ends
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// Begin N lines before the end; all is everything
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    pub(crate) tail: String,
    /// Show times
    #[arg(short = 't', long)]
    pub(crate) timestamps: bool,
    /// Only since then: an RFC 3339 time, or a span before now such as 90s, 10m, 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Name or id
    pub(crate) container: String,
}

/// `plyfs inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Only this kind of thing
    #[arg(long = "type", value_name = "KIND")]
    pub(crate) kind: Option<Inspected>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Inspected {
    /// Containers
    Container,
    /// Images
    Image,
}

/// `plyfs mount-container`
#[derive(Debug, Args)]
pub(crate) struct MountContainerArgs {
    /// Give it back: the last one unmounts
    #[arg(long)]
    pub(crate) unmount: bool,
    /// Name or id
    pub(crate) container: String,
}

/// `plyfs commit`
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Who made it
    #[arg(short = 'a', long, default_value = "", hide_default_value = true)]
    pub(crate) author: String,
    /// What was changed
    #[arg(short = 'm', long, default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    /// Change the image's config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR as in a Dockerfile
    #[arg(short = 'c', long = "change", value_name = "INSTRUCTION")]
    pub(crate) changes: Vec<String>,
    /// Freeze a running container meanwhile (--pause=false: do not)
    #[arg(short = 'p', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    pub(crate) pause: bool,
    /// Name or id
    pub(crate) container: String,
    /// What the image is to be called
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) reference: Option<String>,
}

/// `plyfs export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Write here instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Name or id
    pub(crate) container: String,
}

/// `plyfs __monitor`
#[derive(Debug, Args)]
pub(crate) struct MonitorArgs {
    /// The container's whole id
    pub(crate) id: String,
}
