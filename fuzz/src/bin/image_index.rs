//! Arbitrary bytes as an image index: whatever is in them, reading them to the end neither panics nor goes on for ever,
//! and says the same twice. Checksums count as right (`cfg(fuzzing)`), or no input would get past the header.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plyfs_union::image::survey;

fuzz_target!(|data: &[u8]| {
    let first = survey(data);
    if let Err(why) = &first {
        assert!(!why.is_empty());
    }
    assert_eq!(first, survey(data));
});
