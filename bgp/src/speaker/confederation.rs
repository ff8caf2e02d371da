//! Confederations (RFC 5065): an AS of several Member-ASes. To the world it has one number, and what
//! stands on the paths within it never leaves.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::as_rules::{LocalAs, RemoteAs};
use super::config::{Config, PeerConfig};
use crate::wire::{ConfedSegments, PeerKind};

/// The confederation that we are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confederation {
    /// The AS Confederation Identifier: what the confederation is called outside.
    pub identifier: NonZeroU32,
    /// The Member-AS Numbers; ours counts as one whether it stands here or not.
    pub members: BTreeSet<NonZeroU32>,
}

/// The AS numbers that we go by: one, or in a confederation one inside and one outside.
#[derive(Debug, Clone, Copy)]
pub struct OwnAs<'a> {
    /// Our AS number; in a confederation our Member-AS Number.
    pub number: NonZeroU32,
    /// The confederation.
    pub confederation: Option<&'a Confederation>,
}

impl From<NonZeroU32> for OwnAs<'_> {
    /// In no confederation.
    fn from(number: NonZeroU32) -> Self {
        Self { number, confederation: None }
    }
}

impl Config {
    /// The AS numbers that we go by.
    #[must_use]
    pub fn own_as(&self) -> OwnAs<'_> {
        OwnAs { number: self.local_as, confederation: self.confederation.as_ref() }
    }
}

impl OwnAs<'_> {
    /// The AS that we are to the world.
    #[must_use]
    pub fn public(self) -> u32 {
        self.confederation.map_or(self.number, |confederation| confederation.identifier).get()
    }

    /// Whether another AS is a Member-AS, or ours. False without a confederation.
    fn is_member(self, asn: u32) -> bool {
        let named = |confederation: &Confederation| {
            confederation.members.iter().any(|member| member.get() == asn)
        };
        self.confederation.is_some_and(|each| asn == self.number.get() || named(each))
    }

    /// Whether a peer is one of our confederation. It has to be named by its number, or as one of
    /// our own AS: our OPEN says one thing inside and another outside.
    #[must_use]
    pub fn has_inside(self, remote_as: RemoteAs) -> bool {
        match remote_as {
            RemoteAs::Number(number) => self.is_member(number.get()),
            RemoteAs::Internal => self.confederation.is_some(),
            RemoteAs::External | RemoteAs::Any => false,
        }
    }

    /// What our OPEN to a peer says. `local_as` means nothing within a confederation.
    #[must_use]
    pub fn shown_to(self, remote_as: RemoteAs, local_as: Option<LocalAs>) -> u32 {
        if self.has_inside(remote_as) {
            return self.number.get();
        }
        local_as.map_or(self.public(), |local_as| local_as.number.get())
    }

    /// The kind of session to expect before the peer has said its number.
    #[must_use]
    pub fn expected_kind(self, peer: &PeerConfig) -> PeerKind {
        let PeerConfig { remote_as, local_as, .. } = *peer;
        let kind = remote_as.expected_kind(self.shown_to(remote_as, local_as));
        match (kind, self.has_inside(remote_as)) {
            (PeerKind::External, true) => PeerKind::Confederation,
            (kind, _) => kind,
        }
    }

    /// The kind of session with a peer that says this number, and to which we are `shown`.
    pub(crate) fn kind(self, remote: u32, shown: u32) -> PeerKind {
        if remote == shown {
            PeerKind::Internal
        } else if self.is_member(remote) {
            PeerKind::Confederation
        } else {
            PeerKind::External
        }
    }

    /// Whether a peer with this number will do, to which we are `shown`.
    pub(crate) fn admits(self, remote_as: RemoteAs, remote: u32, shown: u32) -> bool {
        let of_us = |asn| asn == shown || asn == self.public() || self.is_member(asn);
        // Who is outside of a confederation has none of its numbers.
        let outside = self.confederation.is_some() && !self.has_inside(remote_as);
        remote_as.admits(remote, shown) && !(outside && of_us(remote))
    }

    /// Where confederation segments may stand on the paths of a peer.
    pub(crate) const fn confed_segments(self, kind: PeerKind) -> ConfedSegments {
        match kind {
            PeerKind::Internal if self.confederation.is_some() => ConfedSegments::Allowed,
            PeerKind::Internal | PeerKind::External => ConfedSegments::Refused,
            PeerKind::Confederation => ConfedSegments::First,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn confederation() -> Confederation {
        let members = [65001, 65002].map(number).into();
        Confederation { identifier: number(65000), members }
    }

    fn peer(remote_as: impl Into<RemoteAs>) -> PeerConfig {
        PeerConfig::new([10, 0, 0, 2].into(), remote_as)
    }

    /// RFC 5065 §4: members see our Member-AS Number, others the identifier.
    #[test]
    fn we_have_one_number_inside_and_one_outside() {
        let confederation = confederation();
        let own = OwnAs { number: number(65001), confederation: Some(&confederation) };
        let cases: [(RemoteAs, u32, PeerKind); 6] = [
            (number(65001).into(), 65001, PeerKind::Internal),
            (RemoteAs::Internal, 65001, PeerKind::Internal),
            (number(65002).into(), 65001, PeerKind::Confederation),
            (number(65003).into(), 65000, PeerKind::External),
            (RemoteAs::External, 65000, PeerKind::External),
            (RemoteAs::Any, 65000, PeerKind::External),
        ];
        for (remote_as, shown, kind) in cases {
            assert_eq!(own.shown_to(remote_as, None), shown, "{remote_as}");
            assert_eq!(own.expected_kind(&peer(remote_as)), kind, "{remote_as}");
        }
        let local_as = Some(number(65100).into());
        assert_eq!(own.shown_to(number(65002).into(), local_as), 65001);
        assert_eq!(own.shown_to(number(65003).into(), local_as), 65100);
        assert_eq!(own.public(), 65000);
    }

    #[test]
    fn who_is_outside_has_no_number_of_the_confederation() {
        let confederation = confederation();
        let own = OwnAs { number: number(65001), confederation: Some(&confederation) };
        for remote_as in [RemoteAs::External, RemoteAs::Any] {
            let admitted =
                [65000, 65001, 65002, 65003].map(|asn| own.admits(remote_as, asn, 65000));
            assert_eq!(admitted, [false, false, false, true], "{remote_as}");
        }
        assert!(!own.admits(number(65000).into(), 65000, 65000));
        assert!(own.admits(number(65002).into(), 65002, 65001));
        assert!(own.admits(RemoteAs::Internal, 65001, 65001));
        assert!(!own.admits(RemoteAs::Internal, 65002, 65001));
    }

    #[test]
    fn without_a_confederation_there_is_one_number() {
        let own = OwnAs::from(number(65001));
        assert_eq!(own.public(), 65001);
        assert_eq!(own.expected_kind(&peer(number(65002))), PeerKind::External);
        assert_eq!(own.kind(65001, 65001), PeerKind::Internal);
        assert!(own.admits(RemoteAs::Any, 65001, 65001));
    }
}
