//! Valid archives with random damage: no panic, nothing outside touched, and what is accepted is made again.

use proptest::prelude::*;

use crate::support::{Head, Place, Tar};

/// One entry of a random archive: names from a small set, so that entries meet.
fn entry(tar: Tar, (kind, name, target, size): (u8, usize, usize, usize)) -> Tar {
    const NAMES: [&str; 12] = [
        "a",
        "b",
        "d/",
        "d/a",
        "d/b",
        "d/e/f",
        ".wh.a",
        "d/.wh.b",
        ".wh..wh..opq",
        ".wh..wh.plnk/a",
        "./",
        "b/x",
    ];
    const TARGETS: [&str; 9] = ["a", "d", "d/a", "../canary", "/", "..", ".wh..wh.plnk/a", "./b", "/d/e"];
    let (name, target) = (NAMES[name % NAMES.len()], TARGETS[target % TARGETS.len()]);
    match kind % 8 {
        0 | 1 => tar.file(name, vec![kind; size]),
        2 => tar.dir(name),
        3 => tar.symlink(name, target),
        4 => tar.hard_link(name, target),
        5 => tar.raw(&Head::new(name, b'6'), b""),
        6 => tar.pax(b'x', &[("mtime", b"1.5"), ("SCHILY.xattr.user.a", target.as_bytes())]).file(name, "x"),
        _ => tar.long(b'L', name.as_bytes()).file("short", target),
    }
}

fn archive() -> impl Strategy<Value = Vec<u8>> {
    let one = (any::<u8>(), 0usize..12, 0usize..9, 0usize..1500);
    proptest::collection::vec(one, 1..12).prop_map(|all| all.into_iter().fold(Tar::new(), entry).end())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_that_meet(tar in archive()) {
        // `unpack` looks at the canary, and makes the archive again if it was accepted.
        drop(Place::new().unpack(&tar));
    }

    #[test]
    fn damaged_bytes(
        tar in archive(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let mut tar = tar;
        for (at, byte, mend) in damage {
            let at = at.index(tar.len());
            tar[at] = byte;
            if mend {
                // With a right checksum, damage in a header reaches further.
                let block: &mut [u8] = &mut tar[at / 512 * 512..at / 512 * 512 + 512];
                crate::support::seal(block.try_into().unwrap());
            }
        }
        drop(Place::new().unpack(&tar));
    }

    #[test]
    fn cut_anywhere(tar in archive(), at in any::<prop::sample::Index>()) {
        let at = at.index(tar.len());
        drop(Place::new().unpack(&tar[..at]));
    }
}
