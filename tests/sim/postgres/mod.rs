//! A simulated PostgreSQL server: exact in the protocol, small in SQL, deterministic, without I/O.
//!
//! Bytes and the current time come in, bytes come out. [`SimPg`] owns the backends and what they share, and carries
//! signals, notifications and locks between them. What it says is compared with a real PostgreSQL in `transcript.rs`:
//! where the two differ, this is wrong.

pub mod auth;
pub mod error;
pub mod fault;
pub mod session;
pub mod shared;

mod analyze;
mod backend;
mod command;
mod copy;
mod eval;
mod guc;
mod lexer;
mod locks;
mod outbox;
mod portal;
mod run;
mod sql;
mod startup;
mod store;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;

use backend::{Backend, Phase};
#[allow(unused_imports)]
pub use fault::{Fault, Lie};
#[allow(unused_imports)]
pub use shared::{Config, Method, Refuse};
use shared::{Shared, Signal};

use crate::frame::body;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendId(pub u32);

/// How a connection was ended by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Closed,
    Reset,
}

/// What a checker may see of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub id: BackendId,
    pub pid: i32,
    pub user: String,
    pub database: String,
    /// Byte of ReadyForQuery.
    pub status: u8,
    pub statements: Vec<String>,
    pub portals: Vec<String>,
    pub listening: Vec<String>,
    pub temporary_tables: Vec<String>,
    /// Waits for the next message, with nothing half done.
    pub is_idle: bool,
}

pub struct SimPg {
    shared: Shared,
    backends: BTreeMap<BackendId, Backend>,
    /// Slots of connections that have ended but whose process has not.
    leaving: Vec<Time>,
    rng: SeededRng,
    next_id: u32,
    /// Most clients connected at one time.
    pub peak: usize,
    /// Faults injected.
    pub faults: u64,
    /// Backends that have run since the network last asked.
    touched: BTreeSet<BackendId>,
}

impl SimPg {
    pub fn new(config: Config, seed: u64) -> SimPg {
        SimPg {
            shared: Shared::new(config),
            backends: BTreeMap::new(),
            leaving: Vec::new(),
            rng: SeededRng::new(seed ^ 0x5047),
            next_id: 0,
            peak: 0,
            faults: 0,
            touched: BTreeSet::new(),
        }
    }

    pub fn config(&mut self) -> &mut Config {
        &mut self.shared.config
    }

    /// Makes the table `id int, v text`, empty.
    pub fn create_table(&mut self, database: &str, name: &str) {
        let column = |name: &str, kind| sql::ColumnDef { name: name.into(), kind, key: false };
        let columns = vec![column("id", value::Type::Int4), column("v", value::Type::Text)];
        let table = store::Table { oid: self.shared.oid(), columns, rows: Vec::new(), view: None };
        self.shared.tables(database).insert(name.to_string(), std::rc::Rc::new(table));
    }

    /// Makes a table of one row and two columns, or of one. What happens elsewhere: PostgreSQL would wait for who uses it.
    pub fn reshape_table(&mut self, database: &str, name: &str, is_wide: bool) {
        if self.seen().iter().any(|backend| !backend.portals.is_empty()) {
            return;
        }
        let column = |name: &str, kind| sql::ColumnDef { name: name.into(), kind, key: false };
        let mut columns = vec![column("id", value::Type::Int4)];
        let mut row = vec![value::Value::Int(1)];
        if is_wide {
            columns.push(column("v", value::Type::Text));
            row.push(value::Value::Text("wide".into()));
        }
        let table = store::Table { oid: self.shared.oid(), columns, rows: vec![(0, row)], view: None };
        self.shared.tables(database).insert(name.to_string(), std::rc::Rc::new(table));
    }

    /// A new connection.
    pub fn accept(&mut self) -> BackendId {
        self.next_id += 1;
        let id = BackendId(self.next_id);
        let pid = 1000 + self.next_id as i32;
        self.backends.insert(id, Backend::new(pid, SeededRng::new(self.rng.next_u64())));
        id
    }

    pub fn on_bytes(&mut self, id: BackendId, bytes: &[u8], now: Time) {
        if let Some(backend) = self.backends.get_mut(&id) {
            backend.input.extend(bytes);
        }
        self.run(id, now);
    }

    /// The client has sent its last byte.
    pub fn on_eof(&mut self, id: BackendId, now: Time) {
        if let Some(backend) = self.backends.get_mut(&id) {
            backend.eof = true;
        }
        self.run(id, now);
    }

    /// The connection is broken. The backend notices when it next reads or writes.
    pub fn on_reset(&mut self, id: BackendId, now: Time) {
        if let Some(backend) = self.backends.get_mut(&id) {
            let blocked = backend.out.is_blocked();
            backend.eof = true;
            backend.out.drop_all();
            if blocked {
                backend.phase = Phase::Closed;
            }
        }
        self.run(id, now);
    }

    /// What the network may send now. While it is not empty the backend does nothing else.
    pub fn output(&self, id: BackendId) -> &[u8] {
        self.backends.get(&id).map_or(&[], |backend| backend.out.wire())
    }

    /// `count` bytes of [`SimPg::output`] were sent; the backend goes on when all were.
    pub fn sent(&mut self, id: BackendId, count: usize, now: Time) {
        if let Some(backend) = self.backends.get_mut(&id) {
            backend.out.sent(count);
        }
        self.run(id, now);
    }

    /// All output there is, as over a network without limits.
    pub fn take_output(&mut self, id: BackendId, now: Time) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = self.output(id).to_vec();
            if bytes.is_empty() {
                return all;
            }
            self.sent(id, bytes.len(), now);
            all.extend(bytes);
        }
    }

    /// The server has ended the connection and all of its bytes are sent.
    pub fn closed(&self, id: BackendId) -> Option<Ended> {
        let backend = self.backends.get(&id)?;
        let ended = backend.is_closed() && !backend.out.is_blocked();
        ended.then_some(if backend.reset { Ended::Reset } else { Ended::Closed })
    }

    /// The backend has agreed to encrypt: from the next byte on.
    pub fn take_sealing(&mut self, id: BackendId) -> bool {
        self.backends.get_mut(&id).is_some_and(|backend| std::mem::take(&mut backend.sealing))
    }

    /// Whether the backend would take bytes from its socket now.
    pub fn is_reading(&self, id: BackendId) -> bool {
        self.backends.get(&id).is_some_and(Backend::is_reading)
    }

    /// The network has ended the connection too: nothing of it is needed any more.
    pub fn forget(&mut self, id: BackendId) {
        if self.backends.get(&id).is_some_and(Backend::is_closed) {
            self.backends.remove(&id);
        }
    }

    /// Backends that may have output, or read again, since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<BackendId> {
        std::mem::take(&mut self.touched)
    }

    /// When [`SimPg::on_time`] has something to do.
    pub fn next_time(&self) -> Time {
        self.backends.values().map(Backend::next_time).min().unwrap_or(Time::NEVER)
    }

    pub fn on_time(&mut self, now: Time) {
        let due: Vec<_> =
            self.backends.iter().filter(|(_, b)| b.next_time() <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.run(id, now);
        }
    }

    pub fn inject(&mut self, id: BackendId, fault: Fault, now: Time) {
        let Some(backend) = self.backends.get_mut(&id) else { return };
        self.faults += 1;
        match fault {
            Fault::DieAfterOutput { bytes, reset } => {
                backend.reset = reset;
                backend.out.cut_after(bytes);
            }
            Fault::DieNow { reset } => {
                backend.reset = reset;
                backend.out.drop_all();
                backend.phase = Phase::Closed;
            }
            Fault::DieAtStatement { statements, reset } => backend.die_at = Some((statements, reset)),
            Fault::Lie(lie) => backend.lie(lie),
            Fault::Silent => backend.silent = true,
            Fault::SlowNext(time) => backend.slow = Some(time),
            Fault::Terminate => backend.terminate = true,
            Fault::Notice(text) => {
                let notice = error::PgError::new(error::Severity::Notice, "00000", text);
                backend.asides.push((b'N', notice.body()));
            }
            Fault::Parameter(name, value) => {
                backend.asides.push((b'S', body().text(&name).text(&value).0));
            }
        }
        self.run(id, now);
    }

    /// Every backend dies at once, as at a crash or an immediate shutdown.
    pub fn crash(&mut self, now: Time) {
        for id in self.backends.keys().copied().collect::<Vec<_>>() {
            self.inject(id, Fault::DieNow { reset: false }, now);
        }
    }

    /// Clients that hold a slot.
    pub fn connected(&self, now: Time) -> usize {
        let live = self.backends.values().filter(|b| b.is_client && !b.is_closed()).count();
        live + self.leaving.iter().filter(|until| **until > now).count()
    }

    /// A living, reading backend of a client.
    pub fn is_client(&self, id: BackendId) -> bool {
        self.backends.get(&id).is_some_and(|b| b.is_client && !b.is_closed() && !b.silent)
    }

    pub fn is_silent(&self, id: BackendId) -> bool {
        self.backends.get(&id).is_some_and(|backend| backend.silent)
    }

    /// All backends that have logged in and have not ended.
    pub fn seen(&self) -> Vec<Seen> {
        let open = self.backends.iter().filter(|(_, backend)| !backend.is_closed());
        open.filter_map(|(id, backend)| {
            let session = backend.session.as_ref()?;
            Some(Seen {
                id: *id,
                pid: backend.pid,
                user: session.user.clone(),
                database: session.database.clone(),
                status: session.status(),
                statements: session.statements.keys().cloned().collect(),
                portals: session.portals.keys().cloned().collect(),
                listening: session.listening.iter().cloned().collect(),
                temporary_tables: session.temporary.keys().cloned().collect(),
                is_idle: backend.task.is_none()
                    && backend.pending_input() == 0
                    && backend.out.held_len() == 0,
            })
        })
        .collect()
    }

    /// The value of a setting in a backend's session.
    pub fn setting(&self, id: BackendId, name: &str) -> Option<String> {
        self.backends.get(&id)?.session.as_ref()?.gucs.value(name).map(str::to_string)
    }

    pub fn by_pid(&self, pid: i32) -> Option<BackendId> {
        self.backends.iter().find(|(_, backend)| backend.pid == pid).map(|(id, _)| *id)
    }

    /// Advisory locks held; 0 at rest.
    pub fn locks_held(&self) -> usize {
        self.shared.locks.held()
    }

    /// Statements that began to execute since the last call.
    pub fn take_executed(&mut self) -> Vec<shared::Executed> {
        std::mem::take(&mut self.shared.executed)
    }

    /// Statements that a cancel request or pg_cancel_backend has ended, by pid and text.
    pub fn take_cancelled(&mut self) -> Vec<(i32, String)> {
        std::mem::take(&mut self.shared.cancelled)
    }

    fn run(&mut self, id: BackendId, now: Time) {
        self.run_one(id, now);
        self.settle(now);
    }

    fn run_one(&mut self, id: BackendId, now: Time) {
        self.touched.insert(id);
        let live = self.connected(now);
        let Some(backend) = self.backends.get_mut(&id) else { return };
        let was_closed = backend.is_closed() && backend.session.is_none();
        let cancel = backend.run(&mut self.shared, now, live);
        if backend.is_closed() && !was_closed {
            if let Some(mut session) = backend.session.take() {
                session.end(&mut self.shared);
            }
            if backend.is_client && self.shared.config.exit > Duration::ZERO {
                self.leaving.retain(|until| *until > now);
                self.leaving.push(now + self.shared.config.exit);
            }
        }
        if let Some((pid, secret)) = cancel {
            let target = self.backends.values_mut().find(|b| b.pid == pid && !b.secret.is_empty());
            if target.is_some_and(|target| target.secret == secret) {
                self.shared.signals.push((pid, Signal::Cancel));
            }
        }
        self.peak = self.peak.max(self.connected(now));
    }

    /// Carries signals, notifications and freed locks to other backends until nothing moves.
    fn settle(&mut self, now: Time) {
        loop {
            let mut woken = Vec::new();
            for (pid, signal) in std::mem::take(&mut self.shared.signals) {
                if let Some((id, backend)) = self.backends.iter_mut().find(|(_, b)| b.pid == pid) {
                    match signal {
                        Signal::Cancel => backend.cancel = true,
                        Signal::Terminate => backend.terminate = true,
                    }
                    woken.push(*id);
                }
            }
            for (database, sender, channel, payload) in std::mem::take(&mut self.shared.notifications) {
                for (id, backend) in &mut self.backends {
                    let listens = backend.session.as_ref().is_some_and(|s| {
                        s.pid != sender && s.database == database && s.listening.contains(&channel)
                    });
                    if listens {
                        backend.notifications.push((sender, channel.clone(), payload.clone()));
                        woken.push(*id);
                    }
                }
            }
            for (id, backend) in &self.backends {
                if let Some(backend::Wait::Lock { key, .. }) = &backend.wait
                    && let Some(session) = &backend.session
                    && self.shared.locks.is_free(&session.database, *key, backend.pid)
                {
                    woken.push(*id);
                }
            }
            if woken.is_empty() {
                return;
            }
            for id in woken {
                self.run_one(id, now);
            }
        }
    }
}
