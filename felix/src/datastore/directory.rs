//! A directory of Kubernetes YAML, watched: the stand-alone datastore, and what labs and tests are made of.
//!
//! Every `*.yaml`, `*.yml` and `*.json` file below the directory is read; a file may hold many documents. A file that
//! cannot be read any more keeps the objects it had, and a document that goes bad keeps its last good version, as an API
//! server would that refuses an update.

mod files;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

pub use files::{Contents, read_file};

use super::{Datastore, Event, Invalid, Key, Kind, Object, Unusable};
use crate::problem::Problem;

/// Editors write a file in several steps; wait until they are done.
const SETTLE: Duration = Duration::from_millis(20);
/// Look at the directory this often even if nothing was heard from the kernel.
const RESCAN: Duration = Duration::from_secs(30);

/// The directory, and what is known of it.
pub struct Directory {
    root: PathBuf,
    tree: Tree,
    /// Keeps the watch alive.
    _watcher: notify::RecommendedWatcher,
    touched: mpsc::UnboundedReceiver<()>,
    started: bool,
}

/// The directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or not a directory.
    #[error("datastore directory {path}: {source}")]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel gave no watch.
    #[error("cannot watch {path}: {source}")]
    NoWatch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
}

impl Directory {
    /// Opens and begins to watch a directory.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        std::fs::read_dir(root)
            .map_err(|source| OpenError::Unreadable { path: root.to_owned(), source })?;
        let no_watch = |source| OpenError::NoWatch { path: root.to_owned(), source };
        let (sender, touched) = mpsc::unbounded_channel();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading a file is an event too, and ours.
                if event.is_ok_and(|event| event.kind.is_access()) {
                    return;
                }
                // The receiver is gone only when the daemon is going down.
                let _ = sender.send(());
            })
            .map_err(no_watch)?;
        watcher.watch(root, RecursiveMode::Recursive).map_err(no_watch)?;
        Ok(Self {
            root: root.to_owned(),
            tree: Tree::default(),
            _watcher: watcher,
            touched,
            started: false,
        })
    }
}

impl Datastore for Directory {
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            if self.started {
                // Either way the answer is to look again.
                let _ = tokio::time::timeout(RESCAN, self.touched.recv()).await;
                tokio::time::sleep(SETTLE).await;
                while self.touched.try_recv().is_ok() {}
            }
            let mut events = self.tree.rescan(&self.root);
            if !self.started {
                self.started = true;
                events.push(Event::Synced);
            }
            if !events.is_empty() {
                return Some(events);
            }
        }
    }
}

/// Reads a directory once: the events that a watch would have begun with.
pub fn read_once(root: &Path) -> Result<Vec<Event>, OpenError> {
    std::fs::read_dir(root)
        .map_err(|source| OpenError::Unreadable { path: root.to_owned(), source })?;
    let mut events = Tree::default().rescan(root);
    events.push(Event::Synced);
    Ok(events)
}

/// All files, and which objects they hold.
#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<PathBuf, File>,
    /// What was told last for each object.
    told: BTreeMap<Key, Arc<Object>>,
    problems: BTreeMap<String, Vec<Problem>>,
}

#[derive(Debug, Default)]
struct File {
    stamp: Option<files::Stamp>,
    objects: BTreeMap<Key, Arc<Object>>,
    problems: Vec<Problem>,
}

impl Tree {
    /// Reads what has changed and says what that means.
    fn rescan(&mut self, root: &Path) -> Vec<Event> {
        let (found, mut wrong) = files::list(root);
        let mut dirty = BTreeSet::new();
        self.files.retain(|path, file| {
            let there = found.contains_key(path);
            if !there {
                dirty.extend(file.objects.keys().cloned());
            }
            there
        });
        for (path, stamp) in found {
            let file = self.files.entry(path.clone()).or_default();
            if file.stamp.as_ref() != Some(&stamp) {
                dirty.extend(file.objects.keys().cloned());
                file.reload(&path, stamp);
                dirty.extend(file.objects.keys().cloned());
            }
        }
        let mut events: Vec<Event> = dirty.into_iter().filter_map(|key| self.settle(key)).collect();
        self.collect_problems(&mut wrong);
        events.extend(self.problem_events(wrong));
        events
    }

    /// The object as the first file by name has it, if that is news.
    fn settle(&mut self, key: Key) -> Option<Event> {
        match self.files.values().find_map(|file| file.objects.get(&key)) {
            Some(object) if self.told.get(&key) == Some(object) => None,
            Some(object) => {
                self.told.insert(key, Arc::clone(object));
                Some(Event::Put(Box::new(Object::clone(object))))
            }
            None => self.told.remove(&key).map(|_| Event::Delete(key)),
        }
    }

    fn collect_problems(&self, wrong: &mut BTreeMap<String, Vec<Problem>>) {
        let mut owner: BTreeMap<&Key, &Path> = BTreeMap::new();
        for (path, file) in &self.files {
            let mut problems = file.problems.clone();
            for key in file.objects.keys() {
                if let Some(first) = owner.get(key) {
                    let message = format!("also in {}, which is the one used", first.display());
                    problems.push(Problem::new(format!("{}: {key}", path.display()), "", message));
                } else {
                    owner.insert(key, path);
                }
            }
            if !problems.is_empty() {
                wrong.insert(path.display().to_string(), problems);
            }
        }
    }

    fn problem_events(&mut self, wrong: BTreeMap<String, Vec<Problem>>) -> Vec<Event> {
        let old = std::mem::replace(&mut self.problems, wrong);
        let healed = old.keys().filter(|origin| !self.problems.contains_key(*origin));
        let mut events: Vec<Event> = healed
            .map(|origin| Event::Problems { origin: origin.clone(), problems: Vec::new() })
            .collect();
        for (origin, problems) in &self.problems {
            if old.get(origin) != Some(problems) {
                events.push(Event::Problems { origin: origin.clone(), problems: problems.clone() });
            }
        }
        events
    }
}

impl File {
    fn reload(&mut self, path: &Path, stamp: files::Stamp) {
        self.stamp = Some(stamp);
        let before = std::mem::take(&mut self.objects);
        let contents = read_file(path);
        self.problems = contents.problems;
        for document in contents.documents {
            self.take(path, document, &before);
        }
        if contents.broken {
            // What stood in the part that cannot be read any more is not known: keep it.
            for (key, object) in before {
                self.objects.entry(key).or_insert(object);
            }
        }
    }

    fn take(
        &mut self,
        path: &Path,
        document: files::Document,
        before: &BTreeMap<Key, Arc<Object>>,
    ) {
        let place = format!("{} line {}", path.display(), document.line);
        match Object::parse(document.value) {
            Ok(parsed) => {
                self.problems.extend(parsed.problems);
                let key = parsed.object.key();
                if let Entry::Vacant(entry) = self.objects.entry(key.clone()) {
                    entry.insert(Arc::new(parsed.object));
                } else {
                    let message = "a second time in this file; the first one is used";
                    self.problems.push(Problem::new(format!("{place}: {key}"), "", message));
                }
            }
            Err(Unusable::OtherKind(kind)) => {
                self.problems.push(Problem::new(
                    place,
                    "kind",
                    format!("{kind} is not a kind that ocicat uses; ignored"),
                ));
            }
            Err(Unusable::NotAnObject(message)) => {
                self.problems.push(Problem::new(place, "", message));
            }
            Err(Unusable::Invalid(invalid)) => self.keep_last_good(*invalid, before),
        }
    }

    fn keep_last_good(&mut self, invalid: Invalid, before: &BTreeMap<Key, Arc<Object>>) {
        let Invalid { key, mut problem } = invalid;
        if let Some(good) = before.get(&key) {
            problem.message.push_str("; the last good version stays in force");
            self.objects.insert(key, Arc::clone(good));
        } else if key.kind == Kind::NetworkPolicy {
            problem.message.push_str("; until it can be read it closes every pod of its namespace");
            let closing = Object::UnreadableNetworkPolicy(key.clone());
            self.objects.insert(key, Arc::new(closing));
        }
        self.problems.push(problem);
    }
}

#[cfg(test)]
mod tests;
