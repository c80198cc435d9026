//! What a client's statements leave behind on their server, outside session mode.
//!
//! What a statement may do to its session is read from its text before it is sent. What it has done is not guessed: once
//! the transaction is over, the server is asked, in one query of ours behind the client's last, for the values of the
//! parameters that were set and for what keeps a client on its server (temporary objects, held cursors, locks …). So
//! commit, rollback, savepoints, errors and PostgreSQL's own way of writing values need no thought here.
//!
//! * Parameters follow the client: they are part of its [`Settings`].
//! * What only its server has keeps the client there until it is gone: the client is *pinned*.
//! * What cannot be known (functions whose code nobody has read, DO, CALL) *taints* the server: it is reset before it
//!   serves anybody else. Which functions are harmless members of extensions the same query asks; from then on they do not
//!   taint, for a time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::bytes::{Bytes, Malformed};
use crate::base::limits::TOUCHED_SETTINGS_MAX;
use crate::base::time::Time;
use crate::cluster::functions::Generation;
use crate::cluster::listeners::Channels;
use crate::cluster::settings::{Backslashes, Settings, Within, difference, literal, without_timeouts};
use crate::cluster::statements::{Statement, statement_text};
use crate::config::{PoolerMode, SessionTaint};
use crate::session::cx::Cx;
use crate::session::exchange::{Copying, Exchange, Note};
use crate::session::inbound::Passing;
use crate::session::listen::read_channels;
use crate::session::requests::HOME;
use crate::session::statements::UnnamedStatement;
use crate::session::{Link, Session, State, send_queries};
use crate::sql::command::{Command, Discard, Value};
use crate::sql::effects::Effects;
use crate::sql::outline::{Outline, is_create, is_definition};
use crate::sql::value::{Parameter, set_config_names};
use crate::sql::{self, Encoding, Reading};
use crate::wire::TxStatus;
use crate::wire::frame::Header;

/// What keeps a client on its server, and what asks whether it still does.
const PINS: &[(Effects, &str, &str)] = &[
    (
        Effects::TEMPORARY,
        "temporary objects",
        // Every object of a schema depends on it; the index on what is depended on finds one.
        "EXISTS (SELECT FROM pg_catalog.pg_depend WHERE \
         refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
         AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
    ),
    (
        Effects::HELD_CURSOR,
        "a cursor WITH HOLD",
        "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)",
    ),
    (
        Effects::SESSION_LOCK,
        "an advisory lock",
        "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
    ),
    (
        Effects::PREPARED,
        "a statement of PREPARE",
        "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)",
    ),
    (Effects::LISTEN, "LISTEN", "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"),
];

/// Asks whether all functions of the name that follows are harmless: see [`crate::sql::catalog`]. NULL if there is none.
const IS_HARMLESS: &str = "(SELECT pg_catalog.bool_and(proparallel OPERATOR(pg_catalog.=) 's' AND EXISTS (\
     SELECT FROM pg_catalog.pg_depend WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
     AND objid OPERATOR(pg_catalog.=) p.oid AND deptype OPERATOR(pg_catalog.=) 'e')) \
     FROM pg_catalog.pg_proc AS p WHERE proname OPERATOR(pg_catalog.=) ";

/// What nothing but the end of the server's process undoes.
pub const LASTING: Effects = Effects::LASTING.union(Effects::SEED);

/// What can end a pin, besides what made it.
fn may_end(effects: Effects) -> Effects {
    let mut pins = Effects::NONE;
    let ends = [
        (Effects::SESSION_UNLOCK, Effects::SESSION_LOCK),
        (Effects::CURSOR, Effects::HELD_CURSOR),
        (Effects::DISCARD, ALL_PINS),
        (Effects::OPAQUE, ALL_PINS),
    ];
    for (cause, pin) in ends {
        if effects.any(cause) {
            pins |= pin;
        }
    }
    pins
}

const ALL_PINS: Effects = Effects::TEMPORARY
    .union(Effects::HELD_CURSOR)
    .union(Effects::SESSION_LOCK)
    .union(Effects::PREPARED)
    .union(Effects::LISTEN);

/// The effects of which a completion tag is a sign, if they matter: a statement that has it without them was not read
/// as the server read it.
pub fn signs(tag: &[u8]) -> Effects {
    match tag.split(|byte| matches!(byte, b' ' | 0)).next() {
        Some(b"SET") if tag.starts_with(b"SET CONSTRAINTS") => Effects::NONE,
        Some(b"SET" | b"RESET") => Effects::SETTING | Effects::LOCAL_SETTING | Effects::TRANSACTION,
        Some(b"PREPARE") if tag.starts_with(b"PREPARE TRANSACTION") => Effects::NONE,
        Some(b"PREPARE" | b"DEALLOCATE") => Effects::PREPARED,
        Some(b"LISTEN" | b"UNLISTEN") => Effects::LISTEN,
        Some(b"DISCARD") => Effects::DISCARD,
        Some(b"DO" | b"CALL") => Effects::CODE,
        Some(b"LOAD") => Effects::LASTING,
        _ => Effects::NONE,
    }
}

impl<S> Link<S> {
    /// Whether a parameter is being set, and it is not known yet to what.
    fn is_setting(&self, name: &str) -> bool {
        let asks = |exchange: &Exchange| match &exchange.note {
            Note::Census(census) => census.names.iter().any(|of| **of == *name),
            _ => false,
        };
        let resets = matches!(self.touched.resets, Resets::All { .. });
        resets || self.touched.has_set(name) || self.server.exchanges.iter().any(asks)
    }

    /// A statement of the client's is complete, and its tag is a sign of these effects.
    pub(super) fn check_signs(&mut self, signs: Effects) {
        if !self.touched.effects.any(signs | Effects::UNREADABLE) {
            log::debug!("a statement was not read as its server read it: {signs:?}");
            self.touched.effects |= Effects::UNREADABLE;
        }
    }
}

/// What SET SESSION CHARACTERISTICS sets.
const DEFAULT_MODES: [&str; 3] =
    ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"];

/// For each DEALLOCATE that is still to come, in order, what it takes away: a name of the client's and its statement.
pub type Deallocates = VecDeque<Option<(Box<[u8]>, Arc<Statement>)>>;

/// A text in which the client's names of prepared statements have become the servers'.
#[derive(Debug, Default)]
pub(super) struct Renamed {
    pub text: Vec<u8>,
    /// The client's names of what it uses, and the ids.
    pub uses: Vec<(Box<[u8]>, u64)>,
    pub deallocates: Deallocates,
}

/// What statements may have done on a server since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub effects: Effects,
    /// Parameters that were set or reset, in lower case.
    names: Vec<Box<str>>,
    resets: Resets,
    /// A reset has been sent, and what the client asked for at startup has not been given back.
    restores: bool,
    /// One of the resets has been done, and nothing has been undone since.
    pub has_reset: bool,
    /// The client has been told that it listens, or no longer does.
    pub has_listened: bool,
    /// Functions may have been made, or made anew.
    defines: bool,
    /// Functions that were called and of which nothing is known. Few transactions have any, and all have this.
    calls: Option<Box<Calls>>,
}

#[derive(Debug, Default)]
struct Calls {
    names: Vec<Box<str>>,
}

/// Which parameters were reset to what a fresh session has: for a client, what it asked for at startup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Resets {
    #[default]
    None,
    Some(Vec<Box<str>>),
    All {
        except: Vec<Box<str>>,
    },
}

impl Resets {
    fn covers(&self, name: &str) -> bool {
        let among = |names: &[Box<str>]| names.iter().any(|of| name.eq_ignore_ascii_case(of));
        match self {
            Resets::None => false,
            Resets::Some(names) => among(names),
            Resets::All { except } => !among(except),
        }
    }
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        self.effects.and(MATTERS).is_empty() && self.names.is_empty() && self.resets == Resets::None
    }

    fn add_settings(&mut self, statement: &sql::Statement<'_>) {
        match &statement.command {
            Command::Set(set) => match (Self::utf8(&set.parameter), &set.value) {
                (None, _) => self.effects |= Effects::UNREADABLE,
                // It has no value that could be asked for.
                (Some(name), _) if name == "seed" => self.effects |= Effects::SEED,
                (Some(name), value) => {
                    if name == "session_authorization" {
                        self.effects |= Effects::AUTHORIZATION;
                    }
                    match value {
                        Value::Default => self.reset(&name),
                        _ => self.set(&name),
                    }
                }
            },
            Command::Reset(parameter) => match Self::utf8(parameter) {
                Some(name) => {
                    if name == "session_authorization" {
                        self.effects |= Effects::AUTHORIZATION;
                    }
                    self.reset(&name);
                }
                None => self.effects |= Effects::UNREADABLE,
            },
            Command::SetCharacteristics(..) => DEFAULT_MODES.iter().for_each(|name| self.set(name)),
            Command::ResetAll | Command::Discard(Discard::All) => self.reset_all(),
            Command::Discard(_) => {}
            _ => match set_config_names(statement.text) {
                Some(names) => names.iter().for_each(|name| self.set(name)),
                None => self.effects |= Effects::UNREADABLE,
            },
        }
    }

    /// None for a name that no parameter of PostgreSQL or of a user can have in UTF-8.
    fn utf8(parameter: &Parameter<'_>) -> Option<String> {
        String::from_utf8(parameter.value()?.into_owned()).ok()
    }

    fn has_set(&self, name: &str) -> bool {
        self.names.iter().any(|of| **of == *name)
    }

    /// A parameter is set.
    pub fn set(&mut self, name: &str) {
        self.name(name);
        match &mut self.resets {
            Resets::None => {}
            Resets::Some(names) => names.retain(|of| **of != *name),
            Resets::All { except } => except.push(name.into()),
        }
    }

    pub fn reset(&mut self, name: &str) {
        self.restores = true;
        self.name(name);
        match &mut self.resets {
            Resets::None => self.resets = Resets::Some(vec![name.into()]),
            Resets::Some(names) => names.push(name.into()),
            Resets::All { except } => except.retain(|of| **of != *name),
        }
    }

    /// A census is done: nothing waits any more, but for resets that were sent behind it.
    pub fn has_restored(&mut self) {
        self.restores &= self.resets != Resets::None;
    }

    pub fn reset_all(&mut self) {
        self.restores = true;
        self.resets = Resets::All { except: Vec::new() };
    }

    /// More names than anybody uses leave the server in an unknown state.
    fn name(&mut self, name: &str) {
        if self.has_set(name) {
            return;
        }
        if self.names.len() < TOUCHED_SETTINGS_MAX {
            self.names.push(name.into());
        } else {
            self.effects |= Effects::UNREADABLE;
        }
    }
}

/// What the server is asked at the end of a transaction.
#[derive(Clone, Debug)]
pub struct Census {
    pins: Effects,
    names: Vec<Box<str>>,
    resets: Resets,
    has_reset: bool,
    calls: Vec<Box<str>>,
    /// What is known of functions while it is asked.
    generation: Generation,
    /// It has to name the channels that it listens to.
    names_channels: bool,
}

/// In hex, with commas between.
const CHANNELS: &str = "(SELECT pg_catalog.string_agg(pg_catalog.encode(pg_catalog.convert_to(c, 'UTF8'), 'hex'), ',') \
                        FROM pg_catalog.pg_listening_channels() c)";

impl Census {
    /// The query whose single row `read` understands.
    fn query(&self, have: &Settings) -> Vec<u8> {
        // One that is asked for must be left as it is.
        let mut query = without_timeouts(have, |name| !self.names.iter().any(|of| **of == *name));
        query.extend_from_slice(b"SELECT NULL");
        for (pin, _, asks) in PINS {
            if self.pins.any(*pin) {
                query.extend_from_slice(b", ");
                let asks = if self.asks_channels(*pin) { CHANNELS } else { *asks };
                query.extend_from_slice(asks.as_bytes());
            }
        }
        let backslashes = Backslashes::of(have);
        for name in &self.names {
            query.extend_from_slice(b", pg_catalog.current_setting(");
            literal(&mut query, name.as_bytes(), backslashes);
            query.extend_from_slice(b", true), ");
            if self.resets.covers(name) {
                // NULL for a parameter that PostgreSQL does not know itself.
                query.extend_from_slice(
                    b"(SELECT source OPERATOR(pg_catalog.=) 'session' FROM pg_catalog.pg_settings \
                      WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) ",
                );
                literal(&mut query, name.as_bytes(), backslashes);
                query.push(b')');
            } else {
                query.extend_from_slice(b"true");
            }
        }
        for name in &self.calls {
            query.extend_from_slice(b", ");
            query.extend_from_slice(IS_HARMLESS.as_bytes());
            literal(&mut query, name.as_bytes(), backslashes);
            query.push(b')');
        }
        query
    }

    fn asks_channels(&self, pin: Effects) -> bool {
        self.names_channels && pin == Effects::LISTEN
    }

    /// Reads the body of its DataRow.
    fn read<'r>(&self, row: &'r [u8]) -> Result<Found<'r>, Malformed> {
        let mut row = Bytes::new(row);
        row.u16()?;
        let mut column = || -> Result<Option<&'r [u8]>, Malformed> {
            match row.u32()? {
                u32::MAX => Ok(None),
                length => row.take(length as usize).map(Some),
            }
        };
        column()?;
        let mut pins = Effects::NONE;
        let mut channels = None;
        for (pin, ..) in PINS {
            if !self.pins.any(*pin) {
                continue;
            }
            let value = column()?;
            if self.asks_channels(*pin) {
                channels = Some(read_channels(value)?);
            } else if value == Some(b"t") {
                pins |= *pin;
            }
        }
        let values =
            self.names.iter().map(|_| Ok((column()?, column()? == Some(b"f")))).collect::<Result<_, _>>()?;
        let harmless =
            self.calls.iter().map(|_| Ok(column()? == Some(b"t"))).collect::<Result<_, Malformed>>()?;
        Ok(Found { pins, channels, values, harmless })
    }
}

/// What a server answers to a census: the pins that hold, each parameter's value and whether it is that of a fresh
/// session, and of each function that was called whether it is harmless.
struct Found<'r> {
    pins: Effects,
    channels: Option<Channels>,
    values: Vec<(Option<&'r [u8]>, bool)>,
    harmless: Vec<bool>,
}

/// What matters to the server's next client, or to this client on its next server.
const MATTERS: Effects = Effects::OPAQUE
    .union(ALL_PINS)
    .union(LASTING)
    .union(Effects::SESSION_UNLOCK)
    .union(Effects::CURSOR)
    .union(Effects::DISCARD);

impl<S> Session<S> {
    /// How servers read this client's statements.
    pub(super) fn reading(&self) -> Reading<'static> {
        Reading {
            conforming_strings: self.settings.reported("standard_conforming_strings") != Some(b"off"),
            encoding: Encoding::of(self.settings.reported("client_encoding").unwrap_or_default()),
            catalog: None,
        }
    }

    /// What a text of this client does.
    pub(super) fn outline(&self, text: &[u8]) -> Outline {
        Outline::of_plain(text).unwrap_or_else(|| Outline::of(text, self.reading()))
    }

    /// A text is about to be run.
    pub(super) fn touch(&mut self, text: &[u8], now: Time) {
        let mut statements = sql::statements(text, self.reading());
        for statement in &mut statements {
            self.touch_statement(&statement, now);
        }
        let link = &mut self.links[HOME];
        // It is read under settings that are still on their way to the server.
        let reads = ["standard_conforming_strings", "client_encoding"];
        if statements.setting_matters() && reads.iter().any(|name| link.is_setting(name)) {
            link.touched.effects |= Effects::UNREADABLE;
        }
    }

    fn touch_statement(&mut self, statement: &sql::Statement<'_>, now: Time) {
        self.touch_with(statement.effects, statement.text, now);
        let link = &mut self.links[HOME];
        if is_definition(statement.text) && !statement.effects.any(Effects::TEMPORARY) {
            link.touched.defines = true;
            link.server.pool.functions().forget();
        }
        if statement.effects.any(Effects::SETTING | Effects::DISCARD) {
            link.touched.add_settings(statement);
        }
        match &statement.command {
            Command::Prepare { name, body } => {
                let outline = self.outline(body);
                let name = name.and_then(|name| name.value());
                self.statements.prepared_in_sql(name.as_deref(), outline, body);
            }
            Command::Execute(name) => {
                let name = name.and_then(|name| name.value());
                let known = name.and_then(|name| self.statements.text_by_name(&name));
                let (outline, text) = known.unwrap_or((Outline::UNKNOWN, Box::default()));
                match outline.effects.any(Effects::EXECUTE) {
                    // PREPARE takes no EXECUTE.
                    true => self.links[HOME].touched.effects |= Effects::UNREADABLE,
                    false => self.touch_again(outline, &text, now),
                }
            }
            Command::Drop if self.pins.any(Effects::TEMPORARY) => link.touched.effects |= Effects::TEMPORARY,
            Command::CreateAs | Command::Other if is_create(statement.text) => {
                let path = self.settings.get("search_path").unwrap_or_default();
                if path.windows(7).any(|part| part == b"pg_temp") || link.is_setting("search_path") {
                    link.touched.effects |= Effects::TEMPORARY;
                }
            }
            _ => {}
        }
    }

    /// A text with these effects is about to be run. Calls of functions that the database says are harmless have none; of
    /// those that it was not asked about it is asked when the transaction is over.
    fn touch_with(&mut self, effects: Effects, text: &[u8], now: Time) {
        let link = &mut self.links[HOME];
        link.touched.effects |= effects.without(Effects::UNKNOWN_FUNCTION);
        if !effects.any(Effects::UNKNOWN_FUNCTION) {
            return;
        }
        let catalog = link.server.pool.functions().at(now);
        let reading = Reading { catalog: Some(&catalog), ..self.reading() };
        // Whoever did not keep the text has nothing to look at.
        let unknown = text.is_empty() || Outline::of(text, reading).effects.any(Effects::UNKNOWN_FUNCTION);
        let touched = &mut self.links[HOME].touched;
        if unknown {
            touched.effects |= Effects::UNKNOWN_FUNCTION;
            let calls = touched.calls.get_or_insert_default();
            catalog.ask_about(text, reading.conforming_strings, &mut calls.names);
        }
    }

    /// The body of a Query that has been held. If it names statements of the extended protocol, it has to be sent with
    /// the servers' names for them.
    pub(super) fn touch_query(&mut self, header: Header, now: Time) -> Option<Renamed> {
        let body = self.client.inbound.body(header);
        let text = body.strip_suffix(&[0]).unwrap_or(body);
        let outline = self.outline(text);
        if !outline.looks_again && !outline.effects.any(Effects::UNKNOWN_FUNCTION) {
            self.links[HOME].touched.effects |= outline.effects;
            return None;
        }
        let text = text.to_vec();
        if !outline.looks_again {
            self.touch_with(outline.effects, &text, now);
            return None;
        }
        self.touch(&text, now);
        self.rename(outline, &text)
    }

    /// A text with the servers' names for the statements that it names. None if there are none to be replaced.
    pub(super) fn rename(&self, outline: Outline, text: &[u8]) -> Option<Renamed> {
        if self.statements.len() == 0 || !outline.effects.any(Effects::PREPARED | Effects::EXECUTE) {
            return None;
        }
        let mut renamed = Renamed::default();
        let mut done = 0;
        for statement in sql::statements(text, self.reading()) {
            let (name, deallocates) = match statement.command {
                // One name for both protocols: PREPARE of a name that is taken fails.
                Command::Execute(name) | Command::Prepare { name, .. } => (name, false),
                Command::Deallocate(Some(name)) => (Some(name), true),
                _ => continue,
            };
            let value = name.and_then(|name| name.value());
            let known = value.as_deref().and_then(|value| self.statements.find(value));
            if deallocates {
                let name = value.as_deref().map(Box::from);
                renamed.deallocates.push_back(name.zip(known.cloned()));
            }
            let (Some(name), Some(value), Some(known)) = (name, value, known) else { continue };
            // Names are pieces of the text.
            let at = name.text.as_ptr() as usize - text.as_ptr() as usize;
            renamed.text.extend_from_slice(&text[done..at]);
            renamed.text.extend_from_slice(known.name.as_bytes());
            done = at + name.text.len();
            renamed.uses.push((value.into(), known.id));
        }
        renamed.text.extend_from_slice(&text[done..]);
        (!renamed.uses.is_empty()).then_some(renamed)
    }

    /// The unnamed statement is about to be run, or one that only the server knows.
    pub(super) fn touch_unnamed(&mut self, is_unnamed: bool, now: Time) {
        match std::mem::take(&mut self.statements.unnamed) {
            UnnamedStatement::Kept { version, body, is_copy, outline } if is_unnamed => {
                self.touch_again(outline, &body, now);
                self.statements.unnamed = UnnamedStatement::Kept { version, body, is_copy, outline };
            }
            other => {
                self.statements.unnamed = other;
                self.touch_again(Outline::UNKNOWN, &[], now);
            }
        }
    }

    /// Whether a statement's name stands for one of SQL's PREPARE.
    pub(super) fn is_of_sql(&self, name: &[u8]) -> bool {
        self.statements.find(name).is_none() && self.statements.is_in_sql(name)
    }

    /// A text that has been looked at before, when it was prepared: the body of its Parse behind the name.
    pub(super) fn touch_again(&mut self, outline: Outline, body: &[u8], now: Time) {
        if outline.looks_again {
            self.touch(statement_text(body), now);
        } else if outline.effects.any(Effects::UNKNOWN_FUNCTION) {
            self.touch_with(outline.effects, statement_text(body), now);
        } else {
            self.links[HOME].touched.effects |= outline.effects;
        }
    }

    /// Whether what statements leave behind has to be seen to: in session mode the server is the client's own.
    pub(super) fn shares_servers(&self) -> bool {
        self.mode() != PoolerMode::Session
    }

    /// Why this client keeps its server between transactions, for the console.
    pub fn pinned_by(&self) -> Vec<&'static str> {
        let pins = PINS.iter().filter(|(pin, ..)| self.pins.any(*pin)).map(|(_, name, _)| *name);
        let user = self.pins.any(Effects::AUTHORIZATION).then_some("SET SESSION AUTHORIZATION");
        let unknown = self.pins.any(Effects::UNREADABLE).then_some("what its server would not tell");
        let lasting = self.pins.any(LASTING).then_some("what only the end of its process undoes");
        let sequences = self.pins.any(Effects::SEQUENCE_READ).then_some("currval or lastval");
        let code = self.pins.any(Effects::CODE).then_some("code that nobody has read");
        pins.chain(sequences).chain(code).chain(user).chain(unknown).chain(lasting).collect()
    }

    /// A transaction is over: asks its server what of it remains. False if there is nothing to ask.
    pub(super) fn takes_census(&mut self, cx: &Cx<'_, S>) -> bool {
        if self.client.inbound.passing != Passing::Nothing {
            // The server reads a message of the client's: nothing of ours may come into its middle.
            return false;
        }
        let names_channels = self.shares_listening(cx);
        let link = &mut self.links[HOME];
        // Before this, others were told of the functions that there were before.
        if std::mem::take(&mut link.touched.defines) {
            link.server.pool.functions().forget();
        }
        if link.touched.is_empty() {
            return false;
        }
        if link.server.cancels > 0 {
            // It would hit the census. See `on_cancel_ended`.
            return true;
        }
        link.deallocating.clear();
        let Touched { effects, mut names, resets, restores, has_reset, calls, .. } =
            std::mem::take(&mut link.touched);
        let server = &mut link.server;
        self.pins |= effects.and(LASTING);
        let opaque = effects.any(Effects::OPAQUE);
        let mut generation = Generation::default();
        if opaque {
            server.tainted_by = Some(self.id);
            if server.pool.config.taint == SessionTaint::Pin {
                self.pins |= Effects::CODE;
            }
            let mut functions = server.pool.functions();
            // Code that nobody has read may have made some.
            if effects.any(Effects::CODE | Effects::UNREADABLE) {
                functions.forget();
            }
            generation = functions.generation();
        }
        if effects.any(Effects::AUTHORIZATION) || self.pins.any(Effects::AUTHORIZATION) {
            let user = |settings: &Settings| settings.reported("session_authorization").map(<[u8]>::to_vec);
            self.pins = self.pins.without(Effects::AUTHORIZATION);
            if user(&server.settings) != user(&server.base) {
                self.pins |= Effects::AUTHORIZATION;
            }
        }
        let made = if opaque { ALL_PINS } else { effects.and(ALL_PINS) };
        let mut pins = made | may_end(effects).and(self.pins);
        if self.listening.is_some() && effects.any(Effects::LISTEN | Effects::DISCARD) {
            pins |= Effects::LISTEN;
        }
        if let Resets::All { .. } = resets {
            let settings = [&self.settings, &self.startup];
            names.extend(settings.into_iter().flat_map(|settings| settings.names()).map(Box::from));
            names.sort();
            names.dedup();
        }
        // PostgreSQL tells of the parameters that it reports by itself; only not which of them were reset.
        names.retain(|name| match server.base.reported_in_any_case(name) {
            None => true,
            Some(base) => resets.covers(name) && self.startup.reported_in_any_case(name) != Some(base),
        });
        if pins.is_empty() && names.is_empty() {
            return false;
        }
        // Until it is known what was reset, the client's next statement waits.
        link.touched.restores = restores;
        let calls = calls.map(|calls| calls.names).unwrap_or_default();
        let census = Census { pins, names, resets, has_reset, calls, generation, names_channels };
        let query = census.query(&server.settings);
        send_queries(server, &[query], Note::Census(Box::new(census)));
        true
    }

    /// Whether what follows must wait: a reset is on its way, and this client began with settings of its own.
    pub(super) fn awaits_restoring(&self) -> bool {
        let link = &self.links[HOME];
        // In the middle of a message, or inside a COPY, the server waits for us, not we for it.
        link.touched.restores
            && self.client.inbound.passing == Passing::Nothing
            && (!link.server.exchanges.is_empty() || link.server.cancels > 0)
            && !link.server.exchanges.needs_sync()
            && link.server.exchanges.copying() == Copying::No
    }

    /// A query is over, in the middle of a transaction: what was reset gets what the client asked for at startup, as it
    /// would from a server of its own.
    pub(super) fn restore_startup(&mut self) {
        let link = &mut self.links[HOME];
        if link.server.cancels > 0 || !std::mem::take(&mut link.touched.restores) {
            return;
        }
        let server = &mut link.server;
        let mut reset = (*self.startup).clone();
        for name in self.startup.names().filter(|name| link.touched.resets.covers(name)) {
            match server.base.reported_in_any_case(&name) {
                Some(base) => reset.set(&name, base),
                None => reset.unset(&name),
            }
        }
        if let Some(queries) = difference(&reset, &self.startup, Within::Transaction) {
            send_queries(server, &queries, Note::Restores);
        }
    }

    /// A cancel request for a server of this session can no longer hit anything: what would not go out for its sake does.
    pub fn on_cancel_ended(&mut self, cx: &mut Cx<'_, S>) {
        let is_running = matches!(self.state, State::Running(_));
        if !is_running || (self.links[HOME].touched.is_empty() && !self.awaits_return()) {
            return;
        }
        let server = &self.links[HOME].server;
        if server.exchanges.is_empty() && server.status == TxStatus::InTransaction {
            self.restore_startup();
        }
        self.after_answer(HOME, cx);
        if matches!(self.state, State::Running(_)) {
            self.pump_requests(cx);
        }
    }

    /// A census could not be taken: only on this server is the client sure to find what it left.
    pub(super) fn on_census_failed(&mut self, at: usize) {
        self.links[at].touched.has_restored();
        self.links[at].server.tainted_by = Some(self.id);
        self.pins |= Effects::UNREADABLE;
    }

    /// The server's answer to a census: the body of its DataRow.
    pub(super) fn on_census(
        &mut self,
        at: usize,
        census: &Census,
        row: &[u8],
        cx: &mut Cx<'_, S>,
    ) -> Result<(), Malformed> {
        let Found { mut pins, channels, values, harmless } = census.read(row)?;
        if let Some(channels) = channels {
            pins |= self.on_channels(at, channels, cx);
        }
        let answers = census.calls.iter().map(|name| &**name).zip(harmless);
        self.links[at].server.pool.functions().learn(census.generation, answers, cx.now);
        self.pins = self.pins.without(census.pins) | pins;
        let server = &mut self.links[at].server;
        let mut wanted = (*self.settings).clone();
        let mut had = (*server.settings).clone();
        for (name, (value, is_fresh)) in census.names.iter().zip(values) {
            let startup = self.startup.get(name);
            // PostgreSQL does not say of the parameters that it does not know itself where their values come from.
            let is_own =
                name.contains('.') && value.is_none_or(<[u8]>::is_empty) && census.resets.covers(name);
            let is_reset = is_fresh || is_own || (&**name == "role" && value == Some(b"none"));
            // A client's own value may be that of a fresh session, too.
            if is_reset && !census.has_reset && value.is_some() && wanted.get(name) == value {
                continue;
            }
            match (is_reset, startup, value) {
                (true, Some(startup), _) => wanted.set(name, startup),
                (true, None, _) | (false, _, None) => wanted.unset(name),
                (false, _, Some(value)) => wanted.set(name, value),
            }
            match value {
                Some(value) if !is_reset => had.set(name, value),
                _ => had.unset(name),
            }
        }
        if had != *server.settings {
            server.settings = Arc::new(had);
        }
        if wanted != *self.settings {
            self.settings = Arc::new(wanted);
        }
        Ok(())
    }
}
