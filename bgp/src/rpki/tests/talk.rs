//! What a client asks, and what it makes of the answers.

use std::ops::{Deref, DerefMut};

use super::vrp;
use crate::rpki::pdu::{self, Frame};
use crate::rpki::{
    Change, Client, Ending, Known, News, Outcome, Pdu, Redial, Stage, Timing, Version, Vrps,
};

/// A client, and what the cache has told it.
#[derive(Debug, Default)]
struct Router {
    client: Client,
    have: Vrps,
}

impl Deref for Router {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Router {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// A client whose connection has just come up, and what it asks.
fn meet(client: &mut Router) -> String {
    client.connected();
    asked(client)
}

/// What the client says, as text.
fn asked(client: &mut Router) -> String {
    let Some(octets) = client.take_output() else { return String::new() };
    let Frame { version, pdu, octets: whole } = pdu::parse(&octets).unwrap().unwrap();
    assert_eq!(whole.len(), octets.len(), "one PDU");
    if let Pdu::ErrorReport { code, text, .. } = pdu {
        return format!("v{version} error {code}: {}", str::from_utf8(text).unwrap());
    }
    format!("v{version} {pdu:?}")
}

fn say(client: &mut Router, version: u8, pdus: &[Pdu<'_>]) -> Outcome {
    let mut stream = Vec::new();
    pdus.iter().for_each(|pdu| pdu::put(&mut stream, version, *pdu));
    // In pieces: where a PDU ends says nothing.
    let (first, rest) = stream.split_at(stream.len() / 2);
    let Router { client, have } = client;
    let mut outcome = client.received(first, have);
    if outcome.ending.is_none() {
        let more = client.received(rest, have);
        outcome.news.extend(more.news);
        outcome.completed |= more.completed;
        outcome.ending = more.ending;
    }
    outcome
}

fn announced(text: &str) -> Pdu<'static> {
    Pdu::Record { change: Change::Announced, vrp: vrp(text) }
}

fn withdrawn(text: &str) -> Pdu<'static> {
    Pdu::Record { change: Change::Withdrawn, vrp: vrp(text) }
}

fn end(session: u16, serial: u32) -> Pdu<'static> {
    Pdu::EndOfData { session, serial, timing: Some(Timing::default()) }
}

const BEGIN: Pdu<'static> = Pdu::CacheResponse { session: 5 };
const A: &str = "10.0.0.0/16 AS65001";
const B: &str = "10.1.0.0/16 AS65002";

/// A client that knows A and B, of session 5 and serial 1.
fn informed() -> Router {
    let mut client = Router::default();
    meet(&mut client);
    let outcome = say(&mut client, 1, &[BEGIN, announced(A), announced(B), end(5, 1)]);
    assert!(outcome.completed);
    client
}

fn records(client: &Router) -> Vec<String> {
    let mut records: Vec<_> = client.have.iter().collect();
    records.sort();
    records.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_counts_before_the_end_of_an_answer() {
    let mut client = Router::default();
    assert_eq!(client.stage(), Stage::Down);
    assert_eq!(meet(&mut client), "v1 ResetQuery");
    let outcome =
        say(&mut client, 1, &[BEGIN, announced(A), Pdu::RouterKey { flags: 1, body: &[0; 30] }]);
    assert!(outcome.news.is_empty());
    assert_eq!(client.stage(), Stage::Loading);
    assert_eq!(records(&client), [""; 0]);
    let outcome = say(&mut client, 1, &[announced(B), end(5, 1)]);
    assert!(outcome.completed && outcome.ending.is_none());
    assert!(matches!(&outcome.news[..], [News::Replaced(before)] if before.is_empty()));
    assert_eq!(records(&client).len(), 2);
    let known = Known { version: Version::One, session: 5, serial: 1 };
    assert_eq!((client.known(), client.stage()), (Some(known), Stage::Current));
}

#[test]
fn a_notification_is_followed_by_a_question_for_what_changed() {
    let mut client = informed();
    say(&mut client, 1, &[Pdu::SerialNotify { session: 5, serial: 1 }]);
    assert_eq!(asked(&mut client), "", "we have that");
    say(&mut client, 1, &[Pdu::SerialNotify { session: 5, serial: 2 }]);
    assert_eq!(asked(&mut client), "v1 SerialQuery { session: 5, serial: 1 }");
    // Another one meanwhile is not forgotten.
    say(&mut client, 1, &[BEGIN, Pdu::SerialNotify { session: 5, serial: 3 }]);
    assert_eq!(asked(&mut client), "");
    let outcome = say(&mut client, 1, &[withdrawn(A), announced("10.0.0.0/16 AS7"), end(5, 2)]);
    let [News::Changed(affected)] = &outcome.news[..] else { panic!("{outcome:?}") };
    let covers = |prefix: &str| affected.cover(prefix.parse().unwrap());
    assert!(covers("10.0.0.0/16") && covers("10.0.9.0/24"));
    assert!(!covers("10.0.0.0/15") && !covers("10.1.0.0/16"));
    assert_eq!(
        records(&client),
        ["10.0.0.0/16 up to /16 by AS 7", "10.1.0.0/16 up to /16 by AS 65002"]
    );
    assert_eq!(asked(&mut client), "v1 SerialQuery { session: 5, serial: 2 }");
}

#[test]
fn data_outlive_the_connection_and_the_talk_goes_on_where_it_was() {
    let mut client = informed();
    client.disconnected();
    assert_eq!((records(&client).len(), client.stage()), (2, Stage::Down));
    assert_eq!(meet(&mut client), "v1 SerialQuery { session: 5, serial: 1 }");
    let outcome = say(&mut client, 1, &[BEGIN, end(5, 1)]);
    assert!(outcome.completed);
    assert_eq!(records(&client).len(), 2);
}

#[test]
fn what_an_answer_to_everything_does_not_name_is_gone_at_its_end() {
    let mut client = informed();
    client.disconnected();
    meet(&mut client);
    say(&mut client, 1, &[Pdu::CacheReset]);
    assert_eq!(asked(&mut client), "v1 ResetQuery");
    let begin = Pdu::CacheResponse { session: 6 };
    say(&mut client, 1, &[begin, announced(B)]);
    assert_eq!(records(&client).len(), 2);
    let outcome = say(&mut client, 1, &[end(6, 9)]);
    assert!(matches!(&outcome.news[..], [News::Replaced(before)] if before.len() == 2));
    assert_eq!(records(&client), ["10.1.0.0/16 up to /16 by AS 65002"]);
}

/// RFC 8210 §5.1 would drop the data at once; see the table of deviations.
#[test]
fn another_session_is_asked_for_everything_and_the_old_data_stay_until_then() {
    let mut client = informed();
    say(&mut client, 1, &[Pdu::SerialNotify { session: 6, serial: 1 }]);
    assert_eq!(asked(&mut client), "v1 ResetQuery");

    let mut client = informed();
    client.disconnected();
    meet(&mut client);
    let outcome = say(&mut client, 1, &[Pdu::CacheResponse { session: 6 }]);
    assert_eq!(outcome.ending, Some(Ending::Fault("the cache's session is 6, and was 5".into())));
    assert_eq!(asked(&mut client), "v1 error 0: the cache's session is 6, and was 5");
    client.disconnected();
    assert_eq!((records(&client).len(), client.known()), (2, None));
    assert_eq!(meet(&mut client), "v1 ResetQuery");
}

/// StayRTR does that when it is asked about a session of its earlier life.
#[test]
fn a_cache_that_hangs_up_instead_of_an_answer_is_asked_for_everything() {
    let mut client = informed();
    client.disconnected();
    assert_eq!(meet(&mut client), "v1 SerialQuery { session: 5, serial: 1 }");
    assert_eq!(client.disconnected(), Redial::AtOnce);
    assert_eq!((records(&client).len(), meet(&mut client).as_str()), (2, "v1 ResetQuery"));
    assert_eq!(client.disconnected(), Redial::Patiently);
    // In the middle of a talk it is a lost connection like any other.
    let mut client = informed();
    client.ask();
    assert_eq!(asked(&mut client), "v1 SerialQuery { session: 5, serial: 1 }");
    assert_eq!(client.disconnected(), Redial::Patiently);
    assert_eq!(meet(&mut client), "v1 SerialQuery { session: 5, serial: 1 }");
}

#[test]
fn an_older_version_is_spoken_where_the_cache_asks_for_it() {
    // By an answer.
    let mut client = Router::default();
    meet(&mut client);
    let end = Pdu::EndOfData { session: 5, serial: 1, timing: None };
    assert!(say(&mut client, 0, &[BEGIN, announced(A), end]).completed);
    assert_eq!(client.timing(), Timing::default());
    client.ask();
    assert_eq!(asked(&mut client), "v0 SerialQuery { session: 5, serial: 1 }");
    // By an error.
    let mut client = Router::default();
    meet(&mut client);
    let refused = Pdu::ErrorReport { code: 4, about: &[], text: b"" };
    assert_eq!(say(&mut client, 0, &[refused]).ending, Some(Ending::OlderVersion));
    client.disconnected();
    assert_eq!(meet(&mut client), "v0 ResetQuery");
    // A second refusal is one.
    let ending = say(&mut client, 0, &[refused]).ending;
    assert_eq!(ending, Some(Ending::Fault("the cache reports error 4: ".into())));
    client.disconnected();
    assert_eq!(meet(&mut client), "v1 ResetQuery");
}

#[test]
fn a_notification_before_the_version_is_agreed_on_is_ignored() {
    let mut client = Router::default();
    meet(&mut client);
    let notify = Pdu::SerialNotify { session: 5, serial: 1 };
    assert_eq!(say(&mut client, 2, &[notify]).ending, None);
    assert!(say(&mut client, 1, &[BEGIN, end(5, 1)]).completed);
    let ending = say(&mut client, 0, &[notify]).ending;
    assert_eq!(ending, Some(Ending::Fault("version 0 after version 1 was agreed on".into())));
    assert_eq!(asked(&mut client), "v1 error 8: version 0 after version 1 was agreed on");
}

#[test]
fn a_cache_without_data_is_asked_again_later() {
    let mut client = informed();
    client.ask();
    asked(&mut client);
    let nothing = Pdu::ErrorReport { code: 2, about: &[], text: b"not yet" };
    let outcome = say(&mut client, 1, &[nothing]);
    assert_eq!((outcome.ending, client.stage()), (None, Stage::NoData));
    assert_eq!(records(&client).len(), 2, "ours are not worse for that");
    client.ask();
    assert_eq!(asked(&mut client), "v1 SerialQuery { session: 5, serial: 1 }");
}

#[test]
fn errors_end_the_connection_and_the_next_one_begins_from_the_beginning() {
    let cases: [(&[Pdu<'_>], &str); 9] = [
        (
            &[BEGIN, announced(A)],
            "v1 error 7: 10.0.0.0/16 up to /16 by AS 65001 is announced twice",
        ),
        (
            &[BEGIN, withdrawn("10.9.0.0/16 AS1")],
            "v1 error 6: 10.9.0.0/16 up to /16 by AS 1 is withdrawn and was not announced",
        ),
        (&[announced(A)], "v1 error 0: a record where none was to come"),
        (&[end(5, 2)], "v1 error 0: an End of Data where none was to come"),
        (&[BEGIN, BEGIN], "v1 error 0: a Cache Response where none was to come"),
        (&[BEGIN, end(6, 2)], "v1 error 0: session 5 began the answer, 6 ends it"),
        (&[BEGIN, Pdu::CacheReset], "v1 error 0: a Cache Reset where none was to come"),
        (&[Pdu::ResetQuery], "v1 error 0: a query where none was to come"),
        // No answer to a complaint (RFC 8210 §5.11).
        (&[Pdu::ErrorReport { code: 3, about: &[], text: b"what?" }], ""),
    ];
    for (said, complaint) in cases {
        let mut client = informed();
        client.ask();
        asked(&mut client);
        let outcome = say(&mut client, 1, said);
        assert!(matches!(outcome.ending, Some(Ending::Fault(_))), "{said:?}: {outcome:?}");
        assert_eq!(asked(&mut client), complaint);
        client.disconnected();
        assert_eq!(records(&client).len(), 2);
        assert_eq!(meet(&mut client), "v1 ResetQuery");
    }
}

#[test]
fn expired_data_are_not_built_upon() {
    let mut client = informed();
    client.ask();
    asked(&mut client);
    say(&mut client, 1, &[BEGIN]);
    client.expire();
    client.have = Vrps::default();
    // The answer builds upon what is gone.
    assert!(!say(&mut client, 1, &[announced("10.9.0.0/16 AS1"), end(5, 2)]).completed);
    assert_eq!((asked(&mut client).as_str(), records(&client).len()), ("v1 ResetQuery", 0));
}
