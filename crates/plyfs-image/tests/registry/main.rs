//! Pulling from a registry that misbehaves: a server inside the test, on loopback, that breaks connections, lies, redirects
//! and wants tokens. Real registries are met in `plyfs-tests`.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod auth;
mod broken;
mod content;
mod image;
mod redirects;
mod server;
mod store;
