//! The list of works. A work is a function over a [`Bout`]; each checks what it did, so that a broken mount can't look
//! fast.

mod big;
mod build;
mod copyup;
mod create;
mod git;
mod missing;
mod mounting;
mod read;
mod unpack;
mod walk;

use anyhow::Result;

use super::bout::Bout;
use super::micro;
use super::tree::Part;

/// What a row's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    /// Microseconds per operation.
    Micros,
}

impl Unit {
    /// As `bench.json` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Micros => "us",
        }
    }

    /// The unit of that name.
    pub(crate) fn of(name: &str) -> Option<Unit> {
        [Unit::Seconds, Unit::Micros].into_iter().find(|unit| unit.name() == name)
    }
}

/// A work: some rows of the tables that share a mount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// As `--works` names it; several works may share one.
    pub(crate) name: &'static str,
    pub(crate) rows: &'static [&'static str],
    pub(crate) unit: Unit,
    /// What of the tree it runs on.
    pub(crate) parts: &'static [Part],
    /// Whether it is measured with every number of client threads.
    pub(crate) threaded: bool,
    pub(crate) only: Only,
    pub(crate) run: fn(&mut Bout<'_>) -> Result<()>,
}

/// To whom a work makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    All,
    /// Not a plain directory.
    Mounts,
    /// Mounts with a server, one round.
    Servers,
    /// Root may drop the page cache.
    Root,
}

const PLAIN: Work = Work {
    name: "",
    rows: &[],
    unit: Unit::Seconds,
    parts: &[],
    threaded: false,
    only: Only::All,
    run: |_| Ok(()),
};

/// All works in the order of the tables.
pub(crate) const ALL: &[Work] = &[
    Work { name: "walk", rows: walk::ROWS, parts: &[Part::Source], run: walk::run, ..PLAIN },
    Work {
        name: "cold",
        rows: walk::COLD_ROWS,
        parts: &[Part::Source],
        only: Only::Root,
        run: walk::cold,
        ..PLAIN
    },
    Work { name: "git", rows: git::ROWS, parts: &[Part::Source, Part::Git], run: git::run, ..PLAIN },
    Work { name: "read", rows: read::ROWS, parts: &[Part::Source], run: read::run, ..PLAIN },
    Work { name: "unpack", rows: unpack::ROWS, run: unpack::run, ..PLAIN },
    Work { name: "create", rows: create::ROWS, run: create::run, ..PLAIN },
    Work {
        name: "missing",
        rows: missing::ROWS,
        unit: Unit::Micros,
        parts: &[Part::Source],
        run: missing::run,
        ..PLAIN
    },
    Work { name: "build", rows: build::ROWS, parts: &[Part::Code], run: build::run, ..PLAIN },
    Work { name: "big", rows: big::READ_ROWS, parts: &[Part::Grove], run: big::read, ..PLAIN },
    Work {
        name: "big",
        rows: big::RANDOM_ROWS,
        unit: Unit::Micros,
        parts: &[Part::Grove],
        run: big::random,
        ..PLAIN
    },
    Work { name: "big", rows: big::WRITE_ROWS, run: big::write, ..PLAIN },
    Work { name: "copyup", rows: copyup::CHMOD, parts: &[Part::Grove], run: copyup::chmod, ..PLAIN },
    Work {
        name: "copyup",
        rows: copyup::FIRST_BYTE,
        parts: &[Part::Grove],
        run: copyup::first_byte,
        ..PLAIN
    },
    Work { name: "copyup", rows: copyup::SMALL_1, parts: &[Part::Grove], run: copyup::small_1, ..PLAIN },
    Work { name: "copyup", rows: copyup::SMALL_2, parts: &[Part::Grove], run: copyup::small_2, ..PLAIN },
    Work { name: "mount", rows: mounting::ROWS, only: Only::Mounts, run: mounting::run, ..PLAIN },
    Work {
        name: "idle",
        rows: mounting::IDLE_ROWS,
        parts: &[Part::Source],
        only: Only::Servers,
        run: mounting::idle,
        ..PLAIN
    },
    Work {
        name: "micro",
        rows: micro::ROWS,
        unit: Unit::Micros,
        parts: &[Part::Micro, Part::Wide],
        threaded: true,
        run: micro::run,
        ..PLAIN
    },
];

/// The names for `--works`.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = ALL.iter().map(|work| work.name).collect();
    names.dedup();
    names
}
