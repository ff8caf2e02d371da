//! What an ADD does, step by step, as a value.
//!
//! [`attach`] is pure. Each step prints as what an operator would type, knows how it is undone, and is what CHECK
//! verifies later, so that the three cannot drift apart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::endpoint::{Endpoint, EndpointId};

/// The gateway in every pod. Nobody owns it: the neighbour entry in the pod and proxy ARP on the node lead to the node.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The hardware address of every host interface. The other end of a veth is the only one that sees it.
pub const HOST_MAC: Mac = Mac([0xee; 6]);

/// The link-local address of every host interface, and so the IPv6 gateway in every pod: [`HOST_MAC`] as RFC 4291
/// §2.5.1 makes an interface identifier of it.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// The protocol number of every route that Ocicat installs on the node.
pub const ROUTE_PROTOCOL: u8 = 179;

/// `RTPROT_BOOT`: the protocol of routes inside the pod, as `ip route add` would have it.
const POD_ROUTE_PROTOCOL: u8 = 3;

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

/// Which end of the pair: the node's or the pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The network namespace of the node.
    Node,
    /// The network namespace of the pod.
    Pod,
}

/// One step. `Display` gives the command that does the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Change something in the kernel.
    Kernel(Change),
    /// Ask the daemon to enforce the policy of this pod; do not wait.
    Announce(String),
    /// Tell the daemon that the endpoint of this pod is gone.
    Withdraw(String),
    /// Wait until the daemon says that the policy of this pod is in the kernel.
    AwaitPolicy(String),
    /// Write in the record that the attachment is complete.
    Commit(EndpointId),
}

/// A change in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Remove what an older sandbox of the pod has left under this name, if anything.
    RemoveStale(String),
    /// Remove the pair that this very attachment has made, if it has come so far.
    RemoveVeth(String),
    /// Create the pair, each end in its place.
    AddVeth {
        /// Name on the node.
        host: String,
        /// Name in the pod.
        pod: String,
        /// Of both ends, in bytes.
        mtu: u32,
    },
    /// Give the host interface its hardware address.
    SetMac(String, Mac),
    /// Write a kernel parameter.
    Sysctl(Side, Sysctl),
    /// Bring an interface up.
    Up(Side, String),
    /// Give an interface an address.
    AddAddress(Side, String, IpNet),
    /// Install a route.
    AddRoute(Side, Route),
    /// Write a permanent neighbour entry in the pod.
    AddNeighbour {
        /// The pod's interface.
        device: String,
        /// The neighbour.
        address: IpAddr,
        /// Its hardware address.
        mac: Mac,
    },
}

/// A kernel parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Path below `/proc/sys`, with slashes: an interface name may hold dots.
    pub path: String,
    /// What to write.
    pub value: &'static str,
    /// What to do on a kernel that has no such parameter.
    pub absent: Absent,
}

/// What to do about a kernel parameter that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The attachment cannot work: fail.
    Fail,
    /// The feature that it restrains is not there either: go on.
    Skip,
}

/// A unicast route in the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix.
    pub destination: IpNet,
    /// The next hop; without one the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface.
    pub device: String,
    /// `rtm_protocol`.
    pub protocol: u8,
}

/// The steps that attach `endpoint` with interfaces of `mtu` bytes, in order.
///
/// The daemon is asked as soon as an old sandbox's interface of the same name is out of the way, and works while the
/// interfaces are made: until it is done, its table drops what comes from an interface that it does not know.
pub fn attach(endpoint: &Endpoint, mtu: u32) -> Vec<Step> {
    let pod = format!("{}/{}", endpoint.namespace, endpoint.pod);
    let (host, device) = (endpoint.host_interface.clone(), endpoint.ifname.clone());
    let mut steps =
        vec![Step::Kernel(Change::RemoveStale(host.clone())), Step::Announce(pod.clone())];
    let mut changes = vec![Change::AddVeth { host, pod: device, mtu }];
    changes.extend(node_side(endpoint));
    changes.extend(pod_side(endpoint));
    changes.extend(endpoint.addresses.iter().map(|address| host_route(endpoint, *address)));
    steps.extend(changes.into_iter().map(Step::Kernel));
    steps.push(Step::AwaitPolicy(pod));
    steps.push(Step::Commit(endpoint.id()));
    steps
}

fn host_route(endpoint: &Endpoint, address: IpAddr) -> Change {
    Change::AddRoute(
        Side::Node,
        Route {
            destination: IpNet::from(address),
            gateway: None,
            device: endpoint.host_interface.clone(),
            protocol: ROUTE_PROTOCOL,
        },
    )
}

fn node_side(endpoint: &Endpoint) -> Vec<Change> {
    let host = &endpoint.host_interface;
    let mut steps = vec![Change::SetMac(host.clone(), HOST_MAC)];
    let mut set = |path: String, value, absent| {
        steps.push(Change::Sysctl(Side::Node, Sysctl { path, value, absent }));
    };
    // route_localnet stays off: with it a pod could reach what listens on the node's 127.0.0.1. A chained portmap
    // plugin sets it where it needs it.
    set(format!("net/ipv4/conf/{host}/forwarding"), "1", Absent::Fail);
    set(format!("net/ipv4/conf/{host}/proxy_arp"), "1", Absent::Fail);
    set(format!("net/ipv4/neigh/{host}/proxy_delay"), "0", Absent::Skip);
    // A pod must not configure the node's routes, also where pods have no IPv6 address.
    set(format!("net/ipv6/conf/{host}/accept_ra"), "0", Absent::Skip);
    if has_ipv6(endpoint) {
        set(format!("net/ipv6/conf/{host}/disable_ipv6"), "0", Absent::Fail);
        set(format!("net/ipv6/conf/{host}/accept_dad"), "0", Absent::Fail);
        set(format!("net/ipv6/conf/{host}/forwarding"), "1", Absent::Fail);
        set(format!("net/ipv6/conf/{host}/proxy_ndp"), "1", Absent::Fail);
        // The kernel makes the same address of the MAC, unless addr_gen_mode tells it otherwise.
        let gateway = Ipv6Net::new_assert(GATEWAY_V6, 64).into();
        steps.push(Change::AddAddress(Side::Node, host.clone(), gateway));
    }
    steps.push(Change::Up(Side::Node, host.clone()));
    steps
}

fn pod_side(endpoint: &Endpoint) -> Vec<Change> {
    let device = &endpoint.ifname;
    let mut steps = Vec::new();
    if has_ipv6(endpoint) {
        for (interface, parameter, value) in [
            ("all", "disable_ipv6", "0"),
            ("default", "disable_ipv6", "0"),
            ("lo", "disable_ipv6", "0"),
            (device, "disable_ipv6", "0"),
            (device, "accept_dad", "0"),
        ] {
            let path = format!("net/ipv6/conf/{interface}/{parameter}");
            steps.push(Change::Sysctl(Side::Pod, Sysctl { path, value, absent: Absent::Fail }));
        }
    }
    steps.push(Change::Up(Side::Pod, device.clone()));
    for address in &endpoint.addresses {
        let gateway = gateway_for(*address);
        let route = |destination, gateway| {
            let device = device.clone();
            Change::AddRoute(
                Side::Pod,
                Route { destination, gateway, device, protocol: POD_ROUTE_PROTOCOL },
            )
        };
        steps.push(Change::AddNeighbour {
            device: device.clone(),
            address: gateway,
            mac: HOST_MAC,
        });
        if gateway.is_ipv4() {
            steps.push(route(IpNet::from(gateway), None));
        }
        steps.push(route(default_prefix(*address), Some(gateway)));
        steps.push(Change::AddAddress(Side::Pod, device.clone(), IpNet::from(*address)));
    }
    steps
}

fn has_ipv6(endpoint: &Endpoint) -> bool {
    endpoint.addresses.iter().any(IpAddr::is_ipv6)
}

/// The gateway of a pod's `address`.
pub fn gateway_for(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY_V4.into(),
        IpAddr::V6(_) => GATEWAY_V6.into(),
    }
}

/// `0.0.0.0/0` or `::/0`.
pub fn default_prefix(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}

impl Step {
    /// The step that takes this one back. Most need none: what hangs on an interface goes with it.
    pub fn undo(&self) -> Option<Self> {
        match self {
            Self::Kernel(Change::AddVeth { host, .. }) => {
                Some(Self::Kernel(Change::RemoveVeth(host.clone())))
            }
            Self::Announce(pod) => Some(Self::Withdraw(pod.clone())),
            Self::Kernel(
                Change::RemoveStale(_)
                | Change::RemoveVeth(_)
                | Change::SetMac(..)
                | Change::Sysctl(..)
                | Change::Up(..)
                | Change::AddAddress(..)
                | Change::AddRoute(..)
                | Change::AddNeighbour { .. },
            )
            | Self::Withdraw(_)
            | Self::AwaitPolicy(_)
            | Self::Commit(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(change) => change.fmt(f),
            Self::Announce(pod) => write!(f, "ocicat attach {pod}"),
            Self::Withdraw(pod) => write!(f, "ocicat detach {pod}"),
            Self::AwaitPolicy(pod) => write!(f, "ocicat wait {pod}"),
            Self::Commit(id) => write!(f, "ocicat commit {id}"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveStale(name) | Self::RemoveVeth(name) => write!(f, "ip link delete {name}"),
            Self::AddVeth { host, pod, mtu } => write!(
                f,
                "ip link add {host} mtu {mtu} type veth peer name {pod} mtu {mtu} netns $pod"
            ),
            Self::SetMac(name, mac) => write!(f, "ip link set {name} address {mac}"),
            Self::Sysctl(side, sysctl) => {
                let enter = match side {
                    Side::Node => "",
                    Side::Pod => "ip netns exec $pod ",
                };
                write!(f, "{enter}sysctl -w {}={}", sysctl.path, sysctl.value)
            }
            Self::Up(side, name) => write!(f, "ip {side}link set {name} up"),
            Self::AddAddress(side, name, address) => {
                let nodad = if address.addr().is_ipv6() { " nodad" } else { "" };
                write!(f, "ip {side}address add {address} dev {name}{nodad}")
            }
            Self::AddRoute(side, route) => write!(f, "ip {side}route add {route}"),
            Self::AddNeighbour { device, address, mac } => write!(
                f,
                "ip -n $pod neighbour replace {address} lladdr {mac} dev {device} nud permanent"
            ),
        }
    }
}

/// The option that sends a command to this side; empty or with a blank at the end.
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "",
            Self::Pod => "-n $pod ",
        })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.device)?;
        if self.gateway.is_none() && self.destination.addr().is_ipv4() {
            f.write_str(" scope link")?;
        }
        if self.protocol == POD_ROUTE_PROTOCOL {
            return Ok(());
        }
        write!(f, " proto {}", self.protocol)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::example;

    fn check(addresses: &[&str], expected: &str) {
        let endpoint = Endpoint { host_interface: "oci82b3ade9d00".into(), ..example(addresses) };
        let printed: Vec<String> =
            attach(&endpoint, 1500).iter().map(ToString::to_string).collect();
        assert_eq!(printed.join("\n"), expected.trim());
    }

    #[test]
    fn a_dual_stack_pod_is_attached_in_these_steps() {
        check(
            &["10.65.1.2", "fd00:65:1::2"],
            "
ip link delete oci82b3ade9d00
ocicat attach default/web
ip link add oci82b3ade9d00 mtu 1500 type veth peer name eth0 mtu 1500 netns $pod
ip link set oci82b3ade9d00 address ee:ee:ee:ee:ee:ee
sysctl -w net/ipv4/conf/oci82b3ade9d00/forwarding=1
sysctl -w net/ipv4/conf/oci82b3ade9d00/proxy_arp=1
sysctl -w net/ipv4/neigh/oci82b3ade9d00/proxy_delay=0
sysctl -w net/ipv6/conf/oci82b3ade9d00/accept_ra=0
sysctl -w net/ipv6/conf/oci82b3ade9d00/disable_ipv6=0
sysctl -w net/ipv6/conf/oci82b3ade9d00/accept_dad=0
sysctl -w net/ipv6/conf/oci82b3ade9d00/forwarding=1
sysctl -w net/ipv6/conf/oci82b3ade9d00/proxy_ndp=1
ip address add fe80::ecee:eeff:feee:eeee/64 dev oci82b3ade9d00 nodad
ip link set oci82b3ade9d00 up
ip netns exec $pod sysctl -w net/ipv6/conf/all/disable_ipv6=0
ip netns exec $pod sysctl -w net/ipv6/conf/default/disable_ipv6=0
ip netns exec $pod sysctl -w net/ipv6/conf/lo/disable_ipv6=0
ip netns exec $pod sysctl -w net/ipv6/conf/eth0/disable_ipv6=0
ip netns exec $pod sysctl -w net/ipv6/conf/eth0/accept_dad=0
ip -n $pod link set eth0 up
ip -n $pod neighbour replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
ip -n $pod route add 169.254.1.1/32 dev eth0 scope link
ip -n $pod route add 0.0.0.0/0 via 169.254.1.1 dev eth0
ip -n $pod address add 10.65.1.2/32 dev eth0
ip -n $pod neighbour replace fe80::ecee:eeff:feee:eeee lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
ip -n $pod route add ::/0 via fe80::ecee:eeff:feee:eeee dev eth0
ip -n $pod address add fd00:65:1::2/128 dev eth0 nodad
ip route add 10.65.1.2/32 dev oci82b3ade9d00 scope link proto 179
ip route add fd00:65:1::2/128 dev oci82b3ade9d00 proto 179
ocicat wait default/web
ocicat commit 3f2a@eth0",
        );
    }

    #[test]
    fn without_ipv6_only_router_advertisements_are_refused() {
        check(
            &["10.65.1.2"],
            "
ip link delete oci82b3ade9d00
ocicat attach default/web
ip link add oci82b3ade9d00 mtu 1500 type veth peer name eth0 mtu 1500 netns $pod
ip link set oci82b3ade9d00 address ee:ee:ee:ee:ee:ee
sysctl -w net/ipv4/conf/oci82b3ade9d00/forwarding=1
sysctl -w net/ipv4/conf/oci82b3ade9d00/proxy_arp=1
sysctl -w net/ipv4/neigh/oci82b3ade9d00/proxy_delay=0
sysctl -w net/ipv6/conf/oci82b3ade9d00/accept_ra=0
ip link set oci82b3ade9d00 up
ip -n $pod link set eth0 up
ip -n $pod neighbour replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
ip -n $pod route add 169.254.1.1/32 dev eth0 scope link
ip -n $pod route add 0.0.0.0/0 via 169.254.1.1 dev eth0
ip -n $pod address add 10.65.1.2/32 dev eth0
ip route add 10.65.1.2/32 dev oci82b3ade9d00 scope link proto 179
ocicat wait default/web
ocicat commit 3f2a@eth0",
        );
    }

    #[test]
    fn undoing_is_removing_the_interface_and_telling_the_daemon() {
        let undo = |step: Step| step.undo().map(|step| step.to_string());
        let veth = Change::AddVeth { host: "oci0".into(), pod: "eth0".into(), mtu: 1500 };
        assert_eq!(undo(Step::Kernel(veth)).as_deref(), Some("ip link delete oci0"));
        assert_eq!(undo(Step::Announce("a/b".into())).as_deref(), Some("ocicat detach a/b"));
        assert_eq!(undo(Step::AwaitPolicy("a/b".into())), None);
    }

    #[test]
    fn the_ipv6_gateway_is_made_of_the_hardware_address() {
        // RFC 4291 appendix A: ff:fe in the middle, the universal bit inverted.
        let [a, b, c, d, e, f] = HOST_MAC.0;
        let interface = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        assert_eq!(GATEWAY_V6.octets()[8..], interface);
    }
}
