//! The answers that one server still owes, in order: the heart of a session.
//!
//! Every message that calls for an answer leaves an [`Exchange`] here, whoever sent it. Its order says what
//! becomes of the answer: the client gets it (forward), it is ours (swallow), or we give it ourselves when its
//! turn comes (fake). The queue also knows what PostgreSQL does on an error in a batch of the extended protocol:
//! everything up to the next Sync is ignored, and whatever was owed for it is dropped
//! (src/backend/tcop/postgres.c: `ignore_till_sync`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::cluster::statements::Statement;
use crate::session::errors::ClientError;
use crate::session::state::{Census, Deallocates};
use crate::wire::TxStatus;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Swallow,
    /// Nothing was sent: when its turn comes, the client gets the answer from us.
    Fake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    Close,
    Sync,
    Query,
    Function,
    /// CopyDone or CopyFail: owed nothing, but it ends a COPY whose answer has not come yet.
    CopyEnd,
}

/// What a message means for prepared statements and settings: done when its answer comes, undone if the server
/// ignored it.
#[derive(Clone, Debug, Default)]
pub enum Note {
    #[default]
    Nothing,
    /// With its ParseComplete the server has the statement.
    Prepares(Arc<Statement>),
    /// A client's name stands for a statement from here on. With `prepares`, the server has it afterwards.
    Defines(Box<Defines>),
    /// A client's name no longer stands for the statement.
    Forgets(Box<Forgets>),
    /// The server's unnamed statement becomes this version of the session's.
    Unnamed(u32),
    /// The session's unnamed statement is closed.
    ForgetsUnnamed,
    /// The server loses a statement to make room.
    Evicts(u64),
    /// The server has no longer the statement once this is done.
    Closes(u64),
    /// The last query that brings the server to its session's settings.
    Settings,
    /// A Parse of a name that is taken, which PostgreSQL refuses: the name in its error is this one.
    Taken(Box<[u8]>),
    /// A query with DEALLOCATEs in it.
    Deallocates(Deallocates),
    /// DISCARD ALL.
    Discard,
    /// Asks what of a transaction remains on its server.
    Census(Box<Census>),
    /// Asks who a user is that wants to log in.
    Lookup,
    /// LISTEN of what a client listens to, or UNLISTEN of it.
    Listens,
    /// Gives back to reset parameters what the client asked for at startup. It hears of their values.
    Restores,
    /// Ends a transaction that the pool's mode does not allow; the client gets ReadyForQuery once it is over.
    Refuses,
    /// A statement that cannot be served: the server has been sent what makes it fail, and the client gets this error in
    /// the place of the server's.
    Refused(Box<ClientError>),
}

#[derive(Clone, Debug)]
pub struct Defines {
    pub name: Box<[u8]>,
    pub statement: Arc<Statement>,
    pub prepares: bool,
}

#[derive(Clone, Debug)]
pub struct Forgets {
    pub name: Box<[u8]>,
    pub statement: Arc<Statement>,
}

#[derive(Debug)]
pub struct Exchange {
    pub what: What,
    pub order: Order,
    pub note: Note,
}

impl Exchange {
    /// Whether it changes what some statement name of the client's stands for.
    fn is_about_names(&self) -> bool {
        matches!(self.note, Note::Defines(_) | Note::Forgets(_) | Note::Deallocates(_))
    }

    fn is_about(&self, name: &[u8]) -> bool {
        match &self.note {
            Note::Defines(define) => *define.name == *name,
            Note::Forgets(forget) => *forget.name == *name,
            Note::Deallocates(going) => going.iter().flatten().any(|(of, _)| **of == *name),
            _ => false,
        }
    }

    pub fn new(what: What, order: Order) -> Exchange {
        Exchange { what, order, note: Note::Nothing }
    }

    pub fn noting(what: What, order: Order, note: Note) -> Exchange {
        Exchange { what, order, note }
    }
}

/// The extended protocol's batch: from its first message to Sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Batch {
    #[default]
    Closed,
    Open,
    /// The server ignores everything up to the next Sync, which it has not been sent yet.
    Skipping,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copying {
    #[default]
    No,
    /// The server reads CopyData; nothing of it has been sent yet.
    Begun,
    /// The server reads CopyData; it has some.
    In,
    /// Both sides send CopyData: streaming replication.
    Both,
}

#[derive(Debug, Default)]
pub struct Exchanges {
    queue: VecDeque<Exchange>,
    batch: Batch,
    copying: Copying,
    /// Owed answers on which it depends what a client's statement name stands for.
    names: u32,
}

/// What a message of the server means.
#[derive(Debug)]
pub enum Outcome {
    /// Part of an answer.
    Going(Order),
    /// The end of an answer.
    Done(Exchange),
    /// ReadyForQuery.
    Ready(Exchange, TxStatus),
    /// ErrorResponse: forward it if anybody is owed an answer at its place. What the server ignores because of
    /// it is returned, in order, to be undone.
    Failed { order: Order, dropped: Vec<Exchange> },
    /// An error that answers nothing: the server is about to close.
    Unsolicited,
}

/// A message that does not answer what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfSync {
    pub tag: u8,
    pub expected: Option<What>,
}

impl Exchanges {
    /// Nothing is owed, no batch and no COPY is open.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.batch == Batch::Closed && self.copying == Copying::No
    }

    /// Nothing is owed: if the server does nothing, it waits for us.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The last message that was sent is an Execute that is still owed its answer.
    pub fn ends_with_execute(&self) -> bool {
        self.queue.back().is_some_and(|exchange| exchange.what == What::Execute)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Exchange> {
        self.queue.iter()
    }

    /// A Sync must follow before the server can be given to somebody else.
    pub fn needs_sync(&self) -> bool {
        self.batch != Batch::Closed
    }

    pub fn is_skipping(&self) -> bool {
        self.batch == Batch::Skipping
    }

    pub fn copying(&self) -> Copying {
        self.copying
    }

    /// Whether rows and COPY data at this point go to the client as they are.
    #[inline]
    pub fn forwards_rows(&self) -> bool {
        matches!(
            self.queue.front(),
            Some(Exchange { what: What::Execute | What::Query, order: Order::Forward, .. })
        )
    }

    /// Whether the description of rows, too, means nothing but itself.
    #[inline]
    pub fn forwards_description(&self) -> bool {
        matches!(self.queue.front(), Some(Exchange { what: What::Query, order: Order::Forward, .. }))
    }

    /// Whether a DISCARD ALL of ours has no answer yet.
    pub fn is_resetting(&self) -> bool {
        self.queue.iter().any(|exchange| matches!(exchange.note, Note::Discard))
    }

    /// Whether everything owed is ours: whatever the server says is not for the client.
    pub fn front_order(&self) -> Option<Order> {
        self.queue.front().map(|exchange| exchange.order)
    }

    pub fn front_note(&self) -> Option<&Note> {
        self.queue.front().map(|exchange| &exchange.note)
    }

    /// What the DEALLOCATE which is complete now has taken away.
    pub fn deallocated(&mut self) -> Option<(Box<[u8]>, Arc<Statement>)> {
        match &mut self.queue.front_mut()?.note {
            Note::Deallocates(names) => names.pop_front()?,
            _ => None,
        }
    }

    /// What the client is to be told if the next answer is an error.
    pub fn refusal(&self) -> Option<&ClientError> {
        match self.front_note()? {
            Note::Refused(error) => Some(error),
            _ => None,
        }
    }

    /// Records a message. It comes back if the server will ignore it (or, faked, if it would have).
    pub fn push(&mut self, exchange: Exchange) -> Option<Exchange> {
        match exchange.what {
            What::CopyEnd => return self.push_copy_end(exchange),
            What::Sync if matches!(self.copying, Copying::Begun | Copying::In) => return Some(exchange),
            What::Sync => self.batch = Batch::Closed,
            _ if self.batch == Batch::Skipping => return Some(exchange),
            What::Query | What::Function => {}
            _ => self.batch = Batch::Open,
        }
        self.names += u32::from(exchange.is_about_names());
        self.queue.push_back(exchange);
        None
    }

    fn push_copy_end(&mut self, exchange: Exchange) -> Option<Exchange> {
        if self.copying != Copying::No {
            self.copying = Copying::No;
            return Some(exchange);
        }
        // Without a COPY to come the server ignores it; with one, it ends that.
        if self.queue.is_empty() || self.batch == Batch::Skipping {
            return Some(exchange);
        }
        self.queue.push_back(exchange);
        None
    }

    /// CopyData goes to the server.
    pub fn copy_data(&mut self) {
        if self.copying == Copying::Begun {
            self.copying = Copying::In;
        }
    }

    /// The order of a row or of COPY data.
    pub fn row(&self, tag: u8) -> Result<Order, OutOfSync> {
        match self.queue.front() {
            Some(Exchange { what: What::Execute | What::Query, order, .. }) => Ok(*order),
            _ => Err(self.out_of_sync(tag)),
        }
    }

    /// A message of the server that belongs to an answer. `status` is the byte of ReadyForQuery.
    pub fn on_reply(&mut self, tag: u8, status: Option<TxStatus>) -> Result<Outcome, OutOfSync> {
        let Some(front) = self.queue.front() else {
            return if tag == b'E' { Ok(Outcome::Unsolicited) } else { Err(self.out_of_sync(tag)) };
        };
        let order = front.order;
        match (tag, front.what) {
            (b'D' | b'd' | b'c', What::Execute | What::Query)
            | (b'T', What::Query)
            | (b'H', What::Execute | What::Query)
            | (b'C' | b'I', What::Query)
            | (b't', What::DescribeStatement)
            | (b'V', What::Function) => Ok(Outcome::Going(order)),
            (b'1', What::Parse)
            | (b'2', What::Bind)
            | (b'3', What::Close)
            | (b'T' | b'n', What::DescribeStatement | What::DescribePortal)
            | (b'C' | b'I' | b's', What::Execute) => {
                if self.copying == Copying::Both {
                    self.copying = Copying::No;
                }
                Ok(Outcome::Done(self.pop(tag)?))
            }
            (b'G', What::Execute | What::Query) => self.copy_in(tag, order),
            (b'W', What::Execute | What::Query) => {
                self.copying = Copying::Both;
                Ok(Outcome::Going(order))
            }
            (b'Z', What::Sync | What::Query | What::Function) => {
                let status = status.ok_or_else(|| self.out_of_sync(tag))?;
                self.copying = Copying::No;
                Ok(Outcome::Ready(self.pop(tag)?, status))
            }
            (b'E', _) => Ok(self.fail()),
            _ => Err(self.out_of_sync(tag)),
        }
    }

    /// Whether it is open what a client's name stands for: a message that changes that belongs to a batch that has
    /// ended, so that what follows is done whether that message is or not.
    #[inline]
    pub fn is_open(&self, name: &[u8]) -> bool {
        if self.names == 0 {
            return false;
        }
        let ends_batch = |exchange: &Exchange| matches!(exchange.what, What::Sync | What::Query);
        let ended = self.queue.iter().rposition(ends_batch).map_or(0, |last| last + 1);
        self.queue.iter().take(ended).any(|exchange| exchange.is_about(name))
    }

    /// The next answer that we owe the client ourselves.
    pub fn next_fake(&mut self) -> Option<Exchange> {
        let fake = self.queue.pop_front_if(|exchange| exchange.order == Order::Fake)?;
        self.names -= u32::from(fake.is_about_names());
        Some(fake)
    }

    /// COPY FROM STDIN begins. What the client has already sent behind the statement is read by the COPY: Sync and
    /// Flush mean nothing there, CopyDone ends it (PostgreSQL: CopyGetData).
    fn copy_in(&mut self, tag: u8, order: Order) -> Result<Outcome, OutOfSync> {
        self.copying = Copying::Begun;
        match self.queue.get(1).map(|next| next.what) {
            Some(What::CopyEnd) => {
                self.queue.remove(1);
                self.copying = Copying::No;
            }
            // Whether the server reads this Sync as part of the COPY, or after an error, cannot be told.
            Some(What::Sync) => return Err(self.out_of_sync(tag)),
            _ => {}
        }
        Ok(Outcome::Going(order))
    }

    fn fail(&mut self) -> Outcome {
        self.copying = Copying::No;
        let mut dropped = Vec::new();
        let Some(front) = self.queue.front() else { return Outcome::Unsolicited };
        let order = front.order;
        if !matches!(front.what, What::Query | What::Function | What::Sync) {
            while let Some(exchange) = self.queue.pop_front_if(|exchange| exchange.what != What::Sync) {
                self.names -= u32::from(exchange.is_about_names());
                dropped.push(exchange);
            }
            if self.queue.is_empty() {
                self.batch = Batch::Skipping;
            }
        }
        Outcome::Failed { order, dropped }
    }

    fn pop(&mut self, tag: u8) -> Result<Exchange, OutOfSync> {
        let done = self.queue.pop_front().ok_or_else(|| self.out_of_sync(tag))?;
        self.names -= u32::from(done.is_about_names());
        // CopyDone behind a statement that was no COPY: the server ignored it.
        while self.queue.pop_front_if(|exchange| exchange.what == What::CopyEnd).is_some() {}
        Ok(done)
    }

    fn out_of_sync(&self, tag: u8) -> OutOfSync {
        OutOfSync { tag, expected: self.queue.front().map(|exchange| exchange.what) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(exchanges: &mut Exchanges, whats: &[What]) {
        for &what in whats {
            assert!(exchanges.push(Exchange::new(what, Order::Forward)).is_none(), "{what:?}");
        }
    }

    fn replies(exchanges: &mut Exchanges, tags: &[u8]) {
        for &tag in tags {
            let status = (tag == b'Z').then_some(TxStatus::Idle);
            exchanges.on_reply(tag, status).unwrap_or_else(|fault| panic!("{fault:?} at {}", tag as char));
        }
    }

    use What::*;

    #[test]
    fn a_batch() {
        let mut exchanges = Exchanges::default();
        push(&mut exchanges, &[Parse, Bind, DescribePortal, Execute]);
        replies(&mut exchanges, b"12TDDC");
        assert!(exchanges.is_empty() && !exchanges.is_quiet(), "no Sync yet");
        push(&mut exchanges, &[Sync, Query]);
        replies(&mut exchanges, b"ZTDCCIZ");
        assert!(exchanges.is_quiet());
        assert!(exchanges.on_reply(b'Z', Some(TxStatus::Idle)).is_err());
        assert!(matches!(exchanges.on_reply(b'E', None), Ok(Outcome::Unsolicited)));
    }

    #[test]
    fn errors_skip_to_sync() {
        let mut exchanges = Exchanges::default();
        push(&mut exchanges, &[Parse, Bind, Execute, Query, Sync, Parse, Sync]);
        replies(&mut exchanges, b"1");
        match exchanges.on_reply(b'E', None) {
            Ok(Outcome::Failed { dropped, .. }) => {
                assert_eq!(dropped.iter().map(|e| e.what).collect::<Vec<_>>(), [Bind, Execute, Query]);
            }
            other => panic!("{other:?}"),
        }
        replies(&mut exchanges, b"Z1Z");
        assert!(exchanges.is_quiet());
    }

    #[test]
    fn errors_before_sync_is_sent() {
        let mut exchanges = Exchanges::default();
        push(&mut exchanges, &[Parse, Bind]);
        replies(&mut exchanges, b"E");
        assert!(exchanges.is_skipping() && exchanges.is_empty());
        assert!(exchanges.push(Exchange::new(Query, Order::Forward)).is_some(), "the server ignores it");
        push(&mut exchanges, &[Sync]);
        replies(&mut exchanges, b"Z");
        assert!(exchanges.is_quiet());
    }

    #[test]
    fn an_error_of_commit_is_followed_by_ready() {
        let mut exchanges = Exchanges::default();
        push(&mut exchanges, &[Bind, Execute, Sync]);
        replies(&mut exchanges, b"2CEZ");
        assert!(exchanges.is_quiet());
    }

    #[test]
    fn copy_in() {
        let mut exchanges = Exchanges::default();
        push(&mut exchanges, &[Query]);
        replies(&mut exchanges, b"G");
        assert_eq!(exchanges.copying(), Copying::Begun);
        assert!(exchanges.push(Exchange::new(Sync, Order::Forward)).is_some(), "COPY eats it");
        exchanges.copy_data();
        assert!(exchanges.push(Exchange::new(CopyEnd, Order::Forward)).is_some());
        assert_eq!(exchanges.copying(), Copying::No);
        replies(&mut exchanges, b"CZ");
        assert!(exchanges.is_quiet());
    }

    #[test]
    fn copy_sent_blindly() {
        let mut exchanges = Exchanges::default();
        push(&mut exchanges, &[Query, CopyEnd, Query]);
        replies(&mut exchanges, b"GCZCZ");
        assert!(exchanges.is_quiet());
        push(&mut exchanges, &[Query, CopyEnd]);
        replies(&mut exchanges, b"CZ");
        assert!(exchanges.is_quiet(), "a stray CopyDone is owed nothing");
        push(&mut exchanges, &[Query, Sync]);
        assert!(exchanges.on_reply(b'G', None).is_err());
    }

    #[test]
    fn fakes_wait_for_their_turn() {
        let mut exchanges = Exchanges::default();
        exchanges.push(Exchange::new(Parse, Order::Fake));
        push(&mut exchanges, &[Bind]);
        exchanges.push(Exchange::new(Close, Order::Fake));
        push(&mut exchanges, &[Sync]);
        assert_eq!(exchanges.next_fake().map(|e| e.what), Some(Parse));
        assert!(exchanges.next_fake().is_none());
        replies(&mut exchanges, b"2");
        assert_eq!(exchanges.next_fake().map(|e| e.what), Some(Close));
        replies(&mut exchanges, b"Z");
    }
}
