//! A new container: its documents from the command line and the image, its layers.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use plyfs_store::Store;
use plyfs_store::containers::{Config, Container, HostConfig};
use plyfs_store::images::Image;
use plyfs_sys::process::signals;
use serde_json::{Map, Value, json};

use super::volumes::{self, Source, Wish};
use super::{env, image, init_layer, json_log, names, runtime};
use crate::cli::containers::{CreateArgs, Network};
use crate::exit::Failure;
use crate::store::Servers;

/// Makes the container of an image that is here; answers its document.
pub(crate) fn create(store: &Store, args: &CreateArgs, image: &Image) -> Result<Container, Failure> {
    need_privilege()?;
    if let Some(file) = args.cidfile.as_ref().filter(|file| file.exists()) {
        let what = anyhow!(
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        );
        return Err(what.into());
    }
    let id = store.new_container_id().map_err(anyhow::Error::new)?;
    let config = config(args, &id, image)?;
    let mut container = document(store, &id, args, image, config)?;
    let wishes = wishes(args, &container.config)?;
    let host = host_config(args)?;
    if wishes.is_empty() {
        publish(store, args, &mut container, &host, image)?;
    } else {
        publish_with_volumes(store, args, &mut container, &host, image, &wishes)?;
    }
    if let Some(file) = &args.cidfile {
        let written = OpenOptions::new().write(true).create_new(true).open(file);
        let written = written.and_then(|mut file| file.write_all(container.id.as_bytes()));
        written.with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(container)
}

/// Containers are made with devices, owners and mounts: for root, of the machine or of a user namespace.
pub(crate) fn need_privilege() -> Result<(), Failure> {
    if plyfs_sys::cred::effective_uid() == 0 && plyfs_sys::process::may_administer() {
        return Ok(());
    }
    let what = anyhow!("containers need CAP_SYS_ADMIN, which was taken from this process");
    Err(Failure::from(what).or_hint("`plyfs doctor` lists what is missing"))
}

/// Nameless volumes come with the container or not at all.
fn publish_with_volumes(
    store: &Store,
    args: &CreateArgs,
    container: &mut Container,
    host: &HostConfig,
    image: &Image,
    wishes: &[Wish],
) -> Result<(), Failure> {
    let intent =
        store.begin(&format!("volumes of container {}", container.id)).map_err(anyhow::Error::new)?;
    let mut make = || {
        for wish in wishes {
            let point = volumes::provide(store, &intent, wish)?;
            container.mount_points.insert(point.destination.clone(), point);
        }
        publish(store, args, container, host, image)
    };
    let made = make();
    let ended = if made.is_ok() { intent.done() } else { intent.undo(store, &Servers) };
    match (made, ended) {
        (Ok(()), ended) => Ok(ended.map_err(anyhow::Error::new)?),
        (Err(failure), ended) => {
            if let Err(more) = ended {
                tracing::warn!("taking back the volumes of container {}: {more}", container.id);
            }
            Err(failure)
        }
    }
}

/// Under the name asked for, or the first suggested one that is free.
fn publish(
    store: &Store,
    args: &CreateArgs,
    container: &mut Container,
    host: &HostConfig,
    image: &Image,
) -> Result<(), Failure> {
    let mut fill = |init: &plyfs_store::LayerId| {
        init_layer::fill(store, init, image.top()).map_err(|error| plyfs_store::Error::Mount {
            id: init.to_string(),
            source: format!("{error:#}").into(),
        })
    };
    for attempt in 0.. {
        let name = args.name.clone().unwrap_or_else(|| names::suggest(&container.id, attempt));
        container.name = format!("/{name}");
        match store.create_container(container, host, image.top(), &Servers, &mut fill) {
            Err(plyfs_store::Error::Exists { kind: "container", .. })
                if args.name.is_none() && attempt < 2 => {}
            Err(plyfs_store::Error::Exists { kind: "container", name, by }) => {
                let by = by.map(|by| format!(" ({by})")).unwrap_or_default();
                let what = anyhow!("Conflict. The container name \"/{name}\" is already in use{by}");
                return Err(what.into());
            }
            made => return Ok(made.map(drop).map_err(anyhow::Error::new)?),
        }
    }
    Ok(())
}

/// The image's config with the command line's wishes (moby `daemon/commit.go` `merge`, docker/cli `opts.parse`).
fn config(args: &CreateArgs, id: &str, image: &Image) -> anyhow::Result<Config> {
    let mut config = image::config(image)?;
    match &args.entrypoint {
        Some(program) => {
            config.entrypoint = if program.is_empty() { Vec::new() } else { vec![program.clone()] };
            config.cmd.clone_from(&args.command);
        }
        None if !args.command.is_empty() => config.cmd.clone_from(&args.command),
        None => {}
    }
    let mut own = Vec::new();
    for file in &args.env_file {
        own.extend(env::file(file)?);
    }
    for line in &args.env {
        // A name alone that is not set here takes the image's away.
        own.push(env::given(line)?.unwrap_or_else(|| line.clone()));
    }
    config.env = env::merge(config.env, own);
    if let Some(dir) = &args.workdir {
        if !dir.starts_with('/') {
            bail!("the working directory {dir:?} is invalid, it needs to be an absolute path");
        }
        config.working_dir.clone_from(dir);
    }
    if let Some(user) = &args.user {
        config.user.clone_from(user);
    }
    if let Some(signal) = &args.stop_signal {
        signals::parse(signal).with_context(|| format!("invalid signal: {signal}"))?;
        config.stop_signal.clone_from(signal);
    }
    for label in &args.labels {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        config.labels.insert(name.to_owned(), value.to_owned());
    }
    config.hostname = hostname(args, id)?;
    (config.tty, config.open_stdin) = (args.tty, args.interactive);
    config.image.clone_from(&args.image);
    Ok(config)
}

fn hostname(args: &CreateArgs, id: &str) -> anyhow::Result<String> {
    if let Some(name) = &args.hostname {
        let good = !name.is_empty()
            && name.len() <= 64
            && !name.contains(|c: char| c.is_whitespace() || c.is_control());
        if !good {
            bail!("invalid hostname {name:?}");
        }
        return Ok(name.clone());
    }
    let short = id.get(..12).unwrap_or(id).to_owned();
    if args.network == Network::None {
        return Ok(short);
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(Some(host.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or(short))
}

fn document(
    store: &Store,
    id: &str,
    args: &CreateArgs,
    image: &Image,
    config: Config,
) -> anyhow::Result<Container> {
    if let Some(name) = &args.name {
        names::check(name)?;
    }
    let mut words = config.entrypoint.iter().chain(&config.cmd).cloned();
    let path = words.next().context("No command specified")?;
    let args = words.collect();
    let dir = store.layout().container(id);
    let file = |name: &str| Value::from(dir.join(name).display().to_string());
    let other: Map<String, Value> = [
        ("HostnamePath".to_owned(), file("hostname")),
        ("HostsPath".to_owned(), file("hosts")),
        ("ResolvConfPath".to_owned(), file("resolv.conf")),
        ("RestartCount".to_owned(), 0.into()),
    ]
    .into_iter()
    .collect();
    Ok(Container {
        id: id.to_owned(),
        created: Timestamp::now(),
        path,
        args,
        config,
        image: image.id.to_string(),
        log_path: json_log::path(&dir, id).display().to_string(),
        other,
        ..Container::default()
    })
}

/// The command line's volumes, and nameless ones for the other places of the image.
fn wishes(args: &CreateArgs, config: &Config) -> anyhow::Result<Vec<Wish>> {
    let cwd = std::env::current_dir().context("finding the working directory")?;
    let mut wishes: Vec<Wish> = Vec::new();
    for text in &args.volumes {
        let wish = volumes::parse(text, &cwd)?;
        if wishes.iter().any(|one| one.destination == wish.destination) {
            bail!("Duplicate mount point: {}", wish.destination);
        }
        wishes.push(wish);
    }
    let tmpfs = tmpfs(args)?;
    for place in config.volumes.keys() {
        let destination = volumes::place(place).with_context(|| format!("the image's volume {place:?}"))?;
        let taken =
            tmpfs.contains_key(&destination) || wishes.iter().any(|one| one.destination == destination);
        if !taken {
            wishes.push(Wish { source: Source::Nameless, destination, read_only: false, no_copy: false });
        }
    }
    Ok(wishes)
}

fn tmpfs(args: &CreateArgs) -> anyhow::Result<BTreeMap<String, String>> {
    let one = |text: &String| {
        let (place, options) = text.split_once(':').unwrap_or((text, ""));
        let place = volumes::place(place).with_context(|| format!("--tmpfs {text}"))?;
        Ok((place, options.to_owned()))
    };
    args.tmpfs.iter().map(one).collect()
}

fn host_config(args: &CreateArgs) -> anyhow::Result<HostConfig> {
    let mut other = Map::new();
    let tmpfs = tmpfs(args)?;
    if !tmpfs.is_empty() {
        other.insert("Tmpfs".to_owned(), json!(tmpfs));
    }
    if let Some(runtime) = &args.runtime {
        other.insert("Runtime".to_owned(), runtime::absolute(runtime)?.into());
    }
    Ok(HostConfig {
        binds: args.volumes.iter().filter(|text| text.contains(':')).cloned().collect(),
        readonly_rootfs: args.read_only,
        auto_remove: args.rm,
        network_mode: if args.network == Network::Host { "host" } else { "none" }.to_owned(),
        other,
    })
}
