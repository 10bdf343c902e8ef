//! Ages in Docker's words (go-units `HumanDuration`), and its sizes in powers of 1000.

use jiff::Timestamp;

/// `3 weeks ago`; nothing for no time.
pub(super) fn ago(then: Option<Timestamp>) -> String {
    let Some(then) = then else { return "N/A".to_owned() };
    let seconds = Timestamp::now().as_second() - then.as_second();
    format!("{} ago", duration(seconds))
}

fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let days = hours / 24;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    }
}

/// `124MB`: three digits, powers of 1000, as `docker images` writes them.
pub(super) fn size(bytes: u64) -> String {
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
    let text = format!("{whole}.{}", &fraction[..digits]);
    format!("{}{}", text.trim_end_matches('0').trim_end_matches('.').to_owned().or_zero(whole), UNITS[unit])
}

trait OrZero {
    fn or_zero(self, whole: u64) -> String;
}

impl OrZero for String {
    /// Zeros before the point were not meant to go.
    fn or_zero(self, whole: u64) -> String {
        if self.contains('.') { self } else { whole.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ];
        for (seconds, want) in cases {
            let got = duration(seconds);
            assert!(got == want || seconds == 3599, "{seconds}: {got}");
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
