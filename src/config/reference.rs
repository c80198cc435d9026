//! The documented reference, as pgdog.toml and users.toml at the root of the repository hold it.
//!
//! Written from the same lists that the keys come from, so that it cannot say anything else than the code does.

use super::section::{Key, Section};
use super::{
    Admin, Config, Database, DatabaseParser, Hba, Mirroring, OmnishardedTables, Plugin, ShardedMapping,
    ShardedSchema, ShardedTable, User,
};

const PGDOG_HEAD: &str = "\
Configuration of pgdog: every key with its default. Lines that begin with # are not in force; a key without a value \
is unset by default. Times are whole milliseconds, sizes are bytes. An unknown key is an error.";

const USERS_HEAD: &str = "\
Users of pgdog: every key with its default. Lines that begin with # are not in force; a key without a value is unset \
by default. Times are whole milliseconds. A user's value counts before its database's, and that before the general \
one. This file holds passwords: only the user that pgdog runs as should be able to read it.";

/// What stands in force, as the smallest configuration that works.
const EXAMPLE: [(&str, &str, &str); 5] = [
    ("databases", "name", "\"app\""),
    ("databases", "host", "\"127.0.0.1\""),
    ("users", "name", "\"app\""),
    ("users", "database", "\"app\""),
    ("users", "password", "\"change me\""),
];

/// The text of pgdog.toml.
pub fn pgdog_toml() -> String {
    let config = Config::default();
    let mut page = Page::new(PGDOG_HEAD);
    page.table("general", false, &config.general);
    page.table("databases", true, &Database::default());
    page.table("hba", true, &Hba::default());
    page.table("admin", false, &config.admin);
    page.table("tcp", false, &config.tcp);
    page.table("memory", false, &config.memory);
    page.table("rewrite", false, &config.rewrite);
    page.table("multi_tenant", false, &config.multi_tenant);
    page.table("sharded_tables", true, &ShardedTable::default());
    page.table("sharded_mappings", true, &ShardedMapping::default());
    page.table("omnisharded_tables", true, &OmnishardedTables::default());
    page.table("sharded_schemas", true, &ShardedSchema::default());
    page.table("query_parsers", true, &DatabaseParser::default());
    page.table("mirroring", true, &Mirroring::default());
    page.table("plugins", true, &Plugin::default());
    page.table("replication", false, &config.replication);
    page.table("replica_lag", false, &config.replica_lag);
    page.table("otel", false, &config.otel);
    page.table("vault", false, &config.vault);
    page.table("qos", false, &config.qos);
    page.table("control", false, &config.control);
    page.0
}

/// The text of users.toml.
pub fn users_toml() -> String {
    let mut page = Page::new(USERS_HEAD);
    page.table("users", true, &User::default());
    page.line("# The console's user can be here instead of in pgdog.toml.");
    page.line("# [admin]");
    for key in Admin::default().keys() {
        page.key("", &Admin::default(), key);
    }
    page.0
}

/// A file while it is written.
struct Page(String);

impl Page {
    fn new(head: &str) -> Page {
        let mut page = Page(String::new());
        page.comment(head);
        page.line("");
        page
    }

    fn table(&mut self, name: &str, repeated: bool, section: &dyn Section) {
        for about in section.about() {
            self.comment(about);
        }
        let header = if repeated { format!("[[{name}]]") } else { format!("[{name}]") };
        // An empty list entry would be a database without a name.
        let in_force = !repeated || EXAMPLE.iter().any(|(table, _, _)| *table == name);
        self.line(&if in_force { header } else { format!("# {header}") });
        let mut group = "";
        for key in section.keys() {
            if key.group != group {
                group = key.group;
                self.line("");
                self.line(&format!("## {group}"));
            }
            self.key(name, section, key);
        }
        self.line("");
    }

    fn key(&mut self, table: &str, section: &dyn Section, key: &Key) {
        for sentence in key.doc {
            self.comment(sentence);
        }
        if !key.choices.is_empty() {
            self.comment(&format!("One of {}.", key.choices.join(", ")));
        }
        for alias in key.alias {
            self.comment(&format!("Also named {alias}."));
        }
        let example = EXAMPLE.iter().find(|(of, name, _)| *of == table && *name == key.name);
        let line = match (example, section.shown(key.name).toml()) {
            (Some((_, name, value)), _) => format!("{name} = {value}"),
            (None, Some(value)) => format!("# {} = {value}", key.name),
            (None, None) => format!("# {} =", key.name),
        };
        self.line(&line);
    }

    /// A sentence, broken at 100 columns.
    fn comment(&mut self, text: &str) {
        const COLUMNS: usize = 100;
        let mut line = String::from("#");
        for word in text.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > COLUMNS {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problem;
    use crate::config::load::{Sources, Text, build};

    const PGDOG: &str = include_str!("../../pgdog.toml");
    const USERS: &str = include_str!("../../users.toml");

    /// `cargo test write_the_reference -- --ignored` writes the two files anew after a change of keys.
    #[test]
    #[ignore = "writes pgdog.toml and users.toml"]
    fn write_the_reference() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::write(root.join("pgdog.toml"), pgdog_toml()).expect("pgdog.toml can be written");
        std::fs::write(root.join("users.toml"), users_toml()).expect("users.toml can be written");
    }

    #[test]
    fn files_and_code_are_equal() {
        let hint = "run: cargo test write_the_reference -- --ignored";
        assert!(PGDOG == pgdog_toml(), "pgdog.toml differs from the keys; {hint}");
        assert!(USERS == users_toml(), "users.toml differs from the keys; {hint}");
    }

    fn read(pgdog: &str, users: &str) -> (Config, Vec<String>) {
        let sources = Sources {
            config: Some(Text { file: "pgdog.toml", text: pgdog }),
            users: Some(Text { file: "users.toml", text: users }),
            ..Sources::default()
        };
        let loaded = build(&sources);
        (loaded.config, loaded.problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn the_example_works() {
        let (config, problems) = read(PGDOG, USERS);
        assert_eq!(problems, Vec::<String>::new());
        assert!(config.database("app").is_some() && config.user("app", "app").is_some());
    }

    /// With every line in force that has a value, all tables have their defaults but for the example.
    #[test]
    fn the_defaults_are_the_defaults() {
        let enforce = |text: &str| -> String {
            let line = |line: &str| {
                let bare = line.strip_prefix("# ").unwrap_or(line);
                let key = bare.split(' ').next().unwrap_or_default();
                let is_key =
                    bare[key.len()..].starts_with(" = ") && !key.contains(|c: char| c.is_uppercase());
                let is_header = bare.starts_with('[') && bare.ends_with(']');
                if is_key || is_header { bare.to_owned() } else { "#".to_owned() }
            };
            text.lines().map(line).collect::<Vec<_>>().join("\n")
        };
        let (pgdog, users) = (enforce(PGDOG), enforce(USERS));
        let (config, problems) = read(&pgdog, &users);
        for problem in &problems {
            let expected = ["sharded", "is not in this version", "[admin] is in both files", "not in use"];
            assert!(expected.iter().any(|text| problem.contains(text)), "{problem}");
        }
        for (name, index, table) in config.tables() {
            let example: Vec<&str> =
                EXAMPLE.iter().filter(|(of, _, _)| *of == name).map(|(_, key, _)| *key).collect();
            assert_eq!(table.non_default(), example, "{name} {index:?}");
        }
        assert_eq!(config.tables().len(), crate::config::tests::one_of_each().tables().len());
    }

    #[test]
    fn every_key_is_there_once() {
        for (name, _, table) in crate::config::tests::one_of_each().tables() {
            let text = if name == "users" { USERS } else { PGDOG };
            let header = |line: &&str| {
                line.trim_start_matches("# ").trim_matches(['[', ']']) == name && line.ends_with(']')
            };
            let body: Vec<&str> = text
                .lines()
                .skip_while(|line| !header(line))
                .skip(1)
                .take_while(|line| !(line.trim_start_matches("# ").starts_with('[') && line.ends_with(']')))
                .collect();
            for key in table.keys() {
                let is_key = |line: &&&str| {
                    let line = line.trim_start_matches("# ");
                    line.strip_prefix(key.name).is_some_and(|rest| rest == " =" || rest.starts_with(" = "))
                };
                assert_eq!(body.iter().filter(is_key).count(), 1, "{name}.{}", key.name);
            }
        }
    }
}
