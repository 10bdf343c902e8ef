//! One big file: sequential and random reads and a mapping of a lower file, sequential and random writes of a new one.
//! Everything is in the page cache of the backing file; nothing is synced, so writes end in the page cache.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;

use anyhow::{Result, ensure};

use super::super::bout::Bout;
use super::super::tree::{Dice, text};
use crate::run;

pub(super) const READ_ROWS: &[&str] = &["sequential read, first", "sequential read, again", "mmap read"];
pub(super) const RANDOM_ROWS: &[&str] = &["random read 4k", "random write 4k"];
pub(super) const WRITE_ROWS: &[&str] = &["sequential write"];

const MIB: usize = 1 << 20;

pub(super) fn read(bout: &mut Bout<'_>) -> Result<()> {
    let path = bout.root.join("grove/big");
    let size = bout.stage.sizes.big_bytes;
    let mut buffer = vec![0_u8; MIB];
    for row in &READ_ROWS[..2] {
        let seen = bout.time(row, || {
            let mut file = File::open(&path)?;
            let mut seen = 0;
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(seen),
                    n => seen += n as u64,
                }
            }
        })?;
        ensure!(seen == size, "read {seen} bytes of {size}");
    }
    let reader = bout.stage.mmap_reader()?;
    let said = bout.time(READ_ROWS[2], || run::output(Command::new(&reader).arg(&path)))?;
    let block = text(7, MIB);
    let want: u64 = (0..size).step_by(4096).map(|at| u64::from(block[at as usize % MIB])).sum();
    ensure!(said.trim() == want.to_string(), "pages sum up to {}, not {want}", said.trim());
    Ok(())
}

pub(super) fn random(bout: &mut Bout<'_>) -> Result<()> {
    let (size, ops) = (bout.stage.sizes.big_bytes, bout.stage.sizes.random_ops);
    let offset = |dice: &mut Dice| dice.below(size / 4096) * 4096;
    let file = File::open(bout.root.join("grove/big"))?;
    let block = text(7, MIB);
    bout.time_each(RANDOM_ROWS[0], |_| {
        let (mut dice, mut buffer) = (Dice(5), [0_u8; 4096]);
        for _ in 0..ops {
            let at = offset(&mut dice);
            file.read_exact_at(&mut buffer, at)?;
            let from = at as usize % MIB;
            ensure!(buffer[0] == block[from], "wrong content at {at}");
        }
        Ok(ops)
    })?;
    drop(file);
    let path = bout.root.join(format!("made-{}", bout.nonce));
    let mut file = File::create_new(&path)?;
    fill(&mut file, size)?;
    bout.time_each(RANDOM_ROWS[1], |_| {
        let (mut dice, buffer) = (Dice(6), [b'x'; 4096]);
        for _ in 0..ops {
            file.write_all_at(&buffer, offset(&mut dice))?;
        }
        Ok(ops)
    })?;
    ensure!(file.metadata()?.len() == size, "the size has changed");
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(())
}

pub(super) fn write(bout: &mut Bout<'_>) -> Result<()> {
    let size = bout.stage.sizes.big_bytes;
    let path = bout.root.join(format!("made-{}", bout.nonce));
    bout.time(WRITE_ROWS[0], || fill(&mut File::create_new(&path)?, size))?;
    let seen = std::fs::metadata(&path)?.len();
    ensure!(seen == size, "{seen} bytes after writing {size}");
    std::fs::remove_file(&path)?;
    Ok(())
}

fn fill(file: &mut File, size: u64) -> Result<()> {
    let block = vec![b'w'; MIB];
    let mut left = size;
    while left > 0 {
        let part = left.min(MIB as u64);
        file.write_all(&block[..part as usize])?;
        left -= part;
    }
    Ok(())
}
