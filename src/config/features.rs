//! What is read but not carried out yet: the one table that later work shortens.
//!
//! A key listed in [`NOT_IN_USE`] is accepted and named in one warning if it differs from its default. Where leaving
//! it out would make an answer wrong or a door open, [`refuse`] turns the configuration down instead.

use super::Config;
use super::changes::full_name;
use super::choices::*;
use super::problem::Problem;
use super::read::Places;

/// Every key of a table.
const ALL: &[&str] = &["*"];

/// Keys without a feature behind them, by table.
const NOT_IN_USE: [(&str, &[&str]); 13] = [
    (
        "general",
        &[
            // Health
            "healthcheck_interval",
            "idle_healthcheck_interval",
            "idle_healthcheck_delay",
            "healthcheck_timeout",
            "healthcheck_port",
            "require_healthcheck_on_discovery",
            "ban_timeout",
            "ban_replica_lag",
            "ban_replica_lag_bytes",
            // Load balancing
            "load_balancing_strategy",
            "read_write_strategy",
            "read_write_split",
            "lsn_check_interval",
            "lsn_check_timeout",
            "lsn_check_delay",
            // Parsing
            "query_parser",
            "query_parser_enabled",
            "query_parser_engine",
            "regex_parser_limit",
            "query_cache_limit",
            // Prepared statements
            "prepared_statements_ttl",
            "prepared_statements_ttl_jitter",
            // Logging and metrics
            "query_log",
            "query_log_stdout",
            "log_dedup_window",
            "log_dedup_threshold",
            "log_min_duration_parse",
            "log_query_sample_length",
            "openmetrics_host",
            "openmetrics_port",
            "openmetrics_namespace",
            // Network
            "dns_ttl",
            "broadcast_address",
            "broadcast_port",
            // Mirroring
            "mirror_queue",
            "mirror_exposure",
            // Sharding
            "cross_shard_disabled",
            "dry_run",
            "expanded_explain",
            "system_catalogs",
            "omnisharded_sticky",
            "load_schema",
            "reload_schema_on_ddl",
            "canonicalize_type_information",
            "sharding_lookup_cache_size",
            "sharding_lookup_timeout",
            "unique_id_min",
            "unique_id_function",
            "two_phase_commit",
            "two_phase_commit_auto",
            "two_phase_commit_wal_dir",
            "two_phase_commit_wal_segment_size",
            "two_phase_commit_wal_fsync_interval",
            "two_phase_commit_wal_checkpoint_interval",
            // Resharding
            "resharding_copy_format",
            "resharding_parallel_copies",
            "resharding_copy_retry_max_attempts",
            "resharding_copy_retry_min_delay",
            "resharding_replication_retry_max_attempts",
            "resharding_replication_retry_min_delay",
            "cutover_traffic_stop_threshold",
            "cutover_replication_lag_threshold",
            "cutover_last_transaction_delay",
            "cutover_timeout",
            "cutover_timeout_action",
            "cutover_save_config",
        ],
    ),
    (
        "databases",
        &[
            "resharding_only",
            "lb_weight",
            "pool_size_replica",
            "min_pool_size_replica",
            "idle_timeout_replica",
        ],
    ),
    (
        "users",
        &[
            "server_iam_region",
            "server_vault_path",
            "vault_refresh_percent",
            "replication_sharding",
            "schema_admin",
            "cross_shard_disabled",
            "two_phase_commit",
            "two_phase_commit_auto",
            "pool_size_replica",
            "min_pool_size_replica",
            "idle_timeout_replica",
        ],
    ),
    ("memory", ALL),
    ("rewrite", ALL),
    ("replica_lag", ALL),
    ("replication", ALL),
    ("otel", ALL),
    ("vault", ALL),
    ("qos", ALL),
    ("control", ALL),
    ("plugins", ALL),
    ("query_parsers", ALL),
];

/// The keys that are set but not in use, each once.
pub(crate) fn not_in_use(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (section, index, table) in config.tables() {
        let Some((_, keys)) = NOT_IN_USE.iter().find(|(name, _)| *name == section) else { continue };
        let found = match index {
            Some(_) if *keys == ALL => vec![format!("[[{section}]]")],
            _ => table
                .non_default()
                .into_iter()
                .filter(|key| *keys == ALL || keys.contains(key))
                .map(|key| full_name(section, key))
                .collect(),
        };
        for name in found {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Turns down what this version would serve wrong.
pub(crate) fn refuse(config: &Config, places: &Places, problems: &mut Vec<Problem>) {
    refuse_general(config, places, problems);
    refuse_databases(config, places, problems);
    refuse_users(config, places, problems);
    refuse_sharding(config, places, problems);
}

fn refuse_general(config: &Config, places: &Places, problems: &mut Vec<Problem>) {
    let general = &config.general;
    if config.multi_tenant.column.is_some() {
        let place = places.find("multi_tenant", 0, "column");
        problems.push(place.error("[multi_tenant] is not in this version: tenants would not be kept apart"));
    }
    if matches!(general.prepared_statements, PreparedStatements::Full | PreparedStatements::ExtendedAnonymous)
    {
        let place = places.find("general", 0, "prepared_statements");
        let value = general.prepared_statements.as_str();
        problems.push(place.warning(format!(
            "prepared_statements = \"{value}\" works like \"extended\" in this version: named statements only"
        )));
    }
}

fn refuse_databases(config: &Config, places: &Places, problems: &mut Vec<Problem>) {
    for (index, database) in config.databases.iter().enumerate() {
        let name = &database.name;
        let mut refuse = |key, text: String| problems.push(places.find("databases", index, key).error(text));
        if database.resharding_only {
            continue;
        }
        let first = config.databases.iter().position(|other| other.name == *name && !other.resharding_only);
        if database.shard > 0 {
            refuse("shard", format!("database {name:?} has shards: this version serves one shard"));
        } else if first != Some(index) {
            let text = "has more than one host: this version serves one, the primary";
            refuse("name", format!("database {name:?} {text}"));
        } else if database.role == Role::Replica {
            let text = "has only a replica: this version serves the primary";
            refuse("role", format!("database {name:?} {text}"));
        } else if database.role == Role::Auto {
            let place = places.find("databases", index, "role");
            let text = "role = \"auto\" is not in this version: the host counts as the primary";
            problems.push(place.warning(format!("database {name:?}: {text}")));
        }
    }
}

fn refuse_users(config: &Config, places: &Places, problems: &mut Vec<Problem>) {
    for (index, user) in config.users.iter().enumerate() {
        let name = &user.name;
        let mut refuse = |key, text: &str| {
            problems.push(places.find("users", index, key).error(format!("user {name:?}: {text}")));
        };
        if user.server_auth != ServerAuth::Password {
            let text = format!("server_auth = \"{}\" is not in this version", user.server_auth.as_str());
            refuse("server_auth", &text);
        }
        if user.vault_path.is_some() {
            refuse("vault_path", "vault_path is not in this version: passwords could not be checked");
        }
    }
}

fn refuse_sharding(config: &Config, places: &Places, problems: &mut Vec<Problem>) {
    let counts = [
        ("sharded_tables", config.sharded_tables.len()),
        ("sharded_mappings", config.sharded_mappings.len()),
        ("omnisharded_tables", config.omnisharded_tables.len()),
        ("sharded_schemas", config.sharded_schemas.len()),
        ("mirroring", config.mirroring.len()),
    ];
    // Once per kind: a hundred tables need not be refused one by one.
    for (section, _) in counts.into_iter().filter(|(_, count)| *count > 0) {
        problems.push(places.find(section, 0, "").error(format!("[[{section}]] is not in this version")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::{PGDOG_SECTIONS, USERS_SECTIONS};

    #[test]
    fn the_table_names_what_exists() {
        let config = crate::config::tests::one_of_each();
        for (section, keys) in NOT_IN_USE {
            assert!(PGDOG_SECTIONS.contains(&section) || USERS_SECTIONS.contains(&section), "{section}");
            let tables = config.tables();
            let (_, _, table) = tables.iter().find(|(name, _, _)| *name == section).expect(section);
            for key in keys.iter().filter(|key| **key != "*") {
                assert_eq!(table.canonical(key), Some(*key), "{section}.{key}");
            }
        }
    }

    #[test]
    fn named_once_and_only_if_set() {
        assert_eq!(not_in_use(&Config::default()), Vec::<String>::new());
        let mut config = crate::config::tests::one_of_each();
        config.plugins.push(Default::default());
        config.general.openmetrics_port = Some(1);
        config.rewrite.enabled = true;
        config.databases[0].lb_weight = 1;
        assert_eq!(
            not_in_use(&config),
            [
                "openmetrics_port",
                "rewrite.enabled",
                "databases.lb_weight",
                "[[query_parsers]]",
                "[[plugins]]"
            ]
        );
    }
}
