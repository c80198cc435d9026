//! Deadlines of many things that seldom fire: each thing has at most one entry, armed lazily.
//!
//! A thing whose deadline moves later is left alone: when its entry fires, the owner looks at the thing's real
//! deadline and arms it again. One whose deadline moves earlier, or that goes, takes its entry along: entries that are far
//! away must not gather.

use std::collections::BTreeSet;

use crate::base::time::Time;

#[derive(Debug)]
pub struct Timers<K: Ord> {
    entries: BTreeSet<(Time, K)>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Timers { entries: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Arms `key` for `deadline`, where `armed` is the time of its entry (`NEVER` without one).
    /// Returns what `armed` is now.
    pub fn arm(&mut self, key: K, deadline: Time, armed: Time) -> Time {
        if deadline >= armed {
            return armed;
        }
        self.disarm(key, armed);
        self.entries.insert((deadline, key));
        deadline
    }

    /// `key` has gone, with its entry for `armed`.
    pub fn disarm(&mut self, key: K, armed: Time) {
        if armed != Time::NEVER {
            self.entries.remove(&(armed, key));
        }
    }

    /// The next time at which something may fire.
    pub fn next(&self) -> Time {
        self.entries.first().map_or(Time::NEVER, |(time, _)| *time)
    }

    /// Takes one entry that is due, with the time it was armed for.
    pub fn due(&mut self, now: Time) -> Option<(Time, K)> {
        if self.next() > now {
            return None;
        }
        self.entries.pop_first()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_order_and_arms_lazily() {
        let at = Time::from_micros;
        let mut timers = Timers::default();
        assert_eq!(timers.arm(1, at(50), Time::NEVER), at(50));
        assert_eq!(timers.arm(1, at(70), at(50)), at(50), "later: left alone");
        assert_eq!(timers.arm(1, at(20), at(50)), at(20), "earlier: its entry moves");
        assert_eq!(timers.arm(2, at(30), Time::NEVER), at(30));
        assert_eq!(timers.due(at(10)), None);
        assert_eq!(timers.due(at(60)), Some((at(20), 1)));
        assert_eq!(timers.due(at(60)), Some((at(30), 2)));
        assert_eq!(timers.due(at(60)), None);
        assert_eq!(timers.next(), Time::NEVER);
        assert_eq!(timers.arm(3, at(90), Time::NEVER), at(90));
        timers.disarm(3, at(90));
        assert!(timers.is_empty());
    }
}
