//! `plyfs ps`.

use std::io;

use jiff::Timestamp;
use plyfs_store::containers::Container;
use serde::Serialize;

use crate::cli::containers::PsArgs;
use crate::cli::store::StoreArgs;
use crate::commands::times::span;
use crate::exit::{self, Outcome};
use crate::output::{self, Page, Report};

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    containers: Vec<Line>,
    #[serde(skip)]
    quiet: bool,
    #[serde(skip)]
    whole: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    id: String,
    name: String,
    /// As it was asked for.
    image: String,
    image_id: String,
    command: String,
    created: Timestamp,
    /// `created`, `running`, `paused`, `exited`, `dead`
    state: &'static str,
    /// Docker's words.
    status: String,
    exit_code: i32,
    /// 0: does not run.
    pid: u32,
    #[serde(skip)]
    age: String,
}

/// Shows it.
pub(crate) fn run(args: &PsArgs, store: &StoreArgs) -> Outcome {
    let opened = super::open_to_look(store)?;
    let now = Timestamp::now();
    let all = opened.containers().map_err(anyhow::Error::new)?;
    let shown = all.iter().filter(|container| args.all || container.state.running);
    let containers = shown.map(|container| line(container, now)).collect();
    output::show(&Answer { containers, quiet: args.quiet, whole: args.no_trunc }, args.json)?;
    Ok(exit::DONE)
}

fn line(container: &Container, now: Timestamp) -> Line {
    let command: Vec<&str> =
        std::iter::once(&container.path).chain(&container.args).map(String::as_str).collect();
    Line {
        id: container.id.clone(),
        name: container.plain_name().to_owned(),
        image: container.config.image.clone(),
        image_id: container.image.clone(),
        command: command.join(" "),
        created: container.created,
        state: state(container),
        status: status(container, now),
        exit_code: container.state.exit_code,
        pid: container.state.pid,
        age: format!("{} ago", span(seconds(container.created, now))),
    }
}

/// Docker's one word.
pub(crate) fn state(container: &Container) -> &'static str {
    let state = &container.state;
    match (state.running, state.paused) {
        (true, true) => "paused",
        (true, false) => "running",
        _ if state.removal_in_progress => "removing",
        _ if state.dead => "dead",
        _ if state.started_at == plyfs_store::containers::NEVER => "created",
        _ => "exited",
    }
}

fn status(container: &Container, now: Timestamp) -> String {
    let since = |at| span(seconds(at, now));
    let state = &container.state;
    match self::state(container) {
        "running" => format!("Up {}", since(state.started_at)),
        "paused" => format!("Up {} (Paused)", since(state.started_at)),
        "created" => "Created".to_owned(),
        "removing" => "Removal In Progress".to_owned(),
        "dead" => "Dead".to_owned(),
        _ => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    (to.as_second() - from.as_second()).max(0)
}

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let id = |line: &Line| if self.whole { line.id.clone() } else { line.id.chars().take(12).collect() };
        if self.quiet {
            return self.containers.iter().try_for_each(|line| page.line(id(line)));
        }
        let head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
        let row = |line: &Line| {
            let command = quoted(&line.command, if self.whole { usize::MAX } else { 20 });
            let (age, status) = (line.age.clone(), line.status.clone());
            vec![id(line), line.image.clone(), command, age, status, String::new(), line.name.clone()]
        };
        output::table(page, &head, &self.containers.iter().map(row).collect::<Vec<_>>())
    }
}

/// In quotes, on one line, shortened.
fn quoted(text: &str, most: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= most {
        return format!("\"{clean}\"");
    }
    let cut: String = clean.chars().take(most - 1).collect();
    format!("\"{cut}\u{2026}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut() {
        assert_eq!(quoted("sh -c x", 20), "\"sh -c x\"");
        assert_eq!(quoted(&"x".repeat(30), 20), format!("\"{}\u{2026}\"", "x".repeat(19)));
        assert_eq!(quoted("a\nb", 20), "\"a b\"");
    }
}
