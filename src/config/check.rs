//! Checks of a configuration as a whole, after its files were read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Config;
use super::choices::*;
use super::features;
use super::lists::{KeyValue, Mapping, User};
use super::problem::{Problem, nearest};
use super::read::Places;
use crate::base::address::{SOCKET_NAME_BYTES_MAX, is_unix, socket_name};
use crate::base::limits::USER_PASSWORDS_MAX;

/// Finds everything that is wrong with a configuration.
pub(crate) fn check(config: &Config, places: &Places, problems: &mut Vec<Problem>) {
    let mut check = Check { config, places, problems };
    check.general();
    check.timeouts();
    check.tcp();
    check.admin();
    check.databases();
    check.shards();
    check.users();
    check.lookups();
    check.rules();
    check.sharding();
    check.combinations();
    features::refuse(config, places, problems);
}

struct Check<'c> {
    config: &'c Config,
    places: &'c Places,
    problems: &'c mut Vec<Problem>,
}

impl Check<'_> {
    fn error(&mut self, section: &'static str, index: usize, key: &'static str, text: impl Into<String>) {
        self.problems.push(self.places.find(section, index, key).error(text));
    }

    fn warning(&mut self, section: &'static str, index: usize, key: &'static str, text: impl Into<String>) {
        self.problems.push(self.places.find(section, index, key).warning(text));
    }

    fn general(&mut self) {
        const WORKER_COUNT_MAX: usize = 1_024;
        let general = &self.config.general;
        if general.host.is_empty() {
            self.error("general", 0, "host", "host is empty");
        }
        if let Some(directory) = &general.unix_socket_dir {
            let name = socket_name(directory, general.port);
            if !is_unix(directory) {
                let text = "unix_socket_dir must be an absolute path, or begin with @";
                self.error("general", 0, "unix_socket_dir", text);
            } else if name.len() > SOCKET_NAME_BYTES_MAX {
                let text = format!(
                    "unix_socket_dir is too long: {name:?} has more than {SOCKET_NAME_BYTES_MAX} bytes"
                );
                self.error("general", 0, "unix_socket_dir", text);
            }
        }
        if general.workers > WORKER_COUNT_MAX {
            self.error("general", 0, "workers", format!("workers must be at most {WORKER_COUNT_MAX}"));
        }
        if general.default_pool_size == 0 {
            self.error("general", 0, "default_pool_size", "default_pool_size must be at least 1");
        }
        let chosen = self.places.contains("general", 0, "min_pool_size");
        if chosen && general.min_pool_size > general.default_pool_size {
            let text = "min_pool_size is above default_pool_size, which counts";
            self.warning("general", 0, "min_pool_size", text);
        }
        if general.prepared_statements_limit == 0 {
            self.error(
                "general",
                0,
                "prepared_statements_limit",
                "prepared_statements_limit must be at least 1",
            );
        }
        if general.connect_attempts == 0 {
            self.error("general", 0, "connect_attempts", "connect_attempts must be at least 1");
        }
        if !(0.0..=1.0).contains(&general.mirror_exposure) {
            self.error("general", 0, "mirror_exposure", "mirror_exposure must be from 0.0 to 1.0");
        }
        if let Some(word) = unknown_level(&general.log_level) {
            let text = format!("log_level must be off, error, warn, info, debug or trace, not {word:?}");
            self.error("general", 0, "log_level", text);
        }
        let pairs = [
            (
                "tls_certificate",
                general.tls_certificate.is_some(),
                "tls_private_key",
                general.tls_private_key.is_some(),
            ),
            (
                "tls_server_certificate",
                general.tls_server_certificate.is_some(),
                "tls_server_private_key",
                general.tls_server_private_key.is_some(),
            ),
        ];
        for (certificate, has_certificate, key, has_key) in pairs {
            if has_certificate != has_key {
                let (there, missing) = if has_certificate { (certificate, key) } else { (key, certificate) };
                self.error("general", 0, there, format!("{there} needs {missing}"));
            }
        }
        let of_clients = [
            ("tls_client_required", general.tls_client_required),
            ("tls_client_ca_certificate", general.tls_client_ca_certificate.is_some()),
        ];
        for (key, is_set) in of_clients {
            if is_set && general.tls_certificate.is_none() {
                self.error("general", 0, key, format!("{key} needs tls_certificate"));
            }
        }
    }

    /// Zero is not "no limit": it would end everything at once.
    fn timeouts(&mut self) {
        let general = &self.config.general;
        let optional = [
            ("query_timeout", general.query_timeout),
            ("client_idle_timeout", general.client_idle_timeout),
            ("client_idle_in_transaction_timeout", general.client_idle_in_transaction_timeout),
        ];
        for (key, value) in optional {
            if value == Some(Duration::ZERO) {
                self.error("general", 0, key, format!("{key} must be above 0; leave it out for no limit"));
            }
        }
        let always = [
            ("connect_timeout", general.connect_timeout),
            ("client_login_timeout", general.client_login_timeout),
            ("stats_period", general.stats_period),
            ("reserve_pool_timeout", general.reserve_pool_timeout),
            ("server_lifetime", general.server_lifetime),
        ];
        for (key, value) in always {
            if value.is_zero() {
                self.error("general", 0, key, format!("{key} must be above 0"));
            }
        }
    }

    /// The operating system counts in seconds, up to 32767, and looks at most 127 times.
    fn tcp(&mut self) {
        let tcp = &self.config.tcp;
        let seconds = Duration::from_secs(1)..=Duration::from_secs(32_767);
        for (key, value) in [("time", tcp.time), ("interval", tcp.interval)] {
            if value.is_some_and(|value| !seconds.contains(&value)) {
                self.error("tcp", 0, key, format!("{key} must be from 1000 to 32767000 milliseconds"));
            }
        }
        if tcp.retries.is_some_and(|retries| !(1..=127).contains(&retries)) {
            self.error("tcp", 0, "retries", "retries must be from 1 to 127");
        }
    }

    fn admin(&mut self) {
        let admin = &self.config.admin;
        for (key, value) in [("name", &admin.name), ("user", &admin.user)] {
            if value.is_empty() {
                self.error("admin", 0, key, format!("[admin]: {key} is empty"));
            }
        }
        if admin.password.as_ref().is_some_and(|password| password.is_empty()) {
            self.error("admin", 0, "password", "[admin]: the password is empty");
        }
    }

    fn databases(&mut self) {
        let config = self.config;
        if config.databases.is_empty() {
            self.problems.push(super::problem::Place::new("configuration", None).warning(
                "there are no databases: clients can only reach the console; add [[databases]] to pgdog.toml",
            ));
        }
        let mut seen = BTreeMap::new();
        for (index, database) in config.databases.iter().enumerate() {
            let name = &database.name;
            if name.is_empty() {
                self.error("databases", index, "name", "a database needs a name");
                continue;
            }
            if database.host.is_empty() {
                self.error("databases", index, "host", format!("database {name:?} needs a host"));
            }
            if is_unix(&database.host)
                && socket_name(&database.host, database.port).len() > SOCKET_NAME_BYTES_MAX
            {
                let text = format!("database {name:?}: host is too long for the name of a Unix socket");
                self.error("databases", index, "host", text);
            }
            if database.port == 0 {
                self.error("databases", index, "port", format!("database {name:?}: port must be above 0"));
            }
            if *name == config.admin.name {
                let text = format!("database {name:?} has the name of the console, which would hide it");
                self.error("databases", index, "name", text);
            }
            let sizes = [
                ("pool_size", database.pool_size),
                ("pool_size_primary", database.pool_size_primary),
                ("pool_size_replica", database.pool_size_replica),
            ];
            for (key, size) in sizes {
                if size == Some(0) {
                    let text = format!("database {name:?}: {key} must be at least 1");
                    self.error("databases", index, key, text);
                }
            }
            let most = database.pool_size.unwrap_or(config.general.default_pool_size);
            if database.min_pool_size.is_some_and(|least| least > most) {
                let text = format!("database {name:?}: min_pool_size is above the pool size, which counts");
                self.warning("databases", index, "min_pool_size", text);
            }
            if database.server_lifetime == Some(Duration::ZERO) {
                let text = format!("database {name:?}: server_lifetime must be above 0");
                self.error("databases", index, "server_lifetime", text);
            }
            let remote = database.database_name.as_ref().unwrap_or(name);
            let target = (name, database.shard, &database.host, database.port, remote);
            if let Some(first) = seen.insert(target, index) {
                let line = self.places.find("databases", first, "").line;
                let line = line.map(|line| format!(" (first in line {line})")).unwrap_or_default();
                let text =
                    format!("database {name:?} is there twice with the same host, port and shard{line}");
                self.error("databases", index, "name", text);
            }
        }
    }

    /// What the hosts of each database are to each other.
    fn shards(&mut self) {
        let config = self.config;
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, database) in config.databases.iter().enumerate() {
            if !database.name.is_empty() && !database.resharding_only {
                by_name.entry(&database.name).or_default().push(index);
            }
        }
        for (name, hosts) in by_name {
            let mut by_shard: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for &index in &hosts {
                by_shard.entry(config.databases[index].shard).or_default().push(index);
            }
            for (expected, (shard, hosts)) in by_shard.iter().enumerate() {
                let first = hosts.first().copied().unwrap_or_default();
                if *shard != expected {
                    let text = format!("database {name:?} has a shard {shard} but no shard {expected}");
                    self.error("databases", first, "shard", text);
                    break;
                }
            }
            for (shard, hosts) in by_shard {
                let with =
                    |role| hosts.iter().copied().filter(move |&index| config.databases[index].role == role);
                if let Some(second) = with(Role::Primary).nth(1) {
                    let text = format!("shard {shard} of database {name:?} has a second primary");
                    self.error("databases", second, "role", text);
                }
                if let Some(auto) = with(Role::Auto).next().filter(|_| with(Role::Auto).count() < hosts.len())
                {
                    let text = format!(
                        "shard {shard} of database {name:?} has both role = \"auto\" and fixed roles"
                    );
                    self.error("databases", auto, "role", text);
                }
            }
        }
    }

    fn users(&mut self) {
        let config = self.config;
        let mut seen: BTreeMap<(&str, Option<&str>), usize> = BTreeMap::new();
        for (index, user) in config.users.iter().enumerate() {
            let name = &user.name;
            if name.is_empty() {
                self.error("users", index, "name", "a user needs a name");
                continue;
            }
            let named = user.database.iter().chain(&user.databases);
            for (key, database) in named.enumerate().map(|(at, database)| {
                (if at == 0 && user.database.is_some() { "database" } else { "databases" }, database)
            }) {
                if !config.databases.iter().any(|known| known.name == *database) {
                    let near = nearest(database, config.databases.iter().map(|known| known.name.as_str()));
                    let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                    let text = format!("user {name:?} names the unknown database {database:?}{near}");
                    self.error("users", index, key, text);
                }
                self.once(&mut seen, index, name, Some(database));
            }
            if user.all_databases {
                self.once(&mut seen, index, name, None);
            } else if user.database.is_none() && user.databases.is_empty() {
                let text = format!("user {name:?} needs database, databases or all_databases");
                self.error("users", index, "name", text);
            }
            self.user_numbers(index, user);
            self.user_login(index, user);
        }
    }

    /// Two tables for the same user and database: which password counts must not be a matter of order.
    fn once<'u>(
        &mut self,
        seen: &mut BTreeMap<(&'u str, Option<&'u str>), usize>,
        index: usize,
        name: &'u str,
        database: Option<&'u str>,
    ) {
        if seen.insert((name, database), index).is_some_and(|first| first != index) {
            let of = database.map_or("all databases".to_owned(), |database| format!("database {database:?}"));
            self.error("users", index, "name", format!("user {name:?} of {of} is there twice"));
        }
    }

    fn user_numbers(&mut self, index: usize, user: &User) {
        let name = &user.name;
        let sizes = [
            ("pool_size", user.pool_size),
            ("pool_size_primary", user.pool_size_primary),
            ("pool_size_replica", user.pool_size_replica),
        ];
        for (key, size) in sizes {
            if size == Some(0) {
                self.error("users", index, key, format!("user {name:?}: {key} must be at least 1"));
            }
        }
        if user.min_pool_size.zip(user.pool_size).is_some_and(|(least, most)| least > most) {
            let text = format!("user {name:?}: min_pool_size is above the pool size, which counts");
            self.warning("users", index, "min_pool_size", text);
        }
        if user.server_lifetime == Some(Duration::ZERO) {
            let text = format!("user {name:?}: server_lifetime must be above 0");
            self.error("users", index, "server_lifetime", text);
        }
        if user.vault_refresh_percent.is_some_and(|percent| !(1..=80).contains(&percent)) {
            let text = format!("user {name:?}: vault_refresh_percent must be from 1 to 80");
            self.error("users", index, "vault_refresh_percent", text);
        }
    }

    fn user_login(&mut self, index: usize, user: &User) {
        let (general, name) = (&self.config.general, &user.name);
        let has_password = user.client_passwords().next().is_some();
        if user.client_passwords().any(|password| password.is_empty()) {
            self.error("users", index, "password", format!("user {name:?} has an empty password"));
        }
        let count = user.client_passwords().count() + usize::from(user.password_hash.is_some());
        if count > USER_PASSWORDS_MAX {
            let text =
                format!("user {name:?} has {count} passwords, at most {USER_PASSWORDS_MAX} are possible");
            self.error("users", index, "passwords", text);
        }
        if let Some(hash) = &user.password_hash {
            let (is_verifier, is_md5) = (is_verifier(hash.expose()), is_md5(hash.expose()));
            if !is_verifier && !is_md5 {
                let text = "password_hash must have the form SCRAM-SHA-256$iterations:salt$key:key or md5…";
                self.error("users", index, "password_hash", format!("user {name:?}: {text}"));
            } else if is_md5 && general.auth_type == AuthType::Scram && !has_password {
                let text = "cannot log in: auth_type = \"scram\" needs a password or a SCRAM verifier";
                self.warning("users", index, "password_hash", format!("user {name:?} {text}"));
            }
        } else if !has_password
            && user.identity.is_none()
            && user.vault_path.is_none()
            && general.auth_type != AuthType::Trust
            && general.passthrough_auth == PassthroughAuth::Disabled
            && !self.is_looked_up(user)
            && !self.config.hba.iter().any(|rule| matches!(rule.method, HbaMethod::Trust | HbaMethod::Cert))
        {
            let text = format!("user {name:?} has no password and cannot log in");
            self.warning("users", index, "name", text);
        }
        if user.identity.is_some() {
            if general.passthrough_auth != PassthroughAuth::Disabled {
                let text = format!("user {name:?}: identity needs passthrough_auth = \"disabled\"");
                self.error("users", index, "identity", text);
            }
            if general.tls_verify == TlsVerify::Disabled {
                let text = format!("user {name:?}: identity needs a tls_verify other than \"disabled\"");
                self.error("users", index, "identity", text);
            }
            if general.tls_client_ca_certificate.is_none() {
                let text = format!("user {name:?}: without tls_client_ca_certificate, identity is of no use");
                self.warning("users", index, "identity", text);
            }
        }
        if user.tls_client_certificate_required == Some(true) && general.tls_client_ca_certificate.is_none() {
            let key = "tls_client_certificate_required";
            self.error("users", index, key, format!("user {name:?}: {key} needs tls_client_ca_certificate"));
        }
    }

    /// In some database servers are asked for users.
    fn is_looked_up(&self, user: &User) -> bool {
        let config = self.config;
        let is_theirs = |name: &str| user.all_databases || user.names(name);
        config.databases.iter().any(|host| is_theirs(&host.name) && config.lookup(&host.name).is_some())
    }

    /// Whoever looks users up must be able to do so without being looked up.
    fn lookups(&mut self) {
        let config = self.config;
        for (index, database) in config.databases.iter().enumerate() {
            let Some(lookup) = config.lookup(&database.name) else { continue };
            let (section, at) = match database.auth_user {
                Some(_) => ("databases", index),
                None => ("general", 0),
            };
            let of = format!("auth_user {:?} of database {:?}", lookup.user, database.name);
            let problem = match (config.database(lookup.database), config.user(lookup.user, lookup.database))
            {
                (None, _) => Some(format!("{of}: its auth_dbname {:?} is unknown", lookup.database)),
                (_, None) => {
                    Some(format!("{of} must be a user of database {:?} in users.toml", lookup.database))
                }
                (Some(host), Some(user)) => config
                    .effective(user, host)
                    .server_password
                    .is_none()
                    .then(|| format!("{of} has no password to log in to the server with")),
            };
            if let Some(text) = problem {
                self.error(section, at, "auth_user", text);
            } else if !lookup.query.contains("$1") {
                let key = if database.auth_query.is_some() { ("databases", index) } else { ("general", 0) };
                self.error(
                    key.0,
                    key.1,
                    "auth_query",
                    "auth_query must contain $1, which is the user's name",
                );
            }
        }
        let general = &config.general;
        if general.auth_user.is_none() && config.databases.iter().all(|host| host.auth_user.is_none()) {
            for (key, is_set) in
                [("auth_query", general.auth_query.is_some()), ("auth_dbname", general.auth_dbname.is_some())]
            {
                if is_set {
                    self.warning("general", 0, key, format!("{key} is of no use without auth_user"));
                }
            }
        }
        let passthrough = general.passthrough_auth;
        if passthrough.is_enabled() && !passthrough.is_plain() && general.tls_certificate.is_none() {
            let text = format!(
                "passthrough_auth = \"{}\" takes passwords with TLS only, which needs tls_certificate",
                passthrough.as_str()
            );
            self.error("general", 0, "passthrough_auth", text);
        }
        if general.dynamic_pools_max == 0 {
            self.error("general", 0, "dynamic_pools_max", "dynamic_pools_max must be at least 1");
        }
    }

    fn rules(&mut self) {
        let config = self.config;
        for (index, rule) in config.hba.iter().enumerate() {
            let method = rule.method;
            if method == HbaMethod::Cert && config.general.tls_client_ca_certificate.is_none() {
                let text = "[[hba]]: method = \"cert\" needs tls_client_ca_certificate";
                self.error("hba", index, "method", text);
            }
            let of_tls = rule.connection == HbaConnection::Hostssl || method == HbaMethod::Cert;
            if of_tls && config.general.tls_certificate.is_none() {
                let text = "[[hba]]: without tls_certificate nobody comes with TLS";
                self.warning("hba", index, "connection", text);
            }
            if rule.connection == HbaConnection::Local && !rule.address.is_empty() {
                self.error("hba", index, "address", "[[hba]]: a Unix socket has no address");
            }
            if let Some(name) = rule.user.iter().find(|name| name.starts_with(['+', '/'])) {
                let text = format!("[[hba]]: user {name:?}: groups and patterns are not known here");
                self.error("hba", index, "user", text);
            }
            if let Some(name) = rule.database.iter().find(|name| name.starts_with(['@', '/'])) {
                let text = format!("[[hba]]: database {name:?}: files and patterns are not known here");
                self.error("hba", index, "database", text);
            }
        }
    }

    fn sharding(&mut self) {
        let config = self.config;
        for (index, table) in config.sharded_tables.iter().enumerate() {
            let owner = &table.database;
            if table.column.is_empty() {
                self.error("sharded_tables", index, "column", "a sharded table needs a column");
            }
            let shards = config.databases.iter().filter(|database| database.name == *owner);
            let Some(last) = shards.map(|database| database.shard).max() else {
                let text = format!("a sharded table names the unknown database {owner:?}");
                self.error("sharded_tables", index, "database", text);
                continue;
            };
            for mapping in &table.mapping {
                if mapping.shard > last {
                    let text = format!("a mapping names shard {}, but the last one is {last}", mapping.shard);
                    self.error("sharded_tables", index, "mapping", text);
                }
                let mut values = mapping.values.iter().chain(&mapping.start).chain(&mapping.end);
                if let Some(value) = values.find(|value| !fits(value, table.data_type)) {
                    let kind = table.data_type.as_str();
                    let text = format!("the value {value:?} of a mapping is not of the type {kind}");
                    self.error("sharded_tables", index, "mapping", text);
                }
                if !mapping.values.is_empty() && (mapping.start.is_some() || mapping.end.is_some()) {
                    let text = "a mapping has either values or a range";
                    self.error("sharded_tables", index, "mapping", text);
                }
            }
            if overlapping(&table.mapping) {
                self.error("sharded_tables", index, "mapping", "two mappings claim the same value");
            }
        }
    }

    /// Values that make no sense together.
    fn combinations(&mut self) {
        let config = self.config;
        let general = &config.general;
        let replicas = config.databases.iter().any(|database| database.role != Role::Primary);
        if !general.idle_healthcheck_interval.is_zero()
            && general.idle_healthcheck_interval >= general.ban_timeout
        {
            let text =
                "idle_healthcheck_interval should be below ban_timeout: bans end before the next check";
            self.warning("general", 0, "idle_healthcheck_interval", text);
        }
        if config.rewrite.enabled && !general.two_phase_commit {
            let text = "[rewrite]: rewritten statements write to several shards, not atomically without two_phase_commit";
            self.warning("rewrite", 0, "enabled", text);
        }
        if general.read_write_split == ReadWriteSplit::ExcludePrimary && !replicas {
            let text = "read_write_split = \"exclude_primary\" without replicas leaves nothing to read from";
            self.warning("general", 0, "read_write_split", text);
        }
        if general.lsn_check_delay.is_some() && !replicas {
            let text = "lsn_check_delay is set, but there are no replicas to compare";
            self.warning("general", 0, "lsn_check_delay", text);
        }
        for (index, mirror) in config.mirroring.iter().enumerate() {
            if mirror.level != MirrorLevel::All && general.query_parser == QueryParser::Off {
                let text = "a level of mirroring needs query_parser to be other than \"off\"";
                self.warning("mirroring", index, "level", text);
            }
            if mirror.exposure.is_some_and(|exposure| !(0.0..=1.0).contains(&exposure)) {
                self.error("mirroring", index, "exposure", "exposure must be from 0.0 to 1.0");
            }
        }
    }
}

/// The first part of a log filter (`info` or `target=debug,info`) that is no level.
fn unknown_level(filter: &str) -> Option<&str> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    filter
        .split(',')
        .map(|part| part.rsplit_once('=').map_or(part, |(_, level)| level).trim())
        .find(|level| !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)))
}

/// True for PostgreSQL's stored form for the md5 method.
fn is_md5(text: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix("md5").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(is_hex))
}

/// True for `SCRAM-SHA-256$4096:salt$stored:server` as far as can be seen from its form.
fn is_verifier(text: &str) -> bool {
    let parts = || {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, rest) = rest.split_once('$')?;
        let (stored, server) = rest.split_once(':')?;
        Some((iterations, [salt, stored, server]))
    };
    let base64 = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    };
    parts().is_some_and(|(iterations, keys)| {
        iterations.parse::<u32>().is_ok_and(|iterations| iterations > 0) && keys.into_iter().all(base64)
    })
}

fn fits(value: &KeyValue, kind: DataType) -> bool {
    matches!((value, kind), (KeyValue::Number(_), DataType::Bigint))
        || matches!((value, kind), (KeyValue::Text(_), DataType::Varchar | DataType::Uuid))
}

/// True if a value belongs to two of the mappings. A range holds its start and not its end.
fn overlapping(mappings: &[Mapping]) -> bool {
    let is_range = |mapping: &Mapping| mapping.start.is_some() || mapping.end.is_some();
    let below = |value: Option<&KeyValue>, end: Option<&KeyValue>| match (value, end) {
        (Some(value), Some(end)) => value < end,
        _ => true,
    };
    let holds = |mapping: &Mapping, value: &KeyValue| {
        is_range(mapping)
            && mapping.start.as_ref().is_none_or(|start| start <= value)
            && below(Some(value), mapping.end.as_ref())
    };
    let both = |a: &Mapping, b: &Mapping| {
        let ranges = is_range(a)
            && is_range(b)
            && below(a.start.as_ref(), b.end.as_ref())
            && below(b.start.as_ref(), a.end.as_ref());
        ranges
            || a.values.iter().any(|value| b.values.contains(value) || holds(b, value))
            || b.values.iter().any(|value| holds(a, value))
    };
    mappings.iter().enumerate().any(|(at, a)| mappings[at + 1..].iter().any(|b| both(a, b)))
}

#[cfg(test)]
mod tests;
