//! How much a table holds, as two readers see it: we by netlink, and the `nft` program.
//!
//! `ocicat check` compares the two, where `nft` is installed. The agent and the plugin never execute it.

use std::collections::BTreeMap;

use nftables::helper::{DEFAULT_NFT, get_current_ruleset_raw};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::nft::Table;
use crate::plan::ruleset::TABLE;

/// Rules by chain, and elements by set or map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The number of rules of each chain.
    pub chains: BTreeMap<String, usize>,
    /// The number of elements of each set and map.
    pub sets: BTreeMap<String, usize>,
}

impl Inventory {
    /// As we see a table.
    pub fn of(table: &Table) -> Self {
        let chains = table.chains.iter().map(|(name, chain)| (name.to_string(), chain.rules.len()));
        let sets = table.sets.iter().map(|(name, set)| (name.to_string(), set.elements.len()));
        Self { chains: chains.collect(), sets: sets.collect() }
    }

    /// As the `nft` program sees the table in the kernel; `None` where there is no such program.
    ///
    /// The crate that runs it cannot describe verdict maps, so its text is read here.
    ///
    /// # Errors
    /// When the program fails, or its answer is not what it documents.
    pub fn by_nft() -> Result<Option<Self>, String> {
        match get_current_ruleset_raw(DEFAULT_NFT, &["list", "table", "inet", TABLE]) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(nftables::helper::NftablesError::NftExecution { .. }) => Ok(None),
            Err(error) => Err(format!("nft cannot list our table: {error}")),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let listing: Value = serde_json::from_str(text)
            .map_err(|error| format!("what nft prints is no JSON: {error}"))?;
        let objects =
            listing.get("nftables").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut inventory = Self::default();
        for object in &objects {
            let text = |value: &Value, field: &str| {
                value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            if let Some(chain) = object.get("chain") {
                inventory.chains.entry(text(chain, "name")).or_default();
            } else if let Some(rule) = object.get("rule") {
                *inventory.chains.entry(text(rule, "chain")).or_default() += 1;
            } else if let Some(set) = object.get("set").or_else(|| object.get("map")) {
                let elements = set.get("elem").and_then(Value::as_array).map_or(0, Vec::len);
                inventory.sets.insert(text(set, "name"), elements);
            }
        }
        Ok(inventory)
    }

    /// What is different, a line each.
    pub fn differences(&self, nft: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, ours, theirs) in
            [("chain", &self.chains, &nft.chains), ("set", &self.sets, &nft.sets)]
        {
            for name in ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))) {
                let count = |counts: &BTreeMap<String, usize>| {
                    counts.get(name).map_or_else(|| "none".to_owned(), ToString::to_string)
                };
                if ours.get(name) != theirs.get(name) {
                    lines.push(format!(
                        "{what} {name}: we count {}, nft {}",
                        count(ours),
                        count(theirs)
                    ));
                }
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_prints_is_counted() {
        let text = r#"{"nftables": [
            {"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "ocicat"}},
            {"map": {"name": "from-pod", "map": "verdict", "elem": [["oci1", {"return": null}]]}},
            {"set": {"name": "sources4"}},
            {"chain": {"name": "forward"}},
            {"rule": {"chain": "forward", "expr": []}}, {"rule": {"chain": "forward", "expr": []}}]}"#;
        let nft = Inventory::parse(text).unwrap();
        assert_eq!(nft.chains, BTreeMap::from([("forward".to_owned(), 2)]));
        assert_eq!(nft.sets.len(), 2);
        let mut ours = nft.clone();
        assert_eq!(ours.differences(&nft), [""; 0]);
        ours.sets.insert("sources4".to_owned(), 3);
        ours.chains.insert("input".to_owned(), 1);
        assert_eq!(
            ours.differences(&nft),
            ["chain input: we count 1, nft none", "set sources4: we count 3, nft 0"]
        );
    }
}
