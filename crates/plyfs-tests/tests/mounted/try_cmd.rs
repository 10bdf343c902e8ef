//! `plyfs try`: the command works on a view of this machine; the machine stays as it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use plyfs_tests::gate::have;
use plyfs_tests::user::in_namespace;
use plyfs_tests::{Ran, Scratch, plyfs, require_programs, require_root, run, sh};

/// `plyfs try ARGS -- sh -c SCRIPT`
fn attempt(args: &[&str], script: &str) -> Ran {
    run(plyfs().arg("try").args(args).args(["--", "sh", "-c", script]))
}

/// A path on this machine's root that nobody has.
const MARK: &str = "/etc/plyfs-test-mark";

#[test]
fn changes_are_listed_and_the_host_is_untouched() {
    if !require_root("changing /etc") {
        return;
    }
    let before = fs::read("/etc/hostname").unwrap_or_default();
    let passwd = fs::symlink_metadata("/etc/passwd").unwrap();
    let script = format!(
        "echo hello > {MARK} && echo other > /etc/hostname && rm /etc/issue && cat {MARK} /etc/hostname && ! test -e /etc/issue"
    );
    let ran = attempt(&["--discard"], &script).ok();
    assert!(ran.out.starts_with("hello\nother\n"), "{ran:#?}");
    let said = format!("{}{}", ran.out, ran.err);
    for (letter, path) in [("A", MARK), ("C", "/etc/hostname"), ("D", "/etc/issue")] {
        let found = said.lines().any(|line| line.trim_start().starts_with(letter) && line.contains(path));
        assert!(found, "{letter} {path} is not in {said}");
    }
    assert!(!Path::new(MARK).exists());
    assert_eq!(fs::read("/etc/hostname").unwrap_or_default(), before);
    assert!(Path::new("/etc/issue").exists());
    assert_eq!(fs::symlink_metadata("/etc/passwd").unwrap().modified().unwrap(), passwd.modified().unwrap());
}

#[test]
fn the_commands_code_is_passed_on() {
    for code in [0, 1, 42, 125] {
        attempt(&["--discard"], &format!("exit {code}")).exits(code);
    }
    attempt(&["--discard"], "kill -TERM $$").exits(128 + 15);
    run(plyfs().args(["try", "--discard", "--", "no-such-command-anywhere"])).exits(127);
    run(plyfs().args(["try", "--discard", "--", "/etc/passwd"])).exits(126);
    run(plyfs().arg("try")).exits(2);
}

#[test]
fn keep_gives_the_changes_as_a_branch() {
    if !require_root("changing /etc") {
        return;
    }
    let scratch = Scratch::new();
    let keep = scratch.path("kept");
    let big = scratch.file("big", vec![b'x'; 300_000]);
    let script = format!(
        "echo hello > {MARK}; rm /etc/issue; mkdir -p /opt/plyfs-test/dir; chmod 600 {}",
        big.display()
    );
    attempt(&["--keep", keep.to_str().unwrap()], &script).ok();
    let find = |end: &str| sh(format!("find {} -path '*{end}'", keep.display())).ok().out;
    let mark = find("/etc/plyfs-test-mark");
    assert_eq!(mark.lines().count(), 1, "{}", sh(format!("find {}", keep.display())).out);
    assert_eq!(fs::read_to_string(mark.trim()).unwrap(), "hello\n");
    assert_eq!(find("/etc/.wh.issue").lines().count(), 1);
    // A file of which only the mode has changed is whole: people read it without plyfs.
    assert_eq!(fs::read(find(big.to_str().unwrap()).trim()).unwrap(), vec![b'x'; 300_000]);
    assert!(!Path::new(MARK).exists() && !Path::new("/opt/plyfs-test").exists());
}

#[test]
fn the_view_is_whole() {
    let script = "
test -d /proc/self && test -c /dev/null && test -d /sys/kernel && ps -e > /dev/null 2>&1 || test $? = 127
echo x > /dev/null
echo x > /tmp/plyfs-test-try-file && cat /tmp/plyfs-test-try-file
pwd
";
    let scratch = Scratch::new();
    let mut command = plyfs();
    command.args(["try", "--discard", "--", "sh", "-ec", script]).current_dir(scratch.root());
    let ran = run(&mut command).ok();
    assert!(ran.out.starts_with(&format!("x\n{}\n", scratch.root().display())), "{ran:#?}");
    assert!(!Path::new("/tmp/plyfs-test-try-file").exists(), "/tmp is a copy, too");
}

#[test]
fn bind_is_the_real_thing() {
    let scratch = Scratch::new();
    let real = scratch.dir("real");
    let script =
        format!("echo through > {0}/file; echo not > {1}/other", real.display(), scratch.root().display());
    let ran = attempt(&["--discard", "--bind", real.to_str().unwrap()], &script).ok();
    assert_eq!(fs::read_to_string(real.join("file")).unwrap(), "through\n");
    assert!(!scratch.path("other").exists());
    assert!(!ran.out.contains("real/file"), "what is real is not listed: {}", ran.out);
}

#[test]
fn nothing_stays_behind() {
    let servers = || sh("grep -c fuse.aufs /proc/self/mountinfo || true").out;
    let before = servers();
    // A number of our own: others on this machine may sleep too.
    let ours = format!("300.{}", std::process::id());
    attempt(&["--discard"], &format!("sleep {ours} & echo started")).ok();
    assert_eq!(servers(), before);
    let left = sh(format!("pgrep -x -a sleep | grep ' {ours}$' || true")).out;
    assert_eq!(left, "", "processes of the command end with it");
}

#[test]
fn json_is_json() {
    let ran = attempt(&["--discard", "--json"], "echo x > /var/tmp/plyfs-test-json").ok();
    let value: serde_json::Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    assert!(value.to_string().contains("/var/tmp/plyfs-test-json"), "{value:#}");
}

#[test]
fn as_an_ordinary_user() {
    if !require_root("becoming an ordinary user")
        || !require_programs(&["setpriv", "fusermount3", "newuidmap"])
    {
        return;
    }
    let scratch = Scratch::new();
    let home = scratch.file("home/mine", "mine\n");
    plyfs_tests::user::give(home.parent().unwrap());
    let script = r#"
set +e
$U plyfs try --discard -- sh -c 'echo changed > home/mine && cat home/mine && echo x > /etc/plyfs-test-user; test $? != 0 && echo refused; exit 7' > said
echo $?
grep -c 'C.*home/mine' said
grep -x -e changed -e refused said
cat home/mine
"#;
    let ran = in_namespace(&scratch, script).ok();
    assert_eq!(ran.out, "7\n1\nchanged\nrefused\nmine\n", "{}", ran.err);
    assert!(!Path::new("/etc/plyfs-test-user").exists());
}

#[test]
fn cowsay() {
    if !require_root("apt-get") || !require_programs(&["apt-get"]) {
        return;
    }
    assert!(!have("cowsay") && !Path::new("/usr/games/cowsay").exists(), "the host has cowsay already");
    let status = fs::read("/var/lib/dpkg/status").unwrap();
    let install = "apt-get install -y cowsay && /usr/games/cowsay hi";
    let mut ran = attempt(&["--discard"], install);
    if ran.code == 100 {
        // The host's package lists are too old to fetch by: bring them up to date in the view.
        ran = attempt(&["--discard"], &format!("apt-get update -q && {install}"));
    }
    let ran = ran.ok();
    assert!(ran.out.contains("< hi >") && ran.out.contains("(oo)"), "{ran:#?}");
    let listed = ran.out.lines().chain(ran.err.lines());
    assert!(listed.filter(|line| line.contains("/usr/games/cowsay")).count() >= 1, "{ran:#?}");
    assert!(!Path::new("/usr/games/cowsay").exists());
    assert_eq!(fs::read("/var/lib/dpkg/status").unwrap(), status, "the host's package list");
    let code = Command::new("dpkg").args(["-s", "cowsay"]).output().unwrap().status.code();
    assert_ne!(code, Some(0));
}
