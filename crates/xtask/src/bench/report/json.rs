//! `bench.json`: every sample and every count. The form has a version; a change that readers must know raises it.

use anyhow::Result;
use serde::Serialize;

use super::super::idle::Idle;
use super::super::options::Options;
use super::super::requests::Counts;
use super::super::results::{Results, Trouble};
use super::super::sizes::Sizes;
use super::super::stats::Summary;
use super::machine::Machine;

/// The version of the form.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    machine: &'a Machine,
    rounds: usize,
    sizes: Sizes,
    candidates: &'a [String],
    /// The candidate that `ratio` is told against.
    reference: &'a str,
    cells: Vec<CellOut<'a>>,
    requests: Vec<RequestsOut<'a>>,
    idle: Vec<IdleOut<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct CellOut<'a> {
    work: &'a str,
    row: &'a str,
    candidate: &'a str,
    layers: usize,
    threads: usize,
    /// `s`, or `us` per operation.
    unit: &'static str,
    samples: &'a [f64],
    median: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'a str>,
}

#[derive(Serialize)]
struct RequestsOut<'a> {
    row: &'a str,
    candidate: &'a str,
    layers: usize,
    threads: usize,
    total: u64,
    #[serde(flatten)]
    counts: &'a Counts,
}

#[derive(Serialize)]
struct IdleOut<'a> {
    candidate: &'a str,
    layers: usize,
    #[serde(flatten)]
    idle: &'a Idle,
}

/// The whole file.
pub(super) fn text(options: &Options, machine: &Machine, results: &Results) -> Result<String> {
    let name = |candidate: usize| results.candidates[candidate].as_str();
    let requests = results.requests.iter().map(|(key, counts)| RequestsOut {
        row: key.row,
        candidate: name(key.candidate),
        layers: key.layers,
        threads: key.threads,
        total: counts.total(),
        counts,
    });
    let idle = results.idle.iter().map(|(layers, candidate, idle)| IdleOut {
        candidate: name(*candidate),
        layers: *layers,
        idle,
    });
    let report = Report {
        version: VERSION,
        machine,
        rounds: options.rounds,
        sizes: Sizes::new(options),
        candidates: &results.candidates,
        reference: name(results.reference),
        cells: cells(results),
        requests: requests.collect(),
        idle: idle.collect(),
        notes: &results.notes,
    };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

fn cells(results: &Results) -> Vec<CellOut<'_>> {
    let row_of = |name: &str| results.rows.iter().find(|row| row.name == name);
    let mut cells = Vec::new();
    for (key, cell) in &results.cells {
        let Some(row) = row_of(key.row) else { continue };
        let summary = Summary::of(&cell.samples);
        let (unavailable, failed) = match &cell.trouble {
            None => (None, None),
            Some(Trouble::Unavailable(why)) => (Some(why.as_str()), None),
            Some(Trouble::Failed(why)) => (None, Some(why.as_str())),
        };
        cells.push(CellOut {
            work: row.work,
            row: key.row,
            candidate: &results.candidates[key.candidate],
            layers: key.layers,
            threads: key.threads,
            unit: row.unit.name(),
            samples: &cell.samples,
            median: summary.map(|summary| summary.median),
            min: summary.map(|summary| summary.min),
            max: summary.map(|summary| summary.max),
            ratio: results.ratio(*key, results.reference),
            unavailable,
            failed,
        });
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::sample;
    use super::*;

    #[test]
    fn cells_have_samples_ratios_and_reasons() {
        let results = sample();
        let cells = cells(&results);
        let find = |row: &str, candidate: &str, threads: usize| {
            let mut found = cells.iter().filter(|cell| (cell.row, cell.candidate) == (row, candidate));
            found.find(|cell| cell.threads == threads).unwrap()
        };
        assert_eq!(find("walk", "plyfs", 1).samples.len(), 3);
        assert_eq!(find("create", "plyfs", 1).ratio, Some(1.5));
        assert_eq!(find("create", "plyfs", 4).failed, Some("no | way"));
    }
}
