//! Answers for the command line and for Prometheus. What the speaker's thread must be asked is awaited aside.

use std::collections::BTreeSet;
use std::time::Duration;

use ocicat_bgp::net::{Handle, Stopped};
use ocicat_bgp::speaker::PeerName;
use ocicat_cni::daemon::{RefusalCode, Response};
use ocicat_policy::{Direction, GroupId, PodKey, Table, Transport, Verdict};
use tokio::sync::oneshot;

use super::endpoints::{answer, refuse};
use super::{Daemon, Request, Wanted};
use super::{bfd, bmp, dump, rpki};
use crate::api::{Answer, CheckView, PlanView, PolicyView, Query, RuleRow};
use crate::dataplane::{Change, State};
use crate::explain::{Question, explain};
use crate::inventory::Inventory;
use crate::metrics::Detail;
use crate::nft::SetKind;
use crate::plan::peering::PeerGroup;
use crate::tables;
use crate::world::pod_key;

type Reply = oneshot::Sender<serde_json::Value>;

/// Why the speaker's thread gives no answer.
pub(super) enum Unanswered {
    /// There is none any more.
    Stopped(Stopped),
    /// It cannot do what was asked.
    Refused(String),
}

impl From<Stopped> for Unanswered {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

/// What is said of a name that no peer has.
pub(super) fn no_peer(name: &PeerName) -> String {
    format!("there is no peer {name}; `ocicat bgp peers` lists them")
}

impl Daemon {
    pub(super) fn serve(&mut self, request: Request) {
        match request.what {
            Wanted::Cni(asked) => self.serve_plugin(asked, request.reply),
            Wanted::Query(query) => self.serve_query(query, request.reply),
            Wanted::Count => self.count(request.reply),
        }
    }

    fn serve_query(&mut self, query: Query, reply: Reply) {
        match query {
            Query::BgpPeers => self.show_peers(reply),
            Query::BgpPeer { name } => self.show_peer(&name, reply),
            Query::BgpBfd => self.ask_speaker(reply, async |speaker| {
                let sessions = speaker.bfd().await?;
                Ok(Answer::Bfd(sessions.iter().map(bfd::row).collect()))
            }),
            Query::BgpBmp => self.ask_speaker(reply, async |speaker| {
                let stations = speaker.stations().await?;
                Ok(Answer::Bmp(stations.iter().map(bmp::row).collect()))
            }),
            Query::BgpRpki => self.ask_speaker(reply, async |speaker| {
                let caches = speaker.caches().await?;
                Ok(Answer::Rpki(caches.iter().map(rpki::row).collect()))
            }),
            Query::BgpDump(query) => self.ask_speaker(reply, async move |speaker| {
                Ok(Answer::Dump(dump::page(speaker, query).await?))
            }),
            Query::BgpRoutes(query) => self.show_routes(query, reply),
            Query::BgpRoute { prefix } => self.show_route(&prefix, reply),
            Query::BgpRefresh(query) => self.refresh(query, reply),
            Query::BgpDrain { wait_seconds } => {
                self.command_drain(Duration::from_secs(wait_seconds), reply);
            }
            Query::BgpUndrain => self.command_undrain(reply),
            Query::PolicyShow { pod } => match self.policy_view(&pod) {
                Some(view) => answer(reply, &Response::Result(Answer::Policy(view))),
                None => refuse(reply, RefusalCode::Invalid, format!("there is no pod {pod}")),
            },
            Query::Explain { flow } => {
                let explained = flow
                    .parse::<Question>()
                    .and_then(|question| explain(self.world.index.world(), &question));
                match explained {
                    Ok(answers) => answer(reply, &Response::Result(Answer::Explanations(answers))),
                    Err(error) => refuse(reply, RefusalCode::Invalid, error.to_string()),
                }
            }
            Query::Plan => {
                let change =
                    self.difference().map_or_else(String::new, |change| change.to_string());
                answer(reply, &Response::Result(Answer::Plan(PlanView { change })));
            }
            Query::Check => self.check(reply),
        }
    }

    /// Has the speaker's own thread answer, aside.
    pub(super) fn ask_speaker<F>(&self, reply: Reply, ask: impl FnOnce(Handle) -> F)
    where
        F: Future<Output = Result<Answer, Unanswered>> + Send + 'static,
    {
        let Some(handle) = self.speaker.handle() else {
            let message =
                "the speaker is not running: there is no Node object of this node's name yet";
            refuse(reply, RefusalCode::NotReady, message.to_owned());
            return;
        };
        let asked = ask(handle);
        tokio::spawn(async move {
            match asked.await {
                Ok(view) => answer(reply, &Response::Result(view)),
                Err(Unanswered::Stopped(stopped)) => {
                    refuse(reply, RefusalCode::NotReady, stopped.to_string());
                }
                Err(Unanswered::Refused(why)) => refuse(reply, RefusalCode::Invalid, why),
            }
        });
    }

    /// What separates the kernel, as we believe it is, from what should be.
    fn difference(&self) -> Option<Change> {
        let mirror = self.mirror.as_ref()?;
        let desired = State { table: self.ruleset.table().clone(), routes: self.routes.all() };
        Some(Change::between(&desired, mirror))
    }

    /// Has the kernel read anew, and answers when that is done.
    fn check(&mut self, reply: Reply) {
        if self.writer.is_none() {
            answer(reply, &Response::Result(Answer::Check(self.check_view(String::new()))));
            return;
        }
        self.checks.push(reply);
        self.read_kernel();
    }

    /// The kernel was read.
    pub(super) fn answer_checks(&mut self, difference: &str) {
        for reply in std::mem::take(&mut self.checks) {
            let view = self.check_view(difference.to_owned());
            answer(reply, &Response::Result(Answer::Check(view)));
        }
    }

    /// The kernel could not be read.
    pub(super) fn refuse_checks(&mut self, problem: &std::io::Error) {
        for reply in std::mem::take(&mut self.checks) {
            let message = format!("the kernel cannot be read: {problem}");
            refuse(reply, RefusalCode::Failed, message);
        }
    }

    fn check_view(&self, difference: String) -> CheckView {
        let interfaces = self.world.interfaces();
        let closed = interfaces.values().filter(|endpoint| !self.ruleset.has_endpoint(endpoint));
        CheckView {
            in_sync: difference.is_empty(),
            difference,
            problems: self.problems(),
            failures: self.failures.values().flatten().cloned().collect(),
            waiting: closed.map(|endpoint| pod_key(endpoint).to_string()).collect(),
            inventory: self.mirror.as_ref().map(|mirror| Inventory::of(&mirror.table)),
        }
    }

    fn policy_view(&self, text: &str) -> Option<PolicyView> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        let key = PodKey::new(namespace, name);
        let index = &self.world.index;
        let pod = index.world().pods.get(&key)?;
        let interfaces = self.world.interfaces();
        let here = interfaces.values().find(|endpoint| pod_key(endpoint) == key);
        let endpoint = index.program().endpoints.get(&key).copied();
        let policies = |direction: Direction| {
            let policies = self.world.policies_of(&key, direction);
            let names: Vec<String> = policies.iter().map(ToString::to_string).collect();
            (!names.is_empty()).then_some(names)
        };
        let rules = Direction::BOTH
            .into_iter()
            .filter_map(|direction| Some((direction, endpoint?.group(direction)?)))
            .flat_map(|(direction, group)| self.rule_rows(direction, group))
            .collect();
        Some(PolicyView {
            pod: key.to_string(),
            addresses: pod.addresses.iter().map(ToString::to_string).collect(),
            interface: here.map(|endpoint| endpoint.host_interface.clone()),
            enforced: here.map(|endpoint| self.is_enforced(endpoint)),
            ingress: policies(Direction::Ingress),
            egress: policies(Direction::Egress),
            rules,
        })
    }

    /// Whether the kernel, as we believe it is, has the interface.
    fn is_enforced(&self, endpoint: &ocicat_cni::endpoint::Endpoint) -> bool {
        self.ruleset.has_endpoint(endpoint) && self.pending.is_quiet() && !self.busy
    }

    fn rule_rows(&self, direction: Direction, id: GroupId) -> Vec<RuleRow> {
        let program = self.world.index.program();
        let group = &program.groups[&id];
        let mut rows = Vec::new();
        let mut row = |ports: String, peers: &Table| {
            rows.push(RuleRow { direction: direction.to_string(), ports, peers: peer_list(peers) });
        };
        for transport in Transport::ALL {
            for class in group.classes(transport) {
                let ports = match (class.first, class.last) {
                    (0, u16::MAX) => format!("{transport} any port"),
                    (first, last) if first == last => format!("{transport} {first}"),
                    (first, last) => format!("{transport} {first}-{last}"),
                };
                row(ports, &program.tables[&class.table]);
            }
        }
        if let Some(other) = group.other {
            row("every other protocol".to_owned(), &program.tables[&other]);
        }
        rows
    }

    /// Brings every gauge up to date.
    fn count(&mut self, reply: Reply) {
        self.count_kernel();
        self.metrics.problems.set(count(self.problems().len()));
        let local = &self.world.index.world().local;
        let active: BTreeSet<_> = local
            .iter()
            .flat_map(|pod| Direction::BOTH.map(|direction| self.world.policies_of(pod, direction)))
            .flatten()
            .collect();
        self.metrics.active_policies.set(count(active.len()));
        let metrics = self.metrics.clone();
        match self.speaker.handle() {
            None => answer(reply, &Response::Result(())),
            Some(speaker) => {
                let about = self.about.clone();
                let kind = self.config.peer_metrics;
                let group_of = move |name: &PeerName| {
                    let group = about.get(name).map_or(PeerGroup::Configured, |about| about.group);
                    (group, Detail::of(kind, group))
                };
                tokio::spawn(async move {
                    if let Ok(peers) = speaker.peers().await {
                        metrics.set_peers(&peers, group_of);
                    }
                    if let Ok(refused) = speaker.refused().await {
                        metrics.set_refused(refused);
                    }
                    if let Ok(sessions) = speaker.bfd().await {
                        metrics.set_bfd(&sessions);
                    }
                    if let Ok(stations) = speaker.stations().await {
                        metrics.set_stations(&stations);
                    }
                    if let Ok(caches) = speaker.caches().await {
                        metrics.set_caches(&caches);
                    }
                    answer(reply, &Response::Result(()));
                });
            }
        }
    }

    fn count_kernel(&self) {
        let Some(mirror) = &self.mirror else { return };
        let table = &mirror.table;
        let maps = table.sets.values().filter(|set| set.of.kind == SetKind::Verdicts).count();
        let elements: usize = table.sets.values().map(|set| set.elements.len()).sum();
        self.metrics.chains.set(count(table.chains.len()));
        self.metrics.rules.set(count(table.chains.values().map(|chain| chain.rules.len()).sum()));
        self.metrics.maps.set(count(maps));
        self.metrics.sets.set(count(table.sets.len() - maps));
        self.metrics.elements.set(count(elements));
        for (kind, routes) in tables::routes_by_kind(&mirror.routes) {
            self.metrics.routes.with_label_values(&[kind]).set(count(routes));
        }
    }

    pub(super) fn count_world(&self) {
        let index = &self.world.index;
        self.metrics.endpoints.set(count(self.world.interfaces().len()));
        self.metrics.policies.set(count(index.world().policies.len()));
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn peer_list(table: &Table) -> Vec<String> {
    let pods = table.addresses.iter().filter(|(_, verdict)| **verdict == Verdict::Accept);
    let blocks = table.blocks.iter().map(ToString::to_string);
    let denied = table.addresses.iter().filter(|(_, verdict)| **verdict == Verdict::Drop);
    pods.map(|(address, _)| address.to_string())
        .chain(blocks)
        .chain(denied.map(|(address, _)| format!("not {address}")))
        .collect()
}
