//! `bench.md`: a table per number of layers (whole works) and per number of layers and threads (micro operations), then
//! idle costs, requests, reasons.

use std::fmt::Write;

use super::super::options::Options;
use super::super::results::{Key, Results, Row};
use super::super::sizes::Sizes;
use super::super::stats::Summary;
use super::super::works::Unit;
use super::machine::Machine;

/// The whole file.
pub(super) fn text(options: &Options, machine: &Machine, results: &Results) -> String {
    let mut page = Page { results, out: String::new(), reasons: Vec::new() };
    page.head(options, machine);
    for layers in &results.layers {
        page.table(*layers, 1, false);
    }
    for layers in &results.layers {
        for threads in &results.threads {
            page.table(*layers, *threads, true);
        }
    }
    page.idle();
    page.requests();
    page.end();
    page.out
}

struct Page<'a> {
    results: &'a Results,
    out: String,
    /// Why cells have no number; a cell names them by position, from 1.
    reasons: Vec<String>,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn head(&mut self, options: &Options, machine: &Machine) {
        let reference = &self.results.candidates[self.results.reference];
        let sizes = Sizes::new(options);
        self.line("# Bench\n");
        self.line(&format!(
            "Commit {}, Linux {}, {} x {}, {} MiB, {}; {} rounds, interleaved; {:.0} s; load {} before, {} after; \
             two wake-ups take {:.1} us.",
            machine.commit,
            machine.kernel,
            machine.cpus,
            machine.cpu,
            machine.memory_mib,
            machine.filesystem,
            options.rounds,
            machine.seconds,
            machine.load_before,
            machine.load_after,
            machine.wake_us,
        ));
        for program in &machine.programs {
            self.line(&format!("- {}", escaped(program)));
        }
        self.line(&format!(
            "\nTree: {} files; archive: {}; created: {}; copied up: {}; big file: {} MiB; large directory: {} names.",
            sizes.tree_files,
            sizes.unpack_files,
            sizes.create_files,
            sizes.small_files,
            sizes.big_bytes >> 20,
            sizes.wide_names,
        ));
        self.line(&format!(
            "\nA cell: **ratio to {reference}**{}, median (smallest-largest). Lower is better.",
            if self.results.plain.is_some() { " / ratio to plain" } else { "" },
        ));
        if sizes.big_bytes < 64 << 20 {
            self.line("\n**This is the short form: it says that things work, its times say nothing.**");
        }
    }

    fn table(&mut self, layers: usize, threads: usize, threaded: bool) {
        let results = self.results;
        let rows: Vec<Row> = results.rows.iter().filter(|row| row.threaded == threaded).copied().collect();
        if rows.is_empty() {
            return;
        }
        let (many, clients) = (plural(layers, "layer"), plural(threads, "client thread"));
        if threaded {
            self.line(&format!("\n## Micro operations, {many}, {clients} (microseconds per operation)\n"));
        } else {
            self.line(&format!("\n## Works, {many}\n"));
        }
        self.head_row("operation", &results.candidates);
        for row in rows {
            let mut text = format!("| {} |", row.name);
            for candidate in 0..results.candidates.len() {
                let cell = self.cell(Key { layers, threads, row: row.name, candidate }, row.unit);
                let _written = write!(text, " {cell} |");
            }
            self.line(&text);
        }
    }

    fn head_row(&mut self, first: &str, names: &[String]) {
        let names: Vec<String> = names.iter().map(|name| escaped(name)).collect();
        self.line(&format!("| {first} | {} |", names.join(" | ")));
        self.line(&format!("|---|{}", "--:|".repeat(names.len())));
    }

    fn cell(&mut self, key: Key, unit: Unit) -> String {
        let results = self.results;
        let Some(summary) = results.summary(key) else {
            let trouble = results.cells.get(&key).and_then(|cell| cell.trouble.as_ref());
            let why = trouble.map_or("not measured", |trouble| trouble.text());
            let word = match trouble {
                Some(super::super::results::Trouble::Failed(_)) => "failed",
                _ => "n/a",
            };
            return format!("{word} [{}]", self.reason(why));
        };
        let ratio = |to: usize| results.ratio(key, to).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let mut text = format!("**{}**", ratio(results.reference));
        if let Some(plain) = results.plain {
            let _written = write!(text, " / {}", ratio(plain));
        }
        format!("{text}, {}", range(&summary, unit))
    }

    fn reason(&mut self, why: &str) -> usize {
        let at = self.reasons.iter().position(|known| known == why).unwrap_or_else(|| {
            self.reasons.push(why.to_owned());
            self.reasons.len() - 1
        });
        at + 1
    }

    fn idle(&mut self) {
        let results = self.results;
        if results.idle.is_empty() {
            return;
        }
        self.line("\n## An idle mount: its server\n");
        self.line("| candidate | layers | when | threads | descriptors | private memory, KiB |");
        self.line("|---|--:|---|--:|--:|--:|");
        for (layers, candidate, idle) in &results.idle {
            let name = escaped(&results.candidates[*candidate]);
            self.line(&format!(
                "| {name} | {layers} | {} | {} | {} | {} |",
                idle.when, idle.threads, idle.descriptors, idle.private_kib
            ));
        }
    }

    fn requests(&mut self) {
        let results = self.results;
        if results.requests.is_empty() {
            return;
        }
        self.line("\n## FUSE requests per work\n");
        self.line("Counted in a round of its own by the tracepoint fuse:fuse_request_send; FORGET is not seen by it.\n");
        self.line("| work | layers | candidate | requests | of which |");
        self.line("|---|--:|---|--:|---|");
        for row in &results.rows {
            for (key, counts) in results.requests.iter().filter(|(key, _)| key.row == row.name) {
                let mut parts: Vec<(&String, &u64)> = counts.by_operation.iter().collect();
                parts.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
                let parts: Vec<String> =
                    parts.iter().map(|(name, count)| format!("{name} {count}")).collect();
                let more = if counts.lost_some { "at least " } else { "" };
                let name = escaped(&results.candidates[key.candidate]);
                self.line(&format!(
                    "| {} | {} | {name} | {more}{} | {} |",
                    row.name,
                    key.layers,
                    counts.total(),
                    parts.join(", ")
                ));
            }
        }
    }

    fn end(&mut self) {
        let reasons = std::mem::take(&mut self.reasons);
        if !reasons.is_empty() {
            self.line("\n## Reasons\n");
        }
        for (at, why) in reasons.iter().enumerate() {
            self.line(&format!("{}. {}", at + 1, escaped(why)));
        }
        let results = self.results;
        for note in &results.notes {
            self.line(&format!("\nNote: {}", escaped(note)));
        }
    }
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// `12.3 ms (11.9-14.0)`, or `1.25 us (1.20-1.31)`.
fn range(summary: &Summary, unit: Unit) -> String {
    let (scale, _) = shown_in(summary, unit);
    let number = |value: f64| digits(value * scale);
    format!("{} ({}-{})", middle(summary, unit), number(summary.min), number(summary.max))
}

/// `12.3 ms`
pub(in super::super) fn middle(summary: &Summary, unit: Unit) -> String {
    let (scale, name) = shown_in(summary, unit);
    format!("{} {name}", digits(summary.median * scale))
}

/// How many of the shown unit one of `unit` is, and the shown unit's name.
fn shown_in(summary: &Summary, unit: Unit) -> (f64, &'static str) {
    match unit {
        Unit::Micros => (1.0, "us"),
        Unit::Seconds if summary.median < 1.0 => (1e3, "ms"),
        Unit::Seconds => (1.0, "s"),
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::sample;
    use super::*;

    #[test]
    fn tables_show_ratio_median_range_and_reason() {
        let results = sample();
        let mut page = Page { results: &results, out: String::new(), reasons: Vec::new() };
        page.table(1, 1, false);
        page.table(1, 4, true);
        page.end();
        assert!(
            page.out.contains("| walk | **1.00**, 200 ms (100-300) | **1.50**, 300 ms (200-400) |"),
            "{}",
            page.out
        );
        assert!(page.out.contains("| create | **1.00**, 10.0 us (10.0-10.0) | failed [1] |"), "{}", page.out);
        assert!(page.out.contains("1. no \\| way"), "{}", page.out);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(digits(1234.5), "1234");
        assert_eq!(digits(99.94), "99.9");
        assert_eq!(digits(0.5), "0.50");
    }
}
