//! What the operator wants to be told to monitoring stations.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::bmp::Table;

/// Monitoring by BMP (RFC 7854).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Monitoring {
    /// Our name (sysName).
    pub name: Arc<str>,
    /// What we are (sysDescr).
    pub description: Arc<str>,
    /// Whom we tell, by the address that we connect to.
    pub stations: BTreeMap<SocketAddr, StationConfig>,
}

/// What one station is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StationConfig {
    /// Which tables.
    pub tables: TableSet,
    /// How often statistics are sent; `None`: never.
    pub statistics: Option<Duration>,
}

impl Default for StationConfig {
    /// What peers tell, before and after policy, and what is chosen; statistics each minute.
    fn default() -> Self {
        let tables = [Table::PrePolicy, Table::PostPolicy, Table::LocRib];
        Self { tables: tables.into_iter().collect(), statistics: Some(Duration::from_secs(60)) }
    }
}

/// A set of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableSet(u8);

impl TableSet {
    const ALL: [Table; 4] = [Table::PrePolicy, Table::PostPolicy, Table::AdjRibOut, Table::LocRib];

    /// Whether a table is in the set.
    #[must_use]
    pub const fn contains(self, table: Table) -> bool {
        self.0 & (1 << table as u8) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The tables of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Table> {
        Self::ALL.into_iter().filter(move |table| self.contains(*table))
    }

    /// Whether single peers are told of.
    pub(super) fn of_peers(self) -> bool {
        self.iter().any(|table| table != Table::LocRib)
    }

    /// Whether changes of the paths that we hold matter.
    pub(super) fn of_paths(self) -> bool {
        self.iter().any(|table| table != Table::AdjRibOut)
    }
}

impl FromIterator<Table> for TableSet {
    fn from_iter<I: IntoIterator<Item = Table>>(tables: I) -> Self {
        Self(tables.into_iter().fold(0, |set, table| set | 1 << table as u8))
    }
}
