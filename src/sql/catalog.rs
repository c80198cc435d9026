//! What a database has said of functions that are not PostgreSQL's own: which of them leave their session as it was.
//!
//! # What may be believed of a function
//!
//! - **Volatility proves nothing.** A STABLE or IMMUTABLE function in SQL or a procedural language cannot run SET, LISTEN,
//!   PREPARE or CREATE (PostgreSQL refuses every command that is not read-only there), but it can
//!   `SELECT set_config(…, false)` or `pg_advisory_lock(…)`: the executor does not look at what a query calls.
//! - **PARALLEL SAFE is the label that speaks of our subject** (no writes, no sequences, no persistent changes to settings,
//!   no state of the backend), and `functions/tests.rs` holds that PostgreSQL's own functions carry it rightly. It is believed
//!   of members of extensions, whose authors answer for C code that nobody could read here. It is not believed of
//!   functions that users made: they copy labels, and nothing goes wrong at once.
//! - **A body could be read**, but users replace theirs at any time, over connections that we do not see. A member of an
//!   extension changes with the extension.
//!
//! So a name is harmless if every function of that name outside PostgreSQL's own is a parallel safe member of an extension.
//! Whatever the database was not asked about, or has not, is not.

use std::collections::BTreeMap;

use crate::base::limits::ASKED_FUNCTIONS_MAX;
use crate::sql::effects::Effects;
use crate::sql::functions;
use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::value::Name;

/// Names as PostgreSQL stores them, in ASCII, without their schema; and whether they are harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    functions: BTreeMap<Box<str>, bool>,
}

impl Catalog {
    pub fn learn(&mut self, name: &str, harmless: bool) {
        self.functions.insert(name.into(), harmless);
    }

    pub fn is_harmless(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| self.functions.get(name) == Some(&true))
    }

    pub fn len(&self) -> usize {
        self.functions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Adds to `names` those before parentheses in a text that may be functions and of which nothing is known here; no more
    /// than a bounded number in all, and none with letters whose lower case depends on the database.
    pub fn ask_about(&self, text: &[u8], conforming_strings: bool, names: &mut Vec<Box<str>>) {
        let mut lexer = Lexer::new(text, conforming_strings);
        let tokens = std::iter::from_fn(|| lexer.next_token()).filter(|token| token.kind != Kind::Comment);
        let mut last: Option<Token> = None;
        for token in tokens {
            let named = last.replace(token).filter(|last| token.kind == Kind::Open && last.kind.is_name());
            let Some(name) = named.and_then(|name| Name::of(text, name).value()) else { continue };
            let own = functions::find(&name).is_some_and(|effects| !effects.any(Effects::UNKNOWN_FUNCTION));
            let Ok(name) = std::str::from_utf8(&name) else { continue };
            if !own
                && name.is_ascii()
                && !self.functions.contains_key(name)
                && !names.iter().any(|of| **of == *name)
            {
                if names.len() >= ASKED_FUNCTIONS_MAX {
                    return;
                }
                names.push(name.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::outline::Outline;
    use crate::sql::{Reading, statements};

    #[test]
    fn what_is_harmless() {
        let mut catalog = Catalog::default();
        catalog.learn("similarity", true);
        catalog.learn("Odd", true);
        catalog.learn("mine", false);
        let reading = Reading { catalog: Some(&catalog), ..Reading::default() };
        for (text, harmless) in [
            ("SELECT similarity(a, 'b') FROM t", true),
            ("SELECT public.Similarity(a, 'b'), lower(c), \"Odd\"(1) FROM t", true),
            ("SELECT odd(1)", false),
            ("SELECT similarity(mine(1), 'b')", false),
            ("SELECT similarity(a, 'b'), made_since(2)", false),
            ("SELECT query_to_xml('x', true, true, '')", false),
            ("SELECT U&\"similarity\"(1)", false),
        ] {
            let unknown = Outline::of(text.as_bytes(), reading).effects.any(Effects::UNKNOWN_FUNCTION);
            assert_eq!(!unknown, harmless, "{text}");
            assert!(
                Outline::of(text.as_bytes(), Reading::default()).effects.any(Effects::UNKNOWN_FUNCTION),
                "{text}"
            );
        }
        // PostgreSQL's own effects stay, whatever a database says.
        catalog.learn("set_config", true);
        catalog.learn("query_to_xml", true);
        let reading = Reading { catalog: Some(&catalog), ..Reading::default() };
        for text in ["SELECT set_config('a', 'b', false)", "SELECT query_to_xml('x', true, true, '')"] {
            assert!(!statements(text.as_bytes(), reading).next().unwrap().effects.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_asked() {
        let mut catalog = Catalog::default();
        catalog.learn("known", true);
        catalog.learn("mine", false);
        let asked = |text: &str| {
            let mut names = vec![Box::from("before")];
            catalog.ask_about(text.as_bytes(), true, &mut names);
            names.split_off(1).join(" ")
        };
        assert_eq!(
            asked("SELECT F(1), s.\"G\" /* x */ (2), lower(h(3)), known(1), mine(2), before(3), F(4)"),
            "f G h"
        );
        assert_eq!(asked("SELECT 'f(1)', f, g + (1) FROM t WHERE a IN (1) -- h(1)"), "");
        assert_eq!(asked("SELECT ä(1), \"Ä\"(2), U&\"f\"(3)"), "");
        assert_eq!(
            asked(&format!("SELECT {}(4)", "x".repeat(64))),
            "x".repeat(63),
            "as PostgreSQL cuts it off"
        );
        let many: String = (0..100).map(|number| format!("f{number}(1), ")).collect();
        assert_eq!(asked(&format!("SELECT {many}")).split(' ').count(), ASKED_FUNCTIONS_MAX - 1);
    }
}
