//! `[general]` of pgdog.toml.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::choices::*;
use super::section::section;
use super::value::{FileMode, Limit};
use crate::base::address::Network;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

section! {
    /// Settings of the process, and what databases and users do not set for themselves.
    /// Each can also come from the environment variable PGDOG_ and its name in capitals; the file wins.
    pub struct General {
        "Listening" {
            /// Address that clients connect to; 0.0.0.0 is every IPv4 address of the machine.
            host: String = "0.0.0.0".to_owned();
            /// Port that clients connect to.
            port: u16 = 6432;
            /// Directory in which clients find a Unix socket too, named .s.PGSQL. and the port; with @ ahead, a name in the
            /// abstract namespace (Linux). Unset is none.
            unix_socket_dir: Option<String> = None;
            /// Permissions of the Unix socket, octal.
            unix_socket_mode: FileMode = FileMode(0o777);
            /// Addresses of load balancers, such as ["10.0.0.0/8", "unix"]: from these a connection has to begin with a header
            /// of the PROXY protocol, version 2, which says where the client comes from.
            proxy_protocol_from: Vec<Network> = Vec::new();
            /// Threads that carry clients; 0 counts as 1.
            workers: usize = 2;
        }
        "Pools" {
            /// Most server connections of one pool: one user, one database, one host. Never exceeded, whatever the number of workers.
            default_pool_size ("max_pool_size"): usize = 10;
            /// Server connections of one pool that are kept open when nobody needs them.
            min_pool_size: usize = 1;
            /// Server connections that a pool may have beyond its size, for clients that have waited for reserve_pool_timeout.
            reserve_pool_size: usize = 0;
            /// How long a client waits before the reserve is opened for it; looked at three times a second.
            reserve_pool_timeout: Duration = ms(5_000);
            /// Most server connections of one database, over all its pools; 0 is no limit.
            max_db_connections: Limit = Limit::NONE;
            /// Most server connections of one user, over all its pools; 0 is no limit.
            max_user_connections: Limit = Limit::NONE;
            /// When a server goes back to its pool: after each transaction, session or statement.
            pooler_mode: PoolerMode = PoolerMode::Transaction;
            /// How long a client waits for a server before it gets an error.
            checkout_timeout: Duration = ms(5_000);
            /// A server that was idle this long is closed, down to min_pool_size.
            idle_timeout: Duration = ms(60_000);
            /// A server that has lived this long is closed when it becomes free.
            server_lifetime: Duration = ms(86_400_000);
            /// Lifetimes are spread by up to this much, so that connections do not all end together.
            server_lifetime_jitter: Duration = ms(0);
            /// How long the ROLLBACK of an abandoned transaction may take before its server is closed.
            rollback_timeout: Duration = ms(5_000);
            /// Most pairs of a database and a user that have pools without being named in the configuration.
            dynamic_pools_max: usize = 1_000;
            /// Such a pool is removed when it had no clients and no servers for this long.
            dynamic_pool_timeout: Duration = ms(300_000);
            /// What to do with a server whose client left in the middle of a statement or transaction.
            connection_recovery: ConnectionRecovery = ConnectionRecovery::Recover;
            /// What to do with a client whose server broke: keep it, or close it too.
            client_connection_recovery: ConnectionRecovery = ConnectionRecovery::Drop;
        }
        "Connecting to servers" {
            /// How long one attempt to connect and log in to a server may take.
            connect_timeout: Duration = ms(5_000);
            /// Attempts before the client gets an error.
            connect_attempts: u64 = 1;
            /// Pause between two attempts.
            connect_attempt_delay: Duration = ms(0);
            /// How long a resolved address is used; unset leaves that to the resolver.
            dns_ttl: Option<Duration> = None;
        }
        "Clients" {
            /// Append the client's address to its application_name.
            application_name_add_host: bool = false;
            /// Most clients, the console's aside: who comes beyond that gets SQLSTATE 53300. 0 is no limit.
            max_client_conn: Limit = Limit::NONE;
            /// Most clients of one database; 0 is no limit.
            max_db_client_connections: Limit = Limit::NONE;
            /// Most clients of one user; 0 is no limit.
            max_user_client_connections: Limit = Limit::NONE;
            /// How long a client may take to log in.
            client_login_timeout: Duration = ms(60_000);
            /// A client that sends nothing for this long outside a transaction is disconnected; unset is no limit.
            client_idle_timeout: Option<Duration> = None;
            /// The same inside a transaction.
            client_idle_in_transaction_timeout: Option<Duration> = None;
            /// How long a statement may run before its server is closed and the client gets an error; unset is no limit.
            query_timeout: Option<Duration> = None;
            /// Length in bytes of a Query or Parse message above which it is reported or refused; unset is no limit.
            query_size_limit: Option<u64> = None;
            /// Report a statement above query_size_limit, or refuse it with SQLSTATE 54000.
            query_size_limit_action: QuerySizeLimitAction = QuerySizeLimitAction::Warn;
        }
        "Authentication" {
            /// How clients prove their password. trust asks for none and plain sends it readable.
            auth_type: AuthType = AuthType::Scram;
            /// User of users.toml whose connections look users up that users.toml does not have; unset looks nobody up.
            auth_user: Option<String> = None;
            /// What is asked: a name and a password or verifier for the user $1. If unset, the server's own passwords are read.
            auth_query: Option<String> = None;
            /// Database in which that is asked; the client's unless set.
            auth_dbname: Option<String> = None;
            /// How long a user who was found is not looked up again, and a password that was right not tried again; 0 does so
            /// at each login.
            auth_query_ttl: Duration = ms(30_000);
            /// The same for one who was not found.
            auth_query_negative_ttl: Duration = ms(5_000);
            /// Try the passwords of users for whom users.toml has none on the server. They are taken with TLS only, but for
            /// the plain forms; a password other than the last one that was right is tried only by the allow_change forms.
            passthrough_auth: PassthroughAuth = PassthroughAuth::Disabled;
        }
        "TLS" {
            /// Certificate that clients see, in PEM; the authorities between it and the root behind it.
            tls_certificate: Option<PathBuf> = None;
            /// Its private key, in PEM.
            tls_private_key: Option<PathBuf> = None;
            /// Refuse clients that do not use TLS.
            tls_client_required: bool = false;
            /// Authorities whose certificates clients have to show, in PEM (see tls_client_certificate_required in users.toml).
            tls_client_ca_certificate: Option<PathBuf> = None;
            /// Whether servers have to use TLS, and how far their certificates are checked.
            tls_verify: TlsVerify = TlsVerify::Prefer;
            /// Authorities that servers' certificates have to come from, in PEM; if unset, those that the system trusts.
            tls_server_ca_certificate: Option<PathBuf> = None;
            /// Certificate that is shown to servers, in PEM.
            tls_server_certificate: Option<PathBuf> = None;
            /// Its private key, in PEM.
            tls_server_private_key: Option<PathBuf> = None;
        }
        "Prepared statements" {
            /// Which prepared statements work while servers are shared. In session mode they need no help.
            prepared_statements: PreparedStatements = PreparedStatements::Extended;
            /// Most statements that a server keeps, and that are remembered for clients that have gone.
            prepared_statements_limit: usize = 5_000;
            /// A server forgets a statement that was not used for this long; unset keeps it.
            prepared_statements_ttl: Option<Duration> = None;
            /// Spreads prepared_statements_ttl by up to this much.
            prepared_statements_ttl_jitter: Duration = ms(30_000);
        }
        "Parsing" {
            /// How much of the statements is parsed; auto is as much as routing needs.
            query_parser: QueryParser = QueryParser::Auto;
            /// Older form of query_parser = "on".
            query_parser_enabled: bool = false;
            /// Kept for older files: there is one parser.
            query_parser_engine: QueryParserEngine = QueryParserEngine::PgQueryProtobuf;
            /// Characters of a statement that are looked at before deciding whether to parse it.
            regex_parser_limit: usize = 1_000;
            /// Parsed statements that are remembered.
            query_cache_limit: usize = 1_000;
        }
        "Health" {
            /// A server that was not checked for this long is checked before a client gets it.
            healthcheck_interval: Duration = ms(30_000);
            /// How often unused pools are checked; 0 never.
            idle_healthcheck_interval: Duration = ms(30_000);
            /// How long after the start these checks begin.
            idle_healthcheck_delay: Duration = ms(5_000);
            /// How long a check may take.
            healthcheck_timeout: Duration = ms(5_000);
            /// Port of an HTTP endpoint that tells a load balancer whether this process works.
            healthcheck_port: Option<u16> = None;
            /// New hosts get clients only after their first successful check.
            require_healthcheck_on_discovery: bool = false;
            /// How long a failed host is left alone.
            ban_timeout: Duration = ms(300_000);
            /// Replicas that are behind by more time than this are left alone; unset is no limit.
            ban_replica_lag: Option<Duration> = None;
            /// Replicas that are behind by more bytes than this are left alone; unset is no limit.
            ban_replica_lag_bytes: Option<i64> = None;
        }
        "Load balancing" {
            /// How one of several replicas is chosen.
            load_balancing_strategy: LoadBalancingStrategy = LoadBalancingStrategy::Random;
            /// Explicit transactions go to the primary, or where their first statement could go.
            read_write_strategy: ReadWriteStrategy = ReadWriteStrategy::Conservative;
            /// Whether the primary answers reads too.
            read_write_split: ReadWriteSplit = ReadWriteSplit::IncludePrimary;
            /// How often hosts are asked for their position in the write-ahead log.
            lsn_check_interval: Duration = ms(5_000);
            /// How long the answer may take.
            lsn_check_timeout: Duration = ms(5_000);
            /// How long after the start the asking begins; unset never. Needed for role = "auto" and limits of lag.
            lsn_check_delay: Option<Duration> = None;
        }
        "Shutdown" {
            /// How long clients may finish their transactions when the process stops.
            shutdown_timeout: Duration = ms(60_000);
            /// After that: cancel what runs and wait this long; unset closes at once.
            shutdown_termination_timeout: Option<Duration> = None;
        }
        "Logging" {
            /// Least severe messages that are logged: off, error, warn, info, debug or trace. Its variable is RUST_LOG.
            log_level: String = "info".to_owned();
            /// The log's form.
            log_format: LogFormat = LogFormat::Text;
            /// Log each client that connects.
            log_connections: bool = true;
            /// Log each client that leaves.
            log_disconnections: bool = true;
            /// Time in which equal lines are counted instead of repeated; 0 repeats them.
            log_dedup_window: Duration = ms(0);
            /// Equal lines that are written before counting begins.
            log_dedup_threshold: usize = 0;
            /// File for all statements.
            query_log: Option<PathBuf> = None;
            /// Log all statements.
            query_log_stdout: bool = false;
            /// Log statements that took longer than this to parse.
            log_min_duration_parse: Option<Duration> = None;
            /// Characters of a statement that are logged.
            log_query_sample_length: usize = 1_000;
        }
        "Statistics" {
            /// Time over which averages are taken.
            stats_period: Duration = ms(15_000);
            /// Address of the OpenMetrics endpoint.
            openmetrics_host: String = "0.0.0.0".to_owned();
            /// Its port; unset is no endpoint.
            openmetrics_port: Option<u16> = None;
            /// Prefix of the metrics' names.
            openmetrics_namespace: Option<String> = None;
        }
        "Other processes" {
            /// Multicast address on which processes of this kind find each other.
            broadcast_address: Option<Ipv4Addr> = None;
            /// Its port; unset is the one above port.
            broadcast_port: Option<u16> = None;
        }
        "Mirroring" {
            /// Transactions of a client that may wait for the mirror.
            mirror_queue: usize = 128;
            /// Share of transactions that are mirrored, from 0.0 to 1.0.
            mirror_exposure: f32 = 1.0;
        }
        "LISTEN and NOTIFY" {
            /// Notifications that may wait for a slow client; 0: a client that listens keeps its server.
            pub_sub_channel_size: usize = 0;
        }
        "Sharding" {
            /// Refuse statements that need more than one shard.
            cross_shard_disabled: bool = false;
            /// Route and count, but run nothing on more than one shard.
            dry_run: bool = false;
            /// Add the route to the answer of EXPLAIN.
            expanded_explain: bool = false;
            /// Which shards answer questions about the system catalogs.
            system_catalogs: SystemCatalogs = SystemCatalogs::OmnishardedSticky;
            /// Tables that every shard holds are read from the same shard during a client's session.
            omnisharded_sticky: bool = false;
            /// When the schema is read from the shards; auto is with several shards or multi_tenant.
            load_schema: LoadSchema = LoadSchema::Auto;
            /// Read the schema again after DDL that came through this process. Its variable is PGDOG_SCHEMA_RELOAD_ON_DDL.
            reload_schema_on_ddl: bool = true;
            /// Show clients the same type OIDs whichever shard answers.
            canonicalize_type_information: bool = false;
            /// Bytes for remembered answers of lookup queries.
            sharding_lookup_cache_size: u64 = 67_108_864;
            /// How long a lookup query may take.
            sharding_lookup_timeout: Duration = ms(5_000);
            /// Added to each generated id.
            unique_id_min: u64 = 0;
            /// Form of generated ids: 63 bits, or the 53 that JavaScript can hold.
            unique_id_function: UniqueIdFunction = UniqueIdFunction::Standard;
        }
        "Two-phase commit" {
            /// Commit on several shards in two phases.
            two_phase_commit: bool = false;
            /// Also for a single statement that writes to several shards.
            two_phase_commit_auto: Option<bool> = None;
            /// Directory in which decisions are kept.
            two_phase_commit_wal_dir: Option<PathBuf> = None;
            /// Bytes after which a new file begins there.
            two_phase_commit_wal_segment_size: u64 = 16_777_216;
            /// Decisions are collected for this long before one fsync.
            two_phase_commit_wal_fsync_interval: Duration = ms(0);
            /// How often finished decisions are cleared away.
            two_phase_commit_wal_checkpoint_interval: Duration = ms(15_000);
        }
        "Resharding" {
            /// COPY format between shards.
            resharding_copy_format: CopyFormat = CopyFormat::Binary;
            /// Tables that are copied at once from each replica.
            resharding_parallel_copies: usize = 1;
            /// How often the copy of a table is tried again.
            resharding_copy_retry_max_attempts: usize = 5;
            /// First pause before trying again; doubled each time, up to 32 times this.
            resharding_copy_retry_min_delay: Duration = ms(1_000);
            /// How often a broken replication stream is started again; 0 without end.
            resharding_replication_retry_max_attempts: usize = 5;
            /// First pause before that.
            resharding_replication_retry_min_delay: Duration = ms(1_000);
            /// Bytes of lag from which clients are held for the cutover.
            cutover_traffic_stop_threshold: u64 = 1_000_000;
            /// Bytes of lag at which the cutover happens.
            cutover_replication_lag_threshold: u64 = 0;
            /// It also happens when no transaction came for this long.
            cutover_last_transaction_delay: Duration = ms(1_000);
            /// How long clients may be held.
            cutover_timeout: Duration = ms(30_000);
            /// What happens after that.
            cutover_timeout_action: CutoverTimeoutAction = CutoverTimeoutAction::Abort;
            /// Write the new layout to the configuration files, keeping the old ones.
            cutover_save_config: bool = false;
        }
    }
}
