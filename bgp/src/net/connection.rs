//! One TCP connection: reading into the shared buffer, writing what the speaker has to say.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use super::signal::{Ready, Signal, waker};
use crate::speaker::ConnId;

/// How much is taken from the speaker before it is written; the most that a blocked socket holds,
/// give or take one piece.
const UNSENT_MAX: usize = 64 * 1024;
/// How much is written before other connections get their turn.
const WRITE_TURN: usize = 256 * 1024;
/// Pieces gathered into one write.
const GATHER: usize = 32;
/// How long a closing connection may take to say its last words.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    unsent: VecDeque<Bytes>,
    on_readable: Waker,
    on_writable: Waker,
}

/// What a read gave.
#[derive(Debug)]
pub(super) enum Read {
    /// So many octets stand in the buffer; there may be more.
    Octets(usize),
    /// Nothing for now; a signal will come.
    Blocked,
    /// The connection has ended, in good order or not.
    Ended(Option<io::Error>),
}

/// What a write came to.
#[derive(Debug)]
pub(super) enum Write {
    /// Everything is written.
    Done,
    /// There is more, and the socket would take it: its turn is over.
    TurnOver,
    /// The socket takes no more; a signal will come.
    Blocked,
    /// The connection is broken.
    Failed(io::Error),
}

impl Connection {
    pub(super) fn new(conn: ConnId, stream: TcpStream, signals: &UnboundedSender<Signal>) -> Self {
        Self {
            stream,
            unsent: VecDeque::new(),
            on_readable: waker(Ready::Read(conn), signals),
            on_writable: waker(Ready::Write(conn), signals),
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Read {
        loop {
            let error = match self.stream.try_read(buffer) {
                Ok(0) => return Read::Ended(None),
                Ok(count) => return Read::Octets(count),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::WouldBlock {
                let mut context = Context::from_waker(&self.on_readable);
                match self.stream.poll_read_ready(&mut context) {
                    Poll::Pending => return Read::Blocked,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Read::Ended(Some(error)),
                }
            } else if error.kind() != ErrorKind::Interrupted {
                return Read::Ended(Some(error));
            }
        }
    }

    /// Whether the peer's end of the connection is closed, or the connection broken, though what
    /// came before that may not all have been read.
    pub(super) fn was_ended_by_peer(&self) -> bool {
        let ready = pin!(self.stream.ready(Interest::READABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// Writes what is left over and what `next` gives.
    pub(super) fn write(&mut self, mut next: impl FnMut() -> Option<Bytes>) -> Write {
        let mut written = 0;
        loop {
            self.refill(&mut next);
            if self.unsent.is_empty() {
                return Write::Done;
            }
            if written >= WRITE_TURN {
                return Write::TurnOver;
            }
            let error = match self.write_once() {
                Ok(count) => {
                    written += count;
                    continue;
                }
                Err(error) => error,
            };
            if error.kind() == ErrorKind::WouldBlock {
                let mut context = Context::from_waker(&self.on_writable);
                match self.stream.poll_write_ready(&mut context) {
                    Poll::Pending => return Write::Blocked,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Write::Failed(error),
                }
            } else if error.kind() != ErrorKind::Interrupted {
                return Write::Failed(error);
            }
        }
    }

    fn refill(&mut self, next: &mut impl FnMut() -> Option<Bytes>) {
        let mut held: usize = self.unsent.iter().map(Bytes::len).sum();
        while held < UNSENT_MAX
            && let Some(bytes) = next()
        {
            held += bytes.len();
            self.unsent.push_back(bytes);
        }
    }

    fn write_once(&mut self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); GATHER];
        let count = self.unsent.len().min(GATHER);
        for (slice, bytes) in slices.iter_mut().zip(&self.unsent) {
            *slice = IoSlice::new(bytes);
        }
        let written = self.stream.try_write_vectored(&slices[..count])?;
        let mut left = written;
        while let Some(first) = self.unsent.front_mut() {
            if first.len() > left {
                first.advance(left);
                break;
            }
            left -= first.len();
            self.unsent.pop_front();
        }
        Ok(written)
    }

    /// Sends the last words and closes. What still arrives is read and thrown away: closing with
    /// unread input would reset the connection, and the peer would lose the NOTIFICATION.
    pub(super) async fn close(mut self, last_words: Vec<Bytes>) {
        self.unsent.extend(last_words);
        let farewell = async {
            for bytes in &self.unsent {
                self.stream.write_all(bytes).await?;
            }
            self.stream.shutdown().await?;
            let mut ignored = [0; 4096];
            while self.stream.read(&mut ignored).await? > 0 {}
            io::Result::Ok(())
        };
        // A peer that does not listen any more does not get to know.
        let _ = tokio::time::timeout(LAST_WORDS, farewell).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::net::signal::Signal;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Both ends of a connection over the loopback interface.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (dialled, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_blocked_socket_takes_little_from_the_speaker_and_rings_when_it_can_take_more() {
        let (ours, mut theirs) = pair().await;
        let (bell, mut signals) = mpsc::unbounded_channel();
        let mut connection = Connection::new(ConnId(1), ours, &bell);
        let (mut taken, mut written_turns) = (0, 0);
        let mut next = || {
            taken += 4096;
            Some(Bytes::from_static(&[7; 4096]))
        };
        loop {
            match connection.write(&mut next) {
                Write::TurnOver => written_turns += 1,
                Write::Blocked => break,
                other @ (Write::Done | Write::Failed(_)) => {
                    panic!("{other:?} from a peer that does not read")
                }
            }
        }
        let held: usize = connection.unsent.iter().map(Bytes::len).sum();
        assert!(held <= UNSENT_MAX + 4096, "{held} octets are held");
        assert!(taken - held >= written_turns * WRITE_TURN);

        let mut drained = vec![0; taken - held];
        theirs.read_exact(&mut drained).await.unwrap();
        assert!(drained.iter().all(|octet| *octet == 7));
        let signal = tokio::time::timeout(LIMIT, signals.recv()).await.unwrap().unwrap();
        assert!(matches!(signal, Signal::Ready(Ready::Write(ConnId(1)))));
        assert!(matches!(connection.write(|| None), Write::Done));
        let mut rest = vec![0; held];
        theirs.read_exact(&mut rest).await.unwrap();
    }

    #[tokio::test]
    async fn reading_rings_when_bytes_come_and_tells_the_end() {
        let (ours, mut theirs) = pair().await;
        let (bell, mut signals) = mpsc::unbounded_channel();
        let mut connection = Connection::new(ConnId(1), ours, &bell);
        let mut buffer = [0; 16];
        assert!(matches!(connection.read(&mut buffer), Read::Blocked));
        theirs.write_all(b"abc").await.unwrap();
        let signal = tokio::time::timeout(LIMIT, signals.recv()).await.unwrap().unwrap();
        assert!(matches!(signal, Signal::Ready(Ready::Read(ConnId(1)))));
        assert!(matches!(connection.read(&mut buffer), Read::Octets(3)));
        assert!(matches!(connection.read(&mut buffer), Read::Blocked));
        drop(theirs);
        tokio::time::timeout(LIMIT, signals.recv()).await.unwrap().unwrap();
        assert!(matches!(connection.read(&mut buffer), Read::Ended(None)));
    }

    #[tokio::test]
    async fn the_end_is_seen_before_all_is_read() {
        let (ours, mut theirs) = pair().await;
        let (bell, _signals) = mpsc::unbounded_channel();
        let connection = Connection::new(ConnId(1), ours, &bell);
        theirs.write_all(&[1; 1000]).await.unwrap();
        assert!(!connection.was_ended_by_peer());
        drop(theirs);
        let seen = async {
            while !connection.was_ended_by_peer() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, seen).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_words_arrive_even_when_input_was_not_read() {
        let (ours, mut theirs) = pair().await;
        theirs.write_all(&[1; 1000]).await.unwrap();
        let (bell, _signals) = mpsc::unbounded_channel();
        let connection = Connection::new(ConnId(1), ours, &bell);
        let close = tokio::spawn(connection.close(vec![Bytes::from_static(b"bye")]));
        let mut heard = Vec::new();
        tokio::time::timeout(LIMIT, theirs.read_to_end(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, b"bye");
        drop(theirs);
        close.await.unwrap();
    }
}
