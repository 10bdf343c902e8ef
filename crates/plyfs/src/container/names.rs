//! Names of containers: what is one, and new ones.

use anyhow::bail;

/// Docker's rule (`daemon/names`): `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn check(name: &str) -> anyhow::Result<()> {
    let good = name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'));
    if !good {
        bail!("invalid container name {name:?}: wanted [a-zA-Z0-9][a-zA-Z0-9_.-]+");
    }
    Ok(())
}

const HOW: [&str; 32] = [
    "amber", "brave", "bright", "calm", "clever", "cosy", "crisp", "eager", "early", "fair", "fleet", "fond",
    "gentle", "glad", "golden", "hardy", "jolly", "keen", "kind", "lively", "lucid", "mellow", "merry",
    "neat", "noble", "plain", "proud", "quick", "quiet", "steady", "sunny", "warm",
];
const WHAT: [&str; 32] = [
    "alder", "ash", "aspen", "beech", "birch", "box", "cedar", "cherry", "chestnut", "cypress", "elder",
    "elm", "fir", "hazel", "hickory", "holly", "juniper", "larch", "laurel", "linden", "maple", "medlar",
    "oak", "olive", "pear", "pine", "plum", "poplar", "rowan", "spruce", "walnut", "willow",
];

/// Two words chosen by an id (hexadecimal digits), and a number from the second try on.
pub(crate) fn suggest(id: &str, attempt: u32) -> String {
    let byte =
        |at: usize| id.get(at..at + 2).and_then(|two| usize::from_str_radix(two, 16).ok()).unwrap_or(0);
    let name = format!("{}_{}", HOW[byte(0) % HOW.len()], WHAT[byte(2) % WHAT.len()]);
    if attempt == 0 { name } else { format!("{name}{}", id.get(4..8).unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for good in ["ab", "a1", "9x", "web.1_x-y"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "_a", "a/b", "a b", "\u{e4}b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn suggestions_are_names() {
        for id in ["00ff0123456789", "ffffffff", ""] {
            assert!(check(&suggest(id, 0)).is_ok());
            assert!(check(&suggest(id, 1)).is_ok());
        }
        assert_ne!(suggest("0001abcd", 0), suggest("0001abcd", 1));
    }
}
