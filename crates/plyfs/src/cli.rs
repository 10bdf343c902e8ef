//! Every command line that plyfs understands, as clap structs. Help, man pages and completions come from here.
//!
//! Not here: which of these a given argv is (`personality`), what they do (`commands`).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

pub(crate) mod containers;
pub(crate) mod images;
pub(crate) mod store;

/// AUFS for today's kernels: a union filesystem in user space.
#[derive(Debug, Parser)]
#[command(name = "plyfs", version, max_term_width = 100, after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Which store the commands about images and containers use.
    #[command(flatten)]
    pub(crate) store: store::StoreArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Also: plyfs -o OPTIONS [SOURCE] DIR     mount, as fuse-overlayfs and mount.fuse3 write it
      mount -t aufs -o OPTIONS none DIR through the helper /sbin/mount.aufs (a link to plyfs)";

const AFTER_LONG_HELP: &str = "\
Other forms:
  plyfs -o OPTIONS [SOURCE] DIR [-f] [-d]   mount, as fuse-overlayfs writes it (engines' mount_program)
  plyfs SOURCE DIR -o OPTIONS               the same, as mount.fuse3 writes it
  by program name, links to plyfs:
    fuse-overlayfs                          the same, for engines that look for that program
    /sbin/mount.aufs, /sbin/mount.plyfs     for mount -t aufs, mount -t plyfs and /etc/fstab
    /sbin/mount.fuse.aufs, /sbin/umount.fuse.aufs
                                            for mount -o remount DIR and umount DIR: the kernel's name of the type
    /sbin/mount.fuse.plyfs                  for mount -t fuse.plyfs
    /sbin/umount.aufs, /sbin/umount.plyfs   the same as umount.fuse.aufs, to be called by name

Exit codes:
  0 done; 1 failed; 2 usage
  mount and umount helpers: 1 usage, 2 system error, 32 mount failed (mount(8)'s own)
  try, run: the command's code; 125 plyfs failed, 126 cannot be executed, 127 no such command

Environment:
  PLYFS_LOG      filter of log lines, e.g. debug or plyfs_fuse=trace
  PLYFS_RUNTIME  the OCI runtime for containers, by name or path
  NO_COLOR       if set, no colours";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command over a copy-on-write view of this machine's own files
    Try(TryArgs),
    /// Mount a union of directories
    Mount(MountArgs),
    /// Unmount a union and wait until its server has ended
    Umount(UmountArgs),
    /// Show every union mounted, or one: branches, permissions, options, server
    Status(StatusArgs),
    /// Tell which branch serves a path, what it hides, and why
    Which(WhichArgs),
    /// List what the writable branches add, change and delete
    Diff(DiffArgs),
    /// Tell what this kernel, user and filesystem give, and what is missing
    Doctor(DoctorArgs),
    #[command(flatten)]
    Store(store::StoreCommand),
    #[command(flatten)]
    Image(images::ImageCommand),
    #[command(flatten)]
    Container(containers::ContainerCommand),
    /// Print a completion script
    Completions(CompletionsArgs),
    /// Print the man page, or write all of them
    Man(ManArgs),
    /// The init of the namespace that `try` makes
    #[command(name = TRY_INIT, hide = true)]
    TryInit(TryInitArgs),
}

/// The hidden command that `try` runs itself as.
pub(crate) const TRY_INIT: &str = "__try-init";

/// `plyfs try`
#[derive(Debug, Args)]
#[command(long_about = TRY_LONG, after_help = "try protects from mistakes; it is no security boundary.")]
pub(crate) struct TryArgs {
    /// Keep what the command changed in DIR (made if missing, else empty)
    #[arg(long, value_name = "DIR", conflicts_with = "discard")]
    pub(crate) keep: Option<PathBuf>,
    /// Throw away what the command changed, without asking
    #[arg(long)]
    pub(crate) discard: bool,
    /// Let the command change PATH for real (may be given several times)
    #[arg(long, value_name = "PATH")]
    pub(crate) bind: Vec<PathBuf>,
    /// Print the list of changes as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

const TRY_LONG: &str = "\
Run a command over a copy-on-write view of this machine's own files. Whatever it writes, renames or removes \
goes into a fresh writable branch; the machine's files stay as they are. Afterwards the added (A), changed (C) \
and deleted (D) files are listed, and, on a terminal, you are asked whether to keep or discard them; without a \
terminal they are discarded unless --keep is given.

try protects from mistakes; it is NO SECURITY BOUNDARY. The command keeps your network, your devices (/dev is \
the real one) and, as root, root's power over both.

What the command sees:
  /                     your root directory, copy-on-write
  other filesystems     (/home, /boot, /run, a tmpfs on /tmp, ...) each copy-on-write as well; read-only ones and \
FUSE filesystems of others are shown as they are, read-only
  /proc                 fresh: the command sees only its own processes, which end when it ends (as root, /proc/sys is the \
real one)
  /dev, /sys            the real ones (/sys read-only); /dev/shm is fresh and empty
  sockets               files that servers of the host listen on are not connected (D-Bus, docker, X11); \
--bind PATH brings in the real thing
  --bind PATH           is the real PATH: changes below it are real and are not listed

As an ordinary user the view is the same with your own rights: what you may not write you may not write there \
either, and set-user-id programs such as sudo do not work.";

/// `[SOURCE] DIR`. An optional word before a needed one is beyond clap if options may stand between the two.
fn place() -> ArgGroup {
    ArgGroup::new("place").args(["source", "dir"]).required(true).multiple(true)
}

/// `plyfs mount`
#[derive(Debug, Args)]
#[command(group = place())]
#[command(override_usage = "plyfs mount -o OPTIONS [SOURCE] DIR [-f] [-d]")]
pub(crate) struct MountArgs {
    /// AUFS's options (br:/rw=rw:/ro=ro,udba=reval) or overlay's (lowerdir=/a:/b,upperdir=/u,workdir=/w); may be
    /// given several times
    #[arg(
        short = 'o',
        long = "options",
        value_name = "OPTIONS",
        required = true,
        allow_hyphen_values = true
    )]
    pub(crate) options: Vec<OsString>,
    /// Stay in the foreground
    #[arg(short = 'f', long)]
    pub(crate) foreground: bool,
    /// Log what happens (implies --foreground)
    #[arg(short = 'd', long)]
    pub(crate) debug: bool,
    /// Any word to stand in /proc/mounts (may be left out)
    pub(crate) source: Option<OsString>,
    /// The mount point
    pub(crate) dir: Option<PathBuf>,
}

/// `plyfs -o OPTIONS [SOURCE] DIR`, `plyfs SOURCE DIR -o OPTIONS`, `fuse-overlayfs ...`
#[derive(Debug, Parser)]
#[command(name = "fuse-overlayfs", version, about = "Mount a union (plyfs in the place of fuse-overlayfs)")]
#[command(disable_version_flag = true)]
#[command(group = place())]
#[command(override_usage = "fuse-overlayfs -o OPTIONS [SOURCE] DIR [-f] [-d]")]
pub(crate) struct BareMount {
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        short = 'o',
        value_name = "OPTIONS",
        allow_hyphen_values = true,
        help = "lowerdir=DIR[:DIR...][,upperdir=DIR,workdir=DIR][,OPTION...]"
    )]
    pub(crate) options: Vec<OsString>,
    /// Stay in the foreground
    #[arg(short = 'f')]
    pub(crate) foreground: bool,
    /// Log what happens (implies -f)
    #[arg(short = 'd', long = "debug")]
    pub(crate) debug: bool,
    /// Print the version
    #[arg(short = 'V', long = "version", action = clap::ArgAction::Version)]
    pub(crate) version: Option<bool>,
    /// Any word to stand in /proc/mounts (may be left out)
    pub(crate) source: Option<OsString>,
    /// The mount point
    pub(crate) dir: Option<PathBuf>,
}

/// `mount.aufs SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE] [-N NAMESPACE]`: what mount(8) runs.
#[derive(Debug, Parser)]
#[command(name = "mount.aufs", version, about = "Mount helper of plyfs, run by mount(8)")]
pub(crate) struct HelperMount {
    /// Ignore options that are not known (they are always warned about only)
    #[arg(short = 's')]
    pub(crate) sloppy: bool,
    /// Fake: check everything, mount nothing
    #[arg(short = 'f')]
    pub(crate) fake: bool,
    /// Do not write /etc/mtab (it is never written)
    #[arg(short = 'n')]
    pub(crate) no_mtab: bool,
    /// Say what is done
    #[arg(short = 'v')]
    pub(crate) verbose: bool,
    /// Options
    #[arg(short = 'o', value_name = "OPTIONS", allow_hyphen_values = true)]
    pub(crate) options: Vec<OsString>,
    /// The type as mount(8) was given it (not used)
    #[arg(short = 't', value_name = "TYPE")]
    pub(crate) fs_type: Option<OsString>,
    /// Mount in the mount namespace of this file
    #[arg(short = 'N', value_name = "NAMESPACE")]
    pub(crate) namespace: Option<PathBuf>,
    /// Any word
    pub(crate) source: OsString,
    /// The mount point
    pub(crate) dir: PathBuf,
}

/// `umount.aufs DIR [-flnrv]`: what umount(8) runs.
#[derive(Debug, Parser)]
#[command(name = "umount.aufs", version, about = "Unmount helper of plyfs, run by umount(8)")]
pub(crate) struct HelperUmount {
    /// Force: make a hanging server's callers return
    #[arg(short = 'f')]
    pub(crate) force: bool,
    /// Detach now, clean up when no longer busy
    #[arg(short = 'l')]
    pub(crate) lazy: bool,
    /// Do not write /etc/mtab (it is never written)
    #[arg(short = 'n')]
    pub(crate) no_mtab: bool,
    /// If busy, remount read-only
    #[arg(short = 'r')]
    pub(crate) read_only: bool,
    /// Say what is done
    #[arg(short = 'v')]
    pub(crate) verbose: bool,
    /// The type as umount(8) was given it (not used)
    #[arg(short = 't', value_name = "TYPE")]
    pub(crate) fs_type: Option<OsString>,
    /// Unmount in the mount namespace of this file
    #[arg(short = 'N', value_name = "NAMESPACE")]
    pub(crate) namespace: Option<PathBuf>,
    /// The mount point
    pub(crate) dir: PathBuf,
}

/// `plyfs umount`
#[derive(Debug, Args)]
pub(crate) struct UmountArgs {
    /// The mount point
    pub(crate) dir: PathBuf,
    /// Detach now; the server ends when the last file is closed
    #[arg(short = 'l', long)]
    pub(crate) lazy: bool,
}

/// `plyfs status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A mount point; without it every union is shown
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plyfs which`
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// Paths in a union; they need not exist (a deleted file is explained too)
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plyfs diff`
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The mount point of a union, or a container (name or id; a directory of that name is written ./NAME)
    #[arg(value_name = "DIR|CONTAINER")]
    pub(crate) dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plyfs doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plyfs completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// `plyfs man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write all pages into DIR instead of printing the main one
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `plyfs __try-init`
#[derive(Debug, Args)]
pub(crate) struct TryInitArgs {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}
