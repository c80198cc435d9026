//! The command line of pgdog.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use pgdog::auth::verifier::{Challenge, Iterations, Verifier, derive};
use pgdog::base::rng::Rng;
use pgdog::config::args::{self, Args, Command, HELP, RunFlags};
use pgdog::config::load::{Loaded, load};
use pgdog::config::{Config, Env, Problem, Secret, Severity};
use pgdog::io::random::OsRng;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("pgdog: {error}");
            return ExitCode::from(2);
        }
    };
    match &args.command {
        Command::Help => print!("{HELP}"),
        Command::Version => println!("pgdog {}", env!("CARGO_PKG_VERSION")),
        Command::Hash(password) => return hash(password.clone()),
        Command::ConfigCheck => return check(&args),
        Command::Run(flags) => return run(&args, *flags),
    }
    ExitCode::SUCCESS
}

fn read(args: &Args, flags: RunFlags) -> Loaded {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load(args, flags, &Env::new(variables), |path| std::fs::read(path))
}

fn check(args: &Args) -> ExitCode {
    let loaded = read(args, RunFlags::default());
    loaded.problems.iter().for_each(|problem| eprintln!("{problem}"));
    if !loaded.is_usable() {
        return ExitCode::FAILURE;
    }
    println!("The configuration is valid.");
    ExitCode::SUCCESS
}

fn hash(password: Option<Secret>) -> ExitCode {
    let password = match password {
        Some(password) => password,
        None => {
            if std::io::stdin().is_terminal() {
                eprint!("Password (shown as you type): ");
                let _ = std::io::stderr().flush();
            }
            let mut text = String::new();
            let mut one = std::io::stdin().take(4096);
            if let Err(error) = one.read_to_string(&mut text) {
                eprintln!("pgdog: cannot read the password: {error}");
                return ExitCode::FAILURE;
            }
            Secret::new(text.lines().next().unwrap_or_default())
        }
    };
    if password.is_empty() {
        eprintln!("pgdog: an empty password cannot be used");
        return ExitCode::FAILURE;
    }
    let mut salt = [0; 16];
    match OsRng::new() {
        Ok(mut rng) => rng.fill(&mut salt),
        Err(error) => {
            eprintln!("pgdog: no random bytes: {error}");
            return ExitCode::FAILURE;
        }
    }
    match Challenge::new(&salt, Iterations::DEFAULT) {
        Ok(challenge) => {
            let keys = derive(password.as_bytes(), &challenge);
            println!("{}", Verifier::new(challenge, &keys).reveal());
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("pgdog: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, flags: RunFlags) -> ExitCode {
    let loaded = read(args, flags);
    let problems = loaded.problems.clone();
    let Ok((mut config, _)) = loaded.into_result() else {
        problems.iter().for_each(|problem| eprintln!("{problem}"));
        return ExitCode::FAILURE;
    };
    pgdog::io::log::install(&config.general.log_level, config.general.log_format);
    problems.iter().for_each(report);
    if config.admin.password.is_none() {
        match OsRng::new() {
            Ok(mut rng) => {
                config.admin.generate_password(&mut rng);
                log::info!("the console has no password: set `password` in [admin] to use it");
            }
            Err(error) => log::warn!("no password for the console: {error}"),
        }
    }
    let args = args.clone();
    let again = move || -> Result<Config, Vec<String>> {
        let loaded = read(&args, flags);
        match loaded.into_result() {
            Ok((config, problems)) => {
                problems.iter().for_each(report);
                Ok(config)
            }
            Err(problems) => Err(problems
                .iter()
                .filter(|problem| problem.severity == Severity::Error)
                .map(Problem::to_string)
                .collect()),
        }
    };
    match pgdog::control::run(config, Box::new(again)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn report(problem: &Problem) {
    match problem.severity {
        Severity::Error => log::error!("{problem}"),
        Severity::Warning => log::warn!("{problem}"),
    }
}
