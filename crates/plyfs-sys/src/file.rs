//! Calls on open regular files: positioned I/O, holes, copying.
//!
//! Copying takes the cheapest way the filesystems offer: reflink, copy_file_range(2), read and write; holes stay
//! holes in each.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom};

use crate::error::{Errno, Named, Result, SysError};
use crate::stat::NewTime;

const PAGE: u64 = 4096;

/// open(2)'s O_DIRECT, whose number differs between processors.
pub const O_DIRECT: u32 = rustix::fs::OFlags::DIRECT.bits();

/// pread(2) until `buf` is full or the file ends.
pub fn read_at(file: &File, buf: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(SysError::from_io("pread", &e)),
        }
        // Short amid a page is the end; a filesystem that reads short for other reasons does so between pages.
        if !(offset + done as u64).is_multiple_of(PAGE) {
            break;
        }
    }
    Ok(done)
}

/// pwrite(2) of everything; a short count only if an error came after some bytes were written.
pub fn write_at(file: &File, data: &[u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < data.len() {
        match file.write_at(&data[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if done > 0 => break,
            Err(e) => return Err(SysError::from_io("pwrite", &e)),
        }
    }
    Ok(done)
}

/// fallocate(2); `mode` is its raw flags.
pub fn fallocate(file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
    let flags = FallocateFlags::from_bits(mode).ok_or(SysError::new("fallocate", Errno::OPNOTSUPP))?;
    rustix::fs::fallocate(file, flags, offset, len).named("fallocate")
}

/// lseek(2) with SEEK_DATA (`data`) or SEEK_HOLE.
pub fn seek_data_hole(file: &File, offset: u64, data: bool) -> Result<u64> {
    rustix::fs::seek(file, if data { SeekFrom::Data(offset) } else { SeekFrom::Hole(offset) }).named("lseek")
}

/// fchown(2); `None` leaves an id alone.
pub fn chown(file: &File, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let (uid, gid) = (uid.map(rustix::fs::Uid::from_raw), gid.map(rustix::fs::Gid::from_raw));
    rustix::fs::fchown(file, uid, gid).named("fchown")
}

/// fchmod(2).
pub fn chmod(file: &File, perm: u32) -> Result<()> {
    rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(perm)).named("fchmod")
}

/// futimens(3).
pub fn set_times(file: &File, atime: NewTime, mtime: NewTime) -> Result<()> {
    rustix::fs::futimens(file, &crate::stat::timestamps(atime, mtime)).named("futimens")
}

/// fsync(2) or, with `data_only`, fdatasync(2).
pub fn fsync(file: &File, data_only: bool) -> Result<()> {
    if data_only {
        rustix::fs::fdatasync(file).named("fdatasync")
    } else {
        rustix::fs::fsync(file).named("fsync")
    }
}

/// ftruncate(2).
pub fn truncate(file: &File, size: u64) -> Result<()> {
    rustix::fs::ftruncate(file, size).named("ftruncate")
}

/// copy_file_range(2), once, with a fallback to read and write where the filesystems refuse. Bytes copied.
pub fn copy_range(from: &File, from_at: u64, to: &File, to_at: u64, len: u64) -> Result<u64> {
    let (mut src, mut dst) = (from_at, to_at);
    let want = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 30);
    match rustix::fs::copy_file_range(from, Some(&mut src), to, Some(&mut dst), want) {
        Ok(n) => Ok(n as u64),
        Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            copy_by_hand(from, from_at, to, to_at, len.min(1 << 20))
        }
        Err(errno) => Err(SysError::new("copy_file_range", errno)),
    }
}

fn copy_by_hand(from: &File, from_at: u64, to: &File, to_at: u64, len: u64) -> Result<u64> {
    let mut buf = vec![0; usize::try_from(len).unwrap_or(1 << 20)];
    let got = read_at(from, &mut buf, from_at)?;
    let put = write_at(to, &buf[..got], to_at)?;
    if put < got {
        return Err(SysError::new("pwrite", Errno::NOSPC));
    }
    Ok(put as u64)
}

/// Makes the empty file `to` share all data of `from` (FICLONE): no data is copied. `false` where the filesystems can't.
pub fn reflink(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// Copies the first `len` bytes of `from` into the empty file `to`: by reflink if all is wanted, else extent by
/// extent, holes kept. `to` ends with exactly `len` bytes.
pub fn copy_contents(from: &File, size: u64, to: &File, len: u64) -> Result<()> {
    let len = len.min(size);
    if len == 0 {
        return Ok(());
    }
    if len == size && reflink(from, to) {
        return Ok(());
    }
    // The size first: a trailing hole needs no write.
    truncate(to, len)?;
    let mut at = 0;
    while at < len {
        let start = match seek_data_hole(from, at, true) {
            Ok(start) => start,
            Err(e) if e.errno() == Errno::NXIO => break,
            Err(e) if e.errno() == Errno::INVAL || e.errno() == Errno::OPNOTSUPP => at,
            Err(e) => return Err(e),
        };
        let end = seek_data_hole(from, start, false).unwrap_or(len).min(len);
        copy_extent(from, to, start, end)?;
        at = end.max(start + 1);
    }
    Ok(())
}

fn copy_extent(from: &File, to: &File, mut at: u64, end: u64) -> Result<()> {
    while at < end {
        let n = copy_range(from, at, to, at, end - at)?;
        if n == 0 {
            // The source shrank below us; what is missing reads as zeros, as after truncate(2).
            break;
        }
        at += n;
    }
    Ok(())
}
