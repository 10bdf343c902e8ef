//! What clients do, and how often. Every operation changes the model as it changes the union, and compares what it can.

mod attrs;
mod data;
mod held;
mod look;
mod names;

use anyhow::Result;

use super::client::Client;

type Op = fn(&mut Client) -> Result<()>;

/// Weights and operations.
const OPS: &[(u64, Op)] = &[
    (10, data::create),
    (8, data::append),
    (10, data::overwrite),
    (6, data::truncate),
    (2, data::temporary),
    (20, look::read),
    (25, look::stat),
    (6, look::list),
    (6, look::missing),
    (3, look::readlink),
    (4, look::xattr),
    (6, names::rename_file),
    (2, names::rename_dir),
    (2, names::exchange),
    (4, names::link),
    (2, names::symlink),
    (6, names::unlink),
    (3, names::mkdir),
    (2, names::rmdir),
    (5, attrs::chmod),
    (2, attrs::chown),
    (3, attrs::utimes),
    (4, attrs::setxattr),
    (6, held::open),
    (12, held::look),
    (5, held::write),
    (3, held::copy_up_under),
    (3, attrs::change_then_data),
];

/// Does one operation.
pub(crate) fn one(client: &mut Client) -> Result<()> {
    let sum = OPS.iter().map(|(weight, _)| weight).sum();
    let mut at = client.dice.below(sum);
    for (weight, op) in OPS {
        if at < *weight {
            return op(client);
        }
        at -= weight;
    }
    Ok(())
}

pub(super) use names::remove_all;
