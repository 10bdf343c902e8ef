//! Limits: what an archive from outside may cost (design D11). Generous for real images; each refusal names the
//! limit and how to raise it.

use std::fmt;

/// Limits on archives and documents. The defaults are those of [`Limits::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a layer's uncompressed archive, and of what it unpacks to, holes of sparse files included. 128 GiB.
    pub layer_bytes: u64,
    /// Entries of one layer. 4,000,000.
    pub entries: u64,
    /// Uncompressed bytes per compressed byte, once more than [`Limits::ratio_from`] came out. 500.
    pub ratio: u64,
    /// Uncompressed bytes from which on the ratio counts. 1 GiB.
    pub ratio_from: u64,
    /// log2 of the window that a zstd frame may ask for, bytes. 27: 128 MiB, what `zstd -d` allows too.
    pub zstd_window_log: u32,
    /// Bytes of one PAX or GNU extended header (Go's archive/tar has the same). 1 MiB.
    pub pax_header: u64,
    /// Bytes of a name with all its directories (PATH_MAX). 4096.
    pub name: usize,
    /// Bytes of a link's target. 4096.
    pub link: usize,
    /// Directories above an entry. 256.
    pub depth: usize,
    /// Bytes of one xattr's value (XATTR_SIZE_MAX). 64 KiB.
    pub xattr_value: usize,
    /// Bytes of all xattrs of one entry, names included. 256 KiB.
    pub xattrs_per_entry: usize,
    /// Pieces of one sparse file. 1,000,000.
    pub sparse_map: usize,
    /// Bytes of memory that grow with a layer: names and attributes of its directories, names for tar-split. 1 GiB.
    pub kept_in_memory: u64,
    /// Bytes of a manifest, an index or another JSON document. 4 MiB.
    pub manifest_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            layer_bytes: 128 << 30,
            entries: 4_000_000,
            ratio: 500,
            ratio_from: 1 << 30,
            zstd_window_log: 27,
            pax_header: 1 << 20,
            name: 4096,
            link: 4096,
            depth: 256,
            xattr_value: 64 << 10,
            xattrs_per_entry: 256 << 10,
            sparse_map: 1_000_000,
            kept_in_memory: 1 << 30,
            manifest_bytes: 4 << 20,
        }
    }
}

/// A limit was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverLimit {
    /// The limit's field in [`Limits`].
    pub limit: &'static str,
    /// Its value.
    pub value: u64,
}

impl OverLimit {
    /// `limit` is the name of the field.
    pub fn new(limit: &'static str, value: u64) -> OverLimit {
        OverLimit { limit, value }
    }
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OverLimit { limit, value } = self;
        write!(
            f,
            "more than the limit {limit} allows ({value}); if you trust its maker, raise it: --limit {limit}=N"
        )
    }
}

impl std::error::Error for OverLimit {}

/// Checks `value` against the limit of this name.
pub(crate) fn check(value: u64, name: &'static str, limit: u64) -> Result<(), OverLimit> {
    if value > limit { Err(OverLimit::new(name, limit)) } else { Ok(()) }
}

impl Limits {
    /// Sets the limit `name` to `value`; `None` for a name that is none.
    pub fn set(&mut self, name: &str, value: u64) -> Option<()> {
        let small = usize::try_from(value).unwrap_or(usize::MAX);
        match name {
            "layer_bytes" => self.layer_bytes = value,
            "entries" => self.entries = value,
            "ratio" => self.ratio = value,
            "ratio_from" => self.ratio_from = value,
            "zstd_window_log" => self.zstd_window_log = u32::try_from(value).unwrap_or(31).clamp(10, 31),
            "pax_header" => self.pax_header = value,
            "name" => self.name = small,
            "link" => self.link = small,
            "depth" => self.depth = small,
            "xattr_value" => self.xattr_value = small,
            "xattrs_per_entry" => self.xattrs_per_entry = small,
            "sparse_map" => self.sparse_map = small,
            "kept_in_memory" => self.kept_in_memory = value,
            "manifest_bytes" => self.manifest_bytes = value,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_the_name_that_the_error_says() {
        let mut limits = Limits::default();
        let over = check(limits.entries + 1, "entries", limits.entries).unwrap_err();
        assert!(over.to_string().contains("--limit entries=N"), "{over}");
        limits.set(over.limit, 5_000_000).unwrap();
        assert_eq!(limits.entries, 5_000_000);
        assert_eq!(limits.set("nothing", 1), None);
        assert!(check(5, "x", 5).is_ok());
    }
}
