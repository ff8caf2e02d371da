//! Kubernetes objects as YAML, and a directory of them: the agents' datastore.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// A Kubernetes object, of any kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object(pub(crate) Value);

impl Object {
    /// Reads all documents of a YAML text.
    pub(crate) fn parse_all(yaml: &str) -> Result<Vec<Self>> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
        Ok(documents.into_iter().filter(|document| !document.is_null()).map(Self).collect())
    }

    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// The namespace; empty for what belongs to the cluster.
    pub(crate) fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// The string at a JSON pointer, or nothing.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The strings in the list at a JSON pointer.
    pub(crate) fn texts(&self, pointer: &str) -> Vec<&str> {
        let list = self.0.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The object as a YAML document.
    pub(crate) fn to_yaml(&self) -> Result<String> {
        Ok(serde_saphyr::to_string(&self.0)?)
    }
}

/// A directory of YAML files, one object each, that agents watch.
#[derive(Debug)]
pub(crate) struct Datastore {
    path: PathBuf,
}

impl Datastore {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes an object. A watcher sees the old file or the new one, never a half.
    pub(crate) fn put(&self, object: &Object) -> Result<()> {
        self.put_text(&file_name(object), &object.to_yaml()?)
    }

    /// Writes any text under a file name, also text that is wrong.
    pub(crate) fn put_text(&self, file: &str, text: &str) -> Result<()> {
        let hidden = self.path.join(format!(".{file}.new"));
        fs::write(&hidden, text)?;
        Ok(fs::rename(hidden, self.path.join(file))?)
    }

    /// Copies a file of YAML as it is, as a user's `cp` would.
    pub(crate) fn copy(&self, from: &Path) -> Result<()> {
        let text = fs::read_to_string(from).with_context(|| from.display().to_string())?;
        self.put_text(&name_of(from), &text)
    }

    /// Removes a file that [`Self::copy`] or [`Self::put_text`] made.
    pub(crate) fn remove_file(&self, from: &Path) -> Result<()> {
        let path = self.path.join(name_of(from));
        fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    /// Removes an object that [`Self::put`] wrote.
    pub(crate) fn remove(&self, object: &Object) -> Result<()> {
        self.remove_file(Path::new(&file_name(object)))
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn file_name(object: &Object) -> String {
    let words = [object.kind(), object.namespace(), object.name()];
    let words: Vec<String> =
        words.iter().filter(|word| !word.is_empty()).map(|word| word.to_lowercase()).collect();
    format!("{}.yaml", words.join("-"))
}

/// A pod as the API server would hold it before it has an address.
pub(crate) fn pod(namespace: &str, name: &str, node: &str, labels: &Value) -> Object {
    Object(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": labels },
        "spec": { "nodeName": node, "containers": [] },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_object_reads_back_the_same() {
        let object =
            pod("shop", "web", "node1", &json!({ "app": "web", "version": "1", "on": "yes" }));
        assert_eq!(Object::parse_all(&object.to_yaml().unwrap()).unwrap(), [object]);
    }
}
