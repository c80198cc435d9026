//! Puts the configuration together: defaults, environment, files, further databases, flags; then checks it.

use std::io;
use std::path::Path;

use super::args::{Args, RunFlags};
use super::choices::PoolerMode;
use super::problem::{Place, Problem, Severity};
use super::read::{FileKind, Places, read_file};
use super::secret::Secret;
use super::{Config, Env, check, env, features, url};

/// The file that is read without `--config`.
pub const CONFIG_FILE: &str = "pgdog.toml";

/// The file that is read without `--users`.
pub const USERS_FILE: &str = "users.toml";

/// A file that is longer is no configuration. Room for a million users.
const FILE_BYTES_MAX: usize = 256 * 1_024 * 1_024;

/// The text of a file, and how the file is named in problems. No `Debug`: users.toml holds passwords.
#[derive(Clone, Copy)]
pub struct Text<'s> {
    pub file: &'s str,
    pub text: &'s str,
}

/// Where a configuration comes from. A missing file is an empty one.
#[derive(Clone, Copy, Default)]
pub struct Sources<'s> {
    pub config: Option<Text<'s>>,
    pub users: Option<Text<'s>>,
    pub env: Option<&'s Env>,
    pub database_urls: &'s [Secret],
    pub flags: RunFlags,
}

/// A configuration and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Not to be used while there are errors.
    pub config: Config,
    /// In the order of the files and lines.
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// True if the configuration can be used.
    pub fn is_usable(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity == Severity::Warning)
    }

    /// The configuration with its warnings, or everything that is wrong.
    pub fn into_result(self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        if self.is_usable() { Ok((self.config, self.problems)) } else { Err(self.problems) }
    }
}

/// Builds a configuration from texts.
pub fn build(sources: &Sources<'_>) -> Loaded {
    let mut config = Config::default();
    let mut places = Places::default();
    let mut problems = Vec::new();

    if let Some(env) = sources.env {
        env::apply(&mut config, env, &mut places, &mut problems);
    }
    let mut whole = true;
    for (kind, file) in [(FileKind::Pgdog, sources.config), (FileKind::Users, sources.users)] {
        if let Some(Text { file, text }) = file {
            whole &= read_file(&mut config, kind, file, text, &mut places, &mut problems);
        }
    }
    if let Some(env) = sources.env {
        env::add_tables(&mut config, env, &mut places, &mut problems);
    }
    let command_line = Place::new("command line", None);
    for database_url in sources.database_urls {
        url::add(&mut config, database_url.expose(), &command_line, &mut places, &mut problems);
    }
    apply_flags(&mut config, sources.flags, &mut places, &command_line);

    // A file with broken syntax may lack anything: checks of the whole would complain about what nobody wrote.
    if whole {
        let mut more = Vec::new();
        check::check(&config, &places, &mut more);
        // Nor is a value that could not be read, and has its default now, worth a second message.
        let known = |problem: &Problem| {
            problem.line.is_some()
                && problems.iter().any(|other| {
                    (other.severity, &other.file, other.line)
                        == (Severity::Error, &problem.file, problem.line)
                })
        };
        more.retain(|problem| !known(problem));
        problems.extend(more);
    }
    let idle = features::not_in_use(&config);
    if !idle.is_empty() {
        let text = format!("accepted, not in use: {}", idle.join(", "));
        problems.push(Place::new("configuration", None).warning(text));
    }
    let rank = |file: &str| {
        let names = [sources.config, sources.users];
        names.iter().position(|name| name.is_some_and(|name| name.file == file)).unwrap_or(names.len())
    };
    problems.sort_by_key(|problem| (rank(&problem.file), problem.line));
    Loaded { config, problems }
}

fn apply_flags(config: &mut Config, flags: RunFlags, places: &mut Places, place: &Place) {
    if let Some(size) = flags.pool_size {
        config.general.default_pool_size = size;
        places.insert("general", 0, "default_pool_size", place.clone());
    }
    if let Some(size) = flags.min_pool_size {
        config.general.min_pool_size = size;
        places.insert("general", 0, "min_pool_size", place.clone());
    }
    if flags.session_mode {
        config.general.pooler_mode = PoolerMode::Session;
        places.insert("general", 0, "pooler_mode", place.clone());
    }
}

/// Builds the configuration that the command line asks for. `read` reads a file; a file that nobody named may be
/// missing.
pub fn load(
    args: &Args,
    flags: RunFlags,
    env: &Env,
    mut read: impl FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Loaded {
    let mut problems = Vec::new();
    let mut texts = Vec::new();
    for (given, usual) in [(&args.config, CONFIG_FILE), (&args.users, USERS_FILE)] {
        let path = given.as_deref().unwrap_or(Path::new(usual));
        let file = path.display().to_string();
        let text = match read(path) {
            Ok(bytes) => decode(&file, bytes, &mut problems),
            Err(error) if given.is_none() && error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                problems.push(Place::new(&file, None).error(format!("cannot be read: {error}")));
                None
            }
        };
        texts.push((file, text));
    }
    let text = |at: usize| {
        let (file, text) = texts.get(at)?;
        Some(Text { file, text: text.as_ref()?.expose() })
    };
    let sources = Sources {
        config: text(0),
        users: text(1),
        env: Some(env),
        database_urls: &args.database_urls,
        flags,
    };
    let mut loaded = build(&sources);
    // A file that could not be read makes everything that depends on it look wrong.
    if problems.is_empty() {
        problems = loaded.problems;
    }
    loaded.problems = problems;
    loaded
}

/// The file's text, as a secret since users.toml holds passwords.
fn decode(file: &str, bytes: Vec<u8>, problems: &mut Vec<Problem>) -> Option<Secret> {
    if bytes.len() > FILE_BYTES_MAX {
        let text = format!("has {} bytes; at most {FILE_BYTES_MAX} are read", bytes.len());
        problems.push(Place::new(file, None).error(text));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(Secret::new(text)),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            problems.push(Place::new(file, Some(line)).error("is not valid UTF-8"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::args;

    const CONFIG: &str = "[general]\nport = 1\n[[databases]]\nname = 'd'\nhost = 'h'\n";
    const USERS: &str = "[[users]]\nname = 'u'\ndatabase = 'd'\npassword = 'p'\n";

    fn read(path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("pgdog.toml") => Ok(CONFIG.into()),
            Some("users.toml") => Ok(USERS.into()),
            Some("latin1.toml") => Ok(b"[general]\n# \xe4\n".into()),
            Some("secret.toml") => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn run(line: &str, env: &Env, read: fn(&Path) -> io::Result<Vec<u8>>) -> Loaded {
        let args = args::parse(line.split_whitespace().map(Into::into)).expect(line);
        let args::Command::Run(flags) = args.command else { panic!("{line}") };
        load(&args, flags, env, read)
    }

    #[test]
    fn flags_before_files_before_environment_before_defaults() {
        let env = Env::new(
            [("PGDOG_PORT", "2"), ("PGDOG_WORKERS", "7"), ("PGDOG_MIN_POOL_SIZE", "5")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let loaded = run("run -m 3 -p 20 -s -d postgres://u2:p@h/e", &env, read);
        assert_eq!(loaded.problems, []);
        let general = &loaded.config.general;
        assert_eq!((general.port, general.workers, general.min_pool_size), (1, 7, 3));
        assert_eq!((general.default_pool_size, general.pooler_mode), (20, PoolerMode::Session));
        assert!(loaded.config.database("e").is_some() && loaded.config.user("u2", "e").is_some());
    }

    #[test]
    fn missing_files() {
        let env = Env::default();
        let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let loaded = run("-d postgres://u:p@h/d", &env, nothing);
        assert_eq!(loaded.problems, []);
        let loaded = run("", &env, nothing);
        assert!(loaded.is_usable());
        assert!(loaded.problems[0].text.starts_with("there are no databases"));
        for (line, expected) in [
            ("-c other.toml", "other.toml: error: cannot be read: entity not found"),
            ("-u secret.toml", "secret.toml: error: cannot be read: permission denied"),
            ("-c latin1.toml", "latin1.toml:2: error: is not valid UTF-8"),
        ] {
            let problems = run(line, &env, read).into_result().expect_err(line);
            assert_eq!(problems.iter().map(Problem::to_string).collect::<Vec<_>>(), [expected]);
        }
    }

    #[test]
    fn problems_of_every_place_in_order() {
        let env = Env::new([("PGDOG_WORKERS".to_owned(), "x".to_owned())]);
        let sources = Sources {
            config: Some(Text { file: "z.toml", text: "[general]\nport = 'x'\nworkers = 2000\nprot = 1\n" }),
            users: Some(Text { file: "a.toml", text: "[[users]]\nname = 'u'\ndatabase = 'd'\nx = 1\n" }),
            env: Some(&env),
            database_urls: &[Secret::new("nonsense")],
            flags: RunFlags { pool_size: Some(0), ..RunFlags::default() },
        };
        let problems = build(&sources).into_result().expect_err("many errors");
        let found: Vec<String> =
            problems.iter().map(|problem| problem.to_string().chars().take(44).collect()).collect();
        assert_eq!(
            found,
            [
                "z.toml:2: error: [general]: `port` must be a",
                "z.toml:3: error: workers must be at most 102",
                "z.toml:4: error: [general]: `prot` is not a ",
                "a.toml:2: warning: user \"u\" has no password ",
                "a.toml:3: error: user \"u\" names the unknown ",
                "a.toml:4: error: [users]: `x` is not a known",
                "environment: error: PGDOG_WORKERS must be a ",
                "command line: error: the URL does not begin ",
                "command line: error: default_pool_size must ",
                "configuration: warning: there are no databas",
            ]
        );
    }

    /// Nesting that a recursive parser would answer with a stack overflow.
    #[test]
    fn deep_nesting_is_refused() {
        const DEPTH: usize = 100_000;
        for text in [
            format!("general = {}", "[".repeat(DEPTH)),
            format!("general = {}", "{ a = ".repeat(DEPTH)),
            format!("[{}a]", "a.".repeat(DEPTH)),
            format!("{}a = 1", "a.".repeat(DEPTH)),
        ] {
            let sources = Sources { config: Some(Text { file: "f", text: &text }), ..Sources::default() };
            assert!(!build(&sources).is_usable(), "{}", &text[..20]);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 300, ..Default::default() })]

        /// The reference with a piece replaced by anything: no panic, and every problem has a place.
        #[test]
        fn any_text_is_answered(at in 0_usize..40_000, gone in 0_usize..300, new in "[\\x00-\\x7fä\\[\\]=\"'\n]{0,20}") {
            let reference = crate::config::reference::pgdog_toml().replace("# ", "");
            let start = at.min(reference.len());
            let end = (at + gone).min(reference.len());
            let text = format!("{}{new}{}", &reference[..start], &reference[end..]);
            for (config, users) in [(text.as_str(), USERS), (CONFIG, text.as_str())] {
                let sources = Sources {
                    config: Some(Text { file: "c", text: config }),
                    users: Some(Text { file: "u", text: users }),
                    ..Sources::default()
                };
                for problem in build(&sources).problems {
                    assert!(!problem.file.is_empty() && problem.line != Some(0));
                }
            }
        }

        /// Any URL is answered, and none is repeated.
        #[test]
        fn any_url_is_answered(rest in "[a-z0-9%:@/?=&\\[\\]#ä]{0,40}") {
            let database_urls = [Secret::new(format!("postgres://u:hunter2{rest}"))];
            for problem in build(&Sources { database_urls: &database_urls, ..Sources::default() }).problems {
                assert!(!problem.text.contains("hunter2"), "{problem}");
            }
        }
    }
}
