//! Which conditions of a group's export filter hold, and the walk over what a change of that concerns.
//!
//! The group asks its filter under the conditions as they held at the last look. When one changes, the
//! prefixes of its families are looked at again in slices, so that a table of 800,000 prefixes holds up no
//! keepalive; what differs from what was told is said.

use crate::rib::Rib;
use crate::rib::export::Policy;
use crate::rib::prefix::PrefixId;
use crate::rib::walk::PrefixWalk;
use crate::wire::FamilySet;

/// Prefixes in one slice; some milliseconds for the filter.
const SLICE: usize = if cfg!(test) { 3 } else { 8192 };

/// The conditions of a group's filter, and how far the group has come in following them.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    /// By the number of the condition.
    holding: Vec<bool>,
    walk: PrefixWalk,
}

impl Conditions {
    /// Those of a policy, for a group that is about to look at everything anyway.
    pub(super) fn new(policy: &Policy, rib: &Rib) -> Self {
        let all = policy.filter.conditions().iter();
        let holding = all.map(|each| each.condition.holds(rib)).collect();
        Self { holding, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holding.is_empty()
    }

    pub(super) fn holding(&self) -> &[bool] {
        &self.holding
    }

    /// Looks which hold now, and says whether that is another answer. Then the walk begins anew, for what
    /// it has passed was judged otherwise.
    pub(super) fn follow(&mut self, policy: &Policy, rib: &Rib) -> bool {
        let mut changed = false;
        for (each, held) in policy.filter.conditions().iter().zip(&mut self.holding) {
            let holds = each.condition.holds(rib);
            if holds != std::mem::replace(held, holds) {
                let concerned = each.families.intersection(policy.codec.families);
                self.walk.begin_again(concerned);
                changed = true;
            }
        }
        changed
    }

    pub(super) fn is_walking(&self) -> bool {
        !self.walk.is_over()
    }

    /// The next prefixes to be looked at again.
    pub(super) fn slice(&mut self, rib: &Rib) -> Vec<PrefixId> {
        self.walk.slice(rib, SLICE)
    }

    /// Families of which the group will say more without any change of the table, as long as
    /// `deferred` ones are to come.
    pub(super) fn unsettled(&self, policy: &Policy, deferred: FamilySet) -> FamilySet {
        let mut unsettled = self.walk.families();
        let all = policy.filter.conditions().iter();
        for open in all.filter(|each| each.condition.is_open(deferred)) {
            open.families.iter().for_each(|family| unsettled.insert(family));
        }
        unsettled
    }
}
