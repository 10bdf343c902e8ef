//! Containers that live on: detached, stopped, started again, killed, left by their monitor.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use plyfs_sys::process::signals::{SIGKILL, SIGTERM};

use crate::store::{Store, wait_for};

/// Says `up`, then waits for SIGTERM.
const SERVICE: &str = "trap 'echo down; exit 5' TERM; echo up; while :; do sleep 0.05; done";

/// A `run` in the foreground that has said its first line.
fn foreground(store: &Store, words: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = store.command(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    (child, out)
}

fn monitor_of(id: &str) -> u32 {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("__monitor") && line.contains(id) {
            return entry.file_name().to_str().unwrap().parse().unwrap();
        }
    }
    panic!("{id} has no monitor");
}

#[test]
fn detached_stopped_started_and_removed() {
    let Some(store) = Store::new() else { return };
    let script = format!("echo run >> /runs; {SERVICE}");
    let id = store.ok(&["run", "-d", "--name", "web", "bb", "sh", "-c", &script]);
    assert_eq!(id.len(), 64);
    assert!(store.ok(&["ps"]).contains("web"));
    assert_eq!(store.mounts().len(), 1);
    wait_for("its first words", || store.ok(&["logs", "web"]) == "up");
    store.plyfs(&["rm", "web"]).exits(1).says("container is running");
    assert_eq!(store.ok(&["stop", "web"]), "web");
    store.is_quiet();
    assert!(!store.ok(&["ps"]).contains("web"));
    assert!(store.ok(&["ps", "-a"]).contains("Exited (5)"));
    assert_eq!(store.ok(&["logs", "web"]), "up\ndown");
    assert_eq!(store.ok(&["logs", "--tail", "1", "web"]), "down");
    assert_eq!(store.ok(&["wait", "web"]), "5");
    // Its changes are there when it runs again.
    store.ok(&["start", "web"]);
    store.ok(&["start", "web"]);
    let runs = || fs::read_to_string(store.layer("web").join("runs")).unwrap();
    wait_for("the second run", || runs() == "run\nrun\n");
    store.ok(&["kill", "-s", "TERM", "web"]);
    assert_eq!(store.ok(&["wait", "web"]), "5");
    store.plyfs(&["kill", "web"]).exits(1).says("is not running");
    let log = store.root().join("containers").join(&id).join(format!("{id}-json.log"));
    let first = fs::read_to_string(log).unwrap().lines().next().unwrap().to_owned();
    assert!(first.starts_with(r#"{"log":"up\n","stream":"stdout","time":"2"#), "{first}");
    assert_eq!(store.ok(&["rm", "web"]), "web");
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    store.is_quiet();
}

#[test]
fn what_lives_on_holds_nothing_of_the_caller() {
    let Some(store) = Store::new() else { return };
    let (lock, here) = (store.scratch.file("lock", ""), store.scratch.path("here"));
    fs::create_dir(&here).unwrap();
    let plyfs = store.command(&["run", "-d", "--runtime", "./crun", "bb", "sleep", "1000"]);
    // A runtime by a relative path, too.
    let script = format!("ln -s $(command -v crun) crun; exec 9> {}; exec \"$@\"", lock.display());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(plyfs.get_program()).args(plyfs.get_args()).current_dir(&here);
    let id = plyfs_tests::run(&mut shell).ok().out.trim().to_owned();
    let mut seen = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&line).contains(store.root().to_str().unwrap()) {
            continue;
        }
        seen += 1;
        let held = fs::read_dir(entry.path().join("fd")).unwrap().flatten();
        let held: Vec<_> = held.filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
        assert!(!held.contains(&lock), "{:?} holds {held:?}", String::from_utf8_lossy(&line));
        assert_eq!(fs::read_link(entry.path().join("cwd")).unwrap(), std::path::Path::new("/"));
    }
    // The monitor and the server.
    assert!(seen >= 2, "{seen}");
    store.ok(&["stop", "-t", "0", &id]);
    store.ok(&["start", &id]);
    store.ok(&["rm", "-f", &id]);
}

#[test]
fn a_copy_of_the_store_leaves_the_containers_alone() {
    let Some(store) = Store::new() else { return };
    let id = store.ok(&["run", "-d", "bb", "sleep", "1000"]);
    // Without what is mounted.
    let copy = store.scratch.path("copy");
    let words = ["-a", "-x"].map(std::ffi::OsString::from);
    plyfs_tests::run(std::process::Command::new("cp").args(words).arg(store.root()).arg(&copy)).ok();
    let ask = |words: &[&str]| {
        plyfs_tests::run(plyfs_tests::plyfs().arg("--root").arg(&copy).args(words)).ok().out.trim().to_owned()
    };
    assert!(ask(&["ps", "-a"]).contains("Exited"));
    assert_eq!(ask(&["ps", "-q"]), "");
    assert_eq!(store.inspect(&id)["State"]["Running"], true);
    let refused =
        plyfs_tests::run(plyfs_tests::plyfs().arg("--root").arg(&copy).args(["start", &id])).exits(1);
    refused.says("another copy of this store");
    ask(&["rm", &id]);
    assert_eq!(store.ok(&["ps", "-q"]), &id[..12]);
    store.ok(&["stop", "-t", "0", &id]);
    assert_eq!(store.inspect(&id)["State"]["ExitCode"], 137);
}

#[test]
fn start_attached_passes_all_on() {
    let Some(store) = Store::new() else { return };
    store.ok(&["create", "-i", "--name", "cat", "bb", "sh", "-c", "cat; exit 3"]);
    let out = store.fed(&["start", "-ai", "cat"], b"words".to_vec());
    assert_eq!((out.status.code(), &out.stdout[..]), (Some(3), &b"words"[..]));
    assert_eq!(store.ok(&["logs", "cat"]), "words");
}

#[test]
fn logs_follow_to_the_end() {
    let Some(store) = Store::new() else { return };
    let script = "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.1; done; echo -n end";
    store.ok(&["run", "-d", "--name", "count", "bb", "sh", "-c", script]);
    let ran = store.plyfs(&["logs", "-f", "count"]).ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("1\n2\n3\nend", "e1\ne2\ne3\n"));
    let timed = store.ok(&["logs", "-t", "--since", "1h", "count"]);
    assert!(timed.lines().next().unwrap().ends_with("Z 1"), "{timed}");
    assert_eq!(store.ok(&["logs", "--since", "2200-01-01T00:00:00Z", "count"]), "");
}

#[test]
fn signals_reach_the_container() {
    let Some(store) = Store::new() else { return };
    let (mut child, _out) = foreground(&store, &["run", "--rm", "bb", "sh", "-c", SERVICE]);
    plyfs_sys::process::send(child.id(), SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let (mut child, _out) = foreground(&store, &["run", "--name", "killed", "bb", "sh", "-c", SERVICE]);
    store.ok(&["kill", "killed"]);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!(store.inspect("killed")["State"]["ExitCode"], 137);
    store.is_quiet();
}

#[test]
fn a_stop_that_is_not_heard_kills() {
    let Some(store) = Store::new() else { return };
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    store.ok(&["run", "-d", "--name", "deaf", "bb", "sh", "-c", deaf]);
    wait_for("its first words", || store.ok(&["logs", "deaf"]) == "up");
    store.ok(&["stop", "-t", "1", "deaf"]);
    assert_eq!(store.inspect("deaf")["State"]["ExitCode"], 137);
    store.ok(&[
        "run",
        "-d",
        "--name",
        "int",
        "--stop-signal",
        "USR1",
        "bb",
        "sh",
        "-c",
        "trap 'exit 6' USR1; echo up; while :; do sleep 0.05; done",
    ]);
    wait_for("its first words", || store.ok(&["logs", "int"]) == "up");
    store.ok(&["stop", "int"]);
    assert_eq!(store.inspect("int")["State"]["ExitCode"], 6);
}

#[test]
fn a_killed_run_leaves_a_watched_container() {
    let Some(store) = Store::new() else { return };
    let (mut child, _out) = foreground(&store, &["run", "--name", "left", "bb", "sh", "-c", SERVICE]);
    plyfs_sys::process::send(child.id(), SIGKILL).unwrap();
    child.wait().unwrap();
    assert!(store.ok(&["ps"]).contains("left"));
    store.ok(&["stop", "left"]);
    assert_eq!(store.inspect("left")["State"]["ExitCode"], 5);
    assert_eq!(store.ok(&["logs", "left"]), "up\ndown");
    store.is_quiet();
}

#[test]
fn a_killed_monitor_is_cleaned_up_after() {
    let Some(store) = Store::new() else { return };
    let id = store.ok(&["run", "-d", "--name", "lost", "bb", "sh", "-c", SERVICE]);
    let pid = store.inspect("lost")["State"]["Pid"].as_u64().unwrap();
    let gone = |pid: u64| plyfs_sys::process::start_time(u32::try_from(pid).unwrap()).is_none();
    plyfs_sys::process::send(monitor_of(&id), SIGKILL).unwrap();
    wait_for("the claim", || store.ok(&["ps", "-a"]).contains("Exited (137)"));
    assert!(gone(pid), "its process lives");
    store.is_quiet();
    // It can be started again, and removed by force.
    store.ok(&["start", "lost"]);
    plyfs_sys::process::send(monitor_of(&id), SIGKILL).unwrap();
    store.ok(&["rm", "-f", "lost"]);
    store.is_quiet();
    let id = store.ok(&["run", "-d", "--rm", "bb", "sh", "-c", SERVICE]);
    plyfs_sys::process::send(monitor_of(&id), SIGKILL).unwrap();
    wait_for("its removal", || store.ok(&["ps", "-aq"]).is_empty());
    store.is_quiet();
}

/// A runtime that never comes back from `create`.
#[test]
fn a_start_that_hangs_can_be_interrupted() {
    let Some(store) = Store::new() else { return };
    let hanging =
        store.scratch.file("hangs", "#!/bin/sh\ncase \"$*\" in *create*) sleep 1005; esac\nexit 1\n");
    plyfs_tests::sh(format!("chmod +x {}", hanging.display())).ok();
    let words = ["run", "--name", "hung", "--runtime", hanging.to_str().unwrap(), "bb", "true"];
    let mut child = store.command(&words).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the runtime", || plyfs_tests::sh("pgrep -f '^sleep 1005' || true").out.lines().count() == 1);
    plyfs_sys::process::send(child.id(), SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(125));
    wait_for("the end of the runtime", || plyfs_tests::sh("pgrep -f '^sleep 1005' || true").out.is_empty());
    store.is_quiet();
}

#[test]
fn who_looks_on_learns_that_the_monitor_died() {
    let Some(store) = Store::new() else { return };
    let (mut child, _out) = foreground(&store, &["run", "--name", "lost", "bb", "sh", "-c", SERVICE]);
    let id = store.inspect("lost")["Id"].as_str().unwrap().to_owned();
    plyfs_sys::process::send(monitor_of(&id), SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(125));
}

#[test]
fn a_container_that_removes_itself_can_be_waited_for() {
    let Some(store) = Store::new() else { return };
    store.ok(&[
        "run",
        "-d",
        "--rm",
        "--name",
        "short",
        "bb",
        "sh",
        "-c",
        "trap 'exit 4' TERM; while :; do sleep 0.05; done",
    ]);
    let waiting = store.command(&["wait", "short"]).stdout(Stdio::piped()).spawn().unwrap();
    let opened = || {
        let fds = fs::read_dir(format!("/proc/{}/fd", waiting.id())).unwrap();
        fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("exit")))
    };
    wait_for("the wait to begin", opened);
    store.ok(&["stop", "short"]);
    assert_eq!(String::from_utf8(waiting.wait_with_output().unwrap().stdout).unwrap(), "4\n");
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn many_at_once_share_one_copy() {
    const COUNT: usize = 30;
    let Some(store) = Store::new() else { return };
    let script = |n: usize| format!("echo {n} > /mine; rm /etc/group; {SERVICE}");
    std::thread::scope(|scope| {
        for n in 0..COUNT {
            let store = &store;
            scope.spawn(move || {
                store.ok(&["run", "-d", "--name", &format!("c{n}"), "bb", "sh", "-c", &script(n)])
            });
        }
    });
    assert_eq!(store.ok(&["ps", "-q"]).lines().count(), COUNT);
    for n in 0..COUNT {
        let mine = store.layer(&format!("c{n}")).join("mine");
        wait_for("its file", || fs::read_to_string(&mine).is_ok_and(|text| text == format!("{n}\n")));
    }
    let copies =
        plyfs_tests::sh(format!("find {}/aufs/diff -name busybox -type f | wc -l", store.root().display()));
    assert_eq!(copies.ok().out.trim(), "1");
    let ids = store.ok(&["ps", "-q"]);
    let words: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.lines()).collect();
    store.ok(&words);
    store.is_quiet();
}

/// The client, or the monitor, is killed at some instant of starting, running, ending.
#[test]
fn kills_at_any_instant_leave_nothing_behind() {
    const ROUNDS: u64 = 30;
    // Nobody else sleeps so long.
    const SLEEP: &str = "10071";
    let Some(store) = Store::new() else { return };
    for round in 0..ROUNDS {
        let rm = if round % 3 == 0 { "--rm" } else { "-t" };
        let seconds = if round % 2 == 0 { SLEEP } else { "0.05" };
        let mut command = store.command(&["run", rm, "bb", "sleep", seconds]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round * 37 % 230));
        if round % 4 != 0 {
            for monitor in store.monitors() {
                // It may have ended by itself.
                drop(plyfs_sys::process::send(monitor, SIGKILL));
            }
        }
        drop(plyfs_sys::process::send(child.id(), SIGKILL));
        child.wait().unwrap();
    }
    // Monitors that were not killed have long containers to watch.
    let ids = store.ok(&["ps", "-aq"]);
    let words: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.lines()).collect();
    if words.len() > 2 {
        store.ok(&words);
    }
    wait_for("the end of starts that had begun", || {
        let ids = store.ok(&["ps", "-aq"]);
        ids.lines().for_each(|id| drop(store.plyfs(&["rm", "-f", id])));
        ids.is_empty() && store.monitors().is_empty()
    });
    store.is_quiet();
    store.is_sound();
    wait_for("the end of all sleepers", || {
        plyfs_tests::sh(format!("pgrep -f '^sleep {SLEEP}' || true")).out.is_empty()
    });
}
