//! When something breaks: a server is lost, a client leaves, a request cannot be served, a limit of time is reached.

use crate::base::time::Time;
use crate::config::ConnectionRecovery;
use crate::session::cx::{Action, Cx, Discard};
use crate::session::errors::ClientError;
use crate::session::exchange::What;
use crate::session::inbound::{Next, Passing};
use crate::session::listen::Hold;
use crate::session::requests::{HOME, Leaving, Run};
use crate::session::state::LASTING;
use crate::session::{Session, State};
use crate::wire::frame::Header;
use crate::wire::{TxStatus, encode};

impl<S> Session<S> {
    /// The client's stream has ended. What it asked for before is still done.
    pub(super) fn on_client_closed(&mut self, cx: &mut Cx<'_, S>) {
        match &self.state {
            // Half a message will never be whole: its server cannot be used for anything else.
            State::Running(_) if self.client.inbound.passing != Passing::Nothing => self.close(cx),
            State::Running(_) => self.leave(cx),
            State::Waiting { .. } => {}
            _ => self.close(cx),
        }
    }

    /// The client's socket is dead in both directions: nobody will read an answer.
    pub fn on_client_lost(&mut self, cx: &mut Cx<'_, S>) {
        self.client.outbox.clear(cx.chunks);
        self.close(cx);
    }

    /// A server has closed, or its socket failed. It has been taken out of the session's hands already, or is about to
    /// be by the action that is pushed here.
    pub(super) fn on_server_closed(&mut self, at: usize, cx: &mut Cx<'_, S>) {
        if self.links.get(at).is_none() {
            return;
        }
        cx.actions.push(Action::Discard { link: at, why: Discard::Lost });
        let keeps = self.keeps_client();
        self.on_server_gone(at, ClientError::ServerLost { fatal: !keeps }, cx);
    }

    fn keeps_client(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.client_recovery != ConnectionRecovery::Drop)
    }

    /// Tells the client that its server has gone: it is closed with it, or every answer that it still waits for is an
    /// error. The action that takes the server away has been pushed.
    pub(super) fn on_server_gone(&mut self, at: usize, error: ClientError, cx: &mut Cx<'_, S>) {
        self.who.errors += 1;
        let inside = self.is_inside_answer();
        if inside || !self.keeps_client() || at != HOME || !matches!(self.state, State::Running(_)) {
            let said = self.links.get(at).is_some_and(|link| link.has_said_why);
            if !inside && !said {
                error.write(&mut self.client.outbox);
            }
            // The server is gone already: it must not be parted with a second time.
            self.state = State::Closing { until: cx.now + crate::base::limits::FAREWELL_TIMEOUT };
            self.forget_client_bytes();
            return cx.actions.push(Action::Close);
        }
        let ClientError::ServerLost { .. } = error else {
            self.state = State::Closing { until: cx.now + crate::base::limits::FAREWELL_TIMEOUT };
            error.write(&mut self.client.outbox);
            return cx.actions.push(Action::Close);
        };
        if matches!(&self.state, State::Running(run) if run.leaving == Leaving::AfterAnswers) {
            // It has said goodbye, and reads no more.
            self.state = State::Closing { until: cx.now + crate::base::limits::FAREWELL_TIMEOUT };
            return cx.actions.push(Action::Close);
        }
        // One error and one ReadyForQuery for each that is owed.
        let exchanges = &mut self.links[at].server.exchanges;
        let needs_sync = exchanges.needs_sync();
        let hold = if let State::Running(run) = &self.state { run.hold } else { Hold::No };
        let is_kept_back = matches!(hold, Hold::Asking | Hold::Joining(_));
        let owed = exchanges.owed_ready() + usize::from(is_kept_back);
        let mut said = self.links[at].has_said_why;
        for _ in 0..owed {
            if !std::mem::take(&mut said) {
                error.write(&mut self.client.outbox);
            }
            self.client.outbox.own(|buf| encode::ready(buf, TxStatus::Idle));
        }
        if needs_sync && !said {
            error.write(&mut self.client.outbox);
        }
        // What the client has sent already is not announced a second time.
        if needs_sync {
            self.state = State::Skipping;
            self.skip_to_sync(cx);
        } else if owed > 0 || hold == Hold::Returning {
            self.state = State::Idle { since: cx.now, peeked: 0 };
            self.on_idle_bytes(cx);
        } else {
            self.state = State::Bereft;
            self.refuse_next(cx);
        }
    }

    /// A transaction was open, and its server is gone: the client hears of it as the answer to what it asks next. Until
    /// then it waits for no answer, and must not be sent one.
    pub(super) fn refuse_next(&mut self, cx: &mut Cx<'_, S>) {
        let error = ClientError::ServerLost { fatal: false };
        while let State::Bereft = self.state {
            match self.client.inbound.step() {
                Ok(Next::Wait) => break,
                Ok(Next::Stretch { .. }) => {}
                Ok(Next::Frame(header)) => match header.tag {
                    b'H' | b'd' | b'c' | b'f' => self.client.inbound.skip(header),
                    b'X' => return self.close(cx),
                    _ => return self.fail_request(&error, cx),
                },
                Err(bad) => return self.fail(ClientError::BadMessageLength { tag: bad.tag }, cx),
            }
        }
        self.free_sent();
    }

    /// The request at the front of the client's bytes cannot be served: an error takes its answer's place.
    pub(super) fn fail_request(&mut self, error: &ClientError, cx: &mut Cx<'_, S>) {
        self.who.errors += 1;
        error.write(&mut self.client.outbox);
        let header = Header::parse(self.client.inbound.relay.unparsed());
        match header {
            Ok(Some(header)) if matches!(header.tag, b'Q' | b'F') => {
                self.client.inbound.skip(header);
                self.client.outbox.own(|buf| encode::ready(buf, TxStatus::Idle));
                self.state = State::Idle { since: cx.now, peeked: 0 };
                self.free_sent();
                self.on_idle_bytes(cx);
            }
            _ => {
                self.state = State::Skipping;
                self.skip_to_sync(cx);
            }
        }
    }

    /// Ignores the rest of a failed batch, as PostgreSQL does.
    pub(super) fn skip_to_sync(&mut self, cx: &mut Cx<'_, S>) {
        while let State::Skipping = self.state {
            match self.client.inbound.step() {
                Ok(Next::Wait) => break,
                Ok(Next::Stretch { .. }) => {}
                Ok(Next::Frame(header)) => {
                    self.client.inbound.skip(header);
                    match header.tag {
                        b'S' => {
                            self.client.outbox.own(|buf| encode::ready(buf, TxStatus::Idle));
                            self.state = State::Idle { since: cx.now, peeked: 0 };
                        }
                        b'X' => return self.close(cx),
                        _ => {}
                    }
                }
                Err(bad) => return self.fail(ClientError::BadMessageLength { tag: bad.tag }, cx),
            }
        }
        self.free_sent();
        self.on_idle_bytes(cx);
    }

    /// Gives a server up at the end of the session, or in the middle of it.
    pub(super) fn part_with(&mut self, at: usize, cx: &mut Cx<'_, S>) {
        let shares_servers = self.shares_servers();
        let replicates = self.replication().is_some();
        let link = &mut self.links[at];
        link.is_parted = true;
        let half = self.client.inbound.passing != Passing::Nothing;
        // What of it remains nobody has asked.
        let leaves = !link.touched.is_empty() || !self.pins.is_empty() || link.server.listens;
        if leaves {
            link.server.tainted_by = Some(0);
        }
        let lasting = link.touched.effects.any(LASTING) || self.pins.any(LASTING);
        let action = if lasting || replicates || (half && at == HOME) {
            // The rest of a message that it is reading will never come.
            Action::Discard { link: at, why: Discard::Forced }
        } else if link.server.is_settled() && shares_servers && !leaves {
            Action::Checkin { link: at }
        } else {
            Action::Abandon { link: at }
        };
        cx.actions.push(action);
    }

    pub(super) fn running_deadline(&self, run: &Run) -> Time {
        let Some(cluster) = &self.cluster else { return Time::NEVER };
        let timeouts = &cluster.timeouts;
        let owed = self.links.iter().any(|link| !link.server.exchanges.is_empty());
        let rests = self
            .links
            .iter()
            .all(|link| link.server.exchanges.is_quiet() && link.server.status == TxStatus::Idle);
        if let Hold::Joining(until) = run.hold {
            return until;
        }
        match (owed, rests) {
            (true, _) => run.asked.after(timeouts.query),
            (false, true) => run.answered.after(timeouts.client_idle),
            (false, false) => run.answered.after(timeouts.client_idle_in_transaction),
        }
    }

    pub(super) fn on_running_time(&mut self, cx: &mut Cx<'_, S>) {
        if matches!(&self.state, State::Running(run) if matches!(run.hold, Hold::Joining(_))) {
            return self.on_listening_time(cx);
        }
        let owed = (0..self.links.len()).find(|&at| !self.links[at].server.exchanges.is_empty());
        let Some(at) = owed else {
            let quiet = self
                .links
                .iter()
                .all(|link| link.server.exchanges.is_quiet() && link.server.status == TxStatus::Idle);
            let error = if quiet { ClientError::IdleTimeout } else { ClientError::IdleInTransactionTimeout };
            return self.fail(error, cx);
        };
        // The server goes on with the statement until it is told: closing alone would leave it running.
        cx.actions.push(Action::Cancel { link: at });
        cx.actions.push(Action::Discard { link: at, why: Discard::Forced });
        self.on_server_gone(at, ClientError::QueryTimeout { fatal: true }, cx);
    }
}

impl crate::session::exchange::Exchanges {
    /// How many ReadyForQuery the client is still owed.
    fn owed_ready(&self) -> usize {
        self.iter()
            .filter(|exchange| matches!(exchange.what, What::Sync | What::Query | What::Function))
            .filter(|exchange| exchange.order == crate::session::exchange::Order::Forward)
            .count()
    }
}
