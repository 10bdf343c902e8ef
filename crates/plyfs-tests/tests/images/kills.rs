//! SIGKILL at random instants of commands, one after the other on one store that lives through all of them: pull, load,
//! commit, rm, rmi, run and save, started as the real program. Whatever is left, the next command finds a whole store,
//! what was never touched is as it was, what had been reported is there, and the same command again succeeds. When
//! everything is removed in the end, the store is as empty as a new one.
//!
//! `PLYFS_ROUNDS` says how many rounds (200 is the full measure), `PLYFS_SEED` what chance does in them. Kills at any
//! system call of the store alone, of several processes at once: `tests/store/crash.rs`.

mod operation;
mod world;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use plyfs_tests::mount::wait_until;
use plyfs_tests::random::{number, seed};
use plyfs_tests::tree::Random;
use rustix::process::{Pid, Signal, kill_process_group};

use operation::Operation;
use world::World;

/// Whom the signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The process that was started.
    Main,
    /// Its group: what a terminal or a service manager would kill.
    Group,
    /// Everything that it started, whatever became of it: monitors, mount servers, runtimes. As when the machine goes down.
    All,
}

/// What one round did, for messages.
struct Round {
    operation: Operation,
    reach: Reach,
    what: String,
}

#[test]
fn sigkill_at_any_instant_of_a_command() {
    let Some(world) = World::new() else { return };
    let mut random = Random::new(seed());
    let typical: Vec<Duration> = Operation::ALL.iter().map(|one| one.measured(&world)).collect();
    let rounds = number("PLYFS_ROUNDS", 15);
    let mut killed = 0;
    for number in 0..rounds {
        // Each in turn, so that few rounds try all; which instant and whom is chance.
        let at = (number % Operation::ALL.len() as u64) as usize;
        let operation = Operation::ALL[at];
        let reach = [Reach::Main, Reach::Group, Reach::All][random.below(3) as usize];
        let micros = u64::try_from(typical[at].as_micros()).unwrap();
        let wait = Duration::from_micros(random.below(micros + micros / 10));
        let what = format!("round {number}, {operation:?}, {reach:?} after {wait:?} (PLYFS_SEED={})", seed());
        let round = Round { operation, reach, what };
        killed += u64::from(!round.kill(&world, wait));
        round.look_after(&world, random.below(3));
        if number % 10 == 9 {
            world.check(&["check", "--contents"], &round.what);
        }
        round.again(&world);
    }
    eprintln!("{killed} of {rounds} commands were killed before their end");
    assert!(killed * 3 >= rounds, "only {killed} of {rounds} were killed: nothing was tried");
    world.ends_empty();
}

impl Round {
    /// Starts and kills it; `true`: it had ended in order before.
    fn kill(&self, world: &World, wait: Duration) -> bool {
        self.operation.prepare(world);
        let out = world.scratch.path("out");
        let words = self.operation.words(world);
        let mut command = world.command(&words);
        command.process_group(0).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.stdout(File::create(&out).unwrap()).spawn().unwrap();
        std::thread::sleep(wait);
        let status = self.strike(world, &mut child);
        let said = std::fs::read_to_string(&out).unwrap();
        let ended = status.success();
        assert!(ended || status.code().is_none(), "{}: failed by itself: {status}", self.what);
        if ended || self.operation.has_reported(&said) {
            // Reading mends nothing: it is there as it stands.
            assert!(self.operation.is_done(world), "{}: was reported ({said:?}) and is not there", self.what);
        }
        assert!(self.operation.is_whole(world), "{}: half done", self.what);
        ended
    }

    fn strike(&self, world: &World, child: &mut Child) -> ExitStatus {
        let group = Pid::from_child(child);
        match self.reach {
            Reach::Main => child.kill().unwrap(),
            // Not yet waited for, so that the group is still there.
            Reach::Group => kill_process_group(group, Signal::KILL).unwrap(),
            Reach::All => {
                kill_process_group(group, Signal::KILL).unwrap();
                world.kill_all();
            }
        }
        child.wait().unwrap()
    }

    /// The next commands; `first` says which one comes first.
    fn look_after(&self, world: &World, first: u64) {
        let what = &self.what;
        match first {
            0 => drop(world.ok(&["info"])),
            1 => drop(world.containers()),
            _ => {}
        }
        world.ok(&["tag", world::KEPT, world::KEPT]);
        world.check(&["check"], what);
        if self.reach == Reach::All {
            // With --rm it goes with whoever looks next, if it ever ran.
            let is_left = |one: &world::Listed| one.name == operation::RUNNING && one.state != "created";
            let left: Vec<_> = world.containers().into_iter().filter(is_left).collect();
            assert!(left.is_empty(), "{what}: everything was killed, and yet {left:?}");
            assert_eq!(world.mounts(), Vec::<String>::new(), "{what}");
            assert_eq!(world.processes(), Vec::<String>::new(), "{what}");
        }
        // A container whose command alone was killed lives on: its monitor is not the command's.
        wait_until("the container has gone", || {
            // Refused while its monitor is starting or removing it.
            let ran = plyfs_tests::run(&mut world.command(&["rm", "-fv", operation::RUNNING]));
            assert!(ran.code == 0 || ran.err.contains("is being started or removed"), "{what}: {}", ran.err);
            world.containers().iter().all(|one| one.name != operation::RUNNING)
                && world.processes().is_empty()
        });
        assert_eq!(world.mounts(), Vec::<String>::new(), "{what}");
        world.check(&["check"], what);
        world.is_untouched(what);
    }

    /// What was killed succeeds when it is done again.
    fn again(&self, world: &World) {
        if self.operation.removes() && self.operation.is_done(world) {
            return;
        }
        let ran = plyfs_tests::run(&mut world.command(&self.operation.words(world)));
        assert_eq!(ran.code, 0, "{}, again: {}\n{}", self.what, ran.line, ran.err);
        assert!(self.operation.is_done(world), "{}: done again, and not there", self.what);
    }
}

/// How long `work` takes.
fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
