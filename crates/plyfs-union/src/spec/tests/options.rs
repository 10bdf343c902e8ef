//! Options beside the branches: AUFS's table, fuse-overlayfs' and kernel overlayfs' words, mount(8)'s flags.

use super::*;

/// `option` after `br:/a` prints as `want`.
#[track_caller]
fn a(option: &str, want: &str) {
    let comma = if want.is_empty() { "" } else { "," };
    check(&format!("br:/a,{option}"), &format!("br:/a{comma}{want}"));
}

/// The same after `lowerdir=/a`.
#[track_caller]
fn o(option: &str, want: &str) {
    let comma = if want.is_empty() { "" } else { "," };
    check(&format!("lowerdir=/a,{option}"), &format!("lowerdir=/a{comma}{want}"));
}

/// In both.
#[track_caller]
fn both(option: &str, want: &str) {
    a(option, want);
    o(option, want);
}

/// Refused in both.
#[track_caller]
fn neither(option: &str, part: &str) {
    refuses(&format!("br:/a,{option}"), part);
    refuses(&format!("lowerdir=/a,{option}"), part);
}

#[test]
fn create_policies() {
    for word in ["rr", "mfs", "mfs:0", "mfs:3600", "tdmfs:1", "tdmfs:0:30", "mfsrr:18446744073709551615"] {
        both(&format!("create={word}"), &format!("create={word}"));
    }
    for word in ["mfsrr:5:6", "pmfs", "pmfs:7", "pmfsrr:8", "pmfsrr:8:9"] {
        both(&format!("create={word}"), &format!("create={word}"));
    }
    a("create=tdp", "");
    a("create=top-down-parent", "");
    a("create=round-robin", "create=rr");
    a("create_policy=most-free-space:4", "create=mfs:4");
    a("create=most-free-space", "create=mfs");
    a("create=rr,create=tdp", "");
    for bad in
        ["mfs:3601", "mfs:", "mfs:x", "mfs:1:2", "tdmfs", "tdmfs:", "tdmfs:4K", "tdmfs:1:2:3", "tdmfs:1:3601"]
    {
        neither(&format!("create={bad}"), &format!("'create': '{bad}' is not right"));
    }
    for bad in
        ["mfsrr", "mfsrr:18446744073709551616", "pmfsrr", "pmfsrr:-1", "pmfs:010", "tdp:1", "rr:1", "xyz"]
    {
        neither(&format!("create={bad}"), "tdmfs:LOW[:SEC]");
    }
    neither("create=", "needs a value");
    neither("create", "needs a value");
}

#[test]
fn other_policies() {
    a("cpup=bup", "cpup=bup");
    a("cpup=tdp", "");
    a("copyup=bottom-up", "cpup=bu");
    a("copyup_policy=bottom-up-parent", "cpup=bup");
    a("cpup=top-down-parent", "");
    neither("cpup=x", "tdp, bup or bu");
    both("udba=none", "udba=none");
    a("udba=reval", "");
    a("udba=notify", "udba=notify");
    a("udba=fsnotify", "udba=notify");
    a("udba=inotify", "udba=notify");
    neither("udba=never", "none, reval or notify");
    a("diropq=always", "diropq=a");
    a("diropq=a", "diropq=a");
    a("diropq=w", "");
    a("diropq=whiteouted", "");
    neither("diropq=x", "whiteouted (w) or always (a)");
}

#[test]
fn aufs_words() {
    a("noplink", "noplink");
    a("noplink,plink", "");
    a("sum", "sum");
    a("sum,nosum", "");
    a("noacl", "noacl");
    a("acl", "");
    a("noxino", "noxino");
    a("xino=/x/.aufs.xino", "xino=/x/.aufs.xino");
    a("noxino,xino=/x", "xino=/x");
    refuses("br:/a,xino=", "'xino' needs a value");
    for word in
        ["trunc_xib", "notrunc_xib", "trunc_xino", "trunc_xino=/a", "trunc_xino_path=/a", "notrunc_xino"]
    {
        a(word, word);
    }
    for word in ["itrunc_xino=0", "dio", "nodio", "verbose", "v", "noverbose", "quiet", "q", "silent"] {
        a(word, word);
    }
    for word in ["dirwh=3", "rdblk=0", "rdblk=255", "rdblk=def", "rdhash=0", "rdhash=def", "rdcache=3600"] {
        a(word, word);
    }
    for word in
        ["warn_perm", "nowarn_perm", "noshwh", "dirperm1", "nodirperm1", "dirren", "nodirren", "fhsm_sec=30"]
    {
        a(word, word);
        unknown("lowerdir=/a", word);
    }
    for bad in
        ["dirwh=-1", "dirwh=x", "rdblk=254", "rdhash=-1", "rdcache=3601", "rdcache=def", "itrunc_xino=x"]
    {
        refuses(&format!("br:/a,{bad}"), "is not right");
    }
    refuses("br:/a,fhsm_sec=", "needs a value");
    a("si=972c6d361e6b32ba,dio,dirperm1", "dio,dirperm1");
    a("nodlgt", "");
    a("debug", "debug");
}

#[test]
fn aufs_warnings() {
    let w = |word: &str, part: &str| warns(&format!("br:/a,{word}"), "br:/a", &[part]);
    w("idel:1", "reserved");
    w("imod:1=ro", "reserved");
    w("zxino=/x", "reserved");
    w("trunc_xino_v=1:2", "reserved");
    w("clean_plink", "obsolete");
    w("list_plink", "obsolete");
    w("debug=1", "obsolete");
    w("delete=all", "obsolete");
    w("imap=/x", "obsolete");
    warns("br:/a,wsum", "br:/a,wsum", &["not implemented"]);
    warns("br:/a,shwh", "br:/a,shwh", &["never shown"]);
}

#[test]
fn droplvl() {
    a("droplvl=1", "noatime,udba=none,dirperm1,nodirren");
    a("droplvl=2", "noatime,udba=none,dirperm1,nodirren,notrunc_xino,notrunc_xib");
    let three = "noatime,noxino,udba=none,noplink,dirperm1,nodirren,notrunc_xino,notrunc_xib";
    a("droplvl=3", three);
    a("ephemeral", three);
    a("droplvl=1,udba=reval,atime", "relatime,dirperm1,nodirren");
    a("udba=notify,droplvl=1", "noatime,udba=none,dirperm1,nodirren");
    a("droplvl=-1", "relatime,nodirperm1");
    a("droplvl=-2", "relatime,nodirperm1,notrunc_xino,notrunc_xib");
    a("droplvl=-3", "relatime,xino=/tmp/.aufs.xino,nodirperm1,notrunc_xino,notrunc_xib");
    refuses("br:/a,droplvl=0", "-3, -2, -1, 1, 2 or 3");
    refuses("br:/a,droplvl=4", "is not right");
    refuses("br:/a,ephemeral=1", "takes no value");
}

#[test]
fn fuse_overlayfs_words() {
    both("uidmapping=0:1000:1:1:100000:65536", "uidmapping=0:1000:1:1:100000:65536");
    both("uidmapping=:0:1000:1:1:100000:65536", "uidmapping=0:1000:1:1:100000:65536");
    both("gidmapping=:0:1000:1", "gidmapping=0:1000:1");
    both("gidmapping=0:1000:1:", "gidmapping=0:1000:1");
    both("uidmapping=0:0:4294967295", "uidmapping=0:0:4294967295");
    for bad in [
        "0",
        "0:1",
        "0:1:0",
        "0:1:2:3",
        "::0:1:2",
        ":",
        "a:b:c",
        "4294967295:0:1",
        "0:1:-1",
        "0:1:4294967295",
    ] {
        neither(&format!("uidmapping={bad}"), "INSIDE:OUTSIDE:COUNT");
    }
    neither("uidmapping=", "needs a value");
    both("squash_to_root", "squash_to_root");
    both("squash_to_uid=1000,squash_to_gid=0", "squash_to_uid=1000,squash_to_gid=0");
    neither("squash_to_uid=root", "numeric id");
    neither("squash_to_gid=4294967295", "numeric id");
    both("timeout=0", "timeout=0");
    both("timeout=1.50", "timeout=1.5");
    both("timeout=1000000000.0", "timeout=1000000000");
    both("timeout=0.025", "timeout=0.025");
    for bad in ["x", "1.", ".5", "-1", "1.0001", "1e9", "99999999999999999999", "18446744073709552"] {
        neither(&format!("timeout={bad}"), "at most three decimals");
    }
    for word in ["passthrough", "nopassthrough", "readdirplus=auto", "readdirplus=never", "nodircache"] {
        both(word, word);
    }
    both("passthrough,nopassthrough,readdirplus=always,dircache", "nopassthrough");
    both("io_uring", "io_uring");
    both("btime", "btime");
    both("btime,nobtime", "");
    both("metacopy=on", "metacopy=on");
    both("metacopy=off,max_threads=2", "metacopy=off,max_threads=2");
    neither("metacopy=maybe", "on or off");
    neither("readdirplus=1", "always, auto or never");
    neither("max_threads=0", "1 to 256");
    both("image_index=/store/index/a\\,b", "image_index=/store/index/a\\,b");
    neither("image_index=", "the path of an image index");
    both("volatile", "volatile");
    both("volatile,novolatile", "");
    both("noxattrs", "noxattrs");
    both("noxattrs=1", "noxattrs");
    both("noxattrs=0", "");
    neither("noxattrs=2", "0 or 1");
    both("xattr_permissions=2", "xattr_permissions=2");
    both("xattr_permissions=0", "");
    neither("xattr_permissions=3", "0 (off)");
    for word in ["threaded", "threaded=1", "fsync=0", "fast_ino=1", "writeback=1", "ino32_t", "static_nlink"]
    {
        o(word, word);
        unknown("br:/a", word);
    }
    warns("lowerdir=/a,plugins=x", "lowerdir=/a,plugins=x", &["not supported"]);
}

#[test]
fn kernel_overlay_words() {
    for word in ["index=off", "nfs_export=on", "redirect_dir=follow", "xino=auto", "userxattr"] {
        o(word, word);
    }
    refuses("lowerdir=/a,index=", "needs a value");
    refuses("lowerdir=/a,userxattr=1", "takes no value, but has '1'");
    let context = r#"context="system_u:object_r:container_file_t:s0:c1,c2""#;
    both(context, context);
    o(&format!("{context},volatile"), &format!("volatile,{context}"));
    both("context=plain:text", "context=plain:text");
    refuses(r#"lowerdir=/a,context="a,b"#, "no closing quote");
    // libfuse's helper loses the quotes: what is left are words nobody knows.
    unknown("lowerdir=/a,context=a:s0:c1", "c2");
}

#[test]
fn mount_flags() {
    both("ro", "ro");
    both("ro,rw", "");
    both("nosuid,nodev,noexec,sync,dirsync,noatime", "nosuid,nodev,noexec,sync,dirsync,noatime");
    both("suid,dev,exec,async", "suid,dev");
    both("noexec,exec", "");
    both("atime", "relatime");
    both("relatime,norelatime", "");
    both("noatime,norelatime", "noatime");
    both("strictatime", "strictatime");
    both("strictatime,nostrictatime", "");
    both("user", "nosuid,nodev,noexec");
    both("user=me,exec", "nosuid,nodev");
    both("users", "nosuid,nodev,noexec");
    both("owner,dev", "nosuid,dev");
    both("group", "nosuid,nodev");
    both("defaults,auto,noauto,nouser", "");
    for word in ["diratime", "nodiratime", "lazytime", "nolazytime", "mand", "nomand", "iversion", "_netdev"]
    {
        both(word, word);
    }
    for word in ["nofail", "bind", "private", "shared", "slave", "x-systemd.automount", "X-mount.mkdir=0755"]
    {
        both(word, word);
    }
    for word in ["comment=a:b", "x-a:b=c", "default_permissions", "max_read=4096", "debug", "subtype=aufs"] {
        both(word, word);
    }
    both("allow_other,allow_root,max_write=65536", "allow_other,allow_root,max_write=65536");
    both("noallow_other", "noallow_other");
    neither("max_write=0", "a number of bytes");
    neither("max_read=4k", "a number of bytes");
    both("fsname=none", "fsname=none");
    neither("fsname=", "needs a value");
    neither("ro=1", "takes no value");
    both("strict", "strict");
    both("strict,nostrict", "");
    both(",,dirsync,,", "dirsync");
    both("lazytime,nomand,lazytime", "nomand,lazytime");
}

#[test]
fn unknown_options() {
    for branches in ["br:/a", "lowerdir=/a"] {
        unknown(branches, "sync:");
        unknown(branches, "create:mfs");
        unknown(branches, "uid=0");
        unknown(branches, "RO");
        unknown(branches, "=x");
        unknown(branches, ":x");
    }
    let error = read("lowerdir=/a,dirperm1", Unknown::Refuse).unwrap_err().to_string();
    assert_eq!(error, "unknown option 'dirperm1'; it is known with br: only");
    let error = read("br:/a,index=on", Unknown::Refuse).unwrap_err().to_string();
    assert_eq!(error, "unknown option 'index=on'; it is known with lowerdir= only");
}

#[test]
fn real_texts() {
    keeps("lowerdir=/s/l/ABCD:/s/l/EFGH,upperdir=/s/x/diff,workdir=/s/x/work,nodev,volatile,private");
    let text = "lowerdir=/a,upperdir=/u,workdir=/w,dev,suid,ro";
    check(text, "lowerdir=/a,upperdir=/u,workdir=/w,ro,suid,dev");
    let spec = spec(text);
    assert!(spec.kernel.read_only && spec.branches[0].perm == Perm::Rw);
    // Docker's aufs driver.
    check(
        "br:/d/diff/c=rw:/d/diff/c-init=ro+wh:/d/diff/1=ro+wh,xino=/dev/shm/aufs.xino,dio,dirperm1",
        "br:/d/diff/c=rw:/d/diff/c-init=ro+wh:/d/diff/1=ro+wh,xino=/dev/shm/aufs.xino,dio,dirperm1",
    );
    assert!(super::spec("br:/a,dirperm1").has("dirperm1"));
    assert!(!super::spec("br:/a,nodirperm1").has("dirperm1"));
}

#[test]
fn check_of_specs_made_by_code() {
    let good = spec("br:/a:/b");
    let bad = |change: fn(&mut MountSpec), part: &str| {
        let mut spec = good.clone();
        change(&mut spec);
        let error = spec.check().expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    assert_eq!(good.check(), Ok(()));
    bad(|s| s.branches.clear(), "no branches");
    bad(|s| s.branches[1].path = "/a".into(), "given twice");
    bad(|s| s.branches[1].path = "".into(), "a directory");
    bad(|s| s.branches[1].path = "/a\0".into(), "NUL");
    bad(|s| s.create = CreatePolicy::Mfs { sec: Some(3601) }, "SEC is 0 to 3600");
    bad(|s| s.xattr_permissions = 3, "0 (off)");
    bad(|s| s.uid_map = vec![IdRange { inside: 0, outside: 1, count: 0 }], "COUNT at least 1");
    bad(|s| s.gid_map = vec![IdRange { inside: 0, outside: 1, count: u32::MAX }], "gidmapping");
    let lone = MountSpec {
        grammar: Grammar::Overlay,
        branches: vec![BranchSpec::new("/u", Perm::Rw)],
        ..MountSpec::default()
    };
    assert!(matches!(lone.check(), Err(SpecError::UpperWithoutLower { .. })));
}
