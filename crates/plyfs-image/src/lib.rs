//! Images.

pub mod compress;
pub mod digest;
mod digest_value;
pub mod limits;
pub mod pack;
pub mod tarsplit;
pub mod unpack;
