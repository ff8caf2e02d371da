//! The `projectcalico.org/v3` kinds that we honour, with Calico's field names and meaning.
//!
//! A field that is not listed here is unknown to us and reported as such; a field that is listed and not honoured
//! yet is reported by the plan that would have used it.

pub mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// An object of the group: metadata and a specification.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource<S> {
    /// Name (all these kinds are cluster scoped).
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What the user asks for.
    pub spec: S,
}

/// `BGPConfiguration`: settings for the whole cluster (`default`) or one node (`node.NAME`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpConfigurationSpec {
    /// AS number of nodes that have none of their own; 64512 when absent.
    pub as_number: Option<AsNumber>,
    /// Whether every node peers with every other node; true when absent.
    pub node_to_node_mesh_enabled: Option<bool>,
    /// TCP port to listen on; 179 when absent.
    pub listen_port: Option<u16>,
    /// Listen on every address (`None`) or on the node's own alone (`NodeIP`).
    pub bind_mode: Option<BindMode>,
    /// Names for communities.
    pub communities: Vec<NamedCommunity>,
    /// Communities put on what we originate inside a prefix.
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// Graceful restart time of the node mesh, as a duration (`120s`).
    pub node_mesh_max_restart_time: Option<String>,
    /// Service ranges to advertise.
    #[serde(rename = "serviceClusterIPs")]
    pub service_cluster_ips: Vec<CidrEntry>,
    /// External service ranges to advertise.
    #[serde(rename = "serviceExternalIPs")]
    pub service_external_ips: Vec<CidrEntry>,
    /// Load-balancer ranges to advertise.
    #[serde(rename = "serviceLoadBalancerIPs")]
    pub service_load_balancer_ips: Vec<CidrEntry>,
    /// Password of the node mesh.
    pub node_mesh_password: Option<Password>,
    /// Log level of the speaker.
    pub log_severity_screen: Option<String>,
    /// Interfaces whose routes are not read.
    pub ignored_interfaces: Vec<String>,
    /// Address at which pods of the node find its speaker.
    #[serde(rename = "localWorkloadPeeringIPV4")]
    pub local_workload_peering_ipv4: Option<String>,
    /// The same for IPv6.
    #[serde(rename = "localWorkloadPeeringIPV6")]
    pub local_workload_peering_ipv6: Option<String>,
    /// Priority of the nodes' own IPv4 routes; 1024 when absent.
    #[serde(rename = "ipv4NormalRoutePriority")]
    pub ipv4_normal_route_priority: Option<u32>,
    /// The same for IPv6.
    #[serde(rename = "ipv6NormalRoutePriority")]
    pub ipv6_normal_route_priority: Option<u32>,
    /// Which learned routes inside of address pools are put into the kernel.
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// How load balancers' addresses are advertised: whole ranges, or address by address.
    pub service_load_balancer_aggregation: Option<Aggregation>,
}

/// Which learned routes inside of address pools are put into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ProgramClusterRoutes {
    /// Those of pools without encapsulation, and of pools with IPIP.
    Enabled,
    /// None.
    Disabled,
    /// Those of pools with IPIP.
    #[serde(rename = "EnabledIPIPOnly")]
    EnabledIpipOnly,
    /// Those of pools without encapsulation.
    EnabledNoEncapOnly,
}

/// How load balancers' addresses are advertised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Aggregation {
    /// As ranges.
    Enabled,
    /// Address by address.
    Disabled,
}

/// An AS number: a number, or text (`65000`, or `1.10` in RFC 5396 asdot form).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct AsNumber(pub u32);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

impl TryFrom<NumberOrText> for AsNumber {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        match value {
            NumberOrText::Number(number) => Ok(Self(number)),
            NumberOrText::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for AsNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not an AS number (1 to 4294967295, or asdot like 1.10)");
        let number = match text.split_once('.') {
            Some((high, low)) => {
                let high: u16 = high.parse().map_err(|_| wrong())?;
                let low: u16 = low.parse().map_err(|_| wrong())?;
                (u32::from(high) << 16) | u32::from(low)
            }
            None => text.parse().map_err(|_| wrong())?,
        };
        // RFC 7607: AS 0 is reserved and never a speaker's.
        if number == 0 { Err(wrong()) } else { Ok(Self(number)) }
    }
}

/// Where the speaker listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum BindMode {
    /// On every address.
    None,
    /// On the node's own addresses alone.
    NodeIP,
}

/// A community with a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NamedCommunity {
    /// The name.
    pub name: String,
    /// `aa:nn` or `aa:nn:mm`.
    pub value: String,
}

/// Communities put on what we originate inside a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PrefixAdvertisement {
    /// The prefix.
    pub cidr: String,
    /// Names of communities, or values.
    #[serde(default)]
    pub communities: Vec<String>,
}

/// A prefix in a list of prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CidrEntry {
    /// The prefix.
    pub cidr: String,
}

/// A password kept in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Password {
    /// The key of the Secret.
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[serde(default)]
    pub name: String,
    /// Key in it.
    pub key: String,
    /// Whether the session may start without it.
    #[serde(default)]
    pub optional: Option<bool>,
}

/// `BGPPeer`: whom the selected nodes peer with.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// The one node that has this peer.
    pub node: Option<String>,
    /// The nodes that have this peer, as a selector expression.
    pub node_selector: Option<String>,
    /// Address, with an optional port: `192.0.2.1`, `192.0.2.1:1790`, `[2001:db8::1]:1790`.
    #[serde(rename = "peerIP")]
    pub peer_ip: Option<String>,
    /// AS number of the peer.
    pub as_number: Option<AsNumber>,
    /// AS number that we show to this peer.
    #[serde(rename = "localASNumber")]
    pub local_as_number: Option<AsNumber>,
    /// The nodes to peer with, instead of an address.
    pub peer_selector: Option<String>,
    /// Whether the selected nodes get the other half of the peering by themselves.
    pub reverse_peering: Option<String>,
    /// Next hop as heard, on eBGP. Deprecated by `next_hop_mode`.
    pub keep_original_next_hop: Option<bool>,
    /// How the next hop of what we send is chosen.
    pub next_hop_mode: Option<NextHopMode>,
    /// MD5 password.
    pub password: Option<Password>,
    /// Whether the session leaves from the node's address.
    pub source_address: Option<SourceAddress>,
    /// Graceful restart time (`120s`).
    pub max_restart_time: Option<String>,
    /// Keepalive interval (`20s`).
    pub keepalive_time: Option<String>,
    /// How many times our AS may stand in a received path.
    #[serde(rename = "numAllowedLocalASNumbers")]
    pub num_allowed_local_as_numbers: Option<u8>,
    /// Generalised TTL security: the number of hops to the peer.
    pub ttl_security: Option<u8>,
    /// Gateway towards the peer.
    pub reachable_by: Option<String>,
    /// Names of BGPFilters, in order.
    pub filters: Vec<String>,
    /// Pods on the node to peer with.
    pub local_workload_selector: Option<String>,
}

/// How the next hop of what we send is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum NextHopMode {
    /// As RFC 4271 §5.1.3 says.
    Auto,
    /// Always ourselves.
    #[serde(rename = "Self")]
    Own,
    /// Always as heard.
    Keep,
}

/// Where a session leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SourceAddress {
    /// From the node's address.
    #[serde(rename = "UseNodeIP")]
    UseNodeIp,
    /// From whatever the kernel picks.
    None,
}

/// `BGPFilter`: which routes pass a peer, and how they change.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterSpec {
    /// What we send, IPv4.
    pub export_v4: Vec<FilterRule>,
    /// What we accept, IPv4.
    pub import_v4: Vec<FilterRule>,
    /// What we send, IPv6.
    pub export_v6: Vec<FilterRule>,
    /// What we accept, IPv6.
    pub import_v6: Vec<FilterRule>,
}

/// One rule of a filter: every condition that is there must hold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterRule {
    /// The prefix to compare with.
    pub cidr: Option<String>,
    /// How to compare.
    pub match_operator: Option<MatchOperator>,
    /// Which lengths count.
    pub prefix_length: Option<PrefixLength>,
    /// `RemotePeers`: heard from a peer.
    pub source: Option<String>,
    /// Outgoing interface, `*` at the end.
    pub interface: Option<String>,
    /// A community that the route carries.
    pub communities: Option<CommunityMatch>,
    /// How the AS path begins.
    #[serde(default)]
    pub as_path_prefix: Vec<u32>,
    /// Kind of session.
    pub peer_type: Option<PeerType>,
    /// Priority (metric) of the route.
    pub priority: Option<u32>,
    /// What happens to a match.
    pub action: FilterAction,
    /// Changes to what is accepted.
    #[serde(default)]
    pub operations: Vec<Operation>,
}

/// How a route's prefix is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum MatchOperator {
    /// The same prefix.
    Equal,
    /// Another prefix.
    NotEqual,
    /// Inside.
    In,
    /// Not inside.
    NotIn,
}

/// A range of prefix lengths, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PrefixLength {
    /// Shortest; that of the prefix when absent.
    pub min: Option<u8>,
    /// Longest; the family's longest when absent.
    pub max: Option<u8>,
}

/// Communities to look for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CommunityMatch {
    /// Exactly one value, as Calico demands.
    pub values: Vec<String>,
}

/// Kind of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum PeerType {
    /// Another AS.
    #[serde(rename = "eBGP")]
    Ebgp,
    /// Our AS.
    #[serde(rename = "iBGP")]
    Ibgp,
}

/// What happens to a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum FilterAction {
    /// It passes.
    Accept,
    /// It does not.
    Reject,
}

/// A change to an accepted route; one of the three is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Put a community on it.
    pub add_community: Option<CommunityValue>,
    /// Put AS numbers before its path.
    #[serde(rename = "prependASPath")]
    pub prepend_as_path: Option<AsPathPrefix>,
    /// Set its priority.
    pub set_priority: Option<PriorityValue>,
}

/// A community as text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CommunityValue {
    /// `aa:nn` or `aa:nn:mm`.
    pub value: String,
}

/// AS numbers, first one first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AsPathPrefix {
    /// The numbers.
    pub prefix: Vec<u32>,
}

/// A priority.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PriorityValue {
    /// The value.
    pub value: u32,
}

/// `IPPool`: a range of pod addresses and what happens to packets that leave it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpPoolSpec {
    /// The range.
    pub cidr: String,
    /// Masquerade what leaves for an address in no pool.
    pub nat_outgoing: bool,
    /// No new addresses from here.
    pub disabled: bool,
    /// Not advertised.
    #[serde(rename = "disableBGPExport")]
    pub disable_bgp_export: bool,
    /// `Workload`, `Tunnel`, `LoadBalancer`; the first two when empty.
    pub allowed_uses: Vec<String>,
    /// IPIP tunnels.
    pub ipip_mode: Option<String>,
    /// VXLAN tunnels.
    pub vxlan_mode: Option<String>,
    /// Size of a block.
    pub block_size: Option<u8>,
    /// Nodes that take addresses from here.
    pub node_selector: Option<String>,
    /// Namespaces that take addresses from here.
    pub namespace_selector: Option<String>,
    /// How addresses are taken.
    pub assignment_mode: Option<String>,
}
