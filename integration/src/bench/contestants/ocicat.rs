//! `ocicat agent --dataplane none`, configured by a directory of YAML.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{DAEMON_AS, Duty, configuration};
use crate::binaries::{Binaries, Profile};

pub(super) fn version() -> Command {
    let mut command = Command::new(Binaries::of(Profile::Release).ocicat);
    command.arg("--version");
    command
}

pub(super) fn command(directory: &Path, duty: &Duty<'_>) -> Result<Command> {
    let datastore = directory.join("cluster.d");
    fs::create_dir_all(&datastore)?;
    configuration(&datastore, "bench.yaml", &objects(duty)?)?;
    let mut command = Command::new(Binaries::of(Profile::Release).ocicat);
    command.arg("--socket").arg(directory.join("ocicat.sock"));
    command.args(["agent", "--node", "dut", "--dataplane", "none", "--log", "warn"]);
    command.args(["--http", "127.0.0.1:9909", "--datastore"]).arg(&datastore);
    command.arg("--state-dir").arg(directory.join("state"));
    Ok(command)
}

fn objects(duty: &Duty<'_>) -> Result<String> {
    let mut text = format!(
        "apiVersion: v1
kind: Node
metadata: {{ name: dut }}
status: {{ addresses: [{{ type: InternalIP, address: \"{}\" }}] }}
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {{ name: default }}
spec: {{ asNumber: {DAEMON_AS}, nodeToNodeMeshEnabled: false }}
---
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {{ name: all }}
spec:
  exportV4: [{{ action: Accept }}]
  exportV6: [{{ action: Accept }}]
",
        duty.address
    );
    for (number, peer) in duty.peers.iter().enumerate() {
        write!(
            text,
            "---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{ name: p{number} }}
spec: {{ peerIP: \"{}\", asNumber: {}, filters: [all] }}
",
            peer.address, peer.asn
        )?;
    }
    Ok(text)
}
