//! BIRD and FRR on the lab's router, with BFD of 50 ms x 3 on both sessions of its first node.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Group, User, chown};

use crate::lab::Lab;
use crate::netns::{Netns, output};
use crate::router::bird::prefix;
use crate::setup::find;
use crate::wait::until;

/// A daemon that ends with its handle.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    fn start(netns: &Netns, command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        netns.spawn(command).map(Self)
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it is dead already.
        let _ = self.kill();
    }
}

/// What BIRD shall do.
#[derive(Debug, Clone, Copy)]
pub(super) struct BirdOptions {
    /// How it takes a failure: `on` ends the session, `graceful` treats it as a restart.
    pub(super) bfd: &'static str,
    /// `on`, `off` or `aware` (RFC 4724 as helper alone).
    pub(super) graceful_restart: &'static str,
    /// Routes that it announces besides one of each family.
    pub(super) routes: u32,
}

/// A BIRD.
#[derive(Debug)]
pub(super) struct Bird {
    netns: Netns,
    directory: PathBuf,
    pub(super) process: Process,
}

/// The networks that either router announces.
pub(super) const NETWORKS: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];

impl Bird {
    pub(super) fn start(lab: &Lab, options: BirdOptions) -> Result<Self> {
        let directory = lab.directory().join("bird");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("bird.conf"), bird_configuration(lab, options))?;
        let netns = lab.router.handle()?;
        let process = launch_bird(&netns, &directory, &[])?;
        let bird = Self { netns, directory, process };
        bird.wait_ready()?;
        Ok(bird)
    }

    /// Until it has read its configuration: before that there is nobody to tell anything.
    fn wait_ready(&self) -> Result<()> {
        until(Duration::from_secs(30), "BIRD answers", || {
            self.tell(&["show", "status"]).map(|_| true)
        })
        .map(drop)
    }

    /// Starts it again after a kill, as one that recovers (RFC 4724 §4.1).
    pub(super) fn recover(&mut self) -> Result<()> {
        self.process = launch_bird(&self.netns, &self.directory, &["-R"])?;
        self.wait_ready()
    }

    pub(super) fn tell(&self, words: &[&str]) -> Result<String> {
        let mut birdc = Command::new(find("birdc").context("no birdc in PATH")?);
        birdc.arg("-s").arg(self.directory.join("bird.ctl")).args(words);
        self.netns.enter(|| output(&mut birdc))?
    }
}

fn launch_bird(netns: &Netns, directory: &Path, options: &[&str]) -> Result<Process> {
    let mut bird = Command::new(find("bird").context("no bird: apt-get install bird2")?);
    bird.arg("-f").arg("-c").arg(directory.join("bird.conf"));
    bird.arg("-s").arg(directory.join("bird.ctl")).args(options);
    Process::start(netns, &mut bird, &directory.join("bird.log"))
}

fn bird_configuration(lab: &Lab, options: BirdOptions) -> String {
    let node = &lab.spec.nodes[0];
    let as_number = lab.spec.router.as_number;
    let BirdOptions { bfd, graceful_restart, routes } = options;
    let mut text = "router id 10.0.0.1;
log stderr all;
protocol device { }
protocol bfd { interface \"*\" { interval 50 ms; multiplier 3; }; }
protocol static six { ipv6; route 2001:db8:51::/48 blackhole; }
protocol static four { ipv4; route 198.51.100.0/24 blackhole; }
protocol static many { ipv4;
"
    .to_owned();
    for number in 0..routes {
        writeln!(text, "  route {} blackhole;", prefix(number)).expect("writing to a string");
    }
    text.push_str("}\n");
    for (family, local, remote) in [
        ("ipv4", node.gateway_ipv4().to_string(), node.ipv4.to_string()),
        ("ipv6", node.gateway_ipv6().to_string(), node.ipv6.to_string()),
    ] {
        writeln!(
            text,
            "protocol bgp of_{family} {{
  local {local} as {as_number};
  neighbor {remote} as {};
  connect delay time 1; error wait time 1,2;
  graceful restart {graceful_restart}; graceful restart time 60;
  bfd {bfd};
  {family} {{ import all; export all; next hop self; }};
}}",
            node.as_number
        )
        .expect("writing to a string");
    }
    text
}

/// How far FRR takes its peers to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hops {
    One,
    Many,
}

/// FRR: zebra, over which its daemons talk, bfdd and bgpd.
#[derive(Debug)]
pub(super) struct Frr {
    netns: Netns,
    directory: PathBuf,
    _bfdd: Process,
    _bgpd: Process,
    _zebra: Process,
}

/// The daemons are not in the path: another package's bgpd may be.
const DAEMONS: &str = "/usr/lib/frr";

impl Frr {
    pub(super) fn start(lab: &Lab, hops: Hops) -> Result<Self> {
        let directory = lab.directory().join("frr");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("zebra.conf"), "log stdout\n")?;
        fs::write(directory.join("bfdd.conf"), BFDD)?;
        fs::write(directory.join("bgpd.conf"), bgpd_configuration(lab, hops))?;
        // The daemons give up root before they make their sockets.
        let user = User::from_name("frr")?.context("no user frr: apt-get install frr")?;
        let group = Group::from_name("frrvty")?.context("no group frrvty: apt-get install frr")?;
        chown(&directory, Some(user.uid), Some(group.gid))?;
        let netns = lab.router.handle()?;
        let zebra = launch_frr(&netns, &directory, "zebra", &[])?;
        until(Duration::from_secs(10), "zebra listens", || Ok(directory.join("zserv").exists()))?;
        let control = directory.join("bfdd.sock").display().to_string();
        let bfdd = launch_frr(&netns, &directory, "bfdd", &["--bfdctl", &control])?;
        let bgpd = launch_frr(&netns, &directory, "bgpd", &[])?;
        until(Duration::from_secs(10), "bfdd and bgpd can be told", || {
            Ok(directory.join("bfdd.vty").exists() && directory.join("bgpd.vty").exists())
        })?;
        Ok(Self { netns, directory, _bfdd: bfdd, _bgpd: bgpd, _zebra: zebra })
    }

    /// Has a daemon run these lines of its own language.
    pub(super) fn tell(&self, daemon: &str, lines: &[&str]) -> Result<String> {
        let mut vtysh = Command::new(find("vtysh").context("no vtysh: apt-get install frr")?);
        vtysh.arg("--vty_socket").arg(&self.directory).args(["-d", daemon]);
        lines.iter().for_each(|line| {
            vtysh.args(["-c", line]);
        });
        let answer = self.netns.enter(|| output(&mut vtysh))??;
        if answer.contains("Unknown command") {
            bail!("FRR does not know {lines:?}: {answer}");
        }
        Ok(answer)
    }
}

fn launch_frr(netns: &Netns, directory: &Path, name: &str, options: &[&str]) -> Result<Process> {
    let mut command = Command::new(Path::new(DAEMONS).join(name));
    command.arg("-f").arg(directory.join(format!("{name}.conf")));
    command.arg("--vty_socket").arg(directory).args(["-P", "0", "-i"]);
    command.arg(directory.join(format!("{name}.pid")));
    command.arg("-z").arg(directory.join("zserv")).args(options);
    Process::start(netns, &mut command, &directory.join(format!("{name}.log")))
}

const BFDD: &str = "log stdout
bfd
 profile fast
  transmit-interval 50
  receive-interval 50
  detect-multiplier 3
";

fn bgpd_configuration(lab: &Lab, hops: Hops) -> String {
    let node = &lab.spec.nodes[0];
    let mut text = format!(
        "log stdout
router bgp {}
 bgp router-id 10.0.0.1
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart
",
        lab.spec.router.as_number
    );
    for (local, remote) in [
        (node.gateway_ipv4().to_string(), node.ipv4.to_string()),
        (node.gateway_ipv6().to_string(), node.ipv6.to_string()),
    ] {
        writeln!(
            text,
            " neighbor {remote} remote-as {}
 neighbor {remote} timers connect 1
 neighbor {remote} bfd
 neighbor {remote} bfd profile fast
 neighbor {remote} bfd check-control-plane-failure",
            node.as_number
        )
        .expect("writing to a string");
        if hops == Hops::Many {
            let lines = format!(
                " neighbor {remote} ebgp-multihop 5\n neighbor {remote} update-source {local}\n"
            );
            text.push_str(&lines);
        }
    }
    for (family, remote, network) in
        [("ipv4", node.ipv4.to_string(), NETWORKS[0]), ("ipv6", node.ipv6.to_string(), NETWORKS[1])]
    {
        writeln!(
            text,
            " address-family {family} unicast
  neighbor {remote} activate
  network {network}
 exit-address-family"
        )
        .expect("writing to a string");
    }
    text
}
