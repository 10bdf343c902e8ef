//! Archives that lie: refused, and the store is as before.

use plyfs_tests::{Scratch, require_programs, sh};

use crate::root::Root;

/// A good docker-archive in `good/`: one layer with one file.
fn good(scratch: &Scratch) -> bool {
    if !require_programs(&["tar", "jq", "sha256sum"]) {
        return false;
    }
    sh(format!(
        "cd {}; mkdir good t; echo x > t/f; tar -C t -cf good/l.tar f
         echo '{{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:'$(sha256sum < good/l.tar | cut -c-64)'\"]}}}}' > good/c.json
         echo '[{{\"Config\":\"c.json\",\"RepoTags\":[\"x:1\"],\"Layers\":[\"l.tar\"]}}]' > good/manifest.json",
        scratch.root().display()
    ))
    .ok();
    true
}

/// Each is done to a copy of the good archive; the words that the error must have.
const CASES: &[(&str, &str)] = &[
    ("echo y > t/f; tar -C ../t -cf l.tar f; echo >> l.tar", "diff ID"),
    (r#"jq -c '.[0].RepoTags=["x:.."]' manifest.json > m; mv m manifest.json"#, "its tag"),
    (r#"jq -c '.[0].RepoTags=["../../x"]' manifest.json > m; mv m manifest.json"#, "no name"),
    (r#"jq -c '.[0].Layers=["../../../../etc/passwd"]' manifest.json > m; mv m manifest.json"#, "no file"),
    (r#"jq -c '.[0].Config="../../../../etc/passwd"' manifest.json > m; mv m manifest.json"#, "no file"),
    (r#"jq -c '.[0].Layers=["l.tar","l.tar"]' manifest.json > m; mv m manifest.json"#, "its manifest 2"),
    (r#"jq -c '.[0].Layers=[]' manifest.json > m; mv m manifest.json"#, "its manifest 0"),
    ("rm l.tar; ln -s /etc/passwd l.tar", ""),
    ("rm l.tar; ln -s ../../../../../../etc/passwd l.tar", "out of the archive"),
    ("rm l.tar; ln -s l.tar l.tar", "too many links"),
    ("rm l.tar; mkfifo l.tar", "no file"),
    ("rm l.tar", "no file"),
    ("echo '[' > manifest.json", "manifest.json"),
    ("echo '[]' > manifest.json", "lists no image"),
    ("head -c 5000000 /dev/zero | tr '\\0' ' ' >> manifest.json", "manifest_bytes"),
    (r#"jq -c '.rootfs.diff_ids=["sha256:../../x"]' c.json > m; mv m c.json"#, "no digest"),
    (r#"jq -c '.os="windows"' c.json > m; mv m c.json"#, "this is Linux"),
    (
        r#"n=$(printf '0%.0s' $(seq 64)); mv c.json $n.json; jq -c '.[0].Config="'$n'.json"' manifest.json > m; mv m manifest.json"#,
        "has digest",
    ),
    (
        r#"sed 's/sha256:..../sha256:0000/' c.json > d.json; jq -c '. + [.[0]] | .[1].Layers=["gone"] | .[1].Config="d.json"' manifest.json > m; mv m manifest.json"#,
        "no file",
    ),
    ("printf 'BZh91AY&SY' > l.tar", "bzip2"),
    ("truncate -s 100 l.tar", "layer"),
];

#[test]
fn archives_that_lie_leave_nothing() {
    let scratch = Scratch::new();
    if !good(&scratch) {
        return;
    }
    let root = Root::new(&scratch);
    let good = scratch.path("good");
    assert_eq!(root.ok(&["load", good.to_str().unwrap()]), "Loaded image: x:1\n");
    root.ok(&["rmi", "x:1"]);
    for (number, (change, words)) in CASES.iter().enumerate() {
        let case = scratch.path(format!("case{number}"));
        sh(format!(
            "cp -a {} {c}; cd {c}; mkdir -p t; {change}; tar -C {c} -cf {c}.tar .",
            good.display(),
            c = case.display()
        ))
        .ok();
        root.run(&["load", case.to_str().unwrap()]).exits(1).says(words);
        root.assert_empty();
        root.run(&["load", "-i", &format!("{}.tar", case.display())]).exits(1).says(words);
        root.assert_empty();
    }
}

#[test]
fn what_is_no_archive_is_told() {
    let scratch = Scratch::new();
    let root = Root::new(&scratch);
    let dir = scratch.root().display();
    sh(format!(
        "cd {dir}; head -c 100000 /dev/urandom > random; : > empty; tar -cf notar.tar -T /dev/null
         id=$(printf 'a%.0s' $(seq 64)); mkdir -p leg/$id; tar -cf leg/$id/layer.tar empty; echo '{{}}' > leg/repositories; tar -C leg -cf legacy.tar .
         head -c 2000 random | xz > x.tar.xz; printf 'BZh91AY&SY' > b.bz2"
    ))
    .ok();
    for (file, words) in [
        ("random", "tar"),
        ("empty", "empty"),
        ("notar.tar", "empty"),
        ("legacy.tar", "before 1.10"),
        ("x.tar.xz", "xz"),
        ("b.bz2", "bzip2"),
        ("missing", "No such file"),
    ] {
        root.run(&["load", scratch.path(file).to_str().unwrap()]).exits(1).says(words);
        root.assert_empty();
    }
}

// The layout of an image that is both a manifest and an index (CVE-2021-41190), and blobs that are not what they are called.
#[test]
fn layouts_that_lie_leave_nothing() {
    let scratch = Scratch::new();
    if !require_programs(&["umoci", "jq", "sha256sum"]) {
        return;
    }
    let dir = scratch.root().display();
    sh(format!("cd {dir}; umoci init --layout lay; umoci new --image lay:x; mkdir d; echo 1 > d/f; umoci insert --rootless --image lay:x d /")).ok();
    let again = "h=$(sha256sum < new | cut -c-64); s=$(stat -c %s new); mv new blobs/sha256/$h; jq -c \".manifests[0].digest=\\\"sha256:$h\\\"|.manifests[0].size=$s\" index.json > i; mv i index.json";
    let manifest = "m=blobs/sha256/$(jq -r .manifests[0].digest index.json | cut -c8-)";
    let layer = "l=blobs/sha256/$(jq -r .layers[0].digest $m | cut -c8-)";
    let cases = [
        (format!("{manifest}; jq -c '.manifests=[]' $m > new; {again}"), "both a manifest and an index"),
        (format!("{manifest}; jq -c '.mediaType=\"application/vnd.oci.image.index.v1+json\"' $m > new; {again}"), "CVE-2021-41190"),
        (format!("{manifest}; echo ' ' >> $m"), "has digest"),
        (format!("{manifest}; {layer}; printf x >> $l"), ""),
        (format!("{manifest}; {layer}; rm $l"), "no file"),
        (format!("{manifest}; {layer}; rm $l; ln -s /etc/passwd $l"), ""),
        ("jq -c '.manifests[0].digest=\"sha256:../../../etc/passwd\"' index.json > i; mv i index.json".to_owned(), "no digest"),
        ("echo '{\"imageLayoutVersion\":\"2.0.0\"}' > oci-layout".to_owned(), "version 2.0.0"),
        ("jq -c '.manifests[0].annotations[\"org.opencontainers.image.ref.name\"]=\"a/../b:x\"' index.json > i; mv i index.json".to_owned(), "no name"),
    ];
    let root = Root::new(&scratch);
    for (number, (change, words)) in cases.iter().enumerate() {
        let case = scratch.path(format!("case{number}"));
        sh(format!("cp -a {dir}/lay {c}; cd {c}; {change}", c = case.display())).ok();
        root.run(&["load", case.to_str().unwrap()]).exits(1).says(words);
        root.assert_empty();
    }
}
