//! Which value counts: the user's before the database's before the general one.
//!
//! Within a user or a database the value for the role (`pool_size_primary`) comes before the one for any role.

use std::time::Duration;

use super::Config;
use super::choices::{PoolerMode, PreparedStatements, Role};
use super::general::General;
use super::lists::{Database, User};
use super::secret::Secret;

/// The settings of one pool: one user on one host of one database.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    pub pool_size: usize,
    /// Never above `pool_size`.
    pub min_pool_size: usize,
    pub reserve_pool_size: usize,
    pub pooler_mode: PoolerMode,
    pub prepared_statements: PreparedStatements,
    pub idle_timeout: Duration,
    pub server_lifetime: Duration,
    pub server_lifetime_jitter: Duration,
    /// To be set on the server; `None` leaves the server's own value.
    pub statement_timeout: Option<Duration>,
    /// To be set on the server; `None` leaves the server's own value.
    pub lock_timeout: Option<Duration>,
    /// To be set on the server; `None` leaves the server's own value.
    pub read_only: Option<bool>,
    /// The database's name on the server.
    pub server_database: String,
    pub server_user: String,
    pub server_password: Option<Secret>,
}

impl Effective {
    /// Resolves every setting of a pool.
    pub fn new(general: &General, user: &User, database: &Database, role: Role) -> Effective {
        let scope = Scope { general, user, database, role };
        Effective {
            pool_size: scope.pool_size(),
            min_pool_size: scope.min_pool_size(),
            reserve_pool_size: user
                .reserve_pool_size
                .or(database.reserve_pool_size)
                .unwrap_or(general.reserve_pool_size),
            pooler_mode: scope.pooler_mode(),
            prepared_statements: scope.prepared_statements(),
            idle_timeout: scope.idle_timeout(),
            server_lifetime: user
                .server_lifetime
                .or(database.server_lifetime)
                .unwrap_or(general.server_lifetime),
            server_lifetime_jitter: user
                .server_lifetime_jitter
                .or(database.server_lifetime_jitter)
                .unwrap_or(general.server_lifetime_jitter),
            statement_timeout: user.statement_timeout.or(database.statement_timeout),
            lock_timeout: user.lock_timeout.or(database.lock_timeout),
            read_only: user.read_only.or(database.read_only),
            server_database: database.database_name.as_ref().unwrap_or(&database.name).clone(),
            server_user: scope.server_user().to_owned(),
            server_password: scope.server_password().cloned(),
        }
    }
}

/// What is asked for a user unless something else is configured: a role whose password has expired has none.
const AUTH_QUERY: &str = "SELECT usename, CASE WHEN valuntil < pg_catalog.now() THEN NULL ELSE passwd END \
                          FROM pg_catalog.pg_shadow WHERE usename = $1";

/// How users are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup<'c> {
    /// Whose connections are used, and in which database.
    pub user: &'c str,
    pub database: &'c str,
    pub query: &'c str,
}

/// Everything that has a say.
struct Scope<'c> {
    general: &'c General,
    user: &'c User,
    database: &'c Database,
    role: Role,
}

impl<'c> Scope<'c> {
    /// The value for this role. A server whose role is still to be found out counts as the primary.
    fn for_role<T>(&self, primary: Option<T>, replica: Option<T>) -> Option<T> {
        match self.role {
            Role::Primary | Role::Auto => primary,
            Role::Replica => replica,
        }
    }

    fn pool_size(&self) -> usize {
        let (user, database) = (self.user, self.database);
        self.for_role(user.pool_size_primary, user.pool_size_replica)
            .or(user.pool_size)
            .or(self.for_role(database.pool_size_primary, database.pool_size_replica))
            .or(database.pool_size)
            .unwrap_or(self.general.default_pool_size)
    }

    fn min_pool_size(&self) -> usize {
        let (user, database) = (self.user, self.database);
        self.for_role(user.min_pool_size_primary, user.min_pool_size_replica)
            .or(user.min_pool_size)
            .or(self.for_role(database.min_pool_size_primary, database.min_pool_size_replica))
            .or(database.min_pool_size)
            .unwrap_or(self.general.min_pool_size)
            .min(self.pool_size())
    }

    fn idle_timeout(&self) -> Duration {
        let (user, database) = (self.user, self.database);
        self.for_role(user.idle_timeout_primary, user.idle_timeout_replica)
            .or(user.idle_timeout)
            .or(self.for_role(database.idle_timeout_primary, database.idle_timeout_replica))
            .or(database.idle_timeout)
            .unwrap_or(self.general.idle_timeout)
    }

    fn pooler_mode(&self) -> PoolerMode {
        self.user.pooler_mode.or(self.database.pooler_mode).unwrap_or(self.general.pooler_mode)
    }

    /// A client that keeps its server needs no help with prepared statements.
    fn prepared_statements(&self) -> PreparedStatements {
        match self.pooler_mode() {
            PoolerMode::Session => PreparedStatements::Disabled,
            PoolerMode::Transaction | PoolerMode::Statement => self.general.prepared_statements,
        }
    }

    fn server_user(&self) -> &'c str {
        self.user.server_user.as_ref().or(self.database.user.as_ref()).unwrap_or(&self.user.name)
    }

    fn server_password(&self) -> Option<&'c Secret> {
        self.user
            .server_password
            .as_ref()
            .or(self.database.password.as_ref())
            .or_else(|| self.user.client_passwords().next())
    }
}

impl User {
    /// The passwords that a client may use, the first of `password` and `passwords` first.
    pub fn client_passwords(&self) -> impl Iterator<Item = &Secret> {
        self.password.iter().chain(&self.passwords)
    }

    /// True if the user names the database itself.
    pub fn names(&self, database: &str) -> bool {
        self.database.as_deref() == Some(database) || self.databases.iter().any(|name| name == database)
    }
}

/// The name of a database that stands for all that are not configured.
pub const WILDCARD: &str = "*";

impl Config {
    /// The hosts of a database that is not configured, if there is one for all such; they have its name.
    pub fn wildcard(&self, name: &str) -> Vec<Database> {
        if self.databases.iter().any(|database| database.name == name && name != WILDCARD) {
            return Vec::new();
        }
        let all = self.databases.iter().filter(|database| database.name == WILDCARD);
        all.map(|database| Database {
            name: name.to_owned(),
            database_name: Some(database.database_name.clone().unwrap_or_else(|| name.to_owned())),
            ..database.clone()
        })
        .collect()
    }

    /// The user of databases that are not configured: one that names the wildcard, or with `all_databases`.
    pub fn wildcard_user(&self, name: &str) -> Option<&User> {
        self.database(WILDCARD)?;
        self.user(name, WILDCARD)
    }

    /// The first host of a database that clients may use.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.name == name && !database.resharding_only)
    }

    /// The user of a database: the one that names it, otherwise one with `all_databases`. Looks at every user.
    pub fn user(&self, name: &str, database: &str) -> Option<&User> {
        let mut named = self.users.iter().filter(|user| user.name == name);
        named.clone().find(|user| user.names(database)).or_else(|| named.find(|user| user.all_databases))
    }

    /// How users of a database are looked up that users.toml does not have; none if they are not.
    pub fn lookup(&self, database: &str) -> Option<Lookup<'_>> {
        let general = &self.general;
        let host = self.database(database).or_else(|| self.database(WILDCARD))?;
        // The database of somebody who has proved nothing must not be made for that.
        if host.name == WILDCARD && host.auth_dbname.is_none() && general.auth_dbname.is_none() {
            return None;
        }
        Some(Lookup {
            user: host.auth_user.as_deref().or(general.auth_user.as_deref())?,
            database: host.auth_dbname.as_deref().or(general.auth_dbname.as_deref()).unwrap_or(&host.name),
            query: host.auth_query.as_deref().or(general.auth_query.as_deref()).unwrap_or(AUTH_QUERY),
        })
    }

    /// A user whom users.toml does not have, as one of a database where servers say who exists.
    pub fn found_user(&self, name: &str, database: &str) -> Option<User> {
        if !self.general.passthrough_auth.is_enabled() {
            self.lookup(database)?;
        }
        // Nobody would ever end a pool that keeps servers open for a user who came once.
        let min_pool_size = Some(0);
        let (name, database) = (name.to_owned(), Some(database.to_owned()));
        Some(User { name, database, min_pool_size, ..User::default() })
    }

    /// The database over which a user replicates a whole server: the one that it names if there is one of that name, else the
    /// user's first with `replication_mode`.
    pub fn replication_database(&self, user: &str, named: &str) -> Option<&str> {
        if self.database(named).is_some() {
            return None;
        }
        let user = self.users.iter().find(|of| of.name == user && of.replication_mode)?;
        let all = self.databases.iter().filter(|_| user.all_databases).map(|database| &database.name);
        user.database.iter().chain(&user.databases).chain(all).next().map(String::as_str)
    }

    /// The settings of a user's pool on one host of a database.
    pub fn effective(&self, user: &User, database: &Database) -> Effective {
        Effective::new(&self.general, user, database, database.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> (General, User, Database) {
        let user = User { name: "u".to_owned(), database: Some("d".to_owned()), ..User::default() };
        let database = Database { name: "d".to_owned(), host: "h".to_owned(), ..Database::default() };
        (General::default(), user, database)
    }

    #[test]
    fn defaults() {
        let (general, user, database) = base();
        let effective = Effective::new(&general, &user, &database, Role::Primary);
        assert_eq!((effective.pool_size, effective.min_pool_size), (10, 1));
        assert_eq!(effective.idle_timeout, Duration::from_secs(60));
        assert_eq!(effective.server_lifetime, Duration::from_secs(86_400));
        assert_eq!((effective.server_user.as_str(), effective.server_database.as_str()), ("u", "d"));
        assert_eq!((effective.server_password, effective.read_only), (None, None));
    }

    #[test]
    fn user_before_database_before_general() {
        let (mut general, mut user, mut database) = base();
        let size = |general: &General, user: &User, database: &Database, role| {
            Effective::new(general, user, database, role).pool_size
        };
        general.default_pool_size = 20;
        assert_eq!(size(&general, &user, &database, Role::Primary), 20);
        database.pool_size = Some(30);
        assert_eq!(size(&general, &user, &database, Role::Primary), 30);
        database.pool_size_primary = Some(31);
        assert_eq!(size(&general, &user, &database, Role::Primary), 31);
        assert_eq!(size(&general, &user, &database, Role::Auto), 31);
        assert_eq!(size(&general, &user, &database, Role::Replica), 30);
        user.pool_size = Some(40);
        assert_eq!(size(&general, &user, &database, Role::Primary), 40);
        user.pool_size_replica = Some(42);
        assert_eq!(size(&general, &user, &database, Role::Primary), 40);
        assert_eq!(size(&general, &user, &database, Role::Replica), 42);
    }

    #[test]
    fn every_setting_by_user_and_database() {
        let (general, mut user, mut database) = base();
        let ms = |millis| Some(Duration::from_millis(millis));
        database.min_pool_size = Some(2);
        database.reserve_pool_size = Some(8);
        database.pooler_mode = Some(PoolerMode::Session);
        database.idle_timeout = ms(3);
        database.server_lifetime = ms(4);
        database.server_lifetime_jitter = ms(5);
        database.statement_timeout = ms(6);
        database.lock_timeout = ms(7);
        database.read_only = Some(true);
        database.database_name = Some("real".to_owned());
        let of_database = Effective::new(&general, &user, &database, Role::Primary);
        assert_eq!((of_database.min_pool_size, of_database.reserve_pool_size), (2, 8));
        assert_eq!(of_database.pooler_mode, PoolerMode::Session);
        assert_eq!(of_database.prepared_statements, PreparedStatements::Disabled);
        assert_eq!(Some(of_database.idle_timeout), ms(3));
        assert_eq!(Some(of_database.server_lifetime), ms(4));
        assert_eq!(Some(of_database.server_lifetime_jitter), ms(5));
        assert_eq!(of_database.statement_timeout, ms(6));
        assert_eq!(of_database.lock_timeout, ms(7));
        assert_eq!(of_database.read_only, Some(true));
        assert_eq!(of_database.server_database, "real");
        user.min_pool_size = Some(12);
        user.reserve_pool_size = Some(18);
        user.pooler_mode = Some(PoolerMode::Statement);
        user.idle_timeout = ms(13);
        user.server_lifetime = ms(14);
        user.server_lifetime_jitter = ms(15);
        user.statement_timeout = ms(16);
        user.lock_timeout = ms(17);
        user.read_only = Some(false);
        let of_user = Effective::new(&general, &user, &database, Role::Primary);
        assert_eq!(of_user.min_pool_size, 10, "never above pool_size");
        assert_eq!(of_user.reserve_pool_size, 18);
        assert_eq!(of_user.pooler_mode, PoolerMode::Statement);
        assert_eq!(of_user.prepared_statements, PreparedStatements::Extended);
        assert_eq!(Some(of_user.idle_timeout), ms(13));
        assert_eq!(Some(of_user.server_lifetime), ms(14));
        assert_eq!(Some(of_user.server_lifetime_jitter), ms(15));
        assert_eq!(of_user.statement_timeout, ms(16));
        assert_eq!(of_user.lock_timeout, ms(17));
        assert_eq!(of_user.read_only, Some(false));
    }

    #[test]
    fn server_login() {
        let (general, mut user, mut database) = base();
        let login = |user: &User, database: &Database| {
            let effective = Effective::new(&general, user, database, Role::Primary);
            (effective.server_user, effective.server_password.map(|password| password.expose().to_owned()))
        };
        let pair = |user: &str, password: &str| (user.to_owned(), Some(password.to_owned()));
        user.passwords = vec![Secret::new("p2"), Secret::new("p3")];
        assert_eq!(login(&user, &database), pair("u", "p2"));
        user.password = Some(Secret::new("p1"));
        assert_eq!(login(&user, &database), pair("u", "p1"));
        database.user = Some("du".to_owned());
        database.password = Some(Secret::new("dp"));
        assert_eq!(login(&user, &database), pair("du", "dp"));
        user.server_user = Some("su".to_owned());
        user.server_password = Some(Secret::new("sp"));
        assert_eq!(login(&user, &database), pair("su", "sp"));
    }

    #[test]
    fn the_wildcard_stands_for_what_is_not_configured() {
        let database = |name: &str, real: Option<&str>| Database {
            name: name.to_owned(),
            host: "h".to_owned(),
            database_name: real.map(str::to_owned),
            ..Database::default()
        };
        let user = |name: &str, database: Option<&str>, all_databases| User {
            name: name.to_owned(),
            database: database.map(str::to_owned),
            all_databases,
            ..User::default()
        };
        let mut config = Config {
            databases: vec![database("d", None), database("*", None)],
            users: vec![
                user("one", Some("d"), false),
                user("wild", Some("*"), false),
                user("all", None, true),
            ],
            ..Config::default()
        };
        let hosts = |config: &Config, name: &str| -> Vec<(String, Option<String>)> {
            config.wildcard(name).into_iter().map(|host| (host.name, host.database_name)).collect()
        };
        assert_eq!(hosts(&config, "d"), []);
        assert_eq!(hosts(&config, "x"), [("x".to_owned(), Some("x".to_owned()))]);
        assert_eq!(hosts(&config, "*"), [("*".to_owned(), Some("*".to_owned()))], "a name like others");
        let may = |config: &Config, name: &str| config.wildcard_user(name).is_some();
        assert!(!may(&config, "one") && may(&config, "wild") && may(&config, "all") && !may(&config, "x"));
        config.databases[1].database_name = Some("real".to_owned());
        assert_eq!(hosts(&config, "x"), [("x".to_owned(), Some("real".to_owned()))]);
        config.databases.pop();
        assert_eq!(hosts(&config, "x"), []);
        assert!(!may(&config, "all"));
    }

    #[test]
    fn users_that_name_the_database_come_first() {
        let user = |databases: &[&str], all_databases, pool_size| User {
            name: "u".to_owned(),
            databases: databases.iter().map(|name| (*name).to_owned()).collect(),
            all_databases,
            pool_size: Some(pool_size),
            ..User::default()
        };
        let config =
            Config { users: vec![user(&[], true, 1), user(&["a", "b"], false, 2)], ..Config::default() };
        let size = |name, database| config.user(name, database).and_then(|user| user.pool_size);
        assert_eq!(size("u", "b"), Some(2));
        assert_eq!(size("u", "z"), Some(1));
        assert_eq!(size("v", "a"), None);
    }
}
