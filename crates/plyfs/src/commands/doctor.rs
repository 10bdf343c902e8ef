//! `plyfs doctor`: what this kernel, user and filesystem give, what it enables, and how to mend what is missing.

use std::io;

use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::exit::{self, Outcome};
use crate::output::{self, Page, Report, Tone};

mod files;
mod host;

/// The answer.
#[derive(Debug, Serialize)]
struct Diagnosis {
    /// No finding is `missing`.
    healthy: bool,
    checks: Vec<Check>,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// A stable word.
    pub(crate) name: String,
    /// How it is.
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What it is good for.
    pub(crate) enables: &'static str,
    /// A command or a line to write; null when all is well.
    pub(crate) mend: Option<String>,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Works without, less well.
    Lacking,
    /// plyfs cannot mount without it.
    Missing,
}

impl Check {
    /// `state` decides whether `mend` is told.
    pub(crate) fn new(
        name: impl Into<String>,
        state: State,
        found: impl Into<String>,
        enables: &'static str,
        mend: impl Into<String>,
    ) -> Check {
        let mend = (state != State::Ok).then(|| mend.into()).filter(|mend| !mend.is_empty());
        Check { name: name.into(), state, found: found.into(), enables, mend }
    }
}

/// Runs the command. Fails when something is missing that every mount needs.
pub(crate) fn run(args: &DoctorArgs) -> Outcome {
    let mut checks = host::checks();
    checks.extend(files::checks());
    let healthy = checks.iter().all(|check| check.state != State::Missing);
    output::show(&Diagnosis { healthy, checks }, args.json)?;
    Ok(if healthy { exit::DONE } else { exit::FAILED })
}

impl Report for Diagnosis {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for check in &self.checks {
            let (mark, tone) = match check.state {
                State::Ok => ("ok     ", Tone::Good),
                State::Lacking => ("lacking", Tone::Warn),
                State::Missing => ("MISSING", Tone::Bad),
            };
            let mark = page.paint(tone, mark);
            page.line(format_args!("{mark} {}: {}", check.name, check.found))?;
            page.line(page.paint(Tone::Faint, format_args!("        for {}", check.enables)))?;
            if let Some(mend) = &check.mend {
                page.line(format_args!("        mend: {mend}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_only_where_something_lacks() {
        let check = |state| Check::new("fuse", state, "no", "mounting", "modprobe fuse");
        let checks = vec![check(State::Ok), check(State::Missing)];
        let text = output::plain(&Diagnosis { healthy: false, checks });
        assert_eq!(text.matches("modprobe").count(), 1, "{text}");
        assert!(text.contains("MISSING fuse: no"), "{text}");
    }
}
