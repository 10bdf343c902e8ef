//! Containers of an ordinary user, in a user namespace with ids of his own.

use std::fs;

use plyfs_tests::user::{give, in_namespace};
use plyfs_tests::{Scratch, images, require_programs, require_root};

#[test]
fn an_ordinary_user_runs_containers() {
    let able = require_root("becoming an ordinary user with a /dev/fuse of his own")
        && require_programs(&["setpriv", "unshare", "newuidmap", "crun", "busybox"]);
    if !able {
        return;
    }
    let scratch = Scratch::new();
    images::busybox(&scratch.dir("fs"));
    give(&scratch.path("fs"));
    fs::create_dir(scratch.path("data")).unwrap();
    give(&scratch.path("data"));
    let script = r#"
export P="$U plyfs --root $N/run/store"
$P load --name bb:1 $PWD/fs > /dev/null
$P run --rm -v $PWD/data:/data bb:1 sh -c 'id -u; echo x > /data/x; mkdir /own; chown 33:34 /own; stat -c %u:%g /own'
stat -c %u data/x
$P run --name kept -u web bb:1 sh -c 'id -un; echo one > /home/x 2> /dev/null || echo closed; exit 6' || echo $?
$P diff kept
# One command is another's namespace: they find each other's containers all the same.
$P run -d --name long bb:1 sh -c 'trap "exit 7" TERM; while :; do sleep 0.05; done' > /dev/null
$P ps | grep -c long
$P stop long
$P wait long
$P mount-container long 2>&1 | grep -c 'ordinary user'
$P rm kept long > /dev/null
$P ps -aq
"#;
    let ran = in_namespace(&scratch, script).ok();
    assert_eq!(ran.out, "0\n33:34\n5555\nweb\nclosed\n6\n1\nlong\n7\n1\n", "{}", ran.err);
}
