//! Address translation for what leaves the cluster: off unless an IPPool with `natOutgoing` asks for it.
//!
//! As in Calico: a packet from a pool with `natOutgoing` to an address in no pool gets the node's address. Pools that are
//! disabled count as destinations still; pools for load balancers alone do not.

use ipnet::IpNet;

use super::ruleset::TABLE;
use super::{disjoint_ipv4, disjoint_ipv6};
use crate::datastore::calico::IpPoolSpec;
use crate::datastore::{Key as ObjectKey, Kind};
use crate::nft::statement::{in_set, masquerade, not_in};
use crate::nft::{
    Base, Chain, ChainType, Element, Field, FieldType, Hook, Key, KeyType, Matching, Name, Part,
    Policy, Rule, Set, SetKind, SetType, Table,
};
use crate::problem::Problem;
use crate::world::World;

/// What every chain and set of address translation begins with.
pub const PREFIX: &str = "nat-";

/// After everybody else's source translation (100), so that a service proxy's own goes first.
const PRIORITY: i32 = 110;

/// Chains and sets of address translation; none when no pool asks for it.
pub fn plan(world: &World) -> (Table, Vec<Problem>) {
    let mut table = Table::new(TABLE);
    let mut problems = Vec::new();
    let (mut from, mut inside) = (Vec::new(), Vec::new());
    for (name, pool) in &world.ip_pools {
        report_unhonoured(name, pool, &mut problems);
        match pool.cidr.parse::<IpNet>() {
            Ok(cidr) => {
                if is_for_pods(pool) {
                    inside.push(cidr);
                    if pool.nat_outgoing {
                        from.push(cidr);
                    }
                }
            }
            Err(_) => {
                let key = ObjectKey::cluster(Kind::IpPool, name.as_str());
                let message = format!("{:?} is not a CIDR; the pool is ignored", pool.cidr);
                problems.push(Problem::new(key, "spec.cidr", message));
            }
        }
    }
    let mut rules = Vec::new();
    rules.extend(translate(
        &mut table,
        "4",
        Field::IpSaddr,
        Field::IpDaddr,
        disjoint_ipv4(&from),
        disjoint_ipv4(&inside),
    ));
    rules.extend(translate(
        &mut table,
        "6",
        Field::Ip6Saddr,
        Field::Ip6Daddr,
        disjoint_ipv6(&from),
        disjoint_ipv6(&inside),
    ));
    if !rules.is_empty() {
        let base = Base {
            kind: ChainType::Nat,
            hook: Hook::Postrouting,
            priority: PRIORITY,
            policy: Policy::Accept,
        };
        table.chains.insert(format!("{PREFIX}postrouting").into(), Chain::base(base, rules));
    }
    (table, problems)
}

fn is_for_pods(pool: &IpPoolSpec) -> bool {
    pool.allowed_uses.is_empty() || pool.allowed_uses.iter().any(|used| used != "LoadBalancer")
}

fn translate(
    table: &mut Table,
    version: &str,
    source: Field,
    destination: Field,
    from: Vec<IpNet>,
    inside: Vec<IpNet>,
) -> Option<Rule> {
    if from.is_empty() {
        return None;
    }
    let field = if version == "4" { FieldType::Ipv4Addr } else { FieldType::Ipv6Addr };
    let of =
        SetType { key: KeyType::new(&[field]), kind: SetKind::Members, matching: Matching::Ranges };
    let mut set = |name: &str, nets: Vec<IpNet>| -> Name {
        let name: Name = format!("{PREFIX}{name}{version}").into();
        let elements = nets.into_iter().map(|net| Element::member(Key::range(&[Part::Net(net)])));
        table.sets.insert(name.clone(), Set::new(of).with(elements));
        name
    };
    let from = set("from", from);
    let inside = set("pools", inside);
    Some(Rule::new([in_set([source], from), not_in([destination], inside), masquerade()]))
}

/// Fields that we accept and do not honour. Addresses come from the nodes' own ranges, whatever a pool says.
fn report_unhonoured(name: &str, pool: &IpPoolSpec, problems: &mut Vec<Problem>) {
    let asks = |mode: &Option<String>| mode.as_deref().is_some_and(|mode| mode != "Never");
    let set = [
        ("spec.ipipMode", asks(&pool.ipip_mode), "no tunnels in this version; packets are routed"),
        (
            "spec.vxlanMode",
            asks(&pool.vxlan_mode),
            "no tunnels in this version; packets are routed",
        ),
        (
            "spec.nodeSelector",
            pool.node_selector.as_deref().is_some_and(|s| s != "all()"),
            "addresses come from the nodes' podCIDRs; not honoured",
        ),
        (
            "spec.namespaceSelector",
            pool.namespace_selector.is_some(),
            "addresses come from the nodes' podCIDRs; not honoured",
        ),
    ];
    for (field, _, message) in set.into_iter().filter(|(_, is_set, _)| *is_set) {
        problems.push(Problem::new(ObjectKey::cluster(Kind::IpPool, name), field, message));
    }
}
