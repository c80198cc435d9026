//! The parameters of a session, as the client sees them and as a server has them.
//!
//! Two kinds: those that PostgreSQL reports (ParameterStatus), whose values we know from its own mouth, and
//! others that a client asked for at startup, which hold as long as the session does.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Reported parameters that a session cannot set, or that are not a setting of the session at all.
const FIXED: &[&str] = &[
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// By the name that PostgreSQL reports.
    pub reported: BTreeMap<Box<str>, Box<[u8]>>,
    /// By name in lower case: not reported by this server.
    pub other: BTreeMap<Box<str>, Box<[u8]>>,
}

impl Settings {
    pub fn reported(&self, name: &str) -> Option<&[u8]> {
        self.reported.get(name).map(|value| &**value)
    }

    /// A reported parameter as statements name it, in any case of letters.
    pub fn reported_in_any_case(&self, name: &str) -> Option<&[u8]> {
        let found = self.reported.iter().find(|(of, _)| of.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// A parameter by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.reported_in_any_case(name).or_else(|| self.other.get(name).map(|value| &**value))
    }

    /// In lower case.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.reported
            .keys()
            .map(|name| name.to_ascii_lowercase())
            .chain(self.other.keys().map(|name| name.to_string()))
    }

    /// The parameter is no longer asked for. One that is reported always has a value.
    pub fn unset(&mut self, name: &str) {
        self.other.remove(name);
    }

    /// Sets a parameter as a startup packet names it, in any case of letters.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let reported = self.reported.iter_mut().find(|(of, _)| of.eq_ignore_ascii_case(name));
        match reported {
            Some((_, old)) => *old = value.into(),
            None => drop(self.other.insert(name.to_ascii_lowercase().into(), value.into())),
        }
    }
}

/// Records what a server reports. The settings are shared by many sessions: a copy is made only for a change.
pub fn report(settings: &mut Arc<Settings>, name: &str, value: &[u8]) {
    if settings.reported(name) != Some(value) {
        Arc::make_mut(settings).reported.insert(name.into(), value.into());
    }
}

/// Parameters under which our own statements could be ended: they are set aside first.
const TIMEOUTS: &[&str] = &["statement_timeout", "transaction_timeout"];

/// Where the statements are run: in a transaction of the client's, SET LOCAL would hold for its statements too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    Nothing,
    Transaction,
}

/// The statements that bring a server which has `have` to `want`, each to be sent as one simple query.
/// None if nothing is to be done.
///
/// What is to go is reset first: a role, above all, may not be allowed what follows. `client_encoding` comes in a query of
/// its own, since the text of the others is read under it; a role of the client's comes last.
pub fn difference(have: &Settings, want: &Settings, within: Within) -> Option<Vec<Vec<u8>>> {
    let backslashes = Backslashes::of(have);
    let start = || match within {
        Within::Nothing => without_timeouts(have, |_| true),
        Within::Transaction => Vec::new(),
    };
    let mut queries = Vec::new();
    let gone: Vec<_> = have.other.keys().filter(|name| !want.other.contains_key(*name)).collect();
    if !gone.is_empty() {
        let mut query = start();
        for (at, name) in gone.into_iter().enumerate() {
            query.extend_from_slice(if at == 0 { b"RESET " } else { b"; RESET " });
            query.extend_from_slice(identifier(name).as_bytes());
        }
        queries.push(query);
    }
    let reported = want.reported.iter().map(|(name, value)| (&**name, &**value));
    let (encoding, reported): (Vec<_>, Vec<_>) = reported
        .filter(|(name, value)| !FIXED.contains(name) && have.reported(name) != Some(value))
        .partition(|(name, _)| *name == "client_encoding");
    for (name, value) in encoding {
        let mut query = start();
        query.extend_from_slice(b"SELECT ");
        set_config(&mut query, name, value, backslashes);
        queries.push(query);
    }
    let (roles, other): (Vec<_>, Vec<_>) = want
        .other
        .iter()
        .filter(|(name, value)| have.other.get(*name) != Some(value))
        .map(|(name, value)| (&**name, &**value))
        .partition(|(name, _)| *name == "role");
    let mut query = Vec::new();
    for (name, value) in reported.into_iter().chain(other).chain(roles) {
        if query.is_empty() {
            query = start();
            query.extend_from_slice(b"SELECT ");
        } else {
            query.extend_from_slice(b", ");
        }
        set_config(&mut query, name, value, backslashes);
    }
    if !query.is_empty() {
        queries.push(query);
    }
    (!queries.is_empty()).then_some(queries)
}

/// The beginning of a query of our own on a server with these settings: no timeout of its client may end it. The whole
/// query is one transaction, so that SET LOCAL holds up to its end.
pub fn without_timeouts(have: &Settings, may_go: impl Fn(&str) -> bool) -> Vec<u8> {
    let set = TIMEOUTS.iter().filter(|name| have.other.contains_key(**name) && may_go(name));
    set.flat_map(|name| format!("SET LOCAL {name} = 0; ").into_bytes()).collect()
}

/// What a backslash in a string constant means to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backslashes {
    Plain,
    Escape,
}

impl Backslashes {
    pub fn of(settings: &Settings) -> Backslashes {
        match settings.reported("standard_conforming_strings") {
            Some(b"off") => Backslashes::Escape,
            _ => Backslashes::Plain,
        }
    }
}

/// `set_config` takes a value as text, also where SET would want a list of identifiers (search_path).
fn set_config(query: &mut Vec<u8>, name: &str, value: &[u8], backslashes: Backslashes) {
    query.extend_from_slice(b"pg_catalog.set_config(");
    literal(query, name.as_bytes(), backslashes);
    query.extend_from_slice(b", ");
    literal(query, value, backslashes);
    query.extend_from_slice(b", false)");
}

/// Appends a string constant. A backslash stays as it is wherever possible: in some encodings of clients (SJIS, BIG5,
/// GB18030) its byte is also the second half of characters.
pub fn literal(query: &mut Vec<u8>, text: &[u8], backslashes: Backslashes) {
    let escape = backslashes == Backslashes::Escape && text.contains(&b'\\');
    query.extend_from_slice(if escape { b"E'" } else { b"'" });
    for &byte in text {
        if byte == b'\'' || (escape && byte == b'\\') {
            query.push(byte);
        }
        query.push(byte);
    }
    query.push(b'\'');
}

/// A possibly qualified parameter name, quoted.
fn identifier(name: &str) -> String {
    let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    name.split('.').map(quote).collect::<Vec<_>>().join(".")
}

/// Whether PostgreSQL takes this startup parameter for sure, and reports it as it is: no server need be asked.
pub fn is_plain(name: &str, value: &[u8]) -> bool {
    name.eq_ignore_ascii_case("application_name")
        && value.len() < 64
        && value.iter().all(|byte| (0x20..0x7f).contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(reported: &[(&str, &str)], other: &[(&str, &str)]) -> Settings {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).into(), value.as_bytes().into())).collect()
        };
        Settings { reported: map(reported), other: map(other) }
    }

    #[test]
    fn differences() {
        let base = settings(&[("TimeZone", "UTC"), ("client_encoding", "UTF8"), ("is_superuser", "on")], &[]);
        assert_eq!(difference(&base, &base, Within::Nothing), None);
        let want = settings(
            &[("TimeZone", "it's"), ("client_encoding", "LATIN1"), ("is_superuser", "off")],
            &[("statement_timeout", "5"), ("a.b", "\\"), ("role", "r")],
        );
        let text = |queries: Option<Vec<Vec<u8>>>| -> Vec<String> {
            queries.unwrap_or_default().into_iter().map(|query| String::from_utf8(query).unwrap()).collect()
        };
        assert_eq!(
            text(difference(&base, &want, Within::Nothing)),
            [
                "SELECT pg_catalog.set_config('client_encoding', 'LATIN1', false)",
                "SELECT pg_catalog.set_config('TimeZone', 'it''s', false), \
                 pg_catalog.set_config('a.b', '\\', false), \
                 pg_catalog.set_config('statement_timeout', '5', false), \
                 pg_catalog.set_config('role', 'r', false)",
            ]
        );
        assert_eq!(
            text(difference(&want, &base, Within::Nothing))[0],
            "SET LOCAL statement_timeout = 0; RESET \"a\".\"b\"; RESET \"role\"; RESET \"statement_timeout\""
        );
        let escaping = settings(&[("standard_conforming_strings", "off")], &[]);
        let want = settings(&[], &[("a.b", "\\'")]);
        assert_eq!(
            text(difference(&escaping, &want, Within::Nothing)),
            ["SELECT pg_catalog.set_config('a.b', E'\\\\\'\'', false)"]
        );
    }

    #[test]
    fn names_in_any_case() {
        let mut base = settings(&[("TimeZone", "UTC")], &[]);
        base.set("timezone", b"CET");
        base.set("Statement_Timeout", b"1");
        assert_eq!(base, settings(&[("TimeZone", "CET")], &[("statement_timeout", "1")]));
    }

    #[test]
    fn shared_until_changed() {
        let base = Arc::new(settings(&[("TimeZone", "UTC")], &[]));
        let mut mine = base.clone();
        report(&mut mine, "TimeZone", b"UTC");
        assert!(Arc::ptr_eq(&base, &mine));
        report(&mut mine, "TimeZone", b"CET");
        assert_eq!(base.reported("TimeZone"), Some(&b"UTC"[..]));
        assert_eq!(mine.reported("TimeZone"), Some(&b"CET"[..]));
    }
}
