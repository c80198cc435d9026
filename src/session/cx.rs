//! What a session may use while it handles something, and what it asks the worker to do.

use std::sync::Arc;

use crate::auth::keys::{DerivedKeys, KeyJob};
use crate::auth::plain::StoredSecret;
use crate::auth::verifier::{Candidates, Challenge, Verifier};
use crate::base::chunk::Chunks;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::cluster::listeners::Channels;
use crate::cluster::shared::Shared;
use crate::config::Secret;
use crate::session::server::{ServerPool, ServerWorld};
use crate::wire::BackendKey;

pub struct Cx<'a, S> {
    pub now: Time,
    pub rng: &'a mut dyn Rng,
    pub chunks: &'a mut Chunks,
    pub world: &'a Arc<ServerWorld<S>>,
    pub shared: &'a Shared,
    pub actions: &'a mut Vec<Action<S>>,
    /// No new statements: the process is stopping.
    pub draining: bool,
    /// Clients may ask for encryption.
    pub offers_tls: bool,
}

/// Done by the worker, in order, after the session has returned.
pub enum Action<S> {
    /// A server is wanted, under this number of the session's checkouts. It comes by `on_grant`.
    Checkout { pool: Arc<ServerPool<S>>, number: u32 },
    /// It is no longer wanted.
    Withdraw { pool: Arc<ServerPool<S>>, number: u32 },
    /// Server `link` is in order: it goes back to its pool, or to whoever waits.
    Checkin { link: usize },
    /// Server `link` was left in disorder: it is brought back into order, or closed.
    Abandon { link: usize },
    /// Server `link` is beyond use.
    Discard { link: usize, why: Discard },
    /// What runs on server `link` is to be cancelled.
    Cancel { link: usize },
    /// A client asks to cancel what the session with this key runs.
    CancelKey(BackendKey),
    /// Something for the helper thread; the answer comes by `on_reply`.
    Ask(Ask),
    /// A command for the console; the answer comes by `on_console`.
    Console(crate::admin::Command),
    /// The client speaks TLS from here on: what it has sent already (`direct`), or once it has been told so.
    Seal { direct: bool },
    /// The pool was there for this session alone.
    Retire { pool: Arc<ServerPool<S>> },
    /// From now on notifications of these channels alone are wanted; `on_listening` follows with this number if one of them
    /// is new.
    Listen { channels: Channels, number: u32 },
    /// The client is to be closed once it has read what it was sent.
    Close,
}

/// Why a server is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Its answers make no sense.
    OutOfSync,
    /// It closed, or its socket failed.
    Lost,
    /// `query_timeout`, or `connection_recovery` does not allow to bring it back into order.
    Forced,
}

/// What takes too long for a worker.
#[derive(Debug)]
pub enum Ask {
    /// PBKDF2 for a login to a server.
    Keys(KeyJob),
    /// PBKDF2 of a user's passwords, once per user: under this challenge, or that of a verifier which is as good as they.
    Candidates { challenge: Challenge, verifier: Option<Verifier>, passwords: Vec<Secret> },
    /// Whether a password that came in clear is one of these.
    Password { secrets: Vec<StoredSecret>, user: String, given: Secret },
}

#[derive(Debug)]
pub enum Answer {
    Keys(DerivedKeys),
    Candidates(Option<Arc<Candidates>>),
    Password { matches: bool },
}

impl Ask {
    /// **Slow**: runs PBKDF2.
    pub fn run(self) -> Answer {
        match self {
            Ask::Keys(job) => Answer::Keys(job.run()),
            Ask::Candidates { challenge, verifier, passwords } => {
                let passwords = passwords.iter().map(|secret| secret.as_bytes());
                let made = match verifier {
                    None => Candidates::derive(challenge, passwords),
                    Some(verifier) => Candidates::of(verifier).with_passwords(passwords),
                };
                Answer::Candidates(made.ok().map(Arc::new))
            }
            Ask::Password { secrets, user, given } => {
                // All are tried: the time must not tell which one it was.
                let matches = secrets.iter().fold(false, |found, secret| {
                    secret.matches(user.as_bytes(), given.as_bytes()).is_ok() | found
                });
                Answer::Password { matches }
            }
        }
    }
}
