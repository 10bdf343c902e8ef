//! Tests of the two grammars: tables of one line per rule, and round trips of random specs and texts.

mod branches;
mod options;
mod remount;
mod round_trip;

use std::ffi::OsStr;

use super::*;

fn read(text: &str, unknown: Unknown) -> Result<Parsed, SpecError> {
    parse(&[OsStr::new(text)], unknown)
}

fn spec(text: &str) -> MountSpec {
    read(text, Unknown::Refuse).unwrap_or_else(|e| panic!("{text}: {e}")).spec
}

/// `text` is read without a warning and prints as `want`, which reads and prints as itself.
#[track_caller]
fn check(text: &str, want: &str) {
    warns(text, want, &[]);
    if text != want {
        warns(want, want, &[]);
    }
}

/// `text` is taken for itself.
#[track_caller]
fn keeps(text: &str) {
    check(text, text);
}

/// `text` is read with a warning holding each of `warnings`, and prints as `want`.
#[track_caller]
fn warns(text: &str, want: &str, warnings: &[&str]) {
    let parsed = match read(text, Unknown::Refuse) {
        Ok(parsed) => parsed,
        Err(e) => panic!("{text}: {e}"),
    };
    assert_eq!(parsed.spec.options(), want, "{text}");
    assert_eq!(parsed.warnings.len(), warnings.len(), "{text}: {:?}", parsed.warnings);
    for (got, part) in parsed.warnings.iter().zip(warnings) {
        assert!(got.contains(part), "{text}: {got}");
    }
}

/// `text` is refused in both modes, and the message holds `part`.
#[track_caller]
fn refuses(text: &str, part: &str) {
    for unknown in [Unknown::Refuse, Unknown::Warn] {
        match read(text, unknown) {
            Ok(parsed) => panic!("{text}: read as {:?}", parsed.spec.options()),
            Err(e) => assert!(e.to_string().contains(part), "{text}: {e}"),
        }
    }
}

/// `text` is an unknown option after `branches`: refused, or left out with a warning.
#[track_caller]
fn unknown(branches: &str, text: &str) {
    let whole = format!("{branches},{text}");
    let error = read(&whole, Unknown::Refuse).expect_err(&whole);
    assert!(matches!(error, SpecError::UnknownOption { .. }), "{whole}: {error}");
    let parsed = read(&whole, Unknown::Warn).expect(&whole);
    assert_eq!(parsed.spec.options(), branches, "{whole}");
    assert_eq!(parsed.warnings.len(), 1, "{whole}");
    assert!(parsed.warnings[0].contains(text), "{whole}: {}", parsed.warnings[0]);
}
