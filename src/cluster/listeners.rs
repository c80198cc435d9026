//! LISTEN for many clients over one connection per database (`pub_sub_channel_size`).
//!
//! Owns who listens to which channels, and what the connection that listens for them has been asked. A client hears a
//! channel from the answer to a LISTEN on that connection which was sent after the client's own had been done: whatever was
//! committed before the client's is ahead of that answer there, so nothing reaches it twice. What happens between the two
//! is not missed, since the client is not told before that it listens.
//!
//! Lock order: this one, then a pool's. What is to be done outside is returned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cluster::pool::{Ticket, WorkerId};
use crate::cluster::world::{Pool, PoolConfig};

pub type Channel = Box<[u8]>;
pub type Channels = BTreeSet<Channel>;

/// Who waits for the listening connection of a database, instead of a session.
pub const TICKET: Ticket = Ticket { worker: 0, session: u64::MAX, number: 0 };

/// What such connections call themselves.
pub const APPLICATION_NAME: &str = "pgdog listener";

/// A session that listens: its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub worker: WorkerId,
    pub token: u64,
}

/// What is to be done now.
pub enum Need<T> {
    Nothing,
    /// A connection for this pool.
    Open(Arc<Pool<T>>),
    /// The connection of this place has something to ask.
    Tell(Listener),
}

/// What a connection that rests is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Ask(Vec<u8>),
    Rest,
    /// Nobody listens any more, or nobody may.
    Close(Lost),
}

/// Who has lost something with a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// They have been told that they listen.
    pub listening: Vec<Listener>,
    /// They have asked to, with these numbers.
    pub asking: Vec<(Listener, u32)>,
}

/// What the console shows of a channel.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub database: String,
    pub user: String,
    pub shard: usize,
    pub channel: String,
    pub listeners: usize,
    pub received: u64,
    pub dropped: u64,
}

pub struct Listeners<T>(Mutex<State<T>>);

struct State<T> {
    databases: BTreeMap<Target, Database<T>>,
    /// Where each session listens.
    of: BTreeMap<Listener, Target>,
}

/// A database on a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    host: Box<str>,
    port: u16,
    database: Box<str>,
}

struct Database<T> {
    /// Of one connection.
    pool: Arc<Pool<T>>,
    connection: Connection,
    sessions: BTreeMap<Listener, Wishes>,
    channels: BTreeMap<Channel, Heard>,
    /// What the connection listens to.
    on: Channels,
    /// What it has been asked to listen to, until it answers.
    asking: Option<Channels>,
    /// The configuration does not have it any more.
    is_retired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    None,
    Opening,
    At(Listener),
}

#[derive(Default)]
struct Wishes {
    /// Of its last question.
    number: u32,
    has: Channels,
    /// Not sent yet, and sent.
    asks: Channels,
    asked: Channels,
}

#[derive(Default)]
struct Heard {
    listeners: Vec<Listener>,
    received: u64,
    dropped: u64,
}

impl Target {
    fn of(config: &PoolConfig) -> Target {
        Target { host: config.host.clone(), port: config.port, database: config.server_database.clone() }
    }
}

impl<T> Default for Listeners<T> {
    fn default() -> Listeners<T> {
        Listeners(Mutex::new(State { databases: BTreeMap::new(), of: BTreeMap::new() }))
    }
}

impl<T> Listeners<T> {
    /// From now on `who` wants to listen to these channels alone. Those that it has are ended at once if they are not among
    /// them; for new ones [`Listeners::answered`] or [`Listeners::lost`] names it later, with the number of its last question.
    pub fn listen(
        &self,
        config: &PoolConfig,
        make: impl FnOnce() -> Arc<Pool<T>>,
        who: Listener,
        number: u32,
        channels: Channels,
    ) -> Vec<Need<T>> {
        let mut state = self.lock();
        let target = Target::of(config);
        let mut needs = Vec::new();
        if state.of.get(&who).is_some_and(|of| *of != target) {
            needs.extend(state.leave(who));
        }
        state.databases.retain(|of, database| *of == target || !database.is_unused());
        let database = state.databases.entry(target.clone()).or_insert_with(|| Database::new(make()));
        let wishes = database.sessions.entry(who).or_default();
        wishes.number = number;
        let gone: Vec<_> = wishes.has.difference(&channels).cloned().collect();
        wishes.asks = channels.difference(&wishes.has).cloned().collect();
        wishes.asked.clear();
        for channel in &gone {
            wishes.has.remove(channel);
        }
        gone.iter().for_each(|channel| database.end(channel, who));
        needs.push(database.need());
        state.of.insert(who, target);
        needs
    }

    /// A session has ended.
    pub fn leave(&self, who: Listener) -> Option<Need<T>> {
        self.lock().leave(who)
    }

    /// The connection of this pool has logged in, and has its place.
    pub fn opened(&self, pool: u64, at: Listener) {
        if let Some(database) = self.lock().database(pool) {
            database.connection = Connection::At(at);
        }
    }

    /// The connection of this pool has nothing to do.
    pub fn next(&self, pool: u64) -> Next {
        let mut state = self.lock();
        let next = state.database(pool).map_or(Next::Close(Lost::default()), Database::next);
        if let Next::Close(lost) = &next {
            state.forget(lost);
        }
        next
    }

    /// What [`Next::Ask`] said has been done: those who listen now to what they asked for.
    pub fn answered(&self, pool: u64) -> Vec<(Listener, u32)> {
        self.lock().database(pool).map_or_else(Vec::new, Database::answered)
    }

    /// The connection has gone, or there will be none. Nobody listens to this database any more.
    pub fn lost(&self, pool: u64) -> Lost {
        let mut state = self.lock();
        let Some(database) = state.database(pool) else { return Lost::default() };
        let lost = database.lose();
        state.forget(&lost);
        lost
    }

    /// A notification has come: who is to hear of it.
    pub fn hear(&self, pool: u64, channel: &[u8]) -> Vec<Listener> {
        let mut state = self.lock();
        let heard = state.database(pool).and_then(|database| database.channels.get_mut(channel));
        heard.map_or_else(Vec::new, |heard| {
            heard.received += 1;
            heard.listeners.clone()
        })
    }

    /// A session that is too slow has missed one.
    pub fn dropped(&self, pool: u64, channel: &[u8]) {
        let mut state = self.lock();
        if let Some(heard) = state.database(pool).and_then(|database| database.channels.get_mut(channel)) {
            heard.dropped += 1;
        }
    }

    /// Ends the connections that a new configuration has no place for; they are to be told.
    pub fn retire(&self, keeps: impl Fn(&PoolConfig) -> bool) -> Vec<Listener> {
        let mut state = self.lock();
        let mut told = Vec::new();
        for database in state.databases.values_mut().filter(|database| !keeps(&database.pool.config)) {
            database.is_retired = true;
            if let Connection::At(at) = database.connection {
                told.push(at);
            }
        }
        told
    }

    pub fn rows(&self) -> Vec<Row> {
        let state = self.lock();
        let rows = state.databases.values().flat_map(|database| {
            let config = &database.pool.config;
            database.channels.iter().map(|(channel, heard)| Row {
                database: config.name.database.to_string(),
                user: config.name.user.to_string(),
                shard: config.shard,
                channel: String::from_utf8_lossy(channel).into_owned(),
                listeners: heard.listeners.len(),
                received: heard.received,
                dropped: heard.dropped,
            })
        });
        rows.collect()
    }

    /// Sessions that are known here; for tests.
    pub fn len(&self) -> usize {
        self.lock().of.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn database(&mut self, pool: u64) -> Option<&mut Database<T>> {
        self.databases.values_mut().find(|database| database.pool.id == pool)
    }

    fn forget(&mut self, lost: &Lost) {
        for who in lost.listening.iter().chain(lost.asking.iter().map(|(who, _)| who)) {
            self.of.remove(who);
        }
    }

    fn leave(&mut self, who: Listener) -> Option<Need<T>> {
        let target = self.of.remove(&who)?;
        let database = self.databases.get_mut(&target)?;
        let wishes = database.sessions.remove(&who)?;
        wishes.has.iter().for_each(|channel| database.end(channel, who));
        Some(database.need())
    }
}

impl<T> Database<T> {
    fn new(pool: Arc<Pool<T>>) -> Database<T> {
        Database {
            pool,
            connection: Connection::None,
            sessions: BTreeMap::new(),
            channels: BTreeMap::new(),
            on: Channels::new(),
            asking: None,
            is_retired: false,
        }
    }

    fn is_unused(&self) -> bool {
        self.sessions.is_empty() && self.connection == Connection::None && self.pool.lock().state.is_unused()
    }

    fn end(&mut self, channel: &Channel, who: Listener) {
        if let Some(heard) = self.channels.get_mut(channel) {
            heard.listeners.retain(|of| *of != who);
            if heard.listeners.is_empty() {
                self.channels.remove(channel);
            }
        }
    }

    /// Something has changed.
    fn need(&mut self) -> Need<T> {
        match self.connection {
            Connection::None if self.sessions.is_empty() => Need::Nothing,
            Connection::None => {
                self.connection = Connection::Opening;
                Need::Open(self.pool.clone())
            }
            Connection::Opening => Need::Nothing,
            Connection::At(at) => Need::Tell(at),
        }
    }

    fn next(&mut self) -> Next {
        if self.asking.is_some() {
            return Next::Rest;
        }
        if self.is_retired || self.sessions.is_empty() {
            return Next::Close(self.lose());
        }
        let mut query = Vec::new();
        let unwanted: Vec<_> =
            self.on.iter().filter(|channel| !self.channels.contains_key(*channel)).cloned().collect();
        for channel in unwanted {
            statement(&mut query, "UNLISTEN", &channel);
            self.on.remove(&channel);
        }
        let mut asks = Channels::new();
        for wishes in self.sessions.values_mut() {
            asks.extend(wishes.asks.iter().cloned());
            wishes.asked.append(&mut wishes.asks);
        }
        asks.iter().for_each(|channel| statement(&mut query, "LISTEN", channel));
        if query.is_empty() {
            return Next::Rest;
        }
        self.asking = Some(asks);
        Next::Ask(query)
    }

    fn answered(&mut self) -> Vec<(Listener, u32)> {
        self.on.append(&mut self.asking.take().unwrap_or_default());
        let mut listening = Vec::new();
        for (who, wishes) in &mut self.sessions {
            if wishes.asked.is_empty() {
                continue;
            }
            for channel in &wishes.asked {
                self.channels.entry(channel.clone()).or_default().listeners.push(*who);
            }
            wishes.has.append(&mut wishes.asked);
            listening.push((*who, wishes.number));
        }
        listening
    }

    fn lose(&mut self) -> Lost {
        self.connection = Connection::None;
        self.channels.clear();
        self.on.clear();
        self.asking = None;
        self.is_retired = false;
        let mut lost = Lost::default();
        for (who, wishes) in std::mem::take(&mut self.sessions) {
            if wishes.has.is_empty() {
                lost.asking.push((who, wishes.number))
            } else {
                lost.listening.push(who)
            }
        }
        lost
    }
}

/// Adds `LISTEN` or `UNLISTEN` of a channel to a query.
pub fn statement(query: &mut Vec<u8>, command: &str, channel: &[u8]) {
    query.extend_from_slice(command.as_bytes());
    query.extend_from_slice(b" \"");
    for &byte in channel {
        if byte == b'"' {
            query.push(b'"');
        }
        query.push(byte);
    }
    query.extend_from_slice(b"\";");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::world::World;
    use crate::config::load::{Sources, Text, build};

    const POOL: u64 = 100;

    fn config() -> PoolConfig {
        let text = "[[databases]]\nname = \"d\"\nhost = \"127.0.0.1\"\n";
        let users = "[[users]]\nname = \"u\"\ndatabase = \"d\"\npassword = \"p\"\n";
        let sources = Sources {
            config: Some(Text { file: "pgdog.toml", text }),
            users: Some(Text { file: "users.toml", text: users }),
            ..Sources::default()
        };
        let world = World::<()>::build(Arc::new(build(&sources).into_result().unwrap().0), None);
        world.pools()[0].config.clone()
    }

    fn who(token: u64) -> Listener {
        Listener { worker: 0, token }
    }

    fn channels(names: &[&str]) -> Channels {
        names.iter().map(|name| name.as_bytes().into()).collect()
    }

    fn listen(all: &Listeners<()>, token: u64, names: &[&str]) -> &'static str {
        let config = config();
        let make = || Arc::new(Pool::for_tests(POOL, config.clone()));
        match all.listen(&config, make, who(token), 5, channels(names)).pop() {
            Some(Need::Open(_)) => "open",
            Some(Need::Tell(at)) if at == who(9) => "tell",
            Some(Need::Nothing) => "nothing",
            _ => "something else",
        }
    }

    fn ask(text: &str) -> Next {
        Next::Ask(text.as_bytes().to_vec())
    }

    #[test]
    fn who_listens_is_asked_for_and_confirmed() {
        let all = Listeners::<()>::default();
        assert_eq!(listen(&all, 1, &["a", "b\"c"]), "open");
        assert_eq!(listen(&all, 2, &["a"]), "nothing", "it is being opened");
        all.opened(POOL, who(9));
        assert_eq!(all.next(POOL), ask("LISTEN \"a\";LISTEN \"b\"\"c\";"));
        assert!(all.hear(POOL, b"a").is_empty(), "nobody listens before the answer");
        // What comes meanwhile waits for the next query.
        assert_eq!(listen(&all, 3, &["a"]), "tell");
        assert_eq!(all.next(POOL), Next::Rest);
        assert_eq!(all.answered(POOL), [(who(1), 5), (who(2), 5)]);
        assert_eq!(all.hear(POOL, b"a"), [who(1), who(2)]);
        // A channel that is on is asked for again: the answer tells what was before from what comes after.
        assert_eq!(all.next(POOL), ask("LISTEN \"a\";"));
        assert_eq!(all.answered(POOL), [(who(3), 5)]);
        assert_eq!(all.next(POOL), Next::Rest);

        assert_eq!(listen(&all, 1, &["a"]), "tell");
        assert!(all.hear(POOL, b"b\"c").is_empty(), "it has ended at once");
        assert_eq!(all.next(POOL), ask("UNLISTEN \"b\"\"c\";"));
        assert!(all.answered(POOL).is_empty());
        all.dropped(POOL, b"a");
        let rows = all.rows();
        assert_eq!((rows.len(), rows[0].listeners, rows[0].received, rows[0].dropped), (1, 3, 1, 1));
    }

    #[test]
    fn the_last_one_closes_the_connection() {
        let all = Listeners::<()>::default();
        listen(&all, 1, &["a"]);
        all.opened(POOL, who(9));
        all.next(POOL);
        assert!(matches!(all.leave(who(1)), Some(Need::Tell(_))));
        assert!(all.leave(who(1)).is_none());
        assert!(all.answered(POOL).is_empty(), "it has gone");
        assert_eq!(all.next(POOL), Next::Close(Lost::default()));
        assert_eq!(listen(&all, 1, &["a"]), "open");
    }

    #[test]
    fn a_lost_connection_is_everybodys_loss() {
        let all = Listeners::<()>::default();
        listen(&all, 1, &["a"]);
        all.opened(POOL, who(9));
        all.next(POOL);
        all.answered(POOL);
        listen(&all, 2, &["a"]);
        listen(&all, 1, &["a", "b"]);
        assert_eq!(all.lost(POOL), Lost { listening: vec![who(1)], asking: vec![(who(2), 5)] });
        assert!(all.is_empty() && all.hear(POOL, b"a").is_empty() && all.rows().is_empty());
        assert_eq!(all.lost(POOL), Lost::default());
        assert_eq!(listen(&all, 2, &["a"]), "open");
        assert!(all.retire(|_| true).is_empty());
        all.opened(POOL, who(9));
        assert_eq!(all.retire(|_| false), [who(9)]);
        let lost = Lost { listening: Vec::new(), asking: vec![(who(2), 5)] };
        assert_eq!(all.next(POOL), Next::Close(lost));
    }

    #[test]
    fn who_takes_its_wish_back_is_not_confirmed() {
        let all = Listeners::<()>::default();
        listen(&all, 1, &["a"]);
        all.opened(POOL, who(9));
        all.next(POOL);
        listen(&all, 1, &[]);
        assert!(all.answered(POOL).is_empty());
        assert_eq!(all.next(POOL), ask("UNLISTEN \"a\";"));
    }
}
