//! Builds a C program in the union: sources in the lower layers, objects and program in the upper one. One compiler after
//! the other, so that the numbers do not depend on how the machine spreads them.

use std::process::Command;

use anyhow::{Result, ensure};

use super::super::bout::Bout;
use crate::run;

pub(super) const ROWS: &[&str] = &["build of a C program"];

pub(super) fn run(bout: &mut Bout<'_>) -> Result<()> {
    let code = bout.root.join("code");
    let out = bout.fresh_dir()?;
    let names: Vec<String> =
        (0..bout.stage.sizes.c_files).map(|i| format!("c{i:02}")).chain(["main".into()]).collect();
    let program = out.join("program");
    bout.time(ROWS[0], || {
        let mut link = Command::new("cc");
        link.arg("-o").arg(&program);
        for name in &names {
            let object = out.join(format!("{name}.o"));
            let mut compile = Command::new("cc");
            compile.args(["-O1", "-pipe", "-c", "-o"]).arg(&object).arg(code.join(format!("{name}.c")));
            run::output(&mut compile)?;
            link.arg(object);
        }
        run::output(&mut link)
    })?;
    let said = run::output(&mut Command::new(&program))?;
    // Every one of the 20 functions of a file gives 1.
    let want = bout.stage.sizes.c_files * 20;
    ensure!(said.trim() == want.to_string(), "the program says {}, not {want}", said.trim());
    std::fs::remove_dir_all(&out)?;
    Ok(())
}
