//! The allocator, told what a server wants: memory that is free goes back to the system.
//!
//! glibc only; other C libraries give back what they can by themselves.

/// Large buffers always are mappings of their own, which go when they are freed. (By default glibc would stop that after
/// the first one was freed.) Call before the first thread.
pub fn settle_allocator() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 128 << 10;
        // SAFETY: mallopt takes numbers only, and no other thread allocates yet (else it is merely late).
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Gives back everything that is free, and the pages of the program's files: they stay in the page cache, where the next
/// request finds them. Takes as long as there is much of it.
pub fn give_back() {
    give_back_code();
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(target_pointer_width = "64")]
type Header = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type Header = libc::Elf32_Phdr;

/// Unmaps, page by page, what is never written: code and constants.
fn give_back_code() {
    // SAFETY: the callback below keeps to what dl_iterate_phdr asks of it and uses no data of ours.
    unsafe { libc::dl_iterate_phdr(Some(give_back_segments), std::ptr::null_mut()) };
}

unsafe extern "C" fn give_back_segments(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    let page = rustix::param::page_size();
    // SAFETY: dl_iterate_phdr hands over a whole dl_phdr_info for the time of this call.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the dynamic linker says that so many headers lie there; they stay as long as the object is loaded.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let unwritten = |header: &&Header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for header in headers.iter().filter(unwritten) {
        let from = (info.dlpi_addr + header.p_vaddr) as usize;
        let to = (from + header.p_filesz as usize) & !(page - 1);
        let from = from.next_multiple_of(page);
        if from < to {
            // SAFETY: whole pages of a segment mapped from a file and never writable: each is read from the file again when
            // it is next used, and is the same. Failure (a locked mapping) changes nothing.
            unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
        }
    }
    0
}

#[cfg(test)]
mod tests {
    #[test]
    fn everything_works_as_before() {
        let kept = vec![7_u8; 1 << 20];
        drop(vec![1_u8; 1 << 20]);
        super::give_back();
        assert!(kept.iter().all(|byte| *byte == 7) && format!("{:?}", "a\n") == "\"a\\n\"");
    }
}
