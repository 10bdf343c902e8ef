//! Terminals: driven through a pseudo terminal by python3.

use plyfs_tests::{require_programs, run};

use crate::store::Store;

/// argv: plyfs and its words. Standard input: lines `expect TEXT`, `send TEXT` (Python escapes), `size ROWS COLS`; the
/// answer is all that was seen, and the exit code.
const DRIVER: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
steps = [line.rstrip("\n") for line in sys.stdin]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""; mark = 0
def pump(limit):
    global seen
    ready, _, _ = select.select([fd], [], [], limit)
    if not ready: return True
    try: data = os.read(fd, 4096)
    except OSError: return False
    seen += data
    return bool(data)
for step in steps:
    verb, _, rest = step.partition(" ")
    if verb == "size":
        rows, cols = map(int, rest.split())
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        os.kill(pid, signal.SIGWINCH)
        continue
    text = rest.encode().decode("unicode_escape").encode("latin-1")
    if verb == "send":
        os.write(fd, text)
        continue
    end = time.time() + 60
    while text not in seen[mark:]:
        if time.time() > end or not pump(0.2):
            sys.stdout.write("NOT SEEN: %r in %r\n" % (text, seen)); sys.exit(99)
    mark = seen.index(text, mark) + len(text)
while pump(1): pass
_, status = os.waitpid(pid, 0)
sys.stdout.write(seen.decode("latin-1"))
sys.exit(os.waitstatus_to_exitcode(status))
"#;

#[track_caller]
fn drive(store: &Store, words: &[&str], steps: &str) -> (i32, String) {
    let steps = store.scratch.file("steps", steps);
    let plyfs = store.command(words);
    let mut line = std::process::Command::new("python3");
    line.args(["-c", DRIVER]).arg(plyfs.get_program()).args(plyfs.get_args());
    let shell = format!("exec \"$@\" < {}", steps.display());
    let mut whole = std::process::Command::new("sh");
    whole
        .args(["-c", &shell, "sh"])
        .arg(line.get_program())
        .args(line.get_args())
        .env_remove("PLYFS_RUNTIME");
    let ran = run(&mut whole);
    assert_ne!(ran.code, 99, "{}", ran.out);
    (ran.code, ran.out)
}

fn store() -> Option<Store> {
    let store = Store::new()?;
    require_programs(&["python3"]).then_some(store)
}

#[test]
fn a_shell_has_job_control_and_keys() {
    let Some(store) = store() else { return };
    let steps = "expect # \nsend echo si''ze; stty -a | head -n1\\r\nexpect size\nexpect # \n\
                 send sh -c 'echo g\"\"o; sleep 1000'\\r\nexpect go\nsend \\x03\nexpect # \n\
                 send sleep 1001 & jobs\\r\nexpect Running\nexpect # \nsend exit 9\\r\n";
    let (code, seen) = drive(&store, &["run", "--rm", "-it", "bb", "sh"], steps);
    assert_eq!(code, 9, "{seen}");
    assert!(!seen.contains("can't access tty"), "{seen}");
    store.is_quiet();
}

#[test]
fn the_window_has_the_callers_size() {
    let Some(store) = store() else { return };
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let steps = "expect ready\nsize 33 77\nexpect 33 77\nsize 20 60\nexpect 20 60\nsend \\x03\n";
    let (code, seen) = drive(&store, &["run", "--rm", "-it", "bb", "sh", "-c", script], steps);
    assert_eq!(code, 130, "{seen}");
}

#[test]
fn the_terminal_is_given_back() {
    let Some(store) = store() else { return };
    let plyfs = plyfs_tests::mount::plyfs_path();
    let line = format!(
        "stty -g > {d}/before; {} --root {} run --rm -it bb sh -c 'exit 3'; echo code $?; stty -g > {d}/after",
        plyfs.display(),
        store.root().display(),
        d = store.scratch.root().display()
    );
    let ran = run(std::process::Command::new("script").args(["-qec", &line, "/dev/null"]));
    assert!(ran.out.contains("code 3"), "{}", ran.out);
    let read = |name: &str| std::fs::read_to_string(store.scratch.path(name)).unwrap();
    assert_eq!(read("before"), read("after"));
}

#[test]
fn a_terminal_in_the_background_is_logged() {
    let Some(store) = store() else { return };
    store.ok(&["run", "-dt", "--name", "term", "bb", "sh", "-c", "tty; echo err >&2"]);
    assert_eq!(store.ok(&["wait", "term"]), "0");
    assert_eq!(store.ok(&["logs", "term"]), "/dev/pts/0\r\nerr\r");
}
