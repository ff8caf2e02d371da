//! `CalicoNodeStatus`: what a user wants to see of one node, and what its agent says.
//!
//! The status is written as a JSON merge patch (RFC 7386): what is absent goes out as `null`, which takes an older value
//! away. Not so inside of lists, which a patch replaces as a whole.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The object: which node, what of it, and what was said last.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CalicoNodeStatus {
    /// Its name, which says nothing of the node.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What the user asks for.
    pub spec: CalicoNodeStatusSpec,
    /// What the API server holds; `None` also if it cannot be read, and then is written anew.
    #[serde(default, deserialize_with = "readable")]
    pub status: Option<NodeStatus>,
}

/// What the user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    /// The node.
    pub node: String,
    /// What of it.
    pub classes: Vec<Class>,
    /// At most how often the status is written, in seconds; 10 when absent, 0: not at all.
    pub update_period_seconds: Option<u32>,
}

/// A part of a node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Class {
    /// The speaker itself.
    Agent,
    /// Its peers.
    #[serde(rename = "BGP")]
    Bgp,
    /// Its routes.
    Routes,
}

/// What an agent says of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// When this was written (RFC 3339).
    pub last_updated: Option<String>,
    /// The speaker itself.
    pub agent: Option<AgentStatus>,
    /// Its peers.
    pub bgp: Option<BgpStatus>,
    /// Its routes.
    pub routes: Option<RoutesStatus>,
}

/// The speaker, once for each family that the node has an address of: Calico runs one BIRD for each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentStatus {
    /// IPv4.
    #[serde(rename = "birdV4")]
    pub ipv4: Option<SpeakerStatus>,
    /// IPv6.
    #[serde(rename = "birdV6")]
    pub ipv6: Option<SpeakerStatus>,
}

/// A speaker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpeakerStatus {
    /// `Ready` or `NotReady`.
    pub state: String,
    /// Which program, and which version of it.
    pub version: String,
    /// When it started (RFC 3339).
    pub last_boot_time: String,
    /// When its configuration last changed (RFC 3339).
    pub last_reconfiguration_time: Option<String>,
    /// Its BGP Identifier.
    #[serde(rename = "routerID")]
    pub router_id: Option<String>,
}

/// The peers, by the family of the address that the session is with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BgpStatus {
    /// Sessions that stand, IPv4.
    #[serde(rename = "numberEstablishedV4")]
    pub established_ipv4: usize,
    /// Sessions that do not.
    #[serde(rename = "numberNotEstablishedV4")]
    pub not_established_ipv4: usize,
    /// Sessions that stand, IPv6.
    #[serde(rename = "numberEstablishedV6")]
    pub established_ipv6: usize,
    /// Sessions that do not.
    #[serde(rename = "numberNotEstablishedV6")]
    pub not_established_ipv6: usize,
    /// The peers, IPv4.
    #[serde(rename = "peersV4")]
    pub ipv4: Vec<PeerStatus>,
    /// The peers, IPv6.
    #[serde(rename = "peersV6")]
    pub ipv6: Vec<PeerStatus>,
}

/// A peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerStatus {
    /// Its address.
    #[serde(rename = "peerIP")]
    pub address: String,
    /// `NodeMesh`, `NodePeer` or `GlobalPeer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The state of its session, as RFC 4271 names it.
    pub state: String,
    /// Since when (RFC 3339).
    pub since: String,
}

/// The routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutesStatus {
    /// IPv4.
    #[serde(rename = "routesV4")]
    pub ipv4: Vec<RouteStatus>,
    /// IPv6.
    #[serde(rename = "routesV6")]
    pub ipv6: Vec<RouteStatus>,
}

/// A leg of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteStatus {
    /// `FIB`: in the kernel; `RIB`: known, and not in the kernel.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where to.
    pub destination: String,
    /// By which router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Over which link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Where it is from.
    pub learned_from: Source,
}

/// Where a route is from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// `Direct`, `Static`, `NodeMesh` or `BGPPeer`.
    pub source_type: String,
    /// The peer that told it.
    #[serde(rename = "peerIP", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
}

/// What another program wrote may look otherwise.
fn readable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NodeStatus>, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_that_somebody_else_wrote_is_no_obstacle() {
        let object: CalicoNodeStatus = serde_json::from_value(json!({
            "spec": { "node": "a", "classes": ["BGP"] }, "status": { "bgp": "unknown" },
        }))
        .unwrap();
        assert_eq!(object.status, None);
        assert_eq!(object.spec.classes, [Class::Bgp]);
    }

    #[test]
    fn what_is_written_reads_the_same_and_takes_older_values_away() {
        let status = NodeStatus {
            last_updated: Some("2026-01-02T03:04:05Z".to_owned()),
            bgp: Some(BgpStatus { established_ipv4: 1, ..BgpStatus::default() }),
            ..NodeStatus::default()
        };
        let value = serde_json::to_value(&status).unwrap();
        assert_eq!(value["agent"], Value::Null);
        assert_eq!(value["bgp"]["numberEstablishedV4"], 1);
        assert_eq!(serde_json::from_value::<NodeStatus>(value).unwrap(), status);
    }
}
