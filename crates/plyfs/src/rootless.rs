//! Being root of a namespace of one's own: what the commands about images and containers need, run by an ordinary user.
//!
//! Layers hold files of many owners. In a user namespace a user may have those that root has set aside for him in
//! `/etc/subuid` and `/etc/subgid` (newuidmap(1), package uidmap); without these all files belong to one. The command runs
//! itself again inside. Mounts are seen there only.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, anyhow};
use plyfs_sys::process::{self, Forked, view};

use crate::exit::Failure;
use crate::output;

/// Set for the second run.
const INSIDE: &str = "PLYFS_ROOTLESS";

/// Is this process an ordinary user's, root only of a namespace that [`enter`] made?
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some() && !process::in_initial_user_namespace()
}

/// Who this process is: as the user's other processes see it, where [`enter`] made it root.
pub(crate) fn user_outside() -> u32 {
    let uid = plyfs_sys::cred::effective_uid();
    if !is_inside() {
        return uid;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outside(&map, uid).unwrap_or(uid)
}

/// user_namespaces(7): lines of first inside, first outside, count.
fn outside(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        let at = uid.checked_sub(inside).filter(|at| *at < count)?;
        outside.checked_add(at)
    })
}

/// Makes sure that this process is root, of the machine or of a namespace. Runs the program again if it is not; then it does
/// not return. Before the first thread.
pub(crate) fn enter() -> Result<(), Failure> {
    if plyfs_sys::cred::effective_uid() == 0 {
        return Ok(());
    }
    if std::env::var_os(INSIDE).is_some() {
        return Err(Failure::from(anyhow!(
            "the user namespace that was made has no root: it cannot be used"
        )));
    }
    let (uid, gid) = (plyfs_sys::cred::effective_uid(), plyfs_sys::cred::effective_gid());
    match Maps::of(uid, gid)? {
        Some(maps) => by_helper(&maps)?,
        None => {
            output::warn(
                "no ids are set aside for you in /etc/subuid and /etc/subgid (or newuidmap is missing: package uidmap): \
                 all files of images will belong to you",
            );
            view::unshare_users_and_mounts().map_err(refused)?;
            view::map_own_ids(uid, gid).map_err(refused)?;
        }
    }
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_else(|| OsString::from("plyfs"));
    let error = Command::new("/proc/self/exe").arg0(program).args(words).env(INSIDE, "1").exec();
    Err(Failure::from(anyhow::Error::new(error).context("running plyfs again in a user namespace")))
}

fn refused(error: plyfs_sys::SysError) -> anyhow::Error {
    anyhow::Error::new(error)
        .context("making a user namespace (images and containers need one for ordinary users)")
}

/// The words for newuidmap(1) and newgidmap(1).
#[derive(Debug, PartialEq, Eq)]
struct Maps {
    uids: Vec<String>,
    gids: Vec<String>,
}

impl Maps {
    /// `None`: nothing is set aside, or the helpers are not there.
    fn of(uid: u32, gid: u32) -> anyhow::Result<Option<Maps>> {
        let user = user_name(uid)?;
        let ranges = |file: &str| anyhow::Ok(ranges(&read(file)?, &user, uid));
        let (uids, gids) = (ranges("/etc/subuid")?, ranges("/etc/subgid")?);
        let helpers = ["newuidmap", "newgidmap"].iter().all(|name| is_in_path(name));
        if uids.is_empty() || gids.is_empty() || !helpers {
            return Ok(None);
        }
        Ok(Some(Maps { uids: words(uid, &uids), gids: words(gid, &gids) }))
    }
}

/// `0 OWN 1`, then the ranges one after the other.
fn words(own: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut words = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut next = 1_u32;
    for (start, count) in ranges {
        words.extend([next.to_string(), start.to_string(), count.to_string()]);
        next = next.saturating_add(*count);
    }
    words
}

/// subuid(5): `NAME-OR-ID:FIRST:COUNT` lines.
fn ranges(text: &str, user: &str, id: u32) -> Vec<(u32, u32)> {
    let id = id.to_string();
    let of_user = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owner == user || owner == id).then_some(range)
    };
    text.lines().filter_map(of_user).collect()
}

/// passwd(5)'s name; empty if there is none.
fn user_name(uid: u32) -> anyhow::Result<String> {
    let uid = uid.to_string();
    let passwd = read("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid));
    Ok(line.and_then(|line| line.split(':').next()).unwrap_or_default().to_owned())
}

/// Other users' lines may hold anything.
fn read(file: &str) -> anyhow::Result<String> {
    match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        bytes => Ok(String::from_utf8_lossy(&bytes.with_context(|| format!("reading {file}"))?).into_owned()),
    }
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The maps are written by set-user-id programs, which must run outside: a child that was there before goes on outside.
fn by_helper(maps: &Maps) -> Result<(), Failure> {
    let (mut ready, mut tell) = std::io::pipe().context("making a pipe")?;
    let me = std::process::id();
    match process::fork().map_err(anyhow::Error::new)? {
        Forked::Child => {
            drop(tell);
            let mut word = [0];
            // Nothing came: the parent failed and says so itself.
            let wanted = matches!(ready.read(&mut word), Ok(1));
            leave(!wanted || (map("newuidmap", me, &maps.uids) && map("newgidmap", me, &maps.gids)))
        }
        Forked::Parent(child) => {
            drop(ready);
            let made = view::unshare_users_and_mounts();
            if made.is_ok() {
                tell.write_all(&[1]).context("telling the helper")?;
            }
            drop(tell);
            let ended = process::wait_for(child).map_err(anyhow::Error::new)?;
            made.map_err(refused)?;
            if ended.shell_code() == 0 {
                Ok(())
            } else {
                Err(Failure::from(anyhow!(
                    "newuidmap and newgidmap did not give this user's ids (see above)"
                )))
            }
        }
    }
}

fn map(program: &str, pid: u32, words: &[String]) -> bool {
    Command::new(program).arg(pid.to_string()).args(words).status().is_ok_and(|status| status.success())
}

#[expect(clippy::exit, reason = "the child of a fork has nothing to go back to")]
fn leave(well: bool) -> ! {
    std::process::exit(i32::from(!well))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:1\nanna:100000:65536\n1000:300000:10\nbob:5:5\nanna:bad:1\n";
        assert_eq!(ranges(text, "anna", 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges(text, "carl", 1001), []);
    }

    #[test]
    fn the_user_outside_is_found() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!([0, 5, 70_000].map(|uid| outside(map, uid)), [Some(1000), Some(100_004), None]);
    }

    #[test]
    fn own_id_is_root_and_the_ranges_follow() {
        let want = "0 1000 1 1 100000 65536 65537 300000 10";
        assert_eq!(words(1000, &[(100_000, 65_536), (300_000, 10)]).join(" "), want);
    }
}
