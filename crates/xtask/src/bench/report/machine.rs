//! On what a run took place.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::candidates::Programs;
use super::super::options::Options;
use crate::run;

/// Facts that a reader of the numbers asks for.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Machine {
    /// Seconds since 1970 at the start.
    pub(crate) started: u64,
    pub(crate) seconds: f64,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) memory_mib: u64,
    /// Microseconds for a byte to another thread and back through pipes: two wake-ups, as every FUSE request has.
    pub(crate) wake_us: f64,
    /// Type of the filesystem that holds branches and mounts.
    pub(crate) filesystem: String,
    /// /proc/loadavg before and after: how busy others kept the machine.
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// Commit of the sources, with `-dirty` if they differ from it.
    pub(crate) commit: String,
    /// What the FUSE candidates' programs say of their version.
    pub(crate) programs: Vec<String>,
}

impl Machine {
    /// Looks around.
    pub(crate) fn now(root: &Path, options: &Options, programs: &Programs) -> Machine {
        let versions = options.candidates.iter().filter_map(|candidate| {
            let program = programs.of(candidate)?;
            if programs.missing(candidate).is_some() {
                return None;
            }
            let out = Command::new(&program).arg("--version").output().ok()?;
            let said = [out.stdout, out.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let line = said.lines().find(|line| line.contains(": version") || line.starts_with("plyfs"));
            Some(format!("{candidate}: {}", line.or_else(|| said.lines().next()).unwrap_or("?")))
        });
        let git = ["describe", "--always", "--dirty", "--abbrev=12"];
        Machine {
            started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            seconds: 0.0,
            kernel: line_of("/proc/sys/kernel/osrelease"),
            cpu: field("/proc/cpuinfo", "model name"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0)
                / 1024,
            wake_us: wake(),
            filesystem: filesystem(&options.dir),
            load_before: load(),
            load_after: String::new(),
            commit: run::output(Command::new("git").current_dir(root).args(git))
                .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned()),
            programs: versions.collect(),
        }
    }

    /// At the run's end.
    pub(crate) fn finish(&mut self, took: Duration) {
        self.seconds = took.as_secs_f64();
        self.load_after = load();
    }
}

fn load() -> String {
    line_of("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value of the first `NAME : VALUE`.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
    line.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
}

/// The type of the mount with the longest mount point that `dir` lies under.
fn filesystem(dir: &Path) -> String {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let lines = text.lines().filter_map(|line| {
        let at = line.split(' ').nth(4)?;
        let kind = line.split_once(" - ")?.1.split(' ').next()?;
        dir.starts_with(at).then(|| (at.len(), kind.to_owned()))
    });
    lines.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".into(), |(_, kind)| kind)
}

/// Median over many, see [`Machine::wake_us`]; 0 where it can't be measured.
fn wake() -> f64 {
    const TURNS: usize = 2000;
    let turns = || -> std::io::Result<Vec<f64>> {
        let (mut to, mut there) = (std::io::pipe()?, std::io::pipe()?);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut byte = [0];
                while to.0.read_exact(&mut byte).and_then(|()| there.1.write_all(&byte)).is_ok() {}
            });
            let mut ours = to.1;
            let mut back = there.0;
            let turn = |_| {
                let start = std::time::Instant::now();
                ours.write_all(&[0])?;
                back.read_exact(&mut [0])?;
                Ok(start.elapsed().as_secs_f64() * 1e6)
            };
            (0..TURNS).map(turn).collect()
        })
    };
    let mut turns = turns().unwrap_or_default();
    turns.sort_by(f64::total_cmp);
    turns.get(TURNS / 2).copied().unwrap_or(0.0)
}
