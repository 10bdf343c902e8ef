//! The only place that prints. Answers go to standard output, as text or JSON from the same structs; everything
//! else goes to standard error.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::exit::Failure;

/// Version of every JSON answer (docs/cli.md). Fields are added without a new number; none changes or goes.
const JSON_VERSION: u32 = 1;

/// An answer that can be shown to people and to programs.
pub(crate) trait Report: Serialize {
    /// The text for people.
    fn text(&self, page: &mut Page<'_>) -> io::Result<()>;
}

/// Where a report writes its text.
pub(crate) struct Page<'a> {
    out: &'a mut dyn Write,
    color: bool,
}

/// Colours by meaning.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    /// Added, fine.
    Good,
    /// Changed, careful.
    Warn,
    /// Deleted, missing.
    Bad,
    /// Headings.
    Strong,
    /// Less important.
    Faint,
}

impl Page<'_> {
    /// One line.
    pub(crate) fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// `text` in a colour, if colours are wanted.
    pub(crate) fn paint(&self, tone: Tone, text: impl Display) -> String {
        if !self.color {
            return text.to_string();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Strong => "1",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[derive(Serialize)]
struct Envelope<'a, T: ?Sized> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// Shows an answer. A reader that went away early (`| head`) is no failure.
pub(crate) fn show(report: &impl Report, json: bool) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if json { write_json(report, &mut out) } else { write_text(report, &mut out) };
    settle(written.and_then(|()| out.flush()))
}

/// Shows bytes as they are: a man page, a completion script.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    settle(out.write_all(bytes).and_then(|()| out.flush()))
}

/// One line of an answer that comes bit by bit.
pub(crate) fn line(text: impl Display) {
    // A reader that went away early is no failure; what follows tells any other.
    drop(writeln!(io::stdout(), "{text}"));
}

/// Writes part of a longer answer to standard output, or to standard error. `false`: whoever read it is gone.
pub(crate) fn piece(bytes: &[u8], to_error: bool) -> Result<bool, Failure> {
    let written = if to_error {
        io::stderr().lock().write_all(bytes)
    } else {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    };
    let gone = written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    settle(written)?;
    Ok(!gone)
}

fn settle(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("writing the answer")?,
        _ => Ok(()),
    }
}

fn write_json(report: &impl Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Envelope { version: JSON_VERSION, body: report })?;
    writeln!(out)
}

fn write_text(report: &impl Report, out: &mut dyn Write) -> io::Result<()> {
    report.text(&mut Page { out, color: io::stdout().is_terminal() && colors_wanted() })
}

fn colors_wanted() -> bool {
    // https://no-color.org: set and not empty
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Renders a report without colour, for tests.
#[cfg(test)]
pub(crate) fn plain(report: &impl Report) -> String {
    let mut out = Vec::new();
    report.text(&mut Page { out: &mut out, color: false }).unwrap();
    String::from_utf8(out).unwrap()
}

/// One line on standard error that is no error.
pub(crate) fn note(text: impl Display) {
    to_stderr(format_args!("plyfs: {text}"));
}

/// A warning.
pub(crate) fn warn(text: impl Display) {
    to_stderr(format_args!("plyfs: warning: {text}"));
}

/// The last words of a command that failed.
pub(crate) fn failure(failure: &Failure) {
    to_stderr(format_args!("{failure}"));
}

/// Text made elsewhere (a child's last words, clap's usage) as it is.
pub(crate) fn verbatim(text: impl Display) {
    to_stderr(format_args!("{text}"));
}

fn to_stderr(text: std::fmt::Arguments<'_>) {
    // Where standard error itself fails there is nobody left to tell.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Standard input and error both belong to a person.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on the terminal; `None` when there is no answer (end of input, no terminal).
pub(crate) fn ask(question: &str) -> Option<String> {
    let mut tty = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    write!(tty, "{question}").ok()?;
    let mut answer = String::new();
    let length = BufReader::new(tty).read_line(&mut answer).ok()?;
    (length > 0).then(|| answer.trim().to_lowercase())
}

/// Bytes for people: at most four digits and a unit, powers of 1024.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        // Rounded to the nearest, so that 1023.99K does not print as 1024.0K but climbs to 1.0M.
        tenths = (tenths + 512) / 1024;
        unit = next;
    }
    if tenths < 100 {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    } else {
        format!("{}{unit}", tenths / 10)
    }
}

/// Columns that line up, three blanks between them, as Docker's.
pub(crate) fn table(page: &mut Page<'_>, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default() + 3
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: String =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        page.line(padded.trim_end())
    };
    line(&mut head.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

/// A path on one line: control characters, and bytes that are no UTF-8, in octal as mountinfo writes them.
pub(crate) fn path_line(path: &Path) -> String {
    let mut line = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match u8::try_from(c) {
                Ok(byte) if c.is_ascii_control() => line.push_str(&format!("\\{byte:03o}")),
                _ => line.push(c),
            }
        }
        for byte in chunk.invalid() {
            line.push_str(&format!("\\{byte:03o}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn sizes_are_short_and_right() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (1536, "1.5K"),
            (10 * 1024, "10K"),
            (1024 * 1024 - 1, "1.0M"),
            (5 * 1024 * 1024 * 1024, "5.0G"),
            (u64::MAX, "16E"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn paths_stay_on_one_line() {
        assert_eq!(path_line(Path::new("/a b/\u{fc}")), "/a b/\u{fc}");
        assert_eq!(path_line(Path::new(OsStr::from_bytes(b"/a\n\xff"))), "/a\\012\\377");
    }
}
