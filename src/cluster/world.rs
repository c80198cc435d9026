//! What one configuration describes, as it is served: databases and users, their pools, and what their servers
//! have said so far.
//!
//! A [`World`] is immutable; a reload builds the next one, which takes over every pool whose configuration has
//! not changed. What nobody has named in the configuration is made on demand: [`super::demand`]. `T` is a server
//! connection; nothing here looks inside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::time::Duration;

use crate::auth::keys::Credential;
use crate::auth::md5::Md5Hash;
use crate::auth::plain::StoredSecret;
use crate::auth::secret::Password;
use crate::auth::verifier::Candidates;
use crate::base::limits::KNOWN_SETTINGS_MAX;
use crate::base::time::Time;
use crate::cluster::clients::ClientLimits;
use crate::cluster::demand::{Demand, TooMany};
use crate::cluster::functions::Functions;
use crate::cluster::listeners::{APPLICATION_NAME, Channels, Listener, Listeners, Need};
use crate::cluster::lookups::Lookups;
use crate::cluster::pool::{PoolState, Reserve};
use crate::cluster::quota::{Group, Quotas, ServerLimits, Share};
use crate::cluster::settings::Settings;
use crate::cluster::shared::Turn;
use crate::config::{
    Config, ConnectionRecovery, Database, General, PoolerMode, PreparedStatements, Role, Secret,
    SessionTaint, TlsVerify, User, WILDCARD,
};
use crate::stats::Tally;

/// One configuration epoch.
pub struct World<T> {
    pub epoch: u64,
    pub config: Arc<Config>,
    /// Those that the configuration names.
    clusters: BTreeMap<Arc<Name>, Arc<Cluster<T>>>,
    /// By user, whatever the database.
    users: BTreeMap<Box<str>, Passwords>,
    /// Of users of all databases that are not configured.
    wildcard_users: BTreeMap<Box<str>, Passwords>,
    /// The console's.
    pub admin: Passwords,
    /// The pools of `clusters`, by id.
    pools: Vec<Arc<Pool<T>>>,
    /// Limits over several pools, in every world the same value: servers of former ones count too.
    pub quotas: Arc<Quotas>,
    lookups: Mutex<Lookups>,
    /// Of all worlds.
    demand: Arc<Demand<T>>,
    /// Of all worlds.
    pub listeners: Arc<Listeners<T>>,
    /// The pools of single clients, and of connections that listen, of all worlds.
    private: Arc<Mutex<Vec<Weak<Pool<T>>>>>,
    pool_ids: Arc<PoolIds>,
}

/// Numbers for pools, of which none is given out twice, and what all pools share.
#[derive(Debug, Default)]
pub(super) struct PoolIds {
    last: AtomicU64,
    quotas: Arc<Quotas>,
    /// By host, port and database on the server.
    functions: Mutex<BTreeMap<Place, Weak<Mutex<Functions>>>>,
}

type Place = (Box<str>, u16, Box<str>);

impl PoolIds {
    pub(super) fn make<T>(&self, config: PoolConfig, learnt: Arc<Learnt>, workers: usize) -> Arc<Pool<T>> {
        let (id, share) = self.next(&config);
        let functions = self.functions_of(&config);
        Arc::new(Pool { functions, ..Pool::new(id, config, learnt, workers, share) })
    }

    /// What is known of the functions of a database, whoever asks.
    fn functions_of(&self, config: &PoolConfig) -> Arc<Mutex<Functions>> {
        let place = (config.host.clone(), config.port, config.server_database.clone());
        let mut all = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(functions) = all.get(&place).and_then(Weak::upgrade) {
            return functions;
        }
        all.retain(|_, functions| functions.strong_count() > 0);
        let functions = Arc::default();
        all.insert(place, Arc::downgrade(&functions));
        functions
    }

    /// For one login, in nobody's list.
    pub(super) fn make_trial<T>(&self, config: PoolConfig, turn: Turn) -> Arc<Pool<T>> {
        let (id, share) = self.next(&config);
        Arc::new(Pool { _turn: Some(turn), ..Pool::new(id, config, Arc::default(), 1, share) })
    }

    fn next(&self, config: &PoolConfig) -> (u64, Share) {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        (id, self.quotas.share(id, &config.name.user, &config.name.database))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub database: Box<str>,
    pub user: Box<str>,
}

impl Name {
    pub fn new(database: impl Into<Box<str>>, user: impl Into<Box<str>>) -> Name {
        Name { database: database.into(), user: user.into() }
    }
}

/// A database as one user sees it.
pub struct Cluster<T> {
    pub name: Arc<Name>,
    pub passwords: Passwords,
    pub mode: PoolerMode,
    pub prepared: PreparedStatements,
    /// By shard; one primary each.
    pub pools: Vec<Arc<Pool<T>>>,
    pub timeouts: Timeouts,
    pub client_recovery: ConnectionRecovery,
    /// What its pools may log in with, besides what is configured.
    pub learnt: Arc<Learnt>,
    pub client_limits: ClientLimits,
    /// Its clients may replicate.
    pub may_replicate: bool,
    /// It is there for one client, who does.
    pub replication: Option<Replication>,
    memory: Mutex<Memory>,
}

/// What a client has proved, and is good for its own login to servers: its password, its hash of it, or the keys of one
/// SCRAM challenge.
#[derive(Debug, Default)]
pub struct Learnt(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    credential: Option<Credential>,
    /// The configuration epoch and the time in which a server took it.
    taken: Option<(u64, Time)>,
}

/// What a password that a client has sent is to what servers have taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is the one that was taken in this epoch; at that time.
    Same(Time),
    /// Another one was taken in this epoch.
    Other,
    Unknown,
}

impl Learnt {
    pub fn learn(&self, credential: Credential) {
        let mut learnt = self.lock();
        if !learnt.credential.as_ref().is_some_and(|known| known.same(&credential)) {
            learnt.credential = Some(credential);
            learnt.taken = None;
        }
    }

    /// A server has taken this one.
    pub fn prove(&self, credential: Credential, epoch: u64, now: Time) {
        self.learn(credential);
        self.lock().taken = Some((epoch, now));
    }

    pub fn compare(&self, credential: &Credential, epoch: u64) -> Trust {
        let learnt = self.lock();
        match (&learnt.credential, learnt.taken) {
            (Some(known), Some((of, at))) if of == epoch => {
                if known.same(credential) {
                    Trust::Same(at)
                } else {
                    Trust::Other
                }
            }
            _ => Trust::Unknown,
        }
    }

    pub fn get(&self) -> Option<Credential> {
        self.lock().credential.clone()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().credential.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What kind of replication connection (PostgreSQL's manual: the startup parameter `replication`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    Physical,
    /// Of one database, with SQL.
    Logical,
}

impl Replication {
    pub fn as_str(self) -> &'static str {
        match self {
            Replication::Physical => "physical",
            Replication::Logical => "logical",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub checkout: Duration,
    pub query: Option<Duration>,
    pub client_idle: Option<Duration>,
    pub client_idle_in_transaction: Option<Duration>,
}

/// What a user may prove itself with, and must.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    pub plain: Vec<Secret>,
    /// A SCRAM verifier or an md5 hash, as pg_authid holds it.
    pub hash: Option<Secret>,
    /// What its certificate may call it instead.
    pub identity: Option<Box<str>>,
    /// It must show a certificate in any case.
    pub must_be_certified: bool,
    /// Made of `plain` at the user's first login: that takes PBKDF2.
    pub candidates: Arc<OnceLock<Arc<Candidates>>>,
}

impl Passwords {
    /// What a server has said of a user whom the configuration does not name, or gives no secret.
    pub fn found(stored: Secret, general: &General, user: Option<&User>) -> Passwords {
        let rules = user.map(|user| Passwords::of(user, general)).unwrap_or_else(|| Passwords {
            must_be_certified: general.tls_client_ca_certificate.is_some(),
            ..Passwords::default()
        });
        match StoredSecret::parse(stored.expose()) {
            StoredSecret::Text(_) => Passwords { plain: vec![stored], ..rules },
            StoredSecret::Md5(_) | StoredSecret::Scram(_) => Passwords { hash: Some(stored), ..rules },
        }
    }

    /// Nothing that a client could prove.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.hash.is_none()
    }

    /// What the md5 method can check.
    pub fn md5_hashes(&self, user: &str) -> Vec<Md5Hash> {
        let plain = self.plain.iter().map(|secret| {
            Md5Hash::parse(secret.as_bytes())
                .unwrap_or_else(|| Md5Hash::of(secret.as_bytes(), user.as_bytes()))
        });
        plain.chain(self.hash.iter().filter_map(|hash| Md5Hash::parse(hash.as_bytes()))).collect()
    }

    /// All of them, for a comparison with a password in clear.
    pub fn secrets(&self) -> Vec<StoredSecret> {
        let plain = self.plain.iter().map(|secret| StoredSecret::Text(Password::new(secret.as_bytes())));
        plain.chain(self.hash.iter().map(|hash| StoredSecret::parse(hash.expose()))).collect()
    }

    fn of(user: &User, general: &General) -> Passwords {
        Passwords {
            plain: user.password.iter().chain(&user.passwords).cloned().collect(),
            hash: user.password_hash.clone(),
            identity: user.identity.as_deref().map(Box::from),
            must_be_certified: user
                .tls_client_certificate_required
                .unwrap_or(general.tls_client_ca_certificate.is_some()),
            candidates: Arc::default(),
        }
    }

    /// What was made of the same passwords need not be made again.
    fn or(self, old: Option<&Passwords>) -> Passwords {
        match old {
            Some(old) if old.plain == self.plain && old.hash == self.hash => {
                Passwords { candidates: old.candidates.clone(), ..self }
            }
            _ => self,
        }
    }
}

/// What servers have told about themselves.
#[derive(Default)]
struct Memory {
    base: Option<Arc<Settings>>,
    known: BTreeMap<StartupSettings, Known>,
}

/// What comes of startup settings that a server has accepted.
#[derive(Clone)]
pub struct Known {
    pub settings: Arc<Settings>,
    /// The messages that tell a client of them at login.
    pub greeting: Arc<[u8]>,
}

/// What a client asked for in its startup packet, in its order.
pub type StartupSettings = Vec<(Box<str>, Box<[u8]>)>;

/// What makes two pools the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    pub name: Name,
    pub host: Box<str>,
    pub port: u16,
    pub shard: usize,
    pub role: Role,
    /// The database, user and password on the server.
    pub server_database: Box<str>,
    pub server_user: Box<str>,
    pub server_password: Option<Secret>,
    /// Without a password, it logs in with what its clients prove.
    pub learns: bool,
    /// Set at login, as `options`: name and value.
    pub server_settings: Vec<(Box<str>, Box<str>)>,
    /// What the one client that it is for has asked for in its startup packet.
    pub startup: StartupSettings,
    /// Its one server listens for clients, and serves none.
    pub listens: bool,
    pub size: usize,
    pub min_size: usize,
    pub reserve: Reserve,
    pub mode: PoolerMode,
    pub idle_timeout: Duration,
    pub lifetime: Duration,
    pub lifetime_jitter: Duration,
    pub connect_timeout: Duration,
    pub connect_attempts: u64,
    pub connect_attempt_delay: Duration,
    pub rollback_timeout: Duration,
    pub recovery: ConnectionRecovery,
    pub tls: TlsVerify,
    pub prepared_limit: usize,
    /// How long a server keeps a statement that is not used, and how far that is spread.
    pub prepared_ttl: Option<Duration>,
    pub prepared_ttl_jitter: Duration,
    pub taint: SessionTaint,
}

/// The connections to one database on one host, as one user.
pub struct Pool<T> {
    pub id: u64,
    pub config: PoolConfig,
    /// Its cluster's.
    learnt: Arc<Learnt>,
    /// It is there for one login, and gives this back when it and its server have gone.
    _turn: Option<Turn>,
    /// Its database's.
    functions: Arc<Mutex<Functions>>,
    shelf: Mutex<Shelf<T>>,
    /// Some client has called currval or lastval.
    asks_for_sequences: AtomicBool,
}

/// What the lock of a pool covers.
pub struct Shelf<T> {
    pub state: PoolState<T>,
    pub tally: Tally,
    /// The tally at the beginning of this statistics period, and what the one before it added.
    pub period_start: Tally,
    pub last_period: Tally,
    /// Servers older than this are closed when they come back (RECONNECT).
    pub not_before: Time,
    /// Why the last server could not be opened.
    pub last_failure: Option<OpenFailure>,
}

/// Why a server could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// The host's name has no address.
    Unresolved(String),
    Connect(String),
    Timeout,
    /// The server's own words: the body of its ErrorResponse.
    Refused(Box<[u8]>),
    /// What it said made no sense, or we cannot do what it asks for.
    Login(String),
    /// It closed the connection.
    Closed,
}

impl<T> Pool<T> {
    pub fn new(id: u64, config: PoolConfig, learnt: Arc<Learnt>, workers: usize, share: Share) -> Pool<T> {
        let shelf = Shelf {
            state: PoolState::new(config.size, workers, Some(share)).with_reserve(config.reserve),
            tally: Tally::default(),
            period_start: Tally::default(),
            last_period: Tally::default(),
            not_before: Time::ZERO,
            last_failure: None,
        };
        let asks_for_sequences = AtomicBool::new(false);
        Pool {
            id,
            config,
            learnt,
            _turn: None,
            functions: Arc::default(),
            shelf: Mutex::new(shelf),
            asks_for_sequences,
        }
    }

    /// Whether its clients want to know what they took of sequences: then no server may tell one of another's.
    pub fn asks_for_sequences(&self) -> bool {
        self.asks_for_sequences.load(Ordering::Relaxed)
    }

    pub fn ask_for_sequences(&self) {
        self.asks_for_sequences.store(true, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn for_tests(id: u64, config: PoolConfig) -> Pool<T> {
        let share = Arc::<Quotas>::default().share(id, "", "");
        Pool::new(id, config, Arc::default(), 1, share)
    }

    /// What a login to its servers may use now.
    pub fn credential(&self) -> Option<Credential> {
        match &self.config.server_password {
            Some(secret) => Some(Credential::of(secret.as_bytes())),
            None if self.config.learns => self.learnt.get(),
            None => None,
        }
    }

    /// Until a client has logged in, there is nothing to log in to servers with.
    pub fn awaits_client(&self) -> bool {
        self.config.server_password.is_none() && self.config.learns && self.learnt.is_empty()
    }

    /// What servers of its database have said of functions.
    pub fn functions(&self) -> MutexGuard<'_, Functions> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool's state. A panic elsewhere does not make it unusable: every change of it is complete.
    pub fn lock(&self) -> MutexGuard<'_, Shelf<T>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Pool<T> {
    /// The pool's state, if nobody is at it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Shelf<T>>> {
        match self.shelf.try_lock() {
            Ok(shelf) => Some(shelf),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T> Cluster<T> {
    /// What a server of this cluster reports at login; none before the first.
    pub fn base(&self) -> Option<Arc<Settings>> {
        self.memory().base.clone()
    }

    pub fn set_base(&self, settings: &Arc<Settings>) {
        let mut memory = self.memory();
        if memory.base.as_ref() != Some(settings) {
            // What was learnt about startup settings rests on the old base.
            memory.known.clear();
            memory.base = Some(settings.clone());
        }
    }

    /// The settings of a session whose startup settings a server has accepted before.
    pub fn known(&self, asked: &StartupSettings) -> Option<Known> {
        self.memory().known.get(asked).cloned()
    }

    pub fn remember(&self, asked: StartupSettings, known: Known) {
        let mut memory = self.memory();
        if memory.known.len() >= KNOWN_SETTINGS_MAX {
            memory.known.clear();
        }
        memory.known.insert(asked, known);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> World<T> {
    /// The world that `config` describes; `previous` hands over its pools where nothing has changed for them.
    pub fn build(config: Arc<Config>, previous: Option<&World<T>>) -> World<T> {
        let admin = Passwords {
            plain: config.admin.password.iter().cloned().collect(),
            must_be_certified: config.general.tls_client_ca_certificate.is_some(),
            ..Passwords::default()
        };
        let (demand, pool_ids) = match previous {
            Some(world) => (world.demand.clone(), world.pool_ids.clone()),
            None => Default::default(),
        };
        let mut world = World {
            epoch: previous.map_or(1, |world| world.epoch + 1),
            config: config.clone(),
            clusters: BTreeMap::new(),
            users: BTreeMap::new(),
            wildcard_users: BTreeMap::new(),
            admin: admin.or(previous.map(|world| &world.admin)),
            pools: Vec::new(),
            quotas: pool_ids.quotas.clone(),
            lookups: Mutex::default(),
            demand,
            listeners: previous.map(|world| world.listeners.clone()).unwrap_or_default(),
            private: previous.map(|world| world.private.clone()).unwrap_or_default(),
            pool_ids,
        };
        world.quotas.limit(server_limits(&config));
        let old_pools = previous.map_or(&[][..], |world| &world.pools);
        for user in &config.users {
            let old = previous.and_then(|world| world.users.get(&*user.name));
            let passwords = Passwords::of(user, &config.general).or(old);
            world.users.entry(user.name.as_str().into()).or_insert(passwords);
            // A table that names the database comes before one for all databases: `Config::user` knows.
            let named = config.databases.iter().filter(|database| database.name != WILDCARD);
            for database in named.filter(|at| user.all_databases || user.names(&at.name)) {
                let name = Arc::new(Name::new(&*database.name, &*user.name));
                if !world.clusters.contains_key(&name)
                    && let Some(user) = config.user(&user.name, &database.name)
                {
                    let hosts = config.databases.iter().filter(|host| host.name == database.name).collect();
                    let plan = Plan { config: &config, name: name.clone(), user, hosts };
                    let old = previous.and_then(|world| world.clusters.get(&name));
                    let cluster = Cluster::build(plan, old.map(|old| &**old), old_pools, &world.pool_ids);
                    world.pools.extend(cluster.pools.iter().cloned());
                    world.clusters.insert(name, Arc::new(cluster));
                }
            }
        }
        for user in &config.users {
            if let Some(user) = config.wildcard_user(&user.name) {
                let old = previous.and_then(|world| world.wildcard_users.get(&*user.name));
                let passwords = Passwords::of(user, &config.general).or(old);
                world.wildcard_users.insert(user.name.as_str().into(), passwords);
            }
        }
        world.demand.renew(&config, &world.pool_ids);
        world
    }

    /// What the configuration names.
    pub fn configured(&self, name: &Name) -> Option<&Arc<Cluster<T>>> {
        self.clusters.get(name)
    }

    /// What serves a client of this name: configured, or made on demand before.
    pub fn cluster_of(&self, name: &Name) -> Option<Arc<Cluster<T>>> {
        self.clusters.get(name).cloned().or_else(|| self.demand.find(name))
    }

    /// The same; what the configuration allows to be made is made if it is not there. For a client that has proved who
    /// it is: none else may have pools made.
    pub fn cluster_for(&self, name: &Arc<Name>) -> Result<Option<Arc<Cluster<T>>>, TooMany> {
        match self.clusters.get(name) {
            Some(cluster) => Ok(Some(cluster.clone())),
            None => self.demand.find_or_make(name),
        }
    }

    /// A pool for one login as `name` with this password, to see whether a server takes it. Whoever has it ends it.
    pub fn trial(&self, name: &Arc<Name>, password: &Secret, turn: Turn) -> Option<Arc<Pool<T>>> {
        self.demand.trial(name, password, turn)
    }

    /// The passwords of a user of a database that is one of those for which the wildcard stands.
    pub fn wildcard_passwords_of(&self, name: &Name) -> Option<&Passwords> {
        let passwords = self.wildcard_users.get(&name.user)?;
        (!self.config.wildcard(&name.database).is_empty()).then_some(passwords)
    }

    /// The passwords of a user who is configured for some database.
    pub fn passwords_of(&self, user: &str) -> Option<&Passwords> {
        self.users.get(user)
    }

    /// What is known of users who are looked up on servers.
    pub fn lookups(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pools that clients of this world may use.
    pub fn pools(&self) -> Vec<Arc<Pool<T>>> {
        let mut pools = self.pools.clone();
        self.demand.pools_into(&mut pools);
        pools.extend(self.private().iter().filter_map(Weak::upgrade));
        pools
    }

    /// The same, for what is done so often that it should allocate nothing.
    pub fn for_each_pool(&self, mut f: impl FnMut(&Arc<Pool<T>>)) {
        self.pools.iter().for_each(&mut f);
        let mut others = Vec::new();
        self.demand.pools_into(&mut others);
        others.extend(self.private().iter().filter_map(Weak::upgrade));
        others.iter().for_each(f);
    }

    /// A cluster with one server for one client, who replicates: it counts for all limits over several pools.
    pub fn replication_cluster(
        &self,
        cluster: &Cluster<T>,
        replication: Replication,
        startup: StartupSettings,
    ) -> Option<Cluster<T>> {
        let config = &cluster.pools.first()?.config;
        let config = PoolConfig {
            startup,
            size: 1,
            min_size: 0,
            reserve: Reserve::default(),
            mode: PoolerMode::Session,
            ..config.clone()
        };
        let learnt = cluster.learnt.clone();
        let pool = self.private_pool(config, learnt.clone());
        Some(Cluster {
            name: cluster.name.clone(),
            passwords: Passwords::default(),
            mode: PoolerMode::Session,
            prepared: PreparedStatements::Disabled,
            pools: vec![pool],
            timeouts: Timeouts {
                checkout: cluster.timeouts.checkout,
                query: None,
                client_idle: None,
                client_idle_in_transaction: None,
            },
            client_recovery: ConnectionRecovery::Drop,
            client_limits: cluster.client_limits,
            may_replicate: true,
            replication: Some(replication),
            learnt,
            memory: Mutex::default(),
        })
    }

    /// From now on `who`, a client of this cluster, wants to listen to these channels alone.
    pub fn listen(
        &self,
        cluster: &Cluster<T>,
        who: Listener,
        number: u32,
        channels: Channels,
    ) -> Vec<Need<T>> {
        let Some(pool) = cluster.pools.first() else { return Vec::new() };
        let text = |text: &str| Box::from(text.as_bytes());
        let startup = vec![
            ("application_name".into(), text(APPLICATION_NAME)),
            ("client_encoding".into(), text("UTF8")),
        ];
        let config = PoolConfig {
            startup,
            size: 1,
            min_size: 0,
            reserve: Reserve::default(),
            listens: true,
            ..pool.config.clone()
        };
        let make = || self.private_pool(config.clone(), pool.learnt.clone());
        self.listeners.listen(&config, make, who, number, channels)
    }

    /// Whether there is a pool for the same database on the same server.
    pub fn has_target(&self, of: &PoolConfig) -> bool {
        let mut has = false;
        self.for_each_pool(|pool| {
            let config = &pool.config;
            has |= !config.listens
                && (&config.host, config.port, &config.server_database)
                    == (&of.host, of.port, &of.server_database);
        });
        has
    }

    /// A pool that no cluster has.
    fn private_pool(&self, config: PoolConfig, learnt: Arc<Learnt>) -> Arc<Pool<T>> {
        let pool = self.pool_ids.make(config, learnt, self.config.general.workers.max(1));
        let mut private = self.private();
        private.retain(|pool| pool.strong_count() > 0);
        private.push(Arc::downgrade(&pool));
        pool
    }

    fn private(&self) -> MutexGuard<'_, Vec<Weak<Pool<T>>>> {
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what was made on demand and is of no use any more.
    pub fn tidy(&self, now: Time) {
        self.demand.tidy(now);
    }

    /// Pools of this world that `next`, its successor, does not serve any more. Each is named once.
    pub fn retired(&self, next: &World<T>) -> Vec<Arc<Pool<T>>> {
        let replaced = |pool: &&Arc<Pool<T>>| !next.pools.iter().any(|other| Arc::ptr_eq(pool, other));
        let mut retired: Vec<_> = self.pools.iter().filter(replaced).cloned().collect();
        next.demand.replaced_into(&mut retired);
        retired
    }
}

/// What a cluster is made of.
pub(super) struct Plan<'c> {
    pub config: &'c Config,
    pub name: Arc<Name>,
    pub user: &'c User,
    /// By shard.
    pub hosts: Vec<&'c Database>,
}

impl<T> Cluster<T> {
    /// `old` served the same name before, `pools` are those that may be taken over.
    pub(super) fn build(
        plan: Plan<'_>,
        old: Option<&Cluster<T>>,
        pools: &[Arc<Pool<T>>],
        ids: &PoolIds,
    ) -> Cluster<T> {
        let Plan { config, name, user, hosts } = plan;
        let general = &config.general;
        let workers = general.workers.max(1);
        let learnt = old.map(|old| old.learnt.clone()).unwrap_or_default();
        let pools: Vec<_> = hosts
            .iter()
            .map(|host| {
                let config = pool_config(config, &name, user, host);
                let old = pools.iter().find(|pool| pool.config == config).cloned();
                old.unwrap_or_else(|| ids.make(config, learnt.clone(), workers))
            })
            .collect();
        let mode = pools.first().map_or(general.pooler_mode, |pool| pool.config.mode);
        let same_pools = old.is_some_and(|old| {
            old.pools.len() == pools.len() && old.pools.iter().zip(&pools).all(|(a, b)| Arc::ptr_eq(a, b))
        });
        // What servers said stays true as long as they are the same servers.
        let memory = old.filter(|_| same_pools).map(|old| {
            let memory = old.memory();
            Memory { base: memory.base.clone(), known: memory.known.clone() }
        });
        let client_limits = client_limits(config, &name);
        Cluster {
            name,
            passwords: Passwords::of(user, general).or(old.map(|old| &old.passwords)),
            mode,
            prepared: match mode {
                PoolerMode::Session => PreparedStatements::Disabled,
                _ => general.prepared_statements,
            },
            pools,
            timeouts: Timeouts {
                checkout: general.checkout_timeout,
                query: general.query_timeout,
                client_idle: general.client_idle_timeout,
                client_idle_in_transaction: general.client_idle_in_transaction_timeout,
            },
            client_recovery: general.client_connection_recovery,
            client_limits,
            may_replicate: user.replication_mode,
            replication: None,
            learnt,
            memory: Mutex::new(memory.unwrap_or_default()),
        }
    }
}

/// The limits over several pools. Of several tables of one name the first that has a value counts.
fn server_limits(config: &Config) -> ServerLimits {
    let mut own = BTreeMap::new();
    for user in &config.users {
        if let Some(limit) = user.max_user_connections {
            own.entry(Group::User(user.name.as_str().into())).or_insert(limit.get());
        }
    }
    for database in &config.databases {
        if let Some(limit) = database.max_db_connections {
            own.entry(Group::Database(database.name.as_str().into())).or_insert(limit.get());
        }
    }
    let general = &config.general;
    // What the wildcard has is for each database that is not configured.
    let wild = config.database(WILDCARD).and_then(|database| database.max_db_connections);
    for database in &config.databases {
        own.entry(Group::Database(database.name.as_str().into())).or_insert(general.max_db_connections.get());
    }
    ServerLimits {
        own,
        user: general.max_user_connections.get(),
        database: wild.unwrap_or(general.max_db_connections).get(),
    }
}

fn client_limits(config: &Config, name: &Name) -> ClientLimits {
    let general = &config.general;
    let mut users = config.users.iter().filter(|user| *user.name == *name.user);
    let meant = if config.wildcard(&name.database).is_empty() { &name.database } else { WILDCARD };
    let mut databases = config.databases.iter().filter(|database| *database.name == *meant);
    let user = users.find_map(|user| user.max_user_client_connections);
    let database = databases.find_map(|database| database.max_db_client_connections);
    ClientLimits {
        process: general.max_client_conn.get(),
        user: user.unwrap_or(general.max_user_client_connections).get(),
        database: database.unwrap_or(general.max_db_client_connections).get(),
    }
}

pub(super) fn pool_config(config: &Config, name: &Name, user: &User, host: &Database) -> PoolConfig {
    let general = &config.general;
    let effective = config.effective(user, host);
    let mut server_settings: Vec<(Box<str>, Box<str>)> = Vec::new();
    let mut set = |name: &str, value: String| server_settings.push((name.into(), value.into()));
    effective
        .statement_timeout
        .iter()
        .for_each(|limit| set("statement_timeout", limit.as_millis().to_string()));
    effective.lock_timeout.iter().for_each(|limit| set("lock_timeout", limit.as_millis().to_string()));
    if let Some(read_only) = effective.read_only {
        set("default_transaction_read_only", if read_only { "on".into() } else { "off".into() });
    }
    PoolConfig {
        name: name.clone(),
        host: host.host.as_str().into(),
        port: host.port,
        shard: host.shard,
        role: host.role,
        server_database: effective.server_database.as_str().into(),
        server_user: effective.server_user.as_str().into(),
        learns: effective.server_password.is_none() && *effective.server_user == user.name,
        server_password: effective.server_password,
        server_settings,
        startup: StartupSettings::new(),
        listens: false,
        size: effective.pool_size.max(1),
        min_size: effective.min_pool_size.min(effective.pool_size.max(1)),
        reserve: Reserve { size: effective.reserve_pool_size, after: general.reserve_pool_timeout },
        mode: effective.pooler_mode,
        idle_timeout: effective.idle_timeout,
        lifetime: effective.server_lifetime,
        lifetime_jitter: effective.server_lifetime_jitter,
        connect_timeout: general.connect_timeout,
        connect_attempts: general.connect_attempts.max(1),
        connect_attempt_delay: general.connect_attempt_delay,
        rollback_timeout: general.rollback_timeout,
        recovery: general.connection_recovery,
        tls: general.tls_verify,
        prepared_limit: general.prepared_statements_limit.max(1),
        prepared_ttl: general.prepared_statements_ttl,
        prepared_ttl_jitter: general.prepared_statements_ttl_jitter,
        taint: general.session_taint,
    }
}
