//! A PostgreSQL of a few words, exact in the protocol: what a client gets from it directly is what it must get
//! through the proxy.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use pgdog::wire::encode::{cstr, data_row, message, parameter_status, ready};
use pgdog::wire::frame::Header;
use pgdog::wire::{TxStatus, encode, error};

type Name = Vec<u8>;

pub struct Toy {
    inbox: Vec<u8>,
    pub out: Vec<u8>,
    /// PostgreSQL keeps its answers until Flush, the end of a query or of a batch, an error, or the beginning of a COPY.
    unflushed: Vec<u8>,
    greeted: bool,
    status: TxStatus,
    /// After an error of the extended protocol: everything up to Sync is ignored.
    pub skipping: bool,
    /// COPY FROM STDIN, of a simple query or of Execute.
    copying: Option<u8>,
    statements: BTreeMap<Name, Vec<u8>>,
    portals: BTreeMap<Name, Vec<u8>>,
    application: Vec<u8>,
    before_transaction: Vec<u8>,
    /// Something that would have changed the unnamed statement has been ignored: the proxy may not know what it is.
    pub unnamed_is_doubtful: bool,
    pub ended: bool,
}

impl Toy {
    pub fn new() -> Toy {
        Toy {
            inbox: Vec::new(),
            out: Vec::new(),
            unflushed: Vec::new(),
            greeted: false,
            status: TxStatus::Idle,
            skipping: false,
            copying: None,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            application: Vec::new(),
            before_transaction: Vec::new(),
            unnamed_is_doubtful: false,
            ended: false,
        }
    }

    /// Takes bytes, in any pieces; what it says is added to `out`.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        if !self.greeted {
            let Some(&[a, b, c, d]) = self.inbox.first_chunk() else { return };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if self.inbox.len() < length {
                return;
            }
            self.inbox.drain(..length);
            self.greeted = true;
            encode::authentication(&mut self.unflushed, 0, &[]);
            parameter_status(&mut self.unflushed, "application_name", b"");
            parameter_status(&mut self.unflushed, "client_encoding", b"UTF8");
            encode::backend_key(&mut self.unflushed, 1, &[0; 4]);
            ready(&mut self.unflushed, TxStatus::Idle);
            self.out.append(&mut self.unflushed);
        }
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        while let Some(header) = Header::parse(rest).expect("a server is sent whole frames") {
            if rest.len() < header.frame() {
                break;
            }
            self.on_frame(header.tag, &rest[5..header.frame()]);
            if matches!(header.tag, b'S' | b'H' | b'Q' | b'c' | b'f')
                || self.skipping
                || self.copying.is_some()
            {
                self.out.append(&mut self.unflushed);
            }
            rest = &rest[header.frame()..];
        }
        self.inbox = rest.to_vec();
    }

    fn on_frame(&mut self, tag: u8, body: &[u8]) {
        if concerns_unnamed(tag, body) {
            self.unnamed_is_doubtful = false;
        }
        if let Some(by) = self.copying {
            return self.on_copy_frame(by, tag, body);
        }
        match tag {
            b'X' => self.ended = true,
            b'S' => {
                self.skipping = false;
                if self.status == TxStatus::Idle {
                    self.portals.clear();
                }
                ready(&mut self.unflushed, self.status);
            }
            b'H' | b'd' | b'c' | b'f' => {}
            _ if self.skipping => self.unnamed_is_doubtful |= concerns_unnamed(tag, body),
            b'Q' => self.on_query(body),
            b'P' => self.on_parse(body),
            b'B' => {
                let (portal, rest) = split(body);
                let (name, _) = split(rest);
                match self.statements.get(&name).cloned() {
                    Some(text) if self.may_run(&text) => {
                        self.portals.insert(portal, text);
                        self.unflushed.extend_from_slice(encode::BIND_COMPLETE);
                    }
                    Some(_) => self.fail("25P02", "current transaction is aborted"),
                    None => self.no_statement(),
                }
            }
            b'D' => self.on_describe(body),
            b'E' => match self.portals.get(&split(body).0).cloned() {
                Some(text) => {
                    if !self.run(&text, b'E') {
                        self.skipping = true;
                    }
                }
                None => self.fail("34000", "portal does not exist"),
            },
            b'C' => {
                let (name, _) = split(&body[1..]);
                match body[0] {
                    b'S' => self.statements.remove(&name),
                    _ => self.portals.remove(&name),
                };
                self.unflushed.extend_from_slice(encode::CLOSE_COMPLETE);
            }
            tag => panic!("a server is sent {:?}", char::from(tag)),
        }
    }

    fn on_query(&mut self, body: &[u8]) {
        self.statements.remove(&b""[..]);
        self.portals.remove(&b""[..]);
        let (text, rest) = split(body);
        assert!(rest.is_empty(), "a query with something behind it");
        self.run(&text, b'Q');
        if self.copying.is_none() {
            ready(&mut self.unflushed, self.status);
        }
    }

    fn on_parse(&mut self, body: &[u8]) {
        let (name, rest) = split(body);
        let (text, types) = split(rest);
        assert_eq!(types, [0, 0], "Parse has lost its end");
        if name.is_empty() {
            self.statements.remove(&name);
        }
        // PostgreSQL refuses most texts in a failed transaction here and at Describe, not only at Bind. The proxy prepares
        // when it has to, which may be later than the client did: the same error, at another message.
        if text.starts_with(b"syntax") {
            self.unnamed_is_doubtful |= name.is_empty();
            self.fail("42601", "syntax error");
        } else if let Entry::Vacant(place) = self.statements.entry(name) {
            place.insert(text);
            self.unflushed.extend_from_slice(encode::PARSE_COMPLETE);
        } else {
            self.fail("42P05", "prepared statement already exists");
        }
    }

    fn on_describe(&mut self, body: &[u8]) {
        let (name, _) = split(&body[1..]);
        let known = match body[0] {
            b'S' => self.statements.contains_key(&name),
            _ => self.portals.contains_key(&name),
        };
        match (body[0], known) {
            (b'S', true) => {
                message(&mut self.unflushed, b't', |buf| buf.extend_from_slice(&[0, 0]));
                self.unflushed.extend_from_slice(encode::NO_DATA);
            }
            (b'S', false) => self.no_statement(),
            (_, true) => self.unflushed.extend_from_slice(encode::NO_DATA),
            (_, false) => self.fail("34000", "portal does not exist"),
        }
    }

    /// Without its name: where two names of a client stand for one statement, the proxy cannot tell which was meant.
    fn no_statement(&mut self) {
        self.fail("26000", "prepared statement does not exist");
    }

    fn may_run(&self, text: &[u8]) -> bool {
        self.status != TxStatus::Failed || matches!(text, b"commit" | b"rollback" | b"ROLLBACK")
    }

    /// Carries one statement out, up to and with CommandComplete. False if it failed.
    fn run(&mut self, text: &[u8], by: u8) -> bool {
        if !self.may_run(text) {
            return self.refuse("25P02", "current transaction is aborted");
        }
        let told = String::from_utf8_lossy(text).into_owned();
        let words: Vec<&str> = told.split(' ').collect();
        match &words[..] {
            ["begin"] => {
                if self.status == TxStatus::Idle {
                    self.before_transaction = self.application.clone();
                    self.status = TxStatus::InTransaction;
                }
                self.complete("BEGIN");
            }
            ["commit"] => {
                let failed = self.status == TxStatus::Failed;
                self.end_transaction(failed);
                self.complete(if failed { "ROLLBACK" } else { "COMMIT" });
            }
            ["rollback" | "ROLLBACK"] => {
                let open = self.status != TxStatus::Idle;
                self.end_transaction(open);
                self.complete("ROLLBACK");
            }
            ["error", ..] => return self.refuse("XX000", &told),
            ["copy", ..] => {
                message(&mut self.unflushed, b'G', |buf| buf.extend_from_slice(&[0, 0, 0]));
                self.copying = Some(by);
            }
            ["set", value] => {
                self.set(value.as_bytes());
                self.complete("SET");
            }
            ["show"] => {
                let value = self.application.clone();
                data_row(&mut self.unflushed, [Some(&value[..])].into_iter());
                self.complete("SHOW");
            }
            ["rows", count] => {
                let count: usize = count.parse().unwrap_or(1);
                for row in 0..count {
                    let value = [told.as_bytes(), &vec![b'.'; row % 700]].concat();
                    data_row(&mut self.unflushed, [Some(&value[..])].into_iter());
                }
                self.complete("SELECT 9");
            }
            ["DISCARD", "ALL"] => {
                self.statements.clear();
                self.portals.clear();
                self.set(b"");
                self.complete("DISCARD ALL");
            }
            ["SELECT", _, ..] if told.contains("set_config") => {
                let parts: Vec<&str> = told.split('\'').collect();
                for pair in parts.chunks(4) {
                    if let [_, "application_name", _, value] = pair {
                        self.set(value.as_bytes());
                    }
                }
                self.complete("SELECT 1");
            }
            ["SELECT", "NULL,", ..] => {
                // What its client has left here: nothing that pins it, no parameter that is set.
                let calls = told.matches("(SELECT pg_catalog.bool_and(").count();
                let pins = told.matches("EXISTS (").count() - calls;
                let settings = told.matches(" pg_catalog.current_setting(").count();
                let settings = std::iter::repeat_n([None, Some(&b"t"[..])], settings).flatten();
                // No function here leaves anything.
                let harmless = std::iter::repeat_n(Some(&b"t"[..]), calls);
                let pins = std::iter::repeat_n(Some(&b"f"[..]), pins);
                // Nobody listens.
                let channels = told.matches("(SELECT pg_catalog.string_agg(").count();
                let channels = std::iter::repeat_n(None, channels);
                let columns =
                    std::iter::once(None).chain(pins).chain(channels).chain(settings).chain(harmless);
                data_row(&mut self.unflushed, columns.collect::<Vec<_>>().into_iter());
                self.complete("SELECT 1");
            }
            [""] => self.unflushed.extend_from_slice(encode::EMPTY_QUERY_RESPONSE),
            _ => {
                data_row(&mut self.unflushed, [Some(text)].into_iter());
                self.complete("SELECT 1");
            }
        }
        true
    }

    fn set(&mut self, value: &[u8]) {
        if self.application != value {
            self.application = value.to_vec();
            parameter_status(&mut self.unflushed, "application_name", value);
        }
    }

    fn end_transaction(&mut self, undo: bool) {
        if undo {
            let before = std::mem::take(&mut self.before_transaction);
            self.set(&before);
        }
        self.status = TxStatus::Idle;
        self.portals.clear();
    }

    fn on_copy_frame(&mut self, by: u8, tag: u8, body: &[u8]) {
        match tag {
            b'd' => {
                assert!(body.iter().all(|&byte| byte == b'x'), "COPY data has been changed");
                return;
            }
            b'S' | b'H' => return,
            b'c' => {
                self.copying = None;
                self.complete("COPY 1");
            }
            b'f' => {
                self.copying = None;
                self.refuse("57014", "COPY from stdin failed");
                self.skipping = by == b'E';
            }
            tag => panic!("a COPY is sent {:?}", char::from(tag)),
        }
        if by == b'Q' {
            ready(&mut self.unflushed, self.status);
        }
    }

    fn complete(&mut self, tag: &str) {
        message(&mut self.unflushed, b'C', |buf| cstr(buf, tag.as_bytes()));
    }

    fn refuse(&mut self, state: &str, text: &str) -> bool {
        error::write(&mut self.unflushed, error::Severity::Error, state, text, [None; 3]);
        if self.status != TxStatus::Idle {
            self.status = TxStatus::Failed;
        }
        false
    }

    fn fail(&mut self, state: &str, text: &str) {
        self.refuse(state, text);
        self.skipping = true;
    }
}

fn concerns_unnamed(tag: u8, body: &[u8]) -> bool {
    tag == b'Q' || (tag == b'P' && body[0] == 0) || (tag == b'C' && body == b"S\0")
}

fn split(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0).expect("a string ends");
    (bytes[..end].to_vec(), &bytes[end + 1..])
}

// ---- The client's half.

pub fn startup() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::startup(&mut bytes, 0x30000, [("user", "u"), ("database", "db")].into_iter());
    bytes
}

pub fn query(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::query(&mut bytes, text);
    bytes
}

pub fn parse(name: &str, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let body = [text.as_bytes(), &[0, 0, 0]].concat();
    encode::parse(&mut bytes, name.as_bytes(), &body);
    bytes
}

pub fn bind(portal: &str, name: &str, parameter_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    message(&mut bytes, b'B', |buf| {
        cstr(buf, portal.as_bytes());
        cstr(buf, name.as_bytes());
        buf.extend_from_slice(&[0, 0, 0, 1]);
        buf.extend_from_slice(&(parameter_bytes as u32).to_be_bytes());
        buf.resize(buf.len() + parameter_bytes, b'v');
        buf.extend_from_slice(&[0, 0]);
    });
    bytes
}

pub fn named(tag: u8, kind: u8, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    message(&mut bytes, tag, |buf| {
        buf.push(kind);
        cstr(buf, name.as_bytes());
    });
    bytes
}

pub fn execute(portal: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    message(&mut bytes, b'E', |buf| {
        cstr(buf, portal.as_bytes());
        buf.extend_from_slice(&[0; 4]);
    });
    bytes
}

pub fn plain(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    message(&mut bytes, tag, |buf| buf.extend_from_slice(body));
    bytes
}
