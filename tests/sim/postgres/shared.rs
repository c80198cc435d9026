//! What the backends of one server share: tables, locks, notifications on their way, signals, the record of statements.

use std::collections::BTreeMap;
use std::time::Duration;

use pgdog::base::time::Time;

use super::locks::Locks;
use super::store::Tables;

/// How a user proves who it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    Trust,
    Plain(String),
    Md5(String),
    Scram(String),
}

/// Answers to a startup packet other than a login.
#[derive(Clone, Debug, PartialEq)]
pub enum Refuse {
    No,
    /// 57P03, the database system is starting up.
    StartingUp,
    /// 57P03, the database system is shutting down.
    ShuttingDown,
    /// The connection is closed without a word.
    Close,
    /// Nothing is ever answered.
    Silent,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// Login of users that exist; others get 28000 or a failed password.
    pub users: BTreeMap<String, Method>,
    /// Databases that exist.
    pub databases: Vec<String>,
    pub connections_max: usize,
    /// Minor version of protocol 3 that the server knows: 0 up to PostgreSQL 17, 2 from 18 (32-byte cancel keys).
    pub protocol_minor: u16,
    /// Defaults of settings that differ from PostgreSQL's own.
    pub settings: BTreeMap<String, String>,
    /// Every statement takes up to this long before its first byte.
    pub think_max: Duration,
    /// How long the slot of a closed connection stays taken.
    pub exit: Duration,
    pub refuse: Refuse,
    /// Clients may encrypt.
    pub ssl: bool,
    /// Iterations of SCRAM; PostgreSQL has 4096, which is slow without optimization.
    pub scram_iterations: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            users: [("postgres".to_string(), Method::Trust)].into(),
            databases: vec!["postgres".to_string()],
            connections_max: 100,
            protocol_minor: 0,
            settings: BTreeMap::new(),
            think_max: Duration::ZERO,
            exit: Duration::ZERO,
            refuse: Refuse::No,
            ssl: false,
            scram_iterations: 4096,
        }
    }
}

/// A statement that a backend began to execute.
#[derive(Clone, Debug)]
pub struct Executed {
    pub pid: i32,
    pub at: Time,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    Cancel,
    Terminate,
}

pub struct Shared {
    pub config: Config,
    databases: BTreeMap<String, Tables>,
    pub locks: Locks,
    /// Committed and not yet handed to the listeners: database, sender, channel, payload.
    pub notifications: Vec<(String, i32, String, String)>,
    pub signals: Vec<(i32, Signal)>,
    pub executed: Vec<Executed>,
    /// Statements cancelled by a cancel request, by pid and text.
    pub cancelled: Vec<(i32, String)>,
    next_oid: i32,
    next_row: u64,
}

impl Shared {
    pub fn new(config: Config) -> Shared {
        Shared {
            config,
            databases: BTreeMap::new(),
            locks: Locks::default(),
            notifications: Vec::new(),
            signals: Vec::new(),
            executed: Vec::new(),
            cancelled: Vec::new(),
            next_oid: 16_384,
            next_row: 0,
        }
    }

    pub fn tables(&mut self, database: &str) -> &mut Tables {
        self.databases.entry(database.to_string()).or_default()
    }

    pub fn oid(&mut self) -> i32 {
        self.next_oid += 1;
        self.next_oid
    }

    pub fn row_id(&mut self) -> u64 {
        self.next_row += 1;
        self.next_row
    }
}
