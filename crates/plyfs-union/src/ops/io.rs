//! read, write and the other calls on an open file.

use plyfs_sys::{Obj, file};
use std::os::fd::AsFd;

use crate::attr::{Fh, Seek};
use crate::error::{Error, Refusal, Result};
use crate::handles::{Backing, FileHandle};
use crate::ops::complete::Need;
use crate::ops::setattr::kill_set_ids;
use crate::union::Union;

impl Union {
    /// Bytes read; fewer than asked only at the end of the file.
    pub fn read(&self, fh: Fh, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let handle = self.files.get(fh)?;
        if !handle.read {
            return Err(Error::BadHandle);
        }
        Ok(file::read_at(&self.backing(&handle, false)?.file, buf, offset)?)
    }

    /// Bytes written. `kill_suidgid`: the writer lacks CAP_FSETID.
    pub fn write(&self, fh: Fh, offset: u64, data: &[u8], kill_suidgid: bool) -> Result<usize> {
        let handle = self.files.get(fh)?;
        self.bring_to_write(&handle)?;
        let _io = handle.node.as_other()?.io.read();
        let backing = self.backing_to_write(&handle)?;
        let count = file::write_at(&backing.file, data, offset)?;
        written(&backing, kill_suidgid)?;
        Ok(count)
    }

    /// fallocate(2) with its raw mode: allocation, punched holes, zeroed ranges. `kill_suidgid` as for a write.
    pub fn fallocate(&self, fh: Fh, mode: u32, offset: u64, len: u64, kill_suidgid: bool) -> Result<()> {
        let handle = self.files.get(fh)?;
        self.bring_to_write(&handle)?;
        let _io = handle.node.as_other()?.io.read();
        let backing = self.backing_to_write(&handle)?;
        file::fallocate(&backing.file, mode, offset, len)?;
        written(&backing, kill_suidgid)
    }

    /// SEEK_DATA and SEEK_HOLE, as the branch's filesystem knows holes.
    pub fn seek(&self, fh: Fh, offset: u64, whence: Seek) -> Result<u64> {
        let handle = self.files.get(fh)?;
        let backing = self.backing(&handle, false)?;
        Ok(file::seek_data_hole(&backing.file, offset, whence == Seek::Data)?)
    }

    /// copy_file_range(2): in the branches' filesystem where both are on one, by reading and writing else.
    /// `kill_suidgid` as for a write.
    pub fn copy_file_range(
        &self,
        from: (Fh, u64),
        to: (Fh, u64),
        len: u64,
        kill_suidgid: bool,
    ) -> Result<u64> {
        let (source, target) = (self.files.get(from.0)?, self.files.get(to.0)?);
        if !source.read {
            return Err(Error::BadHandle);
        }
        self.bring_to_write(&target)?;
        let _io = target.node.as_other()?.io.read();
        let into = self.backing_to_write(&target)?;
        let out = self.backing(&source, false)?;
        let copied = file::copy_range(&out.file, from.1, &into.file, to.1, len)?;
        written(&into, kill_suidgid)?;
        Ok(copied)
    }

    /// fsync(2), or fdatasync(2) with `data_only`. What is below was never written: nothing to do.
    pub fn fsync(&self, fh: Fh, data_only: bool) -> Result<()> {
        let handle = self.files.get(fh)?;
        if self.volatile || !handle.write {
            return Ok(());
        }
        let backing = self.backing(&handle, false)?;
        if backing.writable {
            return Ok(file::fsync(&backing.file, data_only)?);
        }
        self.sync_attributes(&handle.node)
    }

    fn bring_to_write(&self, handle: &FileHandle) -> Result<()> {
        if !handle.write {
            return Err(Error::BadHandle);
        }
        self.copy_up(&handle.node, Need::All)
    }

    /// The file's `io` must be held: what is written through the answer must not be copied meanwhile.
    fn backing_to_write(&self, handle: &FileHandle) -> Result<Backing> {
        let backing = self.backing(handle, true)?;
        if backing.writable { Ok(backing) } else { Err(Refusal::ReadOnly.into()) }
    }
}

/// Data was changed: by somebody without CAP_FSETID, set-id bits and capabilities go.
fn written(backing: &Backing, kill_suidgid: bool) -> Result<()> {
    if kill_suidgid {
        let obj = Obj::Fd(backing.file.as_fd());
        kill_set_ids(obj, &obj.stat()?)?;
    }
    Ok(())
}
