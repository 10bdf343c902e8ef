//! Every way to mount and unmount, and what the programs answer.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use plyfs_tests::mount::{is_mounted, kill, mount_lines, servers_of, umount, wait_until};
use plyfs_tests::user::in_namespace;
use plyfs_tests::{Mount, Scratch, plyfs, require_programs, require_root, run, sh};
use rustix::process::Signal;

/// A stack of one file below, and the overlay options for it.
fn stack(scratch: &Scratch) -> String {
    scratch.file("low/file", "content");
    let [low, up, work] = ["low", "up", "work"].map(|name| scratch.dir(name).display().to_string());
    format!("lowerdir={low},upperdir={up},workdir={work}")
}

/// The union at `dir` can be read and written.
fn works(scratch: &Scratch, dir: &Path) {
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "content");
    fs::write(dir.join("new"), "x").unwrap();
    assert!(scratch.path("up/new").is_file());
    fs::remove_file(dir.join("new")).unwrap();
}

#[test]
fn plyfs_mount_and_plyfs_umount() {
    let scratch = Scratch::new();
    let options = stack(&scratch);
    let dir = scratch.dir("mnt");
    let ran = run(plyfs().args(["mount", "-o", &options]).arg(&dir)).ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "a mount that works says nothing");
    let mount = Mount::adopt(&dir);
    works(&scratch, &dir);
    run(plyfs().arg("umount").arg(&dir)).ok();
    assert!(servers_of(&dir).is_empty(), "plyfs umount waits for the server");
    mount.was_unmounted();
}

#[test]
fn the_form_of_fuse_overlayfs() {
    let scratch = Scratch::new();
    let options = stack(&scratch);
    let dir = scratch.dir("mnt");
    run(plyfs().args(["-o", &options]).arg(&dir)).ok();
    let mount = Mount::adopt(&dir);
    works(&scratch, &dir);
    drop(mount);
    // By program name, too.
    std::os::unix::fs::symlink(plyfs_tests::mount::plyfs_path(), scratch.path("fuse-overlayfs")).unwrap();
    run(Command::new(scratch.path("fuse-overlayfs")).args(["-o", &options]).arg(&dir)).ok();
    let mount = Mount::adopt(&dir);
    works(&scratch, &dir);
    drop(mount);
}

#[test]
fn the_form_of_mount_fuse3() {
    let scratch = Scratch::new();
    let options = stack(&scratch);
    let dir = scratch.dir("mnt");
    run(plyfs().arg("source-word").arg(&dir).args(["-o", &options])).ok();
    let mount = Mount::adopt(&dir);
    works(&scratch, mount.dir());
    let line = mount_lines(&dir).next().unwrap();
    assert!(line.contains(" - fuse.aufs source-word "), "{line}");
}

#[test]
fn relative_paths_are_the_callers() {
    let scratch = Scratch::new();
    stack(&scratch);
    let dir = scratch.dir("mnt");
    let options = "lowerdir=./low,upperdir=up,workdir=./work";
    run(plyfs().args(["mount", "-o", options, "none", "./mnt"]).current_dir(scratch.root())).ok();
    works(&scratch, &dir);
    umount(&dir);
    wait_until("the mount is gone", || !is_mounted(&dir));
    wait_until("its server too", || plyfs_servers(&scratch).is_empty());
}

/// Servers whose working folder or arguments name this test's folder.
fn plyfs_servers(scratch: &Scratch) -> Vec<String> {
    let own = scratch.root().to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let fds = |pid: &str| {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .any(|to| to.to_string_lossy().starts_with(&own))
    };
    let pids = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    pids.filter(|pid| pid.parse::<i32>().is_ok_and(|n| n != std::process::id() as i32) && fds(pid)).collect()
}

#[test]
fn mount_t_aufs_and_plyfs_umount_and_fstab() {
    if !require_root("mount -t aufs") {
        return;
    }
    let scratch = Scratch::new();
    stack(&scratch);
    scratch.dir("mnt");
    let script = r#"
D=$PWD
for type in aufs plyfs; do
  mount -t $type -o br:$D/up=rw:$D/low=ro none $D/mnt
  cat mnt/file; echo
  umount $D/mnt
done
# util-linux hands `br=` on as well as `br:`; options of the kernel beside ours.
mount -t aufs -o br=$D/up=rw:$D/low=ro,noatime,nosuid,nodev none $D/mnt
grep -c "$D/mnt fuse.aufs .*nosuid.*nodev.*noatime" /proc/mounts
umount -t aufs $D/mnt
# A line of fstab, mounted and unmounted by its folder; _netdev and nofail are mount(8)'s own.
cp /etc/fstab $D/fstab.new 2>/dev/null || : > $D/fstab.new
echo "none $D/mnt aufs br:$D/up=rw:$D/low=ro,noauto,nofail,_netdev,x-systemd.automount 0 0" >> $D/fstab.new
mount --bind $D/fstab.new /etc/fstab
mount $D/mnt
cat mnt/file; echo
umount $D/mnt
# A warning, not an error, where the helper does not know an option.
mount -t aufs -o br:$D/up=rw:$D/low=ro,nosuchoption none $D/mnt 2> $D/said
grep -c nosuchoption $D/said
umount $D/mnt
# -f only looks.
mount -f -t aufs -o br:$D/up=rw:$D/low=ro none $D/mnt
mountpoint -q $D/mnt || echo not mounted
# mount.fuse3 runs the program that the type names: by hand as containerd does, and through mount(8).
mount.fuse3 word $D/mnt -t plyfs -o lowerdir=$D/low,upperdir=$D/up,workdir=$D/work
cat mnt/file; echo
umount $D/mnt
mount -t fuse.plyfs -o lowerdir=$D/low,upperdir=$D/up,workdir=$D/work word $D/mnt
cat mnt/file; echo
umount $D/mnt
"#;
    let ran = in_namespace(&scratch, script).ok();
    assert_eq!(ran.out, "content\ncontent\n1\ncontent\n1\nnot mounted\ncontent\ncontent\n", "{}", ran.err);
}

#[test]
fn mount_helpers_exit_as_mount_8_says() {
    if !require_root("mount -t aufs") {
        return;
    }
    let scratch = Scratch::new();
    stack(&scratch);
    scratch.dir("mnt");
    let script = r#"
code() { set +e; "$@" 2> said; c=$?; set -e; echo $c; }
code mount -t aufs -o br:$PWD/nothing=rw none $PWD/mnt
grep -c "$PWD/nothing" said
code mount -t aufs -o br:$PWD/up=rw none $PWD/no-such-dir
code mount.aufs
code umount.aufs $PWD/mnt
"#;
    let ran = in_namespace(&scratch, script).ok();
    let codes: Vec<&str> = ran.out.lines().collect();
    assert_eq!(codes[0], "32", "{ran:#?}");
    assert_ne!(codes[1], "0", "the missing branch is named");
    assert_ne!(codes[2], "0");
    assert_eq!(codes[3], "1", "usage");
    assert_ne!(codes[4], "0", "nothing is mounted there");
}

#[test]
fn fusermount3_unmounts() {
    if !require_programs(&["fusermount3"]) {
        return;
    }
    let scratch = Scratch::new();
    let options = stack(&scratch);
    let mount = Mount::new(&options, scratch.dir("mnt"));
    run(Command::new("fusermount3").arg("-u").arg(mount.dir())).ok();
    mount.was_unmounted();
}

#[test]
fn sigterm_unmounts() {
    let scratch = Scratch::new();
    let options = stack(&scratch);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mount = Mount::new(&options, scratch.dir("mnt"));
        kill(mount.server(), signal);
        mount.was_unmounted();
    }
}

#[test]
fn in_the_foreground() {
    let scratch = Scratch::new();
    let options = stack(&scratch);
    let dir = scratch.dir("mnt");
    let mut server = plyfs().args(["mount", "-f", "-o", &options]).arg(&dir).spawn().unwrap();
    wait_until("the mount is there", || is_mounted(&dir));
    works(&scratch, &dir);
    umount(&dir);
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn stderr_is_closed_when_the_mount_is_usable() {
    let scratch = Scratch::new();
    let options = stack(&scratch);
    let dir = scratch.dir("mnt");
    let mut command = plyfs();
    command.args(["mount", "-o", &options]).arg(&dir);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Engines read both to the end: the server must not hold them.
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mount = Mount::adopt(&dir);
    works(&scratch, &dir);
    // Nor does it keep a terminal or a working folder busy.
    let server = mount.server();
    assert_eq!(fs::read_link(format!("/proc/{server}/cwd")).unwrap(), Path::new("/"));
    for fd in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{server}/fd/{fd}")).unwrap(), Path::new("/dev/null"));
    }
}

#[test]
fn mistakes_of_the_command_line_are_2_and_failures_are_1() {
    let scratch = Scratch::new();
    let options = stack(&scratch);
    let dir = scratch.dir("mnt");
    run(plyfs().arg("mount")).exits(2);
    run(plyfs().arg("no-such-command")).exits(2);
    run(plyfs().args(["mount", "-o", "nosuchoption"]).arg(&dir)).exits(2);
    let unknown = format!("{options},nosuchoption");
    run(plyfs().args(["mount", "-o", &unknown]).arg(&dir)).exits(2).says("nosuchoption");
    run(plyfs().arg("umount").arg(&dir)).exits(1).says(&dir.display().to_string());
    assert!(!is_mounted(&dir));
    // fuse-overlayfs' own form goes on with a warning.
    let ran = run(plyfs().args(["-o", &unknown]).arg(&dir)).ok();
    assert!(ran.err.contains("nosuchoption"), "{}", ran.err);
    drop(Mount::adopt(&dir));
}

#[test]
fn five_hundred_branches() {
    let scratch = Scratch::new();
    let mut options = format!("br:{}=rw", scratch.dir("top").display());
    for at in 0..499 {
        let branch = format!("branch-with-a-name-that-makes-the-options-longer-than-a-page-{at}");
        scratch.file(format!("{branch}/file{at}"), format!("{at}"));
        scratch.file(format!("{branch}/all"), format!("{at}"));
        options.push_str(&format!(":{}=ro", scratch.path(branch).display()));
    }
    assert!(options.len() > 30_000);
    let mount = Mount::new(&options, scratch.dir("mnt"));
    assert_eq!(fs::read_dir(mount.dir()).unwrap().count(), 500);
    assert_eq!(fs::read_to_string(mount.path("all")).unwrap(), "0", "the topmost wins");
    assert_eq!(fs::read_to_string(mount.path("file498")).unwrap(), "498");
    fs::write(mount.path("file498"), "changed").unwrap();
    assert_eq!(fs::read_to_string(scratch.path("top/file498")).unwrap(), "changed");
}

#[test]
fn a_mount_prints_its_options_back_and_they_mount_the_same() {
    let scratch = Scratch::new();
    scratch.file("low/file", "content");
    let mount = Mount::stack(&scratch, &["up", "low"]);
    let text = run(plyfs().args(["status", "--json"]).arg(mount.dir())).ok().out;
    let status: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(text.contains(&scratch.path("low").display().to_string()), "{status:#}");
    let all = run(plyfs().arg("status")).ok().out;
    assert!(all.contains(&mount.dir().display().to_string()), "{all}");
}

#[test]
fn umount_r_of_a_shell_script_leaves_nothing() {
    let scratch = Scratch::new();
    let options = stack(&scratch);
    for _ in 0..5 {
        let dir = scratch.dir("mnt");
        let line = format!(
            "{p} mount -o {options} {d} && cat {d}/file > /dev/null && umount {d}",
            p = plyfs_tests::mount::plyfs_path().display(),
            d = dir.display()
        );
        sh(line).ok();
        wait_until("the server is gone", || servers_of(&dir).is_empty());
    }
}
