//! A BGP speaker as a library. It knows nothing of Kubernetes and nothing of kernel routes.
//!
//! - [`wire`]: bytes to values and back.
//! - [`session`]: from the configuration of a peer to agreed terms, and back down.
//! - [`rib`]: what peers told us, what we chose, what we tell them.
//! - [`speaker`]: the boundary; configuration, bytes and time in, bytes and routes out. No I/O.
//! - [`bmp`]: what monitoring stations are told, as messages.
//! - [`mrt`]: the table as a file.
//! - [`rpki`]: which AS may originate which prefix, as caches tell it. No I/O either.
//! - [`bfd`]: whether the path to a peer forwards, asked many times a second. No I/O either.
//! - [`sim`]: whole speakers in virtual time, the main test bed.
//! - `net`, `bfd::net` (feature `tokio`): the edges, a thread each, that own sockets and the clock.
//!
//! # Standards
//!
//! | RFC | | where | what is missing, or decided otherwise |
//! |---|---|---|---|
//! | 4271 messages, errors | done | [`wire`] | |
//! | 4271 §8 state machine | done | `session::state`, `speaker::drive` | a failed dial waits in Active, as if DelayOpen were on; DelayOpen is ended by whatever the peer says |
//! | 4271 §6.8, 6286 collision | done | `session::collision` | |
//! | 4271 §9.1 decision | partly | `rib::best`, `rib::reach` | no cost to the next hop; that one cannot be reached the edge has to say |
//! | 4271 §9.2 advertisement | done | `rib::export`, `rib::group` | no MRAI: what waits is packed, nothing is delayed |
//! | 4271 §9.2.2.2 aggregation, default originate | done | `speaker::aggregate`, `rib::export` | configured prefixes, with ATOMIC_AGGREGATE and without AS_SET (9774) |
//! | 7606, 7607, 9774 | done | `wire::check` | the first AS of a path is not compared with the peer's |
//! | 4760, 2545 | done | [`wire`], `speaker::up_down` | IPv4 and IPv6 unicast |
//! | 5492, 9072, 6793 | done | [`wire`], `session::negotiate` | |
//! | 2918 route refresh | done | `speaker::refresh`, `rib::group` | asks only for an operator: rejected paths are kept, filters judge them again |
//! | 7313 enhanced refresh | done | `speaker::refresh` | of two beginnings without an end between them the first counts; marks that come faster than the table can be walked over mean nothing |
//! | 4724 graceful restart | done, both roles | `speaker::retain`, `speaker::restart` | a peer that says that it restarted is waited for, for 15 s |
//! | 8538 its NOTIFICATION | done | `speaker::cause` | BFD down, shutdown, removal and too many prefixes are for good |
//! | 9494 long-lived | done | `speaker::retain`, `rib::sweep`, `rib::import` | §4.6 partial deployment is not offered; a path with the mark ranks last whatever was agreed |
//! | 9687 send hold timer | done | `speaker::drive` | looked at with each keepalive, with a hold time of zero every 5 s |
//! | 4486, 9003, 9384 | done | `wire::notification`, `speaker::cause` | the limit of paths counts rejected ones too, and stale ones apart; BFD down goes in a hard reset to peers with RFC 8538 |
//! | unnumbered, dynamic peers | done | `speaker::found`, `net` (discovery) | no RFC; a router is known by its advertisement (4861) or its connection. Of several on one link the first with a session stays |
//! | local-as, as-override, private AS removal | done | `speaker::as_rules`, `rib::export` | no RFC; as other routers have them |
//! | conditional advertisement | done | [`rib::filter::Condition`], `rib::group` | no RFC; a condition on rules of export filters, followed at once and not every so many seconds |
//! | 8212 default reject | by filters | [`speaker::PeerConfig::new`] | import defaults to all, export to what we originate; whoever wants it appends rules that reject |
//! | 8950 | done | `session::negotiate` | on sessions over IPv6 |
//! | 1997, 8092, 8326 | done | `rib::export`, `rib::import` | GRACEFUL_SHUTDOWN is honoured from other ASes, and sent where a filter or `DefaultRoute::Leaving` adds it |
//! | 8642 | done | [`rib::filter`] | filters add communities and take none away, so there is no "set" to be vague about |
//! | 4360, 5701 | carried | [`wire`] | those that are not transitive stay within our AS, or confederation |
//! | 4456 reflection | done | `rib::export`, `rib::import` | |
//! | 5065 confederations | done | `speaker::confederation`, `rib::export`, `rib::best` | AS_CONFED_SET is refused (9774); of equal paths the one through fewest members is chosen, as there is no cost; no cluster leaves its member; own numbers are loops in any segment; local-as, roles and 8212 are for those outside |
//! | 7911 ADD-PATH | done | `rib::path`, `rib::group` | of one peer 256 paths to a prefix are taken, others are ignored and count as a faulty UPDATE; the limit on paths told is by count, chosen one after the other by the decision process |
//! | 8654 long messages | done | `session::negotiate` | always offered; an attribute that would get longer than one can be (by AS numbers of four octets, by what filters add) withdraws the routes, keeps a path from being chosen, or from being told |
//! | host name, software version | done | `speaker::introduction` | drafts (walton-bgp-hostname-capability, abraitis-bgp-version-capability); for people alone, left out where an OPEN would need RFC 9072 for it |
//! | next hops that are link-local alone | done | [`wire`], `speaker::up_down` | sent and taken in 16 octets; the capability of draft-ietf-idr-linklocal-capability is not announced, as peers that see it leave out global addresses |
//! | 2385, 5082 | edge | `net` | MD5 keys for single addresses and for ranges |
//! | 5925, 5926 TCP-AO | written, not seen at work | `net` (tcp_ao) | where the kernel has it (Linux 6.7, `CONFIG_TCP_AO`), else the session stays down; one key for each peer, no change of keys under way. No kernel at hand had it: only the refusal was tested |
//! | 5880 BFD | asynchronous mode | [`bfd`] | no authentication (a packet that has one is discarded), no echo function, no demand mode of our own; C = 0 |
//! | 5881 single hop | done | [`bfd`] | a session is bound to the peer's address beside its discriminator |
//! | 5882 use of BFD | done | [`bfd`], `speaker::up_down` | §4.1: BGP does not wait for BFD; §8: AdminDown is said for 40 ms, not for a detection time |
//! | 5883 multihop | done | [`bfd`] | without authentication, which §6 asks for across networks of others |
//! | 9234 roles | done | `speaker::role`, `session::negotiate`, `rib::import`, `rib::export` | where asked for |
//! | 7854 BMP | done | [`bmp`], `speaker::monitor` | paths are told as we keep them: attributes in canonical order, AS numbers of four octets, what RFC 7606 drops left out; statistics are numbers of routes; no route mirroring; a station is dialled again after 1 s to 60 s |
//! | 8671 Adj-RIB-Out | post-policy | `speaker::monitor` | what export holds back is not kept, so there is no pre-policy view |
//! | 9069 Loc-RIB | done | `speaker::monitor` | the best path alone |
//! | 6396, 8050 MRT | TABLE_DUMP_V2 | [`mrt`], `speaker::dump` | paths as heard, whatever import made of them; when they were heard is not kept |
//! | 6811 origin validation | done | [`rpki`], `rib::validation` | whoever is judged is judged on import, and again when the data change; a path with AS_SET never gets as far (9774) |
//! | 8210, 6810 RPKI to Router | done | [`rpki`], `speaker::rpki` | plain TCP alone; §5.1: after a change of the cache's session the old data count until the new ones are whole, at most until they expire; §10: no preference, the data of all caches count together; router keys are passed over |
//! | 8097 validation state as a community | not | | each speaker asks the caches itself |
//!
//! The state of a peer whose session is not up follows RFC 4271, with one exception: IdleHold
//! waits only after errors; after a lost connection or a Cease the peer may come back at once, and we
//! dial again after the connect retry time.

pub mod bfd;
pub mod bmp;
pub mod mrt;
#[cfg(feature = "tokio")]
pub mod net;
pub mod rib;
pub mod rpki;
pub mod session;
pub mod sim;
pub mod speaker;
pub mod wire;
