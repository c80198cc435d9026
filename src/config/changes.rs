//! What a reload changes, and how a configuration is shown.

use super::Config;
use super::section::Section;
use super::value::Shown;

/// What is fixed when the process starts.
const RESTART: [(&str, &[&str]); 2] = [
    (
        "general",
        &[
            "host",
            "port",
            "unix_socket_dir",
            "unix_socket_mode",
            "workers",
            "openmetrics_host",
            "openmetrics_port",
            "healthcheck_port",
            "broadcast_address",
            "broadcast_port",
        ],
    ),
    ("memory", &["stack_size"]),
];

/// The names of what differs between two configurations; never values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Works from now on.
    pub live: Vec<String>,
    /// Works after a restart only.
    pub restart: Vec<String>,
}

impl Changes {
    /// True if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}

impl Config {
    /// Compares the running configuration with a new one.
    pub fn changes(old: &Config, new: &Config) -> Changes {
        let single = [
            ("general", old.general.differing(&new.general)),
            ("admin", old.admin.differing(&new.admin)),
            ("tcp", old.tcp.differing(&new.tcp)),
            ("memory", old.memory.differing(&new.memory)),
            ("rewrite", old.rewrite.differing(&new.rewrite)),
            ("multi_tenant", old.multi_tenant.differing(&new.multi_tenant)),
            ("replica_lag", old.replica_lag.differing(&new.replica_lag)),
            ("replication", old.replication.differing(&new.replication)),
            ("otel", old.otel.differing(&new.otel)),
            ("vault", old.vault.differing(&new.vault)),
            ("qos", old.qos.differing(&new.qos)),
            ("control", old.control.differing(&new.control)),
        ];
        let lists = [
            ("databases", old.databases != new.databases),
            ("users", old.users != new.users),
            ("sharded_tables", old.sharded_tables != new.sharded_tables),
            ("sharded_mappings", old.sharded_mappings != new.sharded_mappings),
            ("omnisharded_tables", old.omnisharded_tables != new.omnisharded_tables),
            ("sharded_schemas", old.sharded_schemas != new.sharded_schemas),
            ("query_parsers", old.query_parsers != new.query_parsers),
            ("mirroring", old.mirroring != new.mirroring),
            ("plugins", old.plugins != new.plugins),
        ];
        let mut changes = Changes::default();
        for (section, keys) in single {
            for key in keys {
                let fixed = RESTART.iter().any(|(name, keys)| *name == section && keys.contains(&key));
                let to = if fixed { &mut changes.restart } else { &mut changes.live };
                to.push(full_name(section, key));
            }
        }
        changes
            .live
            .extend(lists.iter().filter(|(_, differs)| *differs).map(|(name, _)| format!("[[{name}]]")));
        changes
    }

    /// Takes over from the running configuration what only a restart can change, and the made-up password of the
    /// console, so that what is shown is what is in force.
    pub fn keep_running(&mut self, running: &Config) {
        let general = &running.general;
        self.general.host.clone_from(&general.host);
        self.general.port = general.port;
        self.general.unix_socket_dir.clone_from(&general.unix_socket_dir);
        self.general.unix_socket_mode = general.unix_socket_mode;
        self.general.workers = general.workers;
        self.general.openmetrics_host.clone_from(&general.openmetrics_host);
        self.general.openmetrics_port = general.openmetrics_port;
        self.general.healthcheck_port = general.healthcheck_port;
        self.general.broadcast_address = general.broadcast_address;
        self.general.broadcast_port = general.broadcast_port;
        self.memory.stack_size = running.memory.stack_size;
        if self.admin.password.is_none() {
            self.admin.password.clone_from(&running.admin.password);
        }
    }

    /// Every key of the single tables with its value, secrets masked: those of `[general]` by name, the others as
    /// `table.key`.
    pub fn show(&self) -> impl Iterator<Item = (String, String)> {
        self.tables().into_iter().filter(|(_, index, _)| index.is_none()).flat_map(|(section, _, table)| {
            table
                .keys()
                .iter()
                .map(move |key| (full_name(section, key.name), Shown::text(table.shown(key.name))))
        })
    }

    /// Sets a key of `[general]` from text, as the console does. The error says what is allowed.
    pub fn set_general(&mut self, key: &str, value: &str) -> Result<(), String> {
        self.general
            .set(key, super::value::Raw::Text(value))
            .map_err(|faults| faults.first().map(|fault| format!("{key} {}", fault.text)).unwrap_or_default())
    }
}

/// A key as messages and the console name it.
pub(crate) fn full_name(section: &str, key: &str) -> String {
    if section == "general" { key.to_owned() } else { format!("{section}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Database, Secret};

    #[test]
    fn changes() {
        let old = Config::default();
        assert!(Config::changes(&old, &old).is_empty());
        let mut new = old.clone();
        new.general.port = 1;
        new.general.query_timeout = Some(std::time::Duration::from_secs(1));
        new.memory.stack_size = 1;
        new.admin.password = Some(Secret::new("hunter2"));
        new.databases.push(Database::default());
        let changes = Config::changes(&old, &new);
        assert_eq!(changes.restart, ["port", "memory.stack_size"]);
        assert_eq!(changes.live, ["query_timeout", "admin.password", "[[databases]]"]);
    }

    #[test]
    fn restart_keys_exist_and_are_kept() {
        let running = Config::default();
        let mut new = running.clone();
        for (section, keys) in RESTART {
            for key in keys {
                let table = match section {
                    "general" => &mut new.general as &mut dyn Section,
                    _ => &mut new.memory as &mut dyn Section,
                };
                let value = if *key == "broadcast_address" { "224.0.0.9" } else { "77" };
                assert_eq!(table.set(key, crate::config::value::Raw::Text(value)), Ok(()), "{key}");
            }
        }
        let named: usize = RESTART.iter().map(|(_, keys)| keys.len()).sum();
        assert_eq!(Config::changes(&running, &new).restart.len(), named);
        new.keep_running(&running);
        assert_eq!(new, running);
    }

    #[test]
    fn made_up_password_is_kept() {
        let mut running = Config::default();
        running.admin.password = Some(Secret::new("made up"));
        let mut new = Config::default();
        new.keep_running(&running);
        assert_eq!(new.admin.password, running.admin.password);
    }

    #[test]
    fn shown_without_secrets() {
        let mut config = Config::default();
        config.admin.password = Some(Secret::new("hunter2"));
        config.otel.headers.insert("key".to_owned(), Secret::new("hunter2"));
        let shown: Vec<(String, String)> = config.show().collect();
        let value = |name: &str| shown.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("port"), Some("6432"));
        assert_eq!(value("query_timeout"), Some(""));
        assert_eq!(value("pooler_mode"), Some("transaction"));
        assert_eq!(value("admin.password"), Some("***"));
        assert_eq!(value("otel.headers"), Some("***"));
        assert!(!format!("{shown:?}").contains("hunter2"));
    }

    #[test]
    fn set_from_text() {
        let mut config = Config::default();
        assert_eq!(config.set_general("query_timeout", "5"), Ok(()));
        assert_eq!(config.general.query_timeout, Some(std::time::Duration::from_millis(5)));
        let error = config.set_general("query_timeot", "5").unwrap_err();
        assert_eq!(error, "query_timeot is not a known key; did you mean `query_timeout`?");
        assert!(config.set_general("auth_type", "x").unwrap_err().contains("must be one of scram"));
    }
}
