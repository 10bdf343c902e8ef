//! The OCI bundle's `config.json`: what Docker gives its containers (moby `oci/defaults.go`, `daemon/oci_linux.go`), without
//! a seccomp filter.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxDeviceCgroupBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxResources, Mount, MountBuilder, Process, Root, Spec, User,
};
use plyfs_store::containers::{Container, HostConfig};

use super::user::Who;
use super::{env, etc};
use crate::cli::containers::Network;

/// What the bundle is made from.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) container: &'a Container,
    pub(crate) host: &'a HostConfig,
    /// The container's directory in the store, where the files of `etc` are.
    pub(crate) dir: &'a Path,
    /// The mounted root.
    pub(crate) root: &'a Path,
    pub(crate) who: &'a Who,
    /// Whether the runtime may show control groups.
    pub(crate) cgroups: bool,
}

/// Docker's default (`oci/caps/defaults.go`).
const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where, type, source, options.
type Line = (&'static str, &'static str, &'static str, &'static [&'static str]);

const MOUNTS: [Line; 6] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
];

const CGROUPS: Line = ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);

/// Writes `config.json` into `bundle`.
pub(crate) fn write(plan: &Plan<'_>, bundle: &Path) -> anyhow::Result<()> {
    let path = bundle.join("config.json");
    spec(plan)?.save(&path).with_context(|| format!("writing {}", path.display()))
}

fn spec(plan: &Plan<'_>) -> anyhow::Result<Spec> {
    let mut root = Root::default();
    let read_only = plan.host.readonly_rootfs && plan.cgroups;
    root.set_path(plan.root.to_owned()).set_readonly(Some(read_only));
    let mut spec = Spec::default();
    spec.set_version("1.0.2".to_owned())
        .set_root(Some(root))
        .set_hostname(Some(plan.container.config.hostname.clone()))
        .set_process(Some(process(plan)))
        .set_mounts(Some(mounts(plan)?))
        .set_linux(Some(linux(plan)?));
    Ok(spec)
}

fn process(plan: &Plan<'_>) -> Process {
    let (container, who) = (plan.container, plan.who);
    let mut user = User::default();
    user.set_uid(who.uid).set_gid(who.gid).set_additional_gids(Some(who.groups.clone()));
    let config = &container.config;
    let env = env::of_process(&config.env, &config.hostname, config.tty, &who.home);
    let args = std::iter::once(container.path.clone()).chain(container.args.clone()).collect();
    let cwd = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    let mut process = Process::default();
    process
        .set_terminal(Some(config.tty))
        .set_user(user)
        .set_args(Some(args))
        .set_env(Some(env))
        .set_cwd(PathBuf::from(cwd))
        .set_capabilities(Some(capabilities(who.uid, plan.cgroups)))
        .set_no_new_privileges(Some(false))
        // The caller's own: raising one needs CAP_SYS_RESOURCE.
        .set_rlimits(None)
        .set_oom_score_adj(None);
    process
}

/// As execve(2) would have it: those of another user are none until he runs a set-user-id program. Without control groups
/// nothing keeps a device that was made from being opened: then none is made.
fn capabilities(uid: u32, cgroups: bool) -> LinuxCapabilities {
    let mut all: HashSet<Capability> = CAPABILITIES.into_iter().collect();
    if !cgroups {
        all.remove(&Capability::Mknod);
    }
    let own = if uid == 0 { all.clone() } else { HashSet::new() };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(all))
        .set_effective(Some(own.clone()))
        .set_permitted(Some(own))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

fn mounts(plan: &Plan<'_>) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    let system = MOUNTS.iter().chain(plan.cgroups.then_some(&CGROUPS));
    for (at, kind, source, options) in system {
        mounts.push(mount(at, kind, Path::new(source), options.iter().map(ToString::to_string).collect())?);
    }
    mounts.extend(by_depth(own_mounts(plan)?));
    if !plan.cgroups {
        // The root is mounted without devices, but crun clears a bind's flags that it is not told, and making the root
        // read-only by itself would clear them again. Last, for what is made in the root before; as `/` it is refused.
        let access = if plan.host.readonly_rootfs { "ro" } else { "rw" };
        let options = ["bind", "remount", "nodev", access].map(str::to_owned).into();
        mounts.push(mount("/.", "bind", plan.root, options)?);
    }
    Ok(mounts)
}

/// What lies in another comes after it, whatever made them.
fn by_depth(mut mounts: Vec<Mount>) -> Vec<Mount> {
    mounts.sort_by_key(|mount| mount.destination().components().count());
    mounts
}

/// The files of `etc`, the tmpfs, the volumes.
fn own_mounts(plan: &Plan<'_>) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    let bind = |at: &str, source: &Path, writable: bool, devices: bool| {
        let access = if writable { "rw" } else { "ro" };
        let mut options: Vec<String> = ["rbind", "rprivate", access].map(str::to_owned).into();
        if !devices {
            options.push("nodev".to_owned());
        }
        mount(at, "bind", source, options)
    };
    let points = &plan.container.mount_points;
    for (file, at) in etc::FILES {
        if !points.contains_key(at) {
            mounts.push(bind(at, &plan.dir.join(file), !plan.host.readonly_rootfs, true)?);
        }
    }
    for (at, options) in tmpfs_of(plan.host) {
        let mut all: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
        all.extend(options.split(',').filter(|option| !option.is_empty()).map(str::to_owned));
        mounts.push(mount(&at, "tmpfs", Path::new("tmpfs"), all)?);
    }
    for point in points.values() {
        // A volume may have been filled with an image's devices; a path of the host was chosen with what is in it.
        let devices = plan.cgroups || point.kind != "volume";
        mounts.push(bind(&point.destination, Path::new(&point.source), point.rw, devices)?);
    }
    Ok(mounts)
}

/// Docker's `HostConfig.Tmpfs`: place to options.
pub(crate) fn tmpfs_of(host: &HostConfig) -> Vec<(String, String)> {
    let Some(map) = host.other.get("Tmpfs").and_then(serde_json::Value::as_object) else { return Vec::new() };
    map.iter().map(|(at, options)| (at.clone(), options.as_str().unwrap_or_default().to_owned())).collect()
}

fn mount(at: &str, kind: &str, source: &Path, options: Vec<String>) -> anyhow::Result<Mount> {
    Ok(MountBuilder::default().destination(at).typ(kind).source(source).options(options).build()?)
}

fn linux(plan: &Plan<'_>) -> anyhow::Result<Linux> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network as Net, Pid, Uts};
    let mut kinds = vec![Pid, Ipc, Uts, Mount];
    if network(plan.host) == Network::None {
        kinds.push(Net);
    }
    if plan.cgroups {
        kinds.push(Cgroup);
    }
    let namespaces: Result<Vec<LinuxNamespace>, _> =
        kinds.into_iter().map(|kind| LinuxNamespaceBuilder::default().typ(kind).build()).collect();
    let words = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect());
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces?))
        .set_masked_paths(words(&MASKED))
        .set_readonly_paths(words(&READ_ONLY))
        .set_rootfs_propagation(None);
    linux.set_resources(Some(resources()?));
    Ok(linux)
}

/// No device but those that runtimes add themselves (runtime-spec config-linux.md, "Default Devices"), as Docker has it.
/// Where the runtime makes no control groups, this keeps nothing away: see [`capabilities`] and
/// [`how_to_mount`](crate::container::how_to_mount).
fn resources() -> anyhow::Result<LinuxResources> {
    let none = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?;
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![none]));
    Ok(resources)
}

/// Of a container made by somebody else: what plyfs cannot build is no network.
pub(crate) fn network(host: &HostConfig) -> Network {
    if host.network_mode == "host" { Network::Host } else { Network::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_what_docker_makes() {
        let mut container = Container { path: "sh".into(), ..Container::default() };
        container.config.hostname = "h".into();
        let host = HostConfig { network_mode: "none".into(), readonly_rootfs: true, ..HostConfig::default() };
        let who = Who { uid: 5, home: "/".into(), ..Who::default() };
        let (dir, root) = (Path::new("/d"), Path::new("/r"));
        let plan = Plan { container: &container, host: &host, dir, root, who: &who, cgroups: false };
        let json = serde_json::to_value(spec(&plan).unwrap()).unwrap();
        let at = |pointer: &str| json.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/process/noNewPrivileges"), false);
        assert_eq!(at("/process/capabilities/effective"), serde_json::json!([]));
        assert_eq!(at("/process/capabilities/bounding").as_array().unwrap().len(), 13);
        assert!(!at("/process/capabilities/bounding").as_array().unwrap().contains(&"CAP_MKNOD".into()));
        assert_eq!(at("/linux/resources/devices"), serde_json::json!([{"allow": false, "access": "rwm"}]));
        assert_eq!(at("/process/rlimits"), serde_json::Value::Null);
        assert_eq!(at("/linux/seccomp"), serde_json::Value::Null);
        let kinds: Vec<_> =
            at("/linux/namespaces").as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "network"]);
        let mounts = at("/mounts");
        assert!(mounts.as_array().unwrap().iter().all(|mount| mount["type"] != "cgroup"));
        let root = mounts.as_array().unwrap().last().unwrap();
        assert_eq!(root["options"], serde_json::json!(["bind", "remount", "nodev", "ro"]));
        let hosts =
            mounts.as_array().unwrap().iter().find(|mount| mount["destination"] == "/etc/hosts").unwrap();
        assert_eq!(hosts["options"], serde_json::json!(["rbind", "rprivate", "ro"]));
    }
}
