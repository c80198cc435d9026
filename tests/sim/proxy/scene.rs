//! What a seed plays: configuration, clients, faults. Everything follows from the seed.

use std::time::Duration;

use pgdog::base::rng::{Rng, SeededRng};
use pgdog::config::Config;
use pgdog::config::load::{Sources, Text, build};

use super::operator;
use crate::hostile::Harm;
use crate::net::Settings;

pub const PG_PORT: u16 = 5432;
/// A name that the simulated resolver knows.
pub const PG_NAME: &str = "db.example";

/// Simulated time in which all that is left must end once nothing fails any more.
const END_MAX: Duration = Duration::from_secs(60);
/// Simulated time after which nothing new fails.
const FAULTS_MAX: Duration = Duration::from_secs(20);
/// The same before the first client has come: for whoever waits for the checkout of a whole run.
const CLEAN_MAX: Duration = Duration::from_secs(90);
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Debug)]
pub struct UserScene {
    pub name: &'static str,
    pub is_session: bool,
    pub size: u64,
    pub min: u64,
}

#[derive(Clone, Debug)]
pub struct Scene {
    pub workers: usize,
    /// Nothing fails: every client must get every answer.
    pub is_clean: bool,
    pub auth: &'static str,
    pub host: &'static str,
    pub users: Vec<UserScene>,
    /// The first of them only is configured; the server is asked for the others.
    pub looks_up: bool,
    /// The database is one of those for which `name = "*"` stands: its pools are made on demand, and removed.
    pub is_wild: bool,
    /// Clients at one time.
    pub clients: usize,
    pub units: u32,
    /// Statements after which no more clients come.
    pub statements: usize,
    pub vanish_percent: u64,
    pub intruders: usize,
    /// Lines of `[general]`.
    pub general: Vec<String>,
    pub commands: Vec<(u64, String)>,
    pub settings: Settings,
    pub think_max: Duration,
    /// Clients listen and notify; for those who share servers one connection listens.
    pub talks: bool,
    /// Notifications that wait for a client, if one connection listens for it.
    pub waiting_max: usize,
    /// Workers say that they are as busy as that, or less, and clients move between them.
    pub busy_percent: u64,
    /// More on their way to the sessions of a worker make the connection that listens wait.
    pub notifications_max: usize,
    pub deregister_fails: u64,
    /// Mean pause between two faults, in microseconds.
    pub fault_pause: u64,
    pub lies: bool,
    /// Chance in percent that a client encrypts; the proxy offers it if it is not zero.
    pub sealed_percent: u64,
    /// The proxy asks servers for encryption, and they know it.
    pub asks: bool,
    pub ssl: bool,
    /// Everything is shut down after so many statements, whatever the clients are at.
    pub shutdown_at: Option<u64>,
    /// Longest pause of a client.
    pub client_think_max: Duration,
    /// Simulated time after which nothing new fails and nobody new comes, and in which everybody must have ended then.
    pub lasts: Duration,
    pub ends_within: Duration,
    /// What each intruder may send, and what they do; any if that is empty.
    pub intruder_bytes: usize,
    pub harms: Vec<Harm>,
}

const USERS: [&str; 4] = ["postgres", "md5er", "scrammer", "plainer"];

impl Scene {
    pub fn new(seed: u64) -> Scene {
        let mut rng = SeededRng::new(seed ^ 0x5343_454e_4500);
        let is_clean = rng.below(3) == 0;
        let workers = [2, 2, 2, 2, 1, 3][rng.below(6) as usize];
        let mut users = Vec::new();
        for name in USERS {
            if users.is_empty() || rng.below(4) == 0 {
                let is_session = rng.below(5) == 0;
                let size = 1 + rng.below(4);
                users.push(UserScene { name, is_session, size, min: rng.below(2).min(size) });
            }
        }
        // By chance of its own, too.
        let mut finds = SeededRng::new(seed ^ 0x4649_4e44);
        let looks_up = finds.below(4) == 0;
        if looks_up {
            users.truncate(1);
            let found = USERS[1..].iter();
            users.extend(found.map(|name| UserScene { name, is_session: false, size: 0, min: 0 }));
        }
        let auth = ["trust", "trust", "trust", "plain", "md5", "scram"][rng.below(6) as usize];
        let mut general = vec![format!("workers = {workers}"), format!("auth_type = \"{auth}\"")];
        let mut set = |key: &str, from: u64, to: u64, rng: &mut SeededRng| {
            general.push(format!("{key} = {}", from + rng.below(to - from + 1)));
        };
        if looks_up {
            set("default_pool_size", 1, 4, &mut finds);
            set("auth_query_ttl", 0, 400, &mut finds);
            set("dynamic_pool_timeout", 0, 2_000, &mut finds);
        }
        set("idle_timeout", 200, 3_000, &mut rng);
        set("prepared_statements_limit", 1, 12, &mut rng);
        if rng.below(3) == 0 {
            set("server_lifetime", 100, 1_000, &mut rng);
            set("server_lifetime_jitter", 0, 100, &mut rng);
        }
        if is_clean {
            set("checkout_timeout", 100_000, 100_000, &mut rng);
        } else {
            set("checkout_timeout", 20, 2_000, &mut rng);
            set("query_timeout", 300, 2_000, &mut rng);
            set("client_idle_in_transaction_timeout", 300, 3_000, &mut rng);
            set("client_idle_timeout", 1_000, 5_000, &mut rng);
            set("client_login_timeout", 1_000, 5_000, &mut rng);
            set("connect_timeout", 50, 1_000, &mut rng);
            set("connect_attempts", 1, 3, &mut rng);
            set("connect_attempt_delay", 0, 50, &mut rng);
            set("rollback_timeout", 50, 1_000, &mut rng);
            let recoveries = ["recover", "recover", "rollback_only", "drop"];
            let pick = |rng: &mut SeededRng| recoveries[rng.below(4) as usize];
            general.push(format!("connection_recovery = \"{}\"", pick(&mut rng)));
            general.push(format!("client_connection_recovery = \"{}\"", pick(&mut rng)));
        }
        let mut settings = if rng.below(8) == 0 { Settings::calm() } else { Settings::default() };
        if !is_clean {
            settings.reset = rng.below(2);
        }
        let commands = commands(&mut rng, is_clean);
        // By chance of its own: what the other seeds play stays as it is.
        let mut ends = SeededRng::new(seed ^ 0x5348_5554);
        let shutdown_at = (ends.below(6) == 0).then(|| ends.below(2_000));
        if shutdown_at.is_some() {
            // Often too short for those who wait for a server.
            let patience = if ends.below(3) == 0 { 2_000 } else { 10 };
            general.push(format!("shutdown_timeout = {}", ends.below(patience)));
            if ends.below(3) == 0 {
                general.push(format!("shutdown_termination_timeout = {}", ends.below(1_000)));
            }
        }
        let mut limits = SeededRng::new(seed ^ 0x4c49_4d49);
        if limits.below(3) == 0 {
            general.push(format!("max_db_connections = {}", 1 + limits.below(6)));
        }
        if limits.below(4) == 0 {
            general.push(format!("reserve_pool_size = {}", 1 + limits.below(3)));
            general.push(format!("reserve_pool_timeout = {}", 1 + limits.below(300)));
        }
        if limits.below(4) == 0 {
            general.push(format!("max_user_connections = {}", 1 + limits.below(3)));
        }
        if !is_clean && limits.below(4) == 0 {
            general.push(format!("max_client_conn = {}", 10 + limits.below(10)));
            general.push(format!("max_user_client_connections = {}", 8 + limits.below(10)));
        }
        // To look users up there takes a configured database besides.
        let is_wild = limits.below(4) == 0 && !looks_up;
        if is_wild {
            general.push(format!("dynamic_pool_timeout = {}", 1 + limits.below(2_000)));
        }
        let mut talk = SeededRng::new(seed ^ 0x5441_4c4b);
        let talks = talk.below(4) == 0;
        let waiting_max = if talks { [0, 1, 5, 1_000][talk.below(4) as usize] } else { 0 };
        if talks {
            general.push(format!("pub_sub_channel_size = {waiting_max}"));
        }
        Scene {
            workers,
            is_clean,
            is_wild,
            talks,
            waiting_max,
            busy_percent: if SeededRng::new(seed ^ 0x4d4f_5645).below(2) == 0 { 101 } else { 0 },
            notifications_max: if talk.below(4) > 0 { talk.below(3) as usize } else { 100_000 },
            auth,
            host: if rng.below(4) == 0 { PG_NAME } else { "10.0.0.1" },
            users,
            looks_up,
            clients: 20 + rng.below(8) as usize,
            units: 30 + rng.below(60) as u32,
            statements: 2_000,
            vanish_percent: rng.below(40),
            intruders: if !is_clean && rng.below(2) == 0 { rng.below(6) as usize } else { 0 },
            general,
            commands,
            settings,
            think_max: Duration::from_micros(rng.below(2_000)),
            deregister_fails: if rng.below(8) == 0 { 100 } else { 0 },
            fault_pause: 2_000 + rng.below(60_000),
            lies: !is_clean && rng.below(4) == 0,
            sealed_percent: [0, 50, 100][rng.below(3) as usize],
            asks: rng.below(2) == 0,
            ssl: rng.below(4) > 0,
            shutdown_at,
            client_think_max: Duration::from_micros(3_000),
            lasts: if is_clean { CLEAN_MAX } else { FAULTS_MAX },
            ends_within: END_MAX,
            intruder_bytes: 300_000,
            harms: Vec::new(),
        }
    }

    /// Few clients with long pauses: a day with its timeouts, upkeep and lifetimes.
    pub fn day() -> Scene {
        let hours = |hours: u64| Duration::from_secs(3600 * hours);
        let command = |at: Duration, text: &str| (at.as_micros() as u64, text.to_owned());
        Scene {
            is_clean: true,
            is_wild: false,
            talks: false,
            workers: 2,
            auth: "scram",
            users: vec![UserScene { name: "postgres", is_session: false, size: 3, min: 1 }],
            looks_up: false,
            clients: 8,
            units: 120,
            statements: usize::MAX,
            vanish_percent: 20,
            intruders: 0,
            general: [
                "workers = 2",
                "auth_type = \"scram\"",
                "checkout_timeout = 86400000",
                "server_lifetime = 3600000",
                "server_lifetime_jitter = 600000",
                "client_idle_timeout = 86400000",
                "client_idle_in_transaction_timeout = 86400000",
            ]
            .map(str::to_owned)
            .into(),
            commands: [
                command(hours(3), "RELOAD"),
                command(hours(3), "PAUSE"),
                command(Duration::from_secs(3), "RESUME"),
                command(hours(3), "RECONNECT"),
                command(hours(8), "SHOW POOLS"),
            ]
            .into(),
            shutdown_at: None,
            fault_pause: 60_000_000,
            client_think_max: Duration::from_secs(600),
            lasts: DAY,
            ends_within: DAY,
            ..Scene::new(0)
        }
    }

    /// A crowd of clients that send half a message and wait, and some whose pipelines have no end and who never read.
    pub fn siege(crowd: usize) -> Scene {
        let mut usual = Scene::new(1);
        // It is memory that has to hold them, no limit of clients.
        usual.general.retain(|line| !line.contains("client_conn"));
        Scene {
            is_clean: false,
            shutdown_at: None,
            intruders: crowd,
            intruder_bytes: 64 << 20,
            statements: 600,
            harms: [[Harm::HalfMessage; 9], [Harm::HalfLarge; 9]]
                .concat()
                .into_iter()
                .chain([Harm::EndlessParse, Harm::EndlessNames, Harm::NeverReads, Harm::CopyFlood])
                .collect(),
            ..usual
        }
    }

    /// The configuration after `reloads` reloads.
    pub fn config(&self, reloads: u64) -> Config {
        let mut rng = SeededRng::new(reloads ^ 0x434f_4e46);
        let mut general = self.general.join("\n");
        if self.looks_up {
            general += "\nauth_user = \"postgres\"\nauth_query = \"SELECT $1, 'geheim'\"";
        }
        let database = if self.is_wild { "*" } else { "postgres" };
        let text = format!(
            "[general]\n{general}\n[admin]\npassword = \"{}\"\n[[databases]]\nname = \"{database}\"\nhost = \"{}\"\n\
             port = {PG_PORT}\n",
            operator::PASSWORD,
            self.host,
        );
        let mut users = String::new();
        let configured = if self.looks_up { 1 } else { self.users.len() };
        for user in &self.users[..configured] {
            // A reload changes the pools of some users, and leaves others as they are.
            let size = if reloads > 0 && rng.below(2) == 0 { 1 + rng.below(4) } else { user.size };
            let mode = if user.is_session { "session" } else { "transaction" };
            users += &format!(
                "[[users]]\nname = \"{}\"\ndatabase = \"{database}\"\npassword = \"geheim\"\npool_size = {size}\n\
                 min_pool_size = {}\npooler_mode = \"{mode}\"\n",
                user.name,
                user.min.min(size),
            );
        }
        let sources = Sources {
            config: Some(Text { file: "pgdog.toml", text: &text }),
            users: Some(Text { file: "users.toml", text: &users }),
            ..Sources::default()
        };
        match build(&sources).into_result() {
            Ok((config, _)) => config,
            Err(problems) => panic!("{problems:?}\n{text}{users}"),
        }
    }
}

fn commands(rng: &mut SeededRng, is_clean: bool) -> Vec<(u64, String)> {
    let mut commands = Vec::new();
    let long = if is_clean { 300_000 } else { 100_000 };
    for _ in 0..rng.below(12) {
        let pause = rng.below(long);
        match rng.below(6) {
            0 => {
                commands.push((pause, "PAUSE".to_string()));
                commands.push((rng.below(30_000), "RESUME".to_string()));
            }
            1 => commands.push((pause, "RECONNECT".to_string())),
            2 | 3 => commands.push((pause, "RELOAD".to_string())),
            4 => commands.push((pause, "SHOW POOLS".to_string())),
            _ => commands.push((pause, "SHOW SERVERS".to_string())),
        }
    }
    commands
}
