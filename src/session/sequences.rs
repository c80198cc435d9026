//! What `currval` and `lastval` answer: a server remembers the last value of each sequence that was taken on it, by
//! `nextval` and unseen by defaults, whoever took it.
//!
//! No client is told another's. A server knows whose values it may remember. Before somebody else's statement asks for
//! one, DISCARD SEQUENCES makes it forget, or where that is too late, inside a transaction, the statement fails; and once
//! it is known that a pool's clients ask, each of its servers forgets whenever it changes hands. So inside a transaction
//! they are right; a client that asks outside of one keeps its server from then on.

use crate::session::errors::ClientError;
use crate::session::exchange::Note;
use crate::session::requests::HOME;
use crate::session::server::Server;
use crate::session::{Link, Session, send_queries};
use crate::sql::effects::Effects;
use crate::wire::TxStatus;

/// Whose sequence values a server may remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sequences {
    #[default]
    Nobodys,
    /// Of this session alone.
    Of(u64),
    Several,
}

impl<S> Server<S> {
    /// A session has the server now, and may take values.
    pub fn remembers(&mut self, session: u64) {
        self.sequences = match self.sequences {
            Sequences::Nobodys => Sequences::Of(session),
            Sequences::Of(other) if other == session => return,
            _ => Sequences::Several,
        };
    }

    /// Makes it forget, before the session that has it now uses it.
    pub(super) fn forget_sequences(&mut self, session: u64) {
        if !matches!(self.sequences, Sequences::Nobodys) && self.sequences != Sequences::Of(session) {
            send_queries(self, &["DISCARD SEQUENCES"], Note::Forgotten);
        }
        self.sequences = Sequences::Of(session);
    }
}

/// What may ask for a value.
const READS: Effects = Effects::SEQUENCE_READ.union(Effects::OPAQUE);

impl<S> Link<S> {
    /// Something with these effects is about to be prepared or run by a session: if nothing of its own has gone ahead, the
    /// server forgets in time.
    pub(super) fn expect_sequence_reads(&mut self, effects: Effects, session: u64) {
        if !effects.any(READS) {
            return;
        }
        let server = &mut self.server;
        if effects.any(Effects::SEQUENCE_READ) {
            server.pool.ask_for_sequences();
        }
        let is_fresh = server.status == TxStatus::Idle && server.cancels == 0;
        if is_fresh && !server.exchanges.needs_sync() && !server.exchanges.is_ahead() {
            server.forget_sequences(session);
        }
    }
}

impl<S> Session<S> {
    /// What `touched` has gathered is about to be run. An error if the server could answer with another client's value.
    pub(super) fn before_sequence_reads(&mut self) -> Result<(), ClientError> {
        let link = &mut self.links[HOME];
        let effects = link.touched.effects;
        if !effects.any(READS) {
            return Ok(());
        }
        self.calls_code |= effects.any(Effects::OPAQUE);
        link.expect_sequence_reads(effects, self.id);
        if !effects.any(Effects::SEQUENCE_READ) {
            return Ok(());
        }
        link.touched.effects = effects.without(Effects::SEQUENCE_READ);
        // After an error the server refuses by itself.
        if link.server.sequences != Sequences::Of(self.id) && link.server.status != TxStatus::Failed {
            return Err(ClientError::SequencesOfOthers);
        }
        if link.server.status == TxStatus::Idle && !link.server.exchanges.is_ahead() {
            self.pins |= Effects::SEQUENCE_READ;
        }
        Ok(())
    }

    /// A server comes to this session.
    pub(super) fn bring_sequences(&mut self, link: usize) {
        let server = &mut self.links[link].server;
        if self.calls_code || server.pool.asks_for_sequences() {
            server.forget_sequences(self.id);
        } else {
            server.remembers(self.id);
        }
    }

    /// A command of the client's that is complete: if it has made its server forget, it need not keep it for that.
    pub(super) fn on_discard(&mut self, at: usize, tag: &[u8]) {
        let ends = match tag {
            b"DISCARD ALL\0" => Effects::SEQUENCE_READ | Effects::CODE,
            b"DISCARD SEQUENCES\0" => Effects::SEQUENCE_READ,
            _ => return,
        };
        self.links[at].server.sequences = Sequences::Of(self.id);
        self.pins = self.pins.without(ends);
    }
}
