//! `run`: exit codes, streams, what the process finds.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use plyfs_tests::require_programs;
use serde_json::json;

use crate::store::Store;

#[test]
fn exit_codes_are_the_commands_or_dockers() {
    let Some(store) = Store::new() else { return };
    store.plyfs(&["run", "--rm", "bb", "true"]).exits(0);
    store.plyfs(&["run", "--rm", "bb", "sh", "-c", "exit 7"]).exits(7);
    store.plyfs(&["run", "--rm", "bb", "nope"]).exits(127).says("nope");
    store.plyfs(&["run", "--rm", "bb", "/no/pe"]).exits(127);
    store.plyfs(&["run", "--rm", "bb", "/etc/passwd"]).exits(126);
    store.plyfs(&["run", "--rm", "bb", "/etc"]).exits(126);
    store
        .plyfs(&["run", "--rm", "--pull", "never", "nothing", "true"])
        .exits(125)
        .says("No such image: nothing");
    store.plyfs(&["run", "--rm", "--runtime", "/nothing", "bb", "true"]).exits(125).says("apt install crun");
    store.plyfs(&["run", "--rm", "-u", "nobody", "bb", "true"]).exits(125).says("unable to find user nobody");
    store.plyfs(&["run", "--rm", "-v", "x", "bb", "true"]).exits(125).says("absolute");
    // Nothing is left of those that failed, as of the others.
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    store.is_quiet();
}

#[test]
fn a_failed_start_is_kept_as_created() {
    let Some(store) = Store::new() else { return };
    store.plyfs(&["run", "--name", "bad", "bb", "nope"]).exits(127);
    let state = store.inspect("bad")["State"].clone();
    assert_eq!((state["Status"].as_str(), state["ExitCode"].as_i64()), (Some("created"), Some(127)));
    assert!(state["Error"].as_str().unwrap().contains("nope"), "{state}");
    store.is_quiet();
    store.plyfs(&["start", "bad"]).exits(1);
}

#[test]
fn streams_are_apart_and_whole() {
    let Some(store) = Store::new() else { return };
    let ran = store.plyfs(&["run", "--rm", "bb", "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    let out = store.fed(&["run", "--rm", "-i", "bb", "cat"], input.clone());
    assert!(out.status.success());
    assert!(out.stdout == input, "{} bytes came back", out.stdout.len());
    // Without -i there is no input.
    let out = store.fed(&["run", "--rm", "bb", "cat"], Vec::new());
    assert!(out.status.success() && out.stdout.is_empty());
}

#[test]
fn a_slow_reader_gets_everything() {
    let Some(store) = Store::new() else { return };
    let mut command = store.command(&["run", "--name", "slow", "bb", "seq", "1", "40000"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    // Longer than output is waited for when nobody writes any.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let text = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text.lines().count(), 40000);
    assert!(text.ends_with("\n40000\n"));
    assert_eq!(store.ok(&["logs", "slow"]), text.trim_end());
    // One who goes early does not keep the rest from the log.
    let mut command = store.command(&["run", "--name", "gone", "bb", "seq", "1", "40000"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.wait().unwrap();
    assert_eq!(store.ok(&["wait", "gone"]), "0");
    assert_eq!(store.ok(&["logs", "--tail", "1", "gone"]), "40000");
}

#[test]
fn a_terminal_is_asked_for_before_anything_is_made() {
    let Some(store) = Store::new() else { return };
    let out = store.fed(&["run", "-it", "bb", "true"], Vec::new());
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("the input device is not a TTY"));
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn the_image_and_the_command_line_say_what_is_run() {
    let config = json!({"Entrypoint": ["echo", "entry"], "Cmd": ["default"], "Env": ["A=image", "B=image"],
        "WorkingDir": "/made/here", "User": "web", "Labels": {"l": "image"}});
    let Some(store) = Store::with(&config) else { return };
    assert_eq!(store.ok(&["run", "--rm", "bb"]), "entry default");
    assert_eq!(store.ok(&["run", "--rm", "bb", "other", "words"]), "entry other words");
    assert_eq!(store.ok(&["run", "--rm", "--entrypoint", "", "bb", "echo", "alone"]), "alone");
    let file = store.scratch.file("env", "# no\nC=file\nA=file\n");
    let file = file.to_str().unwrap();
    let script = "echo $A $B $C $D $HOME; pwd; id; stat -c %U .";
    let words =
        ["run", "--rm", "--env-file", file, "-e", "B=line", "-e", "PLYFS_TEST_D", "--entrypoint", "sh"];
    let ran = plyfs_tests::run(
        store.command(&[&words[..], &["bb", "-c", script]].concat()).env("PLYFS_TEST_D", "x"),
    );
    let want = "file line file /home\n/made/here\nuid=33(web) gid=34(www) groups=40(log)\nroot\n";
    assert_eq!(ran.ok().out, want);
    let words =
        ["run", "--rm", "-w", "/w", "-u", "7:8", "-l", "m=line", "--name", "named", "--entrypoint", "sh"];
    let script = "pwd; id -u; id -g";
    assert_eq!(store.ok(&[&words[..], &["bb", "-c", script]].concat()), "/w\n7\n8");
}

#[test]
fn names_are_unique() {
    let Some(store) = Store::new() else { return };
    let id = store.ok(&["create", "--name", "web", "bb"]);
    assert_eq!(id.len(), 64);
    store.plyfs(&["create", "--name", "web", "bb"]).exits(125).says("is already in use");
    store.plyfs(&["create", "--name=-web", "bb"]).exits(125).says("invalid container name");
    let file = store.scratch.path("cid");
    let other = store.ok(&["create", "--cidfile", file.to_str().unwrap(), "bb"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), other);
    store.plyfs(&["create", "--cidfile", file.to_str().unwrap(), "bb"]).exits(125);
    // By the beginning of an id, too.
    assert_eq!(store.ok(&["rm", &id[..10]]), &id[..10]);
    store.plyfs(&["rm", "web"]).exits(1).says("No such container: web");
}

#[test]
fn a_read_only_container_writes_only_to_its_volumes() {
    let Some(store) = Store::new() else { return };
    let dir = store.scratch.path("data");
    let bind = format!("{}:/data", dir.display());
    let script = "echo x > /data/x; echo x > /tmpfs/x && ! echo x > /x && ! echo x > /etc/hosts";
    let words = ["run", "--rm", "--read-only", "-v", &bind, "--tmpfs", "/tmpfs", "bb", "sh", "-c", script];
    store.plyfs(&words).ok().says("Read-only file system");
    assert!(dir.join("x").exists());
}

#[test]
fn the_container_is_alone() {
    let Some(store) = Store::new() else { return };
    let secret = store.scratch.file("secret", "x");
    let script = format!(
        "test ! -e {} && ls /proc | grep -c '^[0-9]'; hostname; readlink /proc/self/ns/net",
        secret.display()
    );
    let host = store.ok(&["run", "--rm", "bb", "sh", "-c", &script]);
    let lines: Vec<&str> = host.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() <= 4, "processes of others are seen: {host}");
    assert_eq!(lines[1], fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(ours.to_str().unwrap(), lines.get(2).copied().unwrap_or(ours.to_str().unwrap()));
    let alone =
        store.ok(&["run", "--rm", "--network", "none", "bb", "sh", "-c", "ip a; cat /etc/hosts; hostname"]);
    assert!(alone.contains("127.0.0.1") && !alone.contains(" eth"), "{alone}");
    let named =
        store.ok(&["run", "--rm", "--hostname", "me", "bb", "sh", "-c", "hostname; cat /etc/hostname"]);
    assert_eq!(named, "me\nme");
    let hosts = store.ok(&["run", "--rm", "--hostname", "me", "bb", "grep", "me", "/etc/hosts"]);
    assert!(hosts.ends_with("\tme"), "{hosts}");
}

#[test]
fn set_user_id_programs_and_devices_work() {
    let Some(store) = Store::new() else { return };
    let script = "cp() { cat $1 > $2; }; cp /bin/busybox /su; chmod 4755 /su; stat -c %a /su; test -c /dev/null && echo dev";
    assert_eq!(store.ok(&["run", "--name", "su", "bb", "sh", "-c", script]), "4755\ndev");
    assert_eq!(fs::metadata(store.layer("su").join("su")).unwrap().mode() & 0o7777, 0o4755);
}

/// A block device of this machine: major, minor.
fn block_device() -> Option<(u32, u32)> {
    let numbers = fs::read_dir("/sys/class/block").unwrap().flatten().find_map(|one| {
        let text = fs::read_to_string(one.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    plyfs_tests::gate::gate(numbers.is_some(), "no block device is here");
    numbers
}

#[test]
fn no_container_opens_a_device_of_the_host() {
    let Some((store, (major, minor))) = Store::new().zip(block_device()) else { return };
    let make = |at: &std::path::Path| {
        let numbers = [major, minor].map(|number| number.to_string());
        plyfs_tests::run(std::process::Command::new("mknod").arg(at).arg("b").args(&numbers)).ok();
    };
    // Made by the container itself, or there with its files; in its own layer and in a volume.
    let script = format!(
        "mknod /own b {major} {minor}; mknod /v/own b {major} {minor}; for at in /own /v/own /given /v/given; do
         if head -c 1 $at > /tmp/out 2> /tmp/err; then echo opened $at; else cat /tmp/err; fi; done; echo x > /dev/null && echo null"
    );
    for runtime in ["crun", "runc"] {
        if !require_programs(&[runtime]) {
            continue;
        }
        let words =
            ["create", "--name", runtime, "--runtime", runtime, "-v", "vol:/v", "--tmpfs", "/tmp", "bb"];
        store.ok(&[&words[..], &["sh", "-c", &script]].concat());
        make(&store.layer(runtime).join("given"));
        let volume = store.root().join("volumes/vol/_data/given");
        if !volume.exists() {
            make(&volume);
        }
        let out = store.ok(&["start", "-a", runtime]);
        assert!(!out.contains("opened") && out.ends_with("null"), "{runtime}: {out}");
        assert_eq!(out.matches("given: ").count(), 2, "{runtime}: {out}");
        let closed = ["create", "--name", "closed", "--read-only", "--runtime", runtime, "bb"];
        store.ok(&[&closed[..], &["head", "-c", "1", "/given"]].concat());
        make(&store.layer("closed").join("given"));
        store.plyfs(&["start", "-a", "closed"]).exits(1).says("given: ");
        store.ok(&["rm", "closed"]);
    }
}

#[test]
fn runc_does_it_too() {
    let Some(store) = Store::new() else { return };
    if !require_programs(&["runc"]) {
        return;
    }
    let ran =
        store.plyfs(&["run", "--rm", "--runtime", "runc", "bb", "sh", "-c", "echo hi; exit 9"]).exits(9);
    assert_eq!(ran.out, "hi\n");
    store.plyfs(&["run", "--rm", "--runtime", "runc", "bb", "nope"]).exits(127);
    store.plyfs(&["run", "--rm", "--runtime", "runc", "bb", "/etc/passwd"]).exits(126);
    store.is_quiet();
}
