//! Arbitrary bytes as a layer: nothing panics, nothing outside the layer's directory is touched, and what is unpacked
//! is made again, byte for byte, by its tar-split record.
//!
//! The first byte is the mode: 0, the rest is an archive; 1, the same with the checksums of its headers mended, so that
//! damage gets further; 2, it is a blob, perhaps compressed. The seeds are written into the folder that the environment
//! variable PLYFS_SEEDS names.

#![no_main]

#[path = "../unpack_seeds.rs"]
mod seeds;

use std::fs;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use plyfs_image::limits::Limits;
use plyfs_image::tarsplit::{Writer, assemble};
use plyfs_image::unpack::{Owners, UnpackOptions, unpack, unpack_blob};
use plyfs_sys::{Dir, Leaf};

const LIMITS: [(&str, u64); 4] =
    [("layer_bytes", 1 << 22), ("entries", 500), ("ratio_from", 1 << 20), ("zstd_window_log", 20)];

fuzz_target!(init: write_seeds(), |data: &[u8]| {
    let Some((mode, bytes)) = data.split_first() else { return };
    let place = place();
    let layer = place.join("layer");
    let (Ok(()), Ok(into), Ok(scratch)) = (fs::create_dir(&layer), Dir::open(&layer), Dir::open(place)) else {
        panic!("no place to unpack")
    };
    let mut limits = Limits::default();
    for (name, value) in LIMITS {
        assert!(limits.set(name, value).is_some());
    }
    let options = UnpackOptions { owners: Owners::Ours, ..UnpackOptions::new(&limits) };
    match mode % 3 {
        2 => drop(unpack_blob(bytes, &into, &options, None)),
        1 => there_and_back(&mended(bytes), &into, &options, &scratch),
        _ => there_and_back(bytes, &into, &options, &scratch),
    }
    assert!(canary(place) == *BEFORE.get_or_init(Vec::new), "something outside was touched");
    clear(&layer);
});

fn write_seeds() {
    if let Some(folder) = std::env::var_os("PLYFS_SEEDS") {
        assert!(seeds::write(Path::new(&folder)).is_ok(), "no seeds written");
    }
}

fn there_and_back(tar: &[u8], into: &Dir, options: &UnpackOptions<'_>, scratch: &Dir) {
    let Some(leaf) = Leaf::from_bytes(b"record") else { return };
    let Ok(file) = scratch.create(&leaf, 0o600) else { panic!("no record") };
    let Ok(mut record) = Writer::new(file, scratch) else { panic!("no record") };
    assert!(scratch.unlink(&leaf).is_ok());
    let done = unpack(tar, into, options, Some(&mut record));
    let Ok(mut record) = record.finish() else { panic!("record not written") };
    match done {
        // Refusals are fine, and their messages must print.
        Err(e) => assert!(!e.to_string().is_empty()),
        Ok(done) => {
            assert!(record.rewind().is_ok());
            let mut again = Vec::new();
            match assemble(record, into, &mut again) {
                Ok(digest) => assert!(again == tar && digest == done.diff_id, "another archive was made"),
                Err(e) => panic!("the archive is not made again: {e}"),
            }
        }
    }
}

/// Every block that looks like a header gets the right checksum.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

static BEFORE: OnceLock<Vec<String>> = OnceLock::new();

/// The folder of this process, with a canary in it.
fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let shm = || Path::new("/dev/shm").join(format!("plyfs-fuzz-{}", std::process::id()));
        let place = std::env::var_os("PLYFS_SCRATCH").map_or_else(shm, PathBuf::from);
        clear(&place);
        let sub = place.join("canary/sub");
        let made = fs::create_dir_all(&sub).and_then(|()| fs::write(sub.join("file"), "untouched"));
        assert!(made.is_ok(), "no canary");
        assert!(BEFORE.set(canary(&place)).is_ok());
        place
    })
}

/// What is beside the layer.
fn canary(place: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![place.to_owned()];
    while let Some(folder) = todo.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { panic!("{} is gone", folder.display()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(stat) = fs::symlink_metadata(&path) else { continue };
            if path == place.join("layer") {
                continue;
            }
            let text =
                if stat.is_file() { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
            lines.push(format!("{} {:?} {:?} {text}", path.display(), stat.permissions(), stat.modified()));
            if stat.is_dir() {
                todo.push(path);
            }
        }
    }
    lines.sort();
    lines
}

fn clear(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{}: {e}", folder.display()),
        _ => {}
    }
}
