//! `node.json` in the state directory: what the daemon tells the plugin about this node.
//!
//! The daemon writes it when it learns its Node object and whenever that changes, so the plugin needs neither API
//! server nor token.

use std::fs;
use std::io;
use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::file::{create_directory, write_atomically};

const FILE_NAME: &str = "node.json";

/// The content of `node.json`. Fields that a reader does not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The node's name in Kubernetes.
    pub node: String,
    /// Where pod addresses on this node come from (`Node.spec.podCIDRs`).
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// MTU of pod interfaces, in bytes; a network configuration's own `mtu` goes before it.
    pub mtu: u32,
    /// Whether pods get an IPv6 address. False on a node whose kernel has IPv6 off, whatever `podCIDRs` hold.
    pub ipv6: bool,
}

/// Why `node.json` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The daemon has not written the file yet: it clears up by itself.
    #[error("{path} does not exist: the ocicat daemon has not yet learnt this node's pod CIDRs")]
    Missing {
        /// The whole path.
        path: String,
    },
    /// The file exists and cannot be used.
    #[error("{path}: {source}")]
    Unreadable {
        /// The whole path.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
}

impl Node {
    /// Reads the file from the state directory `state`.
    pub fn read(state: &Path) -> Result<Self, NodeError> {
        let path = state.join(FILE_NAME);
        let shown = path.display().to_string();
        let bytes = fs::read(&path).map_err(|source| {
            let path = shown.clone();
            if source.kind() == io::ErrorKind::NotFound {
                NodeError::Missing { path }
            } else {
                NodeError::Unreadable { path, source }
            }
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|source| NodeError::Unreadable { path: shown, source: source.into() })
    }

    /// Writes the file into the state directory `state`, making the directory if need be. A reader sees the old file
    /// or the new one, never a part.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        create_directory(state)?;
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        write_atomically(&state.join(FILE_NAME), &json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let state = tempfile::tempdir().unwrap();
        let node = Node {
            node: "a".into(),
            pod_cidrs: vec!["10.65.1.0/24".parse().unwrap(), "fd00:65:1::/64".parse().unwrap()],
            mtu: 1500,
            ipv6: true,
        };
        let directory = state.path().join("not/yet/there");
        node.write(&directory).unwrap();
        assert_eq!(Node::read(&directory).unwrap(), node);
    }

    #[test]
    fn a_missing_file_says_who_should_have_written_it() {
        let error = Node::read(Path::new("/nonexistent")).unwrap_err();
        assert!(matches!(error, NodeError::Missing { .. }));
        assert!(error.to_string().contains("daemon has not yet learnt"), "{error}");
    }

    #[test]
    fn a_bad_cidr_names_file_and_value() {
        let state = tempfile::tempdir().unwrap();
        let json = r#"{"node":"a","podCIDRs":["10.0.0.0/99"],"mtu":1500,"ipv6":false}"#;
        fs::write(state.path().join(FILE_NAME), json).unwrap();
        let error = Node::read(state.path()).unwrap_err().to_string();
        assert!(error.contains("node.json"), "{error}");
    }
}
