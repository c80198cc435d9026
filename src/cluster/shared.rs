//! What the whole process shares, whatever its configuration.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::attempts::Attempts;
use crate::auth::keys::KeyCache;
use crate::auth::verifier::SaltSecret;
use crate::base::limits::TRIALS_MAX;
use crate::base::rng::Rng;
use crate::cluster::clients::Clients;
use crate::cluster::statements::Statements;

/// Derived keys that are kept, for logins to servers.
const KEYS_MAX: usize = 10_000;

/// The right to try a password on a server, as long as it is kept.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<()>);

pub struct Shared {
    statements: Mutex<Statements>,
    keys: Mutex<KeyCache>,
    attempts: Mutex<Attempts>,
    /// As many others as there are have a turn.
    turns: Mutex<Turn>,
    /// Makes the salts of passwords that are configured in clear, and of users who do not exist.
    pub salts: SaltSecret,
    /// Clients that have logged in, but for the console's.
    pub clients: Arc<Clients>,
}

impl Shared {
    pub fn new(statements_limit: usize, rng: &mut dyn Rng) -> Shared {
        Shared {
            statements: Mutex::new(Statements::new(statements_limit)),
            keys: Mutex::new(KeyCache::new(KEYS_MAX, rng)),
            attempts: Mutex::default(),
            turns: Mutex::default(),
            salts: SaltSecret::new(rng),
            clients: Arc::default(),
        }
    }

    pub fn statements(&self) -> MutexGuard<'_, Statements> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Failed logins of clients.
    pub fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None while [`TRIALS_MAX`] are out.
    pub fn turn(&self) -> Option<Turn> {
        // Others can only give theirs back meanwhile.
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::strong_count(&turns.0) <= TRIALS_MAX).then(|| turns.clone())
    }

    pub fn keys(&self) -> MutexGuard<'_, KeyCache> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
