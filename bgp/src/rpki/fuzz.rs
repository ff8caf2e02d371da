//! A cache that says anything, for the fuzz target and for property tests.

use std::collections::BTreeSet;

use super::pdu::{self, Frame};
use super::{Change, Client, Outcome, Redial, Vrps};
use crate::wire::Family;

/// What can be read is written as it was read.
///
/// # Panics
/// When it is not.
pub fn reencode_is_stable(stream: &[u8]) {
    let Ok(Some(Frame { version, pdu: first, octets })) = pdu::parse(stream) else { return };
    assert!(octets.len() <= pdu::MAX_LEN, "longer than a PDU may be");
    let mut again = Vec::new();
    pdu::put(&mut again, version, first);
    let second = pdu::parse(&again).map(|frame| frame.map(|frame| (frame.version, frame.pdu)));
    assert_eq!(second, Ok(Some((version, first))));
    assert_eq!(again.len(), octets.len());
}

/// Plays a script to a client: each step is an opcode, a length and so many octets of what the cache
/// says.
///
/// # Panics
/// When the client does, or when the changes that it tells do not add up to the records that it has.
pub fn drive(script: &[u8]) {
    let mut client = Client::new();
    let mut table = Vrps::default();
    let mut rest = script;
    while let [opcode, length, after @ ..] = rest {
        let (said, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let changes = play(&mut client, *opcode, said);
        for (change, vrp) in changes {
            match change {
                Change::Announced => table.announce(vrp),
                Change::Withdrawn => table.withdraw(vrp),
            };
        }
        let held: BTreeSet<_> = client.records().iter().collect();
        let told = Family::ALL.map(|family| table.len(family));
        assert_eq!(told.iter().sum::<usize>(), held.len(), "the changes are not the difference");
        assert_eq!(told, client.counts());
    }
    client.expire();
    assert!(client.records().is_empty());
}

fn drop_connection(client: &mut Client) {
    if client.disconnected() == Redial::AtOnce {
        assert!(client.known().is_none(), "it would be asked the same for ever");
    }
}

fn play(client: &mut Client, opcode: u8, said: &[u8]) -> Vec<(Change, super::Vrp)> {
    match opcode % 8 {
        0 => client.connected(),
        1 => drop_connection(client),
        2 => client.ask(),
        3 => return client.expire(),
        _ => {
            let Outcome { changes, ending, .. } = client.received(said);
            while client.take_output().is_some() {}
            if ending.is_some() {
                drop_connection(client);
            }
            return changes;
        }
    }
    Vec::new()
}
