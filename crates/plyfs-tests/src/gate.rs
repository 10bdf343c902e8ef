//! Gates: what a test needs and the machine may lack. With CI=true a closed gate fails the test.

/// Whether nothing may be skipped.
pub fn ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Passes `ok` on; a missing need is printed, or under CI=true fails the test.
pub fn gate(ok: bool, why: &str) -> bool {
    if !ok {
        assert!(!ci(), "CI=true and yet not possible here: {why}");
        eprintln!("SKIPPED: {why}");
    }
    ok
}

/// Whether this process is root (in the initial user namespace or another).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `if !require_root("making devices") { return }`
pub fn require_root(why: &str) -> bool {
    gate(is_root(), &format!("{why} needs root"))
}

/// Whether all programs are installed.
pub fn require_programs(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !have(program)).collect();
    gate(missing.is_empty(), &format!("not installed: {}", missing.join(", ")))
}

/// Whether a program is in PATH or the sbin folders.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.into_iter().any(|dir| dir.join(program).is_file())
}
