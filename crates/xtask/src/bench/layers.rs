//! Spreads a plain tree over layers.
//!
//! A file goes to the layer that the hash of its path says, with the directories above it; what git keeps (`.git`) and
//! the big file are in the lowest layer, and the directories of the micro operations are in all. So with 127 layers most
//! directories of 14 files are merged from about 13 layers, and the micro ones from all.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the layers of one number of layers are.
pub(crate) fn paths(base: &Path, count: usize) -> Vec<PathBuf> {
    (0..count).map(|i| base.join(format!("{count}/l{i:03}"))).collect()
}

/// Copies `plain` into `layers` (top first).
pub(crate) fn spread(plain: &Path, layers: &[PathBuf]) -> Result<()> {
    for layer in layers {
        fs::create_dir_all(layer)?;
    }
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        if dir.starts_with("micro") {
            layers.iter().try_for_each(|layer| fs::create_dir_all(layer.join(&dir)))?;
        }
        let mut names: Vec<_> = fs::read_dir(plain.join(&dir))?.collect::<Result<_, _>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        // An empty directory must not get lost.
        if names.is_empty() {
            fs::create_dir_all(layers[layers.len() - 1].join(&dir))?;
        }
        for name in names {
            let path = dir.join(name.file_name());
            if name.file_type()?.is_dir() {
                todo.push(path);
            } else {
                copy(plain, &layers[layer_of(&path, layers.len())], &path)
                    .with_context(|| format!("copying {}", path.display()))?;
            }
        }
    }
    Ok(())
}

fn copy(plain: &Path, layer: &Path, path: &Path) -> Result<()> {
    let (from, to) = (plain.join(path), layer.join(path));
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let meta = fs::symlink_metadata(&from)?;
    if meta.is_symlink() {
        symlink(fs::read_link(&from)?, &to)?;
        return Ok(());
    }
    fs::copy(&from, &to)?;
    // Read-only files (git's) are opened for reading: their owner may set times all the same.
    let times = FileTimes::new().set_modified(meta.modified()?).set_accessed(meta.modified()?);
    File::open(&to)?.set_times(times)?;
    Ok(())
}

/// The layer of a file.
fn layer_of(path: &Path, count: usize) -> usize {
    if path.starts_with("src/.git") || path == Path::new("grove/big") {
        return count - 1;
    }
    // FNV-1a, then mixed: its low bits alone spread names with running numbers badly.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in path.as_os_str().as_encoded_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    ((hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as usize % count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_spread_evenly_and_the_lowest_keeps_what_is_single() {
        let mut counts = [0; 16];
        for i in 0..1_600 {
            counts[layer_of(Path::new(&format!("wide/name-{i:05}")), 16)] += 1;
        }
        assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
        assert_eq!(layer_of(Path::new("src/.git/index"), 16), 15);
        assert_eq!(layer_of(Path::new("grove/big"), 16), 15);
    }
}
