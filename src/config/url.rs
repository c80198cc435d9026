//! Databases given as URLs: `postgres://user:password@host:port/name?parameter=value`.

use super::Config;
use super::lists::{Database, User};
use super::problem::{Place, Problem};
use super::read::Places;
use super::secret::Secret;
use super::section::Section;
use super::value::Raw;

/// The keys of a database that a URL can set.
const PARAMETERS: [&str; 13] = [
    "database_name",
    "role",
    "shard",
    "user",
    "password",
    "pool_size",
    "min_pool_size",
    "pooler_mode",
    "statement_timeout",
    "idle_timeout",
    "read_only",
    "server_lifetime",
    "server_lifetime_jitter",
];

/// Adds the database and user of a URL. Nothing of the URL is repeated in a problem but names of parameters.
pub(crate) fn add(
    config: &mut Config,
    url: &str,
    place: &Place,
    places: &mut Places,
    problems: &mut Vec<Problem>,
) {
    match parse(url) {
        Err(faults) => problems.extend(faults.into_iter().map(|fault| place.error(fault))),
        Ok((database, user)) => {
            places.insert("databases", config.databases.len(), "", place.clone());
            config.databases.push(database);
            // A second URL for the same database is another shard or replica, with the same user.
            if !config.users.contains(&user) {
                places.insert("users", config.users.len(), "", place.clone());
                config.users.push(user);
            }
        }
    }
}

/// Reads one URL; an error for each thing wrong with it.
pub(crate) fn parse(url: &str) -> Result<(Database, User), Vec<String>> {
    const FORM: &str = "the form is postgres://user:password@host:port/database";
    let one = |text: &str| vec![text.to_owned()];

    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some(rest) = rest else {
        return Err(vec![format!("the URL does not begin with postgres://; {FORM}")]);
    };
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some((authority, path)) = rest.split_once('/') else {
        return Err(vec![format!("the URL names no database; {FORM}")]);
    };
    // A password may contain an @ that somebody forgot to encode; a host cannot.
    let Some((login, address)) = authority.rsplit_once('@') else {
        return Err(vec![format!("the URL names no user; {FORM}")]);
    };
    let (name, password) = match login.split_once(':') {
        Some((name, password)) => (name, Some(password)),
        None => (login, None),
    };
    let (host, port) =
        split_address(address).ok_or_else(|| one("the URL's address is not host or host:port"))?;

    let mut faults = Vec::new();
    let mut text = |part: &str, what: &str| match decode(part) {
        Some(text) if text.contains('\0') => {
            faults.push(format!("the URL's {what} contains a NUL character"));
            String::new()
        }
        Some(text) => text,
        None => {
            faults.push(format!("the URL's {what} has a broken % escape"));
            String::new()
        }
    };
    let mut database =
        Database { name: text(path, "database"), host: text(host, "host"), ..Database::default() };
    let user = User {
        name: text(name, "user"),
        password: password.map(|password| Secret::new(text(password, "password"))),
        database: Some(database.name.clone()),
        ..User::default()
    };
    for (what, value) in [("database", &database.name), ("host", &database.host), ("user", &user.name)] {
        if value.is_empty() && faults.is_empty() {
            faults.push(format!("the URL names no {what}; {FORM}"));
        }
    }
    if let Some(port) = port {
        match port.parse() {
            Ok(port) => database.port = port,
            Err(_) => faults.push("the URL's port must be a whole number from 0 to 65535".to_owned()),
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !PARAMETERS.contains(&key) {
            let key: String = key.chars().take(64).collect();
            faults.push(format!("the URL's parameter {key:?} is not one of {}", PARAMETERS.join(", ")));
            continue;
        }
        match decode(value) {
            None => faults.push(format!("the URL's {key} has a broken % escape")),
            Some(value) => {
                let refused = database.set(key, Raw::Text(&value)).err().unwrap_or_default();
                faults.extend(refused.into_iter().map(|fault| format!("the URL's {key} {}", fault.text)));
            }
        }
    }
    if faults.is_empty() { Ok((database, user)) } else { Err(faults) }
}

/// Host and port; an IPv6 address stands in square brackets.
fn split_address(address: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match address.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((address, None)),
    }
}

/// Replaces `%41` by `A`. `None` for a broken escape or a result that is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PoolerMode, Role};
    use std::time::Duration;

    #[test]
    fn plain() {
        let (database, user) =
            parse("postgres://al%40ice:p%3Aw%2F%25@db.example:5433/app").expect("a good URL");
        assert_eq!(
            (database.name.as_str(), database.host.as_str(), database.port),
            ("app", "db.example", 5433)
        );
        assert_eq!((user.name.as_str(), user.database.as_deref()), ("al@ice", Some("app")));
        assert_eq!(user.password, Some(Secret::new("p:w/%")));
    }

    #[test]
    fn addresses() {
        let cases = [
            ("postgresql://u@h/d", "h", 5432),
            ("postgres://u@[::1]:7/d", "::1", 7),
            ("postgres://u@[fe80::1]/d", "fe80::1", 5432),
            ("postgres://u:a@b@h/d#x", "h", 5432),
        ];
        for (url, host, port) in cases {
            let (database, _) = parse(url).expect(url);
            assert_eq!((database.host.as_str(), database.port), (host, port), "{url}");
        }
    }

    #[test]
    fn parameters() {
        let url = "postgres://u@h/d?database_name=real&role=replica&shard=2&user=s&password=%78&pool_size=3\
                   &min_pool_size=1&pooler_mode=session&statement_timeout=5&idle_timeout=6&read_only=true\
                   &server_lifetime=7&server_lifetime_jitter=8";
        let (database, _) = parse(url).expect("a good URL");
        let expected = Database {
            name: "d".to_owned(),
            host: "h".to_owned(),
            database_name: Some("real".to_owned()),
            role: Role::Replica,
            shard: 2,
            user: Some("s".to_owned()),
            password: Some(Secret::new("x")),
            pool_size: Some(3),
            min_pool_size: Some(1),
            pooler_mode: Some(PoolerMode::Session),
            statement_timeout: Some(Duration::from_millis(5)),
            idle_timeout: Some(Duration::from_millis(6)),
            read_only: Some(true),
            server_lifetime: Some(Duration::from_millis(7)),
            server_lifetime_jitter: Some(Duration::from_millis(8)),
            ..Database::default()
        };
        assert_eq!(database, expected);
    }

    #[test]
    fn faults() {
        let cases = [
            ("mysql://u:hunter2@h/d", "does not begin with postgres://"),
            ("postgres://u:hunter2@h", "names no database"),
            ("postgres://u:hunter2@h/", "names no database"),
            ("postgres://h/d", "names no user"),
            ("postgres://:hunter2@h/d", "names no user"),
            ("postgres://u:hunter2@/d", "names no host"),
            ("postgres://u:hunter2@h:x/d", "port must be"),
            ("postgres://u:hunter2@h:1:2/d", "address is not"),
            ("postgres://u:hunter2@[::1/d", "address is not"),
            ("postgres://u:hunter2%4@h/d", "password has a broken % escape"),
            ("postgres://u:hunter2%ff@h/d", "password has a broken % escape"),
            ("postgres://u:hunter2%00@h/d", "contains a NUL"),
            ("postgres://u:hunter2@h/d?sslmode=require", "parameter \"sslmode\" is not one of"),
            ("postgres://u:hunter2@h/d?shard=x", "shard must be a whole number"),
        ];
        for (url, expected) in cases {
            let faults = parse(url).err().unwrap_or_default().join("; ");
            assert!(faults.contains(expected), "{url}: {faults:?}");
            assert!(!faults.contains("hunter2"), "{faults}");
        }
    }

    #[test]
    fn second_url_shares_its_user() {
        let (mut config, mut places, mut problems) = (Config::default(), Places::default(), Vec::new());
        let place = Place::new("command line", None);
        for url in ["postgres://u:p@a/d", "postgres://u:p@b/d?role=replica", "bad"] {
            add(&mut config, url, &place, &mut places, &mut problems);
        }
        assert_eq!((config.databases.len(), config.users.len(), problems.len()), (2, 1, 1));
    }
}
