//! Commands about images.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use plyfs_image::Reference;
use plyfs_image::platform::Platform;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Pull an image from a registry
    Pull(PullArgs),
    /// Load images from a docker-archive, an OCI layout, or a root filesystem (tar or directory)
    Load(LoadArgs),
    /// Save images as an archive that Docker, Podman, skopeo and containerd read
    Save(SaveArgs),
    /// List images
    Images(ImagesArgs),
    /// Remove images, or names of images
    Rmi(RmiArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Show how an image was made
    History(HistoryArgs),
}

/// What archives may cost.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitArgs {
    /// Raise (or lower) a limit on what archives may cost, by the name that the error says
    #[arg(long = "limit", value_name = "LIMIT=N", value_parser = limit)]
    pub(crate) limits: Vec<(String, u64)>,
    /// Layers at a time
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
}

fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("wanted LIMIT=N")?;
    let value = value.parse().map_err(|error| format!("{value:?}: {error}"))?;
    plyfs_image::limits::Limits::default()
        .set(name, value)
        .ok_or_else(|| format!("there is no limit {name:?}"))?;
    Ok((name.to_owned(), value))
}

/// `plyfs pull`
#[derive(Debug, Args)]
#[command(after_help = PULL_HELP)]
pub(crate) struct PullArgs {
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        value_name = "NAME[:TAG|@DIGEST]",
        help = "debian, debian:12, debian@sha256:..., HOST[:PORT]/PATH[:TAG]"
    )]
    pub(crate) image: Reference,
    /// Which one of images for several platforms: os/arch[/variant] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// Print the image's name alone
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Reach the registry by HTTP (loopback addresses are, if they speak it)
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Do not check the certificate of this registry, and take HTTP if it has no HTTPS
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure_registry: Vec<String>,
    /// Limits.
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

const PULL_HELP: &str = "\
Logins are those of podman login and docker login: $REGISTRY_AUTH_FILE, or
  $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json, $DOCKER_CONFIG/config.json,
  with their credential helpers. Proxies: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.";

/// `plyfs load`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("from").args(["archive", "input"]))]
pub(crate) struct LoadArgs {
    /// A file, a directory, or - for standard input (which is the default)
    pub(crate) archive: Option<PathBuf>,
    /// The same
    #[arg(short = 'i', long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Name the image so (for a root filesystem, or instead of the name that the archive gives)
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: Option<Reference>,
    /// Which one of images for several platforms: os/arch[/variant] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// Show no progress
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Limits.
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// `plyfs save`
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Names, digests (NAME@sha256:...), or ids; a name without a tag means all its tags
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Where to [default: standard output, unless it is a terminal]
    #[arg(short = 'o', long, value_name = "FILE|DIR")]
    pub(crate) output: Option<PathBuf>,
    /// In which form
    #[arg(long, value_enum, default_value_t = SaveForm::DockerArchive)]
    pub(crate) format: SaveForm,
}

/// The forms of `plyfs save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveForm {
    /// A tar archive with Docker's manifest.json and an OCI layout
    DockerArchive,
    /// A tar archive with an OCI layout
    Oci,
    /// An OCI layout in a directory
    OciDir,
}

/// `plyfs images`
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Only the images of this repository, or of this name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) only: Option<Reference>,
    /// Print ids alone
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Show the digests of manifests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plyfs rmi`
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Names, digests (NAME@sha256:...), or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Also if stopped containers use it, or if it has several tags, or names in several repositories
    #[arg(short = 'f', long)]
    pub(crate) force: bool,
}

/// `plyfs tag`
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// A name, a digest (NAME@sha256:...), or an id
    pub(crate) image: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Reference,
}

/// `plyfs history`
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// A name, a digest (NAME@sha256:...), or an id
    pub(crate) image: String,
    /// Print ids alone
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
