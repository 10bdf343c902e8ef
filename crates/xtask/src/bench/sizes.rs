//! How much of everything a run makes, from `--scale` and `--big-size`.

use super::options::Options;

/// Counts and sizes of the works.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Sizes {
    /// Files of the source tree; about a fourteenth of it are directories.
    pub(crate) tree_files: usize,
    /// Files of the archive that is unpacked.
    pub(crate) unpack_files: usize,
    /// Files made by create+write+close.
    pub(crate) create_files: usize,
    /// Missing names looked up.
    pub(crate) missing_names: usize,
    /// Names of the large directory.
    pub(crate) wide_names: usize,
    /// Small lower files that are copied up.
    pub(crate) small_files: usize,
    /// Bytes of the big file.
    pub(crate) big_bytes: u64,
    /// Random reads and writes of 4 KiB.
    pub(crate) random_ops: u64,
    /// C files of the program that is built.
    pub(crate) c_files: usize,
    /// Lower files, and new names, per thread of the micro operations.
    pub(crate) micro_files: usize,
    /// Seconds after which a mount counts as idle.
    pub(crate) idle_seconds: f64,
}

impl Sizes {
    pub(crate) fn new(options: &Options) -> Sizes {
        let scaled = |full: usize| ((full as f64 * options.scale) as usize).max(10);
        let short = |normal: usize, short: usize| if options.short { short } else { normal };
        Sizes {
            tree_files: scaled(50_000),
            unpack_files: scaled(20_000),
            create_files: scaled(10_000),
            missing_names: scaled(10_000),
            wide_names: short(10_000, 200),
            small_files: short(1_000, 40),
            big_bytes: options.big,
            random_ops: short(20_000, 100) as u64,
            c_files: short(30, 3),
            micro_files: short(500, 10),
            idle_seconds: if options.short { 0.1 } else { 4.0 },
        }
    }
}
