//! `plyfs man`: manual pages from the clap definitions.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::{Cli, HelperMount, HelperUmount, ManArgs};
use crate::exit::{self, Outcome};
use crate::output;

/// Prints the main page, or writes every page.
pub(crate) fn run(args: &ManArgs) -> Outcome {
    match &args.dir {
        Some(dir) => write_all(dir)?,
        None => output::raw(&page(Cli::command(), "1")?)?,
    }
    Ok(exit::DONE)
}

fn page(command: clap::Command, section: &str) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command).section(section).render(&mut text).context("rendering")?;
    Ok(text)
}

fn write_all(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    for (name, section, command) in pages() {
        let path = dir.join(format!("{name}.{section}"));
        std::fs::write(&path, page(command, section)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Every page: name, section, and what it is made from.
fn pages() -> Vec<(String, &'static str, clap::Command)> {
    let mut main = Cli::command();
    main.build();
    let mut pages = Vec::new();
    for command in main.get_subcommands().filter(|command| !command.is_hide_set()) {
        // build() gave it the display name plyfs-COMMAND, which the page uses as its title.
        pages.push((format!("plyfs-{}", command.get_name()), "1", command.clone()));
    }
    pages.push(("plyfs".to_owned(), "1", Cli::command()));
    pages.push(("mount.aufs".to_owned(), "8", HelperMount::command()));
    pages.push(("umount.aufs".to_owned(), "8", HelperUmount::command()));
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path()).unwrap();
        for name in ["plyfs.1", "plyfs-try.1", "plyfs-mount.1", "mount.aufs.8", "umount.aufs.8"] {
            let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{name}");
        }
    }
}
