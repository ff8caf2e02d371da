//! What became of the addresses that the speaker listens on, and of the keys there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use ocicat_bgp::speaker::Config;
use ocicat_bgp::wire::Prefix;

use super::Daemon;

/// By address; why it is not listened on, or the keys that the kernel has refused there.
#[derive(Debug, Default)]
pub(super) struct Listening(BTreeMap<SocketAddr, Result<Vec<(Prefix, String)>, String>>);

impl Daemon {
    /// The speaker listens on an address, or does not.
    pub(super) fn note_listener(
        &mut self,
        address: SocketAddr,
        outcome: Result<Vec<(Prefix, String)>, String>,
    ) {
        self.listening.0.insert(address, outcome);
        self.tell_listening();
    }

    /// Of addresses that are not asked for any more nothing is left to tell.
    pub(super) fn follow_listeners(&mut self, config: &Config) {
        let wanted = [&config.listen[..], &config.listen_ahead].concat();
        self.listening.0.retain(|address, _| wanted.contains(address));
        self.tell_listening();
    }

    fn tell_listening(&mut self) {
        let (mut silent, mut keys) = (Vec::new(), Vec::new());
        for (address, outcome) in &self.listening.0 {
            match outcome {
                Err(error) => silent.push(format!("listening for BGP on {address}: {error}")),
                Ok(refused) => keys.extend(
                    refused.iter().map(|(of, why)| format!("the key for {of} on {address}: {why}")),
                ),
            }
        }
        for (what, lines) in [("listen", silent), ("keys", keys)] {
            if lines.is_empty() {
                self.failures.remove(what);
            } else {
                self.failures.insert(what, lines);
            }
        }
    }

    /// Why a peer cannot connect to us, as far as that is a matter of its key.
    pub(super) fn refused_key(&self, peer: IpAddr) -> Option<String> {
        let refused = self.listening.0.values().flatten().flatten();
        let of_peer = |(of, _): &&(Prefix, String)| IpNet::from(*of).contains(&peer);
        refused.filter(of_peer).map(|(_, why)| format!("it cannot connect: {why}")).next()
    }
}
