//! Limits over several pools: most server connections of one user, and of one database, whatever their pools.
//!
//! Owns the count of all slots by user and by database, and knows which pools starve: somebody waits there, the pool has
//! room, and a count is at its limit. Does not know pools or servers. A slot counts from the moment that it is taken for
//! a server to be opened until that server has gone.
//!
//! Lock order: a pool's lock, then this one; nothing is locked under this one. Whoever frees a slot looks at
//! [`Quotas::is_pressed`] afterwards, outside the locks, and serves those that starve (`worker::relief`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::limits::STARVING_MAX;
use crate::base::sabotage::{self, Bug};
use crate::base::time::Time;

/// What slots are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    User(Box<str>),
    Database(Box<str>),
}

#[derive(Debug, Default)]
pub struct Quotas {
    state: Mutex<State>,
    /// Pools that starve, and one if a count is above its limit; read without the lock.
    pressure: AtomicUsize,
}

/// Most server connections; none is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerLimits {
    /// Of groups that have a value of their own.
    pub own: BTreeMap<Group, Option<usize>>,
    /// Of every other user, and every other database.
    pub user: Option<usize>,
    pub database: Option<usize>,
}

#[derive(Debug, Default)]
struct State {
    limits: ServerLimits,
    /// Groups in use.
    counts: BTreeMap<Group, Count>,
    /// By the pool's id.
    starving: BTreeMap<u64, Starving>,
    /// A reload has put a limit below what is in use.
    exceeded: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    limit: Option<usize>,
    used: usize,
    /// Of those: being closed.
    leaving: usize,
}

#[derive(Clone, Debug)]
struct Starving {
    /// When its oldest waiter came.
    since: Time,
    /// Slots that it would use.
    wanted: usize,
    groups: [Group; 2],
}

/// A pool's part in the quotas.
#[derive(Debug)]
pub struct Share {
    quotas: Arc<Quotas>,
    pool: u64,
    groups: [Group; 2],
}

impl ServerLimits {
    fn of(&self, group: &Group) -> Option<usize> {
        match (self.own.get(group), group) {
            (Some(own), _) => *own,
            (None, Group::User(_)) => self.user,
            (None, Group::Database(_)) => self.database,
        }
    }
}

impl Count {
    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.used >= limit)
    }

    fn is_exceeded(&self) -> bool {
        self.limit.is_some_and(|limit| self.used - self.leaving > limit)
    }
}

impl Quotas {
    /// Puts the limits of a configuration into force. What is in use beyond them is closed as it becomes free.
    pub fn limit(&self, limits: ServerLimits) {
        let mut state = self.lock();
        state.counts.iter_mut().for_each(|(group, count)| count.limit = limits.of(group));
        state.limits = limits;
        self.settle(&mut state);
    }

    pub fn share(self: &Arc<Quotas>, pool: u64, user: &str, database: &str) -> Share {
        let groups = [Group::User(user.into()), Group::Database(database.into())];
        Share { quotas: self.clone(), pool, groups }
    }

    /// Somebody starves, or a limit is exceeded: there may be something to do.
    pub fn is_pressed(&self) -> bool {
        self.pressure.load(Ordering::SeqCst) > 0
    }

    /// The pools that starve, the longest first.
    pub fn starving(&self) -> Vec<u64> {
        let state = self.lock();
        let mut pools: Vec<_> = state.starving.iter().map(|(pool, of)| (of.since, *pool)).collect();
        pools.sort_unstable();
        pools.into_iter().map(|(_, pool)| pool).collect()
    }

    /// The groups in which slots are wanted, or have to go, that nobody is about to free; and how many.
    pub fn lacking(&self) -> Vec<(Group, usize)> {
        let state = self.lock();
        let lacks = |(group, count): (&Group, &Count)| {
            let limit = count.limit.filter(|limit| count.used >= *limit)?;
            let lack = (count.used - limit + state.wanted(group, |_, _| true)).saturating_sub(count.leaving);
            (lack > 0).then(|| (group.clone(), lack))
        };
        state.counts.iter().filter_map(lacks).collect()
    }

    /// Slots in use; for tests.
    pub fn used(&self, group: &Group) -> usize {
        self.lock().counts.get(group).map_or(0, |count| count.used)
    }

    fn settle(&self, state: &mut State) {
        state.exceeded = state.counts.values().any(Count::is_exceeded);
        self.tell(state);
    }

    fn tell(&self, state: &State) {
        self.pressure.store(state.starving.len() + usize::from(state.exceeded), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Slots of `group` that starving pools would use.
    fn wanted(&self, group: &Group, which: impl Fn(u64, &Starving) -> bool) -> usize {
        let those = self.starving.iter().filter(|(pool, of)| of.groups.contains(group) && which(**pool, of));
        those.map(|(_, of)| of.wanted).sum()
    }

    /// Whether nothing but `group` keeps this pool from a slot.
    fn lacks_only(&self, group: &Group, of: &Starving) -> bool {
        of.groups
            .iter()
            .all(|other| other == group || self.counts.get(other).is_none_or(|count| !count.is_full()))
    }

    /// Whether `share` may have a slot: there is one that nobody waits for since before `since`.
    fn has_room(&self, share: &Share, since: Time) -> bool {
        share.groups.iter().all(|group| {
            let Some(limit) = self.limits.of(group) else { return true };
            let used = self.counts.get(group).map_or(0, |count| count.used);
            let is_ahead = |pool, of: &Starving| {
                pool != share.pool && (of.since, pool) < (since, share.pool) && self.lacks_only(group, of)
            };
            used + self.wanted(group, is_ahead) < limit
        })
    }
}

impl Share {
    pub fn groups(&self) -> &[Group; 2] {
        &self.groups
    }

    pub fn is_pressed(&self) -> bool {
        self.quotas.is_pressed()
    }

    /// Takes a slot that nobody needs who waits since before `since`.
    pub fn take(&self, since: Time) -> bool {
        let mut state = self.quotas.lock();
        let has_room = state.has_room(self, since) || sabotage::is_on(Bug::IgnoredQuota);
        if has_room {
            for group in &self.groups {
                let State { limits, counts, .. } = &mut *state;
                match counts.get_mut(group) {
                    Some(count) => count.used += 1,
                    None => {
                        let count = Count { limit: limits.of(group), used: 1, leaving: 0 };
                        counts.insert(group.clone(), count);
                    }
                }
            }
        }
        has_room
    }

    /// The pool would use so many slots for those who wait since then; with none, it does not starve any more.
    pub fn starve(&self, wanted: usize, since: Time) {
        let mut state = self.quotas.lock();
        if wanted == 0 {
            state.starving.remove(&self.pool);
        } else {
            let of = Starving { since, wanted, groups: self.groups.clone() };
            state.starving.insert(self.pool, of);
        }
        self.quotas.tell(&state);
    }

    /// So many servers are being closed.
    pub fn leave(&self, servers: usize) {
        if servers > 0 {
            self.change(|count| count.leaving += servers);
        }
    }

    /// A slot is free again: with `left`, that of a server which was being closed.
    pub fn release(&self, left: bool) {
        self.change(|count| {
            count.used -= 1;
            count.leaving -= usize::from(left);
        });
    }

    fn change(&self, change: impl Fn(&mut Count)) {
        let mut state = self.quotas.lock();
        for group in &self.groups {
            if let Some(count) = state.counts.get_mut(group) {
                change(count);
                if count.used == 0 {
                    state.counts.remove(group);
                }
            }
        }
        if state.exceeded {
            self.quotas.settle(&mut state);
        }
    }

    /// Whether a server that becomes free is to be closed, so that another pool can have its slot: nobody waits for it
    /// here (`waiting` is none), or the other pool's waiters came earlier and have waited long enough.
    pub fn yields(&self, waiting: Option<Time>, now: Time) -> bool {
        let state = self.quotas.lock();
        self.groups.iter().any(|group| {
            let Some(count) = state.counts.get(group) else { return false };
            let comes_first = |pool, of: &Starving| {
                let waits_longer = |own| of.since < own && of.since + STARVING_MAX <= now;
                pool != self.pool && waiting.is_none_or(waits_longer)
            };
            count.is_exceeded() || (count.is_full() && count.leaving < state.wanted(group, comes_first))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    fn limited(limits: &[(Group, usize)]) -> Arc<Quotas> {
        let quotas = Arc::new(Quotas::default());
        let own = limits.iter().map(|(group, limit)| (group.clone(), Some(*limit))).collect();
        quotas.limit(ServerLimits { own, ..ServerLimits::default() });
        quotas
    }

    fn database(limit: usize) -> (Group, usize) {
        (Group::Database("d".into()), limit)
    }

    #[test]
    fn both_counts_bound() {
        let quotas = limited(&[database(3), (Group::User("a".into()), 1)]);
        let [a, b] = ["a", "b"].map(|user| quotas.share(1, user, "d"));
        assert!(a.take(at(0)) && !a.take(at(0)), "one for the user");
        assert!(b.take(at(0)) && b.take(at(0)) && !b.take(at(0)), "three for the database");
        assert_eq!(quotas.used(&database(0).0), 3);
        a.leave(1);
        a.release(true);
        assert!(b.take(at(0)) && !a.take(at(0)));
    }

    #[test]
    fn a_free_slot_is_kept_for_who_has_waited_longest() {
        let quotas = limited(&[database(1), (Group::User("c".into()), 1)]);
        let share = |pool, user| quotas.share(pool, user, "d");
        let (a, b, c) = (share(1, "a"), share(2, "b"), share(3, "c"));
        assert!(a.take(at(0)) && quotas.share(4, "c", "elsewhere").take(at(0)));
        c.starve(1, at(1));
        b.starve(1, at(5));
        assert_eq!(quotas.starving(), [3, 2]);
        a.release(false);
        assert!(!a.take(at(6)), "b waits for it");
        assert!(b.take(at(5)), "c could not use it: it keeps nobody waiting");
        b.starve(0, at(5));
        assert_eq!(quotas.starving(), [3]);
    }

    #[test]
    fn servers_are_given_up_for_others_as_far_as_needed() {
        let quotas = limited(&[database(2)]);
        let (a, b) = (quotas.share(1, "a", "d"), quotas.share(2, "b", "d"));
        assert!(a.take(at(0)) && a.take(at(0)));
        assert!(!a.yields(None, at(9)) && !quotas.is_pressed());
        b.starve(1, at(10));
        assert!(quotas.is_pressed());
        assert_eq!(quotas.lacking(), [(database(0).0, 1)]);
        assert!(a.yields(None, at(11)), "nobody waits here");
        assert!(!a.yields(Some(at(5)), at(11)), "who waits here came earlier");
        assert!(!a.yields(Some(at(20)), at(21)), "b has not waited long");
        assert!(a.yields(Some(at(20)), at(10) + STARVING_MAX));
        a.leave(1);
        assert!(!a.yields(None, at(12)), "one is enough");
        assert_eq!(quotas.lacking(), []);
    }

    #[test]
    fn a_lower_limit_takes_effect_as_servers_become_free() {
        let quotas = limited(&[]);
        let a = quotas.share(1, "a", "d");
        assert!(a.take(at(0)) && a.take(at(0)) && !a.yields(Some(at(0)), at(0)));
        quotas.limit(ServerLimits { database: Some(1), ..ServerLimits::default() });
        assert!(quotas.is_pressed() && a.yields(Some(at(0)), at(0)));
        assert_eq!(quotas.lacking(), [(database(1).0, 1)]);
        a.leave(1);
        assert!(!a.yields(Some(at(0)), at(0)));
        a.release(true);
        assert!(!quotas.is_pressed() && !a.take(at(0)));
        a.release(false);
        assert!(quotas.lock().counts.is_empty(), "what is not used is not kept");
    }
}
