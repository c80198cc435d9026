//! Login to a server: from the startup packet to the first ReadyForQuery.
//!
//! ```text
//! Greeting ─► (AskedTls ─► Sealing ─►) Asked ─► (password | md5 | SCRAM: Scram ─► Deriving ─► Scram) ─► Accepted ─► done
//! ```

use std::sync::Arc;

use crate::auth::keys::{Credential, DerivedKeys, KeyJob, KeySource};
use crate::auth::md5::Salt;
use crate::auth::scram::client::{ClientBinding, ClientGreeted, ClientScram};
use crate::auth::scram::{EndPoint, ScramFault};
use crate::base::bytes::{Bytes, Malformed};
use crate::base::limits::{AUTH_MESSAGE_BYTES_MAX, REPORTED_PARAMETER_BYTES_MAX, REPORTED_PARAMETERS_MAX};
use crate::base::outbox::Outbox;
use crate::base::peer::Peer;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::cluster::settings::{Settings, report};
use crate::cluster::shared::Shared;
use crate::cluster::world::{OpenFailure, Pool, PoolConfig};
use crate::config::TlsVerify;
use crate::wire::startup::PROTOCOL_3_0;
use crate::wire::{BackendKey, TxStatus, encode};

#[derive(Debug)]
pub struct Login {
    state: State,
    pub deadline: Time,
    /// What the server reports on the way.
    pub settings: Arc<Settings>,
    pub key: BackendKey,
    /// What the proof of the password is bound to.
    binding: ClientBinding,
}

#[derive(Debug)]
enum State {
    /// The startup packet has not been sent: the connection may not stand yet.
    Greeting,
    /// An SSLRequest has been sent; one byte answers it.
    AskedTls,
    /// The record layer is being put before the socket.
    Sealing,
    /// The server has it.
    Asked,
    Scram(ClientScram),
    /// Keys are being derived elsewhere.
    Deriving(ClientScram),
    /// AuthenticationOk has come.
    Accepted,
}

/// What a message of the server leads to.
#[derive(Debug)]
pub enum Step {
    Going,
    /// The server is ready for the handshake: encrypt the connection, then call `greet`.
    Seal,
    /// Run this on the helper thread, then call `on_keys`.
    Derive(KeyJob),
    /// ReadyForQuery.
    Done,
    Failed(OpenFailure),
}

impl Login {
    pub fn new(config: &PoolConfig, now: Time) -> Login {
        Login {
            state: State::Greeting,
            deadline: now + config.connect_timeout,
            settings: Arc::default(),
            key: BackendKey::default(),
            binding: ClientBinding::Unavailable,
        }
    }

    /// The connection stands.
    pub fn begin(&mut self, config: &PoolConfig, asks_tls: bool, outbox: &mut Outbox) {
        match self.state {
            State::Greeting if asks_tls => {
                outbox.own(encode::ssl_request);
                self.state = State::AskedTls;
            }
            State::Greeting => self.greet(config, outbox),
            _ => {}
        }
    }

    /// The next byte is not a message, but the answer to SSLRequest.
    pub fn awaits_word(&self) -> bool {
        matches!(self.state, State::AskedTls)
    }

    /// `word` answers the SSLRequest; `followed` if more has come with it, which nobody can have a reason to send.
    pub fn on_word(&mut self, word: u8, followed: bool, config: &PoolConfig, outbox: &mut Outbox) -> Step {
        match word {
            b'S' if followed => {
                // PostgreSQL: CVE-2021-23222. It would be taken for what the handshake has protected.
                let text = "it sent unencrypted data after it had agreed to encrypt";
                Step::Failed(OpenFailure::Login(text.to_owned()))
            }
            b'S' => {
                self.state = State::Sealing;
                Step::Seal
            }
            b'N' if matches!(config.tls, TlsVerify::VerifyCa | TlsVerify::VerifyFull) => {
                let text =
                    format!("it does not encrypt, which tls_verify = \"{}\" demands", config.tls.as_str());
                Step::Failed(OpenFailure::Login(text))
            }
            b'N' => {
                self.greet(config, outbox);
                Step::Going
            }
            // An ErrorResponse would come unauthenticated: its text is not to be believed (PostgreSQL: CVE-2024-10977).
            _ => Step::Failed(OpenFailure::Login("it did not understand the request to encrypt".to_owned())),
        }
    }

    /// The connection is encrypted: the login follows.
    pub fn on_secured(&mut self, peer: &Peer, config: &PoolConfig, outbox: &mut Outbox) {
        if matches!(self.state, State::Sealing) {
            let end_point = peer.end_point.as_deref().and_then(EndPoint::new);
            self.binding = end_point.map_or(ClientBinding::Unavailable, ClientBinding::Prefer);
            self.greet(config, outbox);
        }
    }

    /// Sends the startup packet.
    fn greet(&mut self, config: &PoolConfig, outbox: &mut Outbox) {
        let fixed = [("user", &*config.server_user), ("database", &*config.server_database)];
        let fixed = fixed.into_iter().map(|(name, value)| (name, value.as_bytes()));
        let settings = config.server_settings.iter().map(|(name, value)| (&**name, value.as_bytes()));
        let of_client = config.startup.iter().map(|(name, value)| (&**name, &**value));
        outbox.own(|buf| encode::startup(buf, PROTOCOL_3_0, fixed.chain(settings).chain(of_client)));
        self.state = State::Asked;
    }

    /// The largest message that has any business here.
    pub const MESSAGE_BYTES_MAX: usize = REPORTED_PARAMETER_BYTES_MAX;

    pub fn on_message<T>(
        &mut self,
        tag: u8,
        body: &[u8],
        pool: &Pool<T>,
        outbox: &mut Outbox,
        shared: &Shared,
        rng: &mut dyn Rng,
    ) -> Step {
        let step = match tag {
            b'R' => self.on_authentication(body, pool, outbox, shared, rng),
            b'S' => self.on_parameter(body).map(|()| Step::Going).map_err(malformed),
            b'K' => self.on_key(body).map(|()| Step::Going).map_err(malformed),
            b'E' => return Step::Failed(OpenFailure::Refused(body.into())),
            b'N' | b'v' => Ok(Step::Going),
            b'Z' => match (&self.state, TxStatus::of_body(body)) {
                (State::Accepted, Some(TxStatus::Idle)) => Ok(Step::Done),
                _ => Err("ReadyForQuery before the login was complete".to_owned()),
            },
            tag => Err(format!("unexpected message {:?} during login", char::from(tag))),
        };
        step.unwrap_or_else(|text| Step::Failed(OpenFailure::Login(text)))
    }

    /// The keys have been derived.
    pub fn on_keys(&mut self, derived: &DerivedKeys, outbox: &mut Outbox, shared: &Shared) -> Step {
        shared.keys().insert(derived);
        match std::mem::replace(&mut self.state, State::Asked) {
            State::Deriving(ClientScram::NeedsKeys(paused)) => {
                let (message, next) = paused.resume(&derived.keys);
                outbox.own(|buf| encode::password(buf, &message));
                self.state = State::Scram(ClientScram::AwaitsSignature(next));
                Step::Going
            }
            _ => Step::Failed(OpenFailure::Login("keys came when none were asked for".to_owned())),
        }
    }

    fn on_authentication<T>(
        &mut self,
        body: &[u8],
        pool: &Pool<T>,
        outbox: &mut Outbox,
        shared: &Shared,
        rng: &mut dyn Rng,
    ) -> Result<Step, String> {
        if body.len() > AUTH_MESSAGE_BYTES_MAX {
            return Err("an authentication message is too long".to_owned());
        }
        let mut bytes = Bytes::new(body);
        let code = bytes.u32().map_err(malformed)?;
        let user = &pool.config.server_user;
        let credential = || {
            pool.credential().ok_or_else(|| match pool.config.learns {
                true => format!(
                    "the server asks for a password, and none is known for user \"{user}\" before a client has logged in"
                ),
                false => format!("the server asks for a password, and none is configured for user \"{user}\""),
            })
        };
        let state = std::mem::replace(&mut self.state, State::Asked);
        self.state = match (code, state) {
            (0, State::Asked) => State::Accepted,
            (0, State::Scram(scram)) => {
                scram.authentication_ok().map_err(scram_fault)?;
                State::Accepted
            }
            (3, State::Asked) => {
                let Credential::Password(password) = credential()? else {
                    return Err(format!(
                        "the server asks for the password of user \"{user}\" in clear, and only a proof of it is known"
                    ));
                };
                outbox.own(|buf| encode::message(buf, b'p', |buf| encode::cstr(buf, password.bytes())));
                State::Asked
            }
            (5, State::Asked) => {
                let salt = bytes.take(4).map_err(malformed)?;
                let Some(hash) = credential()?.md5_hash(user.as_bytes()) else {
                    return Err(format!(
                        "the server asks for the md5 hash of user \"{user}\", and only SCRAM keys are known"
                    ));
                };
                let mut response = hash.response(Salt([salt[0], salt[1], salt[2], salt[3]])).to_vec();
                response.push(0);
                outbox.own(|buf| encode::password(buf, &response));
                State::Asked
            }
            (10, State::Asked) => {
                credential()?;
                let mechanisms = bytes.rest().split(|&byte| byte == 0).filter(|name| !name.is_empty());
                let (greeting, next) =
                    ClientGreeted::begin(mechanisms, &self.binding, rng).map_err(scram_fault)?;
                outbox.own(|buf| encode::sasl_initial(buf, greeting.mechanism.name(), &greeting.message));
                State::Scram(ClientScram::Greeted(next))
            }
            (11, State::Scram(ClientScram::Greeted(greeted))) => {
                let paused = greeted.server_first(bytes.rest()).map_err(scram_fault)?;
                let credential = credential()?;
                let source =
                    credential.keys_for(paused.challenge(), &mut shared.keys()).map_err(scram_fault)?;
                match source {
                    KeySource::Ready(keys) => {
                        let (message, next) = paused.resume(&keys);
                        outbox.own(|buf| encode::password(buf, &message));
                        State::Scram(ClientScram::AwaitsSignature(next))
                    }
                    KeySource::Derive(job) => {
                        self.state = State::Deriving(ClientScram::NeedsKeys(paused));
                        return Ok(Step::Derive(job));
                    }
                }
            }
            (12, State::Scram(ClientScram::AwaitsSignature(awaits))) => {
                let proven = awaits.server_final(bytes.rest()).map_err(scram_fault)?;
                State::Scram(ClientScram::Proven(proven))
            }
            (0 | 3 | 5 | 10 | 11 | 12, _) => {
                return Err(format!("authentication message {code} came at the wrong time"));
            }
            _ => {
                return Err(format!(
                    "the server asks for authentication method {code}, which is not supported"
                ));
            }
        };
        Ok(Step::Going)
    }

    fn on_parameter(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let (name, value) = parameter(body)?;
        if self.settings.reported.len() < REPORTED_PARAMETERS_MAX {
            report(&mut self.settings, name, value);
        }
        Ok(())
    }

    fn on_key(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let mut bytes = Bytes::new(body);
        let pid = bytes.u32()?;
        if !(4..=256).contains(&bytes.rest().len()) {
            return Err(Malformed);
        }
        self.key = BackendKey { pid, secret: bytes.rest().into() };
        Ok(())
    }
}

/// Name and value of a ParameterStatus.
pub fn parameter(body: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let mut bytes = Bytes::new(body);
    let name = std::str::from_utf8(bytes.cstr()?).map_err(|_| Malformed)?;
    Ok((name, bytes.cstr()?))
}

fn malformed(_: Malformed) -> String {
    "a message of the login is malformed".to_owned()
}

fn scram_fault(fault: ScramFault) -> String {
    fault.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> (Login, PoolConfig, Outbox) {
        let text = "[[databases]]\nname = 'd'\nhost = '127.0.0.1'\n";
        let users = "[[users]]\nname = 'u'\ndatabase = 'd'\npassword = 'p'\n";
        let sources = crate::config::load::Sources {
            config: Some(crate::config::load::Text { file: "pgdog.toml", text }),
            users: Some(crate::config::load::Text { file: "users.toml", text: users }),
            ..Default::default()
        };
        let config = crate::config::load::build(&sources).into_result().unwrap().0;
        let world = crate::cluster::world::World::<()>::build(Arc::new(config), None);
        let config = world.pools()[0].config.clone();
        let mut login = Login::new(&config, Time::ZERO);
        let mut outbox = Outbox::default();
        login.begin(&config, true, &mut outbox);
        assert_eq!(own(&outbox), [0, 0, 0, 8, 4, 210, 22, 47]);
        assert!(login.awaits_word());
        (login, config, Outbox::default())
    }

    fn own(outbox: &Outbox) -> Vec<u8> {
        let bytes = |piece| match piece {
            crate::base::outbox::Piece::Bytes(bytes) => bytes.to_vec(),
            piece => panic!("{piece:?}"),
        };
        outbox.pieces().flat_map(bytes).collect()
    }

    #[test]
    fn answers_to_the_ssl_request() {
        let (mut login, config, mut outbox) = asked();
        assert!(matches!(login.on_word(b'S', false, &config, &mut outbox), Step::Seal));
        assert!(outbox.is_empty(), "the login goes behind the handshake");
        login.on_secured(&Peer::default(), &config, &mut outbox);
        assert_eq!(own(&outbox)[4..8], [0, 3, 0, 0]);

        let (mut login, config, mut outbox) = asked();
        assert!(matches!(login.on_word(b'N', false, &config, &mut outbox), Step::Going));
        assert_eq!(own(&outbox)[4..8], [0, 3, 0, 0]);

        for tls in [TlsVerify::VerifyCa, TlsVerify::VerifyFull] {
            let (mut login, mut config, mut outbox) = asked();
            config.tls = tls;
            let step = login.on_word(b'N', false, &config, &mut outbox);
            assert!(
                matches!(step, Step::Failed(OpenFailure::Login(text)) if text.contains("does not encrypt"))
            );
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn nothing_may_come_between_the_answer_and_the_handshake() {
        let (mut login, config, mut outbox) = asked();
        let step = login.on_word(b'S', true, &config, &mut outbox);
        assert!(matches!(step, Step::Failed(OpenFailure::Login(text)) if text.contains("unencrypted")));
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_error_before_the_handshake_is_not_believed() {
        for word in [b'E', b'H', 0] {
            let (mut login, config, mut outbox) = asked();
            let step = login.on_word(word, true, &config, &mut outbox);
            assert!(matches!(step, Step::Failed(OpenFailure::Login(_))));
        }
    }
}
