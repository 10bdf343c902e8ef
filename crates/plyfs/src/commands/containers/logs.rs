//! `plyfs logs`.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use plyfs_store::Store;

use super::{look, open_to_look};
use crate::cli::containers::LogsArgs;
use crate::cli::store::StoreArgs;
use crate::container::json_log::{self, Reader, Record, Stream};
use crate::exit::{self, Failure, Outcome};
use crate::output;

/// Between two looks at a log that grows.
const GLANCE: Duration = Duration::from_millis(50);

/// Shows it.
pub(crate) fn run(args: &LogsArgs, store: &StoreArgs) -> Outcome {
    let since = args.since.as_deref().map(|text| moment(text, Timestamp::now())).transpose()?;
    let tail = tail(&args.tail)?;
    let store = open_to_look(store)?;
    let container = look(&store, &args.container)?;
    let path = json_log::path(&store.layout().container(&container.id), &container.id);
    let mut reader = loop {
        match Reader::open(&path) {
            Ok(reader) => break reader,
            // Never started: nothing was written, and nothing will be unless it is.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if !args.follow || !is_running(&store, &container.id) {
                    return Ok(exit::DONE);
                }
                std::thread::sleep(GLANCE);
            }
            Err(error) => {
                return Err(Failure::from(anyhow::Error::new(error).context(path.display().to_string())));
            }
        }
    };
    let show = |record: &Record| print(record, args.timestamps, since);
    if !first(&mut reader, tail, &show)? {
        return Ok(exit::DONE);
    }
    if args.follow {
        follow(&store, &container.id, &mut reader, &show)?;
    }
    Ok(exit::DONE)
}

/// What is written from now on, until the container ends or nobody reads any more.
fn follow(
    store: &Store,
    id: &str,
    reader: &mut Reader,
    show: &dyn Fn(&Record) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    loop {
        // Asked before the last reading, so that nothing is missed.
        let running = is_running(store, id);
        while let Some(record) = reader.next().context("reading the log")? {
            if !show(&record)? {
                return Ok(());
            }
        }
        if !running {
            return Ok(());
        }
        std::thread::sleep(GLANCE);
    }
}

fn is_running(store: &Store, id: &str) -> bool {
    store.container(id).is_ok_and(|container| container.state.running) && store.is_run(id).unwrap_or(false)
}

/// What is there now. `false`: nobody reads any more.
fn first(
    reader: &mut Reader,
    tail: Option<usize>,
    show: &dyn Fn(&Record) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let mut kept = Tail::default();
    while let Some(record) = reader.next().context("reading the log")? {
        match tail {
            None if !show(&record)? => return Ok(false),
            None => {}
            Some(most) => kept.push(record, most),
        }
    }
    for record in kept.records {
        if !show(&record)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The last lines. Pieces of one long line count as one, a last one without its end, too.
#[derive(Debug, Default)]
struct Tail {
    records: VecDeque<Record>,
    lines: usize,
}

impl Tail {
    fn push(&mut self, record: Record, most: usize) {
        let ends_line = |record: &Record| record.log.ends_with('\n');
        self.lines += usize::from(self.records.back().is_none_or(ends_line));
        self.records.push_back(record);
        while self.lines > most {
            while self.records.pop_front().is_some_and(|record| !ends_line(&record)) {}
            self.lines -= 1;
        }
    }
}

fn print(record: &Record, timestamps: bool, since: Option<Timestamp>) -> Result<bool, Failure> {
    if since.is_some_and(|since| record.time < since) {
        return Ok(true);
    }
    let time = if timestamps { format!("{:.9} ", record.time) } else { String::new() };
    output::piece(format!("{time}{}", record.log).as_bytes(), record.stream == Stream::Stderr)
}

/// `all` and negative numbers are everything.
fn tail(text: &str) -> Result<Option<usize>, Failure> {
    if text == "all" {
        return Ok(None);
    }
    let count: i64 = text.parse().map_err(|_| Failure::usage(format_args!("--tail {text}: no number")))?;
    Ok(usize::try_from(count).ok())
}

/// A time, or a span before `now`.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let span = text.parse::<SignedDuration>().ok().and_then(|span| now.checked_sub(span).ok());
    span.ok_or_else(|| {
        Failure::usage(format_args!("--since {text}: neither a time (RFC 3339) nor a span (10m)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_counted_in_lines() {
        let of = |texts: &[&str], most: usize| {
            let mut tail = Tail::default();
            for text in texts {
                let record =
                    Record { log: (*text).to_owned(), stream: Stream::Stdout, time: Timestamp::UNIX_EPOCH };
                tail.push(record, most);
            }
            tail.records.into_iter().map(|record| record.log).collect::<String>()
        };
        assert_eq!(of(&["a\n", "b\n", "c\n"], 2), "b\nc\n");
        assert_eq!(of(&["a\n", "b\n", "c"], 2), "b\nc");
        assert_eq!(of(&["a\n", "b", "b\n", "c"], 2), "bb\nc");
        assert_eq!(of(&["a\n", "b"], 1), "b");
        assert_eq!(of(&["a", "a\n", "b", "b"], 1), "bb");
        assert_eq!(of(&["a\n", "b"], 0), "");
        assert_eq!(of(&["a", "a", "a"], 5), "aaa");
    }

    #[test]
    fn times_and_spans() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        assert_eq!(moment("10m", now).unwrap(), "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(
            moment("2025-01-01T01:00:00+01:00", now).unwrap(),
            "2025-01-01T00:00:00Z".parse().unwrap()
        );
        assert!(moment("soon", now).is_err());
        assert_eq!((tail("all").unwrap(), tail("3").unwrap(), tail("-1").unwrap()), (None, Some(3), None));
        assert!(tail("x").is_err());
    }
}
