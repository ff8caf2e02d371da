//! GoBGP.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{DAEMON_AS, DAEMON_IPV4, Duty, configuration, program};

pub(super) fn command(directory: &Path, duty: &Duty<'_>) -> Result<Command> {
    let mut text = format!(
        "[global.config]\nas = {DAEMON_AS}\nrouter-id = \"{DAEMON_IPV4}\"\n\
         local-address-list = [\"{}\"]\n",
        duty.address
    );
    let family = match duty.address {
        IpAddr::V4(_) => "ipv4-unicast",
        IpAddr::V6(_) => "ipv6-unicast",
    };
    for peer in duty.peers {
        writeln!(
            text,
            "[[neighbors]]
[neighbors.config]
neighbor-address = \"{}\"
peer-as = {}
[neighbors.timers.config]
hold-time = 240
keepalive-interval = 80
[neighbors.transport.config]
passive-mode = true
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = \"{family}\"",
            peer.address, peer.asn
        )?;
    }
    let config = configuration(directory, "gobgpd.toml", &text)?;
    let mut command = program("gobgpd", &["--log-level", "error", "-f"])?;
    command.arg(config);
    Ok(command)
}
