//! What is known of one database beyond PostgreSQL's own functions: which effects hide behind the names of users.
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
//! - **A body in SQL or PL/pgSQL can be read**, by the same lexer that PostgreSQL reads it with. Its effects are those of its
//!   statements and calls; EXECUTE of a text made at run time may do anything.
//! - **Everything else may do anything**: other languages, C functions outside extensions.
//!
//! # What a text does not show
//!
//! Names of relations stand for what their triggers, rules, views, policies, defaults and constraints call; operators for
//! their functions. Implicit casts, domains and functions called as columns (`t.f`) have no token of their own: a
//! database in which such a thing has effects has them in every statement. Event triggers run at definitions.
//! Movements of sequences are left out: nearly every table has a default that moves one, and only
//! `currval` and `lastval`, which do have a token, can notice.

use std::collections::BTreeMap;

use crate::sql::effects::Effects;

/// Names in lower case where the users wrote none with quotes; without their schema. Of several things with one name the
/// effects are united.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    functions: BTreeMap<Box<[u8]>, Effects>,
    relations: BTreeMap<Box<[u8]>, Effects>,
    operators: BTreeMap<Box<[u8]>, Effects>,
    anywhere: Effects,
    definitions: Effects,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A function that is not PostgreSQL's own, whether it has effects or not.
    Function,
    /// A relation whose use has effects.
    Relation,
    /// An operator whose function has effects.
    Operator,
}

impl Catalog {
    pub fn add(&mut self, thing: Thing, name: &[u8], effects: Effects) {
        let map = match thing {
            Thing::Function => &mut self.functions,
            Thing::Relation => &mut self.relations,
            Thing::Operator => &mut self.operators,
        };
        if thing != Thing::Function && effects.without(Effects::SEQUENCE).is_empty() {
            return;
        }
        match map.get_mut(name) {
            Some(known) => *known |= effects,
            None => drop(map.insert(name.into(), effects)),
        }
    }

    /// An implicit cast or a domain has these.
    pub fn add_anywhere(&mut self, effects: Effects) {
        self.anywhere |= effects.without(Effects::SEQUENCE);
    }

    /// An event trigger has these.
    pub fn add_to_definitions(&mut self, effects: Effects) {
        self.definitions |= effects.without(Effects::SEQUENCE);
    }

    /// None: no function of this name was there when the catalog was read.
    pub fn function(&self, name: &[u8]) -> Option<Effects> {
        self.functions.get(name).copied()
    }

    pub fn relation(&self, name: &[u8]) -> Effects {
        self.relations.get(name).copied().unwrap_or_default()
    }

    pub fn operator(&self, name: &[u8]) -> Effects {
        self.operators.get(name).copied().unwrap_or_default()
    }

    /// Whether every token must be looked at.
    pub fn has_relations_or_operators(&self) -> bool {
        !self.relations.is_empty() || !self.operators.is_empty()
    }

    pub fn anywhere(&self) -> Effects {
        self.anywhere
    }

    pub fn definitions(&self) -> Effects {
        self.definitions
    }
}
