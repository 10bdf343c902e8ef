//! pjdfstest: what fails on a mount fails on a plain ext4 as well.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use plyfs_tests::mount::options;
use plyfs_tests::user::in_namespace;
use plyfs_tests::{Mount, Scratch, require_programs, require_root};

use crate::tool;

const CONFIG: &str = "
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = REMOUNT
";

/// Cases that pjdfstest itself leaves out here and not on ext4, and why.
const EXCUSED: &[(&str, &str)] = &[(
    "link::link_count_max",
    "pathconf of the C library knows LINK_MAX by filesystem type, and FUSE's is not in its list",
)];

/// What pjdfstest says about a folder: failed cases, and how many passed.
struct Verdict {
    failed: BTreeSet<String>,
    passed: usize,
    text: String,
}

fn judge(scratch: &Scratch, program: &Path, dir: &Path) -> Verdict {
    let second = scratch.dir("second");
    // The cases that remount read-only disturb all others that run beside them: they run alone.
    let config = scratch.file("pjdfstest.toml", CONFIG.replace("REMOUNT", "false"));
    let alone = scratch.file("remount.toml", CONFIG.replace("REMOUNT", "true"));
    // The users `nobody` and `tests` are known inside the namespace only.
    let script = format!(
        "mount -t tmpfs plyfs-test {s}; mkdir -p {d}/work {s}/work; chmod 777 {d}/work {s}/work
         set +e
         {p} -c {config} -s {s}/work -p {d}/work
         {p} -c {alone} -s {s}/work -p {d}/work erofs
         rm -rf {d}/work",
        s = second.display(),
        p = program.display(),
        d = dir.display(),
        config = config.display(),
        alone = alone.display()
    );
    let ran = in_namespace(scratch, &script);
    let mut failed = BTreeSet::new();
    let mut passed = 0;
    for line in ran.out.lines().filter(|line| !line.starts_with(['\t', ' '])) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next_back()) {
            (Some(_), Some("ok")) => passed += 1,
            (Some(name), Some("FAILED" | "failed" | "FAIL")) if name.contains("::") => {
                failed.insert(name.to_owned());
            }
            _ => {}
        }
    }
    let summaries: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("Summary")).collect();
    eprintln!("{}: {summaries:?}", dir.display());
    let count = |line: &&str| -> Option<usize> {
        line.split([':', ',']).find_map(|part| part.trim().strip_suffix(" failed")?.trim().parse().ok())
    };
    let counts: Vec<usize> = summaries.iter().filter_map(count).collect();
    assert_eq!(counts.len(), 2, "pjdfstest did not end well:\n{}\n{}", ran.out, ran.err);
    assert_eq!(
        counts.iter().sum::<usize>(),
        failed.len(),
        "summary and list of failures differ:\n{}",
        ran.out
    );
    Verdict { failed, passed, text: ran.out }
}

/// The stack fails nothing that the plain filesystem does not fail.
fn no_worse_than_ext4(words: &[&str]) {
    if !require_root("pjdfstest") || !require_programs(&["mkfs.ext4", "unshare"]) {
        return;
    }
    let Some(program) = tool("pjdfstest") else { return };
    let plain = Scratch::new();
    let dir = plain.ext4("ext4", 256);
    let want = judge(&plain, &program, &dir);
    let scratch = Scratch::new();
    scratch.ext4("branches", 256);
    let words: Vec<String> = words.iter().map(|word| format!("branches/{word}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mount = Mount::new(&format!("{},btime", options(&scratch, &words)), scratch.dir("mnt"));
    let got = judge(&scratch, &program, mount.dir());
    let worse: Vec<&String> = got.failed.difference(&want.failed).collect();
    let why = |name: &str| {
        let mut lines = got.text.lines().skip_while(|line| !line.starts_with(name));
        let head = lines.next().unwrap_or("").to_owned();
        lines.take_while(|line| line.starts_with(['\t', ' '])).fold(head, |text, line| text + "\n" + line)
    };
    let report: Vec<String> = worse.iter().map(|name| why(name)).collect();
    assert!(worse.is_empty(), "{} cases fail here and not on ext4:\n{}", worse.len(), report.join("\n"));
    let skipped = |verdict: &Verdict| -> BTreeSet<String> {
        let lines = verdict.text.lines().filter(|line| line.ends_with("skipped") && line.contains("::"));
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let missed: Vec<String> = skipped(&got).difference(&skipped(&want)).map(|name| why(name)).collect();
    let known = missed.iter().all(|case| EXCUSED.iter().any(|(name, _)| case.starts_with(name)));
    assert!(known, "skipped here and not on ext4:\n{}", missed.join("\n"));
    assert!(want.passed > 300, "hardly anything was run");
    drop(mount);
    let left = fs::read_dir(scratch.path("mnt")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn one_writable_branch() {
    no_worse_than_ext4(&["top", "low"]);
}

#[test]
fn two_writable_branches() {
    no_worse_than_ext4(&["top", "second=rw", "low"]);
}
