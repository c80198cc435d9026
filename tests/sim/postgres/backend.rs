//! One backend: the loop of PostgreSQL's `PostgresMain`, without I/O.
//!
//! Owns the input and output of one connection and what it does at the moment. It runs until it would block: in
//! `recv` (no complete message), in `send` (flushed bytes not taken yet), in a wait (sleep, lock). Like the real
//! one it reads nothing while it executes.

use std::collections::btree_map::Entry;
use std::rc::Rc;

use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;

use super::analyze::Parameters;
use super::command::{duplicate_statement, known_types, missing_statement};
use super::error::{PgError, Severity};
use super::eval::cast;
use super::fault::Lie;
use super::outbox::Outbox;
use super::portal::{Column, Portal};
use super::run::Task;
use super::session::{Block, Prepared, Session};
use super::shared::Shared;
use super::sql;
use super::startup::{Packet, Proof, Wish};
use super::value::{Type, Value};
use crate::frame::{Frame, Reader, body};

pub enum Phase {
    Startup,
    Auth(Proof),
    Ready,
    /// The process has ended; its last bytes may still be on the wire.
    Closed,
}

/// Why a backend neither reads nor writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    Until(Time),
    Lock { key: i64, transaction: bool },
}

/// Largest messages of types that carry no data (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_BYTES_MAX: i32 = 10_000;
/// `PQ_LARGE_MESSAGE_LIMIT`
const LARGE_BYTES_MAX: i32 = 0x3fff_ffff;

pub struct Backend {
    pub pid: i32,
    pub secret: Vec<u8>,
    pub input: Vec<u8>,
    /// How much of `input` has been consumed.
    taken: usize,
    pub eof: bool,
    pub out: Outbox,
    pub phase: Phase,
    pub session: Option<Session>,
    pub rng: SeededRng,
    pub wish: Wish,
    pub ssl_asked: bool,
    /// It has said that it will encrypt.
    pub sealing: bool,
    pub gss_asked: bool,
    /// Counts against the server's limit of connections.
    pub is_client: bool,
    /// `doing_extended_query_message`
    extended: bool,
    /// `ignore_till_sync`
    ignoring: bool,
    /// `send_ready_for_query`
    pub ready: bool,
    pub task: Option<Task>,
    pub wait: Option<Wait>,
    pub cancel: bool,
    pub terminate: bool,
    /// Notifications for this backend: sender, channel, payload.
    pub notifications: Vec<(i32, String, String)>,
    /// When the statement is out of time, and when waiting for a lock is.
    pub statement_deadline: Time,
    pub lock_deadline: Time,
    idle_deadline: Time,
    pub silent: bool,
    /// The other side gets a reset instead of an end of stream.
    pub reset: bool,
    /// Statements until the connection is cut.
    pub die_at: Option<(u32, bool)>,
    pub slow: Option<std::time::Duration>,
    /// Messages to be sent when idle.
    pub asides: Vec<(u8, Vec<u8>)>,
    /// Text of the statement that runs.
    pub running: String,
    pub now: Time,
}

/// What a turn of the loop came to.
enum Turn {
    More,
    Blocked,
}

impl Backend {
    pub fn new(pid: i32, rng: SeededRng) -> Backend {
        Backend {
            pid,
            secret: Vec::new(),
            input: Vec::new(),
            taken: 0,
            eof: false,
            out: Outbox::default(),
            phase: Phase::Startup,
            session: None,
            rng,
            wish: Wish::default(),
            ssl_asked: false,
            sealing: false,
            gss_asked: false,
            is_client: false,
            extended: false,
            ignoring: false,
            ready: false,
            task: None,
            wait: None,
            cancel: false,
            terminate: false,
            notifications: Vec::new(),
            statement_deadline: Time::NEVER,
            lock_deadline: Time::NEVER,
            idle_deadline: Time::NEVER,
            silent: false,
            reset: false,
            die_at: None,
            slow: None,
            asides: Vec::new(),
            running: String::new(),
            now: Time::ZERO,
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Waits for the client and has nothing to do.
    pub fn is_reading(&self) -> bool {
        let copying = self.task.as_ref().is_none_or(Task::reads);
        !self.silent && !self.is_closed() && !self.out.is_blocked() && self.wait.is_none() && copying
    }

    pub fn close(&mut self) {
        self.out.flush();
        self.phase = Phase::Closed;
    }

    pub fn fatal(&mut self, error: PgError) {
        let fatal = PgError { severity: Severity::Fatal, ..error };
        self.put(b'E', &fatal.body());
        self.close();
    }

    /// Runs until blocked. Answers the cancel request that arrived, if one did.
    pub fn run(&mut self, shared: &mut Shared, now: Time, live: usize) -> Option<(i32, Vec<u8>)> {
        self.now = now;
        loop {
            if self.out.is_cut {
                self.phase = Phase::Closed;
            }
            if self.is_closed() || self.silent {
                return None;
            }
            if self.out.is_blocked() {
                if self.terminate && matches!(self.phase, Phase::Ready) {
                    // Blocked in send: dies without a word.
                    self.close();
                }
                return None;
            }
            match self.phase {
                Phase::Startup => match self.startup_packet(shared, live) {
                    Some(Packet::Cancel { pid, secret }) => return Some((pid, secret)),
                    Some(Packet::Other) => {}
                    None => {
                        if self.eof {
                            self.close();
                        }
                        return None;
                    }
                },
                Phase::Auth(_) => {
                    let Some(frame) = self.message() else {
                        if self.eof {
                            self.close();
                        }
                        return None;
                    };
                    if let Phase::Auth(proof) = std::mem::replace(&mut self.phase, Phase::Ready)
                        && let Err(error) = self.proof(shared, proof, &frame)
                    {
                        self.fatal(error);
                    }
                }
                Phase::Ready => {
                    let turn = self.turn(shared);
                    self.send_notices();
                    match turn {
                        Ok(Turn::More) => {}
                        Ok(Turn::Blocked) => return None,
                        Err(error) => self.failed(shared, error),
                    }
                }
                Phase::Closed => return None,
            }
        }
    }

    fn turn(&mut self, shared: &mut Shared) -> Result<Turn, PgError> {
        self.take_own_notifications();
        if self.task.is_some() {
            return self.task_turn(shared);
        }
        if std::mem::take(&mut self.ready) {
            self.ready_for_query();
            return Ok(Turn::More);
        }
        // From here on as if in `recv`: a cancel has nothing to hit.
        self.cancel = false;
        if self.terminate {
            return Err(PgError::terminated());
        }
        if let Some(frame) = self.message() {
            self.idle_deadline = Time::NEVER;
            self.handle(shared, &frame)?;
            return Ok(Turn::More);
        }
        if self.is_closed() {
            return Ok(Turn::More);
        }
        if self.eof {
            self.close();
            return Ok(Turn::More);
        }
        if self.now >= self.idle_deadline {
            return Err(match self.session().status() {
                b'I' => PgError::fatal("57P05", "terminating connection due to idle-session timeout"),
                _ => PgError::fatal("25P03", "terminating connection due to idle-in-transaction timeout"),
            });
        }
        if self.send_notifications() || self.send_asides() {
            self.out.flush();
            return Ok(Turn::More);
        }
        Ok(Turn::Blocked)
    }

    fn task_turn(&mut self, shared: &mut Shared) -> Result<Turn, PgError> {
        if self.terminate {
            return Err(PgError::terminated());
        }
        let Some(mut task) = self.task.take() else { return Ok(Turn::More) };
        if task.reads() && !self.has_message() && !self.eof {
            // Blocked in a COPY: neither cancel nor timeouts are looked at before the next message.
            self.task = Some(task);
            return Ok(Turn::Blocked);
        }
        let cancel = std::mem::take(&mut self.cancel);
        let interrupt = if cancel {
            shared.cancelled.push((self.pid, self.running.clone()));
            Some(PgError::cancelled())
        } else if self.now >= self.statement_deadline {
            Some(PgError::error("57014", "canceling statement due to statement timeout"))
        } else if matches!(self.wait, Some(Wait::Lock { .. })) && self.now >= self.lock_deadline {
            Some(PgError::error("55P03", "canceling statement due to lock timeout"))
        } else {
            None
        };
        let step = match interrupt {
            Some(error) => Err(error),
            None => match self.waited(shared) {
                false => {
                    self.task = Some(task);
                    return Ok(Turn::Blocked);
                }
                true => self.step(shared, &mut task),
            },
        };
        match step {
            Ok(true) => Ok(Turn::More),
            Ok(false) => {
                self.task = Some(task);
                Ok(Turn::More)
            }
            Err(error) => {
                self.drop_task(task);
                Err(error)
            }
        }
    }

    /// Whether the wait, if there is one, is over.
    fn waited(&mut self, shared: &mut Shared) -> bool {
        match self.wait.clone() {
            None => true,
            Some(Wait::Until(time)) => {
                if self.now >= time {
                    self.wait = None;
                }
                self.now >= time
            }
            Some(Wait::Lock { key, transaction }) => {
                let database = self.session().database.clone();
                let taken = shared.locks.acquire(&database, key, self.pid, transaction, true);
                if taken {
                    if transaction {
                        self.session().txn.locks.push(key);
                    }
                    self.wait = None;
                    self.lock_deadline = Time::NEVER;
                }
                taken
            }
        }
    }

    /// The handler of errors in `PostgresMain`.
    fn failed(&mut self, shared: &mut Shared, error: PgError) {
        self.wait = None;
        self.statement_deadline = Time::NEVER;
        self.lock_deadline = Time::NEVER;
        shared.locks.give_up(self.pid);
        self.send_notices();
        if error.severity == Severity::Fatal {
            self.fatal(error);
            return;
        }
        self.put(b'E', &error.body());
        self.out.flush();
        self.session().abort(shared);
        self.ignoring = self.extended;
        self.ready = !self.ignoring;
    }

    pub fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("a backend that is ready has a session")
    }

    /// A message of the answer, after the notices raised before it.
    pub fn put(&mut self, tag: u8, body: &[u8]) {
        self.send_notices();
        self.out.put(tag, body);
    }

    /// Notices are flushed at once, and everything before them.
    fn send_notices(&mut self) {
        let notices = self.session.as_mut().map(|session| std::mem::take(&mut session.notices));
        for notice in notices.into_iter().flatten() {
            self.out.put(b'N', &notice.body());
            self.out.flush();
        }
    }

    /// Notifications of its own transactions come before later ones of others.
    fn take_own_notifications(&mut self) {
        let own = std::mem::take(&mut self.session().own_notifications);
        let pid = self.pid;
        self.notifications.extend(own.into_iter().map(|(channel, payload)| (pid, channel, payload)));
    }

    fn send_notifications(&mut self) -> bool {
        self.take_own_notifications();
        if self.session().txn.block != Block::Default || self.notifications.is_empty() {
            return false;
        }
        for (pid, channel, payload) in std::mem::take(&mut self.notifications) {
            self.put(b'A', &body().i32(pid).text(&channel).text(&payload).0);
        }
        true
    }

    fn send_asides(&mut self) -> bool {
        let asides = std::mem::take(&mut self.asides);
        for (tag, body) in &asides {
            self.put(*tag, body);
        }
        !asides.is_empty()
    }

    fn ready_for_query(&mut self) {
        self.send_notifications();
        for (name, value) in self.session().gucs.unreported() {
            self.put(b'S', &body().text(name).text(&value).0);
        }
        let status = self.session().status();
        self.put(b'Z', &[status]);
        self.out.flush();
        let name =
            if status == b'I' { "idle_session_timeout" } else { "idle_in_transaction_session_timeout" };
        let limit = self.session().gucs.milliseconds(name).map(std::time::Duration::from_millis);
        self.idle_deadline = self.now.after(limit);
    }

    /// When [`Backend::run`] has something to do without new input.
    pub fn next_time(&self) -> Time {
        if self.is_closed() || self.silent || self.out.is_blocked() {
            return Time::NEVER;
        }
        if self.task.is_some() {
            return match &self.wait {
                Some(Wait::Until(time)) => (*time).min(self.statement_deadline),
                Some(Wait::Lock { .. }) => self.lock_deadline.min(self.statement_deadline),
                None => Time::NEVER,
            };
        }
        self.idle_deadline
    }

    fn has_message(&self) -> bool {
        let input = &self.input[self.taken..];
        match input.get(1..5) {
            Some(b) => {
                let length = i32::from_be_bytes([b[0], b[1], b[2], b[3]]);
                length < 4 || input.len() > length as usize
            }
            // A COPY looks at the type before the rest has come.
            None => input.first().is_some_and(|tag| !matches!(tag, b'd' | b'c' | b'f' | b'H' | b'S')),
        }
    }

    /// `SocketBackend` and `pq_getmessage`: a lie about the length ends the connection without a word.
    pub fn message(&mut self) -> Option<Frame> {
        let input = &self.input[self.taken..];
        let tag = *input.first()?;
        let limit = match tag {
            b'Q' | b'F' | b'B' | b'P' | b'd' => LARGE_BYTES_MAX,
            b'X' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' => SMALL_BYTES_MAX,
            b'p' if matches!(self.phase, Phase::Auth(_)) => 65_535,
            _ if matches!(self.phase, Phase::Auth(_)) => return Some(Frame { tag, body: Vec::new() }),
            _ => {
                self.fatal(PgError::protocol(format!("invalid frontend message type {tag}")));
                return None;
            }
        };
        let header = input.get(1..5)?;
        let length = i32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if length < 4 || length > limit {
            self.close();
            return None;
        }
        let end = 1 + length as usize;
        if input.len() < end {
            return None;
        }
        let frame = Frame { tag, body: input[5..end].to_vec() };
        self.taken += end;
        if self.taken == self.input.len() || self.taken > 64 << 10 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        Some(frame)
    }

    /// The type of the next message in a COPY, which is judged before the message is complete.
    pub fn peek(&self) -> Option<u8> {
        self.input.get(self.taken).copied()
    }

    pub fn pending_input(&self) -> usize {
        self.input.len() - self.taken
    }

    pub fn start_statement_clock(&mut self) {
        let limit = self.session().gucs.milliseconds("statement_timeout");
        self.statement_deadline = self.now.after(limit.map(std::time::Duration::from_millis));
    }

    fn handle(&mut self, shared: &mut Shared, frame: &Frame) -> Result<(), PgError> {
        match frame.tag {
            b'Q' | b'F' | b'd' | b'c' | b'f' => self.extended = false,
            b'X' => self.ignoring = false,
            b'S' => {
                self.ignoring = false;
                self.extended = false;
            }
            _ => self.extended = true,
        }
        if self.ignoring {
            return Ok(());
        }
        let mut reader = Reader(&frame.body);
        match frame.tag {
            b'Q' => {
                let text = reader.text()?;
                end(&reader)?;
                self.simple(shared, &text)
            }
            b'P' => self.parse(shared, reader),
            b'B' => self.bind(shared, reader),
            b'D' => {
                let (kind, name) = (reader.u8()?, reader.text()?);
                end(&reader)?;
                self.describe(shared, kind, &name)
            }
            b'E' => {
                let (name, max) = (reader.text()?, reader.i32()?);
                end(&reader)?;
                self.execute(&name, max)
            }
            b'C' => {
                let (kind, name) = (reader.u8()?, reader.text()?);
                end(&reader)?;
                self.close_object(kind, &name)
            }
            b'H' => {
                end(&reader)?;
                self.out.flush();
                Ok(())
            }
            b'S' => {
                end(&reader)?;
                self.session().finish_command(shared);
                self.statement_deadline = Time::NEVER;
                self.ready = true;
                Ok(())
            }
            b'F' => self.function(shared, reader),
            b'X' => {
                self.close();
                Ok(())
            }
            // What is left of a COPY that failed.
            _ => Ok(()),
        }
    }

    fn simple(&mut self, shared: &mut Shared, text: &str) -> Result<(), PgError> {
        let session = self.session();
        session.start_command();
        session.unnamed = None;
        let statements = sql::parse(text)?;
        if statements.is_empty() {
            self.session().finish_command(shared);
            self.put(b'I', &[]);
            self.ready = true;
            return Ok(());
        }
        self.task = Some(Task::simple(statements));
        Ok(())
    }

    fn parse(&mut self, shared: &mut Shared, mut reader: Reader<'_>) -> Result<(), PgError> {
        let (name, text) = (reader.text()?, reader.text()?);
        let mut types = Vec::new();
        for _ in 0..reader.i16()? {
            let oid = reader.i32()?;
            types.push(if oid == 0 { None } else { Some(Type::from_oid(oid).unwrap_or(Type::Text)) });
        }
        end(&reader)?;
        let session = self.session();
        session.start_command();
        if name.is_empty() {
            session.unnamed = None;
        }
        let mut statements = sql::parse(&text)?;
        if statements.len() > 1 {
            return Err(PgError::syntax("cannot insert multiple commands into a prepared statement"));
        }
        let parsed = statements.pop();
        let mut parameters = Parameters { types, open: true };
        let mut columns = None;
        if let Some(parsed) = &parsed {
            if session.is_aborted() && !parsed.stmt.is_exit() {
                return Err(PgError::aborted());
            }
            columns = session.analyze(shared, &parsed.stmt, &mut parameters)?;
        }
        let prepared =
            Rc::new(Prepared { parsed, parameters: known_types(&parameters)?, columns, from_sql: false });
        if name.is_empty() {
            session.unnamed = Some(prepared);
        } else if let Entry::Vacant(place) = session.statements.entry(name.clone()) {
            place.insert(prepared);
        } else {
            return Err(duplicate_statement(&name));
        }
        self.put(b'1', &[]);
        Ok(())
    }

    fn statement(&mut self, name: &str) -> Result<Rc<Prepared>, PgError> {
        let session = self.session();
        if name.is_empty() {
            return session
                .unnamed
                .clone()
                .ok_or_else(|| PgError::error("26000", "unnamed prepared statement does not exist"));
        }
        session.statements.get(name).cloned().ok_or_else(|| missing_statement(name))
    }

    fn bind(&mut self, shared: &mut Shared, mut reader: Reader<'_>) -> Result<(), PgError> {
        let (portal_name, name) = (reader.text()?, reader.text()?);
        let prepared = self.statement(&name)?;
        self.session().start_command();
        let mut formats = Vec::new();
        for _ in 0..reader.i16()? {
            formats.push(reader.i16()?);
        }
        let count = reader.i16()? as u16 as usize;
        if formats.len() > 1 && formats.len() != count {
            let text = format!("bind message has {} parameter formats but {count} parameters", formats.len());
            return Err(PgError::protocol(text));
        }
        if count != prepared.parameters.len() {
            return Err(PgError::protocol(format!(
                "bind message supplies {count} parameters, but prepared statement \"{name}\" requires {}",
                prepared.parameters.len()
            )));
        }
        let session = self.session();
        let exits = prepared.parsed.as_ref().is_some_and(|parsed| parsed.stmt.is_exit());
        if session.is_aborted() && (!exits || count > 0) {
            return Err(PgError::aborted());
        }
        if portal_name.is_empty() {
            session.portals.remove("");
        } else if session.portals.contains_key(&portal_name) {
            return Err(PgError::error("42P03", format!("cursor \"{portal_name}\" already exists")));
        }
        let mut values = Vec::new();
        for (at, kind) in prepared.parameters.iter().enumerate() {
            let format = formats.get(at).or(formats.first().filter(|_| formats.len() == 1)).copied();
            let bytes = reader.value()?;
            values.push(match bytes {
                None => Value::Null,
                Some(bytes) if format.unwrap_or(0) == 0 => kind.input(&String::from_utf8_lossy(&bytes))?,
                Some(bytes) => cast(kind.input_binary(&bytes)?, *kind)?,
            });
        }
        let mut results = Vec::new();
        for _ in 0..reader.i16()? {
            results.push(reader.i16()?);
        }
        end(&reader)?;
        session.same_columns(shared, &prepared)?;
        let mut portal = session.open_portal(shared, prepared, values)?;
        let columns = portal.columns.as_ref().map_or(0, Vec::len);
        if results.len() > 1 && results.len() != columns {
            return Err(PgError::protocol(format!(
                "bind message has {} result formats but query has {columns} columns",
                results.len()
            )));
        }
        portal.formats = results;
        session.portals.insert(portal_name, portal);
        self.put(b'2', &[]);
        Ok(())
    }

    fn describe(&mut self, _shared: &mut Shared, kind: u8, name: &str) -> Result<(), PgError> {
        match kind {
            b'S' => {
                self.session().start_command();
                let prepared = self.statement(name)?;
                if self.session().is_aborted() && prepared.columns.is_some() {
                    return Err(PgError::aborted());
                }
                let mut message = body().i16(prepared.parameters.len() as i16);
                for kind in &prepared.parameters {
                    message = message.i32(kind.oid());
                }
                self.put(b't', &message.0);
                self.put_columns(prepared.columns.as_deref(), &|_| 0);
            }
            b'P' => {
                let session = self.session();
                session.start_command();
                let aborted = session.is_aborted();
                let Some(portal) = session.portals.get(name).cloned() else {
                    return Err(missing_portal(name));
                };
                if aborted && portal.columns.is_some() {
                    return Err(PgError::aborted());
                }
                self.put_columns(portal.columns.as_deref(), &|at| portal.format(at));
            }
            other => return Err(PgError::protocol(format!("invalid DESCRIBE message subtype {other}"))),
        }
        Ok(())
    }

    /// RowDescription or NoData.
    pub fn put_columns(&mut self, columns: Option<&[Column]>, format: &dyn Fn(usize) -> i16) {
        let Some(columns) = columns else {
            self.put(b'n', &[]);
            return;
        };
        let mut message = body().i16(columns.len() as i16);
        for (at, column) in columns.iter().enumerate() {
            message = message
                .text(&column.name)
                .i32(i32::from(column.table.is_some()) * 16_384)
                .i16(column.table.unwrap_or(0))
                .i32(column.kind.oid())
                .i16(column.kind.length())
                .i32(-1)
                .i16(format(at));
        }
        self.put(b'T', &message.0);
    }

    fn execute(&mut self, name: &str, max: i32) -> Result<(), PgError> {
        let session = self.session();
        let Some(portal) = session.portals.get(name) else { return Err(missing_portal(name)) };
        let Some(parsed) = portal.prepared.parsed.clone() else {
            self.put(b'I', &[]);
            return Ok(());
        };
        session.start_command();
        if session.is_aborted() && !parsed.stmt.is_exit() {
            return Err(PgError::aborted());
        }
        let Some(portal) = session.portals.remove(name) else { return Err(missing_portal(name)) };
        self.task =
            Some(Task::execute(name.to_string(), portal, u64::try_from(max).ok().filter(|max| *max > 0)));
        Ok(())
    }

    fn close_object(&mut self, kind: u8, name: &str) -> Result<(), PgError> {
        let session = self.session();
        match kind {
            b'S' if name.is_empty() => session.unnamed = None,
            b'S' => drop(session.statements.remove(name)),
            b'P' => drop(session.portals.remove(name)),
            other => return Err(PgError::protocol(format!("invalid CLOSE message subtype {other}"))),
        }
        self.put(b'3', &[]);
        Ok(())
    }

    /// FunctionCall; knows int4pl and length.
    fn function(&mut self, shared: &mut Shared, mut reader: Reader<'_>) -> Result<(), PgError> {
        self.session().start_command();
        if self.session().is_aborted() {
            return Err(PgError::aborted());
        }
        let oid = reader.i32()?;
        for _ in 0..reader.i16()? {
            reader.i16()?;
        }
        let wanted = match oid {
            177 => 2,
            1317 => 1,
            _ => return Err(PgError::error("42883", format!("function with OID {oid} does not exist"))),
        };
        let count = reader.i16()?;
        if count != wanted {
            let text =
                format!("function call message contains {count} arguments but function requires {wanted}");
            return Err(PgError::protocol(text));
        }
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(String::from_utf8_lossy(&reader.value()?.unwrap_or_default()).into_owned());
        }
        let result = match oid {
            177 => (Type::Int4.input(&texts[0])?.int() + Type::Int4.input(&texts[1])?.int()).to_string(),
            _ => texts[0].chars().count().to_string(),
        };
        self.put(b'V', &body().value(Some(result.as_bytes())).0);
        self.session().finish_command(shared);
        self.ready = true;
        Ok(())
    }

    pub fn lie(&mut self, lie: Lie) {
        self.out.lie(lie);
    }

    /// A random part of `limit`.
    pub fn think(&mut self, limit: std::time::Duration) -> std::time::Duration {
        if let Some(slow) = self.slow.take() {
            return slow;
        }
        std::time::Duration::from_micros(self.rng.below(limit.as_micros() as u64 + 1))
    }
}

/// `pq_getmsgend`
fn end(reader: &Reader<'_>) -> Result<(), PgError> {
    if reader.0.is_empty() { Ok(()) } else { Err(PgError::protocol("invalid message format")) }
}

fn missing_portal(name: &str) -> PgError {
    PgError::error("34000", format!("portal \"{name}\" does not exist"))
}

/// `MarkPortalActive` of a portal that cannot be.
pub fn not_runnable(name: &str) -> PgError {
    PgError::error("55000", format!("portal \"{name}\" cannot be run"))
}

impl Portal {
    /// A portal that may not be run again.
    pub fn spent(mut self) -> Portal {
        self.failed = true;
        self
    }
}
