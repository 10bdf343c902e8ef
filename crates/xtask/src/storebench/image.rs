//! The image: files of this machine's own `/usr`, spread over layers, with busybox at the bottom so that it can run.
//!
//! An OCI layout (`oci/`) and the same as one archive (`oci.tar`), layers compressed by gzip.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::options::Options;
use crate::run;

/// What was made.
#[derive(Debug)]
pub(super) struct Image {
    /// The archive.
    pub(super) archive: PathBuf,
    /// The layout as a directory.
    pub(super) layout: PathBuf,
    /// All layers in one directory: what a container sees.
    pub(super) rootfs: PathBuf,
}

/// The image's tag inside the layout.
pub(super) const TAG: &str = "latest";

pub(super) fn make(dir: &Path, options: &Options) -> Result<Image> {
    let (layout, rootfs) = (dir.join("oci"), dir.join("rootfs"));
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for (at, files) in spread(options)?.into_iter().enumerate() {
        let tar = dir.join("layer.tar");
        pack(dir, &tar, &files, at == 0)?;
        fs::create_dir_all(&rootfs)?;
        run::output(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&rootfs))?;
        diff_ids.push(format!("sha256:{}", sha256(&tar)?));
        run::output(Command::new("gzip").args(["-n", "-f"]).arg(&tar))?;
        layers.push(put(&blobs, &dir.join("layer.tar.gz"), "application/vnd.oci.image.layer.v1.tar+gzip")?);
    }
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/busybox", "true"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = put_json(dir, &blobs, &config, "application/vnd.oci.image.config.v1+json")?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers });
    let mut manifest = put_json(dir, &blobs, &manifest, manifest_type)?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": TAG });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let archive = dir.join("oci.tar");
    run::output(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&layout).arg("."))?;
    Ok(Image { archive, layout, rootfs })
}

/// Regular files of `/usr` up to the wanted size, dealt out to the layers.
fn spread(options: &Options) -> Result<Vec<Vec<PathBuf>>> {
    let mut dealt = vec![Vec::new(); options.layers];
    let (mut bytes, mut next) = (0, 0);
    let mut waiting: Vec<PathBuf> = ["/usr/share", "/usr/lib"].iter().map(PathBuf::from).collect();
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.is_file() && metadata.nlink() == 1 && metadata.len() < 4 << 20 {
                bytes += metadata.len();
                dealt[next % options.layers].push(entry.path());
                next += 1;
            }
            if bytes >= options.mib << 20 {
                return Ok(dealt);
            }
        }
    }
    Ok(dealt)
}

fn pack(dir: &Path, tar: &Path, files: &[PathBuf], bottom: bool) -> Result<()> {
    let list = dir.join("list");
    let names: Vec<u8> = files
        .iter()
        .flat_map(|path| {
            [path.as_os_str().as_encoded_bytes().strip_prefix(b"/").unwrap_or_default(), b"\0"].concat()
        })
        .collect();
    fs::write(&list, names)?;
    let mut command = Command::new("tar");
    command.arg("-cf").arg(tar).args(["--owner=0", "--group=0", "-C", "/", "--null", "-T"]).arg(&list);
    run::output(&mut command)?;
    if bottom {
        let busybox = dir.join("bottom/bin");
        fs::create_dir_all(&busybox)?;
        fs::copy("/bin/busybox", busybox.join("busybox")).context("busybox-static is needed")?;
        let mut command = Command::new("tar");
        run::output(
            command
                .arg("-rf")
                .arg(tar)
                .args(["--owner=0", "--group=0", "-C"])
                .arg(dir.join("bottom"))
                .arg("bin"),
        )?;
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let line = run::output(Command::new("sha256sum").arg(path))?;
    line.split(' ').next().map(str::to_owned).context("sha256sum says nothing")
}

/// Moves a file to its place; answers its descriptor.
fn put(blobs: &Path, file: &Path, media_type: &str) -> Result<Value> {
    let hex = sha256(file)?;
    let size = fs::metadata(file)?.len();
    fs::rename(file, blobs.join(&hex))?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": size }))
}

fn put_json(dir: &Path, blobs: &Path, value: &Value, media_type: &str) -> Result<Value> {
    let file = dir.join("document.json");
    fs::write(&file, value.to_string())?;
    put(blobs, &file, media_type)
}
