//! Ages in Docker's words (go-units `HumanDuration`), and its sizes in powers of 1000.

use jiff::Timestamp;

/// `3 weeks ago`; nothing for no time.
pub(crate) fn ago(then: Option<Timestamp>) -> String {
    let Some(then) = then else { return "N/A".to_owned() };
    let seconds = Timestamp::now().as_second() - then.as_second();
    format!("{} ago", span(seconds))
}

/// Docker's words for a span (go-units `HumanDuration`).
pub(crate) fn span(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match (seconds, minutes, hours) {
        (..1, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `124MB`: three digits, powers of 1000, as `docker images` writes them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut scale = 1_u64;
    while bytes / scale >= 1000 && unit + 1 < UNITS.len() {
        scale *= 1000;
        unit += 1;
    }
    let (whole, rest) = (bytes / scale, u128::from(bytes % scale) * 1000 / u128::from(scale));
    let digits = match whole {
        0..=9 => 2,
        10..=99 => 1,
        _ => 0,
    };
    let fraction = format!("{rest:03}");
    let fraction = fraction[..digits].trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{whole}{point}{fraction}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_in_dockers_words() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (3599, "59 minutes"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (47 * 3600, "47 hours"),
            (86_400 * 2, "2 days"),
            (86_400 * 14, "2 weeks"),
            (86_400 * 60, "2 months"),
            (86_400 * 730, "2 years"),
        ];
        for (seconds, want) in cases {
            assert_eq!(span(seconds), want, "{seconds}");
        }
    }

    #[test]
    fn sizes_are_dockers() {
        let cases = [
            (0, "0B"),
            (100, "100B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (124_400_000, "124MB"),
            (10_000_000, "10MB"),
            (12_340_000, "12.3MB"),
            (5_000_000_000, "5GB"),
            (200_000, "200kB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }
}
