//! How many clients have logged in: of the process, by user and by database.
//!
//! A [`Place`] counts as long as it lives, so that whatever ends a session gives it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cluster::world::Name;

/// Most clients; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    pub process: Option<usize>,
    pub user: Option<usize>,
    pub database: Option<usize>,
}

/// The limit that keeps a client out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Process,
    User,
    Database,
}

#[derive(Debug, Default)]
pub struct Clients {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    users: BTreeMap<Box<str>, usize>,
    databases: BTreeMap<Box<str>, usize>,
}

/// One client that counts.
#[derive(Debug)]
pub struct Place {
    clients: Arc<Clients>,
    name: Arc<Name>,
}

impl Clients {
    /// A place for one more client, unless a limit is reached.
    pub fn enter(self: &Arc<Clients>, name: &Arc<Name>, limits: ClientLimits) -> Result<Place, Full> {
        let mut counts = self.lock();
        let is_full = |count: usize, limit: Option<usize>| limit.is_some_and(|limit| count >= limit);
        if is_full(counts.all, limits.process) {
            return Err(Full::Process);
        }
        if is_full(counts.databases.get(&name.database).copied().unwrap_or(0), limits.database) {
            return Err(Full::Database);
        }
        if is_full(counts.users.get(&name.user).copied().unwrap_or(0), limits.user) {
            return Err(Full::User);
        }
        counts.all += 1;
        add(&mut counts.users, &name.user);
        add(&mut counts.databases, &name.database);
        Ok(Place { clients: self.clone(), name: name.clone() })
    }

    /// How many there are; for tests.
    pub fn count(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.lock();
        counts.all -= 1;
        subtract(&mut counts.users, &self.name.user);
        subtract(&mut counts.databases, &self.name.database);
    }
}

fn add(counts: &mut BTreeMap<Box<str>, usize>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.into(), 1)),
    }
}

/// Names without a client are not kept.
fn subtract(counts: &mut BTreeMap<Box<str>, usize>, name: &str) {
    match counts.get_mut(name) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let clients = Arc::new(Clients::default());
        let name = |database: &str, user: &str| Arc::new(Name::new(database, user));
        let limits = ClientLimits { process: Some(4), user: Some(2), database: Some(3) };
        let enter = |database, user| clients.enter(&name(database, user), limits);
        let mut places = vec![enter("d", "a").unwrap(), enter("d", "a").unwrap()];
        assert_eq!(enter("e", "a").unwrap_err(), Full::User);
        places.push(enter("d", "b").unwrap());
        assert_eq!(enter("d", "b").unwrap_err(), Full::Database);
        places.push(enter("e", "b").unwrap());
        assert_eq!(enter("f", "c").unwrap_err(), Full::Process);
        assert_eq!(clients.count(), 4);
        places.remove(0);
        assert!(enter("e", "a").is_ok());
        places.clear();
        assert_eq!(clients.count(), 0);
        assert!(clients.lock().users.is_empty() && clients.lock().databases.is_empty());
    }

    #[test]
    fn without_limits_everybody_counts() {
        let clients = Arc::new(Clients::default());
        let name = Arc::new(Name::new("d", "u"));
        let places: Vec<_> =
            (0..100).map(|_| clients.enter(&name, ClientLimits::default()).unwrap()).collect();
        assert_eq!(clients.count(), places.len());
    }
}
