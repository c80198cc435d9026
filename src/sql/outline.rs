//! What is remembered of a prepared statement's text.

use crate::sql::command::Command;
use crate::sql::effects::Effects;
use crate::sql::{Reading, statements};

/// What a text does, so that it need not be read again each time it is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub effects: Effects,
    /// The effects are not all there is to know.
    pub looks_again: bool,
}

impl Outline {
    /// Of a text that nobody can look at.
    pub const UNKNOWN: Outline = Outline { effects: Effects::UNREADABLE, looks_again: false };

    pub fn of(text: &[u8], reading: Reading<'_>) -> Outline {
        const DETAILED: Effects =
            Effects::SETTING.union(Effects::DISCARD).union(Effects::PREPARED).union(Effects::EXECUTE);
        statements(text, reading).fold(Outline::default(), |all, statement| Outline {
            effects: all.effects | statement.effects,
            looks_again: all.looks_again
                || statement.effects.any(DETAILED)
                || matches!(statement.command, Command::Drop | Command::CreateAs)
                || is_create(statement.text),
        })
    }
}

/// Whether a statement is a CREATE: with pg_temp in search_path, what it makes may be temporary.
pub fn is_create(text: &[u8]) -> bool {
    text.get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"create"))
}
