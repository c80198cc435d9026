//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use lexopt::prelude::*;

use super::secret::Secret;

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args {
    /// `pgdog.toml` in the current directory unless given.
    pub config: Option<PathBuf>,
    /// `users.toml` in the current directory unless given.
    pub users: Option<PathBuf>,
    /// Contain passwords.
    pub database_urls: Vec<Secret>,
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Run(RunFlags),
    /// Check the files and leave.
    ConfigCheck,
    /// Print the SCRAM verifier of a password; asked for if not given.
    Hash(Option<Secret>),
    Version,
    Help,
}

impl Default for Command {
    fn default() -> Command {
        Command::Run(RunFlags::default())
    }
}

/// What comes before the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunFlags {
    pub pool_size: Option<usize>,
    pub min_pool_size: Option<usize>,
    pub session_mode: bool,
}

/// Why a command line cannot be used. Does not repeat URLs or passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// Something that we do not know, named.
    Unknown(String),
    /// A subcommand that is known but not there yet.
    NotInThisVersion(&'static str),
    /// A flag of another subcommand.
    Misplaced { flag: &'static str, command: &'static str },
    /// A flag without its value, or with one that makes no sense.
    BadValue(String),
    /// More arguments than the subcommand takes.
    TooMany(&'static str),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsageError::Unknown(what) => write!(f, "{what} is not known")?,
            UsageError::NotInThisVersion(command) => {
                return write!(f, "the subcommand {command} is not in this version");
            }
            UsageError::Misplaced { flag, command } => write!(f, "{flag} does not belong to {command}")?,
            UsageError::BadValue(what) => f.write_str(what)?,
            UsageError::TooMany(command) => write!(f, "too many arguments for {command}")?,
        }
        f.write_str("; pgdog --help shows what there is")
    }
}

impl std::error::Error for UsageError {}

/// The answer to `--help`.
pub const HELP: &str = "\
pgdog: connection pooler, load balancer and sharding router for PostgreSQL

Usage: pgdog [OPTIONS] [COMMAND]

Commands:
  run                 Serve clients (the default)
  configcheck         Check the configuration; the exit code is 0 if it can be used
  hash [PASSWORD]     Print the SCRAM-SHA-256 verifier of a password for password_hash;
                      the password is read from standard input unless it is given

Options:
  -c, --config FILE         Configuration (pgdog.toml)
  -u, --users FILE          Users (users.toml)
  -d, --database-url URL    Add a database and its user; may be repeated:
                            postgres://user:password@host:port/database?pool_size=5
  -h, --help                Show this
  -V, --version             Show the version

Options of run, which come before the files:
  -p, --pool-size N         default_pool_size
  -m, --min-pool-size N     min_pool_size
  -s, --session-mode        pooler_mode = \"session\"

Signals:
  SIGHUP                    Read the configuration again
  SIGINT, SIGTERM           Stop when clients have finished their transactions
";

/// Known subcommands that do nothing yet.
const LATER: [&str; 5] = ["route", "schema-sync", "data-sync", "replicate-and-cutover", "setup"];

/// Reads the arguments that follow the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, UsageError> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut args = Args::default();
    let mut name = None;
    let mut operands = Vec::new();
    let mut flags = RunFlags::default();
    let mut run_flag = None;
    loop {
        match parser.next().map_err(broken)? {
            None => break,
            Some(Short('c') | Long("config")) => args.config = Some(value(&mut parser, "--config")?.into()),
            Some(Short('u') | Long("users")) => args.users = Some(value(&mut parser, "--users")?.into()),
            Some(Short('d') | Long("database-url")) => {
                args.database_urls.push(text(value(&mut parser, "--database-url")?, "--database-url")?);
            }
            Some(Short('p') | Long("pool-size")) => {
                run_flag = Some("--pool-size");
                flags.pool_size = Some(number(&mut parser, "--pool-size")?);
            }
            Some(Short('m') | Long("min-pool-size")) => {
                run_flag = Some("--min-pool-size");
                flags.min_pool_size = Some(number(&mut parser, "--min-pool-size")?);
            }
            Some(Short('s') | Long("session-mode")) => {
                run_flag = Some("--session-mode");
                flags.session_mode = true;
            }
            Some(Short('h') | Long("help")) => return Ok(Args { command: Command::Help, ..args }),
            Some(Short('V') | Long("version")) => return Ok(Args { command: Command::Version, ..args }),
            Some(Short(flag)) => return Err(UsageError::Unknown(format!("-{flag}"))),
            Some(Long(flag)) => {
                // The flags of a subcommand that is not there yet are none of ours.
                let flag = flag.to_owned();
                later(name.as_deref())?;
                return Err(UsageError::Unknown(format!("--{flag}")));
            }
            Some(Value(word)) => match name {
                None => name = Some(word.to_string_lossy().into_owned()),
                Some(_) => operands.push(word),
            },
        }
    }
    later(name.as_deref())?;
    let (command, operand_count_max) = match name.as_deref() {
        None | Some("run") => ("run", 0),
        Some("configcheck") => ("configcheck", 0),
        Some("hash") => ("hash", 1),
        Some("help") => ("help", 0),
        Some(other) => return Err(UsageError::Unknown(format!("the subcommand {other:?}"))),
    };
    if operands.len() > operand_count_max {
        return Err(UsageError::TooMany(command));
    }
    if let Some(flag) = run_flag.filter(|_| command != "run") {
        return Err(UsageError::Misplaced { flag, command });
    }
    args.command = match command {
        "configcheck" => Command::ConfigCheck,
        "hash" => Command::Hash(operands.pop().map(|word| text(word, "the password")).transpose()?),
        "help" => Command::Help,
        _ => Command::Run(flags),
    };
    Ok(args)
}

fn later(name: Option<&str>) -> Result<(), UsageError> {
    match LATER.iter().find(|later| Some(**later) == name) {
        Some(later) => Err(UsageError::NotInThisVersion(later)),
        None => Ok(()),
    }
}

/// What lexopt finds: a value for a flag that has none. The value is not repeated.
fn broken(error: lexopt::Error) -> UsageError {
    UsageError::BadValue(match error {
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        _ => "the arguments cannot be read".to_owned(),
    })
}

fn value(parser: &mut lexopt::Parser, flag: &str) -> Result<OsString, UsageError> {
    parser.value().map_err(|_| UsageError::BadValue(format!("{flag} needs a value")))
}

fn number(parser: &mut lexopt::Parser, flag: &str) -> Result<usize, UsageError> {
    let value = value(parser, flag)?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| UsageError::BadValue(format!("{flag} must be a whole number")))
}

fn text(word: OsString, what: &str) -> Result<Secret, UsageError> {
    match word.into_string() {
        Ok(text) => Ok(Secret::new(text)),
        Err(_) => Err(UsageError::BadValue(format!("{what} is not valid UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn accepted() {
        let run = |pool_size, min_pool_size, session_mode| {
            Command::Run(RunFlags { pool_size, min_pool_size, session_mode })
        };
        let cases = [
            ("", run(None, None, false)),
            ("run", run(None, None, false)),
            ("run -p 5 -m 2 -s", run(Some(5), Some(2), true)),
            ("--pool-size=5", run(Some(5), None, false)),
            ("configcheck", Command::ConfigCheck),
            ("hash", Command::Hash(None)),
            ("hash hunter2", Command::Hash(Some(Secret::new("hunter2")))),
            ("hash -- -x", Command::Hash(Some(Secret::new("-x")))),
            ("--version", Command::Version),
            ("-V", Command::Version),
            ("run --help", Command::Help),
            ("help", Command::Help),
        ];
        for (line, command) in cases {
            assert_eq!(read(line).map(|args| args.command), Ok(command), "{line}");
        }
        let args = read("-c a.toml run --users=b.toml -d x -d y").expect("good arguments");
        assert_eq!((args.config, args.users), (Some("a.toml".into()), Some("b.toml".into())));
        assert_eq!(args.database_urls, [Secret::new("x"), Secret::new("y")]);
    }

    #[test]
    fn refused() {
        let cases = [
            ("serve", "the subcommand \"serve\" is not known"),
            ("route --user u --file f", "the subcommand route is not in this version"),
            ("setup --database d", "the subcommand setup is not in this version"),
            ("schema-sync", "the subcommand schema-sync is not in this version"),
            ("data-sync --sync-only", "the subcommand data-sync is not in this version"),
            ("replicate-and-cutover", "the subcommand replicate-and-cutover is not in this version"),
            ("--nope", "--nope is not known"),
            ("-x", "-x is not known"),
            ("run -p", "--pool-size needs a value"),
            ("run -p many", "--pool-size must be a whole number"),
            ("run -p -1", "--pool-size must be a whole number"),
            ("run --session-mode=1", "--session-mode takes no value"),
            ("run now", "too many arguments for run"),
            ("hash a b", "too many arguments for hash"),
            ("configcheck -s", "--session-mode does not belong to configcheck"),
            ("-c", "--config needs a value"),
        ];
        for (line, expected) in cases {
            let text = read(line).expect_err(line).to_string();
            assert!(text.starts_with(expected), "{line}: {text}");
        }
    }

    #[test]
    fn no_secrets() {
        let args = read("-d postgres://u:hunter2@h/d hash hunter2");
        assert!(!format!("{args:?}").contains("hunter2"));
        for line in ["hash hunter2 hunter2", "-d hunter2 --session-mode=hunter2"] {
            let error = read(line).expect_err(line);
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }

    #[test]
    fn help_is_readable() {
        assert!(HELP.lines().all(|line| line.len() <= 90 && line == line.trim_end()));
    }
}
