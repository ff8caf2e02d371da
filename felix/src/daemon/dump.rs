//! A slice of an MRT dump for the command line.

use k8s_openapi::ByteString;
use ocicat_bgp::net::{Handle, Stopped};
use ocicat_bgp::speaker::DumpCursor;
use ocicat_bgp::wire::FamilySet;

use crate::api::bgp::{DumpPage, DumpPlace, DumpQuery};

/// Asks the speaker for the slice.
pub(super) async fn page(speaker: Handle, query: DumpQuery) -> Result<DumpPage, Stopped> {
    let families = match query.family {
        None => FamilySet::ALL,
        Some(family) => [family.into()].into_iter().collect(),
    };
    let from = query.from.map(|place| {
        let DumpPlace { peers, family, row, sequence } = place;
        DumpCursor { peers, family: family.into(), row, sequence }
    });
    let (records, next) = speaker.dump(families, from).await?;
    let next = next.map(|cursor| {
        let DumpCursor { peers, family, row, sequence } = cursor;
        DumpPlace { peers, family: family.into(), row, sequence }
    });
    Ok(DumpPage { records: ByteString(records), next })
}
