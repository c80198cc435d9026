//! Deadlines of many things that seldom fire: each thing has at most one entry, armed lazily.
//!
//! A thing whose deadline moves later is left alone: when its entry fires, the owner looks at the thing's real
//! deadline and arms it again. A thing whose deadline moves earlier gets an additional entry; the old one
//! finds nothing to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::time::Time;

#[derive(Debug)]
pub struct Timers<K: Ord> {
    heap: BinaryHeap<Reverse<(Time, K)>>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Arms `key` for `deadline`, where `armed` is the time of its earliest entry (`NEVER` without one).
    /// Returns what `armed` is now.
    pub fn arm(&mut self, key: K, deadline: Time, armed: Time) -> Time {
        if deadline >= armed {
            return armed;
        }
        self.heap.push(Reverse((deadline, key)));
        deadline
    }

    /// The next time at which something may fire.
    pub fn next(&self) -> Time {
        self.heap.peek().map_or(Time::NEVER, |Reverse((time, _))| *time)
    }

    /// Takes one entry that is due, with the time it was armed for.
    pub fn due(&mut self, now: Time) -> Option<(Time, K)> {
        if self.next() > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
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
        assert_eq!(timers.arm(1, at(20), at(50)), at(20), "earlier: a second entry");
        assert_eq!(timers.arm(2, at(30), Time::NEVER), at(30));
        assert_eq!(timers.due(at(10)), None);
        assert_eq!(timers.due(at(60)), Some((at(20), 1)));
        assert_eq!(timers.due(at(60)), Some((at(30), 2)));
        assert_eq!(timers.due(at(60)), Some((at(50), 1)));
        assert_eq!(timers.due(at(60)), None);
        assert_eq!(timers.next(), Time::NEVER);
    }
}
