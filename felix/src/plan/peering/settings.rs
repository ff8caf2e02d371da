//! BGPConfiguration: `default` for the cluster, `node.NAME` for what one node has otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use ipnet::IpNet;
use ocicat_bgp::rib::filter::{AnyCommunity, PRIORITY_ZERO};
use ocicat_bgp::speaker::{LocalAs, Originated, OwnAs, PeerConfig, PeerRestart, RemoteAs};
use ocicat_bgp::wire::Family;

use super::annotations::{self, PeerKnobs, SpeakerKnobs};
use super::peer::multihop;
use super::workload::{self, Workloads, is_on_link};
use super::{LogLevel, RESTART_IS_OFF, filter, restart_time, services};
use crate::datastore::calico::{
    self, Aggregation, BgpConfigurationSpec, BindMode, ProgramClusterRoutes,
};
use crate::datastore::{Key, Kind};
use crate::problem::Problem;
use crate::world::{ANNOTATION_PREFIX, Annotated, Node, World};

/// Calico's own AS number for nodes that have none.
const DEFAULT_AS: NonZeroU32 = NonZeroU32::new(64512).expect("64512 is not zero");
/// The port that IANA gave to BGP.
const BGP_PORT: u16 = 179;

/// Priority of a node's own routes, unless told otherwise; as in Calico.
const NORMAL_PRIORITY: u32 = 1024;

/// What the other nodes have to know of one.
#[derive(Debug, Clone, Copy)]
struct Contact {
    as_number: Option<NonZeroU32>,
    listen_port: Option<u16>,
}

impl From<&BgpConfigurationSpec> for Contact {
    fn from(spec: &BgpConfigurationSpec) -> Self {
        let as_number = spec.as_number.and_then(|number| NonZeroU32::new(number.0));
        Self { as_number, listen_port: spec.listen_port }
    }
}

/// The settings in force on our node.
pub(super) struct Settings {
    /// How nodes are reached, unless told otherwise.
    contact: Contact,
    /// The same by the name of a node, of which `node.NAME` says otherwise.
    contacts: BTreeMap<String, Contact>,
    pub(super) mesh: bool,
    pub(super) mesh_password: Option<calico::Password>,
    mesh_restart: Option<PeerRestart>,
    bind: BindMode,
    advertised: Vec<(IpNet, Vec<AnyCommunity>)>,
    /// What annotations say of every peer.
    knobs: PeerKnobs,
    /// What annotations say of the speaker.
    pub(super) speaker: SpeakerKnobs,
    priorities: [Option<u32>; 2],
    pub(super) program: Option<ProgramClusterRoutes>,
    pub(super) log: Option<LogLevel>,
    /// The ranges of Services that are told.
    pub(super) services: services::Ranges,
    /// The node's addresses towards pods that are peers.
    pub(super) workload_addresses: BTreeSet<IpAddr>,
}

impl Settings {
    pub(super) fn read(world: &World, problems: &mut Vec<Problem>) -> Self {
        let empty = Annotated::default();
        let default = world.bgp_configurations.get("default").unwrap_or(&empty);
        let name_of_node = format!("node.{}", world.name());
        let of_node = world.bgp_configurations.get(&name_of_node).unwrap_or(&empty);
        report_unknown_names(world, problems);
        let (mut knobs, mut speaker) = (PeerKnobs::default(), SpeakerKnobs::default());
        for (name, object) in [("default", default), (name_of_node.as_str(), of_node)] {
            let key = Key::cluster(Kind::BgpConfiguration, name);
            let into = (&mut knobs, &mut speaker);
            annotations::of_configuration(&key, &object.annotations, into, problems);
        }
        let of_node_alone = of_node.annotations.contains_key(annotations::CONFEDERATION);
        let name = if of_node_alone { &name_of_node } else { "default" };
        let confederation = Key::cluster(Kind::BgpConfiguration, name);
        let (default, of_node) = (&default.spec, &said(&of_node.spec));
        let mut reader = Reader { default, of_node, name_of_node, problems };
        reader.report_mesh_of_node();
        let mesh_restart = reader.mesh_restart(&knobs);
        let log = reader.log();
        let workload_addresses = reader.workload_addresses(world);
        let services =
            services::Ranges::read((default, of_node), &reader.name_of_node, reader.problems);
        let advertised = reader.advertised();
        let mut settings = Self {
            contact: Contact::from(default),
            contacts: contacts(world),
            mesh: default.node_to_node_mesh_enabled.unwrap_or(true),
            mesh_password: default.node_mesh_password.clone(),
            mesh_restart,
            bind: reader.either(|spec| spec.bind_mode).unwrap_or(BindMode::None),
            advertised,
            knobs,
            speaker,
            priorities: [
                reader.either(|spec| spec.ipv4_normal_route_priority),
                reader.either(|spec| spec.ipv6_normal_route_priority),
            ],
            program: reader.either(|spec| spec.program_cluster_routes),
            log,
            services,
            workload_addresses,
        };
        settings.check_confederation(world, &confederation, problems);
        settings
    }

    /// A member has another number than the whole.
    fn check_confederation(&mut self, world: &World, key: &Key, problems: &mut Vec<Problem>) {
        let Some(own) = world.own_node() else { return };
        let number = self.as_number_of(own);
        if self.own_as(own).public() == number.get() && self.speaker.confederation.take().is_some()
        {
            let field =
                format!("metadata.annotations[{ANNOTATION_PREFIX}{}]", annotations::CONFEDERATION);
            let message = format!(
                "AS {number} is the node's own number, which a member cannot share with its confederation; ignored"
            );
            problems.push(Problem::new(key, field, message));
        }
    }

    /// A peer with what is set for all.
    pub(super) fn peer(&self, address: IpAddr, remote_as: impl Into<RemoteAs>) -> PeerConfig {
        let mut peer = PeerConfig::new(address, remote_as);
        peer.ttl = multihop();
        self.knobs.apply(&mut peer);
        peer
    }

    /// The same for a node of ours.
    pub(super) fn peer_node(&self, address: IpAddr, node: &Node) -> PeerConfig {
        let mut peer = self.peer(address, self.as_number_of(node));
        peer.port = self.listen_port_of(node);
        peer
    }

    /// A peer of the mesh of nodes.
    pub(super) fn mesh_peer(&self, address: IpAddr, node: &Node) -> PeerConfig {
        let mut peer = self.peer_node(address, node);
        if peer.graceful_restart != PeerRestart::Disabled {
            peer.graceful_restart = self.mesh_restart.unwrap_or(peer.graceful_restart);
        }
        peer
    }

    /// A number that we show to a peer instead of our own, in the way that is set for all.
    pub(super) fn local_as(&self, number: NonZeroU32) -> LocalAs {
        let local_as = LocalAs::from(number);
        let mut peer = PeerConfig::new(Ipv4Addr::UNSPECIFIED.into(), number);
        peer.local_as = Some(local_as);
        self.knobs.apply(&mut peer);
        peer.local_as.unwrap_or(local_as)
    }

    /// The priority that nodes' own routes have.
    pub(super) fn normal_priority(&self, family: Family) -> u32 {
        self.priorities[family.index()].unwrap_or(NORMAL_PRIORITY)
    }

    /// The AS number of a node.
    pub(super) fn as_number_of(&self, node: &Node) -> NonZeroU32 {
        let of_node = || self.contacts.get(&node.name)?.as_number;
        let annotated = node.as_number.and_then(NonZeroU32::new);
        annotated.or_else(of_node).or(self.contact.as_number).unwrap_or(DEFAULT_AS)
    }

    /// The TCP port that a node listens on.
    pub(super) fn listen_port_of(&self, node: &Node) -> u16 {
        let of_node = self.contacts.get(&node.name).and_then(|contact| contact.listen_port);
        of_node.or(self.contact.listen_port).unwrap_or(BGP_PORT)
    }

    /// The AS numbers that our node goes by.
    pub(super) fn own_as(&self, own: &Node) -> OwnAs<'_> {
        OwnAs { number: self.as_number_of(own), confederation: self.speaker.confederation.as_ref() }
    }

    /// Where we accept connections.
    pub(super) fn listen(&self, own: &Node) -> Vec<SocketAddr> {
        let port = self.listen_port_of(own);
        match self.bind {
            BindMode::NodeIP => own.addresses().map(|ip| SocketAddr::new(ip, port)).collect(),
            BindMode::None => {
                let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
                any.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
            }
        }
    }

    /// Where pods that are peers find us beside: on addresses that come and go with them.
    pub(super) fn listen_ahead(&self, own: &Node, workloads: &Workloads) -> Vec<SocketAddr> {
        let addresses: BTreeSet<IpAddr> = match self.bind {
            BindMode::NodeIP => workloads.values().flatten().copied().collect(),
            BindMode::None => BTreeSet::new(),
        };
        // The kernel knows a link-local address with its link alone, and there is one for each pod.
        let known_anywhere = addresses.into_iter().filter(|ip| !is_on_link(*ip));
        let port = self.listen_port_of(own);
        known_anywhere.map(|ip| SocketAddr::new(ip, port)).collect()
    }

    /// What a prefix of ours is told with. Its priority is told only where one was set: among nodes that all have the
    /// same it says nothing.
    pub(super) fn originated(&self, prefix: IpNet) -> Originated {
        let family = if prefix.addr().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let priority = self.priorities[family.index()];
        let local_pref = priority.map(|priority| PRIORITY_ZERO.saturating_sub(priority));
        let mut originated = Originated { local_pref, ..Originated::default() };
        for (_, communities) in self.advertised.iter().filter(|(cidr, _)| cidr.contains(&prefix)) {
            for community in communities {
                match community {
                    AnyCommunity::Standard(community) => originated.communities.push(*community),
                    AnyCommunity::Large(community) => originated.large_communities.push(*community),
                }
            }
        }
        originated.communities.sort();
        originated.communities.dedup();
        originated.large_communities.sort();
        originated.large_communities.dedup();
        originated
    }
}

/// Reads `default`, and what `node.NAME` has otherwise.
struct Reader<'a> {
    default: &'a BgpConfigurationSpec,
    of_node: &'a BgpConfigurationSpec,
    name_of_node: String,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn either<T>(&self, field: impl Fn(&BgpConfigurationSpec) -> Option<T>) -> Option<T> {
        field(self.of_node).or_else(|| field(self.default))
    }

    /// A field as text: whose it is, and what it says.
    fn text(
        &self,
        field: impl Fn(&BgpConfigurationSpec) -> &Option<String>,
    ) -> Option<(Key, String)> {
        let of = |spec, name: &str| {
            let text = field(spec).clone().filter(|text| !text.is_empty())?;
            Some((Key::cluster(Kind::BgpConfiguration, name), text))
        };
        of(self.of_node, &self.name_of_node).or_else(|| of(self.default, "default"))
    }

    /// The mesh is one of all nodes.
    fn report_mesh_of_node(&mut self) {
        let fields = [
            ("nodeToNodeMeshEnabled", self.of_node.node_to_node_mesh_enabled.is_some()),
            ("nodeMeshPassword", self.of_node.node_mesh_password.is_some()),
            ("nodeMeshMaxRestartTime", self.of_node.node_mesh_max_restart_time.is_some()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, is_set)| *is_set) {
            let key = Key::cluster(Kind::BgpConfiguration, self.name_of_node.as_str());
            let message = "counts in \"default\" alone; ignored, as in Calico";
            self.problems.push(Problem::new(key, format!("spec.{field}"), message));
        }
    }

    fn mesh_restart(&mut self, knobs: &PeerKnobs) -> Option<PeerRestart> {
        let text = self.default.node_mesh_max_restart_time.as_deref()?;
        let mut peer = PeerConfig::new(Ipv4Addr::UNSPECIFIED.into(), DEFAULT_AS);
        knobs.apply(&mut peer);
        let message = match restart_time(text) {
            Ok(_) if peer.graceful_restart == PeerRestart::Disabled => RESTART_IS_OFF.to_owned(),
            Ok(restart) => return Some(restart),
            Err(message) => message + "; 120 s is used",
        };
        let key = Key::cluster(Kind::BgpConfiguration, "default");
        self.problems.push(Problem::new(key, "spec.nodeMeshMaxRestartTime", message));
        None
    }

    fn workload_addresses(&mut self, world: &World) -> BTreeSet<IpAddr> {
        let bind = self.either(|spec| spec.bind_mode);
        let ipv4 = self.text(|spec| &spec.local_workload_peering_ipv4);
        let ipv6 = self.text(|spec| &spec.local_workload_peering_ipv6);
        let fields = [
            ("spec.localWorkloadPeeringIPV4", Family::Ipv4, ipv4),
            ("spec.localWorkloadPeeringIPV6", Family::Ipv6, ipv6),
        ];
        let mut addresses = BTreeSet::new();
        for (field, family, text) in fields {
            let Some((key, text)) = text else { continue };
            let problem = match workload::address(&text, family, world.own_node()) {
                Err(message) => Some(message),
                Ok(address) => {
                    addresses.insert(address);
                    let unheard = bind == Some(BindMode::NodeIP) && is_on_link(address);
                    unheard.then(|| format!("{text:?} is link-local, and with bindMode NodeIP nobody listens on those; choose another address"))
                }
            };
            self.problems.extend(problem.map(|message| Problem::new(key, field, message)));
        }
        addresses
    }

    fn log(&mut self) -> Option<LogLevel> {
        let (key, text) = self.text(|spec| &spec.log_severity_screen)?;
        match text.parse() {
            Ok(level) => Some(level),
            Err(message) => {
                let field = "spec.logSeverityScreen";
                self.problems.push(Problem::new(key, field, message + "; ignored"));
                None
            }
        }
    }

    fn advertised(&mut self) -> Vec<(IpNet, Vec<AnyCommunity>)> {
        let (name, spec) = if self.of_node.prefix_advertisements.is_empty() {
            ("default", self.default)
        } else {
            (self.name_of_node.as_str(), self.of_node)
        };
        let key = Key::cluster(Kind::BgpConfiguration, name);
        // A name means what the object itself says, or else what it means in all of the cluster.
        let named = self.default.communities.iter().chain(&spec.communities);
        let names: BTreeMap<&str, &str> =
            named.map(|named| (named.name.as_str(), named.value.as_str())).collect();
        let mut advertised = Vec::new();
        for (number, entry) in spec.prefix_advertisements.iter().enumerate() {
            let field = format!("spec.prefixAdvertisements[{number}]");
            let Ok(cidr) = entry.cidr.parse::<IpNet>() else {
                let message =
                    format!("{:?} is not a CIDR; its communities are not sent", entry.cidr);
                self.problems.push(Problem::new(&key, field + ".cidr", message));
                continue;
            };
            let mut communities = Vec::new();
            for (number, text) in entry.communities.iter().enumerate() {
                let value = names.get(text.as_str()).copied().unwrap_or(text);
                match filter::community(value) {
                    Ok(community) => communities.push(community),
                    Err(message) => {
                        let field = format!("{field}.communities[{number}]");
                        self.problems.push(Problem::new(&key, field, message + "; not sent"));
                    }
                }
            }
            advertised.push((cidr.trunc(), communities));
        }
        advertised
    }
}

/// An object without what API servers write into every one that does not say it.
fn said(spec: &BgpConfigurationSpec) -> BgpConfigurationSpec {
    let mut spec = spec.clone();
    spec.service_load_balancer_aggregation.take_if(|value| *value == Aggregation::Enabled);
    spec.log_severity_screen.take_if(|value| value == "Info");
    spec
}

/// What `node.NAME` says of each node that has one.
fn contacts(world: &World) -> BTreeMap<String, Contact> {
    let objects = world.bgp_configurations.iter();
    let of_nodes = objects.filter_map(|(name, object)| {
        Some((name.strip_prefix("node.")?.to_owned(), Contact::from(&object.spec)))
    });
    of_nodes.collect()
}

fn report_unknown_names(world: &World, problems: &mut Vec<Problem>) {
    for name in world.bgp_configurations.keys() {
        let of_node = name.strip_prefix("node.").is_some_and(|node| world.nodes.contains_key(node));
        if name != "default" && !of_node {
            let key = Key::cluster(Kind::BgpConfiguration, name.as_str());
            let message =
                "neither \"default\" nor \"node.\" and a node's name; ignored, as in Calico";
            problems.push(Problem::new(key, "metadata.name", message));
        }
    }
}
