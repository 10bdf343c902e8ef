//! A store of its own for each test, and pulling into it.

use std::path::Path;
use std::time::Duration;

use plyfs_image::limits::Limits;
use plyfs_image::platform::Platform;
use plyfs_image::progress::{Cancel, Silent};
use plyfs_image::pull::{PullOptions, Pulled, pull};
use plyfs_image::registry::{Credentials, RegistryOptions};
use plyfs_image::{Reference, Work};
use plyfs_store::{Access, MountError, Mounter, Store};
use plyfs_union::spec::MountSpec;

/// Nothing is mounted in these tests.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Mounter for Nobody {
    fn mount(&self, _: &MountSpec, target: &Path) -> Result<(), MountError> {
        Err(format!("mounting on {}", target.display()).into())
    }

    fn unmount(&self, target: &Path) -> Result<(), MountError> {
        Err(format!("unmounting {}", target.display()).into())
    }
}

pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) options: PullOptions,
    pub(crate) limits: Limits,
    pub(crate) cancel: Cancel,
}

impl Place {
    pub(crate) fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root"), Access::Write, &Nobody).unwrap();
        let registry = RegistryOptions {
            credentials: Credentials::from_files(Vec::new()),
            wait: Duration::from_millis(1),
            ..RegistryOptions::default()
        };
        let platform = "linux/amd64".parse::<Platform>().unwrap();
        let options = PullOptions { platform, registry };
        Place { dir, store, options, limits: Limits::default(), cancel: Cancel::new() }
    }

    /// A login for `host` in a file as docker login writes it.
    pub(crate) fn log_in(&mut self, host: &str, login: &serde_json::Value) {
        let path = self.dir.path().join("config.json");
        let config = serde_json::json!({"auths": {host: login}});
        std::fs::write(&path, config.to_string()).unwrap();
        self.options.registry.credentials = Credentials::from_files(vec![path]);
    }

    pub(crate) fn pull(&self, name: &str) -> Result<Pulled, String> {
        let work = Work {
            store: &self.store,
            mounter: &Nobody,
            limits: &self.limits,
            jobs: 3,
            progress: &Silent,
            cancel: &self.cancel,
        };
        pull(&work, &Reference::parse(name).unwrap(), &self.options).map_err(|error| error.to_string())
    }

    pub(crate) fn downloads(&self) -> Vec<String> {
        names(&self.store.layout().downloads())
    }

    /// The file of a blob that was not finished.
    pub(crate) fn seed(&self, digest: &str, bytes: &[u8]) {
        let name = format!("{}.partial", digest.strip_prefix("sha256:").unwrap());
        std::fs::write(self.store.layout().downloads().join(name), bytes).unwrap();
    }

    /// As a new store, but for downloads.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        let layout = self.store.layout();
        for dir in [
            layout.diffs(),
            layout.parents(),
            layout.mounts(),
            layout.chains(),
            layout.chains_tmp(),
            layout.configs(),
            layout.intents(),
        ] {
            assert_eq!(names(&dir), Vec::<String>::new(), "{}", dir.display());
        }
        assert_eq!(self.store.tags().unwrap(), plyfs_store::tags::Tags::default());
        assert_eq!(self.store.check().unwrap(), []);
    }

    /// The image is there and whole.
    #[track_caller]
    pub(crate) fn assert_has(&self, pulled: &Pulled, layers: usize) {
        let layout = self.store.layout();
        assert_eq!(self.store.image(&pulled.image.id).unwrap().diffs.len(), layers);
        assert_eq!(names(&layout.diffs()).len(), layers);
        assert_eq!(names(&layout.intents()), Vec::<String>::new());
        assert_eq!(self.downloads(), Vec::<String>::new());
        assert_eq!(self.store.check().unwrap(), []);
    }
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
