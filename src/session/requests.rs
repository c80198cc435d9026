//! What the client asks: its frames on their way to the server.
//!
//! Every frame is sent as it is, in the place where it was read, except where a prepared statement has another name
//! on the server. What the server lacks is sent ahead of it.

use std::sync::Arc;

use crate::base::bytes::{Bytes, Malformed};
use crate::base::limits::{
    CLIENT_STATEMENTS_MAX, EXCHANGES_MAX, GATE_BYTES_MAX, HELD_FRAME_BYTES_MAX, OWN_BYTES_MAX,
    PIPELINED_TRANSACTIONS_MAX, SMALL_MESSAGE_BYTES_MAX, UNNAMED_STATEMENT_BYTES_MAX,
};
use crate::base::sabotage::{self, Bug};
use crate::base::time::Time;
use crate::cluster::statements::{Key, NAME_PREFIX, Statement, statement_text};
use crate::config::{PoolerMode, PreparedStatements, QuerySizeLimitAction};
use crate::session::cx::Cx;
use crate::session::errors::ClientError;
use crate::session::exchange::{Copying, Defines, Exchange, Forgets, Names, Note, Order, Settles, What};
use crate::session::inbound::{Next, Passing};
use crate::session::listen::Hold;
use crate::session::server::Unnamed;
use crate::session::state::{Deallocates, Renamed};
use crate::session::statements::{ClientStatements, Named, Trust, UnnamedStatement, is_copy};
use crate::session::{Link, Session, State};
use crate::sql::effects::Effects;
use crate::sql::outline::Outline;
use crate::wire::frame::{HEADER_BYTES, Header, run_of};
use crate::wire::{TxStatus, encode};

/// A statement that fails: it is not SQL, and says in the server's log where it comes from.
const REFUSED: &[u8] = b"refused by pgdog";
/// The rest of a Parse of it.
const REFUSED_PARSE: &[u8] = b"refused by pgdog\0\0\0";

/// The server that a client's statements go to.
pub(super) const HOME: usize = 0;

/// A client with a server.
pub(super) struct Run {
    /// When the transaction, or what is owed now, began; when the last answer came.
    pub began: Time,
    pub asked: Time,
    pub answered: Time,
    gate: Gate,
    /// Transactions sent since the server was handed over.
    pipelined: u32,
    pub leaving: Leaving,
    pub hold: Hold,
}

/// Whether the client's frames may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// The server has been sent an Execute that may begin a COPY FROM STDIN. What means something else inside a
    /// COPY must not follow before it is known whether it does.
    Copy,
    /// COPY has begun, and the client had sent Syncs before it could know: the COPY eats them, unless it fails before
    /// it has read anything.
    Syncs(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client has sent Terminate, or the end of its stream: what it asked for before is still done.
    AfterAnswers,
}

/// What `query_size_limit` means for a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    No,
    Noted,
    Refused,
}

#[inline]
fn excess<S>(header: Header, cx: &Cx<'_, S>) -> Excess {
    if !matches!(header.tag, b'Q' | b'P') {
        return Excess::No;
    }
    let general = &cx.world.config.general;
    match general.query_size_limit {
        Some(limit) if u64::from(header.body) > limit => match general.query_size_limit_action {
            QuerySizeLimitAction::Warn => Excess::Noted,
            QuerySizeLimitAction::Block => Excess::Refused,
        },
        _ => Excess::No,
    }
}

fn too_long<S>(cx: &Cx<'_, S>) -> ClientError {
    ClientError::QueryTooLong { limit: cx.world.config.general.query_size_limit.unwrap_or(u64::MAX) }
}

/// What comes after a frame.
enum Flow {
    Next,
    /// More of it is needed than has arrived.
    Wait,
}

impl Run {
    pub(super) fn new(now: Time) -> Run {
        Run {
            began: now,
            asked: now,
            answered: now,
            gate: Gate::Open,
            pipelined: 0,
            leaving: Leaving::No,
            hold: Hold::No,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.gate == Gate::Copy || self.leaving != Leaving::No || self.hold != Hold::No
    }

    /// Nothing more will come from the client.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// The COPY reads: the Syncs before it are gone.
    fn open_gate(&mut self) {
        self.gate = Gate::Open;
    }
}

impl<S> Session<S> {
    /// Between transactions: a server is asked for once there is something for it to do. Until then a batch gathers
    /// here, so that half a batch keeps nobody else from a server.
    pub(super) fn on_idle_bytes(&mut self, cx: &mut Cx<'_, S>) {
        let State::Idle { peeked, .. } = self.state else { return };
        if self.client.outbox.own_bytes() >= OWN_BYTES_MAX {
            return;
        }
        let mut peeked = peeked as usize;
        loop {
            match self.client.inbound.passing {
                Passing::Nothing => {}
                // The rest of something that was of no interest.
                _ => match self.client.inbound.step() {
                    Ok(Next::Wait) | Err(_) => return self.free_sent(),
                    Ok(_) => continue,
                },
            }
            let bytes = &self.client.inbound.relay.unparsed()[peeked..];
            let header = match Header::parse(bytes) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(bad) => return self.fail(ClientError::BadMessageLength { tag: bad.tag }, cx),
            };
            if let Err(error) = check(header) {
                return self.fail(error, cx);
            }
            let whole = bytes.len() >= header.frame();
            let excess = excess(header, cx);
            match header.tag {
                b'Q' if peeked == 0 && excess == Excess::Refused => {
                    self.client.inbound.skip(header);
                    too_long(cx).write(&mut self.client.outbox);
                    self.who.errors += 1;
                    self.client.outbox.own(|buf| encode::ready(buf, TxStatus::Idle));
                }
                // It is seen to where statements go to servers.
                b'Q' | b'P' if excess == Excess::Refused || (excess == Excess::Noted && whole) => {
                    self.who.last_request = cx.now;
                    return self.ask_for_server(cx);
                }
                b'X' if peeked == 0 => {
                    self.forget_client_bytes();
                    return self.close(cx);
                }
                // Nothing is open: PostgreSQL answers Sync, and ignores Flush and what is left of a failed COPY.
                b'S' if peeked == 0 => {
                    self.client.inbound.skip(header);
                    self.client.outbox.own(|buf| encode::ready(buf, TxStatus::Idle));
                }
                b'H' | b'd' | b'c' | b'f' if peeked == 0 => self.client.inbound.skip(header),
                b'P' | b'C' if peeked == 0 && whole && self.answer_alone(header, cx) => {}
                // PostgreSQL answers it without a Sync or a Flush.
                b'P' | b'B' if whole && self.begins_copy(header, peeked) => return self.ask_for_server(cx),
                b'P' | b'B' | b'D' | b'E' | b'C' if whole => peeked += header.frame(),
                // Half a message keeps nobody from a server, as long as there is room for the whole.
                b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C'
                    if !whole && self.client.inbound.relay.has_room() =>
                {
                    break;
                }
                _ => {
                    self.who.last_request = cx.now;
                    return self.ask_for_server(cx);
                }
            }
        }
        self.free_sent();
        if !self.client.inbound.relay.has_room() {
            return self.ask_for_server(cx);
        }
        if let State::Idle { since, peeked: seen } = &mut self.state {
            *seen = peeked as u32;
            if !self.client.inbound.relay.is_empty() {
                *since = cx.now;
            }
        }
    }

    /// Whether the Parse or Bind that lies `at` bytes ahead is that of a COPY.
    fn begins_copy(&self, header: Header, at: usize) -> bool {
        let frame = &self.client.inbound.relay.unparsed()[at..at + header.frame()];
        let mut body = Bytes::new(&frame[HEADER_BYTES..]);
        // The statement's name, or the portal's.
        if body.cstr().is_err() {
            return false;
        }
        if header.tag == b'P' {
            return is_copy(body.rest());
        }
        let Ok(name) = body.cstr() else { return false };
        match self.statements.find(name) {
            Some(statement) => is_copy(&statement.key.body),
            None if name.is_empty() => self.statements.unnamed.is_copy(),
            None => self.statements.copies.iter().any(|copy| **copy == *name),
        }
    }

    /// Parse of a statement that some server has accepted before, and Close of a statement, take no server: whichever
    /// server the client meets later is seen to then. False if this frame does.
    fn answer_alone(&mut self, header: Header, cx: &mut Cx<'_, S>) -> bool {
        if self.passes_names() {
            return false;
        }
        let mut body = Bytes::new(self.client.inbound.body(header));
        let answer = if header.tag == b'P' {
            let Ok(name) = body.cstr() else { return false };
            if name.is_empty()
                || self.statements.find(name).is_some()
                || self.statements.len() >= CLIENT_STATEMENTS_MAX
            {
                return false;
            }
            let found = cx.shared.statements().find(&self.key_of(body.rest().into()));
            let Some(statement) = found.filter(|statement| statement.is_proven()) else { return false };
            self.statements.define(name, statement, Trust::Unsettled);
            encode::PARSE_COMPLETE
        } else {
            let (Ok(b'S'), Ok(name)) = (body.u8(), body.cstr()) else { return false };
            if name.is_empty() {
                return false;
            }
            self.statements.forget(name);
            encode::CLOSE_COMPLETE
        };
        self.client.inbound.skip(header);
        self.client.outbox.own(|buf| buf.extend_from_slice(answer));
        true
    }

    fn key_of(&self, body: Box<[u8]>) -> Key {
        Key {
            body,
            client_encoding: self.settings.reported("client_encoding").unwrap_or_default().into(),
            standard_conforming_strings: self.settings.reported("standard_conforming_strings")
                != Some(b"off"),
        }
    }

    pub(super) fn pump_requests(&mut self, cx: &mut Cx<'_, S>) {
        loop {
            let State::Running(run) = &mut self.state else { return };
            let server = &mut self.links[HOME].server;
            if run.is_held() || self.client.outbox.own_bytes() >= OWN_BYTES_MAX {
                return;
            }
            if server.outbox.own_bytes() >= OWN_BYTES_MAX || server.exchanges.len() >= EXCHANGES_MAX {
                return;
            }
            if self.awaits_restoring() {
                return;
            }
            let State::Running(run) = &mut self.state else { return };
            let server = &mut self.links[HOME].server;
            // Inside a COPY, or in the middle of a message, the server waits for us, not we for it.
            let between =
                self.client.inbound.passing == Passing::Nothing && server.exchanges.copying() == Copying::No;
            if run.pipelined >= PIPELINED_TRANSACTIONS_MAX && between {
                if !server.exchanges.is_empty() {
                    return;
                }
                run.pipelined = 0;
            }
            match self.client.inbound.step() {
                Ok(Next::Frame(header)) => match check(header).and_then(|()| self.on_request(header, cx)) {
                    Ok(Flow::Next) => {}
                    Ok(Flow::Wait) => return,
                    Err(error) => return self.fail(error, cx),
                },
                Ok(Next::Stretch { start, end }) => server.outbox.relay(0, start, end),
                Ok(Next::Wait) => return,
                Err(bad) => return self.fail(ClientError::BadMessageLength { tag: bad.tag }, cx),
            }
        }
    }

    /// One frame, at least its header. Frames of which more is needed stay where they are.
    fn on_request(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<Flow, ClientError> {
        let State::Running(run) = &mut self.state else { return Ok(Flow::Wait) };
        let link = &mut self.links[HOME];
        if link.server.exchanges.is_empty() {
            if link.server.status != TxStatus::Idle {
                let idle = cx.now.since(run.answered).as_micros() as u64;
                link.server.tally.idle_in_transaction_micros += idle;
            }
            run.asked = cx.now;
            link.server.request_time = cx.now;
        }
        let copying = link.server.exchanges.copying();
        match header.tag {
            b'Q' | b'P' if excess(header, cx) != Excess::No && copying == Copying::No => {
                return self.on_long_statement(header, cx);
            }
            b'Q' => return self.on_query(header, cx),
            b'P' => return self.on_parse(header, cx),
            b'B' => return self.on_bind(header, cx),
            b'D' => return self.on_describe(header, cx),
            b'C' => return self.on_close(header, cx),
            b'E' => {
                if link.copy_portals.is_empty() {
                    link.ask(Exchange::new(What::Execute, Order::Forward));
                    self.send(header);
                } else {
                    return self.on_execute(header, cx);
                }
            }
            b'S' => match (copying, run.gate) {
                (Copying::Begun, Gate::Syncs(held)) => {
                    run.gate = Gate::Syncs(held.saturating_add(1));
                    self.client.inbound.skip(header);
                }
                // COPY reads over it.
                (Copying::Begun | Copying::In, _) => self.client.inbound.skip(header),
                _ => {
                    run.pipelined += 1;
                    self.who.last_request = cx.now;
                    link.batch = link.batch.wrapping_add(1);
                    link.copy_portals.clear();
                    link.ask(Exchange::new(What::Sync, Order::Forward));
                    self.send(header);
                }
            },
            b'H' if matches!(copying, Copying::Begun | Copying::In) => self.client.inbound.skip(header),
            // Nothing is owed for it, so it must not go in part.
            b'H' => {
                if !self.hold(header, cx)? {
                    return Ok(Flow::Wait);
                }
                self.send(header);
            }
            b'F' => {
                run.pipelined += 1;
                // A function by its number: it may be any.
                link.touched.effects |= Effects::UNKNOWN_FUNCTION;
                link.ask(Exchange::new(What::Function, Order::Forward));
                self.send(header);
            }
            // Without a COPY, or one that may still come, PostgreSQL ignores these.
            b'd' | b'c' | b'f' if copying == Copying::No && link.server.exchanges.is_empty() => {
                self.client.inbound.skip(header);
            }
            b'd' => {
                run.open_gate();
                link.server.exchanges.copy_data();
                self.send_copy_data(header);
            }
            b'c' | b'f' => {
                run.open_gate();
                link.ask(Exchange::new(What::CopyEnd, Order::Forward));
                self.send(header);
            }
            b'X' => {
                self.client.inbound.skip(header);
                self.leave(cx);
            }
            tag => return Err(ClientError::UnknownMessage { tag }),
        }
        self.emit_fakes();
        Ok(Flow::Next)
    }

    fn on_query(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<Flow, ClientError> {
        if self.shares_servers() {
            let renamed = if header.frame() > GATE_BYTES_MAX {
                self.touch_again(Outline::UNKNOWN, &[], cx.now);
                None
            } else if !self.hold(header, cx)? {
                return Ok(Flow::Wait);
            } else {
                self.touch_query(header, cx.now)
            };
            if let Err(error) = self.before_sequence_reads() {
                self.client.inbound.skip(header);
                self.refuse_query(error);
                return Ok(Flow::Next);
            }
            if let Some(renamed) = renamed {
                self.client.inbound.skip(header);
                self.send_renamed_query(renamed);
                return Ok(Flow::Next);
            }
        }
        if let State::Running(run) = &mut self.state {
            run.pipelined += 1;
        }
        self.who.last_request = cx.now;
        self.statements.unnamed = UnnamedStatement::None;
        self.links[HOME].forget_unnamed(What::Query, Order::Forward);
        self.send(header);
        self.emit_fakes();
        Ok(Flow::Next)
    }

    /// A Query or Parse above `query_size_limit`. What is refused is not gathered: its rest is skipped as it arrives.
    fn on_long_statement(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<Flow, ClientError> {
        if excess(header, cx) == Excess::Refused {
            self.client.inbound.skip(header);
            self.who.last_request = cx.now;
            match header.tag {
                b'Q' => self.refuse_query(too_long(cx)),
                _ => self.refuse_in_batch(too_long(cx)),
            }
            self.emit_fakes();
            return Ok(Flow::Next);
        }
        let flow = match header.tag {
            b'Q' => self.on_query(header, cx)?,
            _ => self.on_parse(header, cx)?,
        };
        if matches!(flow, Flow::Next) {
            let who = &self.who;
            log::warn!(
                "a statement of {} bytes, above query_size_limit, from client {} of user {:?}, database {:?}",
                header.body,
                who.peer,
                who.user(),
                who.database()
            );
        }
        Ok(flow)
    }

    /// A query that names statements of the extended protocol.
    fn send_renamed_query(&mut self, renamed: Renamed) {
        let link = &mut self.links[HOME];
        // In a failed transaction the server looks at no name. With a batch open, an error of ours would make it ignore the
        // query: then it has to do with what the server has.
        if link.server.status != TxStatus::Failed && !link.server.exchanges.needs_sync() {
            for (name, _) in &renamed.uses {
                _ = link.bring(&mut self.statements, name, self.checkout, Check::Later);
            }
            if link.server.exchanges.needs_sync() {
                link.batch = link.batch.wrapping_add(1);
                link.server.outbox.own(|buf| buf.extend_from_slice(encode::SYNC));
                link.ask(Exchange::new(What::Sync, Order::Swallow));
            }
        }
        self.statements.unnamed = UnnamedStatement::None;
        let link = &mut self.links[HOME];
        link.server.outbox.own(|buf| encode::query(buf, &renamed.text));
        let uses = renamed.uses.iter().map(|(_, id)| *id).collect();
        let names = Names { deallocates: renamed.deallocates, uses };
        link.ask(Exchange::noting(What::Query, Order::Forward, Note::Names(Box::new(names))));
        link.server.unnamed = Unnamed::Nobodys;
        self.emit_fakes();
    }

    /// The client says goodbye. What it asked for before is still done, as PostgreSQL does.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_, S>) {
        let State::Running(run) = &mut self.state else { return self.close(cx) };
        // A COPY waits for data, a batch for its Sync: neither will come.
        let ends = self.links.iter().all(|link| {
            let exchanges = &link.server.exchanges;
            exchanges.is_empty() || exchanges.needs_sync() || exchanges.copying() != Copying::No
        });
        if ends || run.gate != Gate::Open {
            return self.close(cx);
        }
        run.leaving = Leaving::AfterAnswers;
    }

    fn send(&mut self, header: Header) {
        let (start, end) = self.client.inbound.send(header);
        self.links[HOME].server.outbox.relay(0, start, end);
    }

    /// CopyData comes in great numbers: as many as have arrived whole go on as one piece.
    fn send_copy_data(&mut self, header: Header) {
        let bytes = run_of(self.client.inbound.relay.unparsed(), |tag| tag == b'd');
        if bytes == 0 {
            return self.send(header);
        }
        let (start, end) = self.client.inbound.relay.advance(bytes);
        self.links[HOME].server.outbox.relay(0, start, end);
    }

    /// Whether statements keep their names on the way: the client has its server for itself, or has to see to them.
    fn passes_names(&self) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.prepared == PreparedStatements::Disabled)
    }

    /// Holds the frame at the front whole; false if it has not arrived. An error if it is too long for that.
    fn hold(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<bool, ClientError> {
        if header.frame() > HELD_FRAME_BYTES_MAX {
            return Err(ClientError::FrameTooLong { tag: header.tag, limit: HELD_FRAME_BYTES_MAX });
        }
        Ok(self.client.inbound.hold(header, cx.chunks))
    }

    fn on_parse(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<Flow, ClientError> {
        let begun = self.client.inbound.relay.unparsed();
        let long = header.frame() > UNNAMED_STATEMENT_BYTES_MAX;
        // A long unnamed statement need not be held: its name and its first words are enough.
        if long && begun.get(HEADER_BYTES) == Some(&0) && begun.len() >= 1024 {
            let is_copy = is_copy(&begun[HEADER_BYTES + 1..]);
            let version = self.statements.lose_unnamed(is_copy);
            self.set_unnamed(version);
            self.links[HOME].ask(Exchange::noting(What::Parse, Order::Forward, Note::Unnamed(version)));
            self.send(header);
            return Ok(Flow::Next);
        }
        if !self.hold(header, cx)? {
            return Ok(Flow::Wait);
        }
        let body = self.client.inbound.body(header);
        let mut bytes = Bytes::new(body);
        let name = bytes.cstr().map_err(|Malformed| ClientError::MalformedMessage { tag: b'P' })?;
        let parsed = bytes.rest();
        self.links[HOME].server.tally.parses += 1;
        if name.is_empty() {
            let text = statement_text(parsed);
            let outline = match self.mode() {
                PoolerMode::Session => Outline::default(),
                // Most drivers say the same again and again.
                _ => match self.statements.unnamed_outline(parsed, &self.settings) {
                    Some(outline) => outline,
                    None => self.outline(text),
                },
            };
            self.links[HOME].expect_sequence_reads(outline.effects, self.id);
            if let Some(renamed) = self.rename(outline, text) {
                let types = &parsed[text.len()..];
                let body = [&*renamed.text, types].concat();
                self.client.inbound.skip(header);
                self.parse_renamed(renamed, &body, outline);
                return Ok(Flow::Next);
            }
            let version = self.statements.keep_unnamed(parsed, outline, &self.settings);
            self.set_unnamed(version);
            let exchange = Exchange::noting(What::Parse, Order::Forward, Note::Unnamed(version));
            if let Some(ignored) = self.links[HOME].ask(exchange) {
                self.statements.undo(&[ignored]);
            }
            self.send(header);
        } else if self.passes_names() {
            // Which of its Binds are this statement's is not followed.
            if self.shares_servers() {
                self.links[HOME].touched.effects |= Effects::UNREADABLE;
            }
            if is_copy(parsed) {
                self.statements.copies.push(name.into());
            }
            self.links[HOME].ask(Exchange::new(What::Parse, Order::Forward));
            self.send(header);
        } else if self.links[HOME].server.exchanges.is_open(name) {
            return Ok(Flow::Wait);
        } else {
            let (name, parsed): (Box<[u8]>, Box<[u8]>) = (name.into(), parsed.into());
            self.client.inbound.skip(header);
            self.parse_named(&name, parsed, cx)?;
        }
        Ok(Flow::Next)
    }

    /// An unnamed statement that names others.
    fn parse_renamed(&mut self, renamed: Renamed, body: &[u8], outline: Outline) {
        let version = self.statements.keep_unnamed(body, outline, &self.settings);
        let link = &mut self.links[HOME];
        for (name, _) in &renamed.uses {
            _ = link.bring(&mut self.statements, name, self.checkout, Check::Later);
        }
        link.deallocating.extend(renamed.deallocates);
        self.set_unnamed(version);
        let link = &mut self.links[HOME];
        link.server.outbox.own(|buf| encode::parse(buf, b"", body));
        let ignored = link.ask(Exchange::noting(What::Parse, Order::Forward, Note::Unnamed(version)));
        self.statements.undo(ignored.as_slice());
    }

    fn parse_named(&mut self, name: &[u8], parsed: Box<[u8]>, cx: &mut Cx<'_, S>) -> Result<(), ClientError> {
        if let Some(existing) = self.statements.find(name).cloned() {
            // PostgreSQL refuses the name: let it, so that its transaction fails as it should.
            _ = self.links[HOME].bring(&mut self.statements, name, self.checkout, Check::Later);
            let server = &mut self.links[HOME].server;
            server.outbox.own(|buf| encode::parse(buf, existing.name.as_bytes(), &parsed));
            self.links[HOME].ask(Exchange::noting(What::Parse, Order::Forward, Note::Taken(name.into())));
            return Ok(());
        }
        if self.statements.len() >= CLIENT_STATEMENTS_MAX {
            self.refuse_in_batch(ClientError::TooManyStatements(CLIENT_STATEMENTS_MAX));
            return Ok(());
        }
        let key = self.key_of(parsed);
        let known = cx.shared.statements().find(&key);
        let statement = known.unwrap_or_else(|| {
            let outline = Outline::of(statement_text(&key.body), key.reading());
            cx.shared.statements().intern(key, outline)
        });
        let number = self.statements.define(name, statement.clone(), Trust::Settling(self.checkout));
        let shares_servers = self.shares_servers();
        let link = &mut self.links[HOME];
        if shares_servers {
            link.expect_sequence_reads(statement.outline.effects, self.id);
        }
        let define = Defines { name: name.into(), number, statement: statement.clone() };
        let has = link.has(statement.id);
        let note = Note::Defines(Box::new(define));
        let ignored = link.prepare(&statement, has, (name, number), Order::Forward, note);
        self.statements.undo(ignored.as_slice());
        Ok(())
    }

    fn on_bind(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<Flow, ClientError> {
        let is_alone = !self.shares_servers() && self.passes_names();
        if is_alone && self.statements.copies.is_empty() && !self.statements.unnamed.is_copy() {
            self.links[HOME].server.tally.binds += 1;
            self.links[HOME].ask(Exchange::new(What::Bind, Order::Forward));
            self.send(header);
            return Ok(Flow::Next);
        }
        // Only the two names at its head matter; the parameters may be as long as they like.
        let arrived = self.client.inbound.relay.unparsed();
        let here = &arrived[HEADER_BYTES..arrived.len().min(header.frame())];
        let (portal, name) = match bind_names(here) {
            Ok(names) => names,
            Err(Malformed) if here.len() == header.body as usize || here.len() > SMALL_MESSAGE_BYTES_MAX => {
                return Err(ClientError::MalformedMessage { tag: b'B' });
            }
            Err(Malformed) => {
                let enough = Header { tag: b'B', body: header.body.min(SMALL_MESSAGE_BYTES_MAX as u32 + 1) };
                self.hold(enough, cx)?;
                return Ok(Flow::Wait);
            }
        };
        let shares_servers = self.shares_servers();
        let link = &mut self.links[HOME];
        if link.server.exchanges.is_open(name) || (name.is_empty() && link.is_unnamed_open()) {
            return Ok(Flow::Wait);
        }
        if shares_servers && let Some(statement) = self.statements.find(name) {
            link.expect_sequence_reads(statement.outline.effects, self.id);
        }
        let brought = match name.is_empty() {
            true => Brought::Ready,
            false => link.bring(&mut self.statements, name, self.checkout, Check::First),
        };
        if brought == Brought::Wait {
            return Ok(Flow::Wait);
        }
        let found = if name.is_empty() { None } else { self.statements.named(name) };
        let copies = match found {
            Some(named) => is_copy(&named.statement.key.body),
            None if name.is_empty() => self.statements.unnamed.is_copy(),
            None => self.statements.copies.iter().any(|copy| **copy == *name),
        };
        link.server.tally.binds += 1;
        if copies {
            link.copy_portals.push(portal.into());
        }
        let Some(Named { statement, number, .. }) = found.cloned() else {
            let is_unnamed = name.is_empty();
            if shares_servers {
                self.touch_unnamed(is_unnamed, cx.now);
                if let Err(error) = self.before_sequence_reads() {
                    // The server ignores the Bind behind it.
                    self.refuse_in_batch(error);
                }
            }
            if is_unnamed {
                self.ensure_unnamed();
            }
            self.links[HOME].ask(Exchange::new(What::Bind, Order::Forward));
            self.send(header);
            return Ok(Flow::Next);
        };
        if shares_servers {
            self.touch_again(statement.outline, &statement.key.body, cx.now);
        }
        let refusal = match brought {
            Brought::Refused => Some(ClientError::PlanChanged),
            _ if shares_servers => self.before_sequence_reads().err(),
            _ => None,
        };
        if let Some(error) = refusal {
            // The server ignores the Bind behind it.
            self.refuse_in_batch(error);
        }
        let arrived = self.client.inbound.relay.unparsed();
        let (portal, name) = bind_names(&arrived[HEADER_BYTES..arrived.len().min(header.frame())])
            .map_err(|Malformed| ClientError::MalformedMessage { tag: b'B' })?;
        let link = &mut self.links[HOME];
        let old = portal.len() + name.len() + 2;
        let length = header.body as usize - old + portal.len() + statement.name.len() + 2 + 4;
        // Ahead of its bytes: a Flush that goes with it must not come between them.
        link.ask(Exchange::noting(What::Bind, Order::Forward, Note::Uses(statement.id, number)));
        link.server.outbox.own(|buf| {
            buf.push(b'B');
            buf.extend_from_slice(&(length as u32).to_be_bytes());
            encode::cstr(buf, portal);
            encode::cstr(buf, statement.name.as_bytes());
        });
        self.client.inbound.relay.advance(HEADER_BYTES + old);
        self.client.inbound.passing = match header.body as usize - old {
            0 => Passing::Nothing,
            left => Passing::Send { left: left as u32 },
        };
        Ok(Flow::Next)
    }

    fn on_describe(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<Flow, ClientError> {
        if !self.hold(header, cx)? {
            return Ok(Flow::Wait);
        }
        let body = self.client.inbound.body(header);
        let Some((&kind, name)) = body.split_first() else {
            return Err(ClientError::MalformedMessage { tag: b'D' });
        };
        let name = name.strip_suffix(&[0]).ok_or(ClientError::MalformedMessage { tag: b'D' })?;
        let link = &self.links[HOME];
        if kind == b'S'
            && (link.server.exchanges.is_open(name) || (name.is_empty() && link.is_unnamed_open()))
        {
            return Ok(Flow::Wait);
        }
        let what = if kind == b'S' { What::DescribeStatement } else { What::DescribePortal };
        if kind == b'S' {
            if name.is_empty() {
                self.ensure_unnamed();
            } else if self.statements.find(name).is_some() {
                let link = &mut self.links[HOME];
                match link.bring(&mut self.statements, name, self.checkout, Check::First) {
                    Brought::Ready => {}
                    Brought::Wait => return Ok(Flow::Wait),
                    Brought::Refused => {
                        self.client.inbound.skip(header);
                        self.refuse_in_batch(ClientError::PlanChanged);
                        return Ok(Flow::Next);
                    }
                }
                let Some(named) = self.statements.named(name) else { return Ok(Flow::Wait) };
                let statement = &named.statement;
                link.server.outbox.own(|buf| encode::describe(buf, b'S', statement.name.as_bytes()));
                link.ask(Exchange::noting(what, Order::Forward, Note::Uses(statement.id, named.number)));
                self.client.inbound.skip(header);
                return Ok(Flow::Next);
            }
        }
        self.links[HOME].ask(Exchange::new(what, Order::Forward));
        self.send(header);
        Ok(Flow::Next)
    }

    fn on_close(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<Flow, ClientError> {
        if !self.hold(header, cx)? {
            return Ok(Flow::Wait);
        }
        let body = self.client.inbound.body(header);
        let Some((&kind, name)) = body.split_first() else {
            return Err(ClientError::MalformedMessage { tag: b'C' });
        };
        let name: Box<[u8]> =
            name.strip_suffix(&[0]).ok_or(ClientError::MalformedMessage { tag: b'C' })?.into();
        let link = &mut self.links[HOME];
        if kind == b'S' && link.server.exchanges.is_open(&name) {
            return Ok(Flow::Wait);
        }
        link.server.tally.closes += 1;
        if kind == b'S' && name.is_empty() {
            self.statements.unnamed = UnnamedStatement::None;
            link.forget_unnamed(What::Close, Order::Forward);
            self.send(header);
        } else if kind == b'S' && !self.passes_names() && !self.is_of_sql(&name) {
            // The server keeps the statement: others use it too. Closing a name that stands for nothing is no error.
            let note = match self.statements.forget(&name) {
                Some(named) => Note::Forgets(Box::new(Forgets { name, named })),
                None => Note::Nothing,
            };
            let ignored = self.links[HOME].ask(Exchange::noting(What::Close, Order::Fake, note));
            self.statements.undo(ignored.as_slice());
            self.client.inbound.skip(header);
            self.emit_fakes();
        } else {
            self.statements.copies.retain(|copy| *copy != name);
            if kind == b'S' && self.shares_servers() {
                // It may be what keeps the client on this server.
                self.links[HOME].touched.effects |= Effects::PREPARED;
            }
            self.links[HOME].ask(Exchange::new(What::Close, Order::Forward));
            self.send(header);
        }
        Ok(Flow::Next)
    }

    /// Execute, while some portal belongs to a COPY.
    fn on_execute(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<Flow, ClientError> {
        if !self.hold(header, cx)? {
            return Ok(Flow::Wait);
        }
        let portal = Bytes::new(self.client.inbound.body(header)).cstr();
        let portal = portal.map_err(|Malformed| ClientError::MalformedMessage { tag: b'E' })?;
        let link = &mut self.links[HOME];
        let copies = link.copy_portals.iter().any(|copy| **copy == *portal);
        let ignored = link.ask(Exchange::new(What::Execute, Order::Forward));
        self.send(header);
        if copies && ignored.is_none() {
            self.links[HOME].server.outbox.own(|buf| buf.extend_from_slice(encode::FLUSH));
            if let State::Running(run) = &mut self.state {
                run.gate = Gate::Copy;
            }
        }
        Ok(Flow::Next)
    }

    /// The Execute before the gate has been answered, at least in part.
    pub(super) fn on_gate_answer(&mut self, tag: u8) {
        let State::Running(run) = &mut self.state else { return };
        match (run.gate, tag) {
            (Gate::Copy, b'G') => run.gate = Gate::Syncs(0),
            (Gate::Copy, b'H' | b'W' | b'C' | b'I' | b's') => run.gate = Gate::Open,
            (Gate::Copy, b'E') => run.gate = Gate::Open,
            // The COPY failed before it read anything: the Syncs behind it are answered.
            (Gate::Syncs(held), b'E') => {
                run.gate = Gate::Open;
                let link = &mut self.links[HOME];
                for _ in 0..held {
                    link.batch = link.batch.wrapping_add(1);
                    link.ask(Exchange::new(What::Sync, Order::Forward));
                    link.server.outbox.own(|buf| buf.extend_from_slice(encode::SYNC));
                }
            }
            (Gate::Syncs(_), b'C') => run.gate = Gate::Open,
            _ => {}
        }
    }

    fn set_unnamed(&mut self, version: u32) {
        let link = &mut self.links[HOME];
        link.server.unnamed = Unnamed::Of { session: self.id, version };
        link.unnamed_since = Some(link.batch);
    }

    /// Sees to it that the server's unnamed statement is this session's.
    fn ensure_unnamed(&mut self) {
        let shares_servers = self.shares_servers();
        let link = &mut self.links[HOME];
        let known = link.unnamed_since.is_none_or(|batch| batch == link.batch);
        let server = &mut link.server;
        let mine = |version| Unnamed::Of { session: self.id, version };
        match &self.statements.unnamed {
            // The server will ignore whatever it is for.
            _ if server.exchanges.is_skipping() => {}
            // No query of ours has come between.
            _ if !shares_servers => {}
            UnnamedStatement::Kept { version, .. } | UnnamedStatement::Lost { version, .. }
                if known && server.unnamed == mine(*version) => {}
            UnnamedStatement::None if known && server.unnamed == Unnamed::Nobodys => {}
            UnnamedStatement::None => {
                // Perhaps another client's: the error that there is none must be PostgreSQL's.
                server.outbox.own(|buf| encode::close(buf, b'S', b""));
                link.forget_unnamed(What::Close, Order::Swallow);
            }
            UnnamedStatement::Kept { version, body, .. } => {
                server.unnamed = mine(*version);
                server.outbox.own(|buf| encode::parse(buf, b"", body));
                link.unnamed_since = Some(link.batch);
                let note = Note::Unnamed(*version);
                link.ask(Exchange::noting(What::Parse, Order::Swallow, note));
            }
            UnnamedStatement::Lost { .. } => self.refuse_in_batch(ClientError::UnnamedStatementLost),
        }
    }

    /// A message of the extended protocol cannot be served: what the server gets in its place fails, so that it does with
    /// the rest of the batch, and with the transaction, what it always does after an error.
    /// A query whose answer is an error of ours. The server fails one too, so that its transaction is where the client
    /// believes it.
    fn refuse_query(&mut self, error: ClientError) {
        if let State::Running(run) = &mut self.state {
            run.pipelined += 1;
        }
        self.statements.unnamed = UnnamedStatement::None;
        let link = &mut self.links[HOME];
        link.server.outbox.own(|buf| encode::query(buf, REFUSED));
        link.server.unnamed = Unnamed::Nobodys;
        link.unnamed_since = Some(link.batch);
        link.ask(Exchange::noting(What::Query, Order::Forward, Note::Refused(Box::new(error))));
    }

    fn refuse_in_batch(&mut self, error: ClientError) {
        let link = &mut self.links[HOME];
        link.server.outbox.own(|buf| encode::parse(buf, b"", REFUSED_PARSE));
        link.server.unnamed = Unnamed::Nobodys;
        link.unnamed_since = Some(link.batch);
        link.ask(Exchange::noting(What::Parse, Order::Forward, Note::Refused(Box::new(error))));
    }

    /// Answers that are ours to give and whose turn has come.
    pub(super) fn emit_fakes(&mut self) {
        for link in &mut self.links {
            // A notice may come at any time: not in the middle of one.
            if matches!(link.server.inbound.passing, Passing::Send { .. }) {
                continue;
            }
            while let Some(exchange) = link.server.exchanges.next_fake() {
                let answer = match exchange.what {
                    What::Parse => encode::PARSE_COMPLETE,
                    _ => encode::CLOSE_COMPLETE,
                };
                self.client.outbox.own(|buf| buf.extend_from_slice(answer));
            }
        }
    }
}

/// When it has to be known that a server gives a statement the shape that the client counts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Before the statement is used: the client may take its results for what it was once told.
    First,
    /// Results that describe themselves.
    Later,
}

/// Whether a server can be sent what uses a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Brought {
    Ready,
    /// It has been asked what it has read, and has not said.
    Wait,
    /// It has read something else than the client counts on.
    Refused,
}

/// Whether a server has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    Yes,
    No,
    /// A Parse of an earlier batch has no answer yet.
    Perhaps,
}

impl<S> Link<S> {
    /// Records a message that goes to the server. It comes back if the server will ignore it.
    fn ask(&mut self, exchange: Exchange) -> Option<Exchange> {
        let before = self.server.exchanges.len();
        let ignored = self.server.exchanges.push(exchange);
        // A pipeline without Sync or Flush could grow for ever: what is owed is asked for.
        if before + 1 == EXCHANGES_MAX && self.server.exchanges.len() == EXCHANGES_MAX {
            self.server.outbox.own(|buf| buf.extend_from_slice(encode::FLUSH));
        }
        ignored
    }

    /// Records a message after which the server has no unnamed statement, unless the server ignores it.
    fn forget_unnamed(&mut self, what: What, order: Order) {
        let ignored = self.ask(Exchange::noting(what, order, Note::ForgetsUnnamed));
        self.server.unnamed = Unnamed::Nobodys;
        self.unnamed_since = Some(self.batch);
        self.undo(ignored.as_slice());
    }

    fn has(&mut self, id: u64) -> Has {
        // The last one counts: an earlier one may have failed, and a later one may undo it.
        match self.parsing.iter().rev().find(|(parsing, _)| *parsing == id) {
            _ if self.touched.effects.any(Effects::PREPARED) && self.is_deallocating(id) => Has::Perhaps,
            Some((_, batch)) if *batch == self.batch => Has::Yes,
            Some(_) => Has::Perhaps,
            None if self.server.prepared.is_doubtful(id) => Has::Perhaps,
            None if self.server.prepared.touch(id, self.server.request_time) => Has::Yes,
            None if self.is_evicting(id) => Has::Perhaps,
            None => Has::No,
        }
    }

    /// Whether it is open which unnamed statement the server has: a message of a batch that has ended decides it, and its
    /// answer is still to come.
    fn is_unnamed_open(&self) -> bool {
        !self.server.exchanges.is_empty() && self.unnamed_since.is_some_and(|batch| batch != self.batch)
    }

    /// Whether a DEALLOCATE of it is on its way.
    fn is_deallocating(&self, id: u64) -> bool {
        let takes = |going: &Deallocates| going.iter().flatten().any(|(_, statement)| statement.id == id);
        takes(&self.deallocating)
            || self.server.exchanges.iter().any(|exchange| match &exchange.note {
                Note::Names(names) => takes(&names.deallocates),
                _ => false,
            })
    }

    /// Whether the Close that made room for another has no answer yet: the server may ignore it.
    fn is_evicting(&self, id: u64) -> bool {
        self.server.exchanges.iter().any(|exchange| matches!(exchange.note, Note::Evicts(of) if of == id))
    }

    /// Sees to it that the server has what a name of the client's stands for, in the shape that the client may count on,
    /// ahead of what follows.
    fn bring(
        &mut self,
        statements: &mut ClientStatements,
        name: &[u8],
        checkout: u32,
        check: Check,
    ) -> Brought {
        let Some(named) = statements.named_mut(name) else { return Brought::Ready };
        if self.is_checking {
            return Brought::Wait;
        }
        let has = self.has(named.statement.id);
        match named.trust {
            Trust::Settled if has == Has::Yes => return Brought::Ready,
            // The server will ignore whatever it is for.
            _ if self.server.exchanges.is_skipping() => return Brought::Ready,
            Trust::Settling(during) if has == Has::Yes && during == checkout => return Brought::Ready,
            Trust::Outdated if check == Check::First => {
                named.trust = Trust::Unsettled;
                return Brought::Refused;
            }
            _ => {}
        }
        let note = Note::Prepares(named.statement.clone());
        self.prepare(&named.statement, has, (name, named.number), Order::Swallow, note);
        if named.trust != Trust::Settled {
            // Whatever it reads now is what the client gets.
            named.trust = Trust::Settling(checkout);
        } else if check == Check::First && !sabotage::is_on(Bug::UncheckedShape) {
            self.server.outbox.own(|buf| buf.extend_from_slice(encode::FLUSH));
            self.is_checking = true;
            return Brought::Wait;
        }
        Brought::Ready
    }

    /// Sends Parse, and asks what the server has read. Where the server may have the statement already, Close goes
    /// ahead: it never fails. Parse comes back if the server will ignore it.
    fn prepare(
        &mut self,
        statement: &Arc<Statement>,
        has: Has,
        (client_name, number): (&[u8], u32),
        order: Order,
        note: Note,
    ) -> Option<Exchange> {
        let name = statement.name.as_bytes();
        if has != Has::Yes {
            self.make_room();
        }
        if has != Has::No {
            self.server.outbox.own(|buf| encode::close(buf, b'S', name));
            let note = Note::Closes(statement.id);
            self.ask(Exchange::noting(What::Close, Order::Swallow, note));
        }
        self.server.outbox.own(|buf| encode::parse(buf, name, &statement.key.body));
        let ignored = self.ask(Exchange::noting(What::Parse, order, note));
        if ignored.is_some() {
            return ignored;
        }
        self.parsing.push((statement.id, self.batch));
        self.server.outbox.own(|buf| encode::describe(buf, b'S', name));
        let settles = Settles { statement: statement.clone(), name: client_name.into(), number };
        let note = Note::Settles(Box::new(settles));
        self.ask(Exchange::noting(What::DescribeStatement, Order::Swallow, note));
        None
    }

    /// The least used statement of a full server goes.
    fn make_room(&mut self) {
        let limit = self.server.pool.config.prepared_limit;
        let mut going = self.server.prepared.take_doubtful();
        while let Some(id) = going.pop().or_else(|| self.server.prepared.evict(limit)) {
            let name = format!("{NAME_PREFIX}{id}");
            self.server.outbox.own(|buf| encode::close(buf, b'S', name.as_bytes()));
            let exchange = Exchange::noting(What::Close, Order::Swallow, Note::Evicts(id));
            if self.ask(exchange).is_some() {
                going.into_iter().chain([id]).for_each(|id| self.server.prepared.doubt(id));
                return;
            }
        }
    }

    /// The server is made to forget what has not been used for `prepared_statements_ttl`, ahead of anything else.
    pub(super) fn expire_statements(&mut self, now: Time) {
        let Some(ttl) = self.server.prepared_ttl else { return };
        let due = self.server.prepared.expire(now, ttl);
        if due.is_empty() {
            return;
        }
        for id in due {
            let name = format!("{NAME_PREFIX}{id}");
            self.server.outbox.own(|buf| encode::close(buf, b'S', name.as_bytes()));
            self.ask(Exchange::noting(What::Close, Order::Swallow, Note::Evicts(id)));
        }
        self.server.outbox.own(|buf| buf.extend_from_slice(encode::SYNC));
        self.ask(Exchange::new(What::Sync, Order::Swallow));
        self.batch = self.batch.wrapping_add(1);
    }

    /// A Parse of this statement has been answered, or will not be.
    pub(super) fn parsed(&mut self, id: u64) {
        if let Some(at) = self.parsing.iter().position(|(parsing, _)| *parsing == id) {
            self.parsing.remove(at);
        }
    }

    /// The server has prepared it; for how long, if a Close that makes room is on its way behind?
    pub(super) fn has_prepared(&mut self, id: u64) {
        if !self.is_evicting(id) {
            self.server.prepared.insert(id, self.server.request_time);
        }
    }

    /// Undoes what the server ignored, as far as it concerns the server.
    pub(super) fn undo(&mut self, dropped: &[Exchange]) {
        for exchange in dropped {
            match &exchange.note {
                Note::Prepares(statement) => {
                    self.parsed(statement.id);
                    if sabotage::is_on(Bug::SkippedParse) {
                        self.server.prepared.insert(statement.id, self.server.request_time);
                    }
                }
                Note::Defines(define) => self.parsed(define.statement.id),
                // In which shape it has the statement, if it has it, is not known.
                Note::Settles(settle) => {
                    self.is_checking = false;
                    self.described.clear();
                    if !sabotage::is_on(Bug::SkippedParse) {
                        self.server.prepared.doubt(settle.statement.id);
                    }
                }
                Note::Evicts(id) => self.server.prepared.doubt(*id),
                // Whatever the server has now, it is not what we thought.
                Note::Unnamed(_) | Note::ForgetsUnnamed => {
                    self.server.unnamed = Unnamed::Of { session: 0, version: 0 }
                }
                _ => {}
            }
        }
    }
}

/// The portal and the statement at the head of a Bind.
fn bind_names(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut bytes = Bytes::new(body);
    Ok((bytes.cstr()?, bytes.cstr()?))
}

/// PostgreSQL's bounds on the length of a client's message, by type (SocketBackend).
fn check(header: Header) -> Result<(), ClientError> {
    let small = matches!(header.tag, b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f');
    match header.tag {
        b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' | b'Q' | b'F' | b'd' | b'c' | b'f' | b'X' => {}
        tag => return Err(ClientError::UnknownMessage { tag }),
    }
    if small && header.body as usize > SMALL_MESSAGE_BYTES_MAX {
        return Err(ClientError::BadMessageLength { tag: header.tag });
    }
    Ok(())
}
