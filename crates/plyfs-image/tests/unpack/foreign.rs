//! Other programs' readers and writers: the same archives mean the same to them, and tar-split records are theirs too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use plyfs_image::digest::Digest;
use plyfs_image::pack::pack_dir;
use plyfs_image::tarsplit;

use crate::packed::without_root;
use crate::record::record_of;
use crate::support::{Head, Place, Tar, gate, root, seal, tree};

fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    gate(
        std::env::split_paths(&path).any(|dir| dir.join(program).is_file()),
        &format!("{program} is not installed"),
    )
}

fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn extracted(tar: &Path) -> BTreeMap<PathBuf, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("tar");
    command.arg("-xpf").arg(tar).args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-C"]);
    run(command.arg(folder.path()));
    let mut all = tree(folder.path());
    all.remove(Path::new(""));
    all
}

/// A tree of every kind, to be packed by others.
fn honest(folder: &Path) {
    use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
    let deep = folder.join("directory".repeat(9)).join("sub-".repeat(20));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    fs::write(folder.join("plain"), vec![b'p'; 70_000]).unwrap();
    fs::set_permissions(folder.join("plain"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(folder.join("plain"), folder.join("zlink")).unwrap();
    symlink("plain", folder.join("symlink")).unwrap();
    let holes = fs::File::create(folder.join("sparse")).unwrap();
    for at in 0..30 {
        holes.write_all_at(b"data", at * 100_000).unwrap();
    }
    holes.set_len(5_000_000).unwrap();
    run(Command::new("mkfifo").arg(folder.join("fifo")));
    run(Command::new("touch")
        .args(["-d", "@1234567890", "-h"])
        .args(["plain", "symlink", "sparse", "fifo"])
        .current_dir(folder));
}

/// Archives of GNU tar in all its forms are unpacked as it does itself.
#[test]
fn what_gnu_tar_writes() {
    if !have("tar") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    honest(&source);
    let tar = folder.path().join("tar");
    for form in ["gnu", "oldgnu", "pax", "ustar"] {
        for sparse in [false, true] {
            // Sparse in PAX is refused by plyfs; ustar has none.
            if sparse && matches!(form, "pax" | "ustar") {
                continue;
            }
            let mut command = Command::new("tar");
            command.args(["-cf"]).arg(&tar).arg(format!("--format={form}")).arg("-C").arg(&source);
            if sparse {
                command.arg("-S");
            }
            run(command.arg("."));
            let place = Place::new();
            place.unpack(&fs::read(&tar).unwrap()).unwrap_or_else(|e| panic!("{form} {sparse}: {e}"));
            assert_eq!(without_root(&place), extracted(&tar), "{form} sparse={sparse}");
        }
    }
}

/// And GNU tar unpacks what plyfs packs as plyfs does.
#[test]
fn what_gnu_tar_reads() {
    if !have("tar") {
        return;
    }
    let place = Place::new();
    honest(&place.layer());
    let tar = place.folder.path().join("tar");
    pack_dir(&place.dir(), fs::File::create(&tar).unwrap()).unwrap();
    assert_eq!(without_root(&place), extracted(&tar));
}

/// Archives on whose meaning readers might disagree: all that are accepted.
fn corpora() -> Vec<(&'static str, Vec<u8>)> {
    let inner = Tar::new().file("smuggled", "evil").end();
    let size = inner.len().to_string();
    let mut base = Head::new("base256", b'0').block();
    base[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    seal(&mut base);
    let mut prefix = Head::new("name", b'0').size(1).block();
    prefix[345..351].copy_from_slice(b"prefix");
    seal(&mut prefix);
    let mut gnu_times = Head { gnu: true, ..Head::new("gnu-name", b'0').size(1) }.block();
    // GNU keeps times there.
    gnu_times[345..356].copy_from_slice(b"01234567012");
    seal(&mut gnu_times);
    let mut go_prefix = Head { gnu: true, ..Head::new("go-name", b'0').size(1) }.block();
    go_prefix[345..357].copy_from_slice(b"long/prefix/");
    go_prefix[357..361].copy_from_slice(b"more");
    seal(&mut go_prefix);
    let mut v7 = Head::new("v7dir/", 0).mode(0o755).block();
    v7[257..265].fill(0);
    seal(&mut v7);
    let mut holes = Head { gnu: true, ..Head::new("holes", b'S').size(4) }.block();
    holes[386..410].copy_from_slice(b"00000001000\x0000000000004\0");
    holes[483..495].copy_from_slice(b"00000010000\0");
    seal(&mut holes);
    vec![
        ("pax size over a zero", {
            let x = Tar::new().pax(b'x', &[("size", size.as_bytes())]);
            x.raw(&Head::new("f", b'0').size(0), &inner).file("after", "x").end()
        }),
        ("pax size over a wrong one", {
            let x = Tar::new().pax(b'x', &[("size", b"3")]);
            x.raw(&Head::new("f", b'0').size(700), b"abc").file("after", "x").end()
        }),
        (
            "pax path twice",
            Tar::new().pax(b'x', &[("path", b"first"), ("path", b"second")]).file("x", "1").end(),
        ),
        (
            "gnu name over pax",
            Tar::new().pax(b'x', &[("path", b"same")]).long(b'L', b"same").file("x", "1").end(),
        ),
        ("pax over gnu", Tar::new().long(b'L', b"same").pax(b'x', &[("path", b"same")]).file("x", "1").end()),
        ("base-256", Tar::new().block(&base).body(&[b'b'; 512]).file("after", "x").end()),
        ("prefixes", Tar::new().block(&prefix).body(b"1").block(&go_prefix).body(b"2").end()),
        (GNU_TIMES, Tar::new().block(&gnu_times).body(b"2").end()),
        ("v7", Tar::new().block(&v7).raw(&Head::new("v7dir/f", 0).size(2), b"ok").end()),
        ("sparse", Tar::new().block(&holes).body(b"data").file("after", "x").end()),
        ("nested", Tar::new().file("inner.tar", &inner).file("after", "x").end()),
        ("behind the end", [Tar::new().file("a", "1").end(), inner].concat()),
        ("no end", Tar::new().file("a", "1").0),
    ]
}

/// Names, sizes and digests of files, as both sides print them.
fn listed(place: &Place) -> String {
    let mut lines = Vec::new();
    for path in tree(&place.layer()).into_keys().filter(|path| path != Path::new("")) {
        let whole = place.layer().join(&path);
        if whole.is_file() {
            let bytes = fs::read(&whole).unwrap();
            lines.push(format!("{} {} {}\n", path.display(), bytes.len(), Digest::of(&bytes).hex()));
        }
    }
    lines.sort();
    lines.concat()
}

/// Python takes GNU's times for a prefix.
const GNU_TIMES: &str = "times of GNU's form";

fn compare_with(not: &str, reader: impl Fn(&Path) -> String) {
    let folder = tempfile::tempdir().unwrap();
    for (what, tar) in corpora().into_iter().filter(|(what, _)| *what != not) {
        let place = Place::new();
        place.unpack(&tar).unwrap_or_else(|e| panic!("{what}: {e}"));
        let path = folder.path().join("tar");
        fs::write(&path, &tar).unwrap();
        assert_eq!(listed(&place), reader(&path), "{what}");
    }
}

const GO: &str = r#"package main
import ("archive/tar"; "crypto/sha256"; "fmt"; "io"; "os"; "path"; "sort")
func main() {
	file, err := os.Open(os.Args[1])
	if err != nil { panic(err) }
	lines := []string{}
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if err == io.EOF { break }
		if err != nil { panic(err) }
		if header.Typeflag != tar.TypeReg && header.Typeflag != tar.TypeGNUSparse { continue }
		hash := sha256.New()
		size, err := io.Copy(hash, reader)
		if err != nil { panic(err) }
		lines = append(lines, fmt.Sprintf("%s %d %x\n", path.Clean(header.Name), size, hash.Sum(nil)))
	}
	sort.Strings(lines)
	for _, line := range lines { fmt.Print(line) }
}
"#;

/// Go's archive/tar is what every other engine reads layers with.
#[test]
fn what_go_reads() {
    if !have("go") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("list.go"), GO).unwrap();
    let mut command = Command::new("go");
    command.args(["build", "-o", "list", "list.go"]).current_dir(folder.path());
    run(command.env("GO111MODULE", "off").env("GOCACHE", folder.path().join("cache")));
    compare_with("", |tar| run(Command::new(folder.path().join("list")).arg(tar)));
}

const PYTHON: &str = r"import sys, tarfile, hashlib, posixpath
lines = []
for member in (archive := tarfile.open(sys.argv[1])):
    if member.isreg():
        data = archive.extractfile(member).read()
        lines.append(f'{posixpath.normpath(member.name)} {len(data)} {hashlib.sha256(data).hexdigest()}\n')
print(''.join(sorted(lines)), end='')
";

#[test]
fn what_python_reads() {
    if have("python3") {
        compare_with(GNU_TIMES, |tar| run(Command::new("python3").args(["-c", PYTHON]).arg(tar)));
    }
}

/// An OCI layout with one image of one layer.
fn layout(folder: &Path, tar: &[u8]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let hex = Digest::of(bytes).hex();
        fs::write(blobs.join(&hex), bytes).unwrap();
        serde_json::json!({"digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    let with_type = |mut descriptor: serde_json::Value, kind: &str| {
        descriptor["mediaType"] = format!("application/vnd.oci.image.{kind}").into();
        descriptor
    };
    let layer = put(tar);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created": "2020-01-01T00:00:00Z"}],
    });
    let config = with_type(put(config.to_string().as_bytes()), "config.v1+json");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [with_type(layer, "layer.v1.tar")],
    });
    let manifest = with_type(put(manifest.to_string().as_bytes()), "manifest.v1+json");
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
}

/// containers/storage keeps the same records, written by the library that Docker uses: each reads the other's.
#[test]
fn tar_split_records_of_others() {
    if !root() || !have("skopeo") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tar = Tar::new()
        .dir("./")
        .dir("d")
        .file("d/f", vec![b'f'; 10_000])
        .pax(b'x', &[("mtime", b"5.5"), ("SCHILY.xattr.user.a", b"1")])
        .file("d/g", "text")
        .hard_link("h", "d/f")
        .symlink("s", "d")
        .long(b'L', &[b'n'; 150])
        .file("x", "long")
        .file("d/empty", "")
        .end();
    // Longer than it needs to be: what is behind the end is in the record, too.
    let tar = [tar, vec![0; 3000]].concat();
    layout(&at("oci"), &tar);
    let storage = format!("[vfs@{}+{}]", at("root").display(), at("run").display());
    let image = format!("containers-storage:{storage}localhost/test:1");
    let skopeo = |arguments: &[&str]| {
        run(Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q"])
            .args(arguments)
            .env("HOME", folder.path()))
    };
    skopeo(&[&format!("oci:{}", at("oci").display()), &image]);
    let found = fs::read_dir(at("root/vfs-layers")).unwrap().map(|entry| entry.unwrap().path());
    let record = found.into_iter().find(|path| path.to_string_lossy().ends_with(".tar-split.gz")).unwrap();
    let id = record.file_name().unwrap().to_string_lossy().split('.').next().unwrap().to_owned();
    let layer = plyfs_sys::Dir::open(&at("root/vfs/dir").join(id)).unwrap();
    let mut again = Vec::new();
    tarsplit::assemble(fs::File::open(&record).unwrap(), &layer, &mut again).unwrap();
    assert!(again == tar, "their record, our reader");
    // Now ours in its place. Theirs is given up first: it can't be what makes the archive.
    let place = Place::new();
    let ours = record_of(&place, &tar);
    assert!(ours != fs::read(&record).unwrap());
    fs::write(&record, &ours).unwrap();
    skopeo(&["--dest-decompress", &image, &format!("dir:{}", at("out").display())]);
    let blob = at("out").join(Digest::of(&tar).hex());
    assert!(fs::read(&blob).unwrap() == tar, "our record, their reader");
}
