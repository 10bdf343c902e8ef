//! The fuzz target of both option grammars: mutated texts for $PLYFS_FUZZ_SECONDS (5 unless told), never a panic, and
//! what was read prints back to the same.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use plyfs_tests::random::{number, seed};
use plyfs_tests::tree::Random;
use plyfs_union::spec::{Unknown, parse};

/// Where mutation starts: what people write.
const CORPUS: &[&str] = &[
    "br:/rw=rw:/ro=ro+wh",
    "dirs=./container-layer:./image-layer4:./image-layer3",
    "br=/a=rw+nolwh:/b=rr:/c=ro,create=mfs:60,sum,udba=notify,xino=/x,noplink",
    "br:/a,ins:1:/b=ro+wh,append:/c=rr,prepend:/d=rw+moo,mod:/a=ro",
    "create=tdmfs:100m:30,cpup=bup,diropq=a,dirperm1,nowarn_perm,br:/a\\:b=rw:/c\\,d",
    "lowerdir=/a:/b\\:c:/d,upperdir=/u,workdir=/w",
    "lowerdir=/a,upperdir=/u,workdir=/w,uidmapping=0:1000:1:1:100000:65536,squash_to_uid=7,volatile",
    "remount,ro,add:0:/x=rw,del:/y,noatime,timeout=1.5,context=\"a,b\"",
    "lowerdir+=/a,lowerdir+=/b,xattr_permissions=2,noacl,fsname=x,allow_other,max_read=4096,nosuid",
];

/// Pieces that mean something to one of the grammars.
const PIECES: &[&str] = &[
    ",",
    ":",
    "=",
    "+",
    "\\",
    "\"",
    "rw",
    "ro",
    "rr",
    "wh",
    "br:",
    "dirs=",
    "lowerdir=",
    "/a",
    "..",
    "",
    " ",
    "\n",
    "0",
    "-1",
    "4294967296",
    "create=",
    "mfs",
    "remount",
    "\u{7f}",
    "del:",
    "mod:",
    "=rw=ro",
    "::",
    "%s",
    "//",
];

fn mutate(random: &mut Random, text: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() as u64 + 1) as usize;
        match random.below(6) {
            0 if !text.is_empty() => {
                let end = (at + random.below(8) as usize).min(text.len());
                text.drain(at.min(end)..end);
            }
            1 if at < text.len() => text[at] = random.below(256) as u8,
            2 => text.insert(at, random.below(256) as u8),
            3 => {
                let other = CORPUS[random.below(CORPUS.len() as u64) as usize].as_bytes();
                let from = random.below(other.len() as u64) as usize;
                text.splice(at..at, other[from..].iter().copied());
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len() as u64) as usize].as_bytes();
                text.splice(at..at, piece.iter().copied());
            }
        }
    }
}

/// A text that is read prints to one that is read as the same.
fn holds(text: &[u8]) -> bool {
    let mut read = false;
    for unknown in [Unknown::Refuse, Unknown::Warn] {
        let Ok(parsed) = parse(&[OsStr::from_bytes(text)], unknown) else { continue };
        if !parsed.actions.is_empty() {
            continue;
        }
        read = true;
        let printed = parsed.spec.options();
        let again = parse(&[&printed], unknown)
            .unwrap_or_else(|error| panic!("{printed:?} is not read back: {error}"));
        assert_eq!(again.spec, parsed.spec, "printed as {printed:?}");
    }
    read
}

#[test]
fn mutated_options_never_panic_and_print_back() {
    let limit = Duration::from_secs(number("PLYFS_FUZZ_SECONDS", 5));
    let mut random = Random::new(seed());
    let start = Instant::now();
    let (mut tried, mut read) = (0_u64, 0_u64);
    while start.elapsed() < limit {
        for _ in 0..1000 {
            let mut text = CORPUS[random.below(CORPUS.len() as u64) as usize].as_bytes().to_vec();
            mutate(&mut random, &mut text);
            tried += 1;
            let outcome = std::panic::catch_unwind(|| holds(&text));
            match outcome {
                Ok(yes) => read += u64::from(yes),
                Err(_) => panic!("seed {}: options text {:?}", seed(), OsStr::from_bytes(&text)),
            }
        }
    }
    eprintln!("{tried} texts, {read} of them read");
    assert!(read * 50 > tried, "the target hardly ever reaches past the first error: {read} of {tried}");
}
