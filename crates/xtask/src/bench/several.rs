//! Several runs told as one table: `cargo xtask bench --together A.json B.json ...`.
//!
//! A cell is the median of the runs' ratios to the reference, with the smallest and the largest: a run's own noise is
//! within a run's ratio, the machine's moods from run to run are between them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::report::markdown;
use super::stats::Summary;
use super::works::Unit;

/// Layers, threads (0 for whole works), then rows in the order of the first run.
type Place = (u64, u64);

/// One row of a table.
struct Row {
    name: String,
    /// Of the reference's times.
    unit: Unit,
    /// Samples by candidate: of the reference the time, of others the ratio.
    cells: BTreeMap<String, Vec<f64>>,
}

/// Prints the table of all runs.
pub(super) fn print(paths: &[PathBuf]) -> Result<()> {
    let runs = paths.iter().map(read).collect::<Result<Vec<Value>>>()?;
    let Some(first) = runs.first() else { bail!("--together needs the bench.json of one run at least") };
    let reference = text(first, "reference")?;
    let candidates: Vec<&str> =
        first["candidates"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut tables: BTreeMap<Place, Vec<Row>> = BTreeMap::new();
    for run in &runs {
        for cell in run["cells"].as_array().into_iter().flatten() {
            add(&mut tables, cell, reference)?;
        }
    }
    let mut out = String::new();
    for ((layers, threads), rows) in &tables {
        table(&mut out, &format!("{layers} layers{}", clients(*threads)), rows, &candidates, reference)?;
    }
    print!("{out}");
    Ok(())
}

fn read(path: &PathBuf) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("a report without '{key}'"))
}

fn clients(threads: u64) -> String {
    match threads {
        0 => String::new(),
        1 => ", per operation, 1 client".into(),
        more => format!(", per operation, {more} clients"),
    }
}

fn add(tables: &mut BTreeMap<Place, Vec<Row>>, cell: &Value, reference: &str) -> Result<()> {
    let candidate = text(cell, "candidate")?;
    let which = if candidate == reference { "median" } else { "ratio" };
    let Some(number) = cell[which].as_f64() else { return Ok(()) };
    let micro = text(cell, "work")? == "micro";
    let threads = if micro { cell["threads"].as_u64().unwrap_or(1) } else { 0 };
    let place = (cell["layers"].as_u64().unwrap_or(0), threads);
    let rows = tables.entry(place).or_default();
    let name = text(cell, "row")?;
    let unit = text(cell, "unit")?;
    let unit = Unit::of(unit).with_context(|| format!("'{name}' is in '{unit}', which is not known"))?;
    let at = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
        rows.push(Row { name: name.to_owned(), unit, cells: BTreeMap::new() });
        rows.len() - 1
    });
    rows[at].cells.entry(candidate.to_owned()).or_default().push(number);
    Ok(())
}

fn table(out: &mut String, title: &str, rows: &[Row], candidates: &[&str], reference: &str) -> Result<()> {
    let others: Vec<&&str> = candidates.iter().filter(|name| **name != reference).collect();
    write!(out, "\n### {title}\n\n| | {reference} |")?;
    for name in &others {
        write!(out, " {} |", name.split('@').next().unwrap_or(name))?;
    }
    writeln!(out, "\n|---|{}", "--:|".repeat(others.len() + 1))?;
    for Row { name, unit, cells } in rows {
        let time = cells.get(reference).and_then(|times| Summary::of(times));
        write!(out, "| {name} |")?;
        match time {
            Some(time) => write!(out, " {} |", markdown::middle(&time, *unit))?,
            None => write!(out, " - |")?,
        }
        for name in &others {
            match cells.get(**name).and_then(|ratios| Summary::of(ratios)) {
                Some(all) => {
                    write!(out, " **{:.2}** ({:.2}-{:.2}) |", all.median, all.min, all.max)?;
                }
                None => write!(out, " - |")?,
            }
        }
        out.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_gathered_over_runs() {
        let cell = |candidate: &str, ratio: f64| {
            serde_json::json!({"work": "walk", "row": "walk", "candidate": candidate, "layers": 1, "threads": 1,
                "unit": "s", "median": 0.02, "ratio": ratio})
        };
        let mut tables = BTreeMap::new();
        for ratio in [1.0, 3.0, 2.0] {
            add(&mut tables, &cell("overlay", 1.0), "overlay").unwrap();
            add(&mut tables, &cell("plyfs", ratio), "overlay").unwrap();
        }
        let mut out = String::new();
        let rows = &tables[&(1, 0)];
        table(&mut out, "1 layers", rows, &["overlay", "plyfs"], "overlay").unwrap();
        assert!(out.ends_with("| walk | 20.0 ms | **2.00** (1.00-3.00) |\n"), "{out}");
    }

    #[test]
    fn times_are_in_their_own_unit() {
        let cell = |row: &str, unit: &str| {
            serde_json::json!({"work": "walk", "row": row, "candidate": "overlay", "layers": 1, "threads": 1,
                "unit": unit, "median": 1.5})
        };
        let mut tables = BTreeMap::new();
        add(&mut tables, &cell("random", "s"), "overlay").unwrap();
        add(&mut tables, &cell("walk", "us"), "overlay").unwrap();
        assert!(add(&mut tables, &cell("walk", "h"), "overlay").is_err());
        let mut out = String::new();
        table(&mut out, "1 layers", &tables[&(1, 0)], &["overlay"], "overlay").unwrap();
        assert!(out.ends_with("| random | 1.50 s |\n| walk | 1.50 us |\n"), "{out}");
    }
}
