//! Cancel requests: from a client to the session that they are for, and from there to its server.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::base::limits::CANCEL_TIMEOUT;
use crate::base::outbox::Outbox;
use crate::base::sabotage::{self, Bug};
use crate::base::time::Time;
use crate::config::TlsVerify;
use crate::io::net::Net;
use crate::io::transport::{Ends, Got, Transport};
use crate::session::server::{Phase, Readiness, ServerPool};
use crate::wire::{BackendKey, encode};
use crate::worker::lines;
use crate::worker::mail::{Asker, Mail};
use crate::worker::moves::Whereabouts;
use crate::worker::servers::Held;
use crate::worker::{Entry, Line, Worker};

/// A connection that carries one cancel request, encrypted if that of its server is.
pub(crate) struct CancelCall<S> {
    pub(crate) line: S,
    pub(crate) ready: Readiness,
    outbox: Outbox,
    stage: Stage,
    key: BackendKey,
    pool: Arc<ServerPool<S>>,
    /// The server that the request is about.
    server: u64,
    asker: Option<Asker>,
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An SSLRequest has been sent; one byte answers it.
    Asked,
    /// The handshake is under way.
    Sealing,
    /// The request is on its way.
    Sent,
}

impl<N: Net> Worker<N> {
    /// Sends a cancel request for what runs on a server. Until that has ended, the server serves nobody else.
    pub(super) fn call_cancel(&mut self, server: &mut Held<N>) {
        let tcp = self.world.config.tcp.clone();
        let token = self.table.insert(Entry::Away);
        let connected = self.net.connect(&server.address, &tcp).and_then(|mut socket| {
            self.net.register(&mut socket, token, true)?;
            Ok(Transport::plain(socket))
        });
        match connected {
            Ok(line) => {
                server.cancels += 1;
                let until = self.now + CANCEL_TIMEOUT;
                let mut call = CancelCall {
                    line,
                    ready: Readiness::CONNECTING,
                    outbox: Outbox::default(),
                    stage: Stage::Asked,
                    key: server.key.clone(),
                    pool: server.pool.clone(),
                    server: server.home.token,
                    asker: self.canceller.take(),
                    until,
                };
                // Its key is as good as a password.
                match server.socket.is_sealed() {
                    true => call.outbox.own(encode::ssl_request),
                    false => call.send(),
                }
                self.table.replace(token, Entry::Cancel(Box::new(call)));
                self.timers.arm(token, until, Time::NEVER);
            }
            Err(error) => {
                log::warn!("cannot send a cancel request: {error}");
                self.table.remove(token);
            }
        }
    }

    pub(super) fn serve_cancel(&mut self, token: u64) {
        let Some(entry @ Entry::Cancel(_)) = self.table.get_mut(token) else { return };
        let Entry::Cancel(mut call) = std::mem::replace(entry, Entry::Away) else { return };
        let is_open = self.go_on_with_cancel(&mut call);
        self.table.replace(token, Entry::Cancel(call));
        if !is_open {
            self.end_cancel(token);
        }
    }

    /// False once it has ended.
    fn go_on_with_cancel(&mut self, call: &mut CancelCall<Line<N>>) -> bool {
        loop {
            let CancelCall { line, ready, outbox, .. } = call;
            if lines::write(line, ready, outbox, &mut self.chunks, |_| None).is_err() {
                return false;
            }
            if !ready.readable {
                return true;
            }
            let mut byte = [0];
            match (line.read(&mut byte, ready.closing, &mut self.chunks), call.stage) {
                (Ok(Got::Nothing { more }), _) => ready.readable = more,
                (Ok(Got::Bytes { .. }), Stage::Asked) if byte == *b"S" => {
                    let Ok(records) = self.sealer.connect(&call.pool.config.host) else { return false };
                    line.seal(records, Ends::AtFin, &[], &[], &mut self.chunks);
                    call.stage = Stage::Sealing;
                }
                (Ok(Got::Bytes { .. }), Stage::Asked)
                    if byte == *b"N" && call.pool.config.tls == TlsVerify::Prefer =>
                {
                    call.send();
                }
                (Ok(Got::Secured(_)), Stage::Sealing) => call.send(),
                // PostgreSQL closes once it has signalled its process.
                _ => return false,
            }
        }
    }

    pub(super) fn on_cancel_time(&mut self, token: u64) {
        if matches!(self.table.get(token), Some(Entry::Cancel(call)) if call.until <= self.now) {
            self.end_cancel(token);
        }
    }

    fn end_cancel(&mut self, token: u64) {
        let Some(Entry::Cancel(mut call)) = self.table.remove(token) else { return };
        call.outbox.clear(&mut self.chunks);
        call.line.close(&mut self.chunks);
        if let Some(asker) = call.asker {
            self.common.post(asker.worker, Mail::Cancelled { token: asker.token });
        }
        match self.table.get_mut(call.server) {
            Some(Entry::Bound { session }) => {
                let session = *session;
                if let Some(Entry::Session(of)) = self.table.get_mut(session)
                    && let Some(link) = of.links.iter_mut().find(|link| link.server.home.token == call.server)
                {
                    link.server.cancels -= 1;
                    if link.server.cancels == 0 {
                        self.with_session(session, |session, cx| session.on_cancel_ended(cx));
                    }
                }
            }
            Some(Entry::Server(server)) => {
                server.cancels -= 1;
                let free = server.cancels == 0 && matches!(server.phase, Phase::Ready);
                if free && let Some(server) = self.take_server(call.server) {
                    self.checkin(server);
                }
            }
            _ => {}
        }
    }

    /// Sends the cancel requests that a session's statement can be hit by now.
    pub(super) fn release_cancels(&mut self) {
        for (token, asker) in std::mem::take(&mut self.held_cancels) {
            self.cancel_session(token, asker);
        }
    }

    /// A client asks to cancel what a session runs that began at this worker, or is here.
    pub(super) fn on_cancel(&mut self, key: BackendKey, asker: Asker) {
        let is_right = |token| match self.table.get(token) {
            Some(Entry::Session(session)) => bool::from(session.key().secret().ct_eq(&key.secret)),
            _ => false,
        };
        match self.whereabouts(key.pid) {
            Whereabouts::Here(token) if is_right(token) => self.cancel_session(token, Some(asker)),
            Whereabouts::There(worker) if !sabotage::is_on(Bug::LostTrail) => {
                self.counters.followed_cancels += 1;
                self.common.post(worker, Mail::Cancel { key, asker });
            }
            _ => self.common.post(asker.worker, Mail::Cancelled { token: asker.token }),
        }
    }

    /// Cancels what a session runs, for a client who asks for it or because time is up.
    pub(super) fn cancel_session(&mut self, token: u64, asker: Option<Asker>) {
        if matches!(self.table.get(token), Some(Entry::Session(session)) if session.is_being_prepared()) {
            // It would hit our own query.
            return self.held_cancels.push((token, asker));
        }
        self.canceller = asker;
        self.with_session(token, |session, cx| session.on_cancel(cx));
        // Nothing to cancel, or nothing that takes time.
        if let Some(asker) = self.canceller.take() {
            self.common.post(asker.worker, Mail::Cancelled { token: asker.token });
        }
    }
}

impl<S> CancelCall<S> {
    fn send(&mut self) {
        let key = &self.key;
        self.outbox.own(|buf| encode::cancel_request(buf, key));
        self.stage = Stage::Sent;
    }
}
