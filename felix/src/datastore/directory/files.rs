//! Files on disk: finding them, noticing change, splitting them into documents.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::problem::Problem;

/// What changes when a file changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified_nanos: i128,
}

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// What it says.
    pub value: Value,
}

/// A file, read.
#[derive(Debug, Default)]
pub struct Contents {
    /// The documents that are YAML.
    pub documents: Vec<Document>,
    /// What is wrong with the others.
    pub problems: Vec<Problem>,
    /// Whether some part of the file could not be read at all.
    pub broken: bool,
}

/// Every YAML file below `root`, and every folder that could not be listed.
pub(super) fn list(root: &Path) -> (BTreeMap<PathBuf, Stamp>, BTreeMap<String, Vec<Problem>>) {
    let mut found = BTreeMap::new();
    let mut wrong = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let place = folder.display().to_string();
                wrong.insert(place.clone(), vec![Problem::new(place, "", error)]);
                continue;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            // A file that vanishes between the listing and here is simply not there.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                folders.push(path);
            } else if is_yaml(&path) {
                let modified_nanos = i128::from(metadata.mtime()) * 1_000_000_000
                    + i128::from(metadata.mtime_nsec());
                let stamp = Stamp { inode: metadata.ino(), size: metadata.size(), modified_nanos };
                found.insert(path, stamp);
            }
        }
    }
    (found, wrong)
}

fn is_yaml(path: &Path) -> bool {
    let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|n| n.starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Reads a file and splits it into documents.
pub fn read_file(path: &Path) -> Contents {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&path.display().to_string(), &text),
        Err(error) => Contents {
            problems: vec![Problem::new(path.display(), "", error)],
            broken: true,
            ..Contents::default()
        },
    }
}

/// Splits text into documents. One that is not YAML is a problem of its own: the others still count.
fn parse(place: &str, text: &str) -> Contents {
    let mut contents = Contents::default();
    for (line, document) in split(text) {
        match serde_saphyr::from_str::<Value>(&document) {
            Ok(Value::Null) => {}
            Ok(value) => contents.documents.push(Document { line, value }),
            Err(error) => {
                contents.broken = true;
                let message = format!("not YAML: {}", what_is_wrong(&document, &error));
                contents.problems.push(Problem::new(format!("{place} line {line}"), "", message));
            }
        }
    }
    contents
}

/// The reason without the text around it. Of a Secret even the reason may quote too much.
fn what_is_wrong(document: &str, error: &impl std::fmt::Display) -> String {
    if document.contains("Secret") {
        return "the document speaks of a Secret, so that more is not said".to_owned();
    }
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Documents as text, each with the line it begins on. A line `---` separates (YAML 1.2 §9.2).
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (number, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push((number + 2, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.retain(|(_, document)| {
        document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_secret_is_not_quoted() {
        let text = "kind: Secret\nstringData: {tor: hunter2, tor: [hunter2}\n";
        let contents = parse("x.yaml", text);
        assert!(contents.broken);
        assert!(!format!("{:?}", contents.problems).contains("hunter2"), "{:?}", contents.problems);
    }

    #[test]
    fn a_broken_document_leaves_the_others_alone() {
        let contents = parse("x.yaml", "a: 1\n---\nb: [1\n---\n# only a comment\n---\nc: 3\n");
        let lines: Vec<_> = contents.documents.iter().map(|document| document.line).collect();
        assert_eq!(lines, [1, 7]);
        assert!(contents.broken);
        assert!(
            contents.problems[0].to_string().starts_with("x.yaml line 3: not YAML: "),
            "{:?}",
            contents.problems
        );
    }
}
