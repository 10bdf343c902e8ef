//! What the samples mean.

use super::super::bench::stats::Summary;
use super::sample::Sample;

/// Loads that are shorter say nothing about growth.
pub(crate) const MEANINGFUL: f64 = 100.0;
/// Descriptors of an idle mount.
const IDLE_DESCRIPTORS: u64 = 16;

/// Anonymous memory in the second and in the last quarter of the load.
pub(crate) fn quarters(samples: &[Sample]) -> Option<(f64, f64)> {
    let all = samples.last()?.seconds;
    let median = |from: f64, to: f64| {
        let within =
            samples.iter().filter(|sample| sample.seconds > all * from && sample.seconds <= all * to);
        let kib: Vec<f64> = within.map(|sample| sample.anonymous_kib as f64).collect();
        Summary::of(&kib).map(|summary| summary.median)
    };
    Some((median(0.25, 0.5)?, median(0.75, 1.0)?))
}

/// What is wrong. `before` is the mount before the load, `after` the mount that idles again.
pub(crate) fn faults(before: &Sample, samples: &[Sample], after: &Sample) -> Vec<String> {
    let mut faults = Vec::new();
    let long = samples.last().is_some_and(|sample| sample.seconds >= MEANINGFUL);
    if long && let Some((early, late)) = quarters(samples) {
        let most = early * 1.1 + 2048.0;
        if late > most {
            faults.push(format!(
                "growth: {late:.0} KiB anonymous in the last quarter, {early:.0} KiB in the second; at most {most:.0}"
            ));
        }
    }
    let most = IDLE_DESCRIPTORS.max(before.descriptors);
    if after.descriptors > most {
        faults.push(format!(
            "descriptors: {} open when idle, at most {most}: {:?}",
            after.descriptors, after.kinds
        ));
    }
    if after.threads > 1 {
        faults.push(format!("threads: {} when idle, 1 expected", after.threads));
    }
    let kills = |sample: &Sample| sample.pressure.map_or(0, |pressure| pressure.oom_kill);
    let most = samples.iter().chain([after]).map(kills).max().unwrap_or(0);
    if most > 0 {
        faults.push(format!("the kernel killed for want of memory: {most} times"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(memory: impl Fn(u64) -> u64) -> Vec<Sample> {
        let sample =
            |at: u64| Sample { seconds: at as f64 * 10.0, anonymous_kib: memory(at), ..Sample::default() };
        (1..=40).map(sample).collect()
    }

    #[test]
    fn growth_is_told_from_warming_up() {
        let idle = Sample { threads: 1, descriptors: 14, ..Sample::default() };
        assert_eq!(faults(&idle, &load(|at| 5_000 + at.min(10) * 900), &idle), Vec::<String>::new());
        assert_eq!(faults(&idle, &load(|at| 5_000 + at * 300), &idle).len(), 1);
        assert_eq!(faults(&idle, &load(|at| 5_000 + at * 300)[..9], &idle).len(), 0);
    }

    #[test]
    fn leaks_are_faults() {
        let before = Sample { threads: 1, descriptors: 14, ..Sample::default() };
        let after = Sample { threads: 2, descriptors: 17, ..Sample::default() };
        assert_eq!(faults(&before, &[], &after).len(), 2);
    }
}
