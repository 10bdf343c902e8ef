//! What a client knows of its own subtree: names, and the objects behind them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use super::content::Content;

/// Seconds and nanoseconds.
pub(crate) type Time = (i64, i64);

/// How far a file's time may be behind the clock: the kernel's own clock of files ticks.
const TICK: Duration = Duration::from_millis(50);

/// What an object is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    File(Content),
    Dir,
    Symlink(String),
}

impl Kind {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Kind::File(_) => "file",
            Kind::Dir => "directory",
            Kind::Symlink(_) => "symlink",
        }
    }
}

/// What is known of the time of the last change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Changed {
    Exactly(Time),
    /// Written since it was seen last.
    NotBefore(Time),
    /// Nobody keeps count (directories).
    Unknown,
}

/// A file, directory or symlink; several names may lead to a file.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// Permissions and owner; learned when seen first if the object was made here.
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) changed: Changed,
    pub(crate) ino: Option<u64>,
    pub(crate) links: u64,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    /// Its data was not changed since the mount and is in a layer.
    pub(crate) lower: bool,
}

impl Object {
    pub(crate) fn new(kind: Kind) -> Object {
        Object {
            kind,
            mode: None,
            owner: None,
            changed: Changed::Unknown,
            ino: None,
            links: 1,
            xattrs: BTreeMap::new(),
            lower: false,
        }
    }

    /// Its data are written to after `before`.
    pub(crate) fn written(&mut self, before: Time) {
        self.lower = false;
        let last = match self.changed {
            Changed::Exactly(time) | Changed::NotBefore(time) => time,
            Changed::Unknown => before,
        };
        self.changed = Changed::NotBefore(last.max(before));
    }

    pub(crate) fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(content) => Some(content),
            Kind::Dir | Kind::Symlink(_) => None,
        }
    }

    pub(crate) fn content_mut(&mut self) -> Option<&mut Content> {
        match &mut self.kind {
            Kind::File(content) => Some(content),
            Kind::Dir | Kind::Symlink(_) => None,
        }
    }
}

/// The earliest time that a file may carry that is changed from now on.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = since.saturating_sub(TICK);
    (since.as_secs().cast_signed(), i64::from(since.subsec_nanos()))
}

/// A subtree. Names are relative to its top, which has the name "".
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) names: BTreeMap<String, u64>,
    pub(crate) objects: HashMap<u64, Object>,
    next: u64,
}

impl Model {
    /// A subtree of its top alone.
    pub(crate) fn new() -> Model {
        let mut model = Model::default();
        model.add(String::new(), Object::new(Kind::Dir));
        model
    }

    pub(crate) fn add(&mut self, name: String, object: Object) -> u64 {
        let id = self.add_nameless(object);
        self.names.insert(name, id);
        id
    }

    pub(crate) fn add_nameless(&mut self, object: Object) -> u64 {
        self.next += 1;
        self.objects.insert(self.next, object);
        self.next
    }

    pub(crate) fn link(&mut self, id: u64, name: String) {
        self.names.insert(name, id);
        if let Some(object) = self.objects.get_mut(&id) {
            object.links += 1;
        }
    }

    /// Takes a name away; the object stays, for descriptors that are open on it.
    pub(crate) fn unlink(&mut self, name: &str) {
        if let Some(id) = self.names.remove(name)
            && let Some(object) = self.objects.get_mut(&id)
        {
            object.links -= 1;
        }
    }

    /// Forgets objects without a name unless `held`.
    pub(crate) fn sweep(&mut self, held: impl Fn(u64) -> bool) {
        self.objects.retain(|id, object| object.links > 0 || held(*id));
    }

    /// Moves a name and all below it.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let moved = self.names.keys().filter(|name| *name == from || name.starts_with(&below));
        for name in moved.cloned().collect::<Vec<_>>() {
            if let Some(id) = self.names.remove(&name) {
                self.names.insert(format!("{to}{}", &name[from.len()..]), id);
            }
        }
    }

    pub(crate) fn object(&self, name: &str) -> Option<(u64, &Object)> {
        let id = *self.names.get(name)?;
        Some((id, self.objects.get(&id)?))
    }

    /// The names in a directory.
    pub(crate) fn children(&self, dir: &str) -> Vec<String> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let below = self.names.range(prefix.clone()..).map(|(name, _)| name);
        let below = below.take_while(|name| name.starts_with(&prefix)).map(|name| &name[prefix.len()..]);
        below.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect()
    }
}

/// The directory that a name is in.
pub(crate) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// A name in a directory.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_move_with_all_below() {
        let mut model = Model::new();
        for name in ["a", "a/b", "a/b/c", "ab"] {
            model.add(name.into(), Object::new(Kind::Dir));
        }
        model.rename("a", "z");
        assert_eq!(model.names.keys().collect::<Vec<_>>(), ["", "ab", "z", "z/b", "z/b/c"]);
        assert_eq!(model.children(""), ["ab", "z"]);
        assert_eq!(model.children("z"), ["b"]);
        assert_eq!((parent("z/b/c"), parent("z")), ("z/b", ""));
    }
}
