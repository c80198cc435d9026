//! A client's proof of who it is.
//!
//! ```text
//!  Begun ─► (Held: too many failures before) ─► (Looking: auth_query) ─► the method's exchange ─► proved ─► Login, Console
//!                                                                        │   (Queueing ─► Trying: passthrough_auth)
//!                                                                        └─► wrong: Closing
//! ```
//!
//! Invariants: a client for whom nothing is configured and nothing was found goes through the same exchange as one with
//! a wrong password; nothing of it (a pool, what it has proved) is anybody else's before it has proved who it is; PBKDF2
//! runs on the helper thread.

use std::sync::Arc;

use crate::auth::attempts::Admission;
use crate::auth::keys::Credential;
use crate::auth::md5::{self, Md5Hash, Salt};
use crate::auth::plain::checked_password;
use crate::auth::scram::EndPoint;
use crate::auth::scram::server::{ServerBinding, ServerChallenged, ServerStart};
use crate::auth::secret::Password;
use crate::auth::verifier::{Candidates, Iterations, Verifier};
use crate::base::bytes::Bytes;
use crate::base::limits::AUTH_MESSAGE_BYTES_MAX;
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::cluster::demand::TooMany;
use crate::cluster::lookups::Found;
use crate::cluster::world::{OpenFailure, Passwords, StartupSettings};
use crate::config::{AuthType, HbaMethod, Origin, Secret};
use crate::session::console::{self, Console};
use crate::session::cx::{Action, Answer, Ask, Cx};
use crate::session::errors::ClientError;
use crate::session::inbound::Next;
use crate::session::lookup::Looking;
use crate::session::passthrough::Trial;
use crate::session::{ServerCluster, Session, State};
use crate::wire::{TxStatus, encode};

/// A client that has to prove who it is.
pub struct Auth<S> {
    pub until: Time,
    target: Target<S>,
    asked: StartupSettings,
    pub(super) step: Step<S>,
    /// By the rules of `[[hba]]`, or by `auth_type`.
    method: HbaMethod,
    /// Once its connection is encrypted.
    peer: Option<Box<Peer>>,
    /// It has stood in line for the failed logins of others.
    has_place: bool,
}

/// Where the client goes once it has proved itself.
enum Target<S> {
    Cluster(Arc<ServerCluster<S>>),
    /// A server has said what it has to prove. Its cluster may have to be made.
    Found(Passwords),
    /// A server has to take its password.
    Passthrough,
    Console,
    /// Nowhere: the proof fails whatever it is.
    Nobody,
    /// The user exists, the database does not, or is not the user's.
    NoDatabase(Passwords),
}

pub(super) enum Step<S> {
    /// Nothing has been asked.
    Begun,
    /// Nor will anything be before that time.
    Held(Time),
    /// A server is asked who the user is.
    Looking(Looking),
    /// There is no room for its trial until that time, or longer.
    Queueing(Secret, Time),
    /// A server is asked whether its password is right.
    Trying(Trial<S>),
    Md5(Salt),
    Plain,
    PlainChecking(Secret),
    Scram,
    /// The user's verifiers are being made; the client's first message waits.
    ScramDeriving {
        mechanism: Vec<u8>,
        message: Vec<u8>,
    },
    ScramProof(ServerChallenged),
    /// What it has shown was right, or wrong; it hears so at that time.
    Judged(Verdict, Time),
}

/// What came of a client's proof.
pub(super) enum Verdict {
    Right {
        credential: Credential,
        /// Our own proof, in SCRAM.
        reply: Option<Vec<u8>>,
    },
    Wrong,
}

impl<S> Step<S> {
    /// The client's next message is wanted.
    fn awaits_client(&self) -> bool {
        matches!(self, Step::Md5(_) | Step::Plain | Step::Scram | Step::ScramProof(_))
    }
}

impl<S> Auth<S> {
    pub fn next_time(&self) -> Time {
        match &self.step {
            Step::Held(until) | Step::Judged(_, until) => self.until.min(*until),
            Step::Looking(looking) => self.until.min(looking.until),
            Step::Queueing(_, at) => self.until.min(*at),
            Step::Trying(trial) => self.until.min(trial.until),
            _ => self.until,
        }
    }

    /// A checkout is under way.
    pub fn awaits_server(&self) -> bool {
        matches!(self.step, Step::Looking(_) | Step::Trying(_))
    }

    /// What it can be bound to.
    fn binding(&self) -> ServerBinding {
        let end_point = self.peer.as_ref().and_then(|peer| EndPoint::new(peer.end_point.as_deref()?));
        end_point.map_or(ServerBinding::Unavailable, ServerBinding::Offered)
    }

    /// What its certificate calls it, if it has shown one that is trusted.
    fn names(&self) -> Option<&[Box<str>]> {
        self.peer.as_ref().filter(|peer| peer.is_certified).map(|peer| &*peer.names)
    }
}

impl<S> Session<S> {
    pub(super) fn begin_auth(&mut self, asked: StartupSettings, cx: &mut Cx<'_, S>) {
        let State::Startup { until, peer, .. } = std::mem::replace(&mut self.state, State::Skipping) else {
            return;
        };
        self.epoch = cx.world.epoch;
        let auth = Auth {
            until,
            target: Target::Nobody,
            asked,
            step: Step::Begun,
            method: HbaMethod::ScramSha256,
            peer,
            has_place: false,
        };
        self.state = State::Auth(Box::new(auth));
        match self.admission(cx) {
            Admission::Now => self.identify(cx),
            Admission::At(time) => self.set_step(Step::Held(time)),
            Admission::Refused => self.refuse_attempt(cx),
        }
    }

    /// Where it stands among the failed logins of its user and address. It stands in their line once.
    fn admission(&mut self, cx: &mut Cx<'_, S>) -> Admission {
        match &mut self.state {
            State::Auth(auth) if !auth.has_place => {
                let admission = cx.shared.attempts().admit(self.who.peer.ip(), self.who.user(), cx.now);
                auth.has_place = admission != Admission::Now;
                admission
            }
            _ => Admission::Now,
        }
    }

    fn refuse_attempt(&mut self, cx: &mut Cx<'_, S>) {
        let user = self.who.user().to_owned();
        log::warn!("too many failed logins of user {user:?} from {}: refused", self.who.peer);
        self.fail(ClientError::TooManyAttempts { user }, cx);
    }

    /// A server is here for a question about the client.
    pub(super) fn on_auth_server(&mut self, link: usize, cx: &mut Cx<'_, S>) {
        match &self.state {
            State::Auth(auth) if matches!(auth.step, Step::Trying(_)) => self.on_trial_server(link, cx),
            _ => self.on_lookup_server(link),
        }
    }

    /// There is none, for this reason.
    pub(super) fn on_auth_refused(&mut self, failure: Option<OpenFailure>, cx: &mut Cx<'_, S>) {
        match &self.state {
            State::Auth(auth) if matches!(auth.step, Step::Trying(_)) => self.on_trial_refused(failure, cx),
            _ => self.on_lookup_refused(failure, cx),
        }
    }

    pub(super) fn set_step(&mut self, step: Step<S>) {
        if let State::Auth(auth) = &mut self.state {
            auth.step = step;
        }
    }

    pub(super) fn on_auth_time(&mut self, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &self.state else { return };
        match auth.step {
            Step::Held(until) if until <= cx.now && cx.now < auth.until => self.identify(cx),
            Step::Looking(_) => self.on_lookup_time(cx),
            Step::Queueing(_, at) if at <= cx.now && cx.now < auth.until => self.try_again(cx),
            Step::Judged(_, at) if at <= cx.now && cx.now < auth.until => self.on_judged(cx),
            Step::Trying(_) => self.on_trial_time(cx),
            _ => self.fail(ClientError::LoginTimeout, cx),
        }
    }

    /// Finds out what the client has to prove.
    fn identify(&mut self, cx: &mut Cx<'_, S>) {
        let Some(name) = self.who.name.clone() else { return };
        let State::Auth(auth) = &mut self.state else { return };
        let config = &cx.world.config;
        let host = self.who.peer.ip();
        let is_encrypted = auth.peer.is_some();
        let origin = host.map_or(Origin::Local, |address| Origin::Host { address, is_encrypted });
        let rule = match config.rule(origin, &name.database, &name.user) {
            None => None,
            Some(Some(method)) if method != HbaMethod::Reject => Some(method),
            Some(method) => {
                let error = ClientError::RuleRejects {
                    explicitly: method.is_some(),
                    host,
                    is_encrypted,
                    name: name.clone(),
                };
                log::warn!("{}", error.text());
                return self.fail(error, cx);
            }
        };
        let method = rule.unwrap_or(match config.general.auth_type {
            AuthType::Trust => HbaMethod::Trust,
            AuthType::Scram => HbaMethod::ScramSha256,
            AuthType::Md5 => HbaMethod::Md5,
            AuthType::Plain => HbaMethod::Password,
        });
        auth.method = method;
        // A configured user is looked up where nothing else is there to be compared with.
        let needs_none = matches!(method, HbaMethod::Trust | HbaMethod::Cert);
        let known =
            |passwords: &Passwords| needs_none || !passwords.is_empty() || passwords.identity.is_some();
        let target = if *name.database == *config.admin.name {
            if *name.user == *config.admin.user { Target::Console } else { Target::Nobody }
        } else if let Some(cluster) = cx.world.configured(&name).filter(|cluster| known(&cluster.passwords)) {
            Target::Cluster(cluster.clone())
        } else if let Some(passwords) =
            cx.world.wildcard_passwords_of(&name).filter(|passwords| known(passwords))
        {
            Target::Found(passwords.clone())
        } else if config.lookup(&name.database).is_some() {
            let found = cx.world.lookups().find(&name, cx.now);
            return match found {
                Some(found) => self.on_found(found, cx),
                None => self.look_up(cx),
            };
        } else if config.general.passthrough_auth.is_enabled() && config.database(&name.database).is_some() {
            if auth.peer.is_none() && !config.general.passthrough_auth.is_plain() {
                return self.fail(ClientError::EncryptionRequired, cx);
            }
            // It is taken as it is, whatever the method, and whoever has to show none cannot come this way.
            auth.method = HbaMethod::Password;
            if needs_none { Target::Nobody } else { Target::Passthrough }
        } else if let Some(cluster) = cx.world.configured(&name) {
            Target::Cluster(cluster.clone())
        } else if let Some(passwords) = cx.world.passwords_of(&name.user) {
            Target::NoDatabase(passwords.clone())
        } else {
            Target::Nobody
        };
        self.ask_for_proof(target, cx);
    }

    /// This is what servers know of the user.
    pub(super) fn on_found(&mut self, found: Found, cx: &mut Cx<'_, S>) {
        let target = match found {
            Found::Passwords(passwords) => Target::Found(passwords),
            Found::Nobody => Target::Nobody,
        };
        self.ask_for_proof(target, cx);
    }

    fn ask_for_proof(&mut self, target: Target<S>, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        let config = &cx.world.config;
        auth.target = target;
        let passwords = auth.target.passwords(cx);
        let must_be_certified = match passwords {
            Some(passwords) => passwords.must_be_certified,
            None => config.general.tls_client_ca_certificate.is_some(),
        };
        let names = auth.names();
        let is_certificate_enough = auth.method == HbaMethod::Cert;
        if (must_be_certified || is_certificate_enough) && names.is_none() {
            return self.fail(ClientError::CertificateRequired, cx);
        }
        if is_certificate_enough {
            let identity = passwords.and_then(|passwords| passwords.identity.as_deref());
            let wanted = identity.unwrap_or(self.who.user());
            return match names.is_some_and(|names| names.iter().any(|name| **name == *wanted)) {
                // As by trust: a user who does not exist is refused all the same.
                true => self.on_proved(None, cx),
                false => self.reject_certificate(cx),
            };
        }
        if let Some(passwords @ Passwords { identity: Some(identity), .. }) = passwords {
            if names.is_some_and(|names| names.contains(identity)) {
                return self.on_proved(None, cx);
            }
            if passwords.is_empty() {
                return self.reject_certificate(cx);
            }
        }
        let method = match (&auth.target, auth.method) {
            // The console is never open to everybody.
            (Target::Console, HbaMethod::Trust) => HbaMethod::ScramSha256,
            // A user with a SCRAM verifier only can prove itself in no other way (as in PostgreSQL's md5 method).
            (_, HbaMethod::Md5) if passwords.is_some_and(|all| all.md5_hashes("").is_empty()) => {
                HbaMethod::ScramSha256
            }
            (_, method) => method,
        };
        auth.step = match method {
            HbaMethod::Trust => return self.on_proved(None, cx),
            HbaMethod::Md5 => {
                let salt = Salt::new(cx.rng);
                self.client.outbox.own(|buf| encode::authentication(buf, 5, &salt.0));
                Step::Md5(salt)
            }
            HbaMethod::Password => {
                self.client.outbox.own(|buf| encode::authentication(buf, 3, &[]));
                Step::Plain
            }
            HbaMethod::ScramSha256 | HbaMethod::Cert | HbaMethod::Reject => {
                let mut names = Vec::new();
                for mechanism in auth.binding().mechanisms() {
                    encode::cstr(&mut names, mechanism.name().as_bytes());
                }
                names.push(0);
                self.client.outbox.own(|buf| encode::authentication(buf, 10, &names));
                Step::Scram
            }
        };
        // Who waited may have sent something meanwhile.
        self.on_password_bytes(cx);
    }

    pub(super) fn on_password_bytes(&mut self, cx: &mut Cx<'_, S>) {
        if !matches!(&self.state, State::Auth(auth) if auth.step.awaits_client()) {
            return;
        }
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
        // It may be a password in clear: this copy is overwritten when it is dropped.
        let body = Password::new(self.client.inbound.body(header));
        self.client.inbound.skip(header);
        self.free_sent();
        self.on_password(body.bytes(), cx);
    }

    fn on_password(&mut self, body: &[u8], cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        match std::mem::replace(&mut auth.step, Step::Begun) {
            Step::Md5(salt) => {
                let response = body.strip_suffix(&[0]).unwrap_or(body);
                let hashes = auth.target.md5_hashes(self.who.user(), cx);
                match md5::verify(&hashes, salt, response) {
                    Some(at) => self.accept(Credential::Md5(hashes[at].clone()), cx),
                    None => self.judge(Verdict::Wrong, cx),
                }
            }
            Step::Plain => {
                let given = body.strip_suffix(&[0]).unwrap_or(body);
                let given = checked_password(given).ok().and_then(|given| std::str::from_utf8(given).ok());
                let Some(given) = given.map(Secret::new) else { return self.judge(Verdict::Wrong, cx) };
                if let Target::Passthrough = auth.target {
                    return self.pass_through(given, cx);
                }
                let secrets =
                    auth.target.passwords(cx).map_or_else(Vec::new, |passwords| passwords.secrets());
                auth.step = Step::PlainChecking(given.clone());
                cx.actions.push(Action::Ask(Ask::Password {
                    secrets,
                    user: self.who.user().to_owned(),
                    given,
                }));
            }
            Step::Scram => self.on_scram_first(body, cx),
            Step::ScramProof(challenged) => match challenged.client_final(body) {
                Ok((message, login)) => {
                    let credential = Credential::Keys { challenge: login.challenge, keys: login.keys };
                    self.judge(Verdict::Right { credential, reply: Some(message) }, cx);
                }
                Err(fault) => {
                    log::debug!("SCRAM of user {:?} from {}: {fault}", self.who.user(), self.who.peer);
                    self.judge(Verdict::Wrong, cx);
                }
            },
            step => auth.step = step,
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
        let verifier =
            passwords.and_then(|passwords| Verifier::parse(passwords.hash.as_ref()?.expose()).ok());
        let candidates = match (known, passwords, verifier) {
            (Some(known), ..) => known,
            (None, Some(passwords), verifier) if !passwords.plain.is_empty() => {
                let challenge = cx.shared.salts.challenge(user, iterations);
                let ask = Ask::Candidates { challenge, verifier, passwords: passwords.plain.clone() };
                auth.step = Step::ScramDeriving { mechanism: mechanism.to_vec(), message: message.to_vec() };
                return cx.actions.push(Action::Ask(ask));
            }
            (None, _, Some(verifier)) => Arc::new(Candidates::of(verifier)),
            (None, _, None) => Arc::new(Candidates::unknown(&cx.shared.salts, user, iterations)),
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
        let started = ServerStart::new(candidates, auth.binding(), mechanism)
            .and_then(|start| start.client_first(message, cx.rng));
        let (reply, next) = match started {
            Ok(started) => started,
            Err(fault) => return self.fail(ClientError::BadPasswordMessage(fault.to_string()), cx),
        };
        self.client.outbox.own(|buf| encode::authentication(buf, 11, &reply));
        self.set_step(Step::ScramProof(next));
        self.on_password_bytes(cx);
    }

    pub(super) fn on_auth_answer(&mut self, answer: Answer, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        match (std::mem::replace(&mut auth.step, Step::Begun), answer) {
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
            (Step::PlainChecking(given), Answer::Password { matches: true }) => {
                self.accept(Credential::Password(Password::new(given.as_bytes())), cx);
            }
            (Step::PlainChecking(_), Answer::Password { matches: false }) => {
                self.judge(Verdict::Wrong, cx);
            }
            (step, _) => auth.step = step,
        }
    }

    pub(super) fn accept(&mut self, credential: Credential, cx: &mut Cx<'_, S>) {
        self.judge(Verdict::Right { credential, reply: None }, cx);
    }

    /// The client hears the verdict when it is its turn: those that began with it may have failed meanwhile, and many
    /// connections at once must guess no faster than one.
    pub(super) fn judge(&mut self, verdict: Verdict, cx: &mut Cx<'_, S>) {
        match self.admission(cx) {
            Admission::Now => self.tell(verdict, cx),
            Admission::At(time) => self.set_step(Step::Judged(verdict, time)),
            Admission::Refused => self.refuse_attempt(cx),
        }
    }

    fn on_judged(&mut self, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        if let Step::Judged(verdict, _) = std::mem::replace(&mut auth.step, Step::Begun) {
            self.tell(verdict, cx);
        }
    }

    fn tell(&mut self, verdict: Verdict, cx: &mut Cx<'_, S>) {
        let Verdict::Right { credential, reply } = verdict else { return self.reject(cx) };
        if let Some(reply) = reply {
            self.client.outbox.own(|buf| encode::authentication(buf, 12, &reply));
        }
        self.on_proved(Some(credential), cx);
    }

    fn reject_certificate(&mut self, cx: &mut Cx<'_, S>) {
        let user = self.who.user().to_owned();
        log::warn!(
            "the certificate of {} is not user {user:?}'s, database {:?}",
            self.who.peer,
            self.who.database()
        );
        self.fail(ClientError::CertificateRejected { user }, cx);
    }

    fn reject(&mut self, cx: &mut Cx<'_, S>) {
        let user = self.who.user().to_owned();
        log::warn!(
            "password authentication failed for user {user:?}, database {:?}, from {}",
            self.who.database(),
            self.who.peer
        );
        cx.shared.attempts().failed(self.who.peer.ip(), &user, cx.now);
        if let (State::Auth(auth), Some(name)) = (&self.state, &self.who.name)
            && let Target::Found(_) = auth.target
        {
            // Its password may have been changed since: the next attempt asks again.
            cx.world.lookups().forget(name);
        }
        self.fail(ClientError::PasswordRejected { user }, cx);
    }

    /// The client is who it says, and `credential` is what it has shown for that.
    pub(super) fn on_proved(&mut self, credential: Option<Credential>, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        match std::mem::replace(&mut auth.target, Target::Nobody) {
            Target::Cluster(_) => self.let_in(credential, cx),
            Target::Found(passwords) => {
                // A password that was found in clear is good for more than what was shown for it.
                let plain = passwords.plain.first().map(|plain| Credential::of(plain.as_bytes()));
                self.let_in(plain.or(credential), cx);
            }
            Target::Console => {
                cx.shared.attempts().succeeded(self.who.peer.ip(), self.who.user());
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
            Target::Passthrough => self.let_in(credential, cx),
            // Under trust, too, a user who is not configured does not get in.
            Target::Nobody => self.reject(cx),
            Target::NoDatabase(_) => {
                let database = self.who.database().to_owned();
                self.fail(ClientError::NoDatabase { database }, cx);
            }
        }
    }

    fn let_in(&mut self, credential: Option<Credential>, cx: &mut Cx<'_, S>) {
        let Some(name) = self.who.name.clone() else { return };
        cx.shared.attempts().succeeded(self.who.peer.ip(), &name.user);
        // A reload may have come while the client proved itself.
        self.epoch = cx.world.epoch;
        let cluster = match cx.world.cluster_for(&name) {
            Ok(Some(cluster)) => cluster,
            Ok(None) => return self.fail(ClientError::Unconfigured, cx),
            Err(TooMany) => {
                log::warn!(
                    "dynamic_pools_max is reached: no pool for user {:?}, database {:?}",
                    name.user,
                    name.database
                );
                return self.fail(ClientError::TooManyPools, cx);
            }
        };
        if let Some(credential) = credential
            && cluster.pools.iter().any(|pool| pool.config.learns)
        {
            cluster.learnt.learn(credential);
        }
        // The name as the cluster has it is shared by all who come with it.
        self.who.name = Some(cluster.name.clone());
        self.cluster = Some(cluster);
        if let Err(error) = self.take_place(cx) {
            return self.fail(error, cx);
        }
        let State::Auth(auth) = std::mem::replace(&mut self.state, State::Skipping) else { return };
        self.client.outbox.own(|buf| encode::authentication(buf, 0, &[]));
        self.admit(auth.asked, auth.until, cx);
    }
}

impl<S> Target<S> {
    fn passwords<'a>(&'a self, cx: &'a Cx<'_, S>) -> Option<&'a Passwords> {
        match self {
            Target::Cluster(cluster) => Some(&cluster.passwords),
            Target::Console => Some(&cx.world.admin),
            Target::Found(passwords) | Target::NoDatabase(passwords) => Some(passwords),
            Target::Passthrough | Target::Nobody => None,
        }
    }

    fn md5_hashes(&self, user: &str, cx: &Cx<'_, S>) -> Vec<Md5Hash> {
        self.passwords(cx).map_or_else(Vec::new, |passwords| passwords.md5_hashes(user))
    }
}
