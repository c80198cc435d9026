//! Clients and the simulated PostgreSQL without a proxy between them: what holds here is what the proxy has to keep.
//! This tests the test: a wrong expectation of a client, or a fault that is no fault, shows here first.

use std::net::SocketAddr;

use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;

use crate::client::{Plan, SimClient, Verdict};
use crate::guest::{Guest, Intruder};
use crate::host::PgHost;
use crate::hostile::{HARMS, Hostile};
use crate::net::{Settings, SimNet};
use crate::postgres::{Config, Fault, Lie, Method, Refuse, SimPg};

/// Simulated time after which a run counts as stuck.
const STUCK: std::time::Duration = std::time::Duration::from_secs(600);

struct Run {
    net: SimNet,
    host: PgHost,
    guests: Vec<Guest>,
    intruders: Vec<Intruder>,
    rng: SeededRng,
    /// Chance per thousand and step that a server dies.
    deaths: u64,
}

fn run(seed: u64, clients: u32, units: u32, faults: bool, intruders: usize) -> Run {
    run_with(seed, clients, units, faults, intruders, |_| {})
}

/// `change` has the last word on every client's plan.
fn run_with(
    seed: u64,
    clients: u32,
    units: u32,
    faults: bool,
    intruders: usize,
    change: impl Fn(&mut Plan),
) -> Run {
    let mut rng = SeededRng::new(seed);
    let mut settings = if rng.below(4) == 0 { Settings::calm() } else { Settings::default() };
    if faults {
        settings.reset = 1;
    }
    let net = SimNet::new(seed, settings);
    let mut config = Config { connections_max: 200, scram_iterations: 32, ..Config::default() };
    config.users.insert("md5er".into(), Method::Md5("geheim".into()));
    config.users.insert("scrammer".into(), Method::Scram("geheim".into()));
    config.users.insert("plainer".into(), Method::Plain("geheim".into()));
    config.think_max = std::time::Duration::from_micros(rng.below(3000));
    let mut server = SimPg::new(config, seed);
    server.reshape_table("postgres", crate::client::SHAPED, seed.is_multiple_of(2));
    for number in 0..clients {
        server.create_table("postgres", &format!("t{number}"));
    }
    let address = SocketAddr::from(([10, 0, 0, 1], 5432));
    let host = PgHost::new(&net, address, server);
    let mut guests = Vec::new();
    for number in 0..clients {
        let users = ["postgres", "md5er", "scrammer", "plainer"];
        let mut plan = Plan {
            user: users[rng.below(4) as usize].into(),
            password: "geheim".into(),
            vanishes: faults && rng.below(5) == 0,
            session_state: true,
            talks: true,
            tolerant: faults,
            ..Plan::new(number, units)
        };
        change(&mut plan);
        let mut guest = Guest::new(&net, address, SimClient::new(number, seed, plan));
        if rng.below(5) == 0 {
            guest.read_max = 1 + rng.below(500) as usize;
        }
        guests.push(guest);
    }
    let harms = (0..intruders).map(|at| HARMS[at % HARMS.len()]);
    let intruders = harms
        .map(|harm| Intruder::new(&net, address, Hostile::new(harm, seed, "postgres", "postgres", 200_000)));
    Run { host, guests, intruders: intruders.collect(), rng, deaths: if faults { 1 } else { 0 }, net }
}

impl Run {
    fn finish(&mut self, seed: u64) {
        if let Err(why) = self.drive().and_then(|()| self.check()) {
            panic!("SIM_SEED={seed}: {why}");
        }
    }

    /// Until every client has gone: everything that can be done at this time is done, then time passes to the next
    /// event.
    fn drive(&mut self) -> Result<(), String> {
        while !self.guests.iter().all(Guest::is_gone) {
            loop {
                self.host.turn();
                let mut moved = false;
                for guest in &mut self.guests {
                    moved |= guest.turn();
                }
                for intruder in &mut self.intruders {
                    moved |= intruder.turn();
                }
                if !moved {
                    break;
                }
            }
            if self.guests.iter().all(Guest::is_gone) {
                break;
            }
            if self.deaths > 0 && self.rng.below(1000) < self.deaths {
                self.kill_one();
                // Its end is all that may be left to happen.
                continue;
            }
            let guests = self.guests.iter().map(Guest::next_time).min().unwrap_or(Time::NEVER);
            let next = self.net.next_time().min(self.host.next_time()).min(guests);
            if next == Time::NEVER || self.net.now() > Time::ZERO + STUCK {
                let waiting: Vec<_> = self.guests.iter().filter(|guest| !guest.is_gone()).collect();
                let waiting: Vec<_> = waiting.iter().map(|guest| guest.client.waiting_for()).collect();
                return Err(format!("stuck at {:?}:\n{}", self.net.now(), waiting.join("\n")));
            }
            self.net.advance(next.max(self.net.now()));
        }
        Ok(())
    }

    /// Answers were right, and nothing is left.
    fn check(&mut self) -> Result<(), String> {
        for guest in &self.guests {
            if let Verdict::Wrong(why) = guest.client.verdict() {
                return Err(format!("client {}: {why}", guest.client.number));
            }
        }
        for intruder in &mut self.intruders {
            intruder.leave();
        }
        self.settle();
        let left = [
            ("connections at the server", self.host.open()),
            ("locks", self.host.server.locks_held()),
            ("sockets", self.net.open_sockets()),
        ];
        match left.iter().find(|(_, count)| *count > 0) {
            Some((what, count)) => Err(format!("{count} {what} left")),
            None => Ok(()),
        }
    }

    fn settle(&mut self) {
        loop {
            self.host.turn();
            let next = self.net.next_time().min(self.host.next_time());
            if next == Time::NEVER {
                return;
            }
            self.net.advance(next.max(self.net.now()));
        }
    }

    fn kill_one(&mut self) {
        let seen = self.host.server.seen();
        if seen.is_empty() {
            return;
        }
        let id = seen[self.rng.below(seen.len() as u64) as usize].id;
        let reset = self.rng.below(2) == 0;
        let fault = match self.rng.below(4) {
            0 => Fault::DieNow { reset },
            1 => Fault::DieAfterOutput { bytes: self.rng.below(500) as usize, reset },
            2 => Fault::DieAtStatement { statements: self.rng.below(3) as u32, reset },
            _ => Fault::Terminate,
        };
        self.host.server.inject(id, fault, self.net.now());
    }
}

/// Seeds of one test: `SIM_SEED` alone, or the first `SIM_SEEDS`.
fn seeds(default: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIM_SEEDS").unwrap_or(default)).collect(),
    }
}

#[test]
fn clients_get_exactly_their_answers_from_a_server_of_their_own() {
    let mut answers = 0;
    for seed in seeds(8) {
        let mut run = run(seed, 20, 100, false, 0);
        run.finish(seed);
        for guest in &run.guests {
            assert_eq!(*guest.client.verdict(), Verdict::Done, "SIM_SEED={seed}");
            answers += guest.client.answers;
        }
    }
    println!("{answers} messages checked");
}

#[test]
fn deaths_resets_and_intruders_do_no_harm_to_the_others() {
    let (mut done, mut failed) = (0, 0);
    for seed in seeds(8) {
        let mut run = run(seed, 20, 60, true, HARMS.len());
        run.finish(seed);
        done += run.guests.iter().filter(|g| *g.client.verdict() == Verdict::Done).count();
        failed += run.guests.iter().filter(|g| matches!(g.client.verdict(), Verdict::Failed(_))).count();
    }
    println!("{done} clients ended well, {failed} lost their server");
    assert!(done > 0 && failed > 0);
}

#[test]
fn a_run_replays_event_by_event() {
    let trace = |seed| {
        let mut run = run(seed, 5, 30, true, 4);
        run.finish(seed);
        run.net.trace_hash()
    };
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

/// A server that lies is found out by the clients: the checks do see.
#[test]
fn every_lie_is_found() {
    type MakeLie = fn(&mut SeededRng) -> Lie;
    let lies: [(&str, MakeLie); 6] = [
        ("garbage", |_| Lie::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("negative length", |_| Lie::Length(-5)),
        ("huge length", |_| Lie::Length(i32::MAX)),
        ("wrong tag", |_| Lie::Tag(b'?')),
        ("an answer too many", |_| Lie::Unexpected(crate::frame::body().text("SELECT 1").tagged(b'C'))),
        ("an answer too few", |_| Lie::Omit),
    ];
    for (name, lie) in lies {
        for seed in 0..10 {
            // Without cancels: an error in place of a cancelled answer may come before or after its RowDescription.
            let mut run = run_with(seed, 1, 40, false, 0, |plan| plan.cancels = false);
            let at = Time::from_micros(5_000 + run.rng.below(20_000));
            run.until(at);
            let Some(seen) = run.host.server.seen().pop() else { continue };
            let lie = lie(&mut run.rng);
            run.host.server.inject(seen.id, Fault::Lie(lie), run.net.now());
            let found = run.drive().and_then(|()| run.check());
            assert!(found.is_err(), "seed {seed}: {name} was not found");
        }
    }
}

#[test]
fn a_server_that_refuses_logins_is_no_wrong_answer() {
    for refuse in [Refuse::StartingUp, Refuse::ShuttingDown, Refuse::Close] {
        let mut run = run(1, 3, 5, true, 0);
        run.host.server.config().refuse = refuse.clone();
        run.finish(1);
        let failed = run.guests.iter().all(|g| matches!(g.client.verdict(), Verdict::Failed(_)));
        assert!(failed, "{refuse:?}");
    }
    let mut silent = run(1, 1, 5, false, 0);
    silent.host.server.config().refuse = Refuse::Silent;
    assert!(silent.drive().is_err_and(|why| why.contains("stuck")));
}

/// The same run, stopped at a time.
impl Run {
    fn until(&mut self, time: Time) {
        while self.net.now() < time && !self.guests.iter().all(Guest::is_gone) {
            self.host.turn();
            for guest in &mut self.guests {
                guest.turn();
            }
            let guests = self.guests.iter().map(Guest::next_time).min().unwrap_or(Time::NEVER);
            let next = self.net.next_time().min(self.host.next_time()).min(guests);
            if next == Time::NEVER {
                return;
            }
            self.net.advance(next.max(self.net.now()));
        }
    }
}
