//! What servers have said about users whom the configuration does not have (`auth_query`), for a time.
//!
//! A cache per configuration epoch: a reload begins with an empty one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::LOOKUPS_KEPT_MAX;
use crate::base::time::Time;
use crate::cluster::world::{Name, Passwords};

/// What is known of a user.
#[derive(Clone, Debug)]
pub enum Found {
    Passwords(Passwords),
    /// There is no such user, or it has no password.
    Nobody,
}

#[derive(Debug, Default)]
pub struct Lookups {
    entries: BTreeMap<Arc<Name>, Entry>,
    /// The same by age; the numbers are unique.
    by_age: BTreeMap<u64, Arc<Name>>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    found: Found,
    until: Time,
    age: u64,
}

impl Lookups {
    pub fn find(&self, name: &Name, now: Time) -> Option<Found> {
        self.entries.get(name).filter(|entry| now < entry.until).map(|entry| entry.found.clone())
    }

    /// A server has said this at `now`; it counts for `ttl`.
    pub fn insert(&mut self, name: &Arc<Name>, found: Found, now: Time, ttl: Duration) {
        self.forget(name);
        if ttl.is_zero() {
            return;
        }
        if self.entries.len() >= LOOKUPS_KEPT_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.next += 1;
        self.entries.insert(name.clone(), Entry { found, until: now + ttl, age: self.next });
        self.by_age.insert(self.next, name.clone());
    }

    /// What was said may be wrong by now.
    pub fn forget(&mut self, name: &Name) {
        if let Some(entry) = self.entries.remove(name) {
            self.by_age.remove(&entry.age);
        }
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

    fn name(user: &str) -> Arc<Name> {
        Arc::new(Name::new("d", user))
    }

    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn kept_for_its_time() {
        let mut lookups = Lookups::default();
        lookups.insert(&name("a"), Found::Nobody, Time::ZERO, TTL);
        lookups.insert(&name("b"), Found::Nobody, Time::ZERO, Duration::ZERO);
        let just_before = Time::from_micros(9_999_999);
        assert!(matches!(lookups.find(&name("a"), just_before), Some(Found::Nobody)));
        assert!(lookups.find(&name("a"), Time::ZERO + TTL).is_none());
        assert!(lookups.find(&name("b"), Time::ZERO).is_none());
        lookups.insert(&name("a"), Found::Passwords(Passwords::default()), Time::ZERO, TTL);
        assert!(matches!(lookups.find(&name("a"), Time::ZERO), Some(Found::Passwords(_))));
        lookups.forget(&name("a"));
        assert!(lookups.find(&name("a"), Time::ZERO).is_none() && lookups.by_age.is_empty());
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut lookups = Lookups::default();
        for number in 0..=LOOKUPS_KEPT_MAX {
            lookups.insert(&name(&number.to_string()), Found::Nobody, Time::ZERO, TTL);
            lookups.insert(&name("always new"), Found::Nobody, Time::ZERO, TTL);
        }
        assert_eq!((lookups.len(), lookups.by_age.len()), (LOOKUPS_KEPT_MAX, LOOKUPS_KEPT_MAX));
        assert!(lookups.find(&name("0"), Time::ZERO).is_none());
        assert!(lookups.find(&name("always new"), Time::ZERO).is_some());
    }
}
