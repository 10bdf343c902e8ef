//! Options that change how fast a mount is and nothing of what it shows, but for the one line of `docs/semantics.md` that
//! says what `passthrough` means to descriptors opened before a copy-up.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::parse::{Build, Known};
use super::split::{Word, number};
use super::{Readdirplus, SpecError};

const PLUS: &str = "always, auto or never";
const ON_OFF: &str = "on or off";
const COUNT: &str = "a number, 1 to 256";

/// The table; `max_threads=` is libfuse's word.
pub(super) const WORDS: &[Known] = &[
    Known::flag("passthrough", |s| s.speed.passthrough = Some(true)),
    Known::flag("nopassthrough", |s| s.speed.passthrough = Some(false)),
    Known::value("readdirplus", PLUS, read_readdirplus),
    Known::flag("dircache", |s| s.speed.no_dir_cache = false),
    Known::flag("nodircache", |s| s.speed.no_dir_cache = true),
    Known::flag("btime", |s| s.speed.birth_times = true),
    Known::flag("nobtime", |s| s.speed.birth_times = false),
    Known::flag("io_uring", |s| s.speed.io_uring = true),
    Known::flag("noio_uring", |s| s.speed.io_uring = false),
    Known::value("metacopy", ON_OFF, read_metacopy),
    Known::value("max_threads", COUNT, read_threads),
    Known::value("image_index", "the path of an image index", read_image_index),
];

fn read_readdirplus(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.speed.readdirplus = match word.value_text() {
        "always" => Readdirplus::Always,
        "auto" => Readdirplus::Auto,
        "never" => Readdirplus::Never,
        _ => return Err(word.bad(PLUS)),
    };
    Ok(())
}

fn read_metacopy(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.speed.metacopy = match word.value_text() {
        "on" => Some(true),
        "off" => Some(false),
        _ => return Err(word.bad(ON_OFF)),
    };
    Ok(())
}

fn read_image_index(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    build.spec.image_index = Some(OsString::from_vec(build.plain_value(word)).into());
    Ok(())
}

fn read_threads(build: &mut Build, word: &Word) -> Result<(), SpecError> {
    let count = number(word.value_text()).filter(|count| (1..=256).contains(count));
    build.spec.speed.max_threads = Some(count.ok_or_else(|| word.bad(COUNT))?);
    Ok(())
}

impl Readdirplus {
    /// The option's value.
    pub(super) fn text(self) -> &'static str {
        match self {
            Readdirplus::Always => "always",
            Readdirplus::Auto => "auto",
            Readdirplus::Never => "never",
        }
    }
}
