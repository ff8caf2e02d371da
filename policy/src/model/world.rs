//! Everything together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    Action, Namespace, Order, Pod, PodKey, PodNetwork, PodSelector, Policy, PolicyKey, Tier,
};

/// The cluster as far as policy sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Every pod.
    pub pods: BTreeMap<PodKey, Pod>,
    /// Every namespace.
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Tiers besides the one of [`Tier::network_policies`].
    pub tiers: BTreeMap<Arc<str>, Tier>,
    /// Every policy.
    pub policies: BTreeMap<PolicyKey, Policy>,
    /// The pods of this node, whether they are among `pods` already or not.
    pub local: BTreeSet<PodKey>,
}

impl World {
    /// The tier of that name. One that does not exist comes last and denies, so that a policy which
    /// names it is closed and not lost.
    pub fn tier(&self, name: &Arc<str>) -> Tier {
        match self.tiers.get(name) {
            Some(tier) => tier.clone(),
            None if **name == *Tier::DEFAULT => Tier::network_policies(),
            None => Tier { name: name.clone(), order: Order::LAST, default: Action::Deny },
        }
    }

    /// The namespace of a pod, if it has been seen.
    pub fn namespace_of(&self, pod: &PodKey) -> Option<&Namespace> {
        self.namespaces.get(&pod.namespace)
    }

    /// The pods of a namespace.
    pub fn pods_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Pod> {
        let first = PodKey { namespace: namespace.into(), name: Arc::default() };
        let pods = self.pods.range(first..).map(|(_, pod)| pod);
        pods.take_while(move |pod| *pod.key.namespace == *namespace)
    }

    /// A local pod that is known and has a network of its own.
    pub fn endpoint(&self, key: &PodKey) -> Option<&Pod> {
        let pod = self.pods.get(key).filter(|pod| pod.network == PodNetwork::Own);
        pod.filter(|_| self.local.contains(key))
    }

    /// Whether `selector` selects `pod`.
    pub fn selects(&self, selector: &PodSelector, pod: &Pod) -> bool {
        selector.matches(pod, self.namespace_of(&pod.key))
    }
}
