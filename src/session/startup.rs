//! From the client's first byte to its first ReadyForQuery, but for its proof ([`super::auth`]): startup packets, and the
//! settings that PostgreSQL tells at login.

use std::sync::Arc;

use crate::base::address::Origin;
use crate::base::limits::CANCEL_TIMEOUT;
use crate::base::time::Time;
use crate::cluster::settings::{Settings, Within, difference, is_plain};
use crate::cluster::world::{Known, Name, Replication, StartupSettings};
use crate::config::General;
use crate::session::cx::{Action, Cx};
use crate::session::errors::ClientError;
use crate::session::exchange::Note;
use crate::session::requests::Run;
use crate::session::{ServerCluster, Session, State, discard_all, send_queries};
use crate::wire::error;
use crate::wire::proxy::{self, Source};
use crate::wire::startup::{self, Packet, Startup, StartupFault};
use crate::wire::{BackendKey, TxStatus, encode};

/// The startup parameter of those that replicate; no setting has this name.
const REPLICATION: &str = "replication";
/// PostgreSQL's NAMEDATALEN, its NUL aside.
const APPLICATION_NAME_BYTES_MAX: usize = 63;
/// Authentication, key and ReadyForQuery at a login take less.
const LOGIN_BYTES: usize = 64;

/// What a client has asked for before its startup packet: each once, as with PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    ssl: bool,
    gss: bool,
    /// A load balancer: its word about its client comes first.
    owes_header: bool,
    /// Over a Unix socket, whoever is behind it: needs no encryption and gets none, as with PostgreSQL.
    is_local: bool,
}

impl Asked {
    pub fn of(peer: Origin, general: &General) -> Asked {
        let owes_header = general.proxy_protocol_from.iter().any(|network| network.contains(peer));
        Asked { owes_header, is_local: peer.is_unix(), ..Asked::default() }
    }
}

/// A client that has proved who it is, and waits for a server's word about its settings.
pub struct Entry {
    pub until: Time,
    asked: StartupSettings,
}

/// The first byte of a TLS handshake. As that of a startup packet's length it would be far beyond the limit.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a packet before the login says.
enum Opener {
    Ssl,
    Gssenc,
    Cancel(BackendKey),
    Session {
        version: u32,
        /// Options of the protocol that we do not know.
        options: Vec<Box<[u8]>>,
        wish: Result<Wish, ClientError>,
    },
}

/// Whom a client wants to be, where, and with which settings.
struct Wish {
    name: Name,
    settings: StartupSettings,
    /// It wants to replicate the whole server, whatever the database.
    is_physical: bool,
}

impl Opener {
    fn of(packet: Packet<'_>) -> Opener {
        let startup = match packet {
            Packet::Ssl => return Opener::Ssl,
            Packet::Gssenc => return Opener::Gssenc,
            Packet::Cancel(key) => return Opener::Cancel(key),
            Packet::Startup(startup) => startup,
        };
        let unknown = startup.parameters.iter().filter(|(name, _)| name.starts_with("_pq_."));
        let options = unknown.map(|(name, _)| name.as_bytes().into()).collect();
        Opener::Session { version: startup.version, options, wish: Wish::of(&startup) }
    }
}

impl Wish {
    fn of(startup: &Startup<'_>) -> Result<Wish, ClientError> {
        let (mut user, mut database, mut settings) = (None, None, StartupSettings::new());
        let mut is_physical = false;
        for &(name, value) in &startup.parameters {
            let text = || String::from_utf8_lossy(value);
            match name {
                "user" => user = Some(text()),
                "database" => database = Some(text()),
                "replication" => {
                    if let Some(kind) = replication(value)? {
                        is_physical = kind == Replication::Physical;
                        settings.push((REPLICATION.into(), value.into()));
                    }
                }
                "options" => {
                    let options = options(&text()).map_err(ClientError::BadOption)?;
                    if let Some((name, _)) = options.iter().find(|(name, _)| &**name == REPLICATION) {
                        return Err(ClientError::BadOption(name.to_string()));
                    }
                    settings.extend(options);
                }
                name if name.starts_with("_pq_.") => {}
                name => settings.push((name.into(), value.into())),
            }
        }
        let user = user.filter(|user| !user.is_empty()).ok_or(ClientError::NoUser)?;
        let database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
        Ok(Wish { name: Name::new(&*database, &*user), settings, is_physical })
    }
}

impl<S> Session<S> {
    pub(super) fn on_startup_bytes(&mut self, cx: &mut Cx<'_, S>) {
        while let State::Startup { asked, .. } = &mut self.state {
            if asked.owes_header {
                match proxy::parse(self.client.inbound.relay.unparsed()) {
                    Ok(None) => return,
                    Ok(Some((source, length))) => {
                        asked.owes_header = false;
                        match source {
                            Source::Sender => {}
                            Source::Ip(address) => self.who.peer = Origin::Ip(address),
                            Source::Unix => self.who.peer = Origin::Unix,
                        }
                        self.client.inbound.relay.advance(length);
                        self.free_sent();
                        continue;
                    }
                    Err(fault) => return self.fail(ClientError::BadProxyHeader(fault), cx),
                }
            }
            let may_seal = cx.offers_tls && !asked.is_local;
            let first = self.client.inbound.relay.unparsed().first();
            if first == Some(&TLS_HANDSHAKE) && may_seal && !asked.ssl && !asked.gss {
                // No SSLRequest: the handshake itself (PostgreSQL 17: sslnegotiation=direct).
                (asked.ssl, asked.gss) = (true, true);
                return cx.actions.push(Action::Seal { direct: true });
            }
            match startup::parse(self.client.inbound.relay.unparsed()) {
                Ok(None) => return,
                Ok(Some((packet, length))) => {
                    let opener = Opener::of(packet);
                    self.client.inbound.relay.advance(length);
                    self.free_sent();
                    self.on_packet(opener, cx);
                }
                Err(fault) => return self.fail(startup_fault(fault), cx),
            }
        }
    }

    fn on_packet(&mut self, opener: Opener, cx: &mut Cx<'_, S>) {
        let State::Startup { asked, .. } = &mut self.state else { return };
        let may_seal = cx.offers_tls && !asked.is_local;
        match opener {
            Opener::Ssl if may_seal && !asked.ssl => {
                (asked.ssl, asked.gss) = (true, true);
                if !self.client.inbound.relay.is_empty() {
                    // PostgreSQL: CVE-2021-23214. It would be taken for what the handshake has protected.
                    return self.fail(ClientError::DataBeforeHandshake, cx);
                }
                self.client.outbox.own(|buf| buf.push(b'S'));
                cx.actions.push(Action::Seal { direct: false });
            }
            // Not available; the client goes on in clear, or not at all.
            Opener::Ssl if !asked.ssl => {
                asked.ssl = true;
                self.client.outbox.own(|buf| buf.push(b'N'));
            }
            Opener::Gssenc if !asked.gss => {
                asked.gss = true;
                self.client.outbox.own(|buf| buf.push(b'N'));
            }
            Opener::Ssl => self.fail(ClientError::UnsupportedVersion(startup::SSL_REQUEST), cx),
            Opener::Gssenc => self.fail(ClientError::UnsupportedVersion(startup::GSSENC_REQUEST), cx),
            Opener::Cancel(key) => {
                cx.actions.push(Action::CancelKey(key));
                self.state = State::Cancelling { until: cx.now + CANCEL_TIMEOUT };
            }
            Opener::Session { version, options, wish } => {
                self.negotiate(version, &options);
                match wish {
                    Ok(wish) => self.on_wish(wish, version, cx),
                    Err(error) => self.fail(error, cx),
                }
            }
        }
    }

    fn on_wish(&mut self, wish: Wish, version: u32, cx: &mut Cx<'_, S>) {
        if cx.draining {
            return self.fail(ClientError::ShuttingDown, cx);
        }
        if cx.world.config.general.tls_client_required
            && matches!(self.state, State::Startup { peer: None, asked: Asked { is_local: false, .. }, .. })
        {
            return self.fail(ClientError::EncryptionRequired, cx);
        }
        if version & 0xffff < 2 {
            self.key.shorten();
        }
        let mut wish = wish;
        if wish.is_physical {
            // libpq says "replication" where nothing has been said.
            let known = cx.world.config.replication_database(&wish.name.user, &wish.name.database);
            if let Some(database) = known {
                wish.name.database = database.into();
            }
        }
        if cx.world.config.general.application_name_add_host {
            add_host(&mut wish.settings, self.who.peer);
        }
        self.who.name = Some(Arc::new(wish.name));
        self.begin_auth(wish.settings, cx);
    }

    /// Protocol 3.2 and no `_pq_.` option is what we know; who asks for more is told (PostgreSQL:
    /// SendNegotiateProtocolVersion).
    fn negotiate(&mut self, version: u32, options: &[Box<[u8]>]) {
        if version > startup::PROTOCOL_3_2 || !options.is_empty() {
            let minor = version.min(startup::PROTOCOL_3_2) & 0xffff;
            let options: Vec<&[u8]> = options.iter().map(|option| &**option).collect();
            self.client.outbox.own(|buf| encode::negotiate_version(buf, minor, &options));
        }
    }

    /// From here on it counts. Not before: who cannot prove who it is must not take others' places.
    pub(super) fn take_place(&mut self, cx: &Cx<'_, S>) -> Result<(), ClientError> {
        let (Some(cluster), Some(name)) = (&self.cluster, &self.who.name) else { return Ok(()) };
        let place = cx.shared.clients.enter(name, cluster.client_limits);
        self.place = Some(place.map_err(|full| ClientError::TooManyClients {
            full,
            user: name.user.to_string(),
            database: name.database.to_string(),
        })?);
        Ok(())
    }

    /// The client may come in as soon as its settings are known.
    pub(super) fn admit(&mut self, asked: StartupSettings, until: Time, cx: &mut Cx<'_, S>) {
        let Some(cluster) = self.cluster.clone() else { return };
        if let Some((_, kind)) = asked.iter().find(|(name, _)| &**name == REPLICATION) {
            let kind = replication(kind);
            return self.admit_replication(kind, &cluster, asked, until, cx);
        }
        if let Some(known) = cluster.known(&asked) {
            return self.enter(known, cx);
        }
        if let Some(base) = cluster.base()
            && asked.iter().all(|(name, value)| is_plain(name, value))
        {
            let mut settings = (*base).clone();
            asked.iter().for_each(|(name, value)| settings.set(name, value));
            let known = known(settings);
            cluster.remember(asked, known.clone());
            return self.enter(known, cx);
        }
        let until = until.min(cx.now + cluster.timeouts.checkout);
        self.state = State::Login(Box::new(Entry { until, asked }));
        self.ask_for_login_server(cx);
    }

    /// A client that replicates gets a server of its own, which has logged in with what the client asks for.
    fn admit_replication(
        &mut self,
        kind: Result<Option<Replication>, ClientError>,
        cluster: &ServerCluster<S>,
        asked: StartupSettings,
        until: Time,
        cx: &mut Cx<'_, S>,
    ) {
        let kind = match kind {
            Ok(Some(kind)) if cluster.may_replicate => kind,
            Err(error) => return self.fail(error, cx),
            _ => {
                let what = "a replication connection of a user without replication_mode";
                return self.fail(ClientError::Unsupported(what), cx);
            }
        };
        self.cluster = cx.world.replication_cluster(cluster, kind, asked).map(Arc::new);
        let until = until.min(cx.now + cluster.timeouts.checkout);
        self.state = State::Login(Box::new(Entry { until, asked: StartupSettings::new() }));
        self.ask_for_login_server(cx);
    }

    /// Its server stays from here on.
    fn on_replication_server(&mut self, link: usize, cx: &mut Cx<'_, S>) {
        let server = &self.links[link].server;
        let known = known((*server.settings).clone());
        self.greet(&known, cx);
        self.state = State::Running(Run::new(cx.now));
        self.pump_requests(cx);
    }

    pub(super) fn ask_for_login_server(&mut self, cx: &mut Cx<'_, S>) {
        self.look_up_cluster(cx);
        self.checkout += 1;
        match self.cluster.as_ref().and_then(|cluster| cluster.pools.first()) {
            Some(pool) => cx.actions.push(Action::Checkout { pool: pool.clone(), number: self.checkout }),
            None => self.fail(ClientError::Unconfigured, cx),
        }
    }

    /// A server is here, to tell what it says at login and to try the client's startup settings.
    pub(super) fn on_login_server(&mut self, link: usize, cx: &mut Cx<'_, S>) {
        if self.replication().is_some() {
            return self.on_replication_server(link, cx);
        }
        let (State::Login(entry), Some(cluster)) = (&mut self.state, &self.cluster) else { return };
        let server = &mut self.links[link].server;
        cluster.set_base(&server.base);
        let mut wanted: Settings = (*server.base).clone();
        entry.asked.iter().for_each(|(name, value)| wanted.set(name, value));
        if server.tainted_by.is_some() {
            discard_all(server);
        }
        self.settings = Arc::new(wanted);
        // From the settings of a fresh session, as PostgreSQL does: a value may change only a part of a setting
        // (DateStyle = SQL keeps the order of day and month).
        let mut queries = difference(&server.settings, &server.base, Within::Nothing).unwrap_or_default();
        queries.extend(difference(&server.base, &self.settings, Within::Nothing).unwrap_or_default());
        match queries.is_empty() {
            false => send_queries(server, &queries, Note::Settings),
            true => self.on_login_settings(link, cx),
        }
    }

    /// The server has taken the settings; what it reports now is what the client sees.
    pub(super) fn on_login_settings(&mut self, link: usize, cx: &mut Cx<'_, S>) {
        let State::Login(entry) = std::mem::replace(&mut self.state, State::Skipping) else { return };
        let server = &mut self.links[link].server;
        let known = known(Settings {
            reported: server.settings.reported.clone(),
            other: self.settings.other.clone(),
        });
        self.settings = known.settings.clone();
        server.settings = known.settings.clone();
        if let Some(cluster) = &self.cluster {
            cluster.remember(entry.asked, known.clone());
        }
        self.part_with(link, cx);
        self.enter(known, cx);
    }

    /// The server has refused a startup setting: as at a login of PostgreSQL's own, that is fatal.
    pub(super) fn on_login_refused(&mut self, link: usize, body: &[u8], cx: &mut Cx<'_, S>) {
        // Some of the settings may have been taken: nobody else must meet them.
        self.links[link].server.tainted_by = Some(0);
        self.client.outbox.own(|buf| {
            encode::message(buf, b'E', |buf| {
                for (code, value) in error::fields(body) {
                    buf.push(code);
                    encode::cstr(buf, if matches!(code, b'S' | b'V') { b"FATAL" } else { value });
                }
                buf.push(0);
            });
        });
        self.who.errors += 1;
        self.close(cx);
    }

    /// The login is complete.
    fn enter(&mut self, known: Known, cx: &mut Cx<'_, S>) {
        self.greet(&known, cx);
        self.state = State::Idle { since: cx.now, peeked: 0 };
        self.on_idle_bytes(cx);
    }

    fn greet(&mut self, known: &Known, cx: &Cx<'_, S>) {
        self.settings = known.settings.clone();
        self.startup = self.settings.clone();
        let key = &self.key;
        self.client.outbox.own(|buf| {
            buf.reserve(known.greeting.len() + LOGIN_BYTES);
            buf.extend_from_slice(&known.greeting);
            encode::backend_key(buf, key.pid, key.secret());
            encode::ready(buf, TxStatus::Idle);
        });
        if cx.world.config.general.log_connections {
            let who = &self.who;
            log::info!(
                "client {} of user {:?}, database {:?} connected",
                who.peer,
                who.user(),
                who.database()
            );
        }
    }
}

/// Appends the client's address to its application_name, of which the server keeps 63 bytes: the address above all.
fn add_host(settings: &mut StartupSettings, peer: Origin) {
    let address = match peer {
        Origin::Ip(address) => format!(" - {address}"),
        Origin::Unix => " - unix".to_owned(),
    };
    let is_name = |(name, _): &&mut (Box<str>, Box<[u8]>)| name.eq_ignore_ascii_case("application_name");
    let old = settings.iter_mut().rev().find(is_name);
    let name = old.as_ref().map_or(&b"app"[..], |(_, value)| value);
    let mut length = name.len().min(APPLICATION_NAME_BYTES_MAX - address.len());
    // Not in the middle of a character.
    while length < name.len() && name[length] & 0xc0 == 0x80 && length > 0 {
        length -= 1;
    }
    let value = [&name[..length], address.as_bytes()].concat().into();
    match old {
        Some((_, old)) => *old = value,
        None => settings.push(("application_name".into(), value)),
    }
}

/// Settings with the messages that tell of them: most clients come with the same ones.
fn known(settings: Settings) -> Known {
    let mut greeting = Vec::new();
    for (name, value) in &settings.reported {
        encode::parameter_status(&mut greeting, name, value);
    }
    Known { settings: Arc::new(settings), greeting: greeting.into() }
}

/// The settings in the startup parameter `options`: `-c name=value`, `-cname=value` and `--name=value`, where a
/// dash in a long name stands for an underscore (PostgreSQL: process_postgres_switches).
fn options(text: &str) -> Result<StartupSettings, String> {
    let mut settings = StartupSettings::new();
    let mut arguments = startup::split_options(text).into_iter();
    while let Some(argument) = arguments.next() {
        let setting = if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = long.split_once('=').ok_or(argument.clone())?;
            Some((name.replace('-', "_"), value.to_owned()))
        } else if argument == "-c" {
            let next = arguments.next().ok_or(argument)?;
            next.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        } else if let Some(short) = argument.strip_prefix("-c") {
            short.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        } else {
            return Err(argument);
        };
        let (name, value) = setting.ok_or_else(|| "-c".to_owned())?;
        settings.push((name.into(), value.into_bytes().into()));
    }
    Ok(settings)
}

/// What the startup parameter `replication` asks for (PostgreSQL: ProcessStartupPacket, parse_bool: any beginning of a word
/// will do that is that of one only).
fn replication(value: &[u8]) -> Result<Option<Replication>, ClientError> {
    if value == b"database" {
        return Ok(Some(Replication::Logical));
    }
    let value = value.to_ascii_lowercase();
    let begins = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || value == b"1" {
        return Ok(Some(Replication::Physical));
    }
    if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || value == b"0" {
        return Ok(None);
    }
    Err(ClientError::BadReplication(String::from_utf8_lossy(&value).into_owned()))
}

fn startup_fault(fault: StartupFault) -> ClientError {
    match fault {
        StartupFault::UnsupportedVersion(version) => ClientError::UnsupportedVersion(version),
        StartupFault::BadLength(length) => ClientError::BadStartup(format!("length {length}")),
        StartupFault::Malformed => ClientError::BadStartup("expected terminator as last byte".into()),
        StartupFault::BadName => ClientError::BadStartup("a parameter's name is not UTF-8".into()),
        StartupFault::TooManyParameters => ClientError::BadStartup("too many parameters".into()),
        StartupFault::BadCancel => ClientError::BadStartup("a cancel request of impossible length".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_replication() {
        for (values, kind) in [
            (&["database"][..], Some(Replication::Logical)),
            (&["true", "t", "TRUE", "on", "yes", "y", "1"], Some(Replication::Physical)),
            (&["false", "f", "off", "of", "no", "N", "0"], None),
        ] {
            for value in values {
                assert_eq!(replication(value.as_bytes()), Ok(kind), "{value}");
            }
        }
        for value in ["", "o", "DATABASE", "2", "maybe", "truely"] {
            assert!(matches!(replication(value.as_bytes()), Err(ClientError::BadReplication(_))), "{value}");
        }
    }

    #[test]
    fn an_address_behind_the_application_name() {
        let with = |name: Option<&str>, peer: Origin| {
            let mut settings = StartupSettings::new();
            settings.push(("timezone".into(), b"UTC"[..].into()));
            settings.extend(name.map(|name| ("Application_Name".into(), name.as_bytes().into())));
            add_host(&mut settings, peer);
            assert_eq!(settings.len(), 2);
            String::from_utf8(settings.remove(1).1.into()).unwrap()
        };
        let peer = Origin::Ip("10.0.0.1:5000".parse().unwrap());
        assert_eq!(with(Some("psql"), peer), "psql - 10.0.0.1:5000");
        assert_eq!(with(None, Origin::Unix), "app - unix");
        let v6 = Origin::Ip("[1111:2222:3333:4444:5555:6666:7777:8888]:50000".parse().unwrap());
        assert_eq!(
            with(Some(&"x".repeat(60)), v6),
            "xxxxxxxxxxxxx - [1111:2222:3333:4444:5555:6666:7777:8888]:50000"
        );
        let long = with(Some(&"ü".repeat(40)), peer);
        assert_eq!(long, format!("{} - 10.0.0.1:5000", "ü".repeat(23)));
    }

    #[test]
    fn options_of_the_startup_packet() {
        let one =
            |name: &str, value: &str| -> (Box<str>, Box<[u8]>) { (name.into(), value.as_bytes().into()) };
        assert_eq!(
            options("-c a=b --work-mem=4MB -cx=y\\ z"),
            Ok(vec![one("a", "b"), one("work_mem", "4MB"), one("x", "y z")])
        );
        assert_eq!(options("-S 4"), Err("-S".to_owned()));
        assert_eq!(options("--work-mem"), Err("--work-mem".to_owned()));
        assert_eq!(options("-c"), Err("-c".to_owned()));
        assert_eq!(options(""), Ok(vec![]));
    }
}
