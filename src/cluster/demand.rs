//! Clusters that the configuration allows and does not name: made when a client that has proved who it is first needs
//! one, with a bound on their number, and removed once nobody has used them for a while.
//!
//! One [`Demand`] serves all worlds, so that what a worker makes during a reload is there in the next world too: it always
//! makes what the newest configuration says ([`plan`]). A cluster is removed only when the map holds the last reference
//! to it and no server of its pools exists; since references come out of the map under its lock, nobody can be about to
//! use it then, and a pool never has more servers than its size because it was made twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::time::Time;
use crate::cluster::shared::Turn;
use crate::cluster::world::{Cluster, Name, Plan, Pool, PoolConfig, PoolIds, pool_config};
use crate::config::{Config, Database, Secret, User, WILDCARD};

/// There are as many clusters on demand as `dynamic_pools_max` allows, and all of them are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

pub struct Demand<T>(Mutex<State<T>>);

struct State<T> {
    /// The newest.
    config: Arc<Config>,
    pool_ids: Arc<PoolIds>,
    made: BTreeMap<Arc<Name>, Made<T>>,
    /// Pools that a new configuration has replaced and nobody has been told of.
    replaced: Vec<Arc<Pool<T>>>,
}

struct Made<T> {
    cluster: Arc<Cluster<T>>,
    /// Since when no session has it, as far as has been seen.
    unused_since: Option<Time>,
}

impl<T> Default for Demand<T> {
    fn default() -> Demand<T> {
        Demand(Mutex::new(State {
            config: Arc::default(),
            pool_ids: Arc::default(),
            made: BTreeMap::new(),
            replaced: Vec::new(),
        }))
    }
}

/// What is to be made for a name that the configuration does not have; none if nothing may be.
fn plan(config: &Config, name: &Name) -> Option<(User, Vec<Database>)> {
    let wild = config.wildcard(&name.database);
    if !wild.is_empty() {
        let user = match config.wildcard_user(&name.user) {
            // Nobody would ever end a pool that keeps servers open for whoever came once.
            Some(user) => User { min_pool_size: Some(0), min_pool_size_primary: None, ..user.clone() },
            None => config.found_user(&name.user, &name.database)?,
        };
        return Some((user, wild));
    }
    let is_meant = |host: &&Database| *host.name == *name.database && host.name != WILDCARD;
    let hosts: Vec<_> = config.databases.iter().filter(is_meant).cloned().collect();
    if hosts.is_empty() || config.user(&name.user, &name.database).is_some() {
        return None;
    }
    let user = config.found_user(&name.user, &name.database)?;
    Some((user, hosts))
}

impl<T> Demand<T> {
    pub(super) fn find(&self, name: &Name) -> Option<Arc<Cluster<T>>> {
        self.lock().made.get(name).map(|made| made.cluster.clone())
    }

    pub(super) fn find_or_make(&self, name: &Arc<Name>) -> Result<Option<Arc<Cluster<T>>>, TooMany> {
        let mut state = self.lock();
        if let Some(made) = state.made.get(name) {
            return Ok(Some(made.cluster.clone()));
        }
        let Some(cluster) = state.build(name, None) else { return Ok(None) };
        if state.made.len() >= state.config.general.dynamic_pools_max && !state.remove_one() {
            return Err(TooMany);
        }
        let cluster = Arc::new(cluster);
        state.made.insert(name.clone(), Made { cluster: cluster.clone(), unused_since: None });
        Ok(Some(cluster))
    }

    /// A pool for one login as `name` with this password; none if there is nothing to log in to.
    pub(super) fn trial(&self, name: &Arc<Name>, password: &Secret, turn: Turn) -> Option<Arc<Pool<T>>> {
        let state = self.lock();
        let config = &state.config;
        let host = config.database(&name.database)?;
        let found;
        let user = match config.user(&name.user, &name.database) {
            Some(user) => user,
            None => {
                found = config.found_user(&name.user, &name.database)?;
                &found
            }
        };
        let base = pool_config(config, name, user, host);
        let config = PoolConfig {
            // Whoever else the pool logs in as, this is about the client.
            server_user: name.user.clone(),
            server_password: Some(password.clone()),
            learns: false,
            size: 1,
            min_size: 0,
            connect_attempts: 1,
            ..base
        };
        Some(state.pool_ids.make_trial(config, turn))
    }

    pub(super) fn pools_into(&self, pools: &mut Vec<Arc<Pool<T>>>) {
        pools.extend(self.lock().made.values().flat_map(|made| &made.cluster.pools).cloned());
    }

    pub(super) fn replaced_into(&self, pools: &mut Vec<Arc<Pool<T>>>) {
        pools.append(&mut self.lock().replaced);
    }

    /// Another configuration counts from here on: what it does not allow goes, and what it changes is made anew.
    pub(super) fn renew(&self, config: &Arc<Config>, pool_ids: &Arc<PoolIds>) {
        let mut state = self.lock();
        state.config = config.clone();
        state.pool_ids = pool_ids.clone();
        for (name, made) in std::mem::take(&mut state.made) {
            let old = made.cluster;
            let new = state.build(&name, Some(&old)).map(Arc::new);
            let keeps = |pool: &Arc<Pool<T>>| {
                new.iter().flat_map(|new| &new.pools).any(|other| Arc::ptr_eq(pool, other))
            };
            state.replaced.extend(old.pools.iter().filter(|pool| !keeps(pool)).cloned());
            if let Some(cluster) = new {
                state.made.insert(name, Made { cluster, unused_since: made.unused_since });
            }
        }
    }

    /// Removes what has not been used for `dynamic_pool_timeout`.
    pub(super) fn tidy(&self, now: Time) {
        let mut state = self.lock();
        let timeout = state.config.general.dynamic_pool_timeout;
        state.made.retain(|_, made| {
            if Arc::strong_count(&made.cluster) > 1 {
                made.unused_since = None;
                return true;
            }
            let since = *made.unused_since.get_or_insert(now);
            now.since(since) < timeout || !made.retire()
        });
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn build(&self, name: &Arc<Name>, old: Option<&Cluster<T>>) -> Option<Cluster<T>> {
        let (user, hosts) = plan(&self.config, name)?;
        let plan =
            Plan { config: &self.config, name: name.clone(), user: &user, hosts: hosts.iter().collect() };
        Some(Cluster::build(plan, old, old.map_or(&[], |old| &old.pools), &self.pool_ids))
    }

    /// Makes room for another one: of those that could go, whichever comes first.
    fn remove_one(&mut self) -> bool {
        let free = self.made.iter().find(|(_, made)| Arc::strong_count(&made.cluster) == 1 && made.retire());
        let Some(name) = free.map(|(name, _)| name.clone()) else { return false };
        self.made.remove(&name);
        true
    }
}

impl<T> Made<T> {
    /// Ends its pools, if none of them has a server.
    fn retire(&self) -> bool {
        // Nobody else has the cluster, so no pool can get busy between the two.
        let is_unused = |pool: &Arc<Pool<T>>| pool.lock().state.is_unused();
        if !self.cluster.pools.iter().all(is_unused) {
            return false;
        }
        self.cluster.pools.iter().for_each(|pool| drop(pool.lock().state.retire()));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::pool::{Checkin, Checkout, Ticket};
    use crate::cluster::world::World;
    use crate::config::load::{Sources, Text, build};

    fn config(general: &str) -> Arc<Config> {
        let text = format!(
            "[general]\nauth_user = \"finder\"\n{general}\n[[databases]]\nname = \"d\"\nhost = \"127.0.0.1\"\n"
        );
        let users = "[[users]]\nname = \"finder\"\ndatabase = \"d\"\npassword = \"p\"\n";
        let sources = Sources {
            config: Some(Text { file: "pgdog.toml", text: &text }),
            users: Some(Text { file: "users.toml", text: users }),
            ..Sources::default()
        };
        Arc::new(build(&sources).into_result().unwrap().0)
    }

    fn name(user: &str) -> Arc<Name> {
        Arc::new(Name::new("d", user))
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    const TICKET: Ticket = Ticket { worker: 0, session: 1, number: 1 };

    #[test]
    fn made_once_and_only_where_allowed() {
        let world = World::<()>::build(config(""), None);
        assert!(world.cluster_of(&name("a")).is_none(), "nobody has proved to be a");
        let a = world.cluster_for(&name("a")).unwrap().unwrap();
        assert!(Arc::ptr_eq(&a, &world.cluster_for(&name("a")).unwrap().unwrap()));
        assert!(Arc::ptr_eq(&a, &world.cluster_of(&name("a")).unwrap()));
        assert_eq!(a.pools[0].config.min_size, 0);
        let configured = world.cluster_for(&name("finder")).unwrap().unwrap();
        assert_ne!(a.pools[0].id, configured.pools[0].id);
        assert!(world.cluster_for(&Arc::new(Name::new("e", "a"))).unwrap().is_none());
        assert_eq!(world.pools().len(), 2);
    }

    #[test]
    fn a_bound_that_counts_those_in_use() {
        let world = World::<()>::build(config("dynamic_pools_max = 2"), None);
        let a = world.cluster_for(&name("a")).unwrap().unwrap();
        let b = world.cluster_for(&name("b")).unwrap().unwrap();
        assert_eq!(world.cluster_for(&name("c")).err(), Some(TooMany));
        drop(b);
        assert!(world.cluster_for(&name("c")).unwrap().is_some(), "nobody uses b");
        assert!(world.cluster_of(&name("b")).is_none());
        assert!(Arc::ptr_eq(&a, &world.cluster_of(&name("a")).unwrap()));
    }

    #[test]
    fn removed_when_neither_clients_nor_servers_are_left() {
        let world = World::<()>::build(config("dynamic_pool_timeout = 10_000"), None);
        let a = world.cluster_for(&name("a")).unwrap().unwrap();
        let pool = a.pools[0].clone();
        assert!(matches!(pool.lock().state.checkout(TICKET, at(0)), Checkout::Wait { open: true }));
        assert!(matches!(pool.lock().state.opened((), 0, at(0)), Checkin::Granted { .. }));
        world.tidy(at(0));
        world.tidy(at(100));
        assert!(world.cluster_of(&name("a")).is_some(), "a client has it");
        drop(a);
        world.tidy(at(100));
        world.tidy(at(200));
        assert!(world.cluster_of(&name("a")).is_some(), "a server is there");
        pool.lock().state.close();
        pool.lock().state.closed();
        world.tidy(at(109));
        assert!(world.cluster_of(&name("a")).is_some(), "not for that long");
        world.tidy(at(110));
        assert!(world.cluster_of(&name("a")).is_none());
        assert!(pool.lock().state.is_retired());
    }

    #[test]
    fn what_is_known_of_functions_is_known_of_their_database() {
        let old = World::<()>::build(config(""), None);
        let a = old.cluster_for(&name("a")).unwrap().unwrap();
        let generation = a.pools[0].functions().generation();
        a.pools[0].functions().learn(generation, [("f", true)], at(0));
        let knows = |world: &World<()>, user: &str| {
            world.cluster_for(&name(user)).unwrap().unwrap().pools[0].functions().at(at(0)).is_harmless(b"f")
        };
        assert!(knows(&old, "finder") && knows(&old, "b"), "other users");
        let changed = World::build(config("default_pool_size = 11"), Some(&old));
        assert!(knows(&changed, "a") && knows(&changed, "finder"), "other pools");
    }

    #[test]
    fn a_reload_keeps_changes_and_removes() {
        let old = World::<()>::build(config(""), None);
        let a = old.cluster_for(&name("a")).unwrap().unwrap();
        let same = World::build(config(""), Some(&old));
        assert!(Arc::ptr_eq(&a.pools[0], &same.cluster_of(&name("a")).unwrap().pools[0]));
        assert!(old.retired(&same).is_empty());

        let larger = World::build(config("default_pool_size = 11"), Some(&same));
        let changed = larger.cluster_of(&name("a")).unwrap();
        assert!(!Arc::ptr_eq(&a.pools[0], &changed.pools[0]));
        let retired: Vec<u64> = same.retired(&larger).iter().map(|pool| pool.id).collect();
        assert_eq!(retired, [1, 2]);
        // A worker that has not heard of it makes what is configured now.
        let b = old.cluster_for(&name("b")).unwrap().unwrap();
        assert_eq!(b.pools[0].config.size, 11);
        assert!(Arc::ptr_eq(&b, &larger.cluster_of(&name("b")).unwrap()));

        let none = World::build(Arc::default(), Some(&larger));
        assert_eq!(larger.retired(&none).len(), 3);
        assert!(none.cluster_of(&name("a")).is_none() && old.cluster_for(&name("c")).unwrap().is_none());
    }
}
