//! Images.

pub mod compress;
pub mod digest;

pub mod limits;
pub mod pack;
pub mod tarsplit;
pub mod unpack;
