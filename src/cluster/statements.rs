//! Names of prepared statements on servers: one name for one text, shared by all clients.
//!
//! Clients name their statements as they like; on every server the same statement has the same name
//! `__pgdog_N`, so that whichever server a client meets can have it prepared already.
//!
//! One text may stand for several statements: what it takes and returns depends on the tables that it finds, and these
//! change. Each such *shape* has a name of its own, so that a client gets what it has been told of, or an error.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::base::time::Time;
use crate::sql::outline::Outline;
use crate::sql::{Encoding, Reading};

/// Statements that a server is made to forget at a time, and how long it is left alone after that.
pub const EXPIRED_AT_ONCE_MAX: usize = 100;
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

pub const NAME_PREFIX: &str = "__pgdog_";

/// What makes two statements the same: the body of Parse behind the name (text, NUL, parameter types) and the
/// settings under which PostgreSQL reads the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub body: Box<[u8]>,
    pub client_encoding: Box<[u8]>,
    pub standard_conforming_strings: bool,
}

/// A digest of the parameters that a statement takes and the columns that it returns.
pub type Shape = [u8; 32];

#[derive(Debug)]
pub struct Statement {
    pub id: u64,
    /// `__pgdog_N`.
    pub name: Box<str>,
    pub key: Key,
    pub outline: Outline,
    /// Some server has accepted it.
    proven: AtomicBool,
    /// As the first server described it that was asked.
    shape: OnceLock<Shape>,
}

impl Key {
    /// How servers read the text.
    pub fn reading(&self) -> Reading<'static> {
        Reading {
            conforming_strings: self.standard_conforming_strings,
            encoding: Encoding::of(&self.client_encoding),
            catalog: None,
        }
    }
}

/// The text in the body of a Parse, behind the name.
pub fn statement_text(body: &[u8]) -> &[u8] {
    CStr::from_bytes_until_nul(body).map_or(body, CStr::to_bytes)
}

impl Statement {
    /// Whether some server has accepted it: then a client that prepares it again need not wait for one.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether a server that describes it like this has the same statement. The first one decides.
    pub fn has_shape(&self, shape: &Shape) -> bool {
        self.shape.get_or_init(|| *shape) == shape
    }
}

#[derive(Debug)]
pub struct Statements {
    /// For each text the statements of different shapes that it stands for, the one that was met last at the end.
    by_key: BTreeMap<Key, Vec<Arc<Statement>>>,
    count: usize,
    next_id: u64,
    /// Statements kept while no client holds them.
    limit: usize,
    /// The size at which unused statements are looked for.
    sweep_at: usize,
}

impl Statements {
    pub fn new(limit: usize) -> Statements {
        Statements { by_key: BTreeMap::new(), count: 0, next_id: 1, limit, sweep_at: limit.max(1) }
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.sweep_at = limit.max(1);
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Statement>> {
        self.by_key.values().flatten()
    }

    /// The statement, if it is known, in the shape in which a server was last seen to have it.
    pub fn find(&self, key: &Key) -> Option<Arc<Statement>> {
        self.by_key.get(key)?.last().cloned()
    }

    /// The statement, with the outline of its text if it is new.
    pub fn intern(&mut self, key: Key, outline: Outline) -> Arc<Statement> {
        self.find(&key).unwrap_or_else(|| self.add(key, outline))
    }

    /// The statement of the same text that has this shape.
    pub fn in_shape(&mut self, statement: &Statement, shape: &Shape) -> Arc<Statement> {
        if let Some(same) = self.by_key.get_mut(&statement.key)
            && let Some(at) = same.iter().position(|of| of.shape.get() == Some(shape))
        {
            let found = same.remove(at);
            same.push(found.clone());
            return found;
        }
        let new = self.add(statement.key.clone(), statement.outline);
        let _ = new.shape.set(*shape);
        new.prove();
        new
    }

    fn add(&mut self, key: Key, outline: Outline) -> Arc<Statement> {
        if self.count >= self.sweep_at {
            self.sweep();
        }
        let id = self.next_id;
        self.next_id += 1;
        let name = format!("{NAME_PREFIX}{id}").into_boxed_str();
        let (proven, shape) = (AtomicBool::new(false), OnceLock::new());
        let statement = Arc::new(Statement { id, name, key: key.clone(), outline, proven, shape });
        self.by_key.entry(key).or_default().push(statement.clone());
        self.count += 1;
        statement
    }

    /// Drops what nobody holds. Where most are held, the next sweep waits until a quarter more have come, so
    /// that the cost per statement stays constant.
    fn sweep(&mut self) {
        self.by_key.retain(|_, same| {
            same.retain(|statement| Arc::strong_count(statement) > 1);
            !same.is_empty()
        });
        self.count = self.by_key.values().map(Vec::len).sum();
        self.sweep_at = self.limit.max(self.count + self.count / 4).max(1);
    }
}

/// The statements that one server has, by id, at most `limit`: a clock (second chance) picks which one goes.
#[derive(Debug, Default)]
pub struct Prepared {
    slots: Vec<Slot>,
    by_id: BTreeMap<u64, u32>,
    hand: usize,
    /// The server may have them or not: a Close that made room was ignored behind an error, and what was done about the
    /// same statement before it is not known any more.
    doubtful: Vec<u64>,
    /// Nothing is due before this.
    next_expiry: Time,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    used: bool,
    used_at: Time,
}

impl Prepared {
    /// Whether the server has it; it counts as used.
    pub fn touch(&mut self, id: u64, now: Time) -> bool {
        let Some(&slot) = self.by_id.get(&id) else { return false };
        let slot = &mut self.slots[slot as usize];
        (slot.used, slot.used_at) = (true, now);
        true
    }

    /// Removes what has not been used for `ttl`, at most [`EXPIRED_AT_ONCE_MAX`], and returns it. Looks at all of them only
    /// when something can be due.
    pub fn expire(&mut self, now: Time, ttl: Duration) -> Vec<u64> {
        if now < self.next_expiry {
            return Vec::new();
        }
        let due = self.slots.iter().filter(|slot| slot.used_at + ttl <= now).map(|slot| slot.id);
        let due: Vec<_> = due.take(EXPIRED_AT_ONCE_MAX).collect();
        due.iter().for_each(|id| self.remove(*id));
        let next = self.slots.iter().map(|slot| slot.used_at + ttl).min();
        // What is prepared later is due later.
        self.next_expiry = next.unwrap_or(now + ttl).max(now + EXPIRY_INTERVAL);
        due
    }

    pub fn contains(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// It is not known whether the server has it: Close goes ahead of its next Parse.
    pub fn doubt(&mut self, id: u64) {
        self.remove(id);
        self.doubtful.push(id);
    }

    pub fn is_doubtful(&self, id: u64) -> bool {
        self.doubtful.contains(&id)
    }

    /// What is to be closed for good measure when room is made.
    pub fn take_doubtful(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.doubtful)
    }

    /// The server has it from now on.
    pub fn insert(&mut self, id: u64, now: Time) {
        self.doubtful.retain(|doubtful| *doubtful != id);
        if !self.touch(id, now) {
            self.by_id.insert(id, self.slots.len() as u32);
            self.slots.push(Slot { id, used: true, used_at: now });
        }
    }

    pub fn remove(&mut self, id: u64) {
        self.doubtful.retain(|doubtful| *doubtful != id);
        if let Some(slot) = self.by_id.remove(&id) {
            self.slots.swap_remove(slot as usize);
            if let Some(moved) = self.slots.get(slot as usize) {
                self.by_id.insert(moved.id, slot);
            }
        }
    }

    /// While there are at least `limit`, removes one that has not been used lately and returns it.
    pub fn evict(&mut self, limit: usize) -> Option<u64> {
        if self.slots.len() < limit.max(1) {
            return None;
        }
        loop {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[self.hand];
            if !std::mem::take(&mut slot.used) {
                let id = slot.id;
                self.remove(id);
                return Some(id);
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Prepared::default();
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        let body = text.as_bytes().into();
        Key { body, client_encoding: (*b"UTF8").into(), standard_conforming_strings: true }
    }

    #[test]
    fn one_text_one_name() {
        let mut statements = Statements::new(10);
        let a = statements.intern(key("select 1"), Outline::default());
        let b = statements.intern(key("select 1"), Outline::default());
        assert_eq!((a.id, &*a.name), (b.id, "__pgdog_1"));
        assert_ne!(statements.intern(key("select 2"), Outline::default()).id, a.id);
        let other = Key { standard_conforming_strings: false, ..key("select 1") };
        assert_ne!(statements.intern(other, Outline::default()).id, a.id);
    }

    #[test]
    fn one_shape_one_name() {
        let mut statements = Statements::new(10);
        let (old, new) = ([1; 32], [2; 32]);
        let first = statements.intern(key("select 1"), Outline::default());
        assert!(first.has_shape(&old) && first.has_shape(&old) && !first.has_shape(&new));
        let second = statements.in_shape(&first, &new);
        assert_ne!(second.id, first.id);
        assert!(second.is_proven() && second.has_shape(&new) && !second.has_shape(&old));
        assert_eq!(statements.len(), 2);
        let latest =
            |statements: &Statements| statements.find(&key("select 1")).map(|statement| statement.id);
        assert_eq!(latest(&statements), Some(second.id), "who prepares it now gets the new one");
        assert_eq!(statements.in_shape(&second, &old).id, first.id);
        assert_eq!(latest(&statements), Some(first.id), "the tables are as before");
    }

    #[test]
    fn what_nobody_holds_is_dropped() {
        let mut statements = Statements::new(10);
        let held: Vec<_> =
            (0..5).map(|i| statements.intern(key(&format!("held {i}")), Outline::default())).collect();
        for i in 0..1000 {
            statements.intern(key(&format!("{i}")), Outline::default());
            assert!(statements.len() <= 10);
        }
        for statement in &held {
            assert_eq!(statements.intern(statement.key.clone(), Outline::default()).id, statement.id);
        }
    }

    #[test]
    fn servers_forget_what_is_not_used() {
        let mut prepared = Prepared::default();
        for id in 0..100 {
            while prepared.evict(4).is_some() {}
            prepared.insert(id, Time::ZERO);
            assert!(prepared.len() <= 4);
            if id > 0 {
                assert!(prepared.touch(0, Time::ZERO), "0 is used all the time, yet gone after {id}");
            }
        }
        prepared.remove(0);
        assert!(!prepared.contains(0));
    }

    #[test]
    fn what_is_not_used_for_a_time_expires() {
        let (at, ttl) = (|seconds: u64| Time::from_micros(seconds * 1_000_000), Duration::from_secs(10));
        let mut prepared = Prepared::default();
        for id in 0..300 {
            prepared.insert(id, at(1));
        }
        assert_eq!(prepared.expire(at(2), ttl), []);
        assert!(prepared.touch(7, at(5)));
        assert_eq!(prepared.expire(at(10), ttl), [], "a moment too early");
        let mut gone = 0;
        for second in 11..15 {
            let due = prepared.expire(at(second), ttl);
            assert!(due.len() <= EXPIRED_AT_ONCE_MAX && !due.contains(&7));
            gone += due.len();
            assert_eq!(prepared.expire(at(second), ttl), [], "once a second");
        }
        assert_eq!((gone, prepared.len()), (299, 1));
        prepared.insert(1000, at(14));
        assert_eq!(prepared.expire(at(15), ttl), [7]);
        assert_eq!(prepared.expire(at(24), ttl), [1000]);
        assert!(prepared.is_empty());
    }
}
