//! A dataplane without a kernel: for tests, and for `plan` on a machine that is no node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{
    Change, CommitError, Dataplane, Outcome, PodEnds, Rejection, Resolved, State, WantedWays,
};
use crate::nft::{Table, Transaction, Why};

/// Holds what a kernel would hold, and refuses what a kernel would refuse.
#[derive(Debug, Clone)]
pub struct Memory {
    state: State,
}

impl Memory {
    /// Holds nothing; `table` is the name of our nftables table.
    pub fn new(table: &str) -> Self {
        Self { state: State { table: Table::new(table), routes: super::Routes::new() } }
    }

    /// What it holds.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        let mut table = self.state.table.clone();
        transaction.apply_to(&mut table).map_err(|refused| {
            CommitError::Rejected(vec![Rejection {
                change: transaction.ops[refused.op].summary(&transaction.table),
                errno: match refused.why {
                    Why::Missing => libc::ENOENT,
                    Why::Exists => libc::EEXIST,
                    Why::InUse => libc::EBUSY,
                },
            }])
        })?;
        self.state.table = table;
        Ok(())
    }
}

impl Dataplane for Memory {
    fn read(&mut self) -> std::io::Result<State> {
        Ok(self.state.clone())
    }

    fn apply(&mut self, change: &Change) -> Outcome {
        let nft = self.commit(&change.nft);
        if nft.is_ok() {
            change.routes.apply_to(&mut self.state.routes);
        }
        Outcome { nft, routes: Vec::new() }
    }

    /// Knows no links: there is no way to anywhere.
    fn resolve(&mut self, _: IpAddr) -> std::io::Result<Option<Resolved>> {
        Ok(None)
    }

    fn resolve_beneath(&mut self, _: &WantedWays) -> std::io::Result<BTreeMap<IpAddr, Resolved>> {
        Ok(BTreeMap::new())
    }

    fn prepare_node(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn adopt(&mut self, _: &PodEnds) -> Vec<String> {
        Vec::new()
    }

    fn forget(&mut self, _: IpAddr) -> std::io::Result<usize> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Chain, Op, Rule, statement::jump};

    #[test]
    fn a_transaction_that_fails_half_way_leaves_nothing_behind() {
        let mut memory = Memory::new("ocicat");
        let change = |ops| Change {
            nft: Transaction { table: "ocicat".into(), ops },
            routes: super::super::RouteChanges::default(),
        };
        let jump = Op::AddRule("a".into(), Rule::new([jump("nowhere")]));
        let outcome = memory.apply(&change(vec![Op::AddChain("a".into(), None), jump]));
        assert_eq!(
            outcome.nft.unwrap_err().to_string(),
            "the kernel refused 1 change(s), first `add rule inet ocicat a jump nowhere: \
             No such file or directory (os error 2)`"
        );
        assert!(memory.state().table.is_empty());
        let outcome = memory.apply(&change(vec![Op::AddChain("a".into(), None)]));
        assert!(outcome.nft.is_ok());
        assert_eq!(memory.state().table.chains.get("a"), Some(&Chain::default()));
    }
}
