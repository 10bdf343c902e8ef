//! Branches in both grammars: lists, permissions, attributes, escapes, places.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::*;

#[test]
fn aufs_lists() {
    keeps("br:/rw=rw:/ro=ro");
    keeps("br:/rw=rw:/a=ro+wh:/b=rr");
    check("br=/rw=rw:/ro=ro", "br:/rw=rw:/ro=ro");
    check("dirs=/rw=rw:/ro=ro", "br:/rw=rw:/ro=ro");
    check("br:/a=rw,br=/b=ro,dirs=/c=ro:/d=rr", "br:/a=rw:/b=ro:/c=ro:/d=rr");
    check("br:/a=rw:/b=ro:", "br:/a=rw:/b=ro");
    check("br:/a=rw::", "br:/a=rw");
    keeps("br:relative/dir=rw");
    keeps("br: /with blank =rw");
    refuses("br:/a=rw::/b=ro", "empty element in '/a=rw::/b=ro'");
    refuses("br::/b", "empty element");
    refuses("br:", "'br' needs a value");
    refuses("br::", "'br' needs a value");
    refuses("dirs=", "'dirs' needs a value");
    refuses("br", "'br' needs a value");
    refuses("br:=rw", "the directory is missing");
    refuses("ro", "no branches");
    refuses("", "no branches");
    refuses("br:/a,del:/a", "no branches");
    unknown("br:/a", "dirs:/b");
}

#[test]
fn aufs_places() {
    check("br:/a=rw,append:/b=ro", "br:/a=rw:/b=ro");
    check("br:/a=rw,append=/b=ro", "br:/a=rw:/b=ro");
    check("br:/a=ro,prepend:/b=rw", "br:/b=rw:/a=ro");
    check("br:/a=rw:/c=ro,add:1:/b=ro", "br:/a=rw:/b=ro:/c=ro");
    check("br:/a=rw:/c=ro,ins=1:/b=ro", "br:/a=rw:/b=ro:/c=ro");
    check("br:/a=rw,add:1:/b=ro", "br:/a=rw:/b=ro");
    check("append:/a=rw", "br:/a=rw");
    // Lists count on from index 0, whatever is there already.
    check("prepend:/p=rw,br:/a=ro:/b=ro", "br:/a=ro:/b=ro:/p=rw");
    check("br:/a=rw:/b=ro,del:/b", "br:/a=rw");
    check("br:/a=rw:/b=ro,mod:/b=rr+wh", "br:/a=rw:/b=rr+wh");
    refuses("br:/a,add:2:/b", "index 2 is out of range");
    refuses("br:/a,add:x:/b", "INDEX:DIR");
    refuses("br:/a,add:/b", "INDEX:DIR");
    refuses("br:/a,add:1:", "one branch");
    refuses("br:/a,append:/b:/c", "one branch");
    refuses("br:/a,append:", "'append' needs a value");
    refuses("br:/a,del:/b", "'/b' is not a branch");
    refuses("br:/a,mod:/b=ro", "'/b=ro' is not a branch");
    refuses("br:/a,mod:/a", "the permission is needed");
    refuses("br:/a:/a", "branch '/a' is given twice");
    refuses("lowerdir=/a:/b:/a", "branch '/a' is given twice");
}

#[test]
fn aufs_default_permissions() {
    let perms = |text: &str| -> Vec<(Perm, bool)> {
        spec(text).branches.iter().map(|b| (b.perm, b.perm_said)).collect()
    };
    let (rw, ro) = ((Perm::Rw, false), (Perm::Ro, false));
    assert_eq!(perms("br:/a:/b"), [rw, ro]);
    assert_eq!(perms("br:/a:/b,ro"), [ro, ro]);
    assert_eq!(perms("ro,br:/a:/b,rw"), [rw, ro]);
    assert_eq!(perms("br:/a,br:/b"), [rw, ro]);
    assert_eq!(perms("br:/a=rw:/b="), [(Perm::Rw, true), (Perm::Ro, true)]);
    // A default of a place since lost is as good as said.
    assert_eq!(perms("br:/a,prepend:/b"), [rw, (Perm::Rw, true)]);
    assert_eq!(perms("append:/a"), [(Perm::Ro, true)]);
    keeps("br:/a:/b");
    check("br:/a:/b,ro", "br:/a:/b,ro");
    check("br:/a,prepend:/b", "br:/b:/a=rw");
    check("append:/a", "br:/a=ro");
    check("br:/a=", "br:/a=ro");
}

#[test]
fn filesystem_settles_what_was_not_said() {
    let settled = |text: &str, fs: &str| {
        let mut spec = spec(text);
        spec.branches[0].settle(fs);
        spec.options()
    };
    assert_eq!(settled("br:/a:/b", "squashfs"), "br:/a=rr:/b");
    assert_eq!(settled("br:/a:/b", "ext4"), "br:/a:/b");
    assert_eq!(settled("br:/a=ro:/b", "iso9660"), "br:/a=ro:/b");
    let mut branch = spec("br:/a").branches.remove(0);
    branch.settle_magic(0xef53);
    assert_eq!(branch.perm, Perm::Rw);
    branch.settle_magic(0x7371_7368);
    assert_eq!(branch.perm, Perm::Rr);
}

#[test]
fn aufs_attributes() {
    keeps("br:/a=rw+coo_reg+fhsm+icex+nolwh:/b=ro+coo_all+icexsec+icextr+wh");
    keeps("br:/a=rw+moo+nolwh");
    check("br:/a=rw+nolwh+fhsm", "br:/a=rw+fhsm+nolwh");
    check("br:/a=ro+wh+fhsm+fhsm", "br:/a=ro+fhsm+wh");
    check("br:/a=ro+icexoth+icexusr+icextr+icexsys+icexsec", "br:/a=ro+icex");
    check("br:/a=ro+icex+icexsec", "br:/a=ro+icex");
    // The last of the three counts.
    check("br:/a=rw+coo_reg+coo_all", "br:/a=rw+coo_all");
    check("br:/a=rw+moo+coo_reg", "br:/a=rw+coo_reg");
    warns("br:/a=rw+wh", "br:/a=rw", &["always honours whiteouts"]);
    warns("br:/a=ro+nolwh", "br:/a=ro", &["'nolwh' ignored"]);
    warns("br:/a=rr+coo_reg+moo", "br:/a=rr", &["'moo' ignored"]);
    warns("br:/a=rw+unpin+fhsm", "br:/a=rw+fhsm", &["'unpin' ignored"]);
    warns("br:/a=rw+fhsm+junk+nolwh", "br:/a=rw+fhsm", &["unknown attribute 'junk'"]);
    warns("br:/a=ro+", "br:/a=ro", &["unknown attribute ''"]);
    warns("br:/a=wo+wh", "br:/a=ro", &["unknown permission 'wo'"]);
    warns("br:/a=+wh", "br:/a=ro", &["unknown permission ''"]);
    warns("br:/a=RW:/b=x", "br:/a=ro:/b=ro", &["'RW'", "'x'"]);
    warns("br:/a=rw=ro", "br:/a=ro", &["unknown permission 'rw=ro'"]);
}

#[test]
fn aufs_escapes() {
    let path = |text: &str| spec(text).branches[0].path.clone();
    assert_eq!(path(r"br:/a\:b\,c\=d\\e=rw"), Path::new(r"/a:b,c=d\e"));
    assert_eq!(path(r"br:/a\b=rw"), Path::new(r"/a\b"));
    assert_eq!(path(r"br:/a\\:/b"), Path::new(r"/a\"));
    assert_eq!(path(r"br:/a\"), Path::new(r"/a\"));
    assert_eq!(path("br:/a\"b"), Path::new("/a\"b"));
    keeps(r"br:/a\:b\,c\=d\\e=rw:/x");
    check(r"br:/a\b=rw", r"br:/a\\b=rw");
    check(r"br:/a,append:/b\:c", r"br:/a:/b\:c");
    check(r"br:/a\=b,mod:/a\=b=rr", r"br:/a\=b=rr");
    check(r"br:/a:/x\:y,del:/x\:y", "br:/a");
    keeps(r"br:/a,xino=/x\,y:z=\\");
    keeps(r"br:/a,fsname=a\,b");
    check(r"br:/a,comment=x\", r"br:/a,comment=x\\");
    // Each argument of -o ends by itself.
    let parsed = parse(&[OsStr::new(r"br:/a\"), OsStr::new("ro")], Unknown::Refuse).unwrap();
    assert_eq!(parsed.spec.options(), r"br:/a\\,ro");
}

#[test]
fn overlay_directories() {
    keeps("lowerdir=/a:/b,upperdir=/u,workdir=/w");
    keeps("lowerdir=/a:/b");
    check("upperdir=/u,workdir=/w,lowerdir=/a:", "lowerdir=/a,upperdir=/u,workdir=/w");
    check("lowerdir=/a,lowerdir+=/b:c,upperdir=/u", r"lowerdir=/a:/b\:c,upperdir=/u");
    keeps("lowerdir=/l/XXX/../diff1:/l/ABC");
    keeps("lowerdir=/a=b:/c,upperdir=/u:v=w,workdir=/w:x");
    keeps(r"lowerdir=/a\:b:/c\,d:/e\\f,upperdir=/u\,v");
    check(r"lowerdir=/a\b,upperdir=/\u\:", "lowerdir=/ab,upperdir=/u:");
    let spec = spec("lowerdir=/a:/b,upperdir=/u");
    assert_eq!(spec.grammar, Grammar::Overlay);
    let lower = |path: &str| BranchSpec::new(path, Perm::Ro).with_wh();
    assert_eq!(spec.branches, [BranchSpec::new("/u", Perm::Rw), lower("/a"), lower("/b")]);
    assert!(spec.branches.iter().all(BranchSpec::reads_whiteouts));
    refuses("lowerdir=/a::/b", "empty element");
    refuses("lowerdir=:/b", "empty element");
    refuses("lowerdir=", "'lowerdir' needs a value");
    refuses("lowerdir=/a,lowerdir=/b", "'lowerdir' is given twice");
    refuses("lowerdir=/a,upperdir=/u,upperdir=/v", "'upperdir' is given twice, the second time as '/v'");
    refuses("lowerdir=/a,workdir=/u,workdir=/v", "'workdir' is given twice");
    refuses("upperdir=/u,workdir=/w", "needs lowerdir=");
    refuses("workdir=/w", "'lowerdir' needs a value");
    refuses("lowerdir=/a,upperdir=", "'upperdir' needs a value");
    refuses("br:/a,lowerdir=/b", "mix two grammars: 'br' is AUFS's, 'lowerdir' is overlay's");
    refuses("upperdir=/a,append:/b", "mix two grammars");
}

#[test]
fn branches_in_number() {
    let list = |count: usize| (0..count).map(|n| format!("/layer/{n}")).collect::<Vec<_>>().join(":");
    for start in ["br:", "lowerdir="] {
        keeps(&format!("{start}{}", list(500)));
        refuses(&format!("{start}{}", list(501)), "501 branches; at most 500");
    }
}

#[test]
fn bytes_survive() {
    let options = b"br:/\xff\xfe=rw:/\x80,xino=/\xc3,fsname=\xf0,comment=\xe9";
    let parsed = parse(&[OsStr::from_bytes(options)], Unknown::Refuse).unwrap();
    assert_eq!(parsed.spec.branches[0].path.as_os_str().as_bytes(), b"/\xff\xfe");
    assert_eq!(parsed.spec.options().as_bytes(), options);
    let options = b"lowerdir=/\xff:/\xfe,upperdir=/\xfd,workdir=/\xfc";
    let parsed = parse(&[OsStr::from_bytes(options)], Unknown::Refuse).unwrap();
    assert_eq!(parsed.spec.options().as_bytes(), options);
    refuses("br:/a\0b", "NUL byte");
    let error = parse(&[OsStr::from_bytes(b"br:/a,\xff\xfe=1")], Unknown::Refuse).unwrap_err();
    assert_eq!(error.to_string(), r"unknown option '\xff\xfe=1'");
}

#[test]
fn si_files() {
    let text = |path: &[u8], branch: &str| {
        let spec = spec(&format!("br:{branch}"));
        branch_text(Path::new(OsStr::from_bytes(path)), &spec.branches[0])
    };
    assert_eq!(text(b"/rw", "x=rw"), b"/rw=rw");
    assert_eq!(text(b"/a", "x=ro+wh+icexsec"), b"/a=ro+icexsec+wh");
    assert_eq!(text(b"/a", "x=rw+nolwh+moo+fhsm"), b"/a=rw+fhsm+moo+nolwh");
    assert_eq!(text(b"/a b\tc\x01\x1f\\\x7f", "x=rr"), br"/a\040b\011c\001\037\134\177=rr");
    assert_eq!(text(b"/\xff!=:,", "x=rr"), b"/\xff!=:,=rr");
    // Never read from a text, but printed in its place.
    let mut branch = BranchSpec::new("/a", Perm::Rw);
    branch.other = vec![BranchAttr::Unpin, BranchAttr::CooReg];
    assert_eq!(branch_text(&branch.path.clone(), &branch), b"/a=rw+coo_reg+unpin");
}
