//! Which command line this is: by program name (`mount.aufs`, `fuse-overlayfs`, ...) and by form. Every way to say
//! "mount" becomes one [`MountPlan`].

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::cli::store::StoreArgs;
use crate::cli::{BareMount, Cli, Command, HelperMount, HelperUmount, MountArgs, UmountArgs};
use crate::exit;

/// A mount that was asked for, whatever the form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MountPlan {
    /// The words of every `-o`, in order.
    pub(crate) options: Vec<OsString>,
    /// Unknown options are warned about instead of refused.
    pub(crate) lenient: bool,
    /// The SOURCE word.
    pub(crate) source: Option<OsString>,
    /// The mount point as given.
    pub(crate) target: PathBuf,
    /// Do not go to the background.
    pub(crate) foreground: bool,
    /// Log everything.
    pub(crate) debug: bool,
    /// Check only.
    pub(crate) fake: bool,
    /// Say what is done.
    pub(crate) verbose: bool,
    /// Do it in this mount namespace.
    pub(crate) namespace: Option<PathBuf>,
    /// Exit codes are mount(8)'s.
    pub(crate) helper: bool,
}

/// An unmount that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UmountPlan {
    /// The mount point as given.
    pub(crate) target: PathBuf,
    /// Detach.
    pub(crate) lazy: bool,
    /// Abort what hangs.
    pub(crate) force: bool,
    /// If busy, make it read-only.
    pub(crate) read_only_if_busy: bool,
    /// Say what is done.
    pub(crate) verbose: bool,
    /// Do it in this mount namespace.
    pub(crate) namespace: Option<PathBuf>,
    /// Exit codes are mount(8)'s.
    pub(crate) helper: bool,
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Any form of mount.
    Mount(MountPlan),
    /// Any form of unmount.
    Umount(UmountPlan),
    /// One of the other commands, and which store it is to use if it uses one.
    Command(Command, StoreArgs),
}

/// A command line that is not to be run: a mistake, or a question (`--help`, `--version`).
#[derive(Debug)]
pub(crate) struct NotRun {
    /// clap's text, coloured by it.
    pub(crate) error: clap::Error,
    /// The exit code.
    pub(crate) code: u8,
}

impl NotRun {
    /// Shows clap's text, on the stream that fits, and gives the exit code.
    pub(crate) fn show(&self) -> u8 {
        match self.error.print() {
            Ok(()) => self.code,
            // The reader is gone (`plyfs --help | head`), or nothing can be written anywhere.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => self.code,
            Err(_) => exit::FAILED,
        }
    }
}

/// Reads a command line, program name first.
pub(crate) fn read(argv: &[OsString]) -> Result<Request, NotRun> {
    let program = argv.first().map(Path::new).and_then(Path::file_name).unwrap_or(OsStr::new("plyfs"));
    match program.to_str().unwrap_or_default() {
        name if name.starts_with("mount.") => {
            helper(argv).map(|args: HelperMount| Request::Mount(args.into()))
        }
        name if name.starts_with("umount.") => {
            helper(argv).map(|args: HelperUmount| Request::Umount(args.into()))
        }
        "fuse-overlayfs" => bare(argv),
        _ if is_bare(argv) => bare(argv),
        _ => {
            let matches = Cli::command().try_get_matches_from(argv);
            let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
            cli.map(|cli| request(cli.command, cli.store)).map_err(|error| not_run(error, exit::USAGE))
        }
    }
}

/// `plyfs` without a command word: fuse-overlayfs' own form or mount.fuse3's.
fn is_bare(argv: &[OsString]) -> bool {
    let Some(first) = argv.get(1).and_then(|word| word.to_str()) else { return argv.len() > 1 };
    if let Some(flags) = first.strip_prefix('-') {
        return flags.starts_with(['o', 'f', 'd']);
    }
    let known = Cli::command().get_subcommands().any(|c| c.get_name() == first);
    // A wrong command word should be told so; a mount always has a mount point after its source.
    !known && argv.len() > 2 && argv.iter().skip(2).any(|word| word.as_encoded_bytes().starts_with(b"-o"))
}

fn bare(argv: &[OsString]) -> Result<Request, NotRun> {
    let args = BareMount::try_parse_from(argv).map_err(|error| not_run(error, exit::USAGE))?;
    Ok(Request::Mount(args.into()))
}

fn helper<T: Parser>(argv: &[OsString]) -> Result<T, NotRun> {
    T::try_parse_from(argv).map_err(|error| not_run(error, exit::HELPER_USAGE))
}

fn not_run(error: clap::Error, usage: u8) -> NotRun {
    let code = if error.use_stderr() { usage } else { exit::DONE };
    NotRun { error, code }
}

fn request(command: Command, store: StoreArgs) -> Request {
    match command {
        Command::Mount(args) => Request::Mount(args.into()),
        Command::Umount(args) => Request::Umount(args.into()),
        other => Request::Command(other, store),
    }
}

/// `[SOURCE] DIR`: a lone word, which clap takes for the first, is the mount point.
fn source_and_target(source: Option<OsString>, dir: Option<PathBuf>) -> (Option<OsString>, PathBuf) {
    match dir {
        Some(dir) => (source, dir),
        None => (None, source.unwrap_or_default().into()),
    }
}

impl From<MountArgs> for MountPlan {
    fn from(args: MountArgs) -> MountPlan {
        let (source, target) = source_and_target(args.source, args.dir);
        MountPlan {
            options: args.options,
            source,
            target,
            foreground: args.foreground || args.debug,
            debug: args.debug,
            ..MountPlan::default()
        }
    }
}

impl From<BareMount> for MountPlan {
    fn from(args: BareMount) -> MountPlan {
        let (source, target) = source_and_target(args.source, args.dir);
        MountPlan {
            options: args.options,
            lenient: true,
            source,
            target,
            foreground: args.foreground || args.debug,
            debug: args.debug,
            ..MountPlan::default()
        }
    }
}

impl From<HelperMount> for MountPlan {
    fn from(args: HelperMount) -> MountPlan {
        MountPlan {
            options: args.options,
            lenient: true,
            source: Some(args.source),
            target: args.dir,
            fake: args.fake,
            verbose: args.verbose,
            namespace: args.namespace,
            helper: true,
            ..MountPlan::default()
        }
    }
}

impl From<UmountArgs> for UmountPlan {
    fn from(args: UmountArgs) -> UmountPlan {
        UmountPlan { target: args.dir, lazy: args.lazy, ..UmountPlan::default() }
    }
}

impl From<HelperUmount> for UmountPlan {
    fn from(args: HelperUmount) -> UmountPlan {
        UmountPlan {
            target: args.dir,
            lazy: args.lazy,
            force: args.force,
            read_only_if_busy: args.read_only,
            verbose: args.verbose,
            namespace: args.namespace,
            helper: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn mount(line: &str) -> MountPlan {
        match read(&argv(line)) {
            Ok(Request::Mount(plan)) => plan,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_form_is_the_same_mount() {
        let want = MountPlan {
            options: vec!["br:/a=rw:/b=ro".into()],
            source: Some("none".into()),
            target: "/m".into(),
            ..MountPlan::default()
        };
        let lenient = MountPlan { lenient: true, ..want.clone() };
        let helper = MountPlan { helper: true, ..lenient.clone() };
        let cases = [
            ("plyfs mount -o br:/a=rw:/b=ro none /m", &want),
            ("/usr/bin/plyfs mount none /m -o br:/a=rw:/b=ro", &want),
            ("plyfs mount none -obr:/a=rw:/b=ro /m", &want),
            ("plyfs -o br:/a=rw:/b=ro none /m", &lenient),
            ("plyfs none /m -o br:/a=rw:/b=ro", &lenient),
            ("fuse-overlayfs -o br:/a=rw:/b=ro none /m", &lenient),
            ("mount.aufs none /m -o br:/a=rw:/b=ro", &helper),
            ("/sbin/mount.plyfs none /m -n -s -o br:/a=rw:/b=ro", &helper),
            ("mount.fuse.aufs -t fuse.aufs none /m -o br:/a=rw:/b=ro", &helper),
            ("mount.fuse.plyfs none /m -o br:/a=rw:/b=ro -t fuse.plyfs", &helper),
        ];
        for (line, want) in cases {
            assert_eq!(&mount(line), want, "{line}");
        }
    }

    #[test]
    fn engines_write_no_source() {
        let plan = mount("plyfs -o lowerdir=/a:/b,upperdir=/u,workdir=/w /m");
        assert_eq!((plan.source, plan.target), (None, "/m".into()));
        let plan = mount("plyfs -f -o lowerdir=/a -o ro /m");
        assert_eq!(plan.options, ["lowerdir=/a", "ro"]);
        assert!(plan.foreground && !plan.debug);
        assert!(mount("fuse-overlayfs -d -o lowerdir=/a /m").foreground);
    }

    #[test]
    fn flags_of_helpers_are_mounts_own() {
        let plan = mount("mount.aufs none /m -fv -o rw,br=/a -N /proc/1/ns/mnt");
        assert!(plan.fake && plan.verbose && !plan.foreground);
        assert_eq!(plan.namespace, Some("/proc/1/ns/mnt".into()));
        let Ok(Request::Umount(plan)) = read(&argv("umount.fuse.aufs /m -l -n -t fuse.aufs")) else {
            panic!("an unmount");
        };
        assert!(plan.lazy && plan.helper && !plan.force);
    }

    #[test]
    fn mistakes_have_the_right_code() {
        let code = |line: &str| read(&argv(line)).map(|_| ()).unwrap_err().code;
        assert_eq!(code("plyfs"), exit::USAGE);
        assert_eq!(code("plyfs frobnicate"), exit::USAGE);
        assert_eq!(code("plyfs mount /m"), exit::USAGE);
        assert_eq!(code("mount.aufs none"), exit::HELPER_USAGE);
        assert_eq!(code("umount.aufs"), exit::HELPER_USAGE);
        for question in
            ["plyfs -h", "plyfs --version", "plyfs -V", "fuse-overlayfs -V", "fuse-overlayfs --version"]
        {
            assert_eq!(code(question), exit::DONE, "{question}");
        }
    }

    #[test]
    fn what_try_runs_keeps_its_own_flags() {
        for line in ["plyfs try -- sh -c x -o", "plyfs try sh -c x -o"] {
            let Ok(Request::Command(Command::Try(args), _)) = read(&argv(line)) else { panic!("{line}") };
            assert_eq!(args.command, ["sh", "-c", "x", "-o"]);
        }
    }

    #[test]
    fn usage_shows_the_source_as_optional() {
        for line in ["plyfs mount --help", "plyfs -o x --help", "fuse-overlayfs --help"] {
            let text = read(&argv(line)).map(|_| ()).unwrap_err().error.to_string();
            assert!(text.contains("-o OPTIONS [SOURCE] DIR"), "{line}: {text}");
        }
    }

    #[test]
    fn the_clap_definitions_hold() {
        Cli::command().debug_assert();
        BareMount::command().debug_assert();
        HelperMount::command().debug_assert();
        HelperUmount::command().debug_assert();
    }
}
