//! What one backend remembers between messages, and the transaction machine (after PostgreSQL's `xact.c`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::error::{PgError, Severity};
use super::guc::{Gucs, Levels};
use super::portal::{Column, Portal};
use super::shared::Shared;
use super::sql::{Name, Parsed};
use super::store::{Change, Op, Table, Tables, seen};
use super::value::Type;

/// A prepared statement. `parsed` is `None` for an empty query string.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub parsed: Option<Parsed>,
    pub parameters: Vec<Type>,
    pub columns: Option<Vec<Column>>,
    /// Made by SQL's PREPARE.
    pub from_sql: bool,
}

/// `TBlockState`, without those of subtransactions: savepoints are snapshots here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    Default,
    Started,
    Begin,
    InProgress,
    Implicit,
    End,
    Abort,
    AbortEnd,
    AbortPending,
}

#[derive(Clone, Debug)]
pub enum Listen {
    Add(String),
    Remove(String),
    RemoveAll,
}

#[derive(Clone, Debug)]
struct Savepoint {
    name: String,
    ops: usize,
    listens: usize,
    notifies: usize,
    locks: usize,
    levels: Levels,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub block: Block,
    /// `xact_started` of postgres.c: between the first message of a command and its end.
    pub started: bool,
    chain: bool,
    pub ops: Vec<Op>,
    pub listens: Vec<Listen>,
    pub notifies: Vec<(String, String)>,
    /// Keys of the advisory locks of transaction scope, in order.
    pub locks: Vec<i64>,
    base: Levels,
    savepoints: Vec<Savepoint>,
    /// A statement of the extended protocol has completed since the last Sync.
    pub pipelining: bool,
    /// The statement may not be part of a transaction with others, so it is committed at once.
    pub immediate: bool,
}

pub struct Session {
    pub pid: i32,
    pub user: String,
    pub database: String,
    pub gucs: Gucs,
    pub txn: Transaction,
    pub statements: BTreeMap<String, Rc<Prepared>>,
    pub unnamed: Option<Rc<Prepared>>,
    pub portals: BTreeMap<String, Portal>,
    pub temporary: Tables,
    pub listening: BTreeSet<String>,
    /// Channel and payload of what this session notified itself of.
    pub own_notifications: Vec<(String, String)>,
    /// Notices and warnings to be sent.
    pub notices: Vec<PgError>,
}

impl Session {
    pub fn new(pid: i32, user: String, database: String, gucs: Gucs) -> Session {
        let base = gucs.levels.clone();
        Session {
            pid,
            user,
            database,
            gucs,
            txn: Transaction {
                block: Block::Default,
                started: false,
                chain: false,
                ops: Vec::new(),
                listens: Vec::new(),
                notifies: Vec::new(),
                locks: Vec::new(),
                base,
                savepoints: Vec::new(),
                pipelining: false,
                immediate: false,
            },
            statements: BTreeMap::new(),
            unnamed: None,
            portals: BTreeMap::new(),
            temporary: Tables::new(),
            listening: BTreeSet::new(),
            own_notifications: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// The byte of ReadyForQuery.
    pub fn status(&self) -> u8 {
        match self.txn.block {
            Block::Default | Block::Started => b'I',
            Block::Abort | Block::AbortEnd | Block::AbortPending => b'E',
            _ => b'T',
        }
    }

    pub fn is_aborted(&self) -> bool {
        self.txn.block == Block::Abort
    }

    /// `IsTransactionBlock`
    pub fn in_block(&self) -> bool {
        !matches!(self.txn.block, Block::Default | Block::Started)
    }

    pub fn depth(&self) -> usize {
        self.txn.savepoints.len()
    }

    fn warn(&mut self, code: &'static str, text: impl Into<String>) {
        self.notices.push(PgError::new(Severity::Warning, code, text));
    }

    /// `start_xact_command`
    pub fn start_command(&mut self) {
        if !self.txn.started {
            if self.txn.block == Block::Default {
                self.start_transaction();
                self.txn.block = Block::Started;
            }
            self.txn.started = true;
        }
    }

    /// `finish_xact_command`
    pub fn finish_command(&mut self, shared: &mut Shared) {
        if self.txn.started {
            self.commit_command(shared);
            self.txn.started = false;
        }
    }

    fn start_transaction(&mut self) {
        self.txn.base = self.gucs.levels.clone();
        self.txn.pipelining = false;
        self.txn.immediate = false;
        for name in ["transaction_isolation", "transaction_read_only"] {
            let standby = name == "transaction_read_only" && self.gucs.is_on("in_hot_standby");
            let value =
                if standby { "on" } else { self.gucs.value(&format!("default_{name}")).unwrap_or("off") };
            let value = value.to_string();
            let _ = self.gucs.set(name, &value, true);
        }
    }

    /// `CommitTransactionCommand`
    fn commit_command(&mut self, shared: &mut Shared) {
        match self.txn.block {
            Block::Default => {}
            Block::Started => self.commit(shared),
            Block::Begin => self.txn.block = Block::InProgress,
            Block::InProgress | Block::Implicit | Block::Abort => {}
            Block::End => {
                self.commit(shared);
                self.chained();
            }
            Block::AbortEnd | Block::AbortPending => {
                self.abort_effects(shared, None);
                self.cleanup();
                self.chained();
            }
        }
    }

    fn chained(&mut self) {
        if std::mem::take(&mut self.txn.chain) {
            self.start_transaction();
            self.txn.block = Block::InProgress;
        }
    }

    fn commit(&mut self, shared: &mut Shared) {
        self.hold_cursors(shared);
        for op in std::mem::take(&mut self.txn.ops) {
            let tables = if op.temporary { &mut self.temporary } else { shared.tables(&self.database) };
            op.apply(tables);
        }
        for listen in std::mem::take(&mut self.txn.listens) {
            match listen {
                Listen::Add(channel) => {
                    self.listening.insert(channel);
                }
                Listen::Remove(channel) => {
                    self.listening.remove(&channel);
                }
                Listen::RemoveAll => self.listening.clear(),
            }
        }
        for (channel, payload) in std::mem::take(&mut self.txn.notifies) {
            if self.listening.contains(&channel) {
                self.own_notifications.push((channel.clone(), payload.clone()));
            }
            shared.notifications.push((self.database.clone(), self.pid, channel, payload));
        }
        shared.locks.release_transaction(&self.database, &std::mem::take(&mut self.txn.locks), self.pid);
        self.gucs.commit();
        self.txn.savepoints.clear();
        self.portals.retain(|_, portal| portal.held);
        self.txn.block = Block::Default;
    }

    /// Undoes everything, or everything since savepoint number `to`.
    fn abort_effects(&mut self, shared: &mut Shared, to: Option<usize>) {
        let txn = &mut self.txn;
        let (ops, listens, notifies, locks, levels) = match to {
            Some(at) => {
                let s = &txn.savepoints[at];
                (s.ops, s.listens, s.notifies, s.locks, s.levels.clone())
            }
            None => (0, 0, 0, 0, txn.base.clone()),
        };
        txn.ops.truncate(ops);
        txn.listens.truncate(listens);
        txn.notifies.truncate(notifies);
        let released = txn.locks.split_off(locks.min(txn.locks.len()));
        shared.locks.release_transaction(&self.database, &released, self.pid);
        self.gucs.levels = levels;
        for portal in self.portals.values_mut() {
            if !portal.held && to.is_none_or(|at| portal.depth > at) {
                portal.failed = true;
            }
        }
    }

    fn cleanup(&mut self) {
        self.txn.savepoints.clear();
        self.portals.retain(|_, portal| portal.held);
        self.txn.block = Block::Default;
    }

    /// `AbortCurrentTransaction`, after an error.
    pub fn abort(&mut self, shared: &mut Shared) {
        match self.txn.block {
            Block::Default => {}
            Block::Started | Block::Implicit | Block::End | Block::AbortEnd | Block::AbortPending => {
                self.abort_effects(shared, None);
                self.cleanup();
                self.txn.chain = false;
            }
            Block::Begin | Block::InProgress => {
                let to = self.txn.savepoints.len().checked_sub(1);
                self.abort_effects(shared, to);
                self.txn.block = Block::Abort;
            }
            Block::Abort => {}
        }
        self.txn.started = false;
    }

    /// The connection ends: nothing of an open transaction stays.
    pub fn end(&mut self, shared: &mut Shared) {
        self.abort_effects(shared, None);
        shared.locks.forget(self.pid);
    }

    pub fn begin_implicit(&mut self) {
        if self.txn.block == Block::Started {
            self.txn.block = Block::Implicit;
        }
    }

    pub fn end_implicit(&mut self) {
        if self.txn.block == Block::Implicit {
            self.txn.block = Block::Started;
        }
    }

    pub fn begin(&mut self, modes: &[(&'static str, String)]) -> Result<(), PgError> {
        match self.txn.block {
            Block::Started | Block::Implicit => self.txn.block = Block::Begin,
            _ => self.warn("25001", "there is already a transaction in progress"),
        }
        for (name, value) in modes {
            self.gucs.set(name, value, true)?;
        }
        Ok(())
    }

    /// COMMIT; answers the tag.
    pub fn commit_block(&mut self, chain: bool) -> Result<&'static str, PgError> {
        match self.txn.block {
            Block::InProgress | Block::Begin => self.txn.block = Block::End,
            Block::Abort => {
                self.txn.block = Block::AbortEnd;
                self.txn.chain = chain;
                return Ok("ROLLBACK");
            }
            _ if chain => return Err(outside("COMMIT AND CHAIN")),
            block => {
                self.warn("25P01", "there is no transaction in progress");
                if block == Block::Implicit {
                    self.txn.block = Block::End;
                }
            }
        }
        self.txn.chain = chain;
        Ok("COMMIT")
    }

    pub fn rollback_block(&mut self, chain: bool) -> Result<(), PgError> {
        match self.txn.block {
            Block::InProgress | Block::Begin => self.txn.block = Block::AbortPending,
            Block::Abort => self.txn.block = Block::AbortEnd,
            _ if chain => return Err(outside("ROLLBACK AND CHAIN")),
            _ => {
                self.warn("25P01", "there is no transaction in progress");
                self.txn.block = Block::AbortPending;
            }
        }
        self.txn.chain = chain;
        Ok(())
    }

    pub fn savepoint(&mut self, name: String) -> Result<(), PgError> {
        if self.txn.block != Block::InProgress {
            return Err(outside("SAVEPOINT"));
        }
        let txn = &mut self.txn;
        txn.savepoints.push(Savepoint {
            name,
            ops: txn.ops.len(),
            listens: txn.listens.len(),
            notifies: txn.notifies.len(),
            locks: txn.locks.len(),
            levels: self.gucs.levels.clone(),
        });
        Ok(())
    }

    fn find_savepoint(&self, name: &str) -> Result<usize, PgError> {
        let at = self.txn.savepoints.iter().rposition(|savepoint| savepoint.name == name);
        at.ok_or_else(|| PgError::error("3B001", format!("savepoint \"{name}\" does not exist")))
    }

    pub fn release(&mut self, name: &str) -> Result<(), PgError> {
        if self.txn.block != Block::InProgress {
            return Err(outside("RELEASE SAVEPOINT"));
        }
        let at = self.find_savepoint(name)?;
        self.txn.savepoints.truncate(at);
        for portal in self.portals.values_mut() {
            portal.depth = portal.depth.min(at);
        }
        Ok(())
    }

    pub fn rollback_to(&mut self, name: &str, shared: &mut Shared) -> Result<(), PgError> {
        if !matches!(self.txn.block, Block::InProgress | Block::Abort) {
            return Err(outside("ROLLBACK TO SAVEPOINT"));
        }
        let at = self.find_savepoint(name)?;
        self.abort_effects(shared, Some(at));
        self.txn.savepoints.truncate(at + 1);
        self.portals.retain(|_, portal| portal.held || portal.depth <= at);
        self.txn.block = Block::InProgress;
        Ok(())
    }

    /// `PreventInTransactionBlock`
    pub fn alone(&mut self, what: &str) -> Result<(), PgError> {
        if self.in_block() {
            return Err(PgError::error("25001", format!("{what} cannot run inside a transaction block")));
        }
        if self.txn.pipelining {
            return Err(PgError::error("25001", format!("{what} cannot be executed within a pipeline")));
        }
        self.txn.immediate = true;
        Ok(())
    }

    /// The table `name` refers to, and whether it is a temporary one.
    pub fn table(&self, shared: &mut Shared, name: &Name) -> Option<(bool, Rc<Table>)> {
        let schema = name.schema.as_deref();
        if schema.is_none_or(|schema| schema == "pg_temp")
            && let Some(table) = seen(&self.temporary, &self.txn.ops, true, &name.name)
        {
            return Some((true, table));
        }
        if schema.is_some_and(|schema| schema != "public") {
            return None;
        }
        let database = self.database.clone();
        seen(shared.tables(&database), &self.txn.ops, false, &name.name).map(|table| (false, table))
    }

    pub fn change(&mut self, temporary: bool, table: &str, change: Change) {
        self.txn.ops.push(Op { temporary, table: table.to_string(), change });
    }

    pub fn notify(&mut self, channel: String, payload: String) -> Result<(), PgError> {
        if channel.is_empty() {
            return Err(PgError::error("22023", "channel name cannot be empty"));
        }
        if payload.len() >= 8000 {
            return Err(PgError::error("22023", "payload string too long"));
        }
        let entry = (channel, payload);
        if !self.txn.notifies.contains(&entry) {
            self.txn.notifies.push(entry);
        }
        Ok(())
    }
}

pub fn outside(what: &str) -> PgError {
    PgError::error("25P01", format!("{what} can only be used in transaction blocks"))
}
