//! An ordinary user, in a mount namespace of his own: `/dev/fuse` opened up, users and id ranges known.

use std::path::Path;
use std::process::Command;

use crate::cmd::{Ran, run};
use crate::scratch::Scratch;

/// The user's and group's id.
pub const UID: u32 = 5555;

/// A script run as root inside `unshare -m`, private, with helpers prepared; `$U` before a command runs it as the user.
///
/// In it: user and group `tester` (5555) and `tests` (5556), id ranges for `tester`, `/dev/fuse` that everybody may
/// open, `XDG_RUNTIME_DIR`, mount helpers `mount.aufs`, `mount.plyfs`, `umount.aufs`, `plyfs` in PATH. All of it ends
/// with the namespace.
#[track_caller]
pub fn in_namespace(scratch: &Scratch, script: &str) -> Ran {
    let root = scratch.dir("ns");
    let prelude = format!(
        r#"
set -e
N={root}
mkdir -p $N/bin $N/run
ln -sf {plyfs} $N/bin/plyfs
sed 's/^tester:.*//;s/^tests:.*//' /etc/passwd > $N/passwd
echo 'tester:x:{UID}:{UID}::/:/bin/sh' >> $N/passwd
echo 'tests:x:5556:5556::/:/bin/sh' >> $N/passwd
cp /etc/group $N/group
echo 'tester:x:{UID}:' >> $N/group
echo 'tests:x:5556:' >> $N/group
echo 'tester:200000:65536' > $N/subuid
echo 'tester:200000:65536' > $N/subgid
touch /etc/subuid /etc/subgid
for f in passwd group subuid subgid; do mount --bind $N/$f /etc/$f; done
rm -f $N/fuse; mknod -m 666 $N/fuse c 10 229
mount --bind $N/fuse /dev/fuse
# What is written below /run ends with the namespace.
mount -t tmpfs plyfs-test /run
# The folder of mount helpers with our names laid over it.
mkdir -p $N/sbin
for h in plyfs mount.aufs mount.plyfs mount.fuse.aufs umount.aufs umount.plyfs; do ln -sf {plyfs} $N/sbin/$h; done
mount -t overlay -o lowerdir=$N/sbin:/usr/sbin plyfs-test /usr/sbin
chown {UID}:{UID} $N/run; chmod 700 $N/run
export PATH=$N/bin:$PATH
export U="setpriv --reuid={UID} --regid={UID} --clear-groups env XDG_RUNTIME_DIR=$N/run HOME=$N/run"
cd {scratch}
"#,
        root = root.display(),
        plyfs = program(scratch).display(),
        scratch = scratch.root().display(),
    );
    let text = format!("{prelude}\n{script}");
    // A process namespace too: whatever the script leaves running ends with it.
    let own = ["-m", "-p", "-f", "--kill-child", "--mount-proc", "--propagation", "private"];
    run(Command::new("unshare").args(own).args(["bash", "-ec"]).arg(text))
}

/// The program, copied to where every user may run it (the repository may lie in a home that others cannot enter).
fn program(scratch: &Scratch) -> std::path::PathBuf {
    let path = scratch.path("ns/program/plyfs");
    if !path.is_file() {
        let dir = scratch.dir("ns/program");
        std::fs::copy(crate::mount::plyfs_path(), dir.join("plyfs")).expect("copying the program");
    }
    path
}

/// Gives a tree to the user.
#[track_caller]
pub fn give(path: &Path) {
    run(Command::new("chown").arg("-R").arg(format!("{UID}:{UID}")).arg(path)).ok();
}
