//! Archives that are ambiguous, endless, broken or another than promised (rows 9 to 12, 18, 19).

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use crate::support::{Head, Place, Tar, lost, seal};
use plyfs_image::digest::{DiffId, Digest};
use plyfs_image::limits::Limits;
use plyfs_image::unpack::{Loss, UnpackOptions, unpack_blob};

use crate::{exists, stat};

/// Row 9: the same name again, of any type: the last one counts.
#[test]
fn h09_duplicates() {
    type Make = fn(Tar) -> Tar;
    let kinds: [(&str, Make); 6] = [
        ("file", |tar| tar.file("n", "first, second or third")),
        ("empty", |tar| tar.file("n", "")),
        ("dir", |tar| tar.dir("n/").file("n/inside", "deep").dir("n/e").dir("n/e/f")),
        ("symlink", |tar| tar.symlink("n", "../canary")),
        ("hard link", |tar| tar.hard_link("n", "other")),
        ("fifo", |tar| tar.raw(&Head::new("n", b'6'), b"")),
    ];
    for (before, first) in kinds {
        for (after, second) in kinds {
            let place = Place::new();
            let tar = second(first(Tar::new().file("other", "text"))).file("last", "").end();
            let done = place.unpack(&tar).unwrap_or_else(|e| panic!("{before}, then {after}: {e}"));
            let alone = Place::new();
            let want =
                alone.unpack(&second(Tar::new().file("other", "text")).file("last", "").end()).unwrap();
            let kinds = |place: &Place| {
                let mut tree = crate::support::tree(&place.layer());
                tree.remove(std::path::Path::new(""));
                tree
            };
            assert_eq!(kinds(&place), kinds(&alone), "{before}, then {after}");
            assert_eq!(done.size, want.size, "{before}, then {after}");
        }
    }
    // A directory over a directory merges, and has the last one's attributes.
    let place = Place::new();
    let tar = Tar::new().dir("d").file("d/a", "1").raw(&Head::new("d", b'5').mode(0o700), b"").end();
    place.unpack(&tar).unwrap();
    assert_eq!((place.text("d/a"), stat(&place, "d").mode() & 0o7777), ("1".to_owned(), 0o700));
    // A file is not what other names lie below.
    place.refused(&Tar::new().file("f", "").file("f/x", "").end(), "another kind");
}

/// Row 10: archives that one reader reads so and another otherwise.
#[test]
fn h10_parser_disagreement() {
    // The PAX size counts: what a reader of the header alone takes for an entry is a file's contents.
    let inner = Tar::new().file("smuggled", "evil").end();
    let place = Place::new();
    let size = inner.len().to_string();
    let tar =
        Tar::new().pax(b'x', &[("size", size.as_bytes())]).raw(&Head::new("f", b'0').size(0), &inner).end();
    place.unpack(&tar).unwrap();
    assert!(!exists(&place, "smuggled") && stat(&place, "f").len() == inner.len() as u64);
    // An entry without contents that claims some.
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let place = Place::new();
        let head = Head::new("d", kind).link("x").size(1024);
        place.refused(&Tar::new().raw(&head, &inner).end(), "disagree");
        let tar =
            Tar::new().pax(b'x', &[("size", b"512")]).raw(&Head::new("d", kind).link("x"), &inner).end();
        place.refused(&tar, "disagree");
    }
    let place = Place::new();
    for records in [
        &[("size", &b"0"[..])][..],
        &[("path", b"x")],
        &[("linkpath", b"x")],
        &[("SCHILY.xattr.user.a", b"x")],
    ] {
        place.refused(&Tar::new().pax(b'g', records).file("a", "1").end(), "global header");
    }
    let one_zero = Tar::new().file("a", "").block(&[0; 512]).file("b", "").end();
    place.refused(&one_zero, "single block");
    let x = |tar: Tar| tar.pax(b'x', &[("path", b"p")]);
    place.refused(&x(x(Tar::new())).file("a", "").end(), "two extended headers");
    place.refused(&Tar::new().long(b'L', b"a").long(b'L', b"b").file("a", "").end(), "two extended headers");
    place.refused(&x(Tar::new()).end(), "without an entry");
    place.refused(&x(Tar::new()).long(b'L', b"other").file("a", "").end(), "disagree");
    let tar = Tar::new().pax(b'x', &[("linkpath", b"p")]).long(b'K', b"other").symlink("a", "x").end();
    place.refused(&tar, "disagree");
    place.refused(&Tar::new().raw(&Head::new("a", b'D'), b"").end(), "unknown type");
    let mut wrong = Head::new("a", b'0').block();
    wrong[0] ^= 1;
    place.refused(&Tar::new().block(&wrong).end(), "checksum");
    for size in ["-1", "0x10", "1e3", "99999999999999999999", " 1"] {
        place.refused(&Tar::new().pax(b'x', &[("size", size.as_bytes())]).file("a", "").end(), "number");
    }
    // Behind the end: told, and part of the digest.
    let place = Place::new();
    let tar = [Tar::new().file("a", "").end(), Tar::new().file("b", "").end()].concat();
    let done = place.unpack(&tar).unwrap();
    assert!(lost(&done, Loss::Trailing) && !exists(&place, "b"));
}

/// Row 11: huge extended headers, names, links, xattrs, maps of sparse files.
#[test]
fn h11_huge_headers() {
    let place = Place::new();
    for kind in [b'x', b'g', b'L', b'K'] {
        // Refused by what it says, before any of it is read.
        place.refused(&Tar::new().raw(&Head::new("x", kind).size(4 << 30), b"").end(), "pax_header");
    }
    let long = vec![b'n'; 5000];
    place.refused(&Tar::new().pax(b'x', &[("path", &long)]).file("a", "").end(), "limit name");
    place.refused(&Tar::new().pax(b'x', &[("linkpath", &long)]).symlink("a", "b").end(), "limit link");
    let value = vec![0; 70_000];
    place.refused(
        &Tar::new().pax(b'x', &[("SCHILY.xattr.user.a", &value)]).file("a", "").end(),
        "xattr_value",
    );
    let value = &value[..60_000];
    let names: Vec<String> = (0..5).map(|i| format!("SCHILY.xattr.user.{i}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (&name[..], value)).collect();
    place.refused(&Tar::new().pax(b'x', &records).file("a", "").end(), "xattrs_per_entry");
    let deep = "d/".repeat(300);
    place.refused(&Tar::new().pax(b'x', &[("path", deep.as_bytes())]).dir("d").end(), "limit depth");
    // Deeper with each symlink, though each name is short.
    let place = Place::new();
    let half = "d/".repeat(200);
    let tar = Tar::new()
        .pax(b'x', &[("path", half.as_bytes())])
        .dir("d")
        .long(b'K', &half.as_bytes()[..399])
        .symlink("s", "x");
    let rest = format!("s/{half}");
    place.refused(&tar.pax(b'x', &[("path", rest.as_bytes())]).dir("d").end(), "limit depth");
    let mut limits = Limits::default();
    limits.sparse_map = 1000;
    let error = place.unpack_with(&sparse_forever(), &UnpackOptions::new(&limits)).unwrap_err();
    assert!(error.to_string().contains("--limit sparse_map=N"), "{error}");
    let mut head = Head { gnu: true, ..Head::new("s", b'S') }.block();
    head[386..398].copy_from_slice(b"77777777777\0");
    head[398..410].copy_from_slice(b"77777777777\0");
    seal(&mut head);
    place.refused(&Tar::new().block(&head).end(), "map of a sparse file");
    let overlong = [b"9999999999 path=".to_vec(), vec![b'a'; 100], b"\n".to_vec()].concat();
    let tar =
        Tar::new().raw(&Head::new("x", b'x').size(overlong.len() as u64), &overlong).file("a", "").end();
    place.refused(&tar, "malformed");
}

/// A map that goes on and on.
fn sparse_forever() -> Vec<u8> {
    let mut head = Head { gnu: true, ..Head::new("s", b'S') }.block();
    head[482] = 1;
    head[483..495].copy_from_slice(b"77777777777\0");
    seal(&mut head);
    let mut tar = Tar::new().block(&head);
    let mut extension = [0; 512];
    for piece in extension[..504].chunks_exact_mut(24) {
        piece[..12].copy_from_slice(b"00000000001\0");
        piece[12..].copy_from_slice(b"00000000000\0");
    }
    extension[504] = 1;
    for _ in 0..1000 / 21 + 1 {
        tar = tar.block(&extension);
    }
    tar.end()
}

/// Row 12: bombs.
#[test]
fn h12_bombs() {
    let mut limits = Limits::default();
    let place = Place::new();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let blob = |blob: &[u8], limits: &Limits| {
        let error = unpack_blob(blob, &place.dir(), &UnpackOptions::new(limits), None).unwrap_err();
        place.check_canary();
        error.to_string()
    };
    (limits.ratio_from, limits.ratio) = (1 << 20, 20);
    let zeros = Tar::new().file("zeros", vec![0; 3 << 20]).end();
    for bomb in [gzip(&zeros), zstd::encode_all(&zeros[..], 3).unwrap()] {
        let error = blob(&bomb, &limits);
        assert!(error.contains("--limit ratio=N"), "{error}");
    }
    limits = Limits::default();
    limits.layer_bytes = 1 << 20;
    assert!(blob(&zeros, &limits).contains("layer_bytes"));
    // Holes count too.
    let mut hole = Head { gnu: true, ..Head::new("hole", b'S') }.block();
    hole[483..495].copy_from_slice(b"77777777777\0");
    seal(&mut hole);
    assert!(blob(&Tar::new().block(&hole).end(), &limits).contains("layer_bytes"));
    limits = Limits::default();
    limits.entries = 10;
    let many = (0..11).fold(Tar::new(), |tar, i| tar.file(i.to_string(), "")).end();
    assert!(blob(&many, &limits).contains("entries"));
    limits.entries = 11;
    limits.kept_in_memory = 1000;
    let dirs = (0..11).fold(Tar::new(), |tar, i| tar.dir(i.to_string())).end();
    assert!(blob(&dirs, &limits).contains("kept_in_memory"));
    // A frame that wants 2 GiB of memory.
    assert!(blob(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", &limits).contains("memory"));
}

/// Row 18: the digests are those of all that came. That they are compared is tested with archives and registries.
#[test]
fn h18_digests() {
    let place = Place::new();
    let limits = Limits::default();
    let tar = Tar::new().file("a", "text").end();
    let blob = zstd::encode_all(&tar[..], 1).unwrap();
    let done = unpack_blob(&blob[..], &place.dir(), &UnpackOptions::new(&limits), None).unwrap();
    assert_eq!((done.digest, done.size), (Digest::of(&blob), blob.len() as u64));
    assert_eq!(done.layer.diff_id, DiffId(Digest::of(&tar)));
    // A tail that only the digest knows of: behind the frames, behind the archive.
    let mut longer = tar.clone();
    longer.extend_from_slice(&[0; 10_000]);
    let place = Place::new();
    let done = unpack_blob(&longer[..], &place.dir(), &UnpackOptions::new(&limits), None).unwrap();
    assert_eq!((done.digest, done.layer.diff_id.0), (Digest::of(&longer), Digest::of(&longer)));
}

/// Row 19: broken compressed data is an error, wherever it breaks.
#[test]
fn h19_broken_compression() {
    let limits = Limits::default();
    let noise: Vec<u8> = (0..40_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let tar = Tar::new().file("a", &noise).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tar).unwrap();
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(&tar).unwrap();
    for blob in [gzip.finish().unwrap(), zstd.finish().unwrap()] {
        for cut in (7..blob.len()).step_by(blob.len() / 15) {
            let place = Place::new();
            let unpack = |blob: &[u8]| unpack_blob(blob, &place.dir(), &UnpackOptions::new(&limits), None);
            assert!(unpack(&blob[..cut]).is_err(), "cut at {cut} of {}", blob.len());
            let mut flipped = blob.clone();
            flipped[cut] ^= 0x10;
            // A flipped bit in a header's optional fields may go unnoticed here; the digest is another.
            if let Ok(done) = unpack(&flipped) {
                assert_ne!(done.digest, Digest::of(&blob));
            }
            place.check_canary();
        }
    }
}
