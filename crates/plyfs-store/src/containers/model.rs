//! Docker's documents about a container, as far as plyfs uses them (moby `container/container.go`, `api/types/container`). Fields that
//! are not named here are kept as they are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::driver::LayerId;

/// Docker's zero time, `0001-01-01T00:00:00Z`.
pub const NEVER: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// `config.v2.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// 64 hexadecimal digits.
    #[serde(rename = "ID")]
    pub id: String,
    /// With a slash in front, as Docker writes it: ask [`Container::plain_name`].
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The program that it runs: entrypoint and command joined, first word.
    pub path: String,
    /// The other words.
    #[serde(deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// What the process is to be.
    pub config: Config,
    /// Id of the image (`sha256:...`).
    pub image: String,
    /// `aufs`.
    pub driver: String,
    /// `linux`.
    #[serde(rename = "OS")]
    pub os: String,
    /// What it does.
    pub state: State,
    /// Where its output is kept.
    pub log_path: String,
    /// By place in the container.
    #[serde(deserialize_with = "or_default")]
    pub mount_points: BTreeMap<String, MountPoint>,
    /// All else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What the process is to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The host name.
    pub hostname: String,
    /// `NAME`, `UID`, `NAME:GROUP`, `UID:GID` or empty (root).
    pub user: String,
    /// Has a terminal.
    pub tty: bool,
    /// Keeps its input open.
    pub open_stdin: bool,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// The command, or the entrypoint's arguments.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// The entrypoint.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// The image as it was asked for.
    pub image: String,
    /// Places that the image wants as volumes.
    #[serde(deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, Value>,
    /// Where the process begins.
    pub working_dir: String,
    /// `SIGTERM`, `15` or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Words about it.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// All else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// Its process was started and has not been seen to end.
    pub running: bool,
    /// Stopped for a while.
    pub paused: bool,
    /// Half removed.
    pub removal_in_progress: bool,
    /// Could not be removed.
    pub dead: bool,
    /// Its first process, as the host counts; 0 when it does not run.
    pub pid: u32,
    /// Of its last run.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// [`NEVER`] before its first run.
    pub started_at: Timestamp,
    /// [`NEVER`] before the end of its first run.
    pub finished_at: Timestamp,
    /// All else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Something of the host in a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// Of the host; for a volume its data directory.
    pub source: String,
    /// In the container.
    pub destination: String,
    /// May be written.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Of a volume; empty for a bind.
    pub name: String,
    /// Of a volume: `local`.
    pub driver: String,
    /// `bind` or `volume`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `rprivate`.
    pub propagation: String,
    /// All else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `hostconfig.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `SRC:DST[:ro]`.
    #[serde(deserialize_with = "or_default")]
    pub binds: Vec<String>,
    /// The root filesystem cannot be written.
    pub readonly_rootfs: bool,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// `host` or `none`.
    pub network_mode: String,
    /// All else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for State {
    fn default() -> State {
        State {
            running: false,
            paused: false,
            removal_in_progress: false,
            dead: false,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            started_at: NEVER,
            finished_at: NEVER,
            other: Map::new(),
        }
    }
}

impl Default for Container {
    fn default() -> Container {
        Container {
            id: String::new(),
            name: String::new(),
            created: NEVER,
            path: String::new(),
            args: Vec::new(),
            config: Config::default(),
            image: String::new(),
            driver: crate::Driver::NAME.to_owned(),
            os: "linux".to_owned(),
            state: State::default(),
            log_path: String::new(),
            mount_points: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

impl Container {
    /// The name without Docker's slash.
    pub fn plain_name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }

    /// The first twelve digits of the id.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Go writes `null` for what is empty.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// For [`super::ContainerLayers`].
pub(super) fn layer_id(text: &str) -> crate::Result<LayerId> {
    LayerId::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_documents_are_kept_whole() {
        let text = r#"{"StreamConfig":{},"State":{"Running":false,"OOMKilled":true,"Pid":0,"ExitCode":137,
            "StartedAt":"2022-03-01T10:00:00.123456789+01:00","FinishedAt":"0001-01-01T00:00:00Z"},
            "ID":"aa","Created":"2022-03-01T09:00:00Z","Path":"sh","Args":null,"Name":"/web",
            "Config":{"Hostname":"h","Env":null,"Cmd":["sh"],"Volumes":null,"Labels":{},"Domainname":"d"},
            "MountPoints":{"/data":{"Type":"bind","Source":"/s","Destination":"/data","RW":true,"Spec":{"Type":"bind"}}},
            "RestartCount":3}"#;
        let container: Container = serde_json::from_str(text).unwrap();
        assert_eq!(container.plain_name(), "web");
        assert_eq!(container.state.exit_code, 137);
        assert_eq!(container.state.finished_at, NEVER);
        assert!(container.mount_points["/data"].rw);
        let again: Value = serde_json::to_value(&container).unwrap();
        for kept in
            ["/State/OOMKilled", "/Config/Domainname", "/MountPoints/~1data/Spec/Type", "/RestartCount"]
        {
            assert!(again.pointer(kept).is_some(), "{kept}");
        }
        assert_eq!(serde_json::from_value::<Container>(again).unwrap(), container);
    }
}
