//! The sweep over seeds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::bug::SimBug;
use super::scene::Scene;
use super::{Report, Run};

/// Threads of a sweep.
const THREADS: u64 = 2;
/// Seeds of a sweep without SIM_SEEDS.
pub const SEEDS: u64 = 300;

/// What every sweep of the default size must have met: the race table.
const MARKS: [&str; 21] = [
    "bytes already decrypted when a server moves",
    "a server comes back with ciphertext to send",
    "a late event for nothing",
    "a parked server has an event and nothing to say",
    "a parked server says something of no importance",
    "a parked server closes",
    "data and close in one event",
    "a waiter leaves when a grant is on its way",
    "a grant reaches a session that does not want it",
    "a grant reaches a session that has ended",
    "a pool is replaced while a server travels",
    "a server comes back to a pool that was replaced",
    "a checkout meets a pool that was replaced",
    "a server cannot be deregistered",
    "a pool starves under a limit over several",
    "the connection of a database listens for a client",
    "no connection listens for a client",
    "the connection that listened for a client is lost",
    "those who listen are slower than what they listen to",
    "a session moves to another worker",
    "a cancel request follows a session",
];

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn hint(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test --test sim proxy::")
}

/// A panic is a failed seed, and says which.
fn name_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(seed) = SEED.get() {
                eprintln!("panic in {}", hint(seed));
            }
            usual(info);
        }));
    });
}

pub fn play(seed: u64, bug: Option<SimBug>) -> Result<Report, String> {
    SEED.set(Some(seed));
    let mut run = Run::new(seed, bug);
    let outcome = run.play();
    SEED.set(None);
    outcome.map_err(|why| format!("{}\n  {why}", hint(seed)))
}

/// Plays one seed and tells everything about it.
fn replay(seed: u64) -> Result<Report, String> {
    SEED.set(Some(seed));
    let mut run = Run::new(seed, None);
    run.net().keep_trace();
    println!("{:#?}", run.scene());
    let outcome = run.play();
    if outcome.is_err() {
        let lines = number("SIM_TRACE").unwrap_or(200) as usize;
        let trace = run.net().trace_lines();
        for line in &trace[trace.len().saturating_sub(lines)..] {
            println!("{line}");
        }
    }
    println!("{:#?}", run.report());
    outcome.map_err(|why| format!("{}\n  {why}", hint(seed)))
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    total: Report,
    failures: Vec<String>,
}

impl Sum {
    fn add(&mut self, outcome: Result<Report, String>) {
        self.seeds += 1;
        match outcome {
            Ok(report) => {
                let total = &mut self.total;
                total.steps += report.steps;
                total.statements += report.statements;
                total.answers += report.answers;
                total.done += report.done;
                total.failed += report.failed;
                total.vanished += report.vanished;
                total.simulated += report.simulated;
                let add = |to: &mut BTreeMap<&'static str, u64>, from: BTreeMap<&'static str, u64>| {
                    from.into_iter().for_each(|(name, count)| *to.entry(name).or_default() += count);
                };
                add(&mut total.faults, report.faults);
                add(&mut total.marks, report.marks);
            }
            Err(why) => {
                // At once: a wide sweep takes its time.
                eprintln!("{why}");
                self.failures.push(why);
            }
        }
    }
}

#[test]
fn sweep() {
    name_panics();
    if let Some(seed) = number("SIM_SEED") {
        replay(seed).unwrap_or_else(|why| panic!("{why}"));
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("SIM_FIRST").unwrap_or(0);
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let outcome = play(seed, None);
                    sum.lock().expect("a thread has panicked").add(outcome);
                }
            });
        }
    });
    let Sum { seeds: played, total, failures } = sum.into_inner().expect("no thread has panicked");
    let faults: u64 = total.faults.values().sum();
    println!(
        "{played} seeds in {:.1} s: {} steps, {} statements, {} messages checked, {faults} faults, {} s simulated",
        began.elapsed().as_secs_f64(),
        total.steps,
        total.statements,
        total.answers,
        total.simulated.as_secs(),
    );
    println!("clients: {} done, {} failed, {} vanished", total.done, total.failed, total.vanished);
    println!("faults: {:#?}\nmarks: {:#?}", total.faults, total.marks);
    assert!(failures.is_empty(), "{} of {played} seeds failed:\n{}", failures.len(), failures.join("\n"));
    if played >= SEEDS {
        for mark in MARKS {
            assert!(total.marks.get(mark).is_some_and(|count| *count > 0), "never met: {mark}");
        }
    }
}

/// Plays a scene of its own, and says how long that took.
fn play_scene(name: &str, scene: Scene) -> Report {
    name_panics();
    SEED.set(Some(0));
    let began = Instant::now();
    let report = Run::of(scene, 0, None).play().unwrap_or_else(|why| panic!("{name}: {why}"));
    SEED.set(None);
    println!(
        "{name}: {} s simulated in {:.1} s, {} steps, {} statements, clients: {} done, {} failed",
        report.simulated.as_secs(),
        began.elapsed().as_secs_f64(),
        report.steps,
        report.statements,
        report.done,
        report.failed,
    );
    report
}

#[test]
fn a_day_passes() {
    let report = play_scene("a day", Scene::day());
    assert!(report.simulated.as_secs() >= 86_400 && report.done > 20 && report.failed == 0);
}

#[test]
fn a_siege_leaves_memory_within_its_budget() {
    // Thousands where there is time for them.
    let crowd = if number("SIM_SEEDS").is_some_and(|seeds| seeds > SEEDS) { 2_500 } else { 300 };
    let report = play_scene("a siege", Scene::siege(crowd));
    assert!(report.done > 0);
}

#[test]
fn a_seed_replays_event_by_event() {
    let hash = |seed| play(seed, None).unwrap_or_else(|why| panic!("{why}")).hash;
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}
