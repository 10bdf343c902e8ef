//! Calls that safe Rust has no word for (mmap): a small C program, compiled once with the linker's `cc`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::cmd::run;
use crate::tree::hash;

/// `probe VERB ARG...`; the verbs are in `probe.c`.
pub fn probe() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/probe.c");
        let text = std::fs::read(source).expect("probe.c");
        // Kept beside the test program for the next run, under a name that changes with the source.
        let exe = std::env::current_exe().expect("the path of this test");
        let path = exe.with_file_name(format!("probe-{:016x}", hash(&text)));
        if !path.is_file() {
            let new = exe.with_file_name(format!("probe-{}", std::process::id()));
            run(Command::new("cc").args(["-O1", "-Wall", "-o"]).arg(&new).arg(source)).ok();
            std::fs::rename(&new, &path).expect("keeping the probe");
        }
        path
    }))
}
