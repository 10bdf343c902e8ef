//! `bench.svg`: ratios to the reference as dots with their range, on a logarithmic axis; a panel per table of `bench.md`.

use svg::node::element::{Circle, Group, Line, Rectangle, Text};
use svg::{Document, Node};

use super::super::results::{Key, Results, Row};

const WIDTH: f64 = 960.0;
/// Room for the rows' names.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 24.0;
const ROW: f64 = 22.0;
const HEAD: f64 = 54.0;
const COLOURS: &[&str] =
    &["#7f7f7f", "#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf"];
const TICKS: &[f64] = &[0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

/// The whole file.
pub(super) fn text(results: &Results) -> String {
    let mut picture = Picture { results, content: Group::new(), y: 0.0, axis: Axis::of(results) };
    picture.legend();
    for layers in &results.layers {
        picture.panel(*layers, 1, false);
    }
    for layers in &results.layers {
        for threads in &results.threads {
            picture.panel(*layers, *threads, true);
        }
    }
    let height = picture.y + 20.0;
    let back = Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "white");
    let whole = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("font-family", "sans-serif")
        .set("font-size", 12)
        .add(back)
        .add(picture.content);
    whole.to_string() + "\n"
}

/// The common logarithmic axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn of(results: &Results) -> Axis {
        let ratios = results.cells.keys().filter_map(|key| results.ratio(*key, results.reference));
        let mut axis = Axis { low: 0.5, high: 2.0 };
        for ratio in ratios.filter(|ratio| *ratio > 0.0) {
            axis.low = axis.low.min(ratio / 1.3);
            axis.high = axis.high.max(ratio * 1.3);
        }
        Axis { low: axis.low.max(0.05), high: axis.high.min(1000.0) }
    }

    fn x(self, ratio: f64) -> f64 {
        let part = (ratio.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }
}

struct Picture<'a> {
    results: &'a Results,
    content: Group,
    y: f64,
    axis: Axis,
}

impl Picture<'_> {
    fn add(&mut self, node: impl Node) {
        self.content.append(node);
    }

    fn label(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.add(Text::new(text).set("x", x).set("y", y).set("text-anchor", anchor));
    }

    fn legend(&mut self) {
        let results = self.results;
        let reference = &results.candidates[results.reference];
        self.label(
            10.0,
            20.0,
            "start",
            &format!("Time as a ratio to {reference}: median and range; lower is better"),
        );
        self.y = 40.0;
        let mut x = 10.0;
        for (at, name) in results.candidates.iter().enumerate() {
            let width = 26.0 + 7.5 * name.len() as f64;
            if x + width > WIDTH {
                (x, self.y) = (10.0, self.y + 18.0);
            }
            self.dot(x + 5.0, self.y, at);
            self.label(x + 14.0, self.y + 4.0, "start", name);
            x += width;
        }
    }

    fn dot(&mut self, x: f64, y: f64, candidate: usize) {
        self.add(
            Circle::new()
                .set("cx", x)
                .set("cy", y)
                .set("r", 4)
                .set("fill", COLOURS[candidate % COLOURS.len()]),
        );
    }

    fn bar(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let line = Line::new().set("x1", from.0).set("y1", from.1).set("x2", to.0).set("y2", to.1);
        self.add(line.set("stroke", colour));
    }

    fn panel(&mut self, layers: usize, threads: usize, threaded: bool) {
        let results = self.results;
        let rows: Vec<Row> = results.rows.iter().filter(|row| row.threaded == threaded).copied().collect();
        if rows.is_empty() {
            return;
        }
        let kind =
            if threaded { format!("micro operations, threads: {threads}") } else { "works".to_owned() };
        let top = self.y + HEAD;
        let bottom = top + ROW * rows.len() as f64;
        self.label(10.0, top - 22.0, "start", &format!("Layers: {layers}; {kind}"));
        let axis = self.axis;
        for tick in TICKS.iter().filter(|tick| (axis.low..=axis.high).contains(*tick)) {
            let x = axis.x(*tick);
            self.bar(
                (x, top - 4.0),
                (x, bottom),
                if (*tick - 1.0).abs() < 1e-9 { "#000000" } else { "#dddddd" },
            );
            self.label(x, top - 8.0, "middle", &format!("{tick}"));
        }
        for (at, row) in rows.iter().enumerate() {
            let y = top + ROW * (at as f64 + 0.5);
            self.label(LEFT - 10.0, y + 4.0, "end", row.name);
            for candidate in 0..results.candidates.len() {
                self.mark(Key { layers, threads, row: row.name, candidate }, y);
            }
        }
        self.y = bottom;
    }

    /// A dot and its range; what has no number has no dot (the reasons are in `bench.md`).
    fn mark(&mut self, key: Key, y: f64) {
        let results = self.results;
        let reference = results.summary(Key { candidate: results.reference, ..key });
        let (Some(summary), Some(reference)) = (results.summary(key), reference) else { return };
        if reference.median <= 0.0 {
            return;
        }
        // Candidates do not hide each other entirely.
        let y = y + (key.candidate as f64 - (results.candidates.len() - 1) as f64 / 2.0) * 2.5;
        let x = |value: f64| self.axis.x(value / reference.median);
        let (low, middle, high) = (x(summary.min), x(summary.median), x(summary.max));
        self.bar((low, y), (high, y), COLOURS[key.candidate % COLOURS.len()]);
        self.dot(middle, y, key.candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::sample;
    use super::*;

    #[test]
    fn dots_stand_where_their_ratios_are() {
        let axis = Axis { low: 0.5, high: 2.0 };
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        assert!((axis.x(1.0) - middle).abs() < 1e-6);
        assert!((axis.x(9.0) - (WIDTH - RIGHT)).abs() < 1e-6);
    }

    #[test]
    fn every_measured_cell_has_a_dot() {
        let text = text(&sample());
        // Five cells with numbers, two in the legend, and no dot for the ratio to a failed one.
        assert_eq!(text.matches("<circle").count(), 2 + 5);
    }
}
