//! What a server is when nobody asks for anything: one thread, few descriptors, whatever was done before; and a signal
//! reaches it all the same.

use std::fs;

use plyfs_tests::mount::{kill, wait_until};
use plyfs_tests::{Mount, Scratch};
use rustix::process::Signal;

const LAYERS: usize = 30;

fn stack(scratch: &Scratch) -> Mount {
    let names: Vec<String> = (0..=LAYERS).map(|at| format!("br{at}")).collect();
    for (at, name) in names.iter().enumerate().skip(1) {
        for file in 0..20 {
            scratch.file(format!("{name}/d{}/f{at}.{file}", file % 4), "x");
        }
    }
    // With io_uring a mount keeps its threads.
    Mount::stack_exactly(scratch, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn count(server: i32, what: &str) -> usize {
    fs::read_dir(format!("/proc/{server}/{what}")).map_or(0, Iterator::count)
}

/// Descriptors of the branches, or of private copies of their mount; not those that the server was started with.
fn directories(server: i32) -> usize {
    let all = fs::read_dir(format!("/proc/{server}/fd")).unwrap();
    let targets = all.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    targets.filter(|target| target.is_absolute() && target.is_dir()).count()
}

#[test]
fn an_idle_server_is_one_thread_and_holds_few_descriptors() {
    let scratch = Scratch::new();
    let mount = stack(&scratch);
    let server = mount.server();
    for _ in 0..2 {
        wait_until("one thread", || count(server, "task") == 1);
        wait_until("few directories", || directories(server) <= 6);
        for dir in 0..4 {
            let entries = fs::read_dir(mount.path(format!("d{dir}"))).unwrap();
            assert_eq!(
                entries.filter(|entry| entry.as_ref().unwrap().metadata().unwrap().len() == 1).count(),
                LAYERS * 5
            );
        }
        fs::write(mount.path("d1/big"), vec![1; 4 << 20]).unwrap();
        assert_eq!(fs::read(mount.path("d1/big")).unwrap().len(), 4 << 20);
        fs::remove_file(mount.path("d1/big")).unwrap();
    }
}

#[test]
fn a_signal_ends_an_idle_server_and_one_that_has_just_begun() {
    for idle in [false, true, false, false] {
        let scratch = Scratch::new();
        let mount = stack(&scratch);
        let server = mount.server();
        if idle {
            fs::metadata(mount.path("d1")).unwrap();
            wait_until("one thread", || count(server, "task") == 1);
        }
        kill(server, Signal::TERM);
        mount.was_unmounted();
    }
}
