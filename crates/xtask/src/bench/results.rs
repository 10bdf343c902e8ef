//! The results of a run: cells by row, candidate, layers and threads.

use std::collections::BTreeMap;

use super::idle::Idle;
use super::requests::Counts;
use super::stats::Summary;
use super::works::{Unit, Work};

/// Where a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) layers: usize,
    pub(crate) threads: usize,
    pub(crate) row: &'static str,
    /// Index into the run's candidates.
    pub(crate) candidate: usize,
}

/// Why a cell has no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It can't be had here: a program is missing, a plain directory is not mounted.
    Unavailable(String),
    /// It was tried.
    Failed(String),
}

impl Trouble {
    /// The reason.
    pub(crate) fn text(&self) -> &str {
        match self {
            Trouble::Unavailable(text) | Trouble::Failed(text) => text,
        }
    }
}

/// All that was measured of one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub(crate) samples: Vec<f64>,
    pub(crate) trouble: Option<Trouble>,
}

/// One row's place and unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) work: &'static str,
    pub(crate) unit: Unit,
    pub(crate) threaded: bool,
}

/// A run's results.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// As the user wrote them.
    pub(crate) candidates: Vec<String>,
    /// The candidate that ratios are told against.
    pub(crate) reference: usize,
    /// The plain directory, if it is one of them.
    pub(crate) plain: Option<usize>,
    pub(crate) layers: Vec<usize>,
    pub(crate) threads: Vec<usize>,
    pub(crate) rows: Vec<Row>,
    pub(crate) cells: BTreeMap<Key, Cell>,
    pub(crate) requests: BTreeMap<Key, Counts>,
    pub(crate) idle: Vec<(usize, usize, Idle)>,
    /// What has no cell: why requests were not counted, candidates that could not be mounted for the idle table.
    pub(crate) notes: Vec<String>,
    /// By a signal; what was measured until then is kept.
    pub(crate) interrupted: bool,
}

impl Results {
    /// The rows of the works chosen.
    pub(crate) fn rows_of(works: &[Work]) -> Vec<Row> {
        let row = |work: &Work, name: &'static str| Row {
            name,
            work: work.name,
            unit: work.unit,
            threaded: work.threaded,
        };
        works.iter().flat_map(|work| work.rows.iter().map(move |name| row(work, name))).collect()
    }

    /// What a cell's samples say.
    pub(crate) fn summary(&self, key: Key) -> Option<Summary> {
        let cell = self.cells.get(&key)?;
        if cell.trouble.is_some() {
            return None;
        }
        Summary::of(&cell.samples)
    }

    /// The median in units of another candidate's.
    pub(crate) fn ratio(&self, key: Key, to: usize) -> Option<f64> {
        let other = self.summary(Key { candidate: to, ..key })?;
        self.summary(key)?.against(&other)
    }

    /// Marks a cell; the first reason stays.
    pub(crate) fn mark(&mut self, key: Key, trouble: Trouble) {
        self.cells.entry(key).or_default().trouble.get_or_insert(trouble);
    }

    /// Everything that was tried and failed, once per reason.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for (key, cell) in &self.cells {
            if let Some(Trouble::Failed(why)) = &cell.trouble {
                let who = &self.candidates[key.candidate];
                all.push(format!(
                    "{}, {who}, {} layers, {} threads: {why}",
                    key.row, key.layers, key.threads
                ));
            }
        }
        all
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two candidates, one row of seconds and one threaded row of microseconds, one failed cell.
    pub(crate) fn sample() -> Results {
        let mut results = Results {
            candidates: vec!["overlay".into(), "plyfs".into()],
            layers: vec![1],
            threads: vec![1, 4],
            rows: vec![
                Row { name: "walk", work: "walk", unit: Unit::Seconds, threaded: false },
                Row { name: "create", work: "micro", unit: Unit::Micros, threaded: true },
            ],
            ..Results::default()
        };
        let key = |row, candidate, threads| Key { layers: 1, threads, row, candidate };
        let cell = |samples: &[f64]| Cell { samples: samples.to_vec(), trouble: None };
        results.cells.insert(key("walk", 0, 1), cell(&[0.1, 0.2, 0.3]));
        results.cells.insert(key("walk", 1, 1), cell(&[0.3, 0.2, 0.4]));
        results.cells.insert(key("create", 0, 1), cell(&[20.0]));
        results.cells.insert(key("create", 0, 4), cell(&[10.0]));
        results.cells.insert(key("create", 1, 1), cell(&[30.0]));
        results.mark(key("create", 1, 4), Trouble::Failed("no | way".into()));
        results
    }

    #[test]
    fn ratios_are_of_medians() {
        let results = sample();
        let key = Key { layers: 1, threads: 1, row: "walk", candidate: 1 };
        assert_eq!(results.ratio(key, 0), Some(0.3 / 0.2));
        assert_eq!(results.ratio(Key { row: "nothing", ..key }, 0), None);
        assert_eq!(results.failures().len(), 1);
    }
}
