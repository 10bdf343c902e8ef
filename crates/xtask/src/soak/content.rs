//! What a file must hold, without holding it: runs of patterns that follow from a seed and the offset; the rest is zeros.

use std::collections::BTreeMap;

/// The bytes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    size: u64,
    /// Begin -> end and seed; no two overlap, none ends beyond the size.
    runs: BTreeMap<u64, (u64, u64)>,
}

impl Content {
    /// A file of one pattern.
    pub(crate) fn of(seed: u64, size: u64) -> Content {
        let mut content = Content::default();
        content.write(0, size, seed);
        content
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// `len` bytes of the pattern `seed` are written at `at`.
    pub(crate) fn write(&mut self, at: u64, len: u64, seed: u64) {
        if len == 0 {
            return;
        }
        self.carve(at, at + len);
        self.runs.insert(at, (at + len, seed));
        self.size = self.size.max(at + len);
    }

    pub(crate) fn truncate(&mut self, size: u64) {
        if size < self.size {
            self.carve(size, u64::MAX);
        }
        self.size = size;
    }

    /// Takes the patterns out of a range.
    fn carve(&mut self, from: u64, to: u64) {
        let met = self.runs.range(..to).filter(|(_, (end, _))| *end > from);
        let met: Vec<(u64, u64, u64)> = met.map(|(begin, (end, seed))| (*begin, *end, *seed)).collect();
        for (begin, end, seed) in met {
            self.runs.remove(&begin);
            if begin < from {
                self.runs.insert(begin, (from, seed));
            }
            if end > to {
                self.runs.insert(to, (end, seed));
            }
        }
    }

    /// Begin, end and seed of what is not zeros.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.runs.iter().map(|(begin, (end, seed))| (*begin, *end, *seed))
    }

    /// What reading up to `len` bytes at `at` must give.
    pub(crate) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let end = self.size.min(at.saturating_add(len as u64));
        let mut bytes = vec![0; end.saturating_sub(at) as usize];
        for (begin, (stop, seed)) in self.runs.range(..end) {
            let (from, to) = ((*begin).max(at), (*stop).min(end));
            if from < to {
                fill(*seed, from, &mut bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
        bytes
    }
}

/// `len` bytes of a pattern as they are at `at`.
pub(crate) fn pattern(seed: u64, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    fill(seed, at, &mut bytes);
    bytes
}

fn fill(seed: u64, at: u64, bytes: &mut [u8]) {
    let mut at = at;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = mix(seed ^ (at / 8)).to_le_bytes();
        let skip = (at % 8) as usize;
        let part = rest.len().min(8 - skip);
        let (now, later) = rest.split_at_mut(part);
        now.copy_from_slice(&word[skip..skip + part]);
        rest = later;
        at += part as u64;
    }
}

fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::super::bench::tree::Dice;
    use super::*;

    #[test]
    fn it_is_what_a_vector_would_be() {
        let mut dice = Dice(7);
        let mut content = Content::default();
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..2_000 {
            let (at, len, seed) = (dice.below(5_000), dice.below(900), dice.next());
            if dice.below(5) == 0 {
                content.truncate(at);
                bytes.resize(at as usize, 0);
            } else if len > 0 {
                content.write(at, len, seed);
                let end = (at + len) as usize;
                bytes.resize(bytes.len().max(end), 0);
                bytes[at as usize..end].copy_from_slice(&pattern(seed, at, len));
            }
            assert_eq!(content.size(), bytes.len() as u64);
            let from = dice.below(5_500);
            let tail = bytes.get(from as usize..).unwrap_or_default();
            assert_eq!(content.read(from, 700), &tail[..tail.len().min(700)]);
        }
        assert_eq!(content.read(0, usize::MAX), bytes);
    }
}
