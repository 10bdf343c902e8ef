//! Throw-away.
use plyfs_image::{limits::Limits, tarsplit, unpack::*};
use plyfs_sys::{Dir, Leaf};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = Dir::open(args[2].as_ref()).unwrap();
    let limits = Limits::default();
    let options = UnpackOptions::new(&limits);
    let scratch = Dir::open(args[3].as_ref()).unwrap();
    let mut record = args.get(4).map(|_| {
        let leaf = Leaf::from_bytes(b"rec").unwrap();
        let _ = scratch.unlink(&leaf);
        tarsplit::Writer::new(scratch.create(&leaf, 0o600).unwrap(), &scratch).unwrap()
    });
    let start = std::time::Instant::now();
    let file = std::fs::File::open(&args[1]).unwrap();
    let done = unpack_blob(file, &dir, &options, record.as_mut()).unwrap();
    if let Some(record) = record {
        record.finish().unwrap();
    }
    eprintln!(
        "{:?} {:?} entries {} size {}",
        start.elapsed(),
        done.compression,
        done.layer.entries,
        done.layer.size
    );
}
