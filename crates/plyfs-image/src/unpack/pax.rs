//! PAX extended headers (pax(1), "pax Extended Header"): records, and which of them count for an entry. Pure.

use std::collections::BTreeMap;

use super::numbers;
use plyfs_sys::Time;

const XATTR: &[u8] = b"SCHILY.xattr.";
/// Forms of attributes that other writers add; the same attributes come as [`XATTR`] from all who make layers.
const UNREAD: [&[u8]; 4] =
    [b"LIBARCHIVE.xattr.", b"SCHILY.acl.", b"RHT.security.", b"LIBARCHIVE.creationtime"];

/// The records of one extended header; of equal keys the last counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    /// `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record. Values may hold any byte, newlines too.
    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Records, &'static str> {
        let mut all = BTreeMap::new();
        while !bytes.is_empty() {
            let (record, rest) = split_record(bytes).ok_or("malformed record in an extended header")?;
            let equals = record.iter().position(|&byte| byte == b'=');
            let equals = equals.filter(|&at| at > 0).ok_or("record without a key in an extended header")?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if key.contains(&0) || (is_text(key) && value.contains(&0)) {
                return Err("NUL in a text of an extended header");
            }
            all.insert(key.to_vec(), value.to_vec());
            bytes = rest;
        }
        Ok(Records(all))
    }

    /// A global header's records take the place of those before (pax(1)).
    pub(crate) fn extend(&mut self, more: Records) {
        self.0.extend(more.0);
    }

    /// Bytes of all records.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// A key that a global header must not have: readers disagree whether it counts, or it would be written again with
    /// every entry.
    pub(crate) fn ambiguous_global(&self) -> bool {
        let exact: [&[u8]; 3] = [b"path", b"linkpath", b"size"];
        self.0
            .keys()
            .any(|key| exact.contains(&&key[..]) || key.starts_with(b"GNU.sparse.") || key.starts_with(XATTR))
    }
}

fn is_text(key: &[u8]) -> bool {
    [&b"path"[..], b"linkpath", b"uname", b"gname"].contains(&key)
}

/// The first record without its length and newline, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(numbers::decimal(&bytes[..space])?).ok()?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return None;
    }
    Some((&bytes[space + 1..length - 1], &bytes[length..]))
}

/// An entry's own records over the global ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pax<'a> {
    pub(crate) own: &'a Records,
    pub(crate) global: &'a Records,
}

impl<'a> Pax<'a> {
    /// An empty value takes the key back: the header's own field counts.
    fn get(&self, key: &str) -> Option<&'a [u8]> {
        let value = self.own.0.get(key.as_bytes()).or_else(|| self.global.0.get(key.as_bytes()));
        value.map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    pub(crate) fn path(&self) -> Option<&'a [u8]> {
        self.get("path")
    }

    pub(crate) fn link(&self) -> Option<&'a [u8]> {
        self.get("linkpath")
    }

    /// `key`'s decimal, or what the header's field says.
    pub(crate) fn number(&self, key: &str, field: Option<u64>) -> Option<u64> {
        self.get(key).map_or(field, numbers::decimal)
    }

    /// `key`'s time; `Some(None)` where there is none.
    pub(crate) fn time(&self, key: &str) -> Option<Option<Time>> {
        self.get(key).map_or(Some(None), |text| numbers::time(text).map(Some))
    }

    /// Has it records of a sparse file (GNU tar's PAX formats 0.0, 0.1, 1.0)?
    pub(crate) fn is_sparse(&self) -> bool {
        self.own.0.keys().any(|key| key.starts_with(b"GNU.sparse."))
    }

    /// Has it attributes in forms that are not read?
    pub(crate) fn has_unread(&self) -> bool {
        let unread = |key: &Vec<u8>| UNREAD.iter().any(|prefix| key.starts_with(prefix));
        self.own.0.keys().any(unread) || self.global.0.keys().any(unread)
    }

    /// xattrs, sorted. Here an empty value is one.
    pub(crate) fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = BTreeMap::new();
        for (key, value) in &self.own.0 {
            if let Some(name) = key.strip_prefix(XATTR) {
                all.insert(name.to_vec(), value.clone());
            }
        }
        all.into_iter().collect()
    }
}

/// One record, with its length.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() != digits {
        digits += 1;
    }
    let mut record = format!("{} ", rest + digits).into_bytes();
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

/// The key of an xattr's record.
pub(crate) fn xattr_key(name: &[u8]) -> Vec<u8> {
    [XATTR, name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_length_are_read_back() {
        for len in 0..1200 {
            let value = vec![b'\n'; len];
            let bytes = record(b"path", &value);
            assert_eq!(Records::parse(&bytes).unwrap().0[&b"path"[..]], value, "{len}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "x",
            "5",
            "5 ",
            "10 path=x",
            "8 path=x",
            "8 path=x\n",
            "11 path=x\n",
            "9999999999999999999999 path=x\n",
            "-9 path=x\n",
            "+9 path=x\n",
            "5 =x\n",
            "6 abc\n",
            "3 \n",
            "11 path=\0x\n",
        ] {
            assert!(Records::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_record_counts_and_empty_ones_take_back() {
        let parse = |text: &[&[u8]]| Records::parse(&text.concat()).unwrap();
        let own = parse(&[&record(b"path", b"a"), &record(b"path", b"b"), &record(b"uid", b"")]);
        let global = parse(&[&record(b"uid", b"7"), &record(b"gid", b"8"), &record(b"uname", b"u")]);
        let own_xattr = parse(&[&record(&xattr_key(b"user.a"), b"")]);
        let pax = Pax { own: &own, global: &global };
        assert_eq!(pax.path(), Some(&b"b"[..]));
        assert_eq!(pax.number("uid", Some(1)), Some(1));
        assert_eq!(pax.number("gid", Some(1)), Some(8));
        assert_eq!(Pax { own: &own_xattr, global: &global }.xattrs(), [(b"user.a".to_vec(), Vec::new())]);
        assert!(!global.ambiguous_global() && own.ambiguous_global());
    }
}
