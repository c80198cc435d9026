//! Advisory locks: exclusive, of session or transaction, granted in the order in which they were asked for.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
struct Lock {
    holder: Option<i32>,
    session: u32,
    transaction: u32,
    /// Pids that wait, oldest first.
    queue: Vec<i32>,
}

/// All locks of one server, by database and key.
#[derive(Clone, Debug, Default)]
pub struct Locks(BTreeMap<(String, i64), Lock>);

impl Locks {
    /// Takes the lock, or not. With `wait` the pid queues up when it fails, and must ask again or [`Locks::give_up`].
    pub fn acquire(&mut self, database: &str, key: i64, pid: i32, transaction: bool, wait: bool) -> bool {
        let lock = self.0.entry((database.to_string(), key)).or_default();
        let free = match lock.holder {
            Some(holder) => holder == pid,
            None => lock.queue.first().is_none_or(|first| *first == pid),
        };
        if !free {
            if wait && !lock.queue.contains(&pid) {
                lock.queue.push(pid);
            }
            return false;
        }
        lock.queue.retain(|waiter| *waiter != pid);
        lock.holder = Some(pid);
        if transaction {
            lock.transaction += 1
        } else {
            lock.session += 1
        }
        true
    }

    /// Whether [`Locks::acquire`] would succeed.
    pub fn is_free(&self, database: &str, key: i64, pid: i32) -> bool {
        self.0.get(&(database.to_string(), key)).is_none_or(|lock| match lock.holder {
            Some(holder) => holder == pid,
            None => lock.queue.first().is_none_or(|first| *first == pid),
        })
    }

    /// Whether a session holds any.
    pub fn is_held_by(&self, pid: i32) -> bool {
        self.0.values().any(|lock| lock.holder == Some(pid))
    }

    /// pg_advisory_unlock
    pub fn release(&mut self, database: &str, key: i64, pid: i32) -> bool {
        let Some(lock) = self.0.get_mut(&(database.to_string(), key)) else { return false };
        if lock.holder != Some(pid) || lock.session == 0 {
            return false;
        }
        lock.session -= 1;
        self.sweep();
        true
    }

    /// End of a transaction, or of a subtransaction that took `keys`.
    pub fn release_transaction(&mut self, database: &str, keys: &[i64], pid: i32) {
        for key in keys {
            if let Some(lock) = self.0.get_mut(&(database.to_string(), *key))
                && lock.holder == Some(pid)
            {
                lock.transaction = lock.transaction.saturating_sub(1);
            }
        }
        self.sweep();
    }

    pub fn release_session(&mut self, pid: i32) {
        for lock in self.0.values_mut().filter(|lock| lock.holder == Some(pid)) {
            lock.session = 0;
        }
        self.sweep();
    }

    pub fn give_up(&mut self, pid: i32) {
        for lock in self.0.values_mut() {
            lock.queue.retain(|waiter| *waiter != pid);
        }
        self.sweep();
    }

    /// The backend has ended.
    pub fn forget(&mut self, pid: i32) {
        for lock in self.0.values_mut() {
            lock.queue.retain(|waiter| *waiter != pid);
            if lock.holder == Some(pid) {
                (lock.session, lock.transaction) = (0, 0);
            }
        }
        self.sweep();
    }

    /// Number of locks held; 0 at rest.
    pub fn held(&self) -> usize {
        self.0.values().filter(|lock| lock.holder.is_some()).count()
    }

    fn sweep(&mut self) {
        for lock in self.0.values_mut() {
            if lock.session == 0 && lock.transaction == 0 {
                lock.holder = None;
            }
        }
        self.0.retain(|_, lock| lock.holder.is_some() || !lock.queue.is_empty());
    }
}
