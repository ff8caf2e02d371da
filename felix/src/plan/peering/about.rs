//! What there is to know of peers that the speaker does not: which object made them, and what they wait for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Index;
use std::sync::Arc;

use ocicat_bgp::speaker::PeerName;

/// What there is to know of a peer beside its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The object that it is from.
    pub origin: String,
    /// Its group.
    pub group: PeerGroup,
    /// Which nodes the object gives it to.
    pub nodes: Nodes,
    /// What its session has to wait for, if it has to.
    pub held: Option<String>,
    /// Where its rules are from.
    pub rules: Arc<RuleOrigins>,
}

/// How a peer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerGroup {
    /// Somebody wrote a BGPPeer.
    Configured,
    /// It is a node of the mesh.
    Mesh,
}

/// Which nodes have a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nodes {
    /// All of them.
    All,
    /// One, or those that a selector chooses.
    Selected,
}

/// Where the rules of a peer's filters are from, by their number: `BGPFilter from-tor importV4[2]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleOrigins {
    /// Of the import filter.
    pub import: Vec<String>,
    /// Of the export filter.
    pub export: Vec<String>,
}

/// [`About`] of every peer and every range of peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abouts(BTreeMap<PeerName, About>);

impl Abouts {
    /// What is known of a peer; of one that came from a range, what is known of that.
    pub fn get(&self, name: &PeerName) -> Option<&About> {
        self.0.get(name).or_else(|| self.0.get(&range_of(name)?))
    }

    /// Every peer and range.
    pub fn names(&self) -> impl Iterator<Item = &PeerName> {
        self.0.keys()
    }

    /// Adds a peer or a range.
    pub(in crate::plan) fn insert(&mut self, name: PeerName, about: About) {
        self.0.insert(name, about);
    }
}

impl Index<&PeerName> for Abouts {
    type Output = About;

    fn index(&self, name: &PeerName) -> &About {
        self.get(name).expect("the peer is known")
    }
}

/// The range of a peer that has the name of one and its own address, as [`ocicat_bgp::speaker::PeerRange`] says.
pub fn range_of(name: &PeerName) -> Option<PeerName> {
    let (range, address) = name.as_str().rsplit_once('-')?;
    address.parse::<IpAddr>().is_ok().then(|| PeerName::from(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_came_from_a_range_has_its_name() {
        let range = |name| range_of(&PeerName::from(name)).map(|range| range.to_string());
        assert_eq!(range("rack-1-10.0.0.2").as_deref(), Some("rack-1"));
        assert_eq!(range("rack-2001:db8::7").as_deref(), Some("rack"));
        assert_eq!(range("rack-1"), None);
        assert_eq!(range("tor"), None);
    }
}
