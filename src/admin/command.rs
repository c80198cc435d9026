//! Commands as they are typed: words separated by white space, in any case of letters, perhaps a semicolon.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A table, perhaps only some of its columns.
    Show(Show, Vec<String>),
    /// A parameter of the connection, as drivers ask for it.
    ShowParameter(String),
    Pause(Scope),
    Resume(Scope),
    Reconnect,
    Reload,
    Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Clients,
    Config,
    Listeners,
    Pools,
    Servers,
    Stats,
    Version,
}

/// Which pools a command is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub user: Option<String>,
    pub database: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

const NOT_YET: &[&str] = &[
    "BAN",
    "UNBAN",
    "HEALTHCHECK",
    "MAINTENANCE",
    "PROBE",
    "RESET",
    "SETUP",
    "RESHARD",
    "SCHEMA_SYNC",
    "COPY_DATA",
    "REPLICATE",
    "STOP_TASK",
    "CUTOVER",
    "SET",
];

const SHOW_NOT_YET: &[&str] = &[
    "BANS",
    "PEERS",
    "QUERY_CACHE",
    "PREPARED",
    "TRANSACTIONS",
    "MIRRORS",
    "INSTANCE_ID",
    "LISTS",
    "REPLICATION",
    "REPLICATION_SLOTS",
    "SCHEMA_SYNC",
    "TABLE_COPIES",
    "TASKS",
    "SERVER",
    "CLIENT",
];

pub fn parse(text: &str) -> Result<Option<Command>, Fault> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
    let Some((verb, rest)) = words.split_first() else { return Ok(None) };
    let command = match verb.to_ascii_uppercase().as_str() {
        "SHOW" => show(rest)?,
        "PAUSE" => Command::Pause(scope(rest)?),
        "RESUME" => Command::Resume(scope(rest)?),
        "RECONNECT" => alone(Command::Reconnect, rest)?,
        "RELOAD" => alone(Command::Reload, rest)?,
        "SHUTDOWN" => alone(Command::Shutdown, rest)?,
        verb if NOT_YET.contains(&verb) => return Err(Fault(format!("{verb} is not in this version"))),
        verb => return Err(Fault(format!("syntax error: unknown command {verb:?}"))),
    };
    Ok(Some(command))
}

fn show(words: &[&str]) -> Result<Command, Fault> {
    let Some((what, columns)) = words.split_first() else {
        return Err(Fault("syntax error: SHOW what?".into()));
    };
    let columns = columns.iter().map(|column| column.to_ascii_lowercase()).collect();
    let show = match what.to_ascii_uppercase().as_str() {
        "CLIENTS" => Show::Clients,
        "CONFIG" => Show::Config,
        "LISTENERS" => Show::Listeners,
        "POOLS" => Show::Pools,
        "SERVERS" => Show::Servers,
        "STATS" => Show::Stats,
        "VERSION" => Show::Version,
        what if SHOW_NOT_YET.contains(&what) => {
            return Err(Fault(format!("SHOW {what} is not in this version")));
        }
        _ => return Ok(Command::ShowParameter(what.to_ascii_lowercase())),
    };
    Ok(Command::Show(show, columns))
}

fn scope(words: &[&str]) -> Result<Scope, Fault> {
    let own = |word: &str| Some(word.trim_matches('"').to_owned());
    match words {
        [] => Ok(Scope::default()),
        [database] => Ok(Scope { user: None, database: own(database) }),
        [user, database] => Ok(Scope { user: own(user), database: own(database) }),
        _ => Err(Fault("syntax error: expected at most a user and a database".into())),
    }
}

fn alone(command: Command, rest: &[&str]) -> Result<Command, Fault> {
    match rest {
        [] => Ok(command),
        [word, ..] => Err(Fault(format!("syntax error at or near {word:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(parse(" ;"), Ok(None));
        assert_eq!(parse("show Pools;"), Ok(Some(Command::Show(Show::Pools, vec![]))));
        let columns = vec!["id".to_owned(), "state".to_owned()];
        assert_eq!(parse("SHOW CLIENTS id, State"), Ok(Some(Command::Show(Show::Clients, columns))));
        assert_eq!(parse("SHOW server_version"), Ok(Some(Command::ShowParameter("server_version".into()))));
        let scope = Scope { user: Some("u".into()), database: Some("d".into()) };
        assert_eq!(parse("pause u d"), Ok(Some(Command::Pause(scope))));
        assert_eq!(parse("RECONNECT"), Ok(Some(Command::Reconnect)));
        for bad in ["frobnicate", "SHOW", "RELOAD now", "PAUSE a b c", "BAN 1", "show bans"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
