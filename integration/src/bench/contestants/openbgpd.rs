//! OpenBGPD: one parent, a session engine and a route decision engine, all counted.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{DAEMON_AS, DAEMON_IPV4, Duty, configuration, program};

/// FRR has a program of the same name elsewhere.
pub(super) const PROGRAM: &str = "/usr/sbin/bgpd";

pub(super) fn command(directory: &Path, duty: &Duty<'_>) -> Result<Command> {
    let mut text = format!(
        "AS {DAEMON_AS}\nrouter-id {DAEMON_IPV4}\nlisten on {}\nfib-update no\n\
         socket \"{}\"\nnexthop qualify via default\n",
        duty.address,
        directory.join("bgpd.sock").display()
    );
    let (wanted, other) = match duty.address {
        IpAddr::V4(_) => ("IPv4", "IPv6"),
        IpAddr::V6(_) => ("IPv6", "IPv4"),
    };
    for peer in duty.peers {
        writeln!(
            text,
            "neighbor {} {{\n remote-as {}\n passive\n holdtime 240\n announce {wanted} unicast\n \
             announce {other} none\n announce restart no\n}}",
            peer.address, peer.asn
        )?;
    }
    text.push_str("allow from any\nallow to any\nmatch to any set nexthop self\n");
    let config = configuration(directory, "bgpd.conf", &text)?;
    // It refuses a configuration that others can read.
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    // Where its children lock themselves up; made at boot where systemd runs.
    std::fs::create_dir_all("/run/openbgpd")?;
    let mut command = program(PROGRAM, &["-d", "-f"])?;
    command.arg(config);
    Ok(command)
}
