//! `images`, `rmi`, `tag`, `history`: Docker's rules and words.

use plyfs_tests::{Scratch, require_programs, sh};

use crate::root::Root;

/// A store with the images `a:1` (also `a:2`, `b/x:1`) and `c:latest`.
fn filled(scratch: &Scratch) -> Option<Root> {
    if !require_programs(&["tar"]) {
        return None;
    }
    let dir = scratch.root().display();
    sh(format!("cd {dir}; for n in a c; do mkdir $n; echo $n > $n/f; tar -C $n -cf $n.tar f; done")).ok();
    let root = Root::new(scratch);
    root.ok(&["load", "-q", "--name", "a:1", scratch.path("a.tar").to_str().unwrap()]);
    root.ok(&["load", "-q", "--name", "c", scratch.path("c.tar").to_str().unwrap()]);
    root.ok(&["tag", "a:1", "a:2"]);
    root.ok(&["tag", "docker.io/library/a:1", "localhost:5000/b/x:1"]);
    Some(root)
}

#[test]
fn images_are_listed_as_docker_lists_them() {
    let scratch = Scratch::new();
    let root = Root::new(&scratch);
    assert_eq!(root.ok(&["images"]), "REPOSITORY   TAG   IMAGE ID   CREATED   SIZE\n");
    let Some(root) = filled(&scratch) else { return };
    let id = root.id("a:1");
    let short = &id[7..19];
    let text = root.ok(&["images"]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("   ").map(str::trim).filter(|word| !word.is_empty()).collect())
        .collect();
    assert_eq!(lines[0], ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert_eq!(lines.len(), 5);
    assert!(
        lines.iter().any(|line| line[..3] == ["localhost:5000/b/x", "1", short] && line[4] == "2B"),
        "{text}"
    );
    let ids = root.ok(&["images", "-q", "--no-trunc", "a"]);
    assert_eq!(ids, format!("{id}\n"));
    assert_eq!(root.ok(&["images", "a:2"]).lines().count(), 2);
    assert!(root.ok(&["images", "--digests"]).contains("<none>"));
    let json = root.json(&["images", "--json", "c"]);
    assert_eq!((json["version"].as_u64(), json["images"][0]["size"].as_u64()), (Some(1), Some(2)));
    assert_eq!(root.names(), ["a:1", "a:2", "c:latest", "localhost:5000/b/x:1"]);
}

#[test]
fn names_go_first_and_images_last() {
    let scratch = Scratch::new();
    let Some(root) = filled(&scratch) else { return };
    let (a, c) = (root.id("a:1"), root.id("c"));
    assert_eq!(root.ok(&["rmi", "a:2"]), "Untagged: a:2\n");
    root.run(&["rmi", &a[7..15]]).exits(1).says("multiple repositories");
    assert_eq!(root.ok(&["rmi", "localhost:5000/b/x:1"]), "Untagged: localhost:5000/b/x:1\n");
    let gone = root.ok(&["rmi", "a:1"]);
    assert!(gone.starts_with(&format!("Untagged: a:1\nDeleted: {a}\nDeleted: sha256:")), "{gone}");
    root.run(&["rmi", "a:1", "c"]).exits(1).says("no such image");
    assert_eq!(root.names(), Vec::<String>::new(), "the others are removed all the same");
    root.run(&["rmi", &c]).exits(1);
    root.assert_empty();
    let Some(root) = Some(root) else { return };
    root.ok(&["load", "-q", "--name", "a:1", scratch.path("a.tar").to_str().unwrap()]);
    root.ok(&["tag", "a:1", "b:1"]);
    let id = root.id("a:1");
    let gone = root.ok(&["rmi", "-f", &id]);
    assert!(
        gone.contains("Untagged: a:1\n") && gone.contains("Untagged: b:1\n") && gone.contains(&id),
        "{gone}"
    );
    root.assert_empty();
}

#[test]
fn a_tag_moves_and_leaves_the_image() {
    let scratch = Scratch::new();
    let Some(root) = filled(&scratch) else { return };
    root.ok(&["tag", "c", "a:1"]);
    assert_eq!(root.id("a:1"), root.id("c"));
    root.ok(&["tag", "a:1", "a:2"]);
    root.ok(&["tag", "a:1", "localhost:5000/b/x:1"]);
    assert_eq!(root.names(), ["-:-", "a:1", "a:2", "c:latest", "localhost:5000/b/x:1"]);
    assert!(root.ok(&["images"]).contains("<none>"));
    root.run(&["tag", "nothing", "x"]).exits(1).says("no such image");
    root.run(&["tag", "c", "UPPER"]).exits(2);
    root.run(&["tag", "c", &format!("c@sha256:{}", "0".repeat(64))]).exits(1).says("digest");
}

#[test]
fn history_is_told() {
    let scratch = Scratch::new();
    let Some(root) = filled(&scratch) else { return };
    let text = root.ok(&["history", "a:1"]);
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("IMAGE"), "{text}");
    assert!(lines.next().unwrap().ends_with("Imported by plyfs"), "{text}");
    let json = root.json(&["history", "--json", "a:1"]);
    assert_eq!(json["history"][0]["size"], 2);
    assert_eq!(json["history"][0]["id"], json["image"]);
    assert_eq!(root.ok(&["history", "-q", "--no-trunc", "a:1"]).trim(), root.id("a:1"));
}
