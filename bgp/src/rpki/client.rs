//! Our side of the talk with one cache (RFC 8210 §8): what to ask, and what the answers mean.
//!
//! ```text
//!            connected                     Cache Response           End of Data
//!   (down) ------------> Asked (query) ------------------> Answer -------------> Idle
//!                          ^    | Cache Reset: everything                         |
//!                          |    | No Data Available -> NoData                     |
//!                          +----+---- Serial Notify, refresh or retry time -------+
//! ```
//!
//! The data of a cache outlive the connection, until they expire. After an error they are asked for as a
//! whole, and what has come then replaces what was there: in between the old ones count. They lie with
//! whoever judges by them, so each step is given them.

use bytes::Bytes;

use super::answer::{Answer, Question};
use super::pdu::{self, Frame};
use super::{News, Pdu, Timing, Version, Vrps};
use crate::wire::iana::rpki_rtr::error;

/// A cache as we know it, with or without a connection.
#[derive(Debug)]
pub struct Client {
    known: Option<Known>,
    timing: Option<Timing>,
    /// What the next connection begins with.
    begin: Version,
    talk: Option<Talk>,
}

/// Which data of a cache we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Over which version they came; sessions of others are others (RFC 8210 §5.1).
    pub version: Version,
    /// The cache's session.
    pub session: u16,
    /// The number of the data in it.
    pub serial: u32,
}

/// A connection.
#[derive(Debug)]
struct Talk {
    version: Version,
    agreement: Agreement,
    partial: Vec<u8>,
    out: Vec<u8>,
    turn: Turn,
    /// The cache's newest data, where it has said so meanwhile.
    notified: Option<(u16, u32)>,
}

/// Whether the cache speaks the version that we asked in (RFC 8210 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agreement {
    Pending,
    Reached,
}

/// Whose turn it is.
#[derive(Debug)]
enum Turn {
    /// Nothing is asked.
    Idle,
    /// The cache's.
    Asked(Question),
    /// The cache's, which is at it.
    Answer(Answer),
    /// Ours, later: the cache has no data yet.
    NoData,
}

/// Where the talk with a cache stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There is no connection.
    Down,
    /// The cache has been asked.
    Loading,
    /// We have what it has.
    Current,
    /// It says that it has no data yet.
    NoData,
}

/// What became of some octets.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the cache says otherwise than before, in order.
    pub news: Vec<News>,
    /// An answer was complete: the data are as fresh as can be.
    pub completed: bool,
    /// The connection is to be ended.
    pub ending: Option<Ending>,
}

/// Why a connection is to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The cache speaks the older version alone: the next connection begins with that.
    OlderVersion,
    /// Something was wrong, in words.
    Fault(String),
}

/// When to connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redial {
    /// The cache is there, and will be asked something else.
    AtOnce,
    /// After a while, and longer each time.
    Patiently,
}

/// What is wrong with what a cache says.
#[derive(Debug)]
pub(super) struct Fault {
    /// What to tell the cache; `None`: nothing, as it was the one to complain.
    code: Option<u16>,
    text: String,
}

impl Fault {
    pub(super) const fn of(code: u16, text: String) -> Self {
        Self { code: Some(code), text }
    }

    fn out_of_place(what: &str) -> Self {
        Self::of(error::CORRUPT_DATA, format!("{what} where none was to come"))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A cache of which nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self { known: None, timing: None, begin: Version::One, talk: None }
    }

    /// A connection is up: the first question is ready to be sent.
    pub fn connected(&mut self) {
        let version = std::mem::replace(&mut self.begin, Version::One);
        self.talk = Some(Talk {
            version,
            agreement: Agreement::Pending,
            partial: Vec::new(),
            out: Vec::new(),
            turn: Turn::Idle,
            notified: None,
        });
        self.ask();
    }

    /// The connection is gone. What has come of an answer is of no use without its end. Says when to
    /// connect again.
    pub fn disconnected(&mut self) -> Redial {
        let talk = self.talk.take();
        let unheard = talk.filter(|talk| talk.agreement == Agreement::Pending);
        match unheard.map(|talk| talk.turn) {
            // The cache knows nothing of the session that it was asked about, whether it says so or
            // hangs up. Without one there is no second time.
            Some(Turn::Asked(Question::Changes)) => {
                self.known = None;
                Redial::AtOnce
            }
            Some(
                Turn::Asked(Question::Everything) | Turn::Answer(_) | Turn::Idle | Turn::NoData,
            )
            | None => Redial::Patiently,
        }
    }

    /// It is time for a question, unless one is open.
    pub fn ask(&mut self) {
        let Some(talk) = &mut self.talk else { return };
        match talk.turn {
            Turn::Asked(_) | Turn::Answer(_) => {}
            Turn::Idle | Turn::NoData => match self.known {
                Some(Known { version, session, serial }) if version == talk.version => {
                    talk.ask(Question::Changes, Pdu::SerialQuery { session, serial });
                }
                Some(_) | None => talk.ask(Question::Everything, Pdu::ResetQuery),
            },
        }
    }

    /// The data are too old to be used, and whoever has them drops them.
    pub const fn expire(&mut self) {
        self.known = None;
    }

    /// Takes any part of the stream. `have` is what the cache has told; what it tells is made true of that.
    pub fn received(&mut self, bytes: &[u8], have: &mut Vrps) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(talk) = &mut self.talk else { return outcome };
        let mut stream = std::mem::take(&mut talk.partial);
        stream.extend_from_slice(bytes);
        let mut used = 0;
        while outcome.ending.is_none() {
            let rest = &stream[used..];
            let (fault, about) = match pdu::parse(rest) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    used += frame.octets.len();
                    match self.take(frame, have, &mut outcome) {
                        Ok(()) => continue,
                        Err(fault) => (fault, frame.octets),
                    }
                }
                Err(malformed) => {
                    let fault = Fault::of(malformed.code(), malformed.to_string());
                    (fault, &rest[..pdu::HEADER_LEN])
                }
            };
            self.fail(fault, about, &mut outcome);
        }
        if let Some(talk) = &mut self.talk {
            talk.partial = stream.split_off(used);
        }
        outcome
    }

    /// What is to be sent, if anything.
    pub fn take_output(&mut self) -> Option<Bytes> {
        let out = &mut self.talk.as_mut()?.out;
        (!out.is_empty()).then(|| std::mem::take(out).into())
    }

    /// Whether there is something to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| !talk.out.is_empty())
    }

    /// Where the talk stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.talk.as_ref().map(|talk| &talk.turn) {
            None => Stage::Down,
            Some(Turn::Asked(_) | Turn::Answer(_)) => Stage::Loading,
            Some(Turn::Idle) => Stage::Current,
            Some(Turn::NoData) => Stage::NoData,
        }
    }

    /// The version of the connection.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.talk.as_ref().map(|talk| talk.version)
    }

    /// Which data we have; `None`: none that could be continued.
    #[must_use]
    pub const fn known(&self) -> Option<Known> {
        self.known
    }

    /// The times that the cache has set, or the customary ones.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing.unwrap_or_default()
    }

    fn take(
        &mut self,
        frame: Frame<'_>,
        have: &mut Vrps,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        if let Pdu::ErrorReport { code, text, .. } = frame.pdu {
            return self.complaint(code, text, outcome);
        }
        match (frame.pdu, talk.agreement) {
            // RFC 8210 §7: what is said before the version is agreed on is no answer.
            (Pdu::SerialNotify { .. }, Agreement::Pending) => return Ok(()),
            _ => talk.agree(frame.version)?,
        }
        match frame.pdu {
            Pdu::SerialNotify { session, serial } => {
                talk.notified = Some((session, serial));
                self.follow_notification();
            }
            Pdu::CacheResponse { session } => talk.begin_answer(session, self.known)?,
            Pdu::Record { change, vrp } => match &mut talk.turn {
                Turn::Answer(answer) => answer.take(have, change, vrp)?,
                Turn::Idle | Turn::Asked(_) | Turn::NoData => {
                    return Err(Fault::out_of_place("a record"));
                }
            },
            Pdu::EndOfData { session, serial, timing } => {
                let answer = talk.end_answer(session)?;
                self.complete(answer, (serial, timing), have, outcome);
            }
            Pdu::CacheReset => match talk.turn {
                Turn::Asked(Question::Changes) => talk.ask(Question::Everything, Pdu::ResetQuery),
                Turn::Idle | Turn::Asked(Question::Everything) | Turn::Answer(_) | Turn::NoData => {
                    return Err(Fault::out_of_place("a Cache Reset"));
                }
            },
            Pdu::RouterKey { .. } | Pdu::ErrorReport { .. } => {}
            Pdu::SerialQuery { .. } | Pdu::ResetQuery => {
                return Err(Fault::out_of_place("a query"));
            }
        }
        Ok(())
    }

    /// An answer is whole: from now on its records count.
    fn complete(
        &mut self,
        answer: Answer,
        (serial, timing): (u32, Option<Timing>),
        have: &mut Vrps,
        outcome: &mut Outcome,
    ) {
        let Some(talk) = &mut self.talk else { return };
        if answer.question() == Question::Changes && self.known.is_none() {
            // What it builds upon has expired meanwhile.
            talk.ask(Question::Everything, Pdu::ResetQuery);
            return;
        }
        let session = answer.session;
        self.known = Some(Known { version: talk.version, session, serial });
        self.timing = timing.map(Timing::clamped);
        outcome.news.push(answer.complete(have));
        outcome.completed = true;
        self.follow_notification();
    }

    /// The cache has said that it has newer data than we.
    fn follow_notification(&mut self) {
        let Some(talk) = &mut self.talk else { return };
        let idle = match talk.turn {
            Turn::Idle | Turn::NoData => true,
            Turn::Asked(_) | Turn::Answer(_) => false,
        };
        let Some((session, serial)) = talk.notified.filter(|_| idle) else { return };
        talk.notified = None;
        match self.known {
            Some(known) if (known.session, known.serial) == (session, serial) => {}
            Some(known) if known.session == session => self.ask(),
            // Its numbers say nothing of ours; what we have counts until the new is here.
            Some(_) | None => talk.ask(Question::Everything, Pdu::ResetQuery),
        }
    }

    /// The cache reports an error (RFC 8210 §12): all are the end of the connection, except that it
    /// has nothing to tell yet.
    fn complaint(&mut self, code: u16, text: &[u8], outcome: &mut Outcome) -> Result<(), Fault> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        match (code, talk.agreement, talk.version) {
            (error::NO_DATA_AVAILABLE, _, _) => {
                talk.turn = Turn::NoData;
                Ok(())
            }
            (error::UNSUPPORTED_VERSION, Agreement::Pending, Version::One) => {
                self.begin = Version::Zero;
                outcome.ending = Some(Ending::OlderVersion);
                Ok(())
            }
            _ => {
                let words = String::from_utf8_lossy(text);
                let words: String = words.chars().filter(|c| !c.is_control()).take(200).collect();
                let text = format!("the cache reports error {code}: {words}");
                Err(Fault { code: None, text })
            }
        }
    }

    /// What was said cannot be used, and neither can what would follow.
    fn fail(&mut self, fault: Fault, about: &[u8], outcome: &mut Outcome) {
        self.known = None;
        if let Some(talk) = &mut self.talk
            && let Some(code) = fault.code
        {
            let text = fault.text.as_bytes();
            let report = Pdu::ErrorReport { code, about, text };
            pdu::put(&mut talk.out, talk.version.number(), report);
        }
        outcome.ending = Some(Ending::Fault(fault.text));
    }
}

impl Talk {
    fn ask(&mut self, question: Question, query: Pdu<'_>) {
        pdu::put(&mut self.out, self.version.number(), query);
        self.turn = Turn::Asked(question);
    }

    /// RFC 8210 §7: the cache may answer in an older version; from then on there is no other.
    fn agree(&mut self, version: u8) -> Result<(), Fault> {
        let ours = self.version.number();
        match self.agreement {
            _ if version == ours => {}
            Agreement::Pending if version < ours => self.version = Version::Zero,
            Agreement::Pending => {
                let text = format!("an answer in version {version} to version {ours}");
                return Err(Fault::of(error::UNSUPPORTED_VERSION, text));
            }
            Agreement::Reached => {
                let text = format!("version {version} after version {ours} was agreed on");
                return Err(Fault::of(error::UNEXPECTED_VERSION, text));
            }
        }
        self.agreement = Agreement::Reached;
        Ok(())
    }

    fn begin_answer(&mut self, session: u16, known: Option<Known>) -> Result<(), Fault> {
        let question = match self.turn {
            Turn::Asked(question) => question,
            Turn::Idle | Turn::Answer(_) | Turn::NoData => {
                return Err(Fault::out_of_place("a Cache Response"));
            }
        };
        let other = known.filter(|known| known.session != session);
        if let (Question::Changes, Some(known)) = (question, other) {
            let text = format!("the cache's session is {session}, and was {}", known.session);
            return Err(Fault::of(error::CORRUPT_DATA, text));
        }
        self.turn = Turn::Answer(Answer::new(question, session));
        Ok(())
    }

    fn end_answer(&mut self, session: u16) -> Result<Answer, Fault> {
        match std::mem::replace(&mut self.turn, Turn::Idle) {
            Turn::Answer(answer) if answer.session == session => Ok(answer),
            Turn::Answer(answer) => {
                let text =
                    format!("session {} began the answer, {session} ends it", answer.session);
                Err(Fault::of(error::CORRUPT_DATA, text))
            }
            Turn::Idle | Turn::Asked(_) | Turn::NoData => {
                Err(Fault::out_of_place("an End of Data"))
            }
        }
    }
}
