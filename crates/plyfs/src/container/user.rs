//! Who a container's process is (runc libcontainer `user.GetExecUser`): names are those of the container's own
//! `/etc/passwd` and `/etc/group`. Pure: the texts are read elsewhere.

use anyhow::bail;

/// Ids of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Groups beside `gid`.
    pub(crate) groups: Vec<u32>,
    /// The home directory.
    pub(crate) home: String,
}

/// Resolves `USER[:GROUP]`; empty is root.
pub(crate) fn resolve(text: &str, passwd: &str, group: &str) -> anyhow::Result<Who> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let mut who = Who { home: "/".to_owned(), ..Who::default() };
    let mut name = None;
    match lines(passwd, 7).find(|line| line[0] == user || line[2] == user) {
        Some(line) => {
            (who.uid, who.gid) = (number("uid", line[2])?, number("gid", line[3])?);
            name = Some(line[0]);
            if !line[5].is_empty() {
                line[5].clone_into(&mut who.home);
            }
        }
        None if is_number(user) => who.uid = number("uid", user)?,
        None => bail!("unable to find user {user}: no matching entries in passwd file"),
    }
    match wanted_group {
        Some(wanted) => who.gid = group_id(wanted, group)?,
        None => {
            let mine = |line: &[&str]| name.is_some_and(|name| line[3].split(',').any(|one| one == name));
            let ids = lines(group, 4).filter(|line| mine(line)).map(|line| number("gid", line[2]));
            who.groups = ids.collect::<anyhow::Result<_>>()?;
        }
    }
    Ok(who)
}

fn group_id(wanted: &str, group: &str) -> anyhow::Result<u32> {
    match lines(group, 4).find(|line| line[0] == wanted || line[2] == wanted) {
        Some(line) => number("gid", line[2]),
        None if is_number(wanted) => number("gid", wanted),
        None => bail!("unable to find group {wanted}: no matching entries in group file"),
    }
}

/// Lines with at least as many fields; missing ones at the end are empty.
fn lines(text: &str, fields: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(move |line| {
        let mut words: Vec<&str> = line.split(':').collect();
        words.resize(words.len().max(fields), "");
        words
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

/// As runc has it, ids end at 2^31 - 1.
fn number(what: &str, text: &str) -> anyhow::Result<u32> {
    match text.parse::<u32>() {
        Ok(id) if id <= i32::MAX.unsigned_abs() => Ok(id),
        _ => bail!("{what} {text:?} is not between 0 and 2147483647"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\nweb:x:33:34::/srv:\nshort:x:5:6\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:40:web,root\nweb2:x:41:web\n";

    #[test]
    fn users_are_found_as_runc_does() {
        let cases: [(&str, u32, u32, &[u32], &str); 8] = [
            ("", 0, 0, &[40], "/root"),
            ("web", 33, 34, &[40, 41], "/srv"),
            ("33", 33, 34, &[40, 41], "/srv"),
            ("web:", 33, 34, &[40, 41], "/srv"),
            ("web:log", 33, 40, &[], "/srv"),
            ("web:77", 33, 77, &[], "/srv"),
            ("1000", 1000, 0, &[], "/"),
            ("1000:www", 1000, 34, &[], "/"),
        ];
        for (text, uid, gid, groups, home) in cases {
            let want = Who { uid, gid, groups: groups.to_vec(), home: home.to_owned() };
            assert_eq!(resolve(text, PASSWD, GROUP).unwrap(), want, "{text}");
        }
        assert_eq!(resolve("short", PASSWD, GROUP).unwrap().home, "/");
        for bad in ["nobody", "web:nobody", "4294967296", "0:2147483648", "-1"] {
            assert!(resolve(bad, PASSWD, GROUP).is_err(), "{bad}");
        }
        assert_eq!(resolve("", "", "").unwrap(), Who { home: "/".into(), ..Who::default() });
    }
}
