//! `plyfs try`: a command over a copy-on-write view of this machine's files.
//!
//! This process is the server of the view's unions and stays outside the command's pid namespace; the mounts are made
//! in a mount namespace of this process, so the host never sees them and they cannot outlive it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use plyfs_sys::process::signals::{self, Signals};
use plyfs_sys::process::terminal::Foreground;
use plyfs_sys::process::view;
use plyfs_sys::process::{self, Ended};
use serde::Serialize;

use crate::changes::Changes;
use crate::cli::{TRY_INIT, TryArgs};
use crate::exit::{Failure, Outcome};
use crate::output::{self, Page, Report, Tone, path_line};
use crate::{log, serve};

mod area;
pub(crate) mod init;
mod parts;
mod stage;

use area::Area;
use stage::Stage;

/// What [`wait`] takes: a child's end, and what is to be handed on.
const WAITED_FOR: [i32; 5] =
    [signals::SIGCHLD, signals::SIGTERM, signals::SIGHUP, signals::SIGINT, signals::SIGQUIT];

/// The answer.
#[derive(Debug, Serialize)]
struct Tried {
    /// What try passes on.
    exit_code: u8,
    #[serde(flatten)]
    changes: Changes,
    /// Where the changes are kept; null when they were discarded.
    kept: Option<String>,
    /// The list was shown already, before the question.
    #[serde(skip)]
    listed: bool,
}

/// Runs the command and deals with what it changed.
pub(crate) fn run(args: &TryArgs) -> Outcome {
    log::start(false, false);
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let binds = args.bind.iter().map(|path| resolve(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut area = Area::open(args.keep.as_deref())?;
    let outcome = run_in(args, &mut area, &cwd, &binds);
    let outcome = outcome.and_then(|(code, changes)| {
        let changes = match changes {
            Ok(changes) => changes,
            Err(error) if args.keep.is_some() => {
                // The work is there, only the list of it is not.
                area.keep()?;
                return Err(error.context(format!("kept in {}, but", area.dir().display())).into());
            }
            Err(error) => return Err(error.into()),
        };
        let (keep, listed) = decide(args, &area, &changes)?;
        if keep {
            area.keep()?;
        }
        let kept = keep.then(|| path_line(area.dir()));
        output::show(&Tried { exit_code: code, changes, kept, listed }, args.json)?;
        Ok(code)
    });
    // Also after a failure; one that is already on its way out is the one to tell.
    match (area.close(), outcome) {
        (Err(error), Ok(_)) => Err(error.into()),
        (_, outcome) => outcome,
    }
}

fn resolve(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("--bind {}", path.display()))
}

/// The command's exit code, and what it changed.
type Ran = (u8, anyhow::Result<Changes>);

fn run_in(args: &TryArgs, area: &mut Area, cwd: &Path, binds: &[PathBuf]) -> Result<Ran, Failure> {
    let (open_files, umask) = (process::open_files_limit().0, process::set_umask(0o022));
    view::unshare_mounts().context("making a namespace for the command")?;
    // Before the first thread, so that every thread leaves them to `wait`.
    let signals = Signals::block(&WAITED_FOR).map_err(anyhow::Error::new)?;
    serve::prepare_process();
    let terminal = Foreground::ours();
    let mut stage = Stage::build(area, binds)?;
    let ended = match view::View::new(stage.root(), cwd, umask, open_files) {
        Ok(view) => run_command(view, &args.command, &signals),
        Err(error) => Err(error.into()),
    };
    if let Some(Err(error)) = terminal.map(|terminal| terminal.take_back()) {
        tracing::debug!("{error}");
    }
    let changes = stage.stop().and_then(|()| stage.changes());
    // Whatever happened: the host's files must be out of reach before anything is removed.
    stage.finish()?;
    Ok((ended?.shell_code(), changes))
}

/// On a thread of its own: one that has made a pid namespace for its children can make no more threads.
fn run_command(view: view::View, command: &[OsString], signals: &Signals) -> anyhow::Result<Ended> {
    let run = || spawn(view, command, signals).and_then(|child| wait(child, signals));
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|_| Err(anyhow!("the thread that ran the command panicked")))
}

/// Starts this program again as the init of a new pid namespace under the new root.
fn spawn(view: view::View, command: &[OsString], signals: &Signals) -> anyhow::Result<u32> {
    view::unshare_pids().context("making a pid namespace for the command")?;
    let mut init = Command::new("/proc/self/exe");
    init.arg0("plyfs").arg(TRY_INIT).arg("--").args(command);
    signals.unblock_in(&mut init);
    let child = view.spawn(&mut init).context("entering the view")?;
    Ok(child.id())
}

/// Waits for the command, handing on the signals that it did not get by itself.
fn wait(child: u32, signals: &Signals) -> anyhow::Result<Ended> {
    loop {
        let caught = signals.next()?;
        if caught.signal == signals::SIGCHLD {
            while let Some((pid, ended)) = process::reap() {
                if pid == child {
                    return Ok(ended);
                }
            }
            continue;
        }
        // A key on the terminal reached everybody in the foreground, the command too.
        let had_it = caught.from_kernel && matches!(caught.signal, signals::SIGINT | signals::SIGQUIT);
        if !had_it && let Err(error) = process::send(child, caught.signal) {
            tracing::debug!("handing on a signal: {error}");
        }
    }
}

/// Keep or discard, as told or as answered; and whether the list was shown with the question.
fn decide(args: &TryArgs, area: &Area, changes: &Changes) -> Result<(bool, bool), Failure> {
    if args.keep.is_some() || args.discard || changes.is_empty() {
        return Ok((args.keep.is_some(), false));
    }
    if !output::is_interactive() || args.json {
        output::note(
            "the changes are discarded (use --keep DIR to keep them, --discard to do without this note)",
        );
        return Ok((false, false));
    }
    output::show(&Listed(changes), false)?;
    loop {
        match output::ask("keep or discard? [k/d] ").as_deref() {
            Some("k" | "keep") => return Ok((true, true)),
            Some("d" | "discard") | None => return Ok((false, true)),
            Some(_) => {
                output::note(format_args!("k keeps them in {}, d discards them", area.dir().display()))
            }
        }
    }
}

/// The list alone, before the question.
#[derive(Serialize)]
struct Listed<'a>(&'a Changes);

impl Report for Listed<'_> {
    fn text(&self, page: &mut Page<'_>) -> std::io::Result<()> {
        self.0.lines(page, true)?;
        page.line(self.0.summary())
    }
}

impl Report for Tried {
    fn text(&self, page: &mut Page<'_>) -> std::io::Result<()> {
        if self.changes.is_empty() {
            return page.line("nothing was changed");
        }
        if !self.listed {
            Listed(&self.changes).text(page)?;
        }
        match &self.kept {
            Some(dir) => page.line(format_args!("kept in {}", page.paint(Tone::Strong, dir))),
            None => page.line("discarded"),
        }
    }
}
