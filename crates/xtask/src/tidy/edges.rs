//! Crate edges: arrows of docs/architecture.md point down only.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run;

/// Which crates of ours a crate may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("plyfs-sys", &[]),
    ("plyfs-union", &["plyfs-sys"]),
    ("plyfs-wire", &["plyfs-sys"]),
    ("plyfs-fuse", &["plyfs-sys", "plyfs-union", "plyfs-wire"]),
    ("plyfs-store", &["plyfs-sys", "plyfs-union"]),
    ("plyfs-image", &["plyfs-sys", "plyfs-union", "plyfs-store"]),
    ("plyfs-snapshotter", &["plyfs-sys", "plyfs-store", "plyfs-union"]),
    (
        "plyfs",
        &[
            "plyfs-sys",
            "plyfs-union",
            "plyfs-wire",
            "plyfs-fuse",
            "plyfs-store",
            "plyfs-image",
            "plyfs-snapshotter",
        ],
    ),
    ("plyfs-tests", &["plyfs-sys", "plyfs-union", "plyfs-store", "plyfs-image"]),
    ("xtask", &[]),
];

/// Packages that a crate must not reach, however indirectly.
const NEVER: &[(&str, &[&str])] = &[
    ("plyfs-sys", &["tokio", "serde_json"]),
    ("plyfs-union", &["tokio", "serde_json", "fuser"]),
    ("plyfs-wire", &["tokio", "serde_json"]),
    ("plyfs-fuse", &["tokio", "serde_json"]),
    ("plyfs-store", &["tokio", "ureq", "tar"]),
    ("plyfs-image", &["tokio", "clap"]),
];

/// The complaints about edges.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let text =
        run::output(run::cargo(root).args(["metadata", "--format-version=1", "--locked", "--offline"]))
            .or_else(|_| run::output(run::cargo(root).args(["metadata", "--format-version=1"])))?;
    let metadata: Value = serde_json::from_str(&text).context("reading cargo metadata")?;
    let graph = Graph::new(&metadata);
    let mut complaints = Vec::new();
    for name in graph.ours() {
        match EDGES.iter().find(|(from, _)| *from == name) {
            None => complaints
                .push(format!("{name}: unknown crate: add it to xtask's edges.rs and docs/architecture.md")),
            Some((_, allowed)) => {
                for to in graph.direct(name).filter(|to| graph.is_ours(to)) {
                    if !allowed.contains(&to) {
                        complaints.push(format!("{name} depends on {to}: that arrow points up"));
                    }
                }
            }
        }
    }
    for (from, never) in NEVER {
        let reached = graph.reach(from);
        for bad in never.iter().filter(|bad| reached.iter().any(|name| name == *bad)) {
            complaints.push(format!("{from} reaches {bad}: it must not"));
        }
    }
    Ok(complaints)
}

/// Packages and their normal and build dependencies, by name.
struct Graph<'a> {
    ours: Vec<&'a str>,
    edges: Vec<(&'a str, &'a str)>,
}

impl<'a> Graph<'a> {
    fn new(metadata: &'a Value) -> Graph<'a> {
        let list = |value: &'a Value| value.as_array().map(Vec::as_slice).unwrap_or_default();
        let packages = list(&metadata["packages"]);
        let name_of = |id: &Value| {
            packages.iter().find(|package| package["id"] == *id).and_then(|package| package["name"].as_str())
        };
        let members = list(&metadata["workspace_members"]);
        let ours = members.iter().filter_map(name_of).collect();
        let mut edges = Vec::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let Some(from) = name_of(&node["id"]) else { continue };
            for dep in list(&node["deps"]) {
                let normal = list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
                if let (true, Some(to)) = (normal, name_of(&dep["pkg"])) {
                    edges.push((from, to));
                }
            }
        }
        Graph { ours, edges }
    }

    fn ours(&self) -> impl Iterator<Item = &'a str> {
        self.ours.iter().copied()
    }

    fn is_ours(&self, name: &str) -> bool {
        self.ours.contains(&name)
    }

    fn direct(&self, from: &str) -> impl Iterator<Item = &'a str> {
        self.edges.iter().filter(move |(a, _)| *a == from).map(|(_, b)| *b)
    }

    fn reach(&self, from: &str) -> Vec<&'a str> {
        let mut seen: Vec<&str> = Vec::new();
        let mut todo: Vec<&str> = self.direct(from).collect();
        while let Some(name) = todo.pop() {
            if !seen.contains(&name) {
                seen.push(name);
                todo.extend(self.direct(name));
            }
        }
        seen
    }
}
