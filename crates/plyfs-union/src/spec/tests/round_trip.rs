//! Property tests: every spec prints to a text that reads as the same spec; every text that is read prints to one that
//! reads the same and prints as itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::aufs::default_perm;
use super::*;

/// Any bytes but NUL, with what the grammars care about much more often than by chance.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let special = select(&b":,=\\\"+/. \xffaw"[..]);
    vec(prop_oneof![special, 1u8..=255], 1..12)
}

fn path() -> impl Strategy<Value = PathBuf> {
    bytes().prop_map(|b| OsString::from_vec(b).into())
}

fn attrs() -> impl Strategy<Value = Vec<BranchAttr>> {
    use BranchAttr::*;
    let many = subsequence(vec![Fhsm, IcexSec, IcexSys, IcexTr, IcexUsr, IcexOth], 0..=6);
    (of(select(vec![CooReg, CooAll])), many).prop_map(|(coo, many)| coo.into_iter().chain(many).collect())
}

fn aufs_branch() -> impl Strategy<Value = BranchSpec> {
    let perm = select(vec![Perm::Rw, Perm::Ro, Perm::Rr]);
    (path(), perm, any::<bool>(), any::<bool>(), any::<bool>(), attrs()).prop_map(
        |(path, perm, perm_said, wh, nolwh, other)| match perm_said {
            true => BranchSpec {
                path,
                perm,
                perm_said,
                wh: wh && perm != Perm::Rw,
                nolwh: nolwh && perm == Perm::Rw,
                other,
            },
            false => BranchSpec { path, ..BranchSpec::default() },
        },
    )
}

fn kernel() -> impl Strategy<Value = KernelFlags> {
    let flags = any::<[bool; 5]>();
    let choices = any::<[Option<bool>; 3]>();
    let atime = select(vec![Atime::Unsaid, Atime::Noatime, Atime::Relatime, Atime::Strictatime]);
    (flags, choices, atime, of(1u32..)).prop_map(|(f, c, atime, max_write)| KernelFlags {
        read_only: f[0],
        nosuid: c[0],
        nodev: c[1],
        noexec: f[1],
        atime,
        sync: f[2],
        dirsync: f[3],
        allow_other: c[2],
        allow_root: f[4],
        max_write,
    })
}

fn speed() -> impl Strategy<Value = Speed> {
    let plus = select(vec![Readdirplus::Always, Readdirplus::Auto, Readdirplus::Never]);
    let flags = any::<(Option<bool>, bool, bool, bool, Option<bool>)>();
    (plus, flags, of(1u32..=256)).prop_map(
        |(readdirplus, (passthrough, no_dir_cache, birth_times, io_uring, metacopy), max_threads)| Speed {
            passthrough,
            birth_times,
            readdirplus,
            no_dir_cache,
            io_uring,
            metacopy,
            max_threads,
            ..Speed::default()
        },
    )
}

fn create() -> impl Strategy<Value = CreatePolicy> {
    let sec = || of(0u32..=3600);
    prop_oneof![
        Just(CreatePolicy::Tdp),
        Just(CreatePolicy::Rr),
        sec().prop_map(|sec| CreatePolicy::Mfs { sec }),
        sec().prop_map(|sec| CreatePolicy::Pmfs { sec }),
        (any::<u64>(), sec()).prop_map(|(low, sec)| CreatePolicy::Tdmfs { low, sec }),
        (any::<u64>(), sec()).prop_map(|(low, sec)| CreatePolicy::MfsRr { low, sec }),
        (any::<u64>(), sec()).prop_map(|(low, sec)| CreatePolicy::PmfsRr { low, sec }),
    ]
}

fn id_map() -> impl Strategy<Value = Vec<IdRange>> {
    let half = u32::MAX / 2;
    let range = (0..half, 0..half, 1..half);
    vec(range.prop_map(|(inside, outside, count)| IdRange { inside, outside, count }), 0..3)
}

prop_compose! {
    /// All that is printed the same way in both grammars.
    fn options()(
        kernel in kernel(),
        flags in any::<[bool; 8]>(),
        create in create(),
        copyup in select(vec![CopyupPolicy::Tdp, CopyupPolicy::Bup, CopyupPolicy::Bu]),
        udba in select(vec![Udba::None, Udba::Reval, Udba::Notify]),
        maps in (id_map(), id_map()),
        speed in speed(),
        ids in (of(0..u32::MAX), of(0..u32::MAX)),
        xattr_permissions in 0u8..=2,
        image_index in of(path()),
        timeout in of((0..u64::MAX).prop_map(Seconds)),
        source in of(bytes().prop_map(OsString::from_vec)),
        inert in subsequence(vec!["nofail", "debug", "context=\"a,b\\\"", "comment=a\\,b:c", "x-y=\u{e9}"], 0..=5),
    ) -> MountSpec {
        MountSpec {
            kernel, speed, create, copyup, udba, xattr_permissions, timeout, source, image_index,
            strict: flags[0], noplink: flags[1], diropq_always: flags[2], sum: flags[3],
            volatile: flags[4], noacl: flags[5], noxattrs: flags[6],
            uid_map: maps.0, gid_map: maps.1,
            squash: Squash { root: flags[7], uid: ids.0, gid: ids.1 },
            inert: inert.into_iter().map(OsString::from).collect(),
            ..MountSpec::default()
        }
    }
}

fn distinct(branches: Vec<BranchSpec>) -> Vec<BranchSpec> {
    let mut kept: Vec<BranchSpec> = Vec::new();
    for branch in branches {
        if kept.iter().all(|b| b.path != branch.path) {
            kept.push(branch);
        }
    }
    kept
}

fn aufs_spec() -> impl Strategy<Value = MountSpec> {
    let xino = of(prop_oneof![Just(Vec::new()), bytes()]);
    (options(), vec(aufs_branch(), 1..8), xino).prop_map(|(mut spec, branches, xino)| {
        spec.branches = distinct(branches);
        for (index, branch) in spec.branches.iter_mut().enumerate() {
            if !branch.perm_said {
                branch.perm = default_perm(index == 0, spec.kernel.read_only);
            }
        }
        spec.xino = xino.map(OsString::from_vec);
        spec
    })
}

fn overlay_spec() -> impl Strategy<Value = MountSpec> {
    let branches = (of(path()), vec(path(), 2..8));
    (options(), branches, of(path()), any::<bool>()).prop_map(
        |(mut spec, (upper, lower), workdir, noxino)| {
            let upper = upper.into_iter().map(|path| BranchSpec::new(path, Perm::Rw));
            let lower = lower.into_iter().map(|path| BranchSpec::new(path, Perm::Ro).with_wh());
            spec.branches = distinct(upper.chain(lower).collect());
            // Two equal lower directories leave one, an upper one may be left alone.
            if spec.branches.len() == 1 {
                spec.branches[0] = BranchSpec::new("/lower", Perm::Ro).with_wh();
            }
            spec.grammar = Grammar::Overlay;
            spec.workdir = workdir;
            spec.xino = noxino.then(OsString::new);
            spec
        },
    )
}

/// Reads `text`, which must say `spec`.
fn says(text: &OsStr, spec: &MountSpec) -> Result<(), TestCaseError> {
    let parsed =
        parse(&[text], Unknown::Refuse).map_err(|e| TestCaseError::fail(format!("{text:?}: {e}")))?;
    prop_assert_eq!(&parsed.spec, spec, "{:?}", text);
    // Paths compare by components; texts by bytes.
    prop_assert_eq!(parsed.spec.options(), text);
    prop_assert_eq!(parsed.warnings, Vec::<String>::new());
    Ok(())
}

/// Words of both grammars, good and bad, to be put together at random.
const PIECES: &[&str] = &[
    "br:",
    "br=",
    "dirs=",
    "append:",
    "prepend:",
    "add:0:",
    "ins:1:",
    "del:",
    "mod:",
    "/a",
    "/b",
    "/c",
    "=rw",
    "=ro+wh",
    "=rr",
    "=",
    "+moo",
    "+junk",
    ":",
    ",",
    "\\",
    "\"",
    "lowerdir=",
    "lowerdir+=",
    "upperdir=",
    "workdir=",
    "ro",
    "rw",
    "xino=",
    "create=",
    "mfs",
    "tdmfs:1",
    ":2",
    "udba=",
    "none",
    "uidmapping=",
    "0:1:2",
    "timeout=",
    "1",
    ".5",
    "context=",
    "c1",
    "x-",
    "comment=",
    "remount",
    "droplvl=",
    "-3",
    "ephemeral",
    "dio",
    "rdblk=",
    "def",
    "user",
    "exec",
    "noxattrs",
    "fsname=",
    "strict",
    "atime",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = select(PIECES).prop_map(|p| p.as_bytes().to_vec());
    vec(prop_oneof![4 => piece, 1 => bytes()], 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn aufs_specs(spec in aufs_spec()) {
        prop_assert_eq!(spec.check(), Ok(()));
        says(&spec.options(), &spec)?;
    }

    #[test]
    fn overlay_specs(spec in overlay_spec()) {
        prop_assert_eq!(spec.check(), Ok(()));
        says(&spec.options(), &spec)?;
    }

    #[test]
    fn read_texts(text in text(), warn in any::<bool>(), start in select(vec!["", "br:/x,", "lowerdir=/x,"])) {
        let text = [start.as_bytes(), &text].concat();
        let unknown = if warn { Unknown::Warn } else { Unknown::Refuse };
        if let Ok(parsed) = parse(&[OsStr::from_bytes(&text)], unknown) && parsed.actions.is_empty() {
            let printed = parsed.spec.options();
            let again = parse(&[&printed], Unknown::Refuse)
                .map_err(|e| TestCaseError::fail(format!("{printed:?}: {e}")))?;
            prop_assert_eq!(&again.spec, &parsed.spec, "{:?}", printed);
            prop_assert_eq!(again.spec.options(), printed);
        }
    }
}
