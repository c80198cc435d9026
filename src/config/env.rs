//! Settings from environment variables. They stand in for the defaults: what a file says comes first.

use std::collections::BTreeMap;

use super::Config;
use super::lists::Mirroring;
use super::problem::{Place, Problem, nearest};
use super::read::Places;
use super::secret::Secret;
use super::section::Section;
use super::url;
use super::value::Raw;

/// The variables of `[general]` that are not named after their key.
const EXCEPTIONS: [(&str, &str); 3] = [
    ("reload_schema_on_ddl", "PGDOG_SCHEMA_RELOAD_ON_DDL"),
    ("client_login_timeout", "PGDOG_CLIENT_LOG_TIMEOUT"),
    ("log_level", "RUST_LOG"),
];

const DATABASE_URL: &str = "PGDOG_DATABASE_URL_";
const MIRRORING: &str = "PGDOG_MIRRORING_";
const ADMIN_PASSWORD: &str = "PGDOG_ADMIN_PASSWORD";

/// Kubernetes describes a service named pgdog in variables that begin like ours.
const KUBERNETES: [&str; 2] = ["PGDOG_SERVICE_", "PGDOG_PORT_"];

/// The environment, without the variables that are not ours.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, Secret>);

impl Env {
    /// Keeps the variables that configure something.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Env {
        let ours = |name: &str| name.starts_with("PGDOG_") || FOREIGN_NAMES.contains(&name);
        Env(variables
            .into_iter()
            // An empty variable is how shells and compose files write an unset one.
            .filter(|(name, value)| ours(name) && !value.is_empty())
            .map(|(name, value)| (name, Secret::new(value)))
            .collect())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    /// `PREFIX1`, `PREFIX2`, … in the order of their numbers.
    fn numbered(&self, prefix: &str) -> Vec<(&str, &str)> {
        let mut found: Vec<(u32, &str, &str)> = self
            .0
            .iter()
            .filter_map(|(name, value)| {
                Some((name.strip_prefix(prefix)?.parse().ok()?, name.as_str(), value.expose()))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, name, value)| (name, value)).collect()
    }
}

const FOREIGN_NAMES: [&str; 3] = ["RUST_LOG", "NODE_ID", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Shows the names only: values can be passwords.
impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The variable of a key of `[general]`.
pub(crate) fn variable(key: &str) -> String {
    match EXCEPTIONS.iter().find(|(exception, _)| *exception == key) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("PGDOG_{}", key.to_ascii_uppercase()),
    }
}

/// What comes before the files: single values.
pub(crate) fn apply(config: &mut Config, env: &Env, places: &mut Places, problems: &mut Vec<Problem>) {
    let place = Place::new("environment", None);
    let mut known = vec![ADMIN_PASSWORD.to_owned()];
    for key in config.general.keys() {
        let mut names = vec![variable(key.name)];
        names.extend(key.alias.iter().map(|alias| variable(alias)));
        for name in names {
            if let Some(text) = env.text(&name) {
                if name == "PGDOG_PORT" && text.starts_with("tcp://") {
                    let text = "PGDOG_PORT was set by Kubernetes for a service named pgdog; it is ignored";
                    problems.push(place.warning(text));
                } else {
                    places.insert("general", 0, key.name, place.clone());
                    for fault in config.general.set(key.name, Raw::Text(text)).err().unwrap_or_default() {
                        problems.push(place.error(format!("{name} {}", fault.text)));
                    }
                }
            }
            known.push(name);
        }
    }
    if let Some(password) = env.text(ADMIN_PASSWORD) {
        config.admin.password = Some(Secret::new(password));
    }
    if let Some(endpoint) = env.text("OTEL_EXPORTER_OTLP_ENDPOINT") {
        config.otel.endpoint = Some(endpoint.to_owned());
    }
    config.node_id = env.text("NODE_ID").map(str::to_owned);

    for name in env.0.keys() {
        let numbered = [DATABASE_URL, MIRRORING]
            .iter()
            .filter_map(|prefix| name.strip_prefix(prefix))
            .any(|number| number.parse::<u32>().is_ok_and(|number| number > 0));
        let foreign = !name.starts_with("PGDOG_") || KUBERNETES.iter().any(|prefix| name.starts_with(prefix));
        if known.contains(name) || numbered || foreign {
            continue;
        }
        let near = nearest(name, known.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        problems.push(place.warning(format!("{name} is not a known variable{near}")));
    }
}

/// What comes after the files: databases, users and mirrors that are added to theirs.
pub(crate) fn add_tables(config: &mut Config, env: &Env, places: &mut Places, problems: &mut Vec<Problem>) {
    for (name, text) in env.numbered(DATABASE_URL) {
        let place = Place::new(&format!("environment {name}"), None);
        url::add(config, text, &place, places, problems);
    }
    for (name, text) in env.numbered(MIRRORING) {
        let place = Place::new(&format!("environment {name}"), None);
        let mut mirror = Mirroring::default();
        for (key, value) in text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            for fault in mirror.set(key, Raw::Text(value)).err().unwrap_or_default() {
                problems.push(place.error(format!("`{key}` {}", fault.text)));
            }
        }
        places.insert("mirroring", config.mirroring.len(), "", place);
        config.mirroring.push(mirror);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Config, Vec<String>) {
        let env = Env::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let (mut config, mut places, mut problems) = (Config::default(), Places::default(), Vec::new());
        apply(&mut config, &env, &mut places, &mut problems);
        add_tables(&mut config, &env, &mut places, &mut problems);
        (config, problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn every_general_key_has_a_variable() {
        let mut config = Config::default();
        for key in Config::default().general.keys() {
            let shown = config.general.shown(key.name).text();
            // The default, written as text, must be readable as text.
            let text = if shown.is_empty() { "1".to_owned() } else { shown };
            let text = match key.name {
                "broadcast_address" => "224.0.0.1".to_owned(),
                "proxy_protocol_from" => "10.0.0.0/8, unix".to_owned(),
                _ => text,
            };
            let env = Env::new([(variable(key.name), text)]);
            let mut problems = Vec::new();
            apply(&mut config, &env, &mut Places::default(), &mut problems);
            assert_eq!(problems, [], "{}", key.name);
        }
    }

    #[test]
    fn names() {
        assert_eq!(variable("reload_schema_on_ddl"), "PGDOG_SCHEMA_RELOAD_ON_DDL");
        assert_eq!(variable("client_login_timeout"), "PGDOG_CLIENT_LOG_TIMEOUT");
        assert_eq!(variable("log_level"), "RUST_LOG");
        assert_eq!(variable("default_pool_size"), "PGDOG_DEFAULT_POOL_SIZE");
    }

    #[test]
    fn values() {
        let (config, problems) = read(&[
            ("PGDOG_PORT", "7000"),
            ("PGDOG_HOST", ""),
            ("PGDOG_LOG_CONNECTIONS", "false"),
            ("PGDOG_POOLER_MODE", "session"),
            ("RUST_LOG", "debug"),
            ("NODE_ID", "pgdog-3"),
            ("PGDOG_ADMIN_PASSWORD", "hunter2"),
            ("PGDOG_MIRRORING_1", "source_db=a&destination_db=b&exposure=0.5"),
            ("PGDOG_DATABASE_URL_10", "postgres://u:p@h/ten"),
            ("PGDOG_DATABASE_URL_2", "postgres://u:p@h/two"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((config.general.port, config.general.host.as_str()), (7000, "0.0.0.0"));
        assert!(!config.general.log_connections);
        assert_eq!(config.general.pooler_mode, crate::config::PoolerMode::Session);
        assert_eq!(config.general.log_level, "debug");
        assert_eq!(config.node_id.as_deref(), Some("pgdog-3"));
        assert_eq!(config.admin.password, Some(Secret::new("hunter2")));
        assert_eq!((config.mirroring[0].source_db.as_str(), config.mirroring[0].exposure), ("a", Some(0.5)));
        let names: Vec<&str> = config.databases.iter().map(|database| database.name.as_str()).collect();
        assert_eq!(names, ["two", "ten"]);
    }

    #[test]
    fn problems() {
        let (_, problems) = read(&[
            ("PGDOG_WORKERS", "many"),
            ("PGDOG_PROT", "1"),
            ("PGDOG_SERVICE_HOST", "10.0.0.1"),
            ("PGDOG_PORT", "tcp://10.0.0.1:6432"),
            ("PGDOG_DATABASE_URL_0", "postgres://u@h/d"),
        ]);
        assert_eq!(
            problems,
            [
                "environment: warning: PGDOG_PORT was set by Kubernetes for a service named pgdog; it is ignored",
                "environment: error: PGDOG_WORKERS must be a whole number from 0 to 9223372036854775807, not this text",
                "environment: warning: PGDOG_DATABASE_URL_0 is not a known variable",
                "environment: warning: PGDOG_PROT is not a known variable; did you mean PGDOG_PORT?",
            ]
        );
    }

    #[test]
    fn debug_shows_names_only() {
        let env = Env::new([("PGDOG_ADMIN_PASSWORD".to_owned(), "hunter2".to_owned())]);
        assert_eq!(format!("{env:?}"), "{\"PGDOG_ADMIN_PASSWORD\"}");
    }
}
