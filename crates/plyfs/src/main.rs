//! AUFS for today's kernels: a union filesystem in user space.

mod changes;
mod cli;
mod commands;
mod container;
mod daemon;
mod exit;
mod hints;
mod log;
mod mounted;
mod output;
mod personality;
mod rootless;
mod runtime_dir;
mod serve;
mod store;
mod whole_file;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let code = match personality::read(&argv) {
        Ok(request) => commands::run(request).unwrap_or_else(|failure| {
            output::failure(&failure);
            failure.code
        }),
        Err(not_run) => not_run.show(),
    };
    ExitCode::from(code)
}
