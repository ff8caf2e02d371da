//! `ocicat explain SRC -> DST:PORT[/proto]`: which policy and which rule decides, at both ends.

use std::net::IpAddr;

use ocicat_policy::{
    Decision, Flow, Party, PodKey, Traffic, Transport, Verdict, World as Cluster, decide,
};
use serde::{Deserialize, Serialize};

/// The question, as text was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    source: Place,
    destination: Place,
    traffic: Traffic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Pod(PodKey),
    Address(IpAddr),
}

/// The answer for one pair of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who sends: pod, if it is one, and address.
    pub source: String,
    /// Who receives.
    pub destination: String,
    /// Protocol and port.
    pub traffic: String,
    /// Whether it goes through.
    pub allowed: bool,
    /// What the source's egress policy says, and why.
    pub egress: Side,
    /// What the destination's ingress policy says, and why.
    pub ingress: Side,
}

/// One end's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Whether this end lets it pass.
    pub allowed: bool,
    /// The policy and rule, or why there is none.
    pub reason: String,
}

/// The question cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Not of the form.
    #[error(
        "{0:?} is not SRC -> DST:PORT[/tcp|udp|sctp] or SRC -> DST/PROTOCOL; a place is NAMESPACE/POD or an address"
    )]
    Syntax(String),
    /// No such pod.
    #[error("there is no pod {0}")]
    NoPod(PodKey),
    /// A pod that has no address yet.
    #[error("pod {0} has no address")]
    NoAddress(PodKey),
    /// One end has IPv4 alone and the other IPv6 alone.
    #[error("{0} and {1} have no address family in common")]
    NoCommonFamily(String, String),
}

impl std::str::FromStr for Question {
    type Err = ExplainError;

    fn from_str(text: &str) -> Result<Self, ExplainError> {
        parse(text).ok_or_else(|| ExplainError::Syntax(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Question> {
    let (source, rest) = text.split_once("->")?;
    let (rest, protocol) = split_protocol(rest.trim());
    let (destination, traffic) = match protocol {
        None => with_port(rest, Transport::Tcp)?,
        Some("tcp") => with_port(rest, Transport::Tcp)?,
        Some("udp") => with_port(rest, Transport::Udp)?,
        Some("sctp") => with_port(rest, Transport::Sctp)?,
        Some(_) => (rest, Traffic::Other),
    };
    Some(Question { source: place(source.trim())?, destination: place(destination)?, traffic })
}

/// `shop/web:80/udp`: what follows the last slash is a protocol unless it can only be a pod.
fn split_protocol(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once('/') {
        Some((rest, protocol))
            if !protocol.contains(':') && (rest.contains('/') || rest.contains(':')) =>
        {
            (rest, Some(protocol))
        }
        Some((rest, protocol)) if rest.parse::<IpAddr>().is_ok() => (rest, Some(protocol)),
        _ => (text, None),
    }
}

fn with_port(text: &str, transport: Transport) -> Option<(&str, Traffic)> {
    let (place, port) = text.rsplit_once(':')?;
    Some((place, Traffic::Port(transport, port.parse().ok()?)))
}

fn place(text: &str) -> Option<Place> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Some(Place::Address(address));
    }
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    let is_name = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    };
    (is_name(namespace) && is_name(name)).then(|| Place::Pod(PodKey::new(namespace, name)))
}

impl Place {
    fn parties(&self, cluster: &Cluster) -> Result<Vec<Party>, ExplainError> {
        match self {
            Self::Address(address) => Ok(vec![Party::at(cluster, *address)]),
            Self::Pod(key) => {
                let pod = cluster.pods.get(key).ok_or_else(|| ExplainError::NoPod(key.clone()))?;
                if pod.addresses.is_empty() {
                    return Err(ExplainError::NoAddress(key.clone()));
                }
                let party = |address: &IpAddr| Party { address: *address, pod: Some(key.clone()) };
                Ok(pod.addresses.iter().map(party).collect())
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Pod(key) => key.to_string(),
            Self::Address(address) => address.to_string(),
        }
    }
}

/// One answer for each address family that both ends have.
pub fn explain(cluster: &Cluster, question: &Question) -> Result<Vec<Explanation>, ExplainError> {
    let mut answers = Vec::new();
    let destinations = question.destination.parties(cluster)?;
    for source in question.source.parties(cluster)? {
        for destination in &destinations {
            if source.address.is_ipv4() == destination.address.is_ipv4() {
                let flow = Flow {
                    source: source.clone(),
                    destination: destination.clone(),
                    traffic: question.traffic,
                };
                answers.push(explanation(&flow, &decide(cluster, &flow)));
            }
        }
    }
    if answers.is_empty() {
        let (source, destination) = (question.source.name(), question.destination.name());
        return Err(ExplainError::NoCommonFamily(source, destination));
    }
    Ok(answers)
}

fn explanation(flow: &Flow, decision: &Decision) -> Explanation {
    let side = |answer: &ocicat_policy::verdict::Answer| Side {
        allowed: answer.verdict == Verdict::Accept,
        reason: answer.reason.to_string(),
    };
    Explanation {
        source: describe(&flow.source),
        destination: describe(&flow.destination),
        traffic: flow.traffic.to_string(),
        allowed: decision.verdict() == Verdict::Accept,
        egress: side(&decision.egress),
        ingress: side(&decision.ingress),
    }
}

fn describe(party: &Party) -> String {
    match &party.pod {
        Some(pod) => format!("{pod} ({})", party.address),
        None => party.address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_people_write_them() {
        let pod = |ns: &str, name: &str| Place::Pod(PodKey::new(ns, name));
        let read = |text: &str| text.parse::<Question>().unwrap();
        assert_eq!(
            read("shop/web -> shop/db:5432"),
            Question {
                source: pod("shop", "web"),
                destination: pod("shop", "db"),
                traffic: Traffic::Port(Transport::Tcp, 5432),
            }
        );
        assert_eq!(read("web->10.0.0.1:53/udp").traffic, Traffic::Port(Transport::Udp, 53));
        assert_eq!(read("web->10.0.0.1:53/udp").source, pod("default", "web"));
        let v6 = read("192.0.2.10 -> [fd00::1]:80/sctp");
        assert_eq!(v6.destination, Place::Address("fd00::1".parse().unwrap()));
        assert_eq!(read("a/b -> c/d/icmp").traffic, Traffic::Other);
        assert_eq!(read("a/b -> fd00::1/icmp").destination, v6.destination);
    }

    #[test]
    fn what_is_no_question_is_said_to_be_none() {
        for text in ["web", "web -> ", "web -> db", "web -> db:http", "a/b/c -> d:80"] {
            assert!(text.parse::<Question>().is_err(), "{text}");
        }
    }
}
