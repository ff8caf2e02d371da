//! Labels that many pods carry, kept once.

use std::collections::HashSet;
use std::fmt;

use crate::selector::Labels;

/// The fewest label sets that are worth looking through for those that nobody carries any more.
const FEW: usize = 1024;

/// Every set of labels that some pod carries. The pods of one Deployment carry the same.
#[derive(Default)]
pub(super) struct SharedLabels {
    known: HashSet<Labels>,
    /// Look through them when there are this many.
    sweep_at: usize,
}

impl SharedLabels {
    /// The same labels, in one place with those of the other pods that carry them.
    pub(super) fn share(&mut self, labels: &Labels) -> Labels {
        if let Some(known) = self.known.get(labels) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(FEW) {
            self.known.retain(|labels| labels.handles() > 1);
            self.sweep_at = 2 * self.known.len();
        }
        self.known.insert(labels.clone());
        labels.clone()
    }
}

/// Which labels are kept says nothing about the index: those of pods that are gone may linger.
impl fmt::Debug for SharedLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedLabels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> Labels {
        [("app", value)].into_iter().collect()
    }

    #[test]
    fn equal_labels_are_kept_once() {
        let mut shared = SharedLabels::default();
        let one = shared.share(&labels("web"));
        let two = shared.share(&labels("web"));
        assert_eq!(one, two);
        assert_eq!(one.handles(), 3);
    }

    #[test]
    fn labels_that_nobody_carries_are_forgotten_in_time() {
        let mut shared = SharedLabels::default();
        let kept = shared.share(&labels("kept"));
        for number in 0..10 * FEW {
            shared.share(&labels(&number.to_string()));
            assert!(shared.known.len() <= FEW);
        }
        assert!(shared.known.contains(&kept));
    }
}
