//! The values of `create=`, `cpup=` and `udba=`, and how they are written.

use super::split::{Word, number};
use super::{CopyupPolicy, CreatePolicy, SpecError, Udba};

/// The longest time a choice or figure is kept, in seconds (AUFS's own limit, for `rdcache=` too).
pub(super) const MAX_SECONDS: u32 = 3600;

const CREATE: &str = "tdp, rr, mfs[:SEC], tdmfs:LOW[:SEC], mfsrr:LOW[:SEC], pmfs[:SEC] or pmfsrr:LOW[:SEC], \
                      LOW in bytes, SEC 0 to 3600";

/// Reads the value of `create=`.
pub(super) fn create(word: &Word) -> Result<CreatePolicy, SpecError> {
    create_text(word.value_text()).ok_or_else(|| word.bad(CREATE))
}

fn create_text(text: &str) -> Option<CreatePolicy> {
    let mut parts = text.split(':');
    let name = parts.next()?;
    let figures: Vec<&str> = parts.collect();
    let sec = |text: &str| number::<u32>(text).filter(|s| *s <= MAX_SECONDS).map(Some);
    let only_sec = || match figures[..] {
        [] => Some(None),
        [s] => sec(s),
        _ => None,
    };
    let low_and_sec = || match figures[..] {
        [low] => Some((number::<u64>(low)?, None)),
        [low, s] => Some((number::<u64>(low)?, sec(s)?)),
        _ => None,
    };
    match name {
        "tdp" | "top-down-parent" if figures.is_empty() => Some(CreatePolicy::Tdp),
        "rr" | "round-robin" if figures.is_empty() => Some(CreatePolicy::Rr),
        "mfs" | "most-free-space" => only_sec().map(|sec| CreatePolicy::Mfs { sec }),
        "pmfs" => only_sec().map(|sec| CreatePolicy::Pmfs { sec }),
        "tdmfs" => low_and_sec().map(|(low, sec)| CreatePolicy::Tdmfs { low, sec }),
        "mfsrr" => low_and_sec().map(|(low, sec)| CreatePolicy::MfsRr { low, sec }),
        "pmfsrr" => low_and_sec().map(|(low, sec)| CreatePolicy::PmfsRr { low, sec }),
        _ => None,
    }
}

/// Reads the value of `cpup=`.
pub(super) fn copyup(word: &Word) -> Result<CopyupPolicy, SpecError> {
    match word.value_text() {
        "tdp" | "top-down-parent" => Ok(CopyupPolicy::Tdp),
        "bup" | "bottom-up-parent" => Ok(CopyupPolicy::Bup),
        "bu" | "bottom-up" => Ok(CopyupPolicy::Bu),
        _ => Err(word.bad("tdp, bup or bu")),
    }
}

/// Reads the value of `udba=`.
pub(super) fn udba(word: &Word) -> Result<Udba, SpecError> {
    match word.value_text() {
        "none" => Ok(Udba::None),
        "reval" => Ok(Udba::Reval),
        "notify" | "fsnotify" | "inotify" => Ok(Udba::Notify),
        _ => Err(word.bad("none, reval or notify")),
    }
}

impl CreatePolicy {
    /// As AUFS writes it: the short name with the figures that were given (`tdmfs:4096:60`).
    pub fn text(&self) -> String {
        let with = |name: &str, low: Option<u64>, sec: Option<u32>| {
            let mut text = name.to_owned();
            low.iter().for_each(|low| text.push_str(&format!(":{low}")));
            sec.iter().for_each(|sec| text.push_str(&format!(":{sec}")));
            text
        };
        match *self {
            Self::Tdp => with("tdp", None, None),
            Self::Rr => with("rr", None, None),
            Self::Mfs { sec } => with("mfs", None, sec),
            Self::Tdmfs { low, sec } => with("tdmfs", Some(low), sec),
            Self::MfsRr { low, sec } => with("mfsrr", Some(low), sec),
            Self::Pmfs { sec } => with("pmfs", None, sec),
            Self::PmfsRr { low, sec } => with("pmfsrr", Some(low), sec),
        }
    }

    /// How long a choice is kept, where that was given.
    pub(super) fn seconds(&self) -> Option<u32> {
        match *self {
            Self::Tdp | Self::Rr => None,
            Self::Mfs { sec }
            | Self::Tdmfs { sec, .. }
            | Self::MfsRr { sec, .. }
            | Self::Pmfs { sec }
            | Self::PmfsRr { sec, .. } => sec,
        }
    }
}

impl CopyupPolicy {
    /// As AUFS writes it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Tdp => "tdp",
            Self::Bup => "bup",
            Self::Bu => "bu",
        }
    }
}

impl Udba {
    /// As AUFS writes it.
    pub fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reval => "reval",
            Self::Notify => "notify",
        }
    }
}
