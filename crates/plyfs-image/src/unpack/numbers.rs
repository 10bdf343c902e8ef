//! Numbers in tar headers: octal text, base-256 (GNU, star), and PAX's decimals. Pure.

use plyfs_sys::Time;

/// A number field: base-256 where the first bit is set, else octal digits with spaces or NULs around; empty is 0.
pub(crate) fn field(bytes: &[u8]) -> Option<i64> {
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return base256(bytes);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    let mut value: i64 = 0;
    for digit in &bytes[start..end] {
        if !matches!(digit, b'0'..=b'7') {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

/// Two's complement, big-endian, without the marker bit.
fn base256(bytes: &[u8]) -> Option<i64> {
    let first = i128::from(bytes[0] & 0x7f);
    // Bit 6 is the sign.
    let mut value = if first & 0x40 != 0 { first - 0x80 } else { first };
    for &byte in &bytes[1..] {
        value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
    }
    i64::try_from(value).ok()
}

/// As [`field`], not negative.
pub(crate) fn unsigned(bytes: &[u8]) -> Option<u64> {
    u64::try_from(field(bytes)?).ok()
}

/// PAX: decimal digits alone, at most `i64::MAX`.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|&value| value <= i64::MAX as u64)
}

/// PAX: seconds with a sign and a fraction of any length; finer than nanoseconds is cut off.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nsec = 0;
    for place in 0..9 {
        nsec = nsec * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    Some(match (negative, nsec) {
        (false, _) => Time { sec: seconds, nsec },
        (true, 0) => Time { sec: -seconds, nsec: 0 },
        (true, _) => Time { sec: -seconds - 1, nsec: 1_000_000_000 - nsec },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let check = |bytes: &[u8], want: Option<i64>| assert_eq!(field(bytes), want, "{bytes:?}");
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"\0\0\0\0", Some(0));
        check(b"        ", Some(0));
        check(b"", Some(0));
        check(b"0000648\0", None);
        check(b"12\x0034\0", None);
        check(b"-1\0", None);
        check(b"77777777777", Some(0o77_777_777_777));
        check(b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1));
        check(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX));
        check(b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None);
        check(b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None);
        assert_eq!(unsigned(b"\xff\xff\xff\xff"), None);
    }

    #[test]
    fn pax_numbers() {
        assert_eq!(decimal(b"10"), Some(10));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in ["", "-1", "+1", " 1", "0x1", "9223372036854775808", "99999999999999999999999"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
        let check = |text: &str, want: Option<(i64, u32)>| {
            assert_eq!(time(text.as_bytes()), want.map(|(sec, nsec)| Time { sec, nsec }), "{text}");
        };
        check("1", Some((1, 0)));
        check("1.5", Some((1, 500_000_000)));
        check("1.", Some((1, 0)));
        check("1.0000000019", Some((1, 1)));
        check("-1", Some((-1, 0)));
        check("-1.25", Some((-2, 750_000_000)));
        check("-0.5", Some((-1, 500_000_000)));
        for bad in ["", ".5", "1.x", "1e9", "--1", "-"] {
            check(bad, None);
        }
    }
}
