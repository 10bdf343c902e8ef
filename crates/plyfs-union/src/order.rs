//! `Order`: the places of names in a directory's listing, by which readdir(3) goes on where it was.
//!
//! A name's place (its *cookie*, `d_off`) comes from a hash of the name, so it is the same whatever is added or
//! removed beside it, and after the listing was read from the branches anew; and a program that renames what it
//! lists does not meet its own renames for ever, as it would if new names came last. 31 bits: programs built for
//! 32-bit offsets can list too.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hasher};

use plyfs_sys::Leaf;

/// Cookies below are for `.` and `..`, and for the start.
const FIRST: u32 = 8;
const MASK: u32 = 0x7fff_ffff;

/// Names by cookie.
#[derive(Debug, Default)]
pub(crate) struct Order {
    names: BTreeMap<u32, Leaf>,
}

impl Order {
    /// Of all these names.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a Leaf>) -> Order {
        // Names of one hash take the cookies after it in turn: sorted, they get the same ones each time.
        let mut sorted: Vec<&Leaf> = names.collect();
        sorted.sort_unstable();
        let mut order = Order::default();
        for name in sorted {
            order.add(name);
        }
        order
    }

    /// Those after `cookie`, in order, with their cookies.
    pub(crate) fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Leaf)> {
        let next = u32::try_from(cookie.saturating_add(1)).unwrap_or(u32::MAX);
        self.names.range(next..).map(|(cookie, name)| (u64::from(*cookie), name))
    }

    pub(crate) fn add(&mut self, name: &Leaf) {
        let mut cookie = wish(name);
        loop {
            match self.names.entry(cookie) {
                Entry::Vacant(slot) => {
                    slot.insert(name.clone());
                    return;
                }
                Entry::Occupied(other) if other.get() == name => return,
                Entry::Occupied(_) => cookie = next(cookie),
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &Leaf) {
        let mut cookie = wish(name);
        // A neighbour that left may have opened a gap before this name: so the chain is searched a little further.
        for _ in 0..64 {
            if self.names.get(&cookie) == Some(name) {
                self.names.remove(&cookie);
                return;
            }
            cookie = next(cookie);
        }
    }
}

fn next(cookie: u32) -> u32 {
    if cookie >= MASK { FIRST } else { cookie + 1 }
}

/// The cookie of a name that has no neighbour of the same hash.
fn wish(name: &Leaf) -> u32 {
    // Its keys are fixed: the same name gives the same number in every run of this program.
    let mut hasher = DefaultHasher::new();
    hasher.write(name.as_bytes());
    let hash = hasher.finish();
    let folded = (hash ^ hash >> 32) as u32 & MASK;
    folded.max(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn leaf(name: &str) -> Leaf {
        Leaf::new(OsStr::new(name)).unwrap()
    }

    #[test]
    fn a_place_does_not_depend_on_its_neighbours() {
        let names: Vec<Leaf> = (0..1000).map(|n| leaf(&format!("n{n}"))).collect();
        let order = Order::of(names.iter());
        let all: Vec<(u64, Leaf)> = order.after(0).map(|(cookie, name)| (cookie, name.clone())).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.windows(2).all(|two| two[0].0 < two[1].0) && all[0].0 >= u64::from(FIRST));
        let mut other = Order::of(names[..500].iter());
        for name in names[500..].iter().rev() {
            other.add(name);
        }
        assert!(other.after(0).map(|(cookie, name)| (cookie, name.clone())).eq(all.iter().cloned()));
        let (cookie, _) = all[499];
        for (_, name) in &all[..700] {
            other.remove(name);
        }
        let rest: Vec<_> = other.after(cookie).map(|(_, name)| name.clone()).collect();
        assert!(rest.iter().eq(all[700..].iter().map(|(_, name)| name)));
        assert_eq!(other.after(u64::from(MASK)).count(), 0);
    }

    #[test]
    fn names_of_one_hash_have_a_place_each() {
        let mut order = Order::default();
        let (a, b) = (leaf("a"), leaf("b"));
        order.add(&a);
        let (cookie, _) = order.after(0).next().unwrap();
        order.names.insert(u32::try_from(cookie).unwrap() + 1, b.clone());
        order.add(&a);
        assert_eq!(order.after(0).count(), 2);
        order.remove(&a);
        assert_eq!(order.after(cookie).map(|(_, name)| name.clone()).collect::<Vec<_>>(), [b]);
    }
}
