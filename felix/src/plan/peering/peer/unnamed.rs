//! Peers whose address nobody writes down: the router at the other end of a link, and whoever connects from a range.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use ocicat_bgp::speaker::{Dial, PeerName, PeerRange, RemoteAs};

use super::{Claim, Reader};
use crate::world::ANNOTATION_PREFIX;

impl Reader<'_> {
    /// The AS number: as Calico's field says, or the annotation, or what goes without saying.
    pub(super) fn remote_as(&mut self, otherwise: Option<RemoteAs>) -> Option<RemoteAs> {
        let number = self.spec.as_number.and_then(|number| NonZeroU32::new(number.0));
        if number.is_some() && self.whom.remote_as.is_some() {
            self.report_annotation("remote-as", "set beside spec.asNumber, which goes before it");
        }
        let remote_as = number.map(RemoteAs::from).or(self.whom.remote_as).or(otherwise);
        if remote_as.is_none() {
            self.report("spec.asNumber", "missing; no peer");
        }
        remote_as
    }

    /// The router at the other end of each link (unnumbered peering). The link is always part of the name: a session
    /// has to survive that another link joins its own.
    pub(super) fn on_links(&mut self, name: &str) {
        let Some(remote_as) = self.remote_as(Some(RemoteAs::External)) else { return };
        let links = self.whom.interfaces.clone();
        for interface in &links {
            let mut peer = self.settings.peer(Ipv6Addr::UNSPECIFIED.into(), remote_as);
            peer.interface = Some(interface.clone());
            self.add(format!("{name}-{interface}"), peer, None, Claim::Explicit);
        }
    }

    /// The link of a peer whose address has no meaning without one.
    pub(super) fn link_of(&mut self, address: IpAddr, zone: Option<&str>) -> Link {
        let is_link_local = match address {
            IpAddr::V6(address) => address.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        let annotated = match &self.whom.interfaces[..] {
            [] => None,
            [one] => Some(one.clone()),
            [_, _, ..] => {
                self.report_annotation("interface", "more than one beside one peerIP; no peer");
                return Link::Unclear;
            }
        };
        match (zone.map(Into::into).or(annotated), is_link_local) {
            (Some(interface), true) => Link::This(interface),
            (None, false) => Link::Any,
            (None, true) => {
                let message = format!(
                    "{address} means nothing without its link: add %INTERFACE, or the annotation {ANNOTATION_PREFIX}interface; no peer"
                );
                self.report("spec.peerIP", message);
                Link::Unclear
            }
            (Some(_), false) => {
                self.report_annotation(
                    "interface",
                    "set beside a peerIP that is not link-local, which the kernel finds; ignored",
                );
                Link::Any
            }
        }
    }

    /// Whoever connects from a range.
    pub(super) fn guests(&mut self, name: &str) {
        let Some(prefix) = self.whom.range else { return };
        let Some(remote_as) = self.remote_as(Some(RemoteAs::External)) else { return };
        let mut template = self.settings.peer(prefix.addr(), remote_as);
        template.dial = Dial::Passive;
        let (template, about) = self.complete(template, None);
        let name = PeerName::from(name);
        self.draft.about.insert(name.clone(), about);
        let range = PeerRange { prefix, limit: self.whom.limit, template };
        self.draft.ranges.insert(name, range);
    }

    pub(super) fn report_annotation(&mut self, name: &str, message: &str) {
        self.report(&field(name), message);
    }
}

/// An annotation as problems name it.
pub(super) fn field(annotation: &str) -> String {
    format!("metadata.annotations[{ANNOTATION_PREFIX}{annotation}]")
}

/// Through which link a peer is reached.
pub(super) enum Link {
    /// The kernel knows.
    Any,
    /// This one.
    This(std::sync::Arc<str>),
    /// It cannot be told: no peer.
    Unclear,
}
