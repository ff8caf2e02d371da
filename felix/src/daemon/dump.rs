//! A slice of an MRT dump for the command line.

use k8s_openapi::ByteString;
use ocicat_bgp::net::{Handle, Stopped};
use ocicat_bgp::speaker::DumpCursor;
use ocicat_bgp::wire::{Family, FamilySet};

use crate::api::bgp::{DumpFamily, DumpPage, DumpPlace, DumpQuery};

/// Asks the speaker for the slice.
pub(super) async fn page(speaker: Handle, query: DumpQuery) -> Result<DumpPage, Stopped> {
    let families = match query.family {
        None => FamilySet::ALL,
        Some(family) => [to_family(family)].into_iter().collect(),
    };
    let from = query.from.map(|place| {
        let DumpPlace { peers, family, row, sequence } = place;
        DumpCursor { peers, family: to_family(family), row, sequence }
    });
    let (records, next) = speaker.dump(families, from).await?;
    let next = next.map(|cursor| {
        let DumpCursor { peers, family, row, sequence } = cursor;
        DumpPlace { peers, family: of_family(family), row, sequence }
    });
    Ok(DumpPage { records: ByteString(records), next })
}

const fn to_family(family: DumpFamily) -> Family {
    match family {
        DumpFamily::Ipv4 => Family::Ipv4,
        DumpFamily::Ipv6 => Family::Ipv6,
    }
}

const fn of_family(family: Family) -> DumpFamily {
    match family {
        Family::Ipv4 => DumpFamily::Ipv4,
        Family::Ipv6 => DumpFamily::Ipv6,
    }
}
