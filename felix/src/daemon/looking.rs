//! What the speaker knows, for the command line; and what it is to ask its peers again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use ocicat_bgp::net::{Handle, Stopped};
use ocicat_bgp::speaker::{
    Dial, NotAsked, PathSnapshot, PeerName, PeerSnapshot, RouteSnapshot, Verdict,
};
use ocicat_bgp::wire::{Family, FamilySet, Prefix};
use ocicat_cni::daemon::RefusalCode;
use tokio::sync::oneshot;

use super::Daemon;
use super::answers::{Unanswered, no_peer};
use super::endpoints::refuse;
use crate::api::bgp::{PathView, RefreshQuery, RouteQuery, RouteView, Which};
use crate::api::{Answer, RouteRow};
use crate::plan::peering::{Abouts, range_of};
use crate::tables::bgp::{self as words, PeerBeside};

type Reply = oneshot::Sender<serde_json::Value>;

impl Daemon {
    pub(super) fn show_peers(&self, reply: Reply) {
        let beside = self.beside();
        self.ask_speaker(reply, async move |speaker| {
            let peers = speaker.peers().await?;
            let row = |peer: &PeerSnapshot| words::peer_row(peer, beside.get(&peer.name));
            let mut rows: Vec<_> = peers.iter().map(row).collect();
            rows.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(Answer::Peers(rows))
        });
    }

    /// What the daemon knows of each peer, and the speaker does not.
    fn beside(&self) -> BTreeMap<PeerName, PeerBeside> {
        let of = |name: &PeerName| {
            let history = self.news.history(name);
            let last_error_seconds = history.and_then(super::news::History::last_error_seconds);
            let peer = self.speaker.config().and_then(|config| config.peers.get(name));
            // Whom we dial, the dial has a reason of its own for.
            let passive = peer.filter(|peer| peer.dial == Dial::Passive);
            let about = self.about.get(name).and_then(|about| about.held.clone());
            let held = about.or_else(|| self.refused_key(passive?.address));
            (name.clone(), PeerBeside { held, last_error_seconds })
        };
        self.about.names().chain(self.news.names()).map(of).collect()
    }

    pub(super) fn show_peer(&self, name: &str, reply: Reply) {
        let name = PeerName::from(name);
        let configured = self.speaker.config().and_then(|config| {
            let template = || Some(&config.ranges.get(&range_of(&name)?)?.template);
            config.peers.get(&name).or_else(template)
        });
        let (Some(config), Some(about)) = (configured, self.about.get(&name)) else {
            return refuse(reply, RefusalCode::Invalid, no_peer(&name));
        };
        let settings = words::settings(config, about);
        let conditionals = words::conditionals(config, about);
        let origin = about.origin.clone();
        let history =
            self.news.history(&name).map(super::news::History::events).unwrap_or_default();
        let beside = self.beside();
        self.ask_speaker(reply, async move |speaker| {
            let peers = speaker.peers().await?;
            let Some(peer) = peers.iter().find(|peer| peer.name == name) else {
                return Err(Unanswered::Refused(no_peer(&name)));
            };
            let mut view = words::peer_view(peer, beside.get(&name));
            view.origin = origin;
            view.settings = settings;
            view.settings.extend(words::condition_rows(&conditionals, peer));
            view.history = history;
            Ok(Answer::Peer(Box::new(view)))
        });
    }

    pub(super) fn show_routes(&self, query: RouteQuery, reply: Reply) {
        let selection = match Selection::read(query) {
            Ok(selection) => selection,
            Err(message) => return refuse(reply, RefusalCode::Invalid, message),
        };
        let known = |name: &PeerName| self.about.get(name).is_some();
        if let Some(stranger) = selection.peer.as_ref().filter(|name| !known(name)) {
            return refuse(reply, RefusalCode::Invalid, no_peer(stranger));
        }
        let about = self.about.clone();
        self.ask_speaker(reply, async move |speaker| {
            let mut rows = Vec::new();
            for family in Family::ALL {
                rows.extend(selection.rows(&speaker, family, &about).await?);
            }
            Ok(Answer::Routes(rows))
        });
    }

    pub(super) fn show_route(&self, text: &str, reply: Reply) {
        let Ok(prefix) = text.parse::<IpNet>() else {
            let message = format!("{text:?} is not a prefix like 10.65.2.0/24");
            return refuse(reply, RefusalCode::Invalid, message);
        };
        let prefix = prefix.trunc();
        let kernel: Vec<String> =
            self.routes.at(prefix).into_iter().map(ToString::to_string).collect();
        let kernel = (!kernel.is_empty()).then(|| kernel.join("; "));
        let about = self.about.clone();
        self.ask_speaker(reply, async move |speaker| {
            let route = speaker.route(prefix.into()).await?;
            let paths = route.as_ref().map(|route| path_views(route, &about)).unwrap_or_default();
            Ok(Answer::Route(RouteView { prefix: prefix.to_string(), kernel, paths }))
        });
    }

    pub(super) fn refresh(&self, query: RefreshQuery, reply: Reply) {
        let families = match query.family {
            None => FamilySet::ALL,
            Some(family) => [family.into()].into_iter().collect(),
        };
        let peer = PeerName::from(query.peer);
        self.ask_speaker(reply, async move |speaker| {
            match speaker.ask_again(peer.clone(), families).await? {
                Ok(asked) => Ok(Answer::Refresh(words::refresh_view(&peer, asked))),
                Err(why @ NotAsked::Unknown(_)) => {
                    Err(Unanswered::Refused(format!("{why}; `ocicat bgp peers` lists them")))
                }
                Err(why) => Err(Unanswered::Refused(why.to_string())),
            }
        });
    }
}

/// A [`RouteQuery`] that makes sense.
struct Selection {
    within: Within,
    peer: Option<PeerName>,
    which: Which,
}

/// Which prefixes.
enum Within {
    All,
    Exactly(Prefix),
    Holding(IpAddr),
}

impl Selection {
    fn read(query: RouteQuery) -> Result<Self, String> {
        let within = match query.prefix.as_deref() {
            None => Within::All,
            Some(text) => match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
                (Ok(net), _) => Within::Exactly(net.trunc().into()),
                (_, Ok(address)) => Within::Holding(address),
                (Err(_), Err(_)) => {
                    return Err(format!("{text:?} is neither a prefix nor an address"));
                }
            },
        };
        let peer = query.peer.map(PeerName::from);
        if query.which == Which::Advertised && peer.is_none() {
            return Err("what is advertised is a matter of one peer: add --peer NAME".to_owned());
        }
        Ok(Self { within, peer, which: query.which })
    }

    async fn rows(
        &self,
        speaker: &Handle,
        family: Family,
        about: &Abouts,
    ) -> Result<Vec<RouteRow>, Stopped> {
        if let (Which::Advertised, Some(peer)) = (self.which, &self.peer) {
            let mut told = speaker.advertised(peer.clone(), family).await?;
            told.retain(|(prefix, _)| self.holds(*prefix));
            told.sort_by_key(|(prefix, _)| *prefix);
            let row =
                |(prefix, attributes): &(Prefix, _)| words::told_row(*prefix, peer, attributes);
            return Ok(told.iter().map(row).collect());
        }
        let mut routes = match self.within {
            Within::Exactly(prefix) if prefix.family() != family => Vec::new(),
            Within::Exactly(prefix) => speaker.route(prefix).await?.into_iter().collect(),
            Within::All | Within::Holding(_) => speaker.routes(family).await?,
        };
        routes.retain(|route| self.holds(route.prefix));
        routes.sort_by_key(|route| route.prefix);
        let rows = routes.iter().flat_map(|route| {
            let wanted = route.paths.iter().filter(|path| self.wants(path));
            wanted
                .map(|path| words::route_row(route.prefix, path, rule_name(path, about).as_deref()))
        });
        Ok(rows.collect())
    }

    fn holds(&self, prefix: Prefix) -> bool {
        match self.within {
            Within::All => true,
            Within::Exactly(wanted) => prefix == wanted,
            Within::Holding(address) => IpNet::from(prefix).contains(&address),
        }
    }

    fn wants(&self, path: &PathSnapshot) -> bool {
        let of_peer = self.peer.is_none() || path.peer == self.peer;
        let rejected = match path.verdict {
            Verdict::Ineligible(_) => true,
            Verdict::Best | Verdict::Multipath | Verdict::Lost(_) => false,
        };
        of_peer
            && match self.which {
                Which::All => true,
                Which::Received => path.peer.is_some(),
                Which::Accepted => path.peer.is_some() && !rejected,
                Which::Rejected => rejected,
                Which::Advertised => false,
            }
    }
}

/// Where the rule that decided about a path is from.
fn rule_name(path: &PathSnapshot, about: &Abouts) -> Option<String> {
    let rules = &about.get(path.peer.as_ref()?)?.rules;
    rules.import.get(path.rule?).cloned()
}

fn path_views(route: &RouteSnapshot, about: &Abouts) -> Vec<PathView> {
    let best = route.paths.iter().find(|path| path.verdict == Verdict::Best);
    let view = |path: &PathSnapshot| {
        let rule = rule_name(path, about);
        PathView {
            row: words::route_row(route.prefix, path, rule.as_deref()),
            origin: path.attributes.origin.to_owned(),
            why: words::why(path, best, rule.as_deref()),
            rule,
            changed: words::changes(path),
        }
    };
    route.paths.iter().map(view).collect()
}
