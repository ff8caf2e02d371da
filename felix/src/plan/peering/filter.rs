//! BGPFilter: from Calico's rules to the speaker's.
//!
//! A rule that cannot be read must not let more through: a bad Accept disappears, a bad Reject rejects its whole family,
//! a filter that does not exist rejects everything, and so do export rules whose condition cannot be read.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use ocicat_bgp::rib::filter::{
    Action as FilterAction, AnyCommunity, Condition, Filter, MatchOperator, Operation, Otherwise,
    PrefixMatch, Rule as FilterRule, Source as RouteSource,
};
use ocicat_bgp::wire::{Family, PeerKind, Prefix};

use super::RuleOrigins;
use super::annotations::{self, Unreadable};
use super::settings::Settings;
use crate::datastore::calico::{self, BgpFilterSpec, PrefixLength};
use crate::datastore::{Key, Kind};
use crate::problem::Problem;
use crate::world::{Annotated, World};

/// Both directions of a peer, and where each rule is from.
pub(super) struct Filters {
    pub(super) import: Filter,
    pub(super) export: Filter,
    pub(super) origins: RuleOrigins,
}

/// What a session to another AS without filters lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfiltered {
    /// As in Calico: all that comes, and our own that goes.
    Passes,
    /// Nothing, in a direction and family without a rule (RFC 8212).
    Rejected,
}

/// What filters are made from.
pub(super) struct Source<'a> {
    pub(super) world: &'a World,
    pub(super) settings: &'a Settings,
    /// The object that names the filters.
    pub(super) key: &'a Key,
    pub(super) names: &'a [String],
    /// What happens where there are none.
    pub(super) unfiltered: Unfiltered,
}

impl Source<'_> {
    /// Joins the filters that a peer names, in order.
    pub(super) fn compile(&self, problems: &mut Vec<Problem>) -> Filters {
        let mut import = List::default();
        let mut export = List::default();
        for (number, name) in self.names.iter().enumerate() {
            let Some(Annotated { spec, annotations }) = self.world.bgp_filters.get(name) else {
                let message = format!("there is no BGPFilter {name:?}; nothing passes this peer");
                problems.push(Problem::new(self.key, format!("spec.filters[{number}]"), message));
                for list in [&mut import, &mut export] {
                    let origin = format!("BGPFilter {name}, which does not exist");
                    list.push(FilterRule::any(FilterAction::Reject), origin);
                }
                continue;
            };
            let key = Key::cluster(Kind::BgpFilter, name.as_str());
            let condition = annotations::of_filter(&key, annotations, problems);
            let mut reader = Reader { key, settings: self.settings, problems };
            let BgpFilterSpec { export_v4, import_v4, export_v6, import_v6 } = spec;
            reader.rules(("importV4", Way::Import), import_v4, Family::Ipv4, &mut import);
            reader.rules(("importV6", Way::Import), import_v6, Family::Ipv6, &mut import);
            reader.exports("exportV4", export_v4, (Family::Ipv4, &condition), &mut export);
            reader.exports("exportV6", export_v6, (Family::Ipv6, &condition), &mut export);
        }
        match self.unfiltered {
            Unfiltered::Passes => {}
            Unfiltered::Rejected => [&mut import, &mut export].into_iter().for_each(List::require),
        }
        Filters {
            import: Filter { rules: import.rules, otherwise: Otherwise::Accept },
            export: Filter { rules: export.rules, otherwise: Otherwise::AcceptOwn },
            origins: RuleOrigins { import: import.origins, export: export.origins },
        }
    }
}

/// Rules of one direction, and where each is from.
#[derive(Default)]
struct List {
    rules: Vec<FilterRule>,
    origins: Vec<String>,
}

impl List {
    fn push(&mut self, rule: FilterRule, origin: String) {
        self.rules.push(rule);
        self.origins.push(origin);
    }

    /// RFC 8212 §2.1, §2.2: without a policy nothing passes, also not while a condition suspends the only one.
    fn require(&mut self) {
        for family in Family::ALL {
            let is_policy = |rule: &FilterRule| {
                rule.family.is_none_or(|of| of == family) && rule.condition.is_none()
            };
            if !self.rules.iter().any(is_policy) {
                let reject = FilterRule::any(FilterAction::Reject);
                let origin = "RFC 8212: no rule for this family".to_owned();
                self.push(FilterRule { family: Some(family), ..reject }, origin);
            }
        }
    }
}

/// Which way routes go through a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Import,
    Export,
}

/// What a route reflector tells of others, after the filters of the peer: the pods' networks, as Calico
/// has it. Whom it may tell is the speaker's to know (RFC 4456 §6).
pub(super) fn pod_networks(world: &World) -> Vec<FilterRule> {
    let shown = world.ip_pools.values().filter(|pool| !pool.disable_bgp_export);
    let mut cidrs: Vec<IpNet> = shown.filter_map(|pool| pool.cidr.parse().ok()).collect();
    if world.ip_pools.is_empty() {
        cidrs = world.nodes.values().flat_map(|node| node.pod_cidrs.iter().copied()).collect();
    }
    let rule = |cidr: IpNet| FilterRule {
        family: Some(if cidr.addr().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }),
        prefix: Some(PrefixMatch {
            cidr: Prefix::from(cidr.trunc()),
            operator: MatchOperator::In,
            lengths: None,
        }),
        source: Some(RouteSource::RemotePeers),
        ..FilterRule::any(FilterAction::Accept(Vec::new()))
    };
    cidrs.into_iter().map(rule).collect()
}

struct Reader<'a> {
    key: Key,
    settings: &'a Settings,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// Export rules, which take part under the condition of their filter.
    fn exports(
        &mut self,
        list: &str,
        rules: &[calico::FilterRule],
        (family, condition): (Family, &Result<Option<Arc<Condition>>, Unreadable>),
        out: &mut List,
    ) {
        let mut read = List::default();
        self.rules((list, Way::Export), rules, family, &mut read);
        match condition {
            Ok(condition) => {
                for (rule, origin) in read.rules.into_iter().zip(read.origins) {
                    out.push(FilterRule { condition: condition.clone(), ..rule }, origin);
                }
            }
            Err(Unreadable) if rules.is_empty() => {}
            Err(Unreadable) => {
                let reject = FilterRule::any(FilterAction::Reject);
                let origin = format!("{} {list}", self.key);
                out.push(FilterRule { family: Some(family), ..reject }, origin);
            }
        }
    }

    fn rules(
        &mut self,
        (list, way): (&str, Way),
        rules: &[calico::FilterRule],
        family: Family,
        out: &mut List,
    ) {
        for (number, rule) in rules.iter().enumerate() {
            let origin = format!("{} {list}[{number}]", self.key);
            match read_rule(rule, family) {
                Ok(rule) => self.add(rule, (way, family), origin, out),
                Err((field, message)) => {
                    let consequence = match rule.action {
                        calico::FilterAction::Accept => "the rule accepts nothing",
                        calico::FilterAction::Reject => {
                            let reject = FilterRule::any(FilterAction::Reject);
                            out.push(FilterRule { family: Some(family), ..reject }, origin);
                            "the rule rejects everything"
                        }
                    };
                    let field = format!("spec.{list}[{number}].{field}");
                    let message = format!("{message}; {consequence}");
                    self.problems.push(Problem::new(&self.key, field, message));
                }
            }
        }
    }

    /// Our own routes have the normal priority, and do not carry it.
    fn add(&mut self, rule: FilterRule, of: (Way, Family), origin: String, out: &mut List) {
        let (way, family) = of;
        let normal = rule.priority == Some(self.settings.normal_priority(family));
        if way == Way::Export && normal && rule.source.is_none() {
            let own =
                FilterRule { source: Some(RouteSource::Local), priority: None, ..rule.clone() };
            out.push(own, origin.clone());
        }
        out.push(rule, origin);
    }
}

type Wrong = (&'static str, String);

fn read_rule(rule: &calico::FilterRule, family: Family) -> Result<FilterRule, Wrong> {
    let action = match rule.action {
        calico::FilterAction::Reject if !rule.operations.is_empty() => {
            return Err(("operations", "a rule that rejects has none".to_owned()));
        }
        calico::FilterAction::Reject => FilterAction::Reject,
        calico::FilterAction::Accept => FilterAction::Accept(operations(&rule.operations)?),
    };
    let source = match rule.source.as_deref() {
        None | Some("") => None,
        Some("RemotePeers") => Some(RouteSource::RemotePeers),
        Some(other) => return Err(("source", format!("{other:?} is not RemotePeers"))),
    };
    Ok(FilterRule {
        family: Some(family),
        prefix: prefix(rule, family)?,
        source,
        interface: rule.interface.as_deref().filter(|name| !name.is_empty()).map(Into::into),
        community: communities(rule.communities.as_ref())?,
        as_path_prefix: rule.as_path_prefix.clone(),
        priority: rule.priority,
        peer_kind: rule.peer_type.map(|kind| match kind {
            calico::PeerType::Ebgp => PeerKind::External,
            calico::PeerType::Ibgp => PeerKind::Internal,
        }),
        condition: None,
        action,
    })
}

fn prefix(rule: &calico::FilterRule, family: Family) -> Result<Option<PrefixMatch>, Wrong> {
    let Some(text) = rule.cidr.as_deref().filter(|text| !text.is_empty()) else {
        return match (rule.match_operator, rule.prefix_length) {
            (Some(_), _) => Err(("matchOperator", "set without cidr".to_owned())),
            (None, Some(_)) => Err(("prefixLength", "set without cidr".to_owned())),
            (None, None) => Ok(None),
        };
    };
    let cidr: IpNet = text.parse().map_err(|_| ("cidr", format!("{text:?} is not a CIDR")))?;
    let is_ipv4 = matches!(cidr, IpNet::V4(_));
    if is_ipv4 != (family == Family::Ipv4) {
        return Err(("cidr", format!("{text:?} is of the other address family")));
    }
    let operator = match rule.match_operator {
        Some(calico::MatchOperator::Equal) => MatchOperator::Equal,
        Some(calico::MatchOperator::NotEqual) => MatchOperator::NotEqual,
        Some(calico::MatchOperator::In) => MatchOperator::In,
        Some(calico::MatchOperator::NotIn) => MatchOperator::NotIn,
        None => return Err(("matchOperator", "missing beside cidr".to_owned())),
    };
    let lengths = rule.prefix_length.map(|range| lengths(range, cidr)).transpose()?;
    Ok(Some(PrefixMatch { cidr: Prefix::from(cidr.trunc()), operator, lengths }))
}

fn lengths(range: PrefixLength, cidr: IpNet) -> Result<RangeInclusive<u8>, Wrong> {
    let first = range.min.unwrap_or(cidr.prefix_len());
    let last = range.max.unwrap_or(cidr.max_prefix_len());
    if first > last || last > cidr.max_prefix_len() {
        return Err(("prefixLength", format!("{first} to {last} is not a range of lengths")));
    }
    Ok(first..=last)
}

fn communities(of: Option<&calico::CommunityMatch>) -> Result<Option<AnyCommunity>, Wrong> {
    let Some(of) = of else { return Ok(None) };
    match of.values.as_slice() {
        [value] => community(value).map(Some).map_err(|message| ("communities", message)),
        other => Err(("communities", format!("{} values, and exactly one is wanted", other.len()))),
    }
}

fn operations(operations: &[calico::Operation]) -> Result<Vec<Operation>, Wrong> {
    let read = |operation: &calico::Operation| {
        let calico::Operation { add_community, prepend_as_path, set_priority } = operation;
        match (add_community, prepend_as_path, set_priority) {
            (Some(add), None, None) => community(&add.value).map(Operation::AddCommunity),
            (None, Some(path), None) => Ok(Operation::PrependAsPath(path.prefix.clone())),
            (None, None, Some(priority)) => Ok(Operation::SetPriority(priority.value)),
            _ => Err("an operation sets exactly one of addCommunity, prependASPath, setPriority"
                .to_owned()),
        }
    };
    operations.iter().map(read).collect::<Result<_, _>>().map_err(|message| ("operations", message))
}

/// `aa:nn` (RFC 1997) or `aa:nn:mm` (RFC 8092).
pub(super) fn community(text: &str) -> Result<AnyCommunity, String> {
    // By the number of parts, for Calico knows no names of communities and the speaker does.
    let community = match text.matches(':').count() {
        1 => text.parse().ok().map(AnyCommunity::Standard),
        2 => text.parse().ok().map(AnyCommunity::Large),
        _ => None,
    };
    community.ok_or_else(|| format!("{text:?} is not a community (aa:nn or aa:nn:mm)"))
}
