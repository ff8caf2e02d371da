//! The wires of a lab: each node and the client hang on the router by their own link.

use anyhow::Result;

use crate::netns::Netns;
use crate::run::Run;
use crate::spec::{NodeSpec, Spec};

/// The machines of a lab, connected and addressed.
#[derive(Debug)]
pub(crate) struct Underlay {
    pub(crate) router: Netns,
    pub(crate) client: Netns,
    /// In the order of the description.
    pub(crate) nodes: Vec<Netns>,
}

impl Underlay {
    /// Makes the namespaces and links. Nodes know the router and nothing beyond it; what lies there
    /// they have to learn.
    pub(crate) fn create(run: &Run, spec: &Spec) -> Result<Self> {
        let router = Netns::create(&run.netns("tor"))?;
        let client = Netns::create(&run.netns("client"))?;
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            router.sysctl(key, "1")?;
        }
        let mut nodes = Vec::new();
        for node in &spec.nodes {
            let netns = Netns::create(&run.netns(&node.name))?;
            connect(&router, &node.name, &netns)?;
            netns.ip(&format!(
                "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n",
                node.ipv4, node.ipv6
            ))?;
            router.ip(&format!(
                "addr add {}/24 dev {name}\naddr add {}/64 dev {name} nodad\n",
                node.gateway_ipv4(),
                node.gateway_ipv6(),
                name = node.name
            ))?;
            nodes.push(netns);
        }
        connect(&router, "client", &client)?;
        let [gateway_ipv4, gateway_ipv6] = client_gateways(spec);
        router.ip(&format!(
            "addr add {gateway_ipv4}/{} dev client\naddr add {gateway_ipv6}/{} dev client nodad\n",
            spec.client.ipv4.prefix_len(),
            spec.client.ipv6.prefix_len()
        ))?;
        client.ip(&format!(
            "addr add {} dev eth0\naddr add {} dev eth0 nodad\nroute add default via {gateway_ipv4}\n\
             route add default via {gateway_ipv6}\n",
            spec.client.ipv4, spec.client.ipv6
        ))?;
        Ok(Self { router, client, nodes })
    }
}

/// The networks that the router itself has, and has to announce.
pub(crate) fn connected_networks(spec: &Spec) -> Vec<String> {
    let mut networks: Vec<String> = spec.nodes.iter().flat_map(NodeSpec::networks).collect();
    networks.push(spec.client.ipv4.trunc().to_string());
    networks.push(spec.client.ipv6.trunc().to_string());
    networks
}

fn client_gateways(spec: &Spec) -> [std::net::IpAddr; 2] {
    let ipv4 = spec.client.ipv4.hosts().next().expect("a client's network has hosts");
    let network = spec.client.ipv6.network();
    let ipv6 = std::net::Ipv6Addr::from_bits(network.to_bits() + 1);
    [ipv4.into(), ipv6.into()]
}

/// A link between a port of the router and the interface `eth0` of a machine.
pub(crate) fn connect(router: &Netns, port: &str, machine: &Netns) -> Result<()> {
    connect_port(router, port, machine, "eth0")
}

/// A link between a port of the router and an interface of a machine.
pub(crate) fn connect_port(
    router: &Netns,
    port: &str,
    machine: &Netns,
    interface: &str,
) -> Result<()> {
    // Without duplicate address detection an address works at once; a lab has no duplicates.
    machine.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
    router.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
    router.ip(&format!(
        "link add {port} type veth peer name {interface} netns {}\nlink set {port} up\n",
        machine.name()
    ))?;
    machine.ip(&format!("link set {interface} up\n"))
}
