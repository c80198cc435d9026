//! A client that speaks to pgdog itself: simple queries with commands of the console.

use crate::admin::{self, ClientRow, ServerRow};
use crate::base::limits::SMALL_MESSAGE_BYTES_MAX;
use crate::base::time::Time;
use crate::cluster::world::Replication;
use crate::session::cx::{Action, Cx};
use crate::session::errors::ClientError;
use crate::session::inbound::{Next, Passing};
use crate::session::server::{Phase, Server};
use crate::session::{Session, State};
use crate::wire::{TxStatus, encode};

/// What a console says at login: enough for psql and drivers to feel at home.
pub const PARAMETERS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("integer_datetimes", "on"),
    ("server_encoding", "UTF8"),
    ("server_version", concat!("15.0 (pgdog ", env!("CARGO_PKG_VERSION"), ")")),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Console {
    #[default]
    Listening,
    /// A command is being carried out.
    Busy,
    /// A batch of the extended protocol has been refused: everything up to its Sync is ignored.
    Refusing,
}

impl<S> Session<S> {
    pub(super) fn on_console_bytes(&mut self, cx: &mut Cx<'_, S>) {
        loop {
            let State::Console(console) = &mut self.state else { return };
            if *console == Console::Busy {
                return;
            }
            let header = match self.client.inbound.step() {
                Ok(Next::Frame(header)) => header,
                Ok(Next::Wait) => return self.free_sent(),
                Ok(Next::Stretch { .. }) => continue,
                Err(bad) => return self.fail(ClientError::BadMessageLength { tag: bad.tag }, cx),
            };
            if header.body as usize > SMALL_MESSAGE_BYTES_MAX {
                return self.fail(ClientError::BadMessageLength { tag: header.tag }, cx);
            }
            if !self.client.inbound.hold(header, cx.chunks) {
                return;
            }
            let body = self.client.inbound.body(header).to_vec();
            self.client.inbound.skip(header);
            match (header.tag, *console) {
                (b'X', _) => return self.close(cx),
                (b'S', _) => {
                    *console = Console::Listening;
                    self.client.outbox.own(|buf| encode::ready(buf, TxStatus::Idle));
                }
                (_, Console::Refusing) => {}
                (b'Q', _) => self.on_command(&body, cx),
                (b'H' | b'd' | b'c' | b'f', _) => {}
                _ => {
                    *console = Console::Refusing;
                    let text = "the console takes simple queries only".to_owned();
                    ClientError::Console { state: "0A000", text }.write(&mut self.client.outbox);
                }
            }
        }
    }

    fn on_command(&mut self, body: &[u8], cx: &mut Cx<'_, S>) {
        self.who.last_request = cx.now;
        self.who.queries += 1;
        let text = String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(body)).into_owned();
        match admin::parse(&text) {
            Ok(Some(command)) => {
                self.state = State::Console(Console::Busy);
                cx.actions.push(Action::Console(command));
            }
            Ok(None) => self.client.outbox.own(|buf| {
                buf.extend_from_slice(encode::EMPTY_QUERY_RESPONSE);
                encode::ready(buf, TxStatus::Idle);
            }),
            Err(admin::Fault(text)) => {
                self.answer_command(Err(ClientError::Console { state: "42601", text }))
            }
        }
    }

    /// A command has been carried out: the messages of its answer, up to and with CommandComplete.
    pub fn on_console(&mut self, answer: Result<Vec<u8>, ClientError>, cx: &mut Cx<'_, S>) {
        if let State::Console(console) = &mut self.state {
            *console = Console::Listening;
            self.answer_command(answer);
            self.on_console_bytes(cx);
        }
    }

    fn answer_command(&mut self, answer: Result<Vec<u8>, ClientError>) {
        match answer {
            Ok(messages) => self.client.outbox.own(|buf| buf.extend_from_slice(&messages)),
            Err(error) => error.write(&mut self.client.outbox),
        }
        self.client.outbox.own(|buf| encode::ready(buf, TxStatus::Idle));
    }

    /// This client's line in SHOW CLIENTS.
    pub fn row(&self, now: Time) -> ClientRow {
        let who = &self.who;
        let state = match &self.state {
            State::Startup { .. } | State::Auth(_) | State::Login(_) => "login",
            State::Idle { .. } | State::Skipping => "idle",
            State::Bereft => "idle in transaction",
            State::Waiting { .. } => "waiting",
            State::Running(_) if self.links.iter().all(|link| link.server.exchanges.is_empty()) => {
                if self.is_at_rest() { "idle" } else { "idle in transaction" }
            }
            State::Running(_) => "active",
            State::Console(_) => "active",
            State::Cancelling { .. } | State::Closing { .. } => "closing",
        };
        ClientRow {
            id: self.id,
            user: who.user().to_owned(),
            database: who.database().to_owned(),
            addr: who.peer.to_string(),
            port: who.peer.port(),
            state,
            connected_micros: now.since(who.connected).as_micros() as u64,
            last_request_micros: now.since(who.last_request).as_micros() as u64,
            queries: who.queries,
            transactions: who.transactions,
            wait_micros: who.wait_micros,
            query_micros: who.query_micros,
            transaction_micros: who.transaction_micros,
            received: who.received,
            sent: who.sent,
            replication: self.replication().map_or("none", Replication::as_str),
            errors: who.errors,
            application_name: text(self.settings.reported("application_name")),
            locked: self.keeps_server() && !self.links.is_empty(),
            prepared_statements: self.statements.len(),
        }
    }
}

impl<S> Server<S> {
    /// This server's line in SHOW SERVERS.
    pub fn row(&self, client_id: Option<u64>, now: Time) -> ServerRow {
        let config = &self.pool.config;
        let state = match (&self.phase, client_id) {
            (Phase::Login(_), _) => "login",
            (Phase::Sending { .. } | Phase::Cleaning { .. }, _) => "cleaning",
            (Phase::Closing { .. }, _) => "closing",
            (Phase::Listening(_), _) => "listening",
            (Phase::Ready, Some(_)) if !self.exchanges.is_empty() => "active",
            (Phase::Ready, Some(_)) if self.status != TxStatus::Idle || !self.exchanges.is_quiet() => {
                "idle in transaction"
            }
            _ => "idle",
        };
        let mut tally = self.life;
        tally += &self.tally;
        ServerRow {
            pool_id: self.pool.id,
            number: self.number,
            database: config.name.database.to_string(),
            user: config.name.user.to_string(),
            addr: config.host.to_string(),
            port: config.port,
            state,
            connected_micros: now.since(self.born).as_micros() as u64,
            request_micros: now.since(self.request_time).as_micros() as u64,
            remote_pid: self.key.pid,
            client_id,
            tally,
            prepared_statements: self.prepared.len(),
            application_name: text(self.settings.reported("application_name")),
        }
    }

    /// Between frames and with nothing to send: a parked server that has only been spoken to by its server.
    pub fn is_at_rest(&self) -> bool {
        self.inbound.passing == Passing::Nothing && self.is_settled()
    }
}

fn text(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}
