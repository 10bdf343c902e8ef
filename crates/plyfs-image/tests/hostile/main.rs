//! Hostile layers: one test per known pitfall of layer import, each with a crafted archive. Refused or neutralised, and
//! nothing outside the layer's directory touched: every `Place` looks at a canary beside it.
//!
//! The numbers are those of the list of pitfalls: h17 (media types) belongs to manifests, not to archives, and is tested
//! where manifests are read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

#[path = "../unpack_support/mod.rs"]
mod support;

mod archives;
mod paths;
mod powers;

use std::fs;

use support::Place;

pub(crate) fn stat(place: &Place, name: &str) -> fs::Metadata {
    fs::symlink_metadata(place.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub(crate) fn exists(place: &Place, name: &str) -> bool {
    fs::symlink_metadata(place.at(name)).is_ok()
}
