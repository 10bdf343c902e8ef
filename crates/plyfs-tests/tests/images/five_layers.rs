//! An image of five layers with everything that a layer can have, made by GNU tar and umoci.

use std::path::{Path, PathBuf};

use plyfs_tests::{Scratch, Snapshot, Want, require_programs, require_root, sh, tree};

/// Makes the layers' trees; each becomes a layer as it stands.
const LAYERS: &str = r"
mkdir l1 l2 l3 l4 l5
( cd l1
  mkdir -p bin dev etc opaque/deep sticky gone/below removed odd/times home/user 'with space'
  echo tool > bin/tool; chmod 4755 bin/tool
  echo group > bin/group; chown 0:42 bin/group; chmod 2755 bin/group
  mknod dev/null c 1 3; mknod dev/loop b 7 0; mkfifo dev/fifo; chmod 666 dev/null
  echo passwd > etc/passwd; ln etc/passwd etc/passwd-; ln -s passwd etc/link; ln -s /nowhere/../at/all etc/dangling
  echo low > opaque/low; echo low > opaque/deep/low; echo replaced > replaced; mkdir was-dir; echo x > was-dir/x
  echo file > removed/file; echo keep > removed/keep; echo gone > gone/below/file
  chmod 1777 sticky; chown -R 1000:1001 home/user; echo mine > home/user/f; chown 1000:1001 home/user/f
  echo old > odd/old; touch -d '1969-12-31 23:59:50.25 UTC' odd/old; touch -d '2100-01-01 00:00:00.123456789 UTC' odd/times
  head -c 3000000 /dev/urandom > bin/random
  truncate -s 1M odd/hole; echo end >> odd/hole
  echo 'a b' > 'with space/new
line'
  chmod 0 etc/passwd )
( cd l2
  mkdir -p removed gone opaque
  : > removed/.wh.file; : > .wh.gone2; rmdir gone; : > .wh.gone
  echo replaced > was-dir; ln -s was-dir replaced; echo second > opaque/second; : > .wh.nothing-there )
( cd l3
  mkdir -p opaque; : > opaque/.wh..wh..opq; echo only > opaque/only; chmod 750 opaque )
( cd l4
  mkdir -p etc gone home/user; chmod 700 etc; echo again > gone/again; touch -d @1000000000.5 etc gone
  chown 1000:1001 home/user; chmod 711 home/user )
( cd l5
  name=$(printf 'n%.0s' $(seq 1 200)); mkdir -p a/$name; echo long > a/$name/$name; echo other > bin-file
  ln -s ../$name a/$name/link; printf bytes > $'a/\xff\xfe'
  mkdir -p bin home/user; echo other > bin/tool; ln bin/tool bin-link; echo new > home/user/new )
";

/// The layout's directory (image `five`), and its unpacked root by umoci. `None`: something is missing here.
pub(crate) fn make(scratch: &Scratch) -> Option<(PathBuf, PathBuf)> {
    if !require_root("device nodes") || !require_programs(&["umoci", "tar", "skopeo"]) {
        return None;
    }
    let dir = scratch.root().display();
    sh(format!("cd {dir}\n{LAYERS}")).ok();
    tree::setxattr(&scratch.path("l1/bin/tool"), "user.plyfs", b"\0value\xff").unwrap();
    // cap_net_raw+ep, revision 2
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tree::setxattr(&scratch.path("l1/bin/random"), "security.capability", &capability).unwrap();
    tree::setxattr(&scratch.path("l4/etc"), "user.of.dir", b"x").unwrap();
    let pack = "tar --format=posix --pax-option=delete=atime,delete=ctime --xattrs --xattrs-include=* --numeric-owner --sort=name";
    sh(format!(
        "cd {dir}; umoci init --layout lay; umoci new --image lay:five
         for n in 1 2 3 4 5; do {pack} -C l$n -cf l$n.tar .; 
           # Parents without an entry, and a hard link to what only a layer below has.
           [ $n != 5 ] || tar --delete -f l5.tar ./bin ./home/user/ ./home/ 2>/dev/null; [ $n != 5 ] || tar -C l5 -rf l5.tar ./home/user/new
           umoci raw add-layer --image lay:five l$n.tar; done
         tar -tf l5.tar > l5.list; ! grep -Eq '^./(bin|home|home/user)/$|tool$' l5.list; grep -q bin-link l5.list
         umoci unpack --image lay:five bundle"
    ))
    .ok();
    Some((scratch.path("lay"), scratch.path("bundle/rootfs")))
}

/// Fails unless `union` is what umoci made of the image.
#[track_caller]
pub(crate) fn compare(rootfs: &Path, union: &Path) {
    let (want, got) = (Snapshot::of(rootfs, Want::ALL), Snapshot::of(union, Want::ALL));
    assert!(want.0.len() > 30, "umoci made {} entries", want.0.len());
    want.same(&got, "umoci's root (left) and the union of our layers (right)");
}
