//! A BGP speaker on the command line, to talk to other speakers by hand.
//!
//! ```text
//! cargo run -p ocicat-bgp --example speaker -- as=65001 id=10.0.0.1 listen=0.0.0.0:179 \
//!     peer=10.0.0.2,65002 originate=10.1.0.0/16 originate=2001:db8:1::/48 own6=2001:db8::1
//! ```
//!
//! A peer takes further words after its AS number: `passive`, `active`, `md5=KEY`, `gtsm`,
//! `all` (tell it what other peers told us), `port=PORT`, `source=ADDRESS`, `interface=NAME`,
//! `hold=SECONDS`.
//! `restarting` says that forwarding went on while we were away, `alone` that nobody programs the
//! chosen routes. Events go to standard output.
//! Standard input takes `peers`, `routes`, `originate PREFIX`, `withdraw PREFIX`, `restart` and
//! `cease TEXT`; its end is a restart.

use std::error::Error;
use std::io::BufRead;
use std::net::Ipv4Addr;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Instant;

use ocicat_bgp::net::{self, Goodbye, Handle};
use ocicat_bgp::rib::filter::Filter;
use ocicat_bgp::speaker::{
    Chosen, Config, Dial, Originated, Password, PeerConfig, PeerName, Start, Ttl,
};
use ocicat_bgp::wire::{Family, HoldTime};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[expect(clippy::disallowed_methods, reason = "an example may look at the clock")]
fn main() -> Result<()> {
    let config = configuration(std::env::args().skip(1))?;
    let began = Instant::now();
    let mut running = net::spawn(config)?;
    let printer = std::thread::spawn(move || {
        while let Some(batch) = running.events.blocking_recv() {
            for event in batch {
                println!("{:9.3} {event:?}", began.elapsed().as_secs_f64());
            }
        }
    });
    let goodbye = converse(&running.handle)?;
    running.handle.stop(goodbye)?;
    running.thread.join().map_err(|_| "the BGP thread panicked")?;
    printer.join().map_err(|_| "the printer panicked")?;
    Ok(())
}

fn configuration(arguments: impl Iterator<Item = String>) -> Result<Config> {
    let mut config = Config::new(NonZeroU32::MIN, Ipv4Addr::LOCALHOST);
    for argument in arguments {
        let (key, value) = argument.split_once('=').unwrap_or((&argument, ""));
        match key {
            "as" => config.local_as = value.parse()?,
            "id" => config.router_id = value.parse()?,
            "listen" => config.listen.push(value.parse()?),
            "own4" => config.own_ipv4 = Some(value.parse()?),
            "own6" => config.own_ipv6 = Some(value.parse()?),
            "alone" => config.chosen = Chosen::Kept,
            "restarting" => config.graceful_restart.start = Start::Restarting,
            "originate" => {
                config.originated.insert(value.parse()?, Originated::default());
            }
            "peer" => {
                let (name, peer) = peer(value)?;
                config.peers.insert(name, peer);
            }
            other => return Err(format!("{other:?} is not an argument").into()),
        }
    }
    Ok(config)
}

fn peer(text: &str) -> Result<(PeerName, PeerConfig)> {
    let mut words = text.split(',');
    let address = words.next().unwrap_or_default();
    let remote_as: NonZeroU32 = words.next().ok_or("a peer needs an AS number")?.parse()?;
    let mut peer = PeerConfig::new(address.parse()?, remote_as);
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("passive", _) => peer.dial = Dial::Passive,
            ("active", _) => peer.dial = Dial::Active,
            ("md5", key) => peer.password = Password::Key(key.into()),
            ("gtsm", _) => peer.ttl = Ttl::Security(NonZeroU8::MIN),
            ("all", _) => peer.export = Filter::accept_all(),
            ("port", port) => peer.port = port.parse()?,
            ("source", source) => peer.source = Some(source.parse()?),
            ("interface", name) => peer.interface = Some(name.into()),
            ("hold", secs) => peer.hold_time = HoldTime::from_secs(secs.parse()?)?,
            (other, _) => return Err(format!("{other:?} says nothing about a peer").into()),
        }
    }
    Ok((address.into(), peer))
}

/// Does what standard input says, until it says goodbye.
fn converse(handle: &Handle) -> Result<Goodbye> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("peers", _) => println!("{:#?}", runtime.block_on(handle.peers())?),
            ("routes", _) => {
                for family in Family::ALL {
                    let routes = runtime.block_on(handle.routes(family))?;
                    routes.iter().for_each(|route| println!("{route:?}"));
                }
            }
            ("originate", prefix) => handle.originate(prefix.parse()?, Originated::default())?,
            ("withdraw", prefix) => handle.withdraw(prefix.parse()?)?,
            ("restart", _) => return Ok(Goodbye::Restart),
            ("cease", text) => return Ok(Goodbye::Cease(text.into())),
            (other, _) => println!("{other:?} is not a request"),
        }
    }
    Ok(Goodbye::Restart)
}
