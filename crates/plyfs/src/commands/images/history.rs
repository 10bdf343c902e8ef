//! `plyfs history`.

use std::io;

use plyfs_image::images::find;
use plyfs_image::inspect::{Made, history};
use serde::Serialize;

use super::failed;
use crate::cli::images::HistoryArgs;
use crate::cli::store::StoreArgs;
use crate::commands::times;
use crate::exit::{self, Outcome};
use crate::output::{self, Page, Report};
use crate::store;

/// Characters of a command that are shown.
const COMMAND: usize = 45;

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    image: String,
    history: Vec<Made>,
    #[serde(skip)]
    quiet: bool,
    #[serde(skip)]
    no_trunc: bool,
}

/// Shows it.
pub(crate) fn run(args: &HistoryArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_read(store)?;
    let id = find(&store, &args.image).map_err(failed)?;
    let history = history(&store, &id).map_err(failed)?;
    let answer = Answer { image: id.to_string(), history, quiet: args.quiet, no_trunc: args.no_trunc };
    output::show(&answer, args.json)?;
    Ok(exit::DONE)
}

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let id = |made: &Made| if self.no_trunc { made.id.clone() } else { super::short(&made.id) };
        if self.quiet {
            return self.history.iter().try_for_each(|made| page.line(id(made)));
        }
        let row = |made: &Made| {
            let created = made.step.created.as_deref().and_then(|text| text.parse().ok());
            let command = one_line(&made.step.created_by);
            let cut = !self.no_trunc && command.chars().count() > COMMAND;
            let command =
                if cut { command.chars().take(COMMAND - 3).chain("...".chars()).collect() } else { command };
            let comment = one_line(&made.step.comment);
            vec![id(made), times::ago(created), command, times::size(made.size), comment]
        };
        let rows: Vec<Vec<String>> = self.history.iter().map(row).collect();
        super::table(page, &["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows)
    }
}

/// Text of others on one line: control characters must not reach the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
