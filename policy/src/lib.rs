//! Who may talk to whom.
//!
//! Pods, namespaces and policies go in; what comes out is, for every pod of this node, a verdict on each
//! packet, in the shape that a packet filter can look up in constant time. Nothing here knows
//! nftables, Linux or the time; nothing does I/O; nothing can fail: input that cannot be used becomes
//! a [`Problem`] and never opens a pod.
//!
//! | module | what |
//! |---|---|
//! | [`model`] | what goes in: pods, namespaces, tiers, policies |
//! | [`selector`] | labels and the selectors that match them |
//! | [`expression`] | Calico's way to write selectors |
//! | [`problem`] | input that could not be used |
//! | [`program`] | what comes out: endpoints, groups, peer tables |
//! | [`evaluate`] | from a world to a program, from scratch |
//! | [`index`] | the same, kept up to date with work proportional to each change |
//! | [`verdict`] | the answer to one flow, and which rule gave it |
//! | [`k8s`] | the only module that knows Kubernetes' types |
//! | [`case`] | the expectations in the cases that tests and labs share |
//!
//! Where Kubernetes leaves it open, or input is bad, this is what happens; the cases under
//! `tests/cases` show each:
//!
//! | what | so |
//! |---|---|
//! | a pod that talks to itself | is never kept from it |
//! | a block that covers addresses of pods | matches these pods |
//! | a port name on the way out | stands for what each receiving pod calls so, and for nothing outside |
//! | a port name of an init container | counts if the container is restarted always, as for Services |
//! | a pod that has ended, or is on its node's network | owns no address |
//! | two pods with one address | it may do what both may |
//! | a namespace that has not been seen | matches no namespaceSelector |
//! | a peer or port that cannot be read | matches nothing; its neighbours still count |
//! | a hole in a block that cannot be read, or lies outside | the whole block matches nothing |
//! | a podSelector of a policy that cannot be read | what its readable terms select is isolated, nothing is allowed |
//! | a policy type that nobody knows | the policy isolates in both directions |
//! | a local pod that is not known yet | is no endpoint: whoever reads the program keeps it closed |

#[cfg(feature = "k8s")]
pub mod case;
pub mod evaluate;
pub mod expression;
pub mod index;
#[cfg(feature = "k8s")]
pub mod k8s;
pub mod model;
pub mod problem;
pub mod program;
pub mod selector;
pub mod verdict;

mod flatten;
mod name;
mod table;

pub use evaluate::compile;
pub use index::Index;
pub use model::{
    Action, Direction, Namespace, Pod, PodKey, Policy, PolicyKey, Rule, Tier, Traffic, Transport,
    World,
};
pub use problem::{ObjectKey, Problem};
pub use program::{Changes, Endpoint, Group, GroupId, PortClass, Program, Table, TableId, Verdict};
pub use verdict::{Decision, Flow, Party, decide};
