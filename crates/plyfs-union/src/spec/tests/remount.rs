//! `remount`: options on top of what is mounted, changes of branches as actions in order.

use std::ffi::OsStr;

use super::super::remount;
use super::*;

fn again(base: &str, text: &str) -> Parsed {
    remount(&spec(base), &[OsStr::new(text)], Unknown::Refuse).expect(text)
}

#[test]
fn actions_in_order() {
    let text = "remount,prepend:/day1,xino=/day1/xino,mod:/day0=ro,del:/day0,add:1:/x=rr,append:/y";
    let parsed = again("br:/day0=rw:/base", text);
    let unsaid = |path: &str, perm| BranchSpec { perm_said: false, ..BranchSpec::new(path, perm) };
    let want = [
        Action::Remount,
        Action::Prepend(unsaid("/day1", Perm::Rw)),
        Action::Modify(BranchSpec::new("/day0", Perm::Ro)),
        Action::Delete("/day0".into()),
        Action::Insert { index: 1, branch: BranchSpec::new("/x", Perm::Rr) },
        Action::Append(unsaid("/y", Perm::Ro)),
    ];
    assert_eq!(parsed.actions, want);
    assert_eq!(parsed.spec.options(), "br:/day0=rw:/base,xino=/day1/xino");
}

#[test]
fn options_stay_unless_said() {
    let check = |base: &str, text: &str, want: &str| {
        let parsed = again(base, text);
        assert_eq!(parsed.spec.options(), want, "{base} {text}");
        assert_eq!(parsed.actions, [Action::Remount], "{base} {text}");
    };
    check("br:/a=rw,udba=none,dio", "remount,sum", "br:/a=rw,udba=none,sum,dio");
    check("br:/a=rw,ro,sum", "remount,rw,nosum", "br:/a=rw");
    // The branch keeps what it was; only the text must say it now.
    check("br:/a", "remount,ro", "br:/a=rw,ro");
    check("lowerdir=/a,upperdir=/b", "remount,ro", "lowerdir=/a,upperdir=/b,ro");
}

#[test]
fn lists_of_fstab_come_again() {
    let parsed = again("br:/a=rw:/b=ro", "br:/a=rw:/b=ro,remount,ro");
    let insert = |index, branch| Action::Insert { index, branch };
    let branches = [BranchSpec::new("/a", Perm::Rw), BranchSpec::new("/b", Perm::Ro)];
    let [a, b] = branches;
    assert_eq!(parsed.actions, [Action::Remount, insert(0, a), insert(1, b)]);
    let parsed = again("lowerdir=/a,upperdir=/b", "remount,lowerdir=/a,upperdir=/b,ro");
    assert_eq!(parsed.warnings.len(), 2);
    assert_eq!(parsed.spec.options(), "lowerdir=/a,upperdir=/b,ro");
}

#[test]
fn helper_learns_of_it() {
    let parsed = read("remount,ro,append:/x", Unknown::Warn).unwrap();
    assert_eq!(parsed.actions.len(), 2);
    assert_eq!(parsed.actions[0], Action::Remount);
    assert_eq!(read("remount,verbose", Unknown::Warn).unwrap().actions, [Action::Remount]);
    refuses("remount,append:/a,lowerdir=/b", "mix two grammars");
    refuses("remount=1,br:/a", "takes no value");
}

#[test]
fn grammar_of_the_mount_rules() {
    let base = spec("lowerdir=/a,upperdir=/b");
    let error = remount(&base, &[OsStr::new("append:/c")], Unknown::Refuse).unwrap_err();
    assert!(error.to_string().contains("known with br: only"), "{error}");
}
