//! The values of the enumerated keys.

use super::section::choice;

choice! {
    /// When a server is given back to its pool.
    pub enum PoolerMode {
        /// At the end of each transaction.
        Transaction = "transaction",
        /// When the client disconnects.
        Session = "session",
        /// After each statement; transactions are refused.
        Statement = "statement",
    }
}

choice! {
    /// How a replica is chosen.
    pub enum LoadBalancingStrategy {
        Random = "random",
        RoundRobin = "round_robin",
        LeastActiveConnections = "least_active_connections",
        WeightedRoundRobin = "weighted_round_robin",
    }
}

choice! {
    /// Where explicit transactions go.
    pub enum ReadWriteStrategy {
        /// To the primary.
        Conservative = "conservative",
        /// Where their first statement could go.
        Aggressive = "aggressive",
    }
}

choice! {
    /// Whether the primary takes part in reads.
    pub enum ReadWriteSplit {
        IncludePrimary = "include_primary",
        ExcludePrimary = "exclude_primary",
        IncludePrimaryIfReplicaBanned = "include_primary_if_replica_banned",
        PreferPrimary = "prefer_primary",
    }
}

choice! {
    /// How far a server's certificate is trusted.
    pub enum TlsVerify {
        /// No encryption towards servers.
        Disabled = "disabled",
        /// Encryption if the server offers it, whoever it is.
        Prefer = "prefer",
        /// The certificate must come from a known authority.
        VerifyCa = "verify_ca",
        /// And be made out to the server's name.
        VerifyFull = "verify_full",
    }
}

choice! {
    /// What happens to a statement above `query_size_limit`.
    pub enum QuerySizeLimitAction {
        Warn = "warn",
        Block = "block",
    }
}

choice! {
    /// Which prepared statements work while servers are shared.
    pub enum PreparedStatements {
        Disabled = "disabled",
        /// Named statements of the extended protocol.
        Extended = "extended",
        /// And unnamed ones.
        ExtendedAnonymous = "extended_anonymous",
        /// And PREPARE and EXECUTE as statements.
        Full = "full",
    }
}

choice! {
    /// What becomes of a server on which code has run that nobody has read.
    pub enum SessionTaint {
        /// It is reset before it serves another client.
        Reset = "reset",
        /// It stays with its client until that leaves or resets it itself.
        Pin = "pin",
    }
}

choice! {
    /// How much of each statement is parsed.
    pub enum QueryParser {
        On = "on",
        Auto = "auto",
        Off = "off",
        SessionControl = "session_control",
        SessionControlAndLocks = "session_control_and_locks",
    }
}

choice! {
    /// Names of parsers; there is only one.
    pub enum QueryParserEngine {
        PgQueryProtobuf = "pg_query_protobuf",
        PgQueryRaw = "pg_query_raw",
    }
}

choice! {
    /// Whether a client's password is tried on the server instead of being looked up.
    pub enum PassthroughAuth {
        Disabled = "disabled",
        Enabled = "enabled",
        EnabledPlain = "enabled_plain",
        EnabledAllowChange = "enabled_allow_change",
        EnabledPlainAllowChange = "enabled_plain_allow_change",
    }
}

impl PassthroughAuth {
    pub fn is_enabled(self) -> bool {
        self != PassthroughAuth::Disabled
    }

    /// Passwords are taken over connections that are not encrypted too.
    pub fn is_plain(self) -> bool {
        matches!(self, PassthroughAuth::EnabledPlain | PassthroughAuth::EnabledPlainAllowChange)
    }

    /// Another password than the known one is tried on the server.
    pub fn allows_change(self) -> bool {
        matches!(self, PassthroughAuth::EnabledAllowChange | PassthroughAuth::EnabledPlainAllowChange)
    }
}

choice! {
    /// How clients prove who they are.
    pub enum AuthType {
        Scram = "scram",
        Md5 = "md5",
        /// Not at all.
        Trust = "trust",
        /// With the password as it is.
        Plain = "plain",
    }
}

choice! {
    /// Connections that a rule of `[[hba]]` is for.
    pub enum HbaConnection {
        /// Over TCP.
        Host = "host",
        /// Over TCP with TLS.
        Hostssl = "hostssl",
        /// Over TCP without TLS.
        Hostnossl = "hostnossl",
        /// Over a Unix socket.
        Local = "local",
    }
}

choice! {
    /// What a rule of `[[hba]]` asks for.
    pub enum HbaMethod {
        /// Nothing.
        Trust = "trust",
        ScramSha256 = "scram-sha-256",
        Md5 = "md5",
        /// The password as it is.
        Password = "password",
        /// A certificate in the user's name, or its identity.
        Cert = "cert",
        /// It cannot get in.
        Reject = "reject",
    }
}

choice! {
    /// The form of the log.
    pub enum LogFormat {
        Text = "text",
        Json = "json",
        JsonFlattened = "json_flattened",
    }
}

choice! {
    /// What happens to a connection that was left in the middle of something.
    pub enum ConnectionRecovery {
        /// Read what is still coming, roll back, go on.
        Recover = "recover",
        /// Roll back if nothing is still coming, otherwise close.
        RollbackOnly = "rollback_only",
        /// Close.
        Drop = "drop",
    }
}

choice! {
    /// The form of generated ids.
    pub enum UniqueIdFunction {
        /// 63 bits.
        Standard = "standard",
        /// 53 bits, which fit into a JavaScript number.
        Compact = "compact",
    }
}

choice! {
    /// How reads of the system catalogs are routed.
    pub enum SystemCatalogs {
        Omnisharded = "omnisharded",
        OmnishardedSticky = "omnisharded_sticky",
        Sharded = "sharded",
    }
}

choice! {
    /// The COPY format of resharding.
    pub enum CopyFormat {
        Binary = "binary",
        Text = "text",
    }
}

choice! {
    /// Whether the schema is read from the servers.
    pub enum LoadSchema {
        On = "on",
        Off = "off",
        /// Where something depends on it.
        Auto = "auto",
    }
}

choice! {
    /// What happens when a cutover takes too long.
    pub enum CutoverTimeoutAction {
        Abort = "abort",
        Cutover = "cutover",
    }
}

choice! {
    /// What happens to a statement that has to be rewritten to be right.
    pub enum RewriteMode {
        Error = "error",
        Rewrite = "rewrite",
        Ignore = "ignore",
        /// Rewrite for tables that every shard holds.
        RewriteOmni = "rewrite_omni",
    }
}

choice! {
    /// What a server is to its shard.
    pub enum Role {
        Primary = "primary",
        Replica = "replica",
        /// Found out by asking.
        Auto = "auto",
    }
}

choice! {
    /// The type of a sharding key.
    pub enum DataType {
        Bigint = "bigint",
        Uuid = "uuid",
        Vector = "vector",
        Varchar = "varchar",
    }
}

choice! {
    /// The hash function of a sharding key.
    pub enum Hasher {
        Postgres = "postgres",
        Sha1 = "sha1",
    }
}

choice! {
    /// What a lookup query answers with.
    pub enum LookupResult {
        /// The sharding key's value.
        Value = "value",
        /// The shard's number.
        Shard = "shard",
    }
}

choice! {
    /// The form of a sharded mapping.
    pub enum MappingKind {
        List = "list",
        Range = "range",
        Default = "default",
    }
}

choice! {
    /// Which statements are mirrored.
    pub enum MirrorLevel {
        All = "all",
        Dml = "dml",
        Ddl = "ddl",
    }
}

choice! {
    /// How to log in to Vault.
    pub enum VaultAuthMethod {
        Kubernetes = "kubernetes",
        Approle = "approle",
    }
}

choice! {
    /// Where the credentials for a server come from.
    pub enum ServerAuth {
        Password = "password",
        RdsIam = "rds_iam",
        AzureWorkloadIdentity = "azure_workload_identity",
        VaultDynamic = "vault_dynamic",
        VaultStatic = "vault_static",
    }
}
