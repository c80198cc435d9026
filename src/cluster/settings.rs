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

/// The statements that bring a server which has `have` to `want`, each to be sent as one simple query.
/// None if nothing is to be done.
///
/// `client_encoding` comes first, in a query of its own: the others' text is read under it.
pub fn difference(have: &Settings, want: &Settings) -> Option<Vec<String>> {
    let mut calls = Vec::new();
    let mut queries = Vec::new();
    for (name, value) in &want.reported {
        if FIXED.contains(&&**name) || have.reported(name) == Some(value) {
            continue;
        }
        match &**name {
            "client_encoding" => queries.push(format!("SELECT {}", set_config(name, value))),
            _ => calls.push(set_config(name, value)),
        }
    }
    for (name, value) in &want.other {
        if have.other.get(name) != Some(value) {
            calls.push(set_config(name, value));
        }
    }
    if !calls.is_empty() {
        queries.push(format!("SELECT {}", calls.join(", ")));
    }
    let gone = have.other.keys().filter(|name| !want.other.contains_key(*name));
    let resets: Vec<_> = gone.map(|name| format!("RESET {}", identifier(name))).collect();
    if !resets.is_empty() {
        queries.push(resets.join("; "));
    }
    (!queries.is_empty()).then_some(queries)
}

/// `set_config` takes a value as text, also where SET would want a list of identifiers (search_path).
fn set_config(name: &str, value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value);
    format!("pg_catalog.set_config({}, {}, false)", literal(name), literal(&value))
}

/// A string constant that means the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
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
        assert_eq!(difference(&base, &base), None);
        let want = settings(
            &[("TimeZone", "it's"), ("client_encoding", "LATIN1"), ("is_superuser", "off")],
            &[("statement_timeout", "5"), ("a.b", "\\")],
        );
        let queries = difference(&base, &want).unwrap();
        assert_eq!(
            queries,
            [
                "SELECT pg_catalog.set_config('client_encoding', 'LATIN1', false)",
                "SELECT pg_catalog.set_config('TimeZone', 'it''s', false), \
                 pg_catalog.set_config('a.b', E'\\\\', false), \
                 pg_catalog.set_config('statement_timeout', '5', false)",
            ]
        );
        let back = difference(&want, &base).unwrap();
        assert_eq!(back.last().unwrap(), "RESET \"a\".\"b\"; RESET \"statement_timeout\"");
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
