//! As an ordinary user: through fusermount3, and inside a user namespace.

use plyfs_tests::user::{give, in_namespace};
use plyfs_tests::{Scratch, require_programs, require_root};

/// What is done in each case: `mnt` is a union of `up` over `low`.
const WORK: &str = r#"
work() {
  cat mnt/dir/file
  echo more >> mnt/dir/file
  mkdir mnt/new mnt/dir/sub; echo x > mnt/new/x; ln mnt/new/x mnt/new/y; ln -s x mnt/new/link
  mv mnt/dir mnt/moved
  rm mnt/gone
  chmod 700 mnt/new
  setfattr -n user.a -v b mnt/new/x
  cat mnt/moved/file
  ls -A mnt mnt/moved
  stat -c '%h' mnt/new/x
}
"#;

const SAYS: &str = "one\none\nmore\nmnt:\nmoved\nnew\n\nmnt/moved:\nfile\nsub\n2\n";

/// A stack that belongs to the user.
fn stack() -> Scratch {
    let scratch = Scratch::new();
    scratch.file("low/dir/file", "one\n");
    scratch.file("low/gone", "x");
    for name in ["up", "work", "mnt"] {
        give(&scratch.dir(name));
    }
    give(&scratch.path("low"));
    scratch
}

fn possible() -> bool {
    require_root("becoming an ordinary user with a /dev/fuse of his own")
        && require_programs(&["setpriv", "unshare", "fusermount3", "newuidmap", "setfattr"])
}

#[test]
fn through_fusermount3() {
    if !possible() {
        return;
    }
    let scratch = stack();
    let script = format!(
        r#"{WORK}
export -f work
$U plyfs mount -o br:up=rw:low=ro none mnt
grep " $PWD/mnt fuse.aufs .*nosuid.*nodev.*user_id=5555" /proc/mounts > /dev/null
$U bash -ec work
# Others, root too, may not enter.
set +e; ls mnt > /dev/null 2>&1 && echo "root may enter"; set -e
$U ls run > /dev/null 2>&1 || true
ls -d $N/run/plyfs/si_* > /dev/null
$U plyfs status mnt | grep -x "  passthrough off" > /dev/null
$U fusermount3 -u mnt
$U plyfs mount -o lowerdir=low,upperdir=up,workdir=work mnt
$U cat mnt/moved/file
$U plyfs umount mnt
test "$(ls $N/run/plyfs 2>/dev/null | grep -c si_)" = 0
"#
    );
    let ran = in_namespace(&scratch, &script).ok();
    assert_eq!(ran.out, format!("{SAYS}one\nmore\n"));
    assert_eq!(std::fs::read_to_string(scratch.path("low/dir/file")).unwrap(), "one\n");
    assert!(scratch.path("up/.wh.gone").is_file());
}

#[test]
fn in_a_user_namespace_as_its_root() {
    if !possible() {
        return;
    }
    let scratch = stack();
    let script = format!(
        r#"{WORK}
export -f work
$U unshare -Urm --propagation private bash -ec '
  plyfs mount -o br:up=rw:low=ro none mnt
  work
  mkfifo mnt/fifo; umount mnt
  plyfs -o lowerdir=low,upperdir=up,workdir=work mnt
  cat mnt/moved/file; test -p mnt/fifo; umount mnt
'
"#
    );
    let ran = in_namespace(&scratch, &script).ok();
    assert_eq!(ran.out, format!("{SAYS}one\nmore\n"));
}

#[test]
fn in_a_user_namespace_with_many_ids() {
    if !possible() {
        return;
    }
    let scratch = stack();
    let script = format!(
        r#"{WORK}
export -f work
$U unshare -Um --propagation private --map-root-user --map-auto bash -ec '
  plyfs mount -o br:up=rw:low=ro none mnt
  work
  chown 7:8 mnt/new/x; stat -c "%u:%g" mnt/new/x
  umount mnt
  stat -c "%u:%g" up/new/x
'
stat -c "%u:%g" up/new/x
"#
    );
    let ran = in_namespace(&scratch, &script).ok();
    // Id 7 inside is 200006 outside: 0 is the user, 1 the first of the range.
    assert_eq!(ran.out, format!("{SAYS}7:8\n7:8\n200006:200007\n"));
}

#[test]
fn in_a_user_namespace_without_being_its_root() {
    if !possible() {
        return;
    }
    let scratch = stack();
    let script = format!(
        r#"{WORK}
export -f work
$U unshare -Um --propagation private --map-user=5555 --map-group=5555 --keep-caps bash -ec '
  plyfs mount -o br:up=rw:low=ro none mnt
  work
  umount mnt
' || $U unshare -Um --propagation private --map-user=5555 --map-group=5555 bash -ec 'plyfs mount -o br:up=rw:low=ro none mnt; work; fusermount3 -u mnt'
"#
    );
    let ran = in_namespace(&scratch, &script).ok();
    assert_eq!(ran.out, SAYS);
}

#[test]
fn the_users_union_has_no_trusted_attributes_in_its_branch() {
    if !possible() {
        return;
    }
    let scratch = stack();
    let script = r#"
$U plyfs mount -o br:up=rw:low=ro none mnt
$U mv mnt/dir mnt/moved
$U sh -c 'echo x >> mnt/moved/file'
$U plyfs umount mnt
getfattr -R -d -m - --absolute-names up | grep -o '^[a-z]*\.[a-z]*' | sort -u
"#;
    let ran = in_namespace(&scratch, script);
    let kinds: Vec<&str> = ran.out.lines().collect();
    assert!(kinds.iter().all(|kind| kind.starts_with("user.")), "{ran:#?}");
}
