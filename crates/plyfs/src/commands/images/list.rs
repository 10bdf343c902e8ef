//! `plyfs images`.

use std::io;

use plyfs_image::images::{Row, list};
use serde::Serialize;

use super::failed;
use crate::cli::images::ImagesArgs;
use crate::cli::store::StoreArgs;
use crate::commands::times;
use crate::exit::{self, Outcome};
use crate::output::{self, Page, Report};
use crate::store;

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    images: Vec<Line>,
    #[serde(skip)]
    quiet: bool,
    #[serde(skip)]
    digests: bool,
    #[serde(skip)]
    no_trunc: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<String>,
    id: String,
    /// RFC 3339; null if the image does not say.
    created: Option<jiff::Timestamp>,
    size: u64,
}

/// Shows it.
pub(crate) fn run(args: &ImagesArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_read(store)?;
    let rows = list(&store, args.only.as_ref()).map_err(failed)?;
    let answer = Answer {
        images: rows.into_iter().map(Line::from).collect(),
        quiet: args.quiet,
        digests: args.digests,
        no_trunc: args.no_trunc,
    };
    output::show(&answer, args.json)?;
    Ok(exit::DONE)
}

impl From<Row> for Line {
    fn from(row: Row) -> Line {
        Line {
            repository: row.repository,
            tag: row.tag,
            digest: row.digest,
            id: row.id.to_string(),
            created: row.created,
            size: row.size,
        }
    }
}

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let id = |line: &Line| if self.no_trunc { line.id.clone() } else { super::short(&line.id) };
        if self.quiet {
            let mut ids: Vec<String> = self.images.iter().map(id).collect();
            ids.dedup();
            return ids.iter().try_for_each(|id| page.line(id));
        }
        let none = || "<none>".to_owned();
        let mut head = vec!["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
        let mut rows: Vec<Vec<String>> = self
            .images
            .iter()
            .map(|line| {
                vec![
                    line.repository.clone().unwrap_or_else(none),
                    line.tag.clone().unwrap_or_else(none),
                    line.digest.clone().unwrap_or_else(none),
                    id(line),
                    times::ago(line.created),
                    times::size(line.size),
                ]
            })
            .collect();
        if !self.digests {
            head.remove(2);
            rows.iter_mut().for_each(|row| drop(row.remove(2)));
        }
        super::table(page, &head, &rows)
    }
}
