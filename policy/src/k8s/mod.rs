//! From Kubernetes' objects to the model: the only module that knows Kubernetes' types.
//!
//! The server validates what it stores; a directory of YAML, or a server newer than this program, may
//! hold anything. What cannot be used is reported and matches nothing, so that it opens nothing.

mod labels;
mod pod;
mod policy;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use self::pod::pod;
pub use self::policy::policy;
use crate::model::{Namespace, Transport};
use crate::problem::{BadTerm, Fault, ObjectKey, Problem};

/// A namespace as policy sees it.
///
/// # Errors
/// The object has no name.
pub fn namespace(object: &core::Namespace) -> Result<Namespace, Problem> {
    let meta = &object.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    named(name, || ObjectKey::Namespace(name.into()))?;
    let labels = meta.labels.iter().flatten();
    Ok(Namespace::new(name, labels.map(|(key, value)| (key.as_str(), value.as_str()))))
}

/// Collects the problems of one object.
struct Report {
    object: ObjectKey,
    problems: Vec<Problem>,
}

impl Report {
    fn about(object: ObjectKey) -> Self {
        Self { object, problems: Vec::new() }
    }

    fn add(&mut self, field: impl Into<String>, fault: Fault) {
        self.problems.push(Problem { object: self.object.clone(), field: field.into(), fault });
    }

    fn bad_terms(&mut self, bad: Vec<(String, BadTerm)>, fault: impl Fn(BadTerm) -> Fault) {
        for (field, term) in bad {
            self.add(field, fault(term));
        }
    }
}

fn named(name: &str, object: impl Fn() -> ObjectKey) -> Result<(), Problem> {
    if name.is_empty() {
        let field = "metadata.name".to_owned();
        return Err(Problem { object: object(), field, fault: Fault::Nameless });
    }
    Ok(())
}

/// The server puts an object without a namespace into `default`.
fn namespace_of(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or("default")
}

/// A CIDR without its host bits; the server accepts them, too. An IPv4 block written as IPv6 can match
/// no packet and is refused.
fn cidr(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    let mapped = net.addr() != net.addr().to_canonical();
    (!mapped).then(|| net.trunc())
}

/// An absent protocol means TCP.
fn transport(name: Option<&str>, field: &str, report: &mut Report) -> Option<Transport> {
    match name {
        None | Some("TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        Some("SCTP") => Some(Transport::Sctp),
        Some(other) => {
            report.add(format!("{field}.protocol"), Fault::BadProtocol(other.to_owned()));
            None
        }
    }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}
