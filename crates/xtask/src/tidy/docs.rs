//! Papers and code say the same: numbered semantics have tests, exit codes are documented.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::source::Source;

/// Every `**S12 ...**` of docs/semantics.md has a test `s12_...`, and every such test its number.
pub(super) fn semantics(root: &Path, sources: &[Source]) -> Result<Vec<String>> {
    let path = root.join("docs/semantics.md");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut complaints = Vec::new();
    let mut numbers = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        for number in numbers_in(line) {
            if !numbers.insert(number) {
                complaints.push(format!("docs/semantics.md:{}: S{number} stands twice", at + 1));
            }
        }
    }
    if numbers.is_empty() {
        complaints.push("docs/semantics.md: no numbered line `**S1 ...**` found".to_owned());
    }
    let mut tested = BTreeSet::new();
    for source in sources {
        tested.extend(tests_in(&source.text));
    }
    for number in numbers.difference(&tested) {
        complaints.push(format!("docs/semantics.md: S{number} has no test function `s{number}_...`"));
    }
    for number in tested.difference(&numbers) {
        complaints.push(format!("test s{number}_...: docs/semantics.md has no S{number}"));
    }
    Ok(complaints)
}

/// The numbers of headings and bullets of the form `**S12 ...**`.
fn numbers_in(line: &str) -> Vec<u32> {
    line.split("**S")
        .skip(1)
        .filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            rest[..end].parse().ok()
        })
        .collect()
}

/// The numbers `n` of functions `fn s<n>_...` that follow a `#[test]`.
fn tests_in(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn s").filter(|_| is_test) {
            is_test = false;
            let digits = rest.chars().take_while(char::is_ascii_digit).count();
            if rest[digits..].starts_with('_')
                && let Ok(number) = rest[..digits].parse()
            {
                numbers.push(number);
            }
        } else if !line.starts_with('#') && !line.starts_with("//") && !line.is_empty() {
            is_test = false;
        }
    }
    numbers
}

/// Every exit code named in crates/plyfs/src/exit.rs stands in the table of docs/cli.md.
pub(super) fn exit_codes(root: &Path, sources: &[Source]) -> Result<Vec<String>> {
    let Some(source) = sources.iter().find(|source| source.path == Path::new("crates/plyfs/src/exit.rs"))
    else {
        return Ok(vec!["crates/plyfs/src/exit.rs: missing; exit codes live there".to_owned()]);
    };
    let path = root.join("docs/cli.md");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut complaints = Vec::new();
    for line in source.code().iter().filter(|line| !line.in_test) {
        if let Some(code) = code_in(line.text)
            && !documented(&text, code)
        {
            complaints.push(format!(
                "crates/plyfs/src/exit.rs:{}: exit code {code} is not in docs/cli.md",
                line.number
            ));
        }
    }
    Ok(complaints)
}

/// `32` for `pub const MOUNT: u8 = 32;`, `MOUNT = 32,`, `Exit::Mount => 32,` and `ExitCode::from(32)`.
fn code_in(line: &str) -> Option<u32> {
    let tail = line
        .rsplit_once("=> ")
        .or_else(|| line.rsplit_once("= "))
        .or_else(|| line.split_once("ExitCode::from("))?
        .1
        .trim_start();
    let digits = tail.chars().take_while(char::is_ascii_digit).count();
    let rest = tail[digits..].trim_start_matches("u8").trim_start_matches("i32").trim();
    (matches!(rest.chars().next(), None | Some(',' | ';' | ')'))).then(|| tail[..digits].parse().ok())?
}

/// The code stands as a number of its own at the start of a table row or bullet, or in backticks.
fn documented(text: &str, code: u32) -> bool {
    let ticked = format!("`{code}`");
    text.lines().any(|line| {
        let start = line.trim_start_matches(['|', '-', '*', ' ', '`']);
        let digits = start.chars().take_while(char::is_ascii_digit).count();
        let begins = start[..digits].parse() == Ok(code) && (line.starts_with('|') || line.starts_with('-'));
        begins || line.contains(&ticked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_bullets_and_headings() {
        assert_eq!(numbers_in("- **S12 Whiteouts.** Text **S3 x**"), [12, 3]);
        assert!(numbers_in("S12 is said above").is_empty());
    }

    #[test]
    fn only_tests_count() {
        let text =
            "#[test]\nfn s12_a() {}\nfn s13_b() {}\n#[test]\n#[ignore]\nfn s14_c() {}\n#[test]\nfn some() {}";
        assert_eq!(tests_in(text), [12, 14]);
    }

    #[test]
    fn exit_codes_are_read_from_constants_and_arms() {
        assert_eq!(code_in("pub const MOUNT: u8 = 32;"), Some(32));
        assert_eq!(code_in("    Exit::Usage => 2,"), Some(2));
        assert_eq!(code_in("    let a = b;"), None);
        assert!(documented("| 32 | mount failed |", 32));
        assert!(!documented("| 320 | mount failed |", 32));
    }
}
