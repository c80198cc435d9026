//! What a client must get: a small model of one session of PostgreSQL, kept beside the client that uses it.
//!
//! Independent of the simulated server: it knows only the few statements that clients send.

use std::collections::BTreeMap;

/// A message that has to come next.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// A message of which only the tag matters.
    Tag(u8),
    Row(Vec<Option<String>>),
    /// A RowDescription or DataRow of the table that changes: as many columns as its reader was told of, if it was.
    Shape(u8),
    Columns(Vec<String>),
    Complete(String),
    /// With what the client has been told of [`REPORTED`] until then.
    Ready {
        status: u8,
        told: Vec<String>,
    },
    Error(&'static str),
    Notice(String),
    Notification(String, String),
    CopyLine(String),
    /// The second list if its first message comes, else the first.
    Either(Vec<Expect>, Vec<Expect>),
}

pub type Settings = BTreeMap<&'static str, String>;

#[derive(Clone, Debug, PartialEq)]
struct Saved {
    session: Settings,
    local: Settings,
    rows: i64,
}

#[derive(Clone, Debug)]
pub struct Portal {
    pub id: String,
    pub next: i64,
    pub last: i64,
}

#[derive(Clone, Debug)]
pub struct Model {
    /// Byte of ReadyForQuery.
    pub status: u8,
    defaults: Settings,
    session: Settings,
    local: Settings,
    /// Rows in the client's own table.
    pub rows: i64,
    base: Option<Saved>,
    savepoints: Vec<Saved>,
    /// Named prepared statements: the id each of them answers.
    pub statements: BTreeMap<String, String>,
    pub portal: Option<Portal>,
    pub listening: bool,
}

/// A statement, and with it its answer.
#[derive(Clone, Debug)]
pub enum Do {
    Row(String),
    /// The same, through a function of that name.
    Call(&'static str, String),
    Rows(String, i64),
    /// Rows of that many bytes.
    Wide(String, i64, usize),
    Nothing,
    Divide,
    Missing,
    Notice(String),
    Set {
        name: &'static str,
        value: &'static str,
        local: bool,
    },
    Reset(&'static str),
    Show(&'static str),
    Current(&'static str, String),
    Insert(String),
    Count(String),
}

/// At which message of the extended protocol a statement fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fails {
    AtParse(&'static str),
    AtBind(&'static str),
}

/// Settings and values that clients use; the first two are reported.
pub const SETTINGS: [(&str, &[&str]); 4] = [
    ("application_name", &["red", "green", "blue"]),
    ("TimeZone", &["Europe/Berlin", "Asia/Tokyo", "America/New_York", "UTC"]),
    ("DateStyle", &["ISO, DMY", "ISO, YMD", "SQL, DMY"]),
    ("statement_timeout", &["77s", "78s", "79s"]),
];

/// Those of [`SETTINGS`] that come by ParameterStatus.
pub const REPORTED: [&str; 3] = ["application_name", "TimeZone", "DateStyle"];

impl Do {
    pub fn sql(&self, table: &str) -> String {
        match self {
            Do::Row(id) => format!("select '{id}'"),
            Do::Call(function, id) => format!("select {function}('{id}')"),
            Do::Rows(id, count) => format!("select '{id}', g from generate_series(1,{count}) g"),
            Do::Wide(id, count, width) => {
                format!("select '{id}', g, repeat('w', {width}) from generate_series(1,{count}) g")
            }
            Do::Nothing => String::new(),
            Do::Divide => "select 1/0".into(),
            Do::Missing => "select * from missing_table".into(),
            Do::Notice(id) => format!("do $$ begin raise notice '{id}'; end $$"),
            Do::Set { name, value, local } => {
                format!("set {}{name} to '{value}'", if *local { "local " } else { "" })
            }
            Do::Reset(name) => format!("reset {name}"),
            Do::Show(name) => format!("show {name}"),
            Do::Current(name, id) => format!("select current_setting('{name}'), '{id}'"),
            Do::Insert(id) => format!("insert into {table} values (1, '{id}')"),
            Do::Count(id) => format!("select count(*), '{id}' from {table}"),
        }
    }

    pub fn fails(&self) -> Option<Fails> {
        match self {
            Do::Divide => Some(Fails::AtBind("22012")),
            Do::Missing => Some(Fails::AtParse("42P01")),
            _ => None,
        }
    }

    /// Names of the columns of the answer, if it has rows.
    pub fn columns(&self) -> Option<Vec<String>> {
        let names: &[&str] = match self {
            Do::Row(_) => &["?column?"],
            Do::Call(function, _) => &[function],
            Do::Rows(..) => &["?column?", "g"],
            Do::Wide(..) => &["?column?", "g", "repeat"],
            Do::Show(name) => &[name],
            Do::Current(..) => &["current_setting", "?column?"],
            Do::Count(_) => &["count", "?column?"],
            _ => return None,
        };
        Some(names.iter().map(|name| name.to_string()).collect())
    }
}

impl Model {
    pub fn new(defaults: Settings) -> Model {
        Model {
            status: b'I',
            defaults,
            session: Settings::new(),
            local: Settings::new(),
            rows: 0,
            base: None,
            savepoints: Vec::new(),
            statements: BTreeMap::new(),
            portal: None,
            listening: false,
        }
    }

    pub fn value(&self, name: &str) -> String {
        let found = self.local.get(name).or_else(|| self.session.get(name));
        found.or_else(|| self.defaults.get(name)).cloned().unwrap_or_default()
    }

    /// ReadyForQuery after all that was run.
    pub fn ready(&self) -> Expect {
        Expect::Ready { status: self.status, told: REPORTED.iter().map(|name| self.value(name)).collect() }
    }

    fn saved(&self) -> Saved {
        Saved { session: self.session.clone(), local: self.local.clone(), rows: self.rows }
    }

    fn restore(&mut self, saved: Saved) {
        (self.session, self.local, self.rows) = (saved.session, saved.local, saved.rows);
    }

    /// The start of a transaction, explicit or not.
    pub fn start(&mut self) {
        self.base = Some(self.saved());
    }

    pub fn begin(&mut self) {
        self.start();
        self.status = b'T';
    }

    /// COMMIT, or the end of a transaction that was not explicit; answers the tag.
    pub fn commit(&mut self) -> &'static str {
        if self.status == b'E' {
            return self.rollback();
        }
        self.local.clear();
        self.end();
        "COMMIT"
    }

    pub fn rollback(&mut self) -> &'static str {
        if let Some(base) = self.base.take() {
            self.restore(base);
        }
        self.local.clear();
        self.end();
        "ROLLBACK"
    }

    fn end(&mut self) {
        self.base = None;
        self.savepoints.clear();
        self.portal = None;
        self.status = b'I';
    }

    /// An error: everything since the last savepoint, or since the start, is undone.
    pub fn fail(&mut self) {
        if self.status == b'I' {
            self.rollback();
            return;
        }
        self.status = b'E';
        if let Some(saved) = self.savepoints.last().or(self.base.as_ref()).cloned() {
            self.restore(saved);
        }
    }

    pub fn savepoint(&mut self) {
        self.savepoints.push(self.saved());
    }

    pub fn has_savepoint(&self) -> bool {
        !self.savepoints.is_empty()
    }

    pub fn rollback_to(&mut self) {
        if let Some(saved) = self.savepoints.last().cloned() {
            self.restore(saved);
        }
        self.status = b'T';
    }

    /// The rows and the tag of a statement that does not fail, and its effect.
    pub fn run(&mut self, statement: &Do) -> Vec<Expect> {
        let text = |id: &str| Some(id.to_string());
        let mut out = Vec::new();
        let tag = match statement {
            Do::Row(id) | Do::Call(_, id) => {
                out.push(Expect::Row(vec![text(id)]));
                "SELECT 1".to_string()
            }
            Do::Rows(id, count) => {
                out.extend((1..=*count).map(|g| Expect::Row(vec![text(id), Some(g.to_string())])));
                format!("SELECT {count}")
            }
            Do::Wide(id, count, width) => {
                let wide = Some("w".repeat(*width));
                out.extend(
                    (1..=*count).map(|g| Expect::Row(vec![text(id), Some(g.to_string()), wide.clone()])),
                );
                format!("SELECT {count}")
            }
            Do::Nothing => return vec![Expect::Tag(b'I')],
            Do::Divide | Do::Missing => unreachable!("a statement that fails has no answer"),
            Do::Notice(id) => {
                out.push(Expect::Notice(id.clone()));
                "DO".into()
            }
            Do::Set { name, value, local } => {
                if *local {
                    self.local.insert(name, value.to_string());
                } else {
                    self.local.remove(name);
                    self.session.insert(name, value.to_string());
                }
                "SET".into()
            }
            Do::Reset(name) => {
                self.local.remove(name);
                self.session.remove(name);
                "RESET".into()
            }
            Do::Show(name) => {
                out.push(Expect::Row(vec![Some(self.value(name))]));
                "SHOW".into()
            }
            Do::Current(name, id) => {
                out.push(Expect::Row(vec![Some(self.value(name)), text(id)]));
                "SELECT 1".into()
            }
            Do::Insert(_) => {
                self.rows += 1;
                "INSERT 0 1".into()
            }
            Do::Count(id) => {
                out.push(Expect::Row(vec![Some(self.rows.to_string()), text(id)]));
                "SELECT 1".into()
            }
        };
        out.push(Expect::Complete(tag));
        out
    }
}
