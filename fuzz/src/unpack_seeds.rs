//! The seeds of the target `unpack`: small archives of every form.

use std::io::{self, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// Writes them into `folder`, one file each.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, archive) in archives()? {
        for mode in [0u8, 1, 2] {
            let seed = [&[mode][..], &archive].concat();
            std::fs::write(folder.join(format!("{name}-{mode}")), seed)?;
        }
    }
    Ok(())
}

/// What reserved words begin with.
const WH: &str = concat!('.', "wh.");

type Archive = Builder<Vec<u8>>;

fn archives() -> io::Result<Vec<(&'static str, Vec<u8>)>> {
    let make = |fill: &dyn Fn(&mut Archive) -> io::Result<()>| {
        let mut archive = Builder::new(Vec::new());
        fill(&mut archive)?;
        archive.into_inner()
    };
    let long = "long/".repeat(50);
    Ok(vec![
        (
            "plain",
            make(&|a| {
                put(a, "./", EntryType::Directory, "", b"")
                    .and_then(|()| put(a, "f", EntryType::Regular, "", b"text"))
            })?,
        ),
        (
            "links",
            make(&|a| {
                put(a, "d/f", EntryType::Regular, "", b"text")?;
                put(a, "s", EntryType::Symlink, "d", b"")?;
                put(a, "s/g", EntryType::Regular, "", b"through")?;
                put(a, "h", EntryType::Link, "s/f", b"")?;
                put(a, "up", EntryType::Symlink, "../canary", b"")?;
                put(a, "up/x", EntryType::Regular, "", b"")
            })?,
        ),
        (
            "again",
            make(&|a| {
                put(a, "d/f", EntryType::Regular, "", b"one")?;
                put(a, "d/f", EntryType::Regular, "", b"two")?;
                put(a, "d", EntryType::Symlink, "/", b"")?;
                put(a, "d", EntryType::Directory, "", b"")?;
                put(a, "d/p", EntryType::Fifo, "", b"")
            })?,
        ),
        (
            "whiteouts",
            make(&|a| {
                put(a, &format!("d/{WH}{WH}.opq"), EntryType::Regular, "", b"")?;
                put(a, &format!("{WH}gone"), EntryType::Regular, "", b"")?;
                put(a, &format!("{WH}{WH}plnk/1"), EntryType::Regular, "", b"source")?;
                put(a, "linked", EntryType::Link, &format!("{WH}{WH}plnk/1"), b"")
            })?,
        ),
        (
            "pax",
            make(&|a| {
                let records: [(&str, &[u8]); 4] =
                    [("mtime", b"1.5"), ("path", b"name"), ("size", b"4"), ("SCHILY.xattr.user.a", b"b")];
                a.append_pax_extensions(records)?;
                put(a, "f", EntryType::Regular, "", b"text")
            })?,
        ),
        (
            "gnu",
            make(&|a| {
                let mut header = Header::new_gnu();
                header.set_size(1);
                a.append_data(&mut header, format!("{long}f"), &b"x"[..])
            })?,
        ),
        ("gzip", gzip(&make(&|a| put(a, "f", EntryType::Regular, "", b"text"))?)),
    ])
}

fn put(archive: &mut Archive, name: &str, kind: EntryType, link: &str, body: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(body.len() as u64);
    header.set_cksum();
    archive.append(&header, body)
}

/// Stored, not compressed: libFuzzer can get at what is inside.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01".to_vec();
    let len = bytes.len() as u16;
    out.extend([len.to_le_bytes(), (!len).to_le_bytes()].concat());
    out.extend_from_slice(bytes);
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    // Writing to a Vec can't fail.
    drop(out.write_all(&[(!crc).to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat()));
    out
}
