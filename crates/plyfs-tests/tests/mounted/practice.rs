//! The AUFS practice, word for word, typed through a shell with mount(8); and the cases of Docker's AUFS page.

use std::fs;

use plyfs_tests::user::in_namespace;
use plyfs_tests::{Mount, Scratch, require_root};

/// The five folders, each with a text file of its own name.
fn layers(scratch: &Scratch) {
    for name in ["container-layer", "image-layer1", "image-layer2", "image-layer3", "image-layer4"] {
        scratch.file(format!("{name}/{name}.txt"), format!("I am {name}\n"));
    }
    scratch.dir("mnt");
}

/// The mount line, exactly; `$S` is set to the mount's folder below /run/plyfs.
const MOUNT: &str = "
mount -t aufs -o dirs=./container-layer:./image-layer4:./image-layer3:./image-layer2:./image-layer1 none ./mnt
S=$(grep -l -x -r \"$PWD/container-layer=rw\" /run/plyfs/si_*/br0 | xargs dirname)
";

#[test]
fn five_files_show_and_sysfs_lists_the_branches() {
    if !require_root("mount -t aufs") {
        return;
    }
    let scratch = Scratch::new();
    layers(&scratch);
    let script = format!(
        "{MOUNT}
ls ./mnt
ls $S | grep -E '^(br|xi)'
cat $S/br0 $S/br1 $S/br2 $S/br3 $S/br4 $S/brid0 $S/brid1 $S/brid2 $S/brid3 $S/brid4
grep \" $PWD/mnt \" /proc/mounts | cut -d' ' -f1,3
umount ./mnt
for i in $(seq 600); do test -e $S || break; sleep 0.05; done
test ! -e $S
"
    );
    let ran = in_namespace(&scratch, &script).ok();
    let here = scratch.root().display();
    let want = format!(
        "container-layer.txt
image-layer1.txt
image-layer2.txt
image-layer3.txt
image-layer4.txt
br0
br1
br2
br3
br4
brid0
brid1
brid2
brid3
brid4
xi_path
{here}/container-layer=rw
{here}/image-layer4=ro
{here}/image-layer3=ro
{here}/image-layer2=ro
{here}/image-layer1=ro
64
65
66
67
68
none fuse.aufs
"
    );
    assert_eq!(ran.out, want);
}

#[test]
fn appending_to_a_file_of_a_lower_layer_copies_it_up() {
    if !require_root("mount -t aufs") {
        return;
    }
    let scratch = Scratch::new();
    layers(&scratch);
    let script = format!(
        r#"{MOUNT}
echo -e "\nwrite to mnt's image-layer1.txt" >> mnt/image-layer4.txt
echo == mnt; cat mnt/image-layer4.txt
echo == below; cat image-layer4/image-layer4.txt
echo == above; cat container-layer/image-layer4.txt
umount ./mnt
"#
    );
    let ran = in_namespace(&scratch, &script).ok();
    let both = "I am image-layer4\n\nwrite to mnt's image-layer1.txt\n";
    assert_eq!(ran.out, format!("== mnt\n{both}== below\nI am image-layer4\n== above\n{both}"));
}

#[test]
fn removing_a_lower_file_leaves_a_whiteout() {
    if !require_root("mount -t aufs") {
        return;
    }
    let scratch = Scratch::new();
    layers(&scratch);
    let script = format!(
        "{MOUNT}
rm mnt/image-layer2.txt
ls mnt
echo == below; ls image-layer2
stat -c '%F %s' container-layer/.wh.image-layer2.txt
umount ./mnt
"
    );
    let ran = in_namespace(&scratch, &script).ok();
    assert_eq!(
        ran.out,
        "container-layer.txt\nimage-layer1.txt\nimage-layer3.txt\nimage-layer4.txt\n\
         == below\nimage-layer2.txt\nregular empty file 0\n"
    );
}

/// An image of two layers and a container's layer, as on the page.
fn docker(scratch: &Scratch) -> Mount {
    scratch.file("image1/below", "from the image\n");
    scratch.file("image1/both", "from the image\n");
    scratch.file("image2/dir/deep", "deep in the image\n");
    scratch.file("container/above", "from the container\n");
    scratch.file("container/both", "from the container\n");
    Mount::stack(scratch, &["container", "image2", "image1"])
}

#[test]
fn docker_page_the_file_exists_only_below() {
    let scratch = Scratch::new();
    let mount = docker(&scratch);
    assert_eq!(fs::read_to_string(mount.path("below")).unwrap(), "from the image\n");
    assert!(!scratch.path("container/below").exists(), "reading copies nothing");
}

#[test]
fn docker_page_the_file_exists_only_above() {
    let scratch = Scratch::new();
    let mount = docker(&scratch);
    assert_eq!(fs::read_to_string(mount.path("above")).unwrap(), "from the container\n");
}

#[test]
fn docker_page_the_file_exists_in_both() {
    let scratch = Scratch::new();
    let mount = docker(&scratch);
    assert_eq!(fs::read_to_string(mount.path("both")).unwrap(), "from the container\n");
}

#[test]
fn docker_page_the_first_write_copies_up_and_later_ones_do_not() {
    use std::io::Write;
    let scratch = Scratch::new();
    let mount = docker(&scratch);
    let append = |text: &str| {
        let mut file = fs::OpenOptions::new().append(true).open(mount.path("dir/deep")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("one\n");
    let copy = scratch.path("container/dir/deep");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "deep in the image\none\n");
    let ino = |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let first = ino(&copy);
    append("two\n");
    assert_eq!(ino(&copy), first, "the second write goes to the same copy");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "deep in the image\none\ntwo\n");
    assert_eq!(fs::read_to_string(scratch.path("image2/dir/deep")).unwrap(), "deep in the image\n");
}

#[test]
fn docker_page_deleting_files_and_directories() {
    let scratch = Scratch::new();
    let mount = docker(&scratch);
    fs::remove_file(mount.path("below")).unwrap();
    fs::remove_dir_all(mount.path("dir")).unwrap();
    assert!(!mount.path("below").exists());
    assert!(!mount.path("dir").exists());
    assert!(scratch.path("container/.wh.below").is_file());
    assert!(scratch.path("container/.wh.dir").is_file());
    assert!(scratch.path("image2/dir/deep").is_file());
    fs::create_dir(mount.path("dir")).unwrap();
    assert_eq!(
        fs::read_dir(mount.path("dir")).unwrap().count(),
        0,
        "the image's folder does not shine through"
    );
    assert!(scratch.path("container/dir/.wh..wh..opq").is_file());
}
