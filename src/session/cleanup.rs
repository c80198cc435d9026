//! A server in nobody's hands: logging in, being brought back into order after its client left, or closing.
//!
//! ```text
//!  Login ──► ready for its pool
//!  abandoned ──► Cleaning: (CopyFail) (Sync) … answers are drained … ROLLBACK, DISCARD ALL ──► ready for its pool
//!  any ──► Closing: Terminate, wait for the server's end of stream ──► gone
//! ```

use crate::auth::keys::DerivedKeys;
use crate::base::limits::{CLOSE_TIMEOUT, HELD_FRAME_BYTES_MAX};
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::cluster::settings::report;
use crate::cluster::world::OpenFailure;
use crate::config::{ConnectionRecovery, PoolerMode, TlsVerify};
use crate::session::cx::Cx;
use crate::session::discard_all;
use crate::session::exchange::{Copying, Exchange, Note, Order, Outcome, What};
use crate::session::inbound::{Next, Passing};
use crate::session::login::{Login, Step, parameter};
use crate::session::send_queries;
use crate::session::server::{Phase, Server, Unnamed};
use crate::wire::frame::Header;
use crate::wire::{TxStatus, encode};

/// What is to be done with an unbound server.
#[derive(Debug)]
pub enum Unbound {
    /// It goes on.
    Going,
    /// Encrypt its connection, then call `on_secured`.
    Seal,
    /// Run this on the helper thread, then call `on_keys`.
    Derive(crate::auth::keys::KeyJob),
    /// The login is complete.
    Opened,
    /// It is in order again.
    Clean,
    /// The login failed.
    Failed(OpenFailure),
    /// It is beyond use: close it.
    Close(Closing),
}

/// Why an unbound server is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// `connection_recovery` does not allow to bring it back into order, or it took too long.
    Forced,
    OutOfSync,
    Lost,
}

impl<S> Server<S> {
    /// The connection stands: log in, after a question for encryption if `asks_tls`.
    pub fn on_connected(&mut self, asks_tls: bool) {
        let Server { phase, pool, outbox, .. } = self;
        if let Phase::Login(login) = phase {
            login.begin(&pool.config, asks_tls && pool.config.tls != TlsVerify::Disabled, outbox);
        }
    }

    /// Its connection is encrypted from here on.
    pub fn on_secured(&mut self, peer: &Peer) {
        let Server { phase, pool, outbox, .. } = self;
        if let Phase::Login(login) = phase {
            login.on_secured(peer, &pool.config, outbox);
        }
    }

    /// Its connection has failed, for this reason.
    pub fn note_failure(&mut self, error: &std::io::Error) {
        if let Phase::Login(_) = self.phase {
            self.connect_error = Some(error.to_string());
        }
    }

    /// The client has left it in the middle of something.
    pub fn abandon(&mut self, cx: &mut Cx<'_, S>) -> Unbound {
        let config = &self.pool.config;
        let in_flight = !self.exchanges.is_empty() || self.exchanges.copying() != Copying::No;
        let allowed = match config.recovery {
            ConnectionRecovery::Recover => true,
            ConnectionRecovery::RollbackOnly => !in_flight,
            ConnectionRecovery::Drop => config.mode == PoolerMode::Session && self.is_settled(),
        };
        if !allowed || self.exchanges.copying() == Copying::Both {
            return Unbound::Close(Closing::Forced);
        }
        if config.mode == PoolerMode::Session {
            self.tainted_by = Some(0);
        }
        let of_its_client =
            |exchange: &Exchange| matches!(exchange.note, Note::Settings | Note::Census(_) | Note::Restores);
        if self.listens || self.exchanges.iter().any(of_its_client) {
            // It listens for the client that has gone, settings of that are on their way, or it is asked which of them there are: nobody else must
            // meet them.
            self.tainted_by = Some(0);
        }
        self.tally.cleaned += 1;
        self.phase = Phase::Cleaning { until: cx.now + config.rollback_timeout };
        if matches!(self.exchanges.copying(), Copying::Begun | Copying::In) {
            self.exchanges.push(Exchange::new(What::CopyEnd, Order::Swallow));
            self.outbox.own(|buf| encode::copy_fail(buf, "client disconnected"));
        }
        if self.exchanges.needs_sync() {
            self.spoil_batch();
            self.exchanges.push(Exchange::new(What::Sync, Order::Swallow));
            self.outbox.own(|buf| buf.extend_from_slice(encode::SYNC));
        }
        // Half an answer has gone to the client; the rest is of no interest.
        if let Passing::Send { left } = self.inbound.passing {
            self.inbound.passing = Passing::Skip { left };
        }
        self.on_bytes(cx)
    }

    /// Sync would commit what the client did in its unfinished batch, where PostgreSQL rolls it back when the client
    /// goes. An error makes Sync roll back.
    fn spoil_batch(&mut self) {
        self.outbox.own(|buf| encode::parse(buf, b"", b"abandoned by its client\0\0\0"));
        self.exchanges.push(Exchange::new(What::Parse, Order::Swallow));
        self.unnamed = Unnamed::Nobodys;
    }

    /// Bytes have been added to its inbound.
    pub fn on_bytes(&mut self, cx: &mut Cx<'_, S>) -> Unbound {
        if let Phase::Closing { .. } = self.phase {
            // Whatever it says, only its end matters.
            self.forget_bytes();
            return Unbound::Going;
        }
        if let Phase::Login(login) = &mut self.phase
            && login.awaits_word()
        {
            let Some((&word, rest)) = self.inbound.relay.unparsed().split_first() else {
                return Unbound::Going;
            };
            let step = login.on_word(word, !rest.is_empty(), &self.pool.config, &mut self.outbox);
            self.inbound.relay.consume(1);
            match step {
                Step::Seal => return Unbound::Seal,
                Step::Failed(failure) => return Unbound::Failed(failure),
                _ => return Unbound::Going,
            }
        }
        loop {
            let step = match self.inbound.step() {
                Ok(Next::Wait) => break,
                Ok(Next::Stretch { .. }) => continue,
                Ok(Next::Frame(header)) => self.on_frame(header, cx),
                Err(_) => Some(self.out_of_sync()),
            };
            super::server::free_sent(&mut self.inbound.relay, None);
            match step {
                Some(Unbound::Going) => {}
                Some(step) => return step,
                None => return Unbound::Going,
            }
        }
        super::server::free_sent(&mut self.inbound.relay, None);
        match self.phase {
            Phase::Cleaning { .. } => self.clean_on(),
            _ => Unbound::Going,
        }
    }

    /// PBKDF2 has been run.
    pub fn on_keys(&mut self, derived: &DerivedKeys, cx: &mut Cx<'_, S>) -> Unbound {
        let Phase::Login(login) = &mut self.phase else { return Unbound::Going };
        match login.on_keys(derived, &mut self.outbox, cx.shared) {
            Step::Failed(failure) => Unbound::Failed(failure),
            _ => Unbound::Going,
        }
    }

    /// The server has closed its side, or the socket has failed.
    pub fn on_eof(&self) -> Unbound {
        match self.phase {
            Phase::Login(_) => Unbound::Failed(OpenFailure::Closed),
            _ => Unbound::Close(Closing::Lost),
        }
    }

    pub fn on_time(&mut self, now: Time) -> Unbound {
        if self.next_time() > now {
            return Unbound::Going;
        }
        match &mut self.phase {
            Phase::Login(_) => Unbound::Failed(OpenFailure::Timeout),
            Phase::Sending { .. } | Phase::Cleaning { .. } => Unbound::Close(Closing::Forced),
            // It had its time to go by itself.
            Phase::Closing { .. } => Unbound::Close(Closing::Lost),
            Phase::Listening(ear) if ear.until.is_some_and(|until| until <= now) => {
                Unbound::Close(Closing::Forced)
            }
            Phase::Listening(ear) => {
                ear.paused = None;
                Unbound::Going
            }
            Phase::Ready => Unbound::Going,
        }
    }

    pub fn next_time(&self) -> Time {
        match &self.phase {
            Phase::Login(login) => login.deadline,
            Phase::Sending { until } | Phase::Cleaning { until } | Phase::Closing { until } => *until,
            Phase::Listening(ear) => {
                [ear.until, ear.paused].into_iter().flatten().min().unwrap_or(Time::NEVER)
            }
            Phase::Ready => Time::NEVER,
        }
    }

    /// Says goodbye. The slot is free once the server has closed: only then is its backend gone.
    pub fn say_goodbye(&mut self, now: Time) {
        let greeted = !matches!(self.phase, Phase::Login(_));
        // In the middle of a message Terminate would be read as a part of it, and could make it whole.
        let says_it = greeted && self.is_settled();
        self.phase = Phase::Closing { until: now + CLOSE_TIMEOUT };
        // A relay full of what was not understood would leave no room to read its end.
        self.forget_bytes();
        if says_it {
            self.outbox.own(|buf| buf.extend_from_slice(encode::TERMINATE));
        }
    }

    fn forget_bytes(&mut self) {
        let relay = &mut self.inbound.relay;
        relay.advance(relay.unparsed().len());
        super::server::free_sent(relay, None);
    }

    /// One frame; none if more of it must arrive first.
    fn on_frame(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Option<Unbound> {
        let needs_whole = match self.phase {
            Phase::Login(_) => true,
            Phase::Listening(_) => matches!(header.tag, b'A' | b'C' | b'Z' | b'S'),
            _ => matches!(header.tag, b'C' | b'Z' | b'S'),
        };
        if needs_whole {
            let limit = if needs_whole { Login::MESSAGE_BYTES_MAX } else { HELD_FRAME_BYTES_MAX };
            if header.frame() > limit {
                return Some(self.out_of_sync());
            }
            if !self.inbound.hold(header, cx.chunks) {
                return None;
            }
        }
        if matches!(self.phase, Phase::Login(_)) {
            return Some(self.on_login_frame(header, cx));
        }
        Some(self.on_late_frame(header))
    }

    fn on_login_frame(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Unbound {
        let Phase::Login(login) = &mut self.phase else { return Unbound::Going };
        if header.tag == b'R' {
            self.tally.auth_attempts += 1;
        }
        let body = self.inbound.body(header).to_vec();
        self.inbound.skip(header);
        let step = login.on_message(header.tag, &body, &self.pool, &mut self.outbox, cx.shared, cx.rng);
        match step {
            Step::Going => Unbound::Going,
            Step::Seal => Unbound::Seal,
            Step::Derive(job) => Unbound::Derive(job),
            Step::Failed(failure) => Unbound::Failed(failure),
            Step::Done => {
                self.base = std::mem::take(&mut login.settings);
                self.settings = self.base.clone();
                self.key = std::mem::take(&mut login.key);
                self.tally.connects += 1;
                self.tally.connect_micros += cx.now.since(self.born).as_micros() as u64;
                self.phase = Phase::Ready;
                Unbound::Opened
            }
        }
    }

    /// What comes while nobody listens: the rest of answers, and what a parked server says by itself.
    fn on_late_frame(&mut self, header: Header) -> Unbound {
        match header.tag {
            b'S' => {
                let Ok((name, value)) = parameter(self.inbound.body(header)) else {
                    return self.out_of_sync();
                };
                // A parked server's own settings have changed (pg_reload_conf): they are its new base.
                if self.exchanges.is_empty() {
                    report(&mut self.base, name, value);
                }
                report(&mut self.settings, name, value);
                self.inbound.skip(header);
                return Unbound::Going;
            }
            b'N' | b'A' => {
                if header.tag == b'A' {
                    self.on_heard(header);
                }
                self.inbound.skip(header);
                return Unbound::Going;
            }
            _ => {}
        }
        if header.tag == b'C' {
            // What it changes was thought of when its client went.
            self.on_command_complete(header);
        }
        let status = if header.tag == b'Z' { TxStatus::of_body(self.inbound.body(header)) } else { None };
        self.inbound.skip(header);
        let outcome = match header.tag {
            b'D' | b'd' => self.exchanges.row(header.tag).map(Outcome::Going),
            tag => self.exchanges.on_reply(tag, status),
        };
        match outcome {
            Ok(Outcome::Ready(_, status)) => {
                self.status = status;
                Unbound::Going
            }
            Ok(Outcome::Done(exchange)) => {
                self.on_late_done(exchange);
                Unbound::Going
            }
            Ok(Outcome::Failed { dropped, .. }) => self.on_late_failure(&dropped),
            Ok(Outcome::Going(_)) => self.on_late_copy(header.tag),
            // It says why it closes.
            Ok(Outcome::Unsolicited) => Unbound::Close(Closing::Lost),
            Err(_) => self.out_of_sync(),
        }
    }

    fn on_late_done(&mut self, exchange: Exchange) {
        match exchange.note {
            Note::Prepares(statement) => self.prepared.insert(statement.id, self.request_time),
            Note::Defines(define) => self.prepared.insert(define.statement.id, self.request_time),
            // Nobody has looked at what it has read.
            Note::Settles(settle) => self.prepared.doubt(settle.statement.id),
            Note::Closes(id) | Note::Evicts(id) => self.prepared.remove(id),
            _ => {}
        }
    }

    fn on_late_failure(&mut self, dropped: &[Exchange]) -> Unbound {
        for exchange in dropped {
            match exchange.note {
                Note::Evicts(id) => self.prepared.doubt(id),
                Note::Settles(ref settle) => self.prepared.doubt(settle.statement.id),
                Note::Unnamed(_) | Note::ForgetsUnnamed => {
                    self.unnamed = Unnamed::Of { session: 0, version: 0 };
                }
                _ => {}
            }
        }
        // Settings of ours that were refused: nobody knows now which ones it has.
        if dropped.is_empty() && self.exchanges.front_order() == Some(Order::Swallow) {
            self.tainted_by = Some(0);
        }
        if self.exchanges.needs_sync() {
            self.exchanges.push(Exchange::new(What::Sync, Order::Swallow));
            self.outbox.own(|buf| buf.extend_from_slice(encode::SYNC));
        }
        Unbound::Going
    }

    /// A COPY that began after its client left.
    fn on_late_copy(&mut self, tag: u8) -> Unbound {
        match (tag, self.exchanges.copying()) {
            (b'W', _) => Unbound::Close(Closing::Forced),
            (b'G', Copying::Begun) => {
                self.exchanges.push(Exchange::new(What::CopyEnd, Order::Swallow));
                self.outbox.own(|buf| encode::copy_fail(buf, "client disconnected"));
                Unbound::Going
            }
            _ => Unbound::Going,
        }
    }

    /// The next thing to do once everything owed has come.
    fn clean_on(&mut self) -> Unbound {
        if !self.exchanges.is_quiet() || self.inbound.is_inside_frame() {
            return Unbound::Going;
        }
        if self.status != TxStatus::Idle {
            self.tally.rollbacks += 1;
            send_queries(self, &["ROLLBACK"], Note::Nothing);
            return Unbound::Going;
        }
        // What it holds, locks above all, others may wait for.
        if self.tainted_by == Some(0) {
            discard_all(self);
            return Unbound::Going;
        }
        if !self.outbox.is_empty() {
            return Unbound::Going;
        }
        self.tally.re_synced += 1;
        self.phase = Phase::Ready;
        Unbound::Clean
    }

    fn out_of_sync(&mut self) -> Unbound {
        match self.phase {
            Phase::Login(_) => {
                Unbound::Failed(OpenFailure::Login("it does not speak PostgreSQL's protocol".into()))
            }
            _ => Unbound::Close(Closing::OutOfSync),
        }
    }
}
