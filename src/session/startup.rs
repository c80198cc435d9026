//! From the client's first byte to its first ReadyForQuery: startup packets, authentication, and the settings that
//! PostgreSQL tells at login.

use std::sync::Arc;

use crate::auth::md5::{self, Md5Hash, Salt};
use crate::auth::plain::{StoredSecret, checked_password};
use crate::auth::scram::EndPoint;
use crate::auth::scram::server::{ServerBinding, ServerChallenged, ServerStart};
use crate::auth::secret::Password;
use crate::auth::verifier::{Candidates, Iterations, Verifier};
use crate::base::address::Origin;
use crate::base::bytes::Bytes;
use crate::base::limits::{AUTH_MESSAGE_BYTES_MAX, CANCEL_TIMEOUT};
use crate::base::time::Time;
use crate::cluster::settings::{Settings, Within, difference, is_plain};
use crate::cluster::world::{Known, Name, Passwords, Replication, StartupSettings};
use crate::config::{AuthType, General, Secret};
use crate::session::console::{self, Console};
use crate::session::cx::{Action, Answer, Ask, Cx};
use crate::session::errors::ClientError;
use crate::session::exchange::Note;
use crate::session::inbound::Next;
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

/// A client that has to prove who it is.
pub struct Auth<S> {
    pub until: Time,
    target: Target<S>,
    asked: StartupSettings,
    step: Step,
    binding: ServerBinding,
}

/// Where the client goes once it has proved itself.
enum Target<S> {
    Cluster(Arc<ServerCluster<S>>),
    Console,
    /// Nowhere: the proof fails whatever it is.
    Nobody,
    /// The user exists, the database does not, or is not the user's.
    NoDatabase(Passwords),
}

enum Step {
    Md5(Salt),
    Plain,
    PlainChecking,
    Scram,
    /// The user's verifiers are being made; the client's first message waits.
    ScramDeriving {
        mechanism: Vec<u8>,
        message: Vec<u8>,
    },
    ScramProof(ServerChallenged),
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
                "replication" => match replication(value)? {
                    Some(kind) => {
                        is_physical = kind == Replication::Physical;
                        settings.push((REPLICATION.into(), value.into()));
                    }
                    None => {}
                },
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
        // The name as it is configured is shared by all who come with it.
        let known = cx.world.cluster_of(&wish.name).map(|cluster| cluster.name.clone());
        self.who.name = Some(known.unwrap_or_else(|| Arc::new(wish.name)));
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

    fn begin_auth(&mut self, asked: StartupSettings, cx: &mut Cx<'_, S>) {
        let State::Startup { until, peer, .. } = std::mem::replace(&mut self.state, State::Skipping) else {
            return;
        };
        self.epoch = cx.world.epoch;
        let config = &cx.world.config;
        let Some(name) = &self.who.name else { return };
        let target = if *name.database == *config.admin.name {
            if *name.user == *config.admin.user { Target::Console } else { Target::Nobody }
        } else if let Some(cluster) = cx.world.cluster_of(name) {
            Target::Cluster(cluster)
        } else if let Some(passwords) = cx.world.passwords_of(&name.user) {
            Target::NoDatabase(passwords.clone())
        } else {
            Target::Nobody
        };
        let end_point = peer.as_ref().and_then(|peer| EndPoint::new(peer.end_point.as_deref()?));
        let binding = end_point.map_or(ServerBinding::Unavailable, ServerBinding::Offered);
        let passwords = target.passwords(cx);
        let must_be_certified = match passwords {
            Some(passwords) => passwords.must_be_certified,
            None => config.general.tls_client_ca_certificate.is_some(),
        };
        let names = peer.filter(|peer| peer.is_certified).map(|peer| peer.names);
        if must_be_certified && names.is_none() {
            return self.fail(ClientError::CertificateRequired, cx);
        }
        if let Some(Passwords { identity: Some(identity), plain, hash, .. }) = passwords {
            if names.is_some_and(|names| names.contains(identity)) {
                return self.let_in(target, asked, until, cx);
            }
            if plain.is_empty() && hash.is_none() {
                let user = self.who.user().to_owned();
                log::warn!(
                    "the certificate of {} is not user {user:?}'s, database {:?}",
                    self.who.peer,
                    self.who.database()
                );
                return self.fail(ClientError::CertificateRejected { user }, cx);
            }
        }
        let kind = match (&target, config.general.auth_type) {
            // The console is never open to everybody.
            (Target::Console, AuthType::Trust) => AuthType::Scram,
            // A user with a SCRAM verifier only can prove itself in no other way (as in PostgreSQL's md5 method).
            (target, AuthType::Md5) if target.passwords(cx).is_some_and(|all| all.plain.is_empty()) => {
                AuthType::Scram
            }
            (_, kind) => kind,
        };
        let step = match kind {
            AuthType::Trust => return self.let_in(target, asked, until, cx),
            AuthType::Md5 => {
                let salt = Salt::new(cx.rng);
                self.client.outbox.own(|buf| encode::authentication(buf, 5, &salt.0));
                Step::Md5(salt)
            }
            AuthType::Plain => {
                self.client.outbox.own(|buf| encode::authentication(buf, 3, &[]));
                Step::Plain
            }
            AuthType::Scram => {
                let mut names = Vec::new();
                for mechanism in binding.mechanisms() {
                    encode::cstr(&mut names, mechanism.name().as_bytes());
                }
                names.push(0);
                self.client.outbox.own(|buf| encode::authentication(buf, 10, &names));
                Step::Scram
            }
        };
        self.state = State::Auth(Box::new(Auth { until, target, asked, step, binding }));
    }

    pub(super) fn on_password_bytes(&mut self, cx: &mut Cx<'_, S>) {
        let header = match self.client.inbound.step() {
            Ok(Next::Frame(header)) => header,
            Ok(_) => return,
            Err(bad) => return self.fail(ClientError::BadMessageLength { tag: bad.tag }, cx),
        };
        match header.tag {
            b'p' if header.body as usize <= AUTH_MESSAGE_BYTES_MAX => {}
            b'X' => return self.close(cx),
            _ => {
                let text = format!("expected password response, got message type {}", header.tag);
                return self.fail(ClientError::BadPasswordMessage(text), cx);
            }
        }
        if !self.client.inbound.hold(header, cx.chunks) {
            return;
        }
        let State::Auth(auth) = &mut self.state else { return };
        if matches!(auth.step, Step::PlainChecking | Step::ScramDeriving { .. }) {
            return;
        }
        let body = self.client.inbound.body(header).to_vec();
        self.client.inbound.skip(header);
        self.free_sent();
        self.on_password(&body, cx);
    }

    fn on_password(&mut self, body: &[u8], cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        match std::mem::replace(&mut auth.step, Step::Plain) {
            Step::Md5(salt) => {
                let response = body.strip_suffix(&[0]).unwrap_or(body);
                let hashes = auth.target.md5_hashes(self.who.user(), cx);
                match md5::verify(&hashes, salt, response) {
                    Some(_) => self.on_proved(cx),
                    None => self.reject(cx),
                }
            }
            Step::Plain => {
                let given = body.strip_suffix(&[0]).unwrap_or(body);
                let Ok(given) = checked_password(given) else { return self.reject(cx) };
                let given = Secret::new(String::from_utf8_lossy(given));
                let secrets = auth.target.secrets(cx);
                auth.step = Step::PlainChecking;
                cx.actions.push(Action::Ask(Ask::Password {
                    secrets,
                    user: self.who.user().to_owned(),
                    given,
                }));
            }
            Step::Scram => self.on_scram_first(body, cx),
            Step::ScramProof(challenged) => match challenged.client_final(body) {
                Ok((message, _login)) => {
                    self.client.outbox.own(|buf| encode::authentication(buf, 12, &message));
                    self.on_proved(cx);
                }
                Err(fault) => {
                    log::debug!("SCRAM of user {:?} from {}: {fault}", self.who.user(), self.who.peer);
                    self.reject(cx);
                }
            },
            Step::PlainChecking | Step::ScramDeriving { .. } => {}
        }
    }

    /// SASLInitialResponse.
    fn on_scram_first(&mut self, body: &[u8], cx: &mut Cx<'_, S>) {
        let mut bytes = Bytes::new(body);
        let initial = bytes.cstr().and_then(|mechanism| {
            let length = bytes.u32()? as usize;
            Ok((mechanism, bytes.take(length)?))
        });
        let Ok((mechanism, message)) = initial else {
            let text = "malformed SASLInitialResponse message".to_owned();
            return self.fail(ClientError::BadPasswordMessage(text), cx);
        };
        let State::Auth(auth) = &mut self.state else { return };
        let iterations = Iterations::DEFAULT;
        let user = self.who.user().as_bytes();
        let passwords = auth.target.passwords(cx);
        let known = passwords.and_then(|passwords| passwords.candidates.get().cloned());
        let candidates = match (known, passwords) {
            (Some(known), _) => known,
            (None, Some(passwords)) if !passwords.plain.is_empty() => {
                let challenge = cx.shared.salts.challenge(user, iterations);
                let ask = Ask::Candidates { challenge, passwords: passwords.plain.clone() };
                auth.step = Step::ScramDeriving { mechanism: mechanism.to_vec(), message: message.to_vec() };
                return cx.actions.push(Action::Ask(ask));
            }
            (None, Some(Passwords { hash: Some(hash), .. })) => match Verifier::parse(hash.expose()) {
                Ok(verifier) => Arc::new(Candidates::of(verifier)),
                Err(_) => Arc::new(Candidates::unknown(&cx.shared.salts, user, iterations)),
            },
            (None, _) => Arc::new(Candidates::unknown(&cx.shared.salts, user, iterations)),
        };
        self.challenge(candidates, mechanism, message, cx);
    }

    fn challenge(
        &mut self,
        candidates: Arc<Candidates>,
        mechanism: &[u8],
        message: &[u8],
        cx: &mut Cx<'_, S>,
    ) {
        let State::Auth(auth) = &self.state else { return };
        let started = ServerStart::new(candidates, auth.binding.clone(), mechanism)
            .and_then(|start| start.client_first(message, cx.rng));
        let (reply, next) = match started {
            Ok(started) => started,
            Err(fault) => return self.fail(ClientError::BadPasswordMessage(fault.to_string()), cx),
        };
        self.client.outbox.own(|buf| encode::authentication(buf, 11, &reply));
        if let State::Auth(auth) = &mut self.state {
            auth.step = Step::ScramProof(next);
        }
    }

    pub(super) fn on_auth_answer(&mut self, answer: Answer, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        match (std::mem::replace(&mut auth.step, Step::Plain), answer) {
            (Step::ScramDeriving { mechanism, message }, Answer::Candidates(made)) => {
                let user = self.who.user().as_bytes();
                let candidates = made.unwrap_or_else(|| {
                    Arc::new(Candidates::unknown(&cx.shared.salts, user, Iterations::DEFAULT))
                });
                if let Some(passwords) = auth.target.passwords(cx) {
                    // Somebody else may have been first: the same value.
                    let _ = passwords.candidates.set(candidates.clone());
                }
                self.challenge(candidates, &mechanism, &message, cx);
            }
            (Step::PlainChecking, Answer::Password { matches: true }) => self.on_proved(cx),
            (Step::PlainChecking, Answer::Password { matches: false }) => self.reject(cx),
            (step, _) => auth.step = step,
        }
    }

    fn reject(&mut self, cx: &mut Cx<'_, S>) {
        let user = self.who.user().to_owned();
        log::warn!(
            "password authentication failed for user {user:?}, database {:?}, from {}",
            self.who.database(),
            self.who.peer
        );
        self.fail(ClientError::PasswordRejected { user }, cx);
    }

    fn on_proved(&mut self, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = std::mem::replace(&mut self.state, State::Skipping) else { return };
        let Auth { until, target, asked, .. } = *auth;
        self.let_in(target, asked, until, cx);
    }

    fn let_in(&mut self, target: Target<S>, asked: StartupSettings, until: Time, cx: &mut Cx<'_, S>) {
        match target {
            Target::Cluster(cluster) => {
                self.cluster = Some(cluster);
                // A reload may have come while the client proved itself.
                self.look_up_cluster(cx);
                if self.cluster.is_none() {
                    return self.fail(ClientError::Unconfigured, cx);
                }
                if let Err(error) = self.take_place(cx) {
                    return self.fail(error, cx);
                }
                self.client.outbox.own(|buf| encode::authentication(buf, 0, &[]));
                self.admit(asked, until, cx);
            }
            Target::Console => {
                self.client.outbox.own(|buf| {
                    encode::authentication(buf, 0, &[]);
                    for (name, value) in console::PARAMETERS {
                        encode::parameter_status(buf, name, value.as_bytes());
                    }
                    encode::backend_key(buf, self.key.pid, self.key.secret());
                    encode::ready(buf, TxStatus::Idle);
                });
                self.state = State::Console(Console::default());
            }
            // Under trust, too, a user who is not configured does not get in.
            Target::Nobody => self.reject(cx),
            Target::NoDatabase(_) => {
                let database = self.who.database().to_owned();
                self.fail(ClientError::NoDatabase { database }, cx);
            }
        }
    }

    /// From here on it counts. Not before: who cannot prove who it is must not take others' places.
    fn take_place(&mut self, cx: &Cx<'_, S>) -> Result<(), ClientError> {
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
    fn admit(&mut self, asked: StartupSettings, until: Time, cx: &mut Cx<'_, S>) {
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

impl<S> Target<S> {
    fn passwords<'a>(&'a self, cx: &'a Cx<'_, S>) -> Option<&'a Passwords> {
        match self {
            Target::Cluster(cluster) => Some(&cluster.passwords),
            Target::Console => Some(&cx.world.admin),
            Target::NoDatabase(passwords) => Some(passwords),
            Target::Nobody => None,
        }
    }

    fn md5_hashes(&self, user: &str, cx: &Cx<'_, S>) -> Vec<Md5Hash> {
        let plain = self.passwords(cx).into_iter().flat_map(|passwords| &passwords.plain);
        plain
            .map(|secret| {
                Md5Hash::parse(secret.as_bytes())
                    .unwrap_or_else(|| Md5Hash::of(secret.as_bytes(), user.as_bytes()))
            })
            .collect()
    }

    fn secrets(&self, cx: &Cx<'_, S>) -> Vec<StoredSecret> {
        let Some(passwords) = self.passwords(cx) else { return Vec::new() };
        let plain = passwords.plain.iter().map(|secret| StoredSecret::Text(Password::new(secret.as_bytes())));
        let hash = passwords.hash.iter().map(|hash| StoredSecret::parse(hash.expose()));
        plain.chain(hash).collect()
    }
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
            "xxxxxxxxxxxx - [1111:2222:3333:4444:5555:6666:7777:8888]:50000"
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
