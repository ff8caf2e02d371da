//! FRR's bgpd alone, without zebra.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{DAEMON_AS, DAEMON_IPV4, Duty, configuration, program};

/// OpenBGPD has a program of the same name in /usr/sbin.
pub(super) const PROGRAM: &str = "/usr/lib/frr/bgpd";

pub(super) fn command(directory: &Path, duty: &Duty<'_>) -> Result<Command> {
    let mut text = format!(
        "hostname dut\nrouter bgp {DAEMON_AS}\n bgp router-id {DAEMON_IPV4}\n \
         no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n"
    );
    for peer in duty.peers {
        writeln!(
            text,
            " neighbor {0} remote-as {1}\n neighbor {0} passive\n neighbor {0} timers 80 240",
            peer.address, peer.asn
        )?;
    }
    let family = match duty.address {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    writeln!(text, " address-family {family} unicast")?;
    for peer in duty.peers {
        let address = peer.address;
        writeln!(text, "  neighbor {address} activate\n  neighbor {address} next-hop-self")?;
    }
    text.push_str(" exit-address-family\n");
    let config = configuration(directory, "bgpd.conf", &text)?;
    let mut command = program(PROGRAM, &["-Z", "-S", "-P", "0", "--log", "stdout", "-l"])?;
    command.arg(duty.address.to_string()).arg("-f").arg(config);
    command.arg("-i").arg(directory.join("bgpd.pid")).arg("--vty_socket").arg(directory);
    Ok(command)
}
