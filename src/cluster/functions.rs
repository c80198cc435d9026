//! What the servers of one database have said of functions that are not PostgreSQL's own, for a time. All its pools share it.
//!
//! A function may be made, or made anew, at any time. What a client of ours defines makes all be forgotten, when it is sent
//! and again when its transaction is over; an answer that was asked for before that is not taken. What is defined
//! elsewhere counts after [`KNOWN_FUNCTIONS_TTL`] at the latest.

use std::sync::Arc;

use crate::base::limits::{KNOWN_FUNCTIONS_MAX, KNOWN_FUNCTIONS_TTL};
use crate::base::time::Time;
use crate::sql::catalog::Catalog;

#[derive(Debug, Default)]
pub struct Functions {
    catalog: Arc<Catalog>,
    /// Until when the oldest answer counts.
    until: Time,
    generation: Generation,
}

/// What has been defined since then makes an answer void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(u64);

impl Functions {
    pub fn at(&self, now: Time) -> Arc<Catalog> {
        if now < self.until { self.catalog.clone() } else { Arc::default() }
    }

    /// To be kept with a question.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Takes answers to a question of that generation: names, and whether they are harmless.
    pub fn learn<'n>(
        &mut self,
        of: Generation,
        answers: impl IntoIterator<Item = (&'n str, bool)>,
        now: Time,
    ) {
        if of != self.generation {
            return;
        }
        if now >= self.until || self.catalog.len() >= KNOWN_FUNCTIONS_MAX {
            self.catalog = Arc::default();
            self.until = now + KNOWN_FUNCTIONS_TTL;
        }
        let catalog = Arc::make_mut(&mut self.catalog);
        for (name, harmless) in answers {
            catalog.learn(name, harmless);
        }
    }

    pub fn forget(&mut self) {
        self.generation.0 += 1;
        self.until = Time::ZERO;
        self.catalog = Arc::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::ASKED_FUNCTIONS_MAX;

    #[test]
    fn kept_for_its_time() {
        let mut functions = Functions::default();
        let now = Time::from_micros(7);
        functions.learn(functions.generation(), [("a", true), ("b", false)], now);
        let half = now + KNOWN_FUNCTIONS_TTL / 2;
        functions.learn(functions.generation(), [("c", true)], half);
        let known = functions.at(half);
        assert!(known.is_harmless(b"a") && !known.is_harmless(b"b") && known.is_harmless(b"c"));
        assert!(functions.at(now + KNOWN_FUNCTIONS_TTL).is_empty(), "all are as old as the oldest");
        functions.learn(functions.generation(), [("d", true)], now + KNOWN_FUNCTIONS_TTL);
        assert_eq!(functions.at(now + KNOWN_FUNCTIONS_TTL).len(), 1);
    }

    #[test]
    fn what_was_asked_before_a_definition_is_void() {
        let mut functions = Functions::default();
        let asked = functions.generation();
        functions.learn(asked, [("a", true)], Time::ZERO);
        functions.forget();
        assert!(!functions.at(Time::ZERO).is_harmless(b"a"));
        functions.learn(asked, [("a", true)], Time::ZERO);
        assert!(!functions.at(Time::ZERO).is_harmless(b"a"));
        functions.learn(functions.generation(), [("a", true)], Time::ZERO);
        assert!(functions.at(Time::ZERO).is_harmless(b"a"));
    }

    #[test]
    fn bounded() {
        let mut functions = Functions::default();
        for number in 0..3 * KNOWN_FUNCTIONS_MAX {
            functions.learn(functions.generation(), [(&*number.to_string(), true)], Time::ZERO);
            assert!(functions.at(Time::ZERO).len() < KNOWN_FUNCTIONS_MAX + ASKED_FUNCTIONS_MAX);
        }
    }
}
