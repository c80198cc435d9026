//! The tables of pgdog.toml that can be there several times, and `[[users]]` of users.toml.

use std::path::PathBuf;
use std::time::Duration;

use super::choices::*;
use super::secret::Secret;
use super::section::{nested_section, section};
use super::value::{Limit, Raw, Read, Setting, Shown};

section! {
    /// A database on one server. Replicas and shards are further tables with the same name.
    pub struct Database {
        "Where it is" {
            /// Name that clients connect to; "*" is every database that is not configured.
            name: String = String::new();
            /// What the server is to its shard.
            role: Role = Role::Primary;
            /// Name or address of the server, or the directory of its Unix socket.
            host: String = String::new();
            /// Its port.
            port: u16 = 5432;
            /// Number of the shard that it holds.
            shard: usize = 0;
            /// The database's name on the server; name unless set.
            database_name: Option<String> = None;
        }
        "Login" {
            /// User to log in with, unless the client's user has a server_user; the client's name unless set.
            user: Option<String> = None;
            /// Password for that.
            password: Option<Secret> = None;
            /// User of users.toml who looks users up; general auth_user unless set.
            auth_user: Option<String> = None;
            /// What is asked for them; general auth_query unless set.
            auth_query: Option<String> = None;
            /// Database in which that is asked; general auth_dbname unless set.
            auth_dbname: Option<String> = None;
        }
        "Instead of the general values" {
            /// Most server connections of one pool.
            pool_size ("max_pool_size"): Option<usize> = None;
            /// The same for the primary.
            pool_size_primary: Option<usize> = None;
            /// The same for replicas.
            pool_size_replica: Option<usize> = None;
            /// Server connections that are kept open.
            min_pool_size: Option<usize> = None;
            /// The same for the primary.
            min_pool_size_primary: Option<usize> = None;
            /// The same for replicas.
            min_pool_size_replica: Option<usize> = None;
            /// When a server goes back to its pool.
            pooler_mode: Option<PoolerMode> = None;
            /// Server connections beyond the size of a pool, for clients that have waited too long.
            reserve_pool_size: Option<usize> = None;
            /// Most server connections over all pools; 0 is no limit.
            max_db_connections: Option<Limit> = None;
            /// Most clients; 0 is no limit.
            max_db_client_connections: Option<Limit> = None;
            /// How long a server may be idle.
            idle_timeout: Option<Duration> = None;
            /// The same for the primary.
            idle_timeout_primary: Option<Duration> = None;
            /// The same for replicas.
            idle_timeout_replica: Option<Duration> = None;
            /// How long a server may live.
            server_lifetime: Option<Duration> = None;
            /// Spreads that by up to this much.
            server_lifetime_jitter: Option<Duration> = None;
        }
        "Set on the server" {
            /// PostgreSQL's statement_timeout; 0 is none.
            statement_timeout: Option<Duration> = None;
            /// PostgreSQL's lock_timeout; 0 is none.
            lock_timeout: Option<Duration> = None;
            /// PostgreSQL's default_transaction_read_only.
            read_only: Option<bool> = None;
        }
        "Use" {
            /// Only a source or target of resharding; clients do not get here.
            resharding_only: bool = false;
            /// Share of reads under weighted_round_robin.
            lb_weight: u8 = 255;
        }
    }
}

section! {
    /// A user of one or more databases.
    pub struct User {
        "Who" {
            /// Name that clients log in with.
            name: String = String::new();
            /// The database.
            database: Option<String> = None;
            /// Several databases.
            databases: Vec<String> = Vec::new();
            /// Every database, with "*" also those that are not configured; a table that names the database comes first.
            all_databases: bool = false;
        }
        "Login of clients" {
            /// Password of the client, and of the server unless server_password is set.
            password: Option<Secret> = None;
            /// Further passwords that clients may use, while one is being replaced.
            passwords: Vec<Secret> = Vec::new();
            /// SCRAM-SHA-256 verifier or md5 hash, as pg_authid holds it, instead of a readable password. What the client shows
            /// for a verifier serves the login to servers that have the same one.
            password_hash: Option<Secret> = None;
            /// Name in the client's certificate that makes a password unnecessary.
            identity: Option<String> = None;
            /// Whether the client has to show a certificate; if unset, it has to where tls_client_ca_certificate is set.
            tls_client_certificate_required: Option<bool> = None;
            /// Vault's path of a static role that client passwords are compared with.
            vault_path: Option<String> = None;
        }
        "Login to servers" {
            /// User on the server; the database's user or name unless set.
            server_user: Option<String> = None;
            /// Password on the server.
            server_password: Option<Secret> = None;
            /// Where the credentials for the server come from.
            server_auth: ServerAuth = ServerAuth::Password;
            /// Region, with rds_iam.
            server_iam_region: Option<String> = None;
            /// Vault's path of the role, with vault_dynamic and vault_static.
            server_vault_path: Option<String> = None;
            /// Percentage of a credential's life after which it is fetched again, 1 to 80; 80 unless set.
            vault_refresh_percent: Option<u8> = None;
        }
        "Instead of the values of the database" {
            /// Most server connections of one pool.
            pool_size ("max_pool_size"): Option<usize> = None;
            /// The same for the primary.
            pool_size_primary: Option<usize> = None;
            /// The same for replicas.
            pool_size_replica: Option<usize> = None;
            /// Server connections that are kept open.
            min_pool_size: Option<usize> = None;
            /// The same for the primary.
            min_pool_size_primary: Option<usize> = None;
            /// The same for replicas.
            min_pool_size_replica: Option<usize> = None;
            /// When a server goes back to its pool.
            pooler_mode: Option<PoolerMode> = None;
            /// Server connections beyond the size of a pool, for clients that have waited too long.
            reserve_pool_size: Option<usize> = None;
            /// Most server connections over all pools of this user; 0 is no limit.
            max_user_connections: Option<Limit> = None;
            /// Most clients of this user, whatever the database; 0 is no limit.
            max_user_client_connections: Option<Limit> = None;
            /// How long a server may be idle.
            idle_timeout: Option<Duration> = None;
            /// The same for the primary.
            idle_timeout_primary: Option<Duration> = None;
            /// The same for replicas.
            idle_timeout_replica: Option<Duration> = None;
            /// How long a server may live.
            server_lifetime: Option<Duration> = None;
            /// Spreads that by up to this much.
            server_lifetime_jitter: Option<Duration> = None;
            /// Refuse statements that need more than one shard.
            cross_shard_disabled: Option<bool> = None;
            /// Commit on several shards in two phases.
            two_phase_commit: Option<bool> = None;
            /// Also for a single statement that writes to several shards.
            two_phase_commit_auto: Option<bool> = None;
        }
        "Set on the server" {
            /// PostgreSQL's statement_timeout; 0 is none.
            statement_timeout: Option<Duration> = None;
            /// PostgreSQL's lock_timeout; 0 is none.
            lock_timeout: Option<Duration> = None;
            /// PostgreSQL's default_transaction_read_only.
            read_only: Option<bool> = None;
        }
        "Use" {
            /// The user may replicate: its replication connections have servers of their own.
            replication_mode: bool = false;
            /// Kept for older files.
            replication_sharding: Option<String> = None;
            /// The schema is read over this user's connection.
            schema_admin: bool = false;
        }
    }
}

/// A value of a sharding key: a number or a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyValue {
    Number(i64),
    Text(String),
}

impl Setting for KeyValue {
    fn read(raw: Raw<'_>) -> Read<KeyValue> {
        if let Ok(number) = i64::read(raw) {
            return Ok(KeyValue::Number(number));
        }
        raw.string()
            .map(|text| KeyValue::Text(text.to_owned()))
            .or_else(|_| raw.refuse("a number or a string"))
    }

    fn shown(&self) -> Shown {
        match self {
            KeyValue::Number(number) => Shown::Plain(number.to_string()),
            KeyValue::Text(text) => Shown::Text(text.clone()),
        }
    }
}

section! {
    /// Which values of a sharding key belong to a shard; neither values nor bounds is every other value.
    pub struct Mapping {
        "" {
            /// The shard.
            shard: usize = 0;
            /// The values.
            values: Vec<KeyValue> = Vec::new();
            /// The smallest value.
            start: Option<KeyValue> = None;
            /// The first value that is too large.
            end: Option<KeyValue> = None;
        }
    }
}
nested_section!(Mapping);

section! {
    /// A column by which rows are spread over shards.
    pub struct ShardedTable {
        "" {
            /// The database.
            database: String = String::new();
            /// The table; every table with this column unless set.
            name: Option<String> = None;
            /// Its schema; any unless set.
            schema: Option<String> = None;
            /// The column.
            column: String = String::new();
            /// The table that owns the key, where others refer to it.
            primary: bool = false;
            /// Centres of the shards, with vector.
            centroids: Vec<Vec<f32>> = Vec::new();
            /// JSON file with them.
            centroids_path: Option<PathBuf> = None;
            /// Type of the column.
            data_type: DataType = DataType::Bigint;
            /// Centres that a search looks at; 0 is the square root of their number.
            centroid_probes: usize = 0;
            /// Hash function.
            hasher: Hasher = Hasher::Postgres;
            /// Values or ranges instead of a hash: { shard = 0, values = [1, 2] }, { shard = 1, start = 10, end = 20 } or { shard = 2 }.
            mapping: Vec<Mapping> = Vec::new();
            /// Statement with one parameter that finds the key or the shard.
            lookup_query: Option<String> = None;
            /// Which of them it finds.
            lookup_result: LookupResult = LookupResult::Value;
        }
    }
}

section! {
    /// Older form of mapping in sharded_tables.
    pub struct ShardedMapping {
        "" {
            /// The database.
            database: String = String::new();
            /// The column.
            column: String = String::new();
            /// The table.
            table: Option<String> = None;
            /// Its schema.
            schema: Option<String> = None;
            /// Values, a range or everything else.
            kind: MappingKind = MappingKind::List;
            /// The smallest value.
            start: Option<KeyValue> = None;
            /// The first value that is too large.
            end: Option<KeyValue> = None;
            /// The values.
            values: Vec<KeyValue> = Vec::new();
            /// The shard.
            shard: usize = 0;
        }
    }
}

section! {
    /// Tables that every shard holds completely.
    pub struct OmnishardedTables {
        "" {
            /// The database.
            database: String = String::new();
            /// The tables.
            tables: Vec<String> = Vec::new();
            /// Read from the same shard during a client's session.
            sticky: bool = false;
        }
    }
}

section! {
    /// A schema that lives on one shard.
    pub struct ShardedSchema {
        "" {
            /// The database.
            database: String = String::new();
            /// The schema; every other one unless set.
            name: Option<String> = None;
            /// The shard.
            shard: usize = 0;
            /// On every shard.
            all: bool = false;
        }
    }
}

section! {
    /// Statements of one database that are repeated on another.
    pub struct Mirroring {
        "" {
            /// The database.
            source_db: String = String::new();
            /// The other one.
            destination_db: String = String::new();
            /// Transactions of a client that may wait; general's mirror_queue unless set.
            queue_length: Option<usize> = None;
            /// Share that is repeated; general's mirror_exposure unless set.
            exposure: Option<f32> = None;
            /// Which statements.
            level: MirrorLevel = MirrorLevel::All;
        }
    }
}

section! {
    /// A library that takes part in routing.
    pub struct Plugin {
        "" {
            /// Its name or path.
            name: String = String::new();
            /// Its own configuration file.
            config: Option<PathBuf> = None;
        }
    }
}

section! {
    /// How much of the statements for one database is parsed.
    pub struct DatabaseParser {
        "" {
            /// The database.
            database: String = String::new();
            /// Instead of general's query_parser.
            level: QueryParser = QueryParser::Auto;
            /// Kept for older files.
            engine: Option<QueryParserEngine> = None;
        }
    }
}
