//! BIRD 2.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{DAEMON_AS, DAEMON_IPV4, Duty, configuration, program};

pub(super) fn command(directory: &Path, duty: &Duty<'_>) -> Result<Command> {
    let mut text = format!("router id {DAEMON_IPV4};\nprotocol device {{ }}\n");
    let family = match duty.address {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    for (number, peer) in duty.peers.iter().enumerate() {
        writeln!(
            text,
            "protocol bgp p{number} {{ local {} as {DAEMON_AS}; neighbor {} as {}; direct; passive yes; \
             hold time 240; {family} {{ import all; export all; next hop self; }}; }}",
            duty.address, peer.address, peer.asn
        )?;
    }
    let config = configuration(directory, "bird.conf", &text)?;
    let mut command = program("bird", &["-f", "-c"])?;
    command.arg(config).arg("-s").arg(directory.join("bird.ctl"));
    Ok(command)
}
