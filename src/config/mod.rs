//! Configuration: pgdog.toml, users.toml, environment and command line, typed and checked.
//!
//! Owns every key, its default, its documentation and the rule that decides between the places where it can be set.
//! Nothing here opens a file or reads the environment: texts and pairs come in, a [`Config`] and its [`Problem`]s go
//! out. Invariants: a key exists in one list only ([`General`] and its siblings), every problem has a place, and no
//! message contains a secret.

pub mod args;
mod changes;
mod choices;
mod effective;
mod env;
mod general;
mod lists;
mod problem;
mod read;
mod secret;
mod section;
mod sections;
mod url;
mod value;

pub use changes::Changes;
pub use choices::*;
pub use effective::Effective;
pub use env::Env;
pub use general::General;
pub use lists::*;
pub use problem::{Problem, Severity};
pub use secret::Secret;
pub use sections::*;

/// Everything that is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub general: General,
    pub admin: Admin,
    pub tcp: Tcp,
    pub memory: Memory,
    pub rewrite: Rewrite,
    pub multi_tenant: MultiTenant,
    pub replica_lag: ReplicaLag,
    pub replication: Replication,
    pub otel: Otel,
    pub vault: Vault,
    pub qos: Qos,
    pub control: Control,
    pub databases: Vec<Database>,
    pub users: Vec<User>,
    pub sharded_tables: Vec<ShardedTable>,
    pub sharded_mappings: Vec<ShardedMapping>,
    pub omnisharded_tables: Vec<OmnishardedTables>,
    pub sharded_schemas: Vec<ShardedSchema>,
    pub mirroring: Vec<Mirroring>,
    pub plugins: Vec<Plugin>,
    pub query_parsers: Vec<DatabaseParser>,
    /// From the environment (`NODE_ID`): tells this process from its siblings.
    pub node_id: Option<String>,
}
