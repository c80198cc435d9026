//! What a statement does to the session that runs it, as a set.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of effects. The empty set: nothing that a later client of the same server could notice, and nothing that the
/// same client would miss on another server.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Effects(u32);

macro_rules! effects {
    ($($(#[$doc:meta])* $name:ident = $bit:expr;)*) => {
        impl Effects {
            $($(#[$doc])* pub const $name: Effects = Effects(1 << $bit);)*

            const NAMES: &[(Effects, &str)] = &[$((Effects::$name, stringify!($name))),*];
        }
    };
}

effects! {
    /// Begins or ends a transaction, or deals with savepoints.
    TRANSACTION = 0;
    /// Sets or resets a parameter for the session (once the transaction commits).
    SETTING = 1;
    /// Sets a parameter until the end of the transaction.
    LOCAL_SETTING = 2;
    /// PREPARE or DEALLOCATE in SQL.
    PREPARED = 3;
    /// EXECUTE: what it runs was prepared before.
    EXECUTE = 4;
    /// LISTEN or UNLISTEN.
    LISTEN = 5;
    /// Sends a notification when the transaction commits. No state of the session.
    NOTIFY = 6;
    /// Makes a cursor that outlives its transaction.
    HELD_CURSOR = 7;
    /// Uses or closes a cursor by its name: one of this transaction or a held one.
    CURSOR = 8;
    /// Makes a temporary object that outlives its transaction.
    TEMPORARY = 9;
    /// Takes an advisory lock of the session, or tries to.
    SESSION_LOCK = 10;
    /// Releases advisory locks of the session.
    SESSION_UNLOCK = 11;
    /// Moves what currval and lastval of the session answer. Rows with defaults from sequences do so unseen.
    SEQUENCE = 12;
    /// currval or lastval: reads what the session did before.
    SEQUENCE_READ = 13;
    /// DISCARD.
    DISCARD = 14;
    /// Seeds the session's random numbers, which DISCARD ALL does not undo.
    SEED = 15;
    /// Loads a library, or leaves something else behind that only the end of the server process undoes: a temporary
    /// replication slot, a base backup, a connection of dblink.
    LASTING = 16;
    /// Runs code whose text is elsewhere or in another language: DO, CALL.
    CODE = 17;
    /// Calls a function that is not known to be free of effects. It may do whatever `CODE` may.
    UNKNOWN_FUNCTION = 18;
    /// The text could not be read as the server reads it. Anything is possible.
    UNREADABLE = 19;
    /// SET SESSION AUTHORIZATION: PostgreSQL tells of it, but only a superuser can be brought back to it.
    AUTHORIZATION = 20;
}

impl Effects {
    pub const NONE: Effects = Effects(0);

    /// What leaves something behind on the server that the text does not say exactly.
    pub const OPAQUE: Effects =
        Effects(Effects::CODE.0 | Effects::UNKNOWN_FUNCTION.0 | Effects::UNREADABLE.0);

    pub const fn union(self, other: Effects) -> Effects {
        Effects(self.0 | other.0)
    }

    pub const fn without(self, other: Effects) -> Effects {
        Effects(self.0 & !other.0)
    }

    pub const fn and(self, other: Effects) -> Effects {
        Effects(self.0 & other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it has any of `others`.
    pub const fn any(self, others: Effects) -> bool {
        self.0 & others.0 != 0
    }
}

impl BitOr for Effects {
    type Output = Effects;

    fn bitor(self, other: Effects) -> Effects {
        self.union(other)
    }
}

impl BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Effects) {
        *self = self.union(other);
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Effects::NAMES.iter().filter(|(effect, _)| self.any(*effect)).map(|(_, name)| *name);
        let names: Vec<_> = names.collect();
        f.write_str(if names.is_empty() { "NONE" } else { "" })?;
        f.write_str(&names.join(" | "))
    }
}
