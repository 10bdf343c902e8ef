//! Containers with the real program and a real runtime (crun), each test in a store of its own. Root only.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

mod commit;
mod docker;
mod hostile;
mod init;
mod life;
mod run;
mod store;
mod tty;
mod user;
mod volumes;
