//! Settings of one session: defaults, SET, SET LOCAL, what is reported by ParameterStatus, and canonical values.
//!
//! Transactions work by snapshots of [`Levels`]: the owner keeps one per transaction and savepoint.

use std::collections::{BTreeMap, BTreeSet};

use super::error::PgError;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bool,
    /// Any text.
    Text,
    /// Any text, cut to 63 bytes, bytes outside printable ASCII become `?`.
    Name,
    Milliseconds,
    Kilobytes,
    Integer,
    Enum(&'static [&'static str]),
    DateStyle,
    Zone,
    Encoding,
}

#[derive(Clone, Copy, PartialEq)]
enum Context {
    User,
    /// Never settable.
    Internal,
    /// Only at the start of the server.
    Postmaster,
}

struct Definition {
    name: &'static str,
    default: &'static str,
    reported: bool,
    kind: Kind,
    context: Context,
}

const fn definition(
    name: &'static str,
    default: &'static str,
    reported: bool,
    kind: Kind,
    context: Context,
) -> Definition {
    Definition { name, default, reported, kind, context }
}

const ISOLATION: &[&str] = &["serializable", "repeatable read", "read committed", "read uncommitted"];
const MESSAGES: &[&str] = &["debug", "log", "notice", "warning", "error"];

/// In the order in which PostgreSQL 15 reports them: by name, without regard to case.
const DEFINITIONS: &[Definition] = &[
    definition("application_name", "", true, Kind::Name, Context::User),
    definition("bytea_output", "hex", false, Kind::Enum(&["escape", "hex"]), Context::User),
    definition("client_encoding", "UTF8", true, Kind::Encoding, Context::User),
    definition("client_min_messages", "notice", false, Kind::Enum(MESSAGES), Context::User),
    definition("DateStyle", "ISO, MDY", true, Kind::DateStyle, Context::User),
    definition(
        "default_transaction_isolation",
        "read committed",
        false,
        Kind::Enum(ISOLATION),
        Context::User,
    ),
    definition("default_transaction_read_only", "off", true, Kind::Bool, Context::User),
    definition("enable_seqscan", "on", false, Kind::Bool, Context::User),
    definition("extra_float_digits", "1", false, Kind::Integer, Context::User),
    definition("idle_in_transaction_session_timeout", "0", false, Kind::Milliseconds, Context::User),
    definition("idle_session_timeout", "0", false, Kind::Milliseconds, Context::User),
    definition("in_hot_standby", "off", true, Kind::Bool, Context::Internal),
    definition("integer_datetimes", "on", true, Kind::Bool, Context::Internal),
    definition(
        "IntervalStyle",
        "postgres",
        true,
        Kind::Enum(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
        Context::User,
    ),
    definition("is_superuser", "on", true, Kind::Bool, Context::Internal),
    definition("lock_timeout", "0", false, Kind::Milliseconds, Context::User),
    definition("max_connections", "100", false, Kind::Integer, Context::Postmaster),
    definition("search_path", "\"$user\", public", false, Kind::Text, Context::User),
    definition("server_encoding", "UTF8", true, Kind::Text, Context::Internal),
    definition("server_version", "15.8", true, Kind::Text, Context::Internal),
    definition("session_authorization", "", true, Kind::Text, Context::Internal),
    definition("standard_conforming_strings", "on", true, Kind::Bool, Context::User),
    definition("statement_timeout", "0", false, Kind::Milliseconds, Context::User),
    definition("TimeZone", "UTC", true, Kind::Zone, Context::User),
    definition("transaction_isolation", "read committed", false, Kind::Enum(ISOLATION), Context::User),
    definition("transaction_read_only", "off", false, Kind::Bool, Context::User),
    definition("work_mem", "4MB", false, Kind::Kilobytes, Context::User),
];

const ZONES: [&str; 8] = [
    "UTC",
    "GMT",
    "Europe/Berlin",
    "Europe/Paris",
    "America/New_York",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Etc/UTC",
];

fn find(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name.eq_ignore_ascii_case(name))
}

/// The values in force above the session's own defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    session: BTreeMap<String, String>,
    local: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct Gucs {
    /// What RESET goes back to.
    reset: BTreeMap<String, String>,
    pub levels: Levels,
    /// Custom settings (`a.b`) that exist: created by SET, also by one that is rolled back.
    custom: BTreeSet<String>,
    /// What the client was last told.
    told: BTreeMap<&'static str, String>,
}

impl Gucs {
    /// `fixed` overrides defaults (server version, session_authorization, in_hot_standby …), unchecked.
    pub fn new(fixed: &BTreeMap<String, String>) -> Gucs {
        let mut reset: BTreeMap<_, _> =
            DEFINITIONS.iter().map(|d| (d.name.to_ascii_lowercase(), d.default.to_string())).collect();
        reset.extend(fixed.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
        Gucs { reset, levels: Levels::default(), custom: BTreeSet::new(), told: BTreeMap::new() }
    }

    /// A parameter of the startup packet: becomes the value that RESET goes back to.
    pub fn at_start(&mut self, name: &str, value: &str) -> Result<(), PgError> {
        let (key, value) = self.check(name, value)?;
        self.reset.insert(key, value);
        Ok(())
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        let key = name.to_ascii_lowercase();
        let levels = &self.levels;
        let found =
            levels.local.get(&key).or_else(|| levels.session.get(&key)).or_else(|| self.reset.get(&key));
        found.map(String::as_str).or_else(|| self.custom.contains(&key).then_some(""))
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.value(name) == Some("on")
    }

    /// Milliseconds of a timeout; `None` when it is off.
    pub fn milliseconds(&self, name: &str) -> Option<u64> {
        let number = number_with_unit(self.value(name)?, &MILLISECONDS)?;
        (number > 0).then_some(number as u64)
    }

    /// The name as SHOW writes it, and the value.
    ///
    /// # Errors
    /// 42704
    pub fn show(&self, name: &str) -> Result<(String, String), PgError> {
        let value = self.value(name).ok_or_else(|| unknown(name))?;
        Ok((find(name).map_or(name.to_string(), |d| d.name.to_string()), value.to_string()))
    }

    /// SET; answers the canonical value.
    pub fn set(&mut self, name: &str, value: &str, local: bool) -> Result<String, PgError> {
        let (key, value) = self.check(name, value)?;
        if find(&key).is_none() {
            self.custom.insert(key.clone());
        }
        self.put(key, value.clone(), local);
        Ok(value)
    }

    /// RESET, or SET … TO DEFAULT.
    pub fn reset(&mut self, name: &str, local: bool) -> Result<(), PgError> {
        let key = name.to_ascii_lowercase();
        match find(name) {
            Some(definition) => settable(definition)?,
            None if self.value(name).is_none() && !name.contains('.') => return Err(unknown(name)),
            None => {
                self.custom.insert(key.clone());
            }
        }
        if local {
            let value = self.reset.get(&key).cloned().unwrap_or_default();
            self.put(key, value, local);
        } else {
            self.levels.local.remove(&key);
            self.levels.session.remove(&key);
        }
        Ok(())
    }

    /// pg_settings.source: whether it was set in this session.
    pub fn is_of_session(&self, name: &str) -> bool {
        self.levels.session.contains_key(&name.to_ascii_lowercase())
    }

    pub fn reset_all(&mut self) {
        let keep: Vec<_> = ["transaction_isolation", "transaction_read_only"]
            .iter()
            .filter_map(|name| self.levels.local.get(*name).map(|value| (name.to_string(), value.clone())))
            .collect();
        self.levels.session.clear();
        self.levels.local.clear();
        self.levels.local.extend(keep);
    }

    fn put(&mut self, key: String, value: String, local: bool) {
        if local || key.starts_with("transaction_") {
            self.levels.local.insert(key, value);
        } else {
            self.levels.local.remove(&key);
            self.levels.session.insert(key, value);
        }
    }

    pub fn commit(&mut self) {
        self.levels.local.clear();
    }

    /// Values that the client has not been told, in PostgreSQL's order.
    pub fn unreported(&mut self) -> Vec<(&'static str, String)> {
        let mut changed = Vec::new();
        for definition in DEFINITIONS.iter().filter(|d| d.reported) {
            let value = self.value(definition.name).unwrap_or_default().to_string();
            if self.told.get(definition.name) != Some(&value) {
                self.told.insert(definition.name, value.clone());
                changed.push((definition.name, value));
            }
        }
        changed
    }

    fn check(&self, name: &str, value: &str) -> Result<(String, String), PgError> {
        let key = name.to_ascii_lowercase();
        let Some(definition) = find(name) else {
            if name.contains('.') && !name.starts_with('.') && !name.ends_with('.') {
                return Ok((key, value.to_string()));
            }
            return Err(unknown(name));
        };
        settable(definition)?;
        let invalid = || {
            PgError::error(
                "22023",
                format!("invalid value for parameter \"{}\": \"{value}\"", definition.name),
            )
        };
        let value = match definition.kind {
            Kind::Bool => match value.to_ascii_lowercase().as_str() {
                "on" | "true" | "t" | "yes" | "y" | "1" => "on".into(),
                "off" | "of" | "false" | "f" | "no" | "n" | "0" => "off".into(),
                _ => {
                    let text = format!("parameter \"{}\" requires a Boolean value", definition.name);
                    return Err(PgError::error("22023", text));
                }
            },
            Kind::Text => value.to_string(),
            Kind::Name => {
                value.bytes().take(63).map(|b| if (32..127).contains(&b) { b as char } else { '?' }).collect()
            }
            Kind::Integer => value.trim().parse::<i64>().map_err(|_| invalid())?.to_string(),
            Kind::Milliseconds => {
                with_unit(number_with_unit(value, &MILLISECONDS).ok_or_else(invalid)?, &MILLISECONDS)
            }
            Kind::Kilobytes => {
                with_unit(number_with_unit(value, &KILOBYTES).ok_or_else(invalid)?, &KILOBYTES)
            }
            Kind::Enum(values) => {
                values.iter().find(|v| v.eq_ignore_ascii_case(value)).ok_or_else(invalid)?.to_string()
            }
            Kind::Zone => {
                ZONES.iter().find(|v| v.eq_ignore_ascii_case(value)).ok_or_else(invalid)?.to_string()
            }
            Kind::Encoding => {
                let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
                match plain.to_ascii_lowercase().as_str() {
                    "utf8" | "unicode" => "UTF8".into(),
                    "latin1" | "iso88591" => "LATIN1".into(),
                    "sqlascii" => "SQL_ASCII".into(),
                    "win1252" | "windows1252" => "WIN1252".into(),
                    _ => return Err(invalid()),
                }
            }
            Kind::DateStyle => {
                date_style(self.value("datestyle").unwrap_or("ISO, MDY"), value).ok_or_else(invalid)?
            }
        };
        Ok((key, value))
    }
}

fn settable(definition: &Definition) -> Result<(), PgError> {
    let name = definition.name;
    match definition.context {
        Context::User => Ok(()),
        Context::Internal => Err(PgError::error("55P02", format!("parameter \"{name}\" cannot be changed"))),
        Context::Postmaster => Err(PgError::error(
            "55P02",
            format!("parameter \"{name}\" cannot be changed without restarting the server"),
        )),
    }
}

fn unknown(name: &str) -> PgError {
    PgError::error("42704", format!("unrecognized configuration parameter \"{name}\""))
}

type Units = [(&'static str, i64)];
/// Largest first.
const MILLISECONDS: [(&str, i64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];
const KILOBYTES: [(&str, i64); 4] = [("TB", 1 << 30), ("GB", 1 << 20), ("MB", 1 << 10), ("kB", 1)];

fn number_with_unit(text: &str, units: &Units) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..digits].parse().ok()?;
    match text[digits..].trim() {
        "" => Some(number),
        unit => units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| number * factor),
    }
}

fn with_unit(number: i64, units: &Units) -> String {
    match units.iter().find(|(_, factor)| number != 0 && number % factor == 0) {
        Some((name, factor)) => format!("{}{name}", number / factor),
        None => number.to_string(),
    }
}

fn date_style(current: &str, value: &str) -> Option<String> {
    let (mut style, mut order) = current.split_once(", ")?;
    let mut ordered = false;
    for word in value.split(',').map(|w| w.trim().to_ascii_lowercase()) {
        match word.as_str() {
            "iso" => style = "ISO",
            "sql" => style = "SQL",
            "postgres" => style = "Postgres",
            "german" => {
                style = "German";
                if !ordered {
                    order = "DMY";
                }
            }
            "mdy" | "us" | "noneuro" => (order, ordered) = ("MDY", true),
            "dmy" | "euro" => (order, ordered) = ("DMY", true),
            "ymd" => (order, ordered) = ("YMD", true),
            _ => return None,
        }
    }
    Some(format!("{style}, {order}"))
}
