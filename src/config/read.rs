//! Reads the text of the two files. Every problem is collected, with its line.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::problem::{Place, Problem, nearest};
use super::section::Section;
use super::value::Raw;

/// Which of the two files a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Pgdog,
    Users,
}

/// Where each key was written: (section, index in a list of tables, key); an empty key is the table itself.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<(&'static str, usize, &'static str), Place>);

impl Places {
    pub(crate) fn insert(&mut self, section: &'static str, index: usize, key: &'static str, place: Place) {
        self.0.insert((section, index, key), place);
    }

    pub(crate) fn contains(&self, section: &'static str, index: usize, key: &'static str) -> bool {
        self.0.contains_key(&(section, index, key))
    }

    /// The place of a key, of its table, or at least of the configuration.
    pub(crate) fn find(&self, section: &'static str, index: usize, key: &'static str) -> Place {
        self.0
            .get(&(section, index, key))
            .or_else(|| self.0.get(&(section, index, "")))
            .cloned()
            .unwrap_or_else(|| Place::new("configuration", None))
    }
}

/// A table or a list of tables of the configuration, to be filled.
enum Target<'c> {
    Single(&'c mut dyn Section),
    List(&'c mut dyn Tables),
}

/// A list of tables, whatever their type.
trait Tables {
    /// Adds a table and returns it with its index.
    fn add(&mut self) -> (usize, &mut dyn Section);
}

impl<S: Section + Default> Tables for Vec<S> {
    fn add(&mut self) -> (usize, &mut dyn Section) {
        self.push(S::default());
        let index = self.len() - 1;
        (index, &mut self[index])
    }
}

/// The names of the tables of pgdog.toml.
pub(crate) const PGDOG_SECTIONS: [&str; 21] = [
    "general",
    "admin",
    "databases",
    "hba",
    "tcp",
    "memory",
    "rewrite",
    "multi_tenant",
    "sharded_tables",
    "sharded_mappings",
    "omnisharded_tables",
    "sharded_schemas",
    "query_parsers",
    "mirroring",
    "plugins",
    "replication",
    "replica_lag",
    "otel",
    "vault",
    "qos",
    "control",
];

/// The names of the tables of users.toml.
pub(crate) const USERS_SECTIONS: [&str; 2] = ["users", "admin"];

fn target<'c>(config: &'c mut Config, name: &str) -> Option<(&'static str, Target<'c>)> {
    use Target::{List, Single};
    Some(match name {
        "general" => ("general", Single(&mut config.general)),
        "admin" => ("admin", Single(&mut config.admin)),
        "tcp" => ("tcp", Single(&mut config.tcp)),
        "memory" => ("memory", Single(&mut config.memory)),
        "rewrite" => ("rewrite", Single(&mut config.rewrite)),
        "multi_tenant" => ("multi_tenant", Single(&mut config.multi_tenant)),
        "replica_lag" => ("replica_lag", Single(&mut config.replica_lag)),
        "replication" => ("replication", Single(&mut config.replication)),
        "otel" => ("otel", Single(&mut config.otel)),
        "vault" => ("vault", Single(&mut config.vault)),
        "qos" => ("qos", Single(&mut config.qos)),
        "control" => ("control", Single(&mut config.control)),
        "databases" => ("databases", List(&mut config.databases)),
        "hba" => ("hba", List(&mut config.hba)),
        "users" => ("users", List(&mut config.users)),
        "sharded_tables" => ("sharded_tables", List(&mut config.sharded_tables)),
        "sharded_mappings" => ("sharded_mappings", List(&mut config.sharded_mappings)),
        "omnisharded_tables" => ("omnisharded_tables", List(&mut config.omnisharded_tables)),
        "sharded_schemas" => ("sharded_schemas", List(&mut config.sharded_schemas)),
        "mirroring" => ("mirroring", List(&mut config.mirroring)),
        "plugins" => ("plugins", List(&mut config.plugins)),
        "query_parsers" => ("query_parsers", List(&mut config.query_parsers)),
        _ => return None,
    })
}

impl Config {
    /// Every table with its name and, for those that can be there several times, its index.
    pub(crate) fn tables(&self) -> Vec<(&'static str, Option<usize>, &dyn Section)> {
        fn list<'c, S: Section>(
            name: &'static str,
            tables: &'c [S],
        ) -> impl Iterator<Item = (&'static str, Option<usize>, &'c dyn Section)> {
            tables.iter().enumerate().map(move |(index, table)| (name, Some(index), table as &dyn Section))
        }
        let mut all: Vec<(&'static str, Option<usize>, &dyn Section)> = vec![
            ("general", None, &self.general),
            ("admin", None, &self.admin),
            ("tcp", None, &self.tcp),
            ("memory", None, &self.memory),
            ("rewrite", None, &self.rewrite),
            ("multi_tenant", None, &self.multi_tenant),
            ("replication", None, &self.replication),
            ("replica_lag", None, &self.replica_lag),
            ("otel", None, &self.otel),
            ("vault", None, &self.vault),
            ("qos", None, &self.qos),
            ("control", None, &self.control),
        ];
        all.extend(list("databases", &self.databases));
        all.extend(list("hba", &self.hba));
        all.extend(list("users", &self.users));
        all.extend(list("sharded_tables", &self.sharded_tables));
        all.extend(list("sharded_mappings", &self.sharded_mappings));
        all.extend(list("omnisharded_tables", &self.omnisharded_tables));
        all.extend(list("sharded_schemas", &self.sharded_schemas));
        all.extend(list("query_parsers", &self.query_parsers));
        all.extend(list("mirroring", &self.mirroring));
        all.extend(list("plugins", &self.plugins));
        all
    }
}

/// Finds lines by byte offset.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Lines {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|&newline| newline < offset) + 1
    }
}

/// Reads one file into `config`, which may hold defaults and other files' values already. False if parts of the file
/// could not be told apart.
pub(crate) fn read_file(
    config: &mut Config,
    kind: FileKind,
    file: &str,
    text: &str,
    places: &mut Places,
    problems: &mut Vec<Problem>,
) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, lines: Lines::new(text), places, problems: Vec::new() };
    reader.document(config, kind, document.get_ref());
    let mut found = reader.problems;
    let lines = reader.lines;
    let broken: Vec<Problem> = errors
        .iter()
        .map(|error| {
            let line = error.span().map(|span| lines.at(span.start));
            Place::new(file, line).error(error.message().replace('\n', ", "))
        })
        .collect();
    // What the parser made up for a broken line would only be a second message about the same mistake.
    found.retain(|problem| broken.iter().all(|error| error.line != problem.line));
    found.extend(broken);
    found.sort_by_key(|problem| problem.line);
    found.dedup();
    problems.extend(found);
    errors.is_empty()
}

struct Reader<'r> {
    file: &'r str,
    lines: Lines,
    places: &'r mut Places,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        Place::new(self.file, Some(self.lines.at(offset)))
    }

    fn error(&mut self, offset: usize, text: String) {
        let place = self.place(offset);
        self.problems.push(place.error(text));
    }

    fn document(&mut self, config: &mut Config, kind: FileKind, document: &DeTable<'_>) {
        let (allowed, other): (&[&str], &str) = match kind {
            FileKind::Pgdog => (&PGDOG_SECTIONS, "users.toml"),
            FileKind::Users => (&USERS_SECTIONS, "pgdog.toml"),
        };
        for (key, value) in document.iter() {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let Some((section, target)) = target(config, name) else {
                self.unknown_section(config, name, at, value, allowed);
                continue;
            };
            if !allowed.contains(&section) {
                self.error(at, format!("[{section}] belongs in {other}"));
                continue;
            }
            if section == "admin" && kind == FileKind::Users && self.places.contains("admin", 0, "") {
                let place = self.place(at);
                self.problems.push(place.warning("[admin] is in both files; the values here are used"));
            }
            self.section(section, target, value);
        }
    }

    fn unknown_section(
        &mut self,
        config: &Config,
        name: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        allowed: &[&'static str],
    ) {
        let bare = !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        let text = if bare && config.general.canonical(name).is_some() {
            format!("`{name}` stands outside of a table; it belongs under [general]")
        } else {
            match nearest(name, allowed.iter().copied()) {
                Some(near) => format!("[{name}] is not a known table; did you mean [{near}]?"),
                None => format!("[{name}] is not a known table; there are {}", allowed.join(", ")),
            }
        };
        self.error(at, text);
    }

    fn section(&mut self, name: &'static str, target: Target<'_>, value: &Spanned<DeValue<'_>>) {
        let at = value.span().start;
        match (target, value.get_ref()) {
            (Target::Single(section), DeValue::Table(table)) => self.table(name, 0, section, table, at),
            (Target::List(tables), DeValue::Array(items)) => {
                for item in items.iter() {
                    let at = item.span().start;
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            let (index, section) = tables.add();
                            self.table(name, index, section, table, at);
                        }
                        _ => self.error(at, format!("each entry of [[{name}]] must be a table")),
                    }
                }
            }
            (Target::Single(_), _) => self.error(at, format!("[{name}] must be one table, written [{name}]")),
            (Target::List(_), _) => {
                self.error(at, format!("[{name}] is a list of tables, each written [[{name}]]"))
            }
        }
    }

    fn table(
        &mut self,
        name: &'static str,
        index: usize,
        section: &mut dyn Section,
        table: &DeTable<'_>,
        at: usize,
    ) {
        let place = self.place(at);
        self.places.insert(name, index, "", place);
        let mut seen: Vec<&'static str> = Vec::new();
        for (key, value) in table.iter() {
            let at = key.span().start;
            let key = key.get_ref().as_ref();
            if let Some(canonical) = section.canonical(key) {
                if seen.contains(&canonical) {
                    self.error(at, format!("[{name}]: `{canonical}` is set twice, once by its other name"));
                    continue;
                }
                seen.push(canonical);
                let place = self.place(at);
                self.places.insert(name, index, canonical, place);
            }
            for fault in section.set(key, Raw::Toml(value)).err().unwrap_or_default() {
                self.error(fault.offset.unwrap_or(at), format!("[{name}]: `{key}` {}", fault.text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: FileKind, text: &str) -> (Config, Places, Vec<String>) {
        let (mut config, mut places, mut problems) = (Config::default(), Places::default(), Vec::new());
        read_file(&mut config, kind, "f", text, &mut places, &mut problems);
        (config, places, problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn values_arrive() {
        let text = "[general]\nport = 1\nmax_pool_size = 3\nquery_timeout = 50\nauth_type = 'md5'\n\
                    [[databases]]\nname = 'a'\nhost = 'h'\n[[databases]]\nname = 'b'\nhost = 'i'\npool_size = 2\n\
                    [otel]\nheaders = { key = 'v' }\n";
        let (config, places, problems) = read(FileKind::Pgdog, text);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((config.general.port, config.general.default_pool_size), (1, 3));
        assert_eq!(config.general.query_timeout, Some(std::time::Duration::from_millis(50)));
        assert_eq!(config.general.auth_type, crate::config::AuthType::Md5);
        assert_eq!(config.databases[1].pool_size, Some(2));
        assert_eq!(places.find("general", 0, "default_pool_size").line, Some(3));
        assert_eq!(places.find("databases", 1, "").line, Some(9));
        assert_eq!(places.find("databases", 1, "pool_size").line, Some(12));
        assert_eq!(places.find("databases", 1, "shard").line, Some(9));
    }

    #[test]
    fn mappings_arrive() {
        let text = "[[sharded_tables]]\ndatabase = 'a'\ncolumn = 'id'\ncentroids = [[1, 2.5]]\n\
                    mapping = [{ shard = 0, values = [1, 'x'] }, { shard = 1, start = 5 }]\n\
                    [[sharded_tables.mapping]]\nshard = 2\n";
        let (_, _, problems) = read(FileKind::Pgdog, text);
        assert_eq!(problems.len(), 1, "an inline list cannot be extended: {problems:?}");
        let text =
            "[[sharded_tables]]\ndatabase = 'a'\n[[sharded_tables.mapping]]\nshard = 2\nvalues = [1, 'x']\n";
        let (config, _, problems) = read(FileKind::Pgdog, text);
        assert_eq!(problems, Vec::<String>::new());
        use crate::config::KeyValue::{Number, Text};
        assert_eq!(config.sharded_tables[0].mapping[0].values, [Number(1), Text("x".to_owned())]);
    }

    #[test]
    fn every_problem_has_its_line() {
        let cases: [(FileKind, &str, &[&str]); 12] = [
            (
                FileKind::Pgdog,
                "[general]\nprot = 1\nport = 70000\nzzzzzz = 1\nauth_type = 'scrum'\nhost = 5\n",
                &[
                    "f:2: error: [general]: `prot` is not a known key; did you mean `port`?",
                    "f:3: error: [general]: `port` must be a whole number from 0 to 65535, not 70000",
                    "f:4: error: [general]: `zzzzzz` is not a known key",
                    "f:5: error: [general]: `auth_type` must be one of scram, md5, trust, plain, not \"scrum\"",
                    "f:6: error: [general]: `host` must be a string in quotes, not a number",
                ],
            ),
            (
                FileKind::Pgdog,
                "[general]\nmax_pool_size = 1\ndefault_pool_size = 2\n",
                &["f:2: error: [general]: `default_pool_size` is set twice, once by its other name"],
            ),
            (
                FileKind::Pgdog,
                "\n[genral]\nport = 1\n",
                &["f:2: error: [genral] is not a known table; did you mean [general]?"],
            ),
            (
                FileKind::Pgdog,
                "port = 1\n",
                &["f:1: error: `port` stands outside of a table; it belongs under [general]"],
            ),
            (FileKind::Pgdog, "[[users]]\nname = 'a'\n", &["f:1: error: [users] belongs in users.toml"]),
            (
                FileKind::Users,
                "[[databases]]\nname = 'a'\n",
                &["f:1: error: [databases] belongs in pgdog.toml"],
            ),
            (
                FileKind::Pgdog,
                "[databases]\nname = 'a'\n",
                &["f:1: error: [databases] is a list of tables, each written [[databases]]"],
            ),
            (
                FileKind::Pgdog,
                "[[general]]\n",
                &["f:1: error: [general] must be one table, written [general]"],
            ),
            (
                FileKind::Pgdog,
                "databases = [1]\n",
                &["f:1: error: each entry of [[databases]] must be a table"],
            ),
            (
                FileKind::Users,
                "[[users]]\nname = 'a'\npasswords = [\n  'x',\n  5,\n]\n",
                &[
                    "f:5: error: [users]: `passwords` (an entry of this list) must be a string in quotes, not a number",
                ],
            ),
            (
                FileKind::Pgdog,
                "[[sharded_tables]]\n[[sharded_tables.mapping]]\nshard = 'x'\nshrad = 1\n",
                &[
                    "f:3: error: [sharded_tables]: `mapping` (an entry of this list) `shard` must be a whole number",
                    "f:4: error: [sharded_tables]: `mapping` (an entry of this list) `shrad` is not a known key; did you mean `shard`?",
                ],
            ),
            (
                FileKind::Pgdog,
                "[qos]\nenabled = 'x'\n",
                &["f:2: error: [qos]: `enabled` must be true or false"],
            ),
        ];
        for (kind, text, expected) in cases {
            let (_, _, problems) = read(kind, text);
            assert_eq!(problems.len(), expected.len(), "{text}: {problems:#?}");
            for (found, expected) in problems.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found:?} should begin with {expected:?}");
            }
        }
    }

    #[test]
    fn all_syntax_errors_and_what_follows() {
        let text = "[general]\nport = \nhost = \"0.0.0.0\nworkers = 2\nwrokers = 2\n";
        let (_, _, problems) = read(FileKind::Pgdog, text);
        let lines: Vec<&str> = problems.iter().map(|problem| &problem[..10]).collect();
        assert_eq!(lines, ["f:2: error", "f:3: error", "f:5: error"], "{problems:#?}");
        assert!(problems[2].contains("did you mean `workers`"));
    }

    #[test]
    fn no_secret_in_messages() {
        let text = "[[users]]\nname = 'a'\npassword = 'hunter2\n[[users]]\npassword = ['hunter2']\npasswords = 'hunter2'\n\
                    server_password = hunter2\n";
        let (config, _, problems) = read(FileKind::Users, text);
        assert!(problems.len() >= 3);
        assert!(!format!("{problems:?} {config:?}").contains("hunter2"), "{problems:?}");
    }
}
