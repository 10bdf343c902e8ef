//! `plyfs start`.

use anyhow::anyhow;

use super::{each, find};
use crate::cli::containers::StartArgs;
use crate::cli::store::StoreArgs;
use crate::container::attach;
use crate::exit::{Failure, Outcome};
use crate::{output, store};

/// Starts containers; one that runs is started already.
pub(crate) fn run(args: &StartArgs, store: &StoreArgs) -> Outcome {
    let opened = store::open_to_write(store)?;
    crate::container::create::need_privilege()?;
    let root = opened.layout().root();
    if args.attach || args.interactive {
        let [name] = &args.containers[..] else {
            return Err(Failure::usage("you cannot start and attach multiple containers at once"));
        };
        let container = find(&opened, name)?;
        if container.state.running {
            return Err(anyhow!("container {name} is running; `plyfs logs -f` shows what it writes").into());
        }
        return attach::foreground(store, root, &container, args.interactive);
    }
    each(&args.containers, &mut |name| {
        let container = find(&opened, name)?;
        if !container.state.running {
            attach::detached(store, root, &container.id)?;
        }
        output::raw(format!("{name}\n").as_bytes())
    })
}
