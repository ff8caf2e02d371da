//! A cache that says anything, for the fuzz target and for property tests.

use std::collections::BTreeSet;

use super::pdu::{self, Frame};
use super::{Client, News, Outcome, Redial, Vrp, Vrps};

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
/// When the client does, or when the news that it tells are not what became of the table.
pub fn drive(script: &[u8]) {
    let mut client = Client::new();
    let mut table = Vrps::default();
    let mut rest = script;
    while let [opcode, length, after @ ..] = rest {
        let (said, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let before: BTreeSet<Vrp> = table.iter().collect();
        let news = play(&mut client, *opcode, said, &mut table);
        let now: BTreeSet<Vrp> = table.iter().collect();
        assert_eq!(now.len(), table.len());
        assert!(now.iter().all(|vrp| table.contains(*vrp)));
        match &news[..] {
            [] => assert_eq!(before, now, "something changed without a word"),
            [News::Replaced(replaced)] => assert_eq!(before, replaced.iter().collect()),
            [News::Changed(affected)] => {
                let mut differ = before.symmetric_difference(&now);
                assert!(differ.all(|vrp| affected.cover(vrp.prefix)), "a change was not told");
            }
            _ => {}
        }
    }
}

fn drop_connection(client: &mut Client) {
    if client.disconnected() == Redial::AtOnce {
        assert!(client.known().is_none(), "it would be asked the same for ever");
    }
}

fn play(client: &mut Client, opcode: u8, said: &[u8], table: &mut Vrps) -> Vec<News> {
    match opcode % 8 {
        0 => client.connected(),
        1 => drop_connection(client),
        2 => client.ask(),
        3 => {
            client.expire();
            return vec![News::Replaced(std::mem::take(table))];
        }
        _ => {
            let Outcome { news, ending, .. } = client.received(said, table);
            while client.take_output().is_some() {}
            if ending.is_some() {
                drop_connection(client);
            }
            return news;
        }
    }
    Vec::new()
}
