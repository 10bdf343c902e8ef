//! tar-split: the archive is made again byte for byte, whatever was in it. (`Place::unpack` checks that of every
//! archive that any test unpacks; here are the rules of the format.)

use std::fs;
use std::io::{Read, Seek};

use plyfs_image::limits::Limits;
use plyfs_image::tarsplit;
use plyfs_image::tarsplit::AssembleError;
use plyfs_image::unpack::{UnpackOptions, unpack};
use plyfs_sys::{Dir, Leaf};

use crate::support::{Head, Place, Tar};

/// The record of an archive, gzipped, as the caller of a store would get it.
pub(crate) fn record_of(place: &Place, tar: &[u8]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let dir = Dir::open(scratch.path()).unwrap();
    let file = dir.create(&Leaf::from_bytes(b"tar-split.json.gz").unwrap(), 0o600).unwrap();
    let mut writer = tarsplit::Writer::new(file, &dir).unwrap();
    unpack(tar, &place.dir(), &UnpackOptions::new(&Limits::default()), Some(&mut writer)).unwrap();
    let mut file = writer.finish().unwrap();
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn lines(record: &[u8]) -> Vec<serde_json::Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(record).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_are_docker_s() {
    let place = Place::new();
    let tar =
        Tar::new().dir("./d/").file("d/f", "hello").pax(b'x', &[("path", b"raw\xff")]).file("x", "1").end();
    let record = lines(&record_of(&place, &tar));
    let brief: Vec<String> = record
        .iter()
        .map(|line| {
            let name = line.get("name").or(line.get("name_raw"));
            format!(
                "{} {} {} {:?}",
                line["position"],
                line["type"],
                line["size"],
                name.map(ToString::to_string)
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            "0 2 null None",
            "1 1 null Some(\"\\\"./d/\\\"\")",
            "2 2 null None",
            "3 1 5 Some(\"\\\"d/f\\\"\")",
            "4 2 null None",
            "5 1 1 Some(\"\\\"cmF3/w==\\\"\")",
            "6 2 null None",
        ]
    );
    // crc64.Checksum([]byte("hello"), crc64.MakeTable(crc64.ISO)) in Go, big-endian.
    assert_eq!(record[3]["payload"], "PD7u4tgQAAA=");
    assert!(record[1]["payload"].is_null());
}

/// Docker's reader refuses a name told twice (ErrDuplicatePath).
#[test]
fn names_are_told_once() {
    let place = Place::new();
    let tar = Tar::new()
        .dir("d")
        .file("d/a", "first")
        .file("d/a", vec![b'2'; 3 << 20])
        .file("d/a", "third")
        .dir("d/")
        .symlink("s", "d")
        .file("s/a", "fourth")
        .file("other", "kept")
        .hard_link("d/b", "d/a")
        .symlink("d/a", "b")
        .file("last", vec![b'l'; 100])
        .end();
    let bytes = record_of(&place, &tar);
    let record = lines(&bytes);
    let files = record.iter().filter(|line| line["type"] == 1);
    let mut names: Vec<_> =
        files.map(|line| line["name"].as_str().unwrap().trim_end_matches('/').to_owned()).collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(all, names.len(), "{names:?}");
    for (at, line) in record.iter().enumerate() {
        assert_eq!(line["position"], at as u64);
    }
    let mut again = Vec::new();
    tarsplit::assemble(&bytes[..], &place.dir(), &mut again).unwrap();
    assert!(again == tar);
}

#[test]
fn a_changed_layer_is_noticed() {
    let place = Place::new();
    let tar = Tar::new().dir("d").file("d/f", "hello").end();
    let record = record_of(&place, &tar);
    let assemble = |place: &Place| tarsplit::assemble(&record[..], &place.dir(), &mut std::io::sink());
    assemble(&place).unwrap();
    for text in ["hellO", "hell", "hello!"] {
        fs::write(place.at("d/f"), text).unwrap();
        assert!(matches!(assemble(&place), Err(AssembleError::Changed { .. })), "{text}");
    }
    // A link out of the layer is not followed, be it the file or a directory on the way.
    let outside = place.folder.path().join("canary");
    fs::write(outside.join("f"), "hello").unwrap();
    fs::remove_file(place.at("d/f")).unwrap();
    std::os::unix::fs::symlink(outside.join("f"), place.at("d/f")).unwrap();
    assert!(assemble(&place).is_err());
    fs::remove_dir_all(place.at("d")).unwrap();
    std::os::unix::fs::symlink(&outside, place.at("d")).unwrap();
    assert!(assemble(&place).is_err());
    let fifo = Place::new();
    fifo.unpack(&Tar::new().dir("d").raw(&Head::new("d/f", b'6'), b"").end()).unwrap();
    assert!(assemble(&fifo).is_err(), "would have waited for a writer");
}

#[test]
fn broken_records_are_errors() {
    let place = Place::new();
    let gzip = |text: &str| {
        let mut encoder = flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::fast());
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).unwrap();
        bytes
    };
    for text in [
        "{",
        "{\"type\":3,\"payload\":null,\"position\":0}",
        "{\"type\":2,\"payload\":\"***\",\"position\":0}",
        "{\"type\":1,\"name\":\"a\",\"size\":1,\"payload\":\"AA==\",\"position\":0}",
        "{\"type\":1,\"name\":\"../canary/file\",\"size\":9,\"payload\":\"AAAAAAAAAAA=\",\"position\":0}",
        "{\"type\":1,\"name\":\"/\",\"size\":9,\"payload\":\"AAAAAAAAAAA=\",\"position\":0}",
    ] {
        let done = tarsplit::assemble(&gzip(text)[..], &place.dir(), &mut std::io::sink());
        assert!(done.is_err(), "{text}");
    }
    assert!(tarsplit::assemble(&b"no gzip"[..], &place.dir(), &mut std::io::sink()).is_err());
}
