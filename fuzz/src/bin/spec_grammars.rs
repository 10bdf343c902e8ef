//! Arbitrary bytes as mount options, in both modes: nothing panics, and what is accepted prints to a text that reads
//! as the same and prints as itself.
//!
//! The bytes are arguments of `-o` separated by newlines; if the first byte is `!`, they are read onto a mount
//! (`remount`), of which only panics are looked for.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use plyfs_union::spec::{Parsed, Unknown, branch_text, parse, remount};

fuzz_target!(|data: &[u8]| {
    let (onto_a_mount, data) = match data.split_first() {
        Some((b'!', rest)) => (true, rest),
        _ => (false, data),
    };
    let arguments: Vec<&OsStr> = data.split(|b| *b == b'\n').map(OsStr::from_bytes).collect();
    let [refused, warned] = [Unknown::Refuse, Unknown::Warn].map(|unknown| parse(&arguments, unknown));
    if onto_a_mount {
        for base in ["br:/a:/b", "lowerdir=/a,upperdir=/b"] {
            let Ok(base) = parse(&[OsStr::new(base)], Unknown::Refuse) else { unreachable!("{base}") };
            // Refusals are fine, and their messages must print.
            if let Err(e) = remount(&base.spec, &arguments, Unknown::Warn) {
                assert!(!e.to_string().is_empty());
            }
        }
    }
    match (&refused, &warned) {
        (Ok(refused), Ok(warned)) => assert_eq!(refused, warned, "the modes differ in unknown options only"),
        (Ok(refused), Err(e)) => panic!("refused when lenient: {refused:?}: {e}"),
        (Err(_), _) => {}
    }
    if let Ok(parsed) = &warned {
        round_trip(parsed);
    }
});

fn round_trip(parsed: &Parsed) {
    for branch in &parsed.spec.branches {
        let text = branch_text(&branch.path, branch);
        assert!(!text.iter().any(|b| matches!(b, 0..=0x20 | 0x7f)));
    }
    if !parsed.actions.is_empty() {
        // A remount need not have branches.
        let _ = parsed.spec.options();
        return;
    }
    assert_eq!(parsed.spec.check(), Ok(()));
    let printed = parsed.spec.options();
    let again = match parse(&[&printed], Unknown::Refuse) {
        Ok(again) => again,
        Err(e) => panic!("{printed:?}: {e}"),
    };
    assert_eq!(again.spec, parsed.spec, "{printed:?}");
    assert_eq!(again.spec.options(), printed);
}
