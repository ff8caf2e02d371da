//! Address translation for what leaves the cluster: off unless an IPPool with `natOutgoing` asks for it.
//!
//! As in Calico: a packet from a pool with `natOutgoing` to an address in no pool gets the node's address. Pools that are
//! disabled count as destinations still; pools for load balancers alone do not.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ranges;
use super::ruleset::TABLE;
use crate::datastore::calico::IpPoolSpec;
use crate::datastore::{Key as ObjectKey, Kind};
use crate::nft::statement::{in_set, masquerade, not_in};
use crate::nft::{
    Base, Chain, ChainType, Element, Family, Field, FieldType, Hook, Key, KeyType, Matching, Name,
    Part, Policy, Rule, Set, SetKind, SetType, Table,
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
    let families = [Family::Ipv4, Family::Ipv6];
    let rules: Vec<Rule> = families
        .into_iter()
        .filter_map(|family| {
            translate(&mut table, family, &ranges(&from, family), &ranges(&inside, family))
        })
        .collect();
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
    family: Family,
    from: &[(IpAddr, IpAddr)],
    inside: &[(IpAddr, IpAddr)],
) -> Option<Rule> {
    if from.is_empty() {
        return None;
    }
    let (version, field, source, destination) = match family {
        Family::Ipv4 => (4, FieldType::Ipv4Addr, Field::IpSaddr, Field::IpDaddr),
        Family::Ipv6 => (6, FieldType::Ipv6Addr, Field::Ip6Saddr, Field::Ip6Daddr),
    };
    let of =
        SetType { key: KeyType::new(&[field]), kind: SetKind::Members, matching: Matching::Ranges };
    let mut set = |name: &str, ranges: &[(IpAddr, IpAddr)]| -> Name {
        let name: Name = format!("{PREFIX}{name}{version}").into();
        let elements = ranges
            .iter()
            .map(|(first, last)| Element::member(Key::range(&[Part::IpRange(*first, *last)])));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::{Event, Object};
    use serde_json::json;

    fn check(pools: &[serde_json::Value], expected: &[&str]) {
        let mut world = World::new("n1");
        for (number, spec) in pools.iter().enumerate() {
            let object = json!({
                "apiVersion": "projectcalico.org/v3", "kind": "IPPool",
                "metadata": {"name": format!("p{number}")}, "spec": spec,
            });
            world.apply(Event::Put(Box::new(Object::parse(object).unwrap().object)));
        }
        let (table, problems) = plan(&world);
        let change = crate::nft::diff(&table, &Table::new(TABLE)).to_string();
        let rules = change.lines().filter(|line| line.contains("rule") || line.contains("element"));
        let mut lines: Vec<String> =
            rules.map(|line| line.replace("inet ocicat nat-", "")).collect();
        lines.extend(problems.iter().map(|problem| format!("! {problem}")));
        assert_eq!(lines, expected);
    }

    #[test]
    fn nothing_is_translated_unless_a_pool_asks() {
        check(&[], &[]);
        check(&[json!({"cidr": "10.65.0.0/16"})], &[]);
    }

    #[test]
    fn what_leaves_every_pool_is_translated_where_its_pool_asks() {
        check(
            &[
                json!({"cidr": "10.65.0.0/16", "natOutgoing": true}),
                json!({"cidr": "10.66.0.0/16", "disabled": true}),
                json!({"cidr": "192.0.2.0/24", "allowedUses": ["LoadBalancer"]}),
            ],
            &[
                "add rule postrouting ip saddr @nat-from4 ip daddr != @nat-pools4 masquerade fully-random",
                "add element from4 { 10.65.0.0/16 }",
                "add element pools4 { 10.65.0.0-10.66.255.255 }",
            ],
        );
    }

    #[test]
    fn what_cannot_be_used_or_honoured_is_named() {
        check(
            &[
                json!({"cidr": "10.65.0.0/99", "natOutgoing": true}),
                json!({"cidr": "10.66.0.0/16", "vxlanMode": "Always"}),
            ],
            &[
                "! IPPool p0: spec.cidr: \"10.65.0.0/99\" is not a CIDR; the pool is ignored",
                "! IPPool p1: spec.vxlanMode: no tunnels in this version; packets are routed",
            ],
        );
    }
}
