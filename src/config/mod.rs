//! Configuration: pgdog.toml, users.toml, environment and command line, typed and checked.
//!
//! Owns every key, its default, its documentation and the rule that decides between the places where it can be set.
//! Nothing here opens a file or reads the environment: texts and pairs come in, a [`Config`] and its [`Problem`]s go
//! out. Invariants: a key exists in one list only ([`General`] and its siblings), every problem has a place, and no
//! message contains a secret.

pub mod args;
mod changes;
mod check;
mod choices;
mod effective;
mod env;
mod features;
mod general;
mod hba;
mod lists;
pub mod load;
mod problem;
mod read;
pub mod reference;
mod secret;
mod section;
mod sections;
mod url;
mod value;

pub use changes::Changes;
pub use choices::*;
pub use effective::WILDCARD;
pub use effective::{Effective, Lookup};
pub use env::Env;
pub use general::General;
pub use hba::{Hba, Network, Origin};
pub use lists::*;
pub use problem::{Problem, Severity};
pub use secret::Secret;
pub use sections::*;
pub use value::{FileMode, Limit};

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
    pub hba: Vec<Hba>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration with one table of each kind.
    pub(crate) fn one_of_each() -> Config {
        Config {
            databases: vec![Database::default()],
            hba: vec![Hba::default()],
            users: vec![User::default()],
            sharded_tables: vec![ShardedTable::default()],
            sharded_mappings: vec![ShardedMapping::default()],
            omnisharded_tables: vec![OmnishardedTables::default()],
            sharded_schemas: vec![ShardedSchema::default()],
            mirroring: vec![Mirroring::default()],
            plugins: vec![Plugin::default()],
            query_parsers: vec![DatabaseParser::default()],
            ..Config::default()
        }
    }

    #[test]
    fn every_table_has_a_name() {
        let config = one_of_each();
        let mut tables: Vec<&str> = config.tables().iter().map(|(name, _, _)| *name).collect();
        let mut names = read::PGDOG_SECTIONS.to_vec();
        names.push("users");
        tables.sort();
        names.sort();
        assert_eq!(tables, names);
    }

    #[test]
    fn no_secret_in_debug() {
        let mut config = one_of_each();
        config.users[0].password = Some("hunter2".into());
        config.users[0].passwords = vec!["hunter2".into()];
        config.users[0].server_password = Some("hunter2".into());
        config.users[0].password_hash = Some("hunter2".into());
        config.databases[0].password = Some("hunter2".into());
        config.control.token = Some("hunter2".into());
        config.otel.datadog_api_key = Some("hunter2".into());
        config.admin.password = Some("hunter2".into());
        let effective = config.effective(&config.users[0], &config.databases[0]);
        assert!(!format!("{config:?} {config:#?} {effective:?}").contains("hunter2"));
        for (_, _, table) in config.tables() {
            for key in table.keys() {
                assert!(!table.shown(key.name).text().contains("hunter2"), "{}", key.name);
            }
        }
    }
}
