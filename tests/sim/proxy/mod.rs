//! The proxy itself, in the simulator: workers of the production code, interleaved step by step by one seed with the
//! network, the server, the clients, the upkeep and the console.

mod bug;
mod check;
mod driver;
mod operator;
#[cfg(feature = "sabotage")]
mod sabotage;
mod scene;
mod sweep;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgdog::admin::Command;
use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;
use pgdog::cluster::shared::Shared as Global;
use pgdog::cluster::world::World;
use pgdog::io::transport::Sealer;
use pgdog::session::errors::ClientError;
use pgdog::session::server::ServerWorld;
use pgdog::worker::Worker;
use pgdog::worker::mail::{Busy, Common, Mail, Mailbox, Order, Peer};
use pgdog::worker::shutdown::Shutdown;
use pgdog::worker::upkeep::{self, Upkeep, replace_world};

use self::bug::SimBug;
use self::check::{Budget, Watch};
use self::driver::Driver;
use self::operator::Operator;
use self::scene::{PG_NAME, PG_PORT, Scene};
use self::wire::{Backstage, Line, OrderBox, Shared, Wire, WorkerNet, WorkerRegistrar, WorkerWake};
use crate::client::{ASIDE, Plan, SHAPED, SimClient, Unreported, Verdict};
use crate::guest::{Guest, Intruder};
use crate::host::PgHost;
use crate::hostile::{HARMS, Hostile};
use crate::net::{Answer, SimNet, SimSocket};
use crate::postgres::{self, Fault, Lie, Method, Refuse, SimPg};
use crate::records::{Begin, ToySealer};

/// How long a server may live on whose query was cancelled although it was the proxy's own.
const CANCELLED_MAX: Duration = Duration::from_secs(5);
/// Steps of a run; more means that something turns on the spot.
const STEPS_MAX: u64 = 5_000_000;
/// How often in a row a worker may serve what has nothing to do.
const IDLE_SERVES_MAX: u32 = 2_000;
/// Rest at the end: longer than every timeout of pools and closes.
const REST: Duration = Duration::from_secs(70);

/// Longer than the checkout of a run without faults.
const REST_CLEAN: Duration = Duration::from_secs(110);

/// What a run has shown.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub hash: u64,
    pub steps: u64,
    pub statements: u64,
    pub answers: u64,
    pub done: u64,
    pub failed: u64,
    pub vanished: u64,
    pub simulated: Duration,
    pub faults: BTreeMap<&'static str, u64>,
    pub marks: BTreeMap<&'static str, u64>,
}

pub struct Run {
    seed: u64,
    scene: Scene,
    net: SimNet,
    rng: SeededRng,
    shared: Shared,
    host: PgHost,
    common: Arc<Common<Line>>,
    world: Arc<ServerWorld<Line>>,
    sealer: Arc<dyn Sealer>,
    drivers: Vec<Driver>,
    watches: Vec<Watch>,
    upkeep: Upkeep,
    next_upkeep: Time,
    reloads: u64,
    guests: Vec<(Time, Guest)>,
    next_client: u32,
    intruders: Vec<Intruder>,
    operator: Option<Operator>,
    late_cancels: Vec<(SimSocket, Vec<u8>)>,
    /// Queries of the proxy's own that a cancel has hit, until when their server must have gone: that is right only where
    /// `query_timeout` ends it.
    hit: Vec<(Time, i32, String)>,
    next_fault: Time,
    /// When a listener or a login that refuses is well again.
    better_at: Time,
    healed_at: Time,
    /// The next order to reload is carried out, not put off.
    is_reload_near: bool,
    shutdown: Shutdown,
    /// Statements after which it begins.
    shutdown_at: Option<u64>,
    /// The end: pools are being emptied.
    is_closing: bool,
    /// A pool has starved under a limit over several.
    starved: bool,
    report: Report,
}

fn proxy_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 6432))
}

fn pg_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], PG_PORT))
}

impl Run {
    pub fn new(seed: u64, bug: Option<SimBug>) -> Run {
        Run::of(Scene::new(seed), seed, bug)
    }

    pub fn of(scene: Scene, seed: u64, bug: Option<SimBug>) -> Run {
        let mut rng = SeededRng::new(seed);
        let net = SimNet::new(seed, scene.settings.clone());
        let mut config =
            postgres::Config { connections_max: 500, scram_iterations: 32, ..postgres::Config::default() };
        config.users.insert("md5er".into(), Method::Md5("geheim".into()));
        config.users.insert("scrammer".into(), Method::Scram("geheim".into()));
        config.users.insert("plainer".into(), Method::Plain("geheim".into()));
        config.think_max = scene.think_max;
        config.ssl = scene.ssl;
        let mut server = SimPg::new(config, seed);
        server.reshape_table("postgres", SHAPED, false);
        let host = PgHost::new(&net, pg_address(), server);
        net.listen(proxy_address());

        let shared = Shared::new(Backstage {
            rng: SeededRng::new(seed ^ 0x4f52),
            bug,
            deregister_fails: scene.deregister_fails,
            orders: Vec::new(),
            order_delay: Duration::from_micros(rng.below(5_000)),
            late_cancels: Vec::new(),
            seals_cancel: false,
        });
        let polls: Vec<_> = (0..scene.workers).map(|_| net.new_poll()).collect();
        let peer = |poll| Peer {
            mailbox: Mailbox::new(Box::new(WorkerWake { waker: net.waker(poll), shared: shared.clone() })),
            registrar: Box::new(WorkerRegistrar { net: net.clone(), shared: shared.clone() }) as _,
            clients: AtomicUsize::new(0),
            notifications: AtomicUsize::new(0),
            busy: Busy::default(),
        };
        let config = Arc::new(scene.config(0));
        let common = Arc::new(Common {
            peers: polls.iter().map(|poll| peer(*poll)).collect(),
            shared: Global::new(config.general.prepared_statements_limit, &mut SeededRng::new(seed ^ 0x5348)),
            orders: Box::new(OrderBox { net: net.clone(), shared: shared.clone() }),
            servers: AtomicUsize::new(0),
            notifications_max: scene.notifications_max,
            bugs: AtomicUsize::new(0),
        });
        let world = Arc::new(World::build(config, None));
        let (seeds, marks) = (shared.clone(), shared.clone());
        let sealer: Arc<dyn Sealer> = Arc::new(ToySealer {
            offers: scene.sealed_percent > 0,
            asks: scene.asks,
            seed: Box::new(move || seeds.lock().rng.next_u64()),
            mark_cancel: Arc::new(move || marks.lock().seals_cancel = true),
        });
        let mut drivers = Vec::new();
        for (id, poll) in polls.iter().enumerate() {
            let worker_net = WorkerNet { net: net.clone(), poll: *poll, shared: shared.clone() };
            let worker_rng = Box::new(SeededRng::new(seed ^ (id as u64) << 40 ^ 0x574f));
            let worker =
                Worker::new(id as u16, worker_net, common.clone(), world.clone(), sealer.clone(), worker_rng);
            drivers.push(Driver::new(worker, &net, *poll, &shared, scene.busy_percent));
        }
        let watches = world.pools().into_iter().map(Watch::new).collect();
        let operator = (!scene.commands.is_empty())
            .then(|| Operator::new(&net, proxy_address(), seed, scene.commands.clone()));
        let intruders = (0..scene.intruders).map(|_| {
            let harms = if scene.harms.is_empty() { &HARMS[..] } else { &scene.harms };
            let harm = harms[rng.below(harms.len() as u64) as usize];
            let user = scene.users[rng.below(scene.users.len() as u64) as usize].name;
            Intruder::new(
                &net,
                proxy_address(),
                Hostile::new(harm, seed, user, "postgres", scene.intruder_bytes),
            )
        });
        let intruders = intruders.collect();
        Run {
            seed,
            net,
            rng,
            shared,
            host,
            common,
            world,
            sealer,
            drivers,
            watches,
            upkeep: Upkeep::new(Time::ZERO),
            next_upkeep: Time::ZERO,
            reloads: 0,
            guests: Vec::new(),
            next_client: 0,
            intruders,
            operator,
            late_cancels: Vec::new(),
            hit: Vec::new(),
            next_fault: Time::ZERO,
            better_at: Time::NEVER,
            healed_at: Time::NEVER,
            is_reload_near: false,
            shutdown: Shutdown::default(),
            shutdown_at: scene.shutdown_at,
            is_closing: false,
            starved: false,
            report: Report::default(),
            scene,
        }
    }

    /// The whole run.
    ///
    /// # Errors
    /// What was wrong.
    pub fn play(&mut self) -> Result<Report, String> {
        let outcome = self.go().and_then(|()| self.rest());
        self.finish_report();
        outcome.map_err(|why| format!("at {:?}: {why}", self.net.now())).map(|()| self.report.clone())
    }

    pub fn report(&self) -> &Report {
        &self.report
    }

    pub fn net(&self) -> &SimNet {
        &self.net
    }

    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    fn is_healed(&self) -> bool {
        self.healed_at != Time::NEVER
    }

    // ---------------------------------------------------------------------------------------- clients

    /// Clients come until there have been enough statements.
    fn invite(&mut self) {
        let enough = self.report.statements >= self.scene.statements as u64
            || self.is_healed()
            || self.shutdown.has_begun();
        while !enough && self.guests.len() < self.scene.clients {
            let number = self.next_client;
            self.next_client += 1;
            self.host.server.create_table("postgres", &format!("t{number}"));
            let rng = &mut self.rng;
            let user = &self.scene.users[rng.below(self.scene.users.len() as u64) as usize];
            let think_max = self.scene.client_think_max.as_micros() as u64;
            let (units, think) = (self.scene.units, Duration::from_micros(rng.below(think_max)));
            let plan = Plan {
                user: user.name.into(),
                password: "geheim".into(),
                vanishes: rng.below(100) < self.scene.vanish_percent,
                session_state: user.is_session || self.scene.talks,
                talks: self.scene.talks,
                unreported: match rng.below(2) {
                    _ if user.is_session => Unreported::SetAndRead,
                    0 => Unreported::Set,
                    _ => Unreported::Read,
                },
                resets: false,
                tolerant: !self.scene.is_clean || self.scene.shutdown_at.is_some(),
                misses: (1..1_000).contains(&self.scene.waiting_max),
                is_cancelled: self.scene.shutdown_at.is_some(),
                think_max: think,
                rows_max: 60,
                ..Plan::new(number, units)
            };
            let start = self.net.now() + Duration::from_micros(rng.below(20_000));
            let mut guest = Guest::new(&self.net, proxy_address(), SimClient::new(number, self.seed, plan));
            if rng.below(5) == 0 {
                guest.read_max = 1 + rng.below(500) as usize;
            }
            if rng.below(100) < self.scene.sealed_percent {
                guest.begin = if rng.below(3) == 0 { Begin::Direct } else { Begin::Asking };
            }
            self.guests.push((start, guest));
        }
    }

    /// Everybody outside of the proxy does what can be done now.
    fn others(&mut self) -> Result<bool, String> {
        let now = self.net.now();
        self.host.turn();
        let mut moved = false;
        for (start, guest) in &mut self.guests {
            if *start <= now {
                moved |= guest.turn();
            }
        }
        for intruder in &mut self.intruders {
            moved |= intruder.turn();
        }
        if let Some(operator) = &mut self.operator {
            moved |= operator.turn();
            if let Some(why) = &operator.wrong
                && self.scene.is_clean
                && !self.shutdown.has_begun()
            {
                return Err(format!("the console: {why}"));
            }
        }
        moved |= self.send_late_cancels(now);
        self.see_off()?;
        let executed = self.host.server.take_executed().len() as u64;
        self.report.statements += executed;
        for (pid, text) in self.host.server.take_cancelled() {
            let is_wanted = text.contains("pg_sleep") || self.shutdown.has_begun();
            if self.scene.is_clean && (!is_wanted || text.contains("pg_catalog.set_config")) {
                return Err(format!("a cancel hit {text:?} of process {pid}"));
            }
            if text.contains("pg_catalog.set_config") {
                self.hit.push((now + CANCELLED_MAX, pid, text));
            }
        }
        if !self.hit.is_empty() {
            // One that waits in a statement learns only afterwards that nobody is there.
            self.hit.retain(|(_, pid, _)| !self.host.is_deserted(*pid));
            if let Some((_, pid, text)) = self.hit.iter().find(|(until, ..)| *until < now) {
                return Err(format!("a cancel hit {text:?} of process {pid}, which lives on"));
            }
        }
        self.invite();
        if let Some(fault) = self.host.faults.pop() {
            return Err(format!("a server could not read what it was sent: {fault}"));
        }
        self.watch_new();
        let slots: usize = self.watches.iter().map(|watch| watch.pool.lock().state.size_max()).sum();
        let clients = self.host.clients();
        // Who did not go in its time is left without a word, and hears of that a little later.
        let impatient: u64 = self.drivers.iter().map(|driver| driver.worker.counters.impatient_closes).sum();
        if clients > slots && clients - slots > self.host.left().min(impatient as usize) {
            let (seen, pools) = (self.host.describe(), self.pools());
            return Err(format!("{clients} connections at the server, {slots} slots: {pools}\n{seen}"));
        }
        self.watches.retain(|watch| {
            let shelf = watch.pool.lock();
            !shelf.state.is_retired() || shelf.state.counts().total() > 0
        });
        Ok(moved)
    }

    /// Clients that have gone are counted.
    fn see_off(&mut self) -> Result<(), String> {
        let mut wrong = None;
        let report = &mut self.report;
        self.guests.retain(|(_, guest)| {
            match guest.client.verdict() {
                Verdict::Wrong(why) => wrong = Some(format!("client {}: {why}", guest.client.number)),
                _ if !guest.is_gone() => return true,
                Verdict::Done => report.done += 1,
                Verdict::Failed(_) => report.failed += 1,
                _ => report.vanished += 1,
            }
            report.answers += guest.client.answers;
            false
        });
        wrong.map_or(Ok(()), Err)
    }

    fn send_late_cancels(&mut self, now: Time) -> bool {
        let due: Vec<_> = {
            let mut shared = self.shared.lock();
            let (due, later) = shared.late_cancels.drain(..).partition(|(at, ..)| *at <= now);
            shared.late_cancels = later;
            due
        };
        for (_, address, bytes) in due {
            self.late_cancels.push((self.net.connect(address), bytes));
        }
        self.late_cancels.retain_mut(|(socket, bytes)| {
            if let Ok(count) = socket.write(bytes) {
                bytes.drain(..count);
            }
            !bytes.is_empty()
        });
        false
    }

    // ---------------------------------------------------------------------------------------- control

    /// What the control and the helper thread do: one thing. False if there was nothing.
    fn control(&mut self) -> bool {
        let now = self.net.now();
        if let Some(socket) = self.net.accept(proxy_address()) {
            if self.shutdown.has_begun() {
                // Nobody listens any more.
                return true;
            }
            let peers = self.common.peers.iter().enumerate();
            let fewest = peers.min_by_key(|(_, peer)| peer.clients.load(Ordering::Relaxed));
            if let Some((worker, to)) = fewest {
                to.clients.fetch_add(1, Ordering::Relaxed);
                let socket = Line::plain(Wire::accepted(socket, &self.net, &self.shared));
                let peer = SocketAddr::from(([10, 0, 1, 1], 40_000)).into();
                self.common.post(worker as u16, Mail::Client { socket, peer });
            }
            return true;
        }
        let order = {
            let mut shared = self.shared.lock();
            let due = shared.orders.iter().position(|(at, _)| *at <= now);
            due.map(|at| shared.orders.remove(at).1)
        };
        if let Some(order) = order {
            let reloads = matches!(order, Order::Control { command: Command::Reload, .. });
            if reloads && !std::mem::replace(&mut self.is_reload_near, reloads) {
                // So that workers are in the middle of something, and servers on their way to them.
                self.hold_others();
                let delay = Duration::from_micros(self.rng.below(5_000));
                self.shared.lock().orders.push((now + delay, order));
                return true;
            }
            self.is_reload_near &= !reloads;
            self.order(order);
            return true;
        }
        if self.shutdown.next_time() <= now {
            // Servers that one worker frees are on their way to clients of the others, who are to be ended.
            self.hold_others();
            self.shutdown.advance(&self.world, &self.common, now);
            return true;
        }
        if now >= self.next_upkeep && !self.is_closing && self.shutdown.is_serving() {
            self.next_upkeep = now + upkeep::INTERVAL;
            self.upkeep.run(&self.world, &self.common, now);
            return true;
        }
        false
    }

    /// All threads but one do not get the processor for a while.
    fn hold_others(&mut self) {
        let spared = self.rng.below(self.drivers.len() as u64) as usize;
        let until = self.net.now() + Duration::from_micros(5_000 + self.rng.below(5_000));
        for (at, driver) in self.drivers.iter_mut().enumerate() {
            if at != spared {
                driver.held_until = driver.held_until.max(until);
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Resolve { asker, host, port } => {
                let fails = !self.scene.is_clean && !self.is_healed() && self.rng.below(20) == 0;
                let result = match &*host {
                    PG_NAME if !fails => Ok(vec![SocketAddr::new(pg_address().ip(), port)]),
                    _ => Err("no such host".to_string()),
                };
                self.common.post(asker.worker, Mail::Resolved { token: asker.token, result });
            }
            Order::Ask { asker, ask } => {
                let answer = ask.run();
                self.common.post(asker.worker, Mail::Answer { token: asker.token, answer });
            }
            Order::Control { asker, command } => {
                let answer = match command {
                    Command::Shutdown => {
                        self.shut_down();
                        Ok(pgdog::admin::complete("SHUTDOWN"))
                    }
                    Command::Reload => {
                        self.reload();
                        Ok(pgdog::admin::complete("RELOAD"))
                    }
                    _ => Err(ClientError::Internal),
                };
                self.common.post(asker.worker, Mail::Console { token: asker.token, answer });
            }
            Order::Drained => {
                self.shutdown.on_drained();
                self.shutdown.advance(&self.world, &self.common, self.net.now());
            }
        }
    }

    fn shut_down(&mut self) {
        *self.report.faults.entry("shutdowns").or_default() += 1;
        self.shutdown_at = None;
        self.shutdown.begin(&self.world, &self.common, self.net.now());
    }

    fn reload(&mut self) {
        self.reloads += 1;
        *self.report.faults.entry("reloads").or_default() += 1;
        let mut config = self.scene.config(self.reloads);
        config.keep_running(&self.world.config);
        self.common.shared.statements().set_limit(config.general.prepared_statements_limit);
        let world = Arc::new(World::build(Arc::new(config), Some(&self.world)));
        replace_world(&self.world, &world, &self.sealer, &self.common);
        self.world = world;
        self.watch_new();
    }

    // ----------------------------------------------------------------------------------------- faults

    fn break_something(&mut self) {
        let now = self.net.now();
        if now >= self.better_at {
            self.better_at = Time::NEVER;
            self.net.answer(pg_address(), Answer::Accept);
            self.host.server.config().refuse = Refuse::No;
        }
        if now < self.next_fault || self.is_healed() {
            return;
        }
        self.next_fault = now + Duration::from_micros(self.rng.below(2 * self.scene.fault_pause));
        let is_wide = self.rng.below(2) == 0;
        self.host.server.reshape_table("postgres", SHAPED, is_wide);
        let seen = self.host.server.seen();
        let Some(victim) = (!seen.is_empty()).then(|| &seen[self.rng.below(seen.len() as u64) as usize])
        else {
            return;
        };
        let reset = self.rng.below(2) == 0;
        let harmless = self.scene.is_clean;
        let choice = if harmless { self.rng.below(20) } else { self.rng.below(100) };
        let (name, fault) = match choice {
            0..10 => ("notices", Fault::Notice(format!("{ASIDE} of {:?}", victim.id))),
            10..20 => {
                let value = if self.rng.below(2) == 0 { "on" } else { "off" };
                ("parameters", Fault::Parameter("in_hot_standby".into(), value.into()))
            }
            20..30 => ("deaths", Fault::DieNow { reset }),
            30..40 => {
                ("deaths in output", Fault::DieAfterOutput { bytes: self.rng.below(500) as usize, reset })
            }
            40..48 => {
                let statements = self.rng.below(3) as u32;
                ("deaths at statement", Fault::DieAtStatement { statements, reset })
            }
            48..56 => ("terminations", Fault::Terminate),
            56..68 => {
                let time = Duration::from_micros(self.rng.below(800_000));
                ("slow statements", Fault::SlowNext(time))
            }
            68..70 => ("silences", Fault::Silent),
            70..80 if self.scene.lies => {
                let lie = match self.rng.below(4) {
                    0 => Lie::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
                    1 => Lie::Length(-5),
                    2 => Lie::Length(i32::MAX),
                    _ => Lie::Tag(b'?'),
                };
                ("lies", Fault::Lie(lie))
            }
            80..84 => {
                self.better_at = now + Duration::from_micros(self.rng.below(200_000));
                let answer = if self.rng.below(2) == 0 { Answer::Refuse } else { Answer::Hang };
                return self.net.answer(pg_address(), answer);
            }
            84..88 => {
                self.better_at = now + Duration::from_micros(self.rng.below(200_000));
                let refuse = [Refuse::StartingUp, Refuse::ShuttingDown, Refuse::Close, Refuse::Silent];
                self.host.server.config().refuse = refuse[self.rng.below(4) as usize].clone();
                *self.report.faults.entry("refused logins").or_default() += 1;
                return;
            }
            88 => {
                *self.report.faults.entry("crashes").or_default() += 1;
                return self.host.server.crash(now);
            }
            _ => return,
        };
        *self.report.faults.entry(name).or_default() += 1;
        self.host.server.inject(victim.id, fault, now);
    }

    /// From here on nothing fails.
    fn heal(&mut self) {
        self.healed_at = self.net.now();
        self.net.heal();
        self.better_at = Time::NEVER;
        self.host.server.config().refuse = Refuse::No;
        self.shared.lock().deregister_fails = 0;
        self.intruders.clear();
    }

    // ------------------------------------------------------------------------------------------- run

    fn is_over(&self) -> bool {
        self.guests.is_empty() && self.operator.as_ref().is_none_or(Operator::is_gone)
    }

    fn go(&mut self) -> Result<(), String> {
        self.invite();
        loop {
            self.step()?;
            let now = self.net.now();
            let enough = self.report.statements >= self.scene.statements as u64 || self.shutdown.has_ended();
            if !self.is_healed() && (enough || now > Time::ZERO + self.scene.lasts) {
                self.heal();
            }
            if self.shutdown_at.is_some_and(|at| self.report.statements >= at) {
                self.shut_down();
            }
            if self.is_over() && self.is_healed() {
                return Ok(());
            }
            if self.is_healed() && now > self.healed_at + self.scene.ends_within {
                let waiting: Vec<_> = self.guests.iter().map(|(_, guest)| guest.describe()).collect();
                return Err(format!(
                    "stuck, {} s after the last fault; pools {}; console {}:\n{}\n{}",
                    self.scene.ends_within.as_secs(),
                    self.pools(),
                    self.operator.as_ref().is_none_or(Operator::is_gone),
                    waiting.join("\n"),
                    self.host.describe(),
                ));
            }
        }
    }

    fn pools(&self) -> String {
        let one = |watch: &Watch| format!("{:?}", watch.pool.lock().state.counts());
        self.watches.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// One step of somebody.
    fn step(&mut self) -> Result<(), String> {
        self.report.steps += 1;
        if self.report.steps > STEPS_MAX {
            let awake: Vec<_> = self.drivers.iter().map(Driver::describe).collect();
            return Err(format!(
                "too many steps: something turns on the spot\n  network {:?}, server {:?}, workers {awake:?}",
                self.net.next_time(),
                self.host.next_time(),
            ));
        }
        let now = self.net.now();
        let runs = |driver: &Driver| driver.held_until <= now && !driver.is_asleep();
        let awake: Vec<usize> = (0..self.drivers.len()).filter(|at| runs(&self.drivers[*at])).collect();
        let mut moved = false;
        if awake.is_empty() || self.rng.below(6) == 0 {
            moved = self.others()?;
        }
        if awake.is_empty() || self.rng.below(8) == 0 {
            moved |= self.control();
            self.break_something();
        }
        if !awake.is_empty() {
            let at = awake[self.rng.below(awake.len() as u64) as usize];
            self.drivers[at].step(&mut self.rng);
            if self.rng.below(300) == 0 {
                // Its thread does not get the processor for a while.
                self.drivers[at].held_until = now + Duration::from_micros(self.rng.below(20_000));
            }
            if self.drivers[at].idle_serves > IDLE_SERVES_MAX {
                return Err(format!("a worker turns on the spot: {}", self.drivers[at].describe()));
            }
            if self.report.steps.is_multiple_of(16) {
                let worker = &self.drivers[at].worker;
                let (counted, held) = (worker.buffer_bytes(), worker.held_bytes());
                if counted != held {
                    return Err(format!("{counted} bytes of buffers are out, and {held} are anywhere"));
                }
            }
            self.double_checkin();
            for watch in &mut self.watches {
                watch.look(self.scene.workers)?;
            }
            self.check_limits()?;
            if self.report.steps.is_multiple_of(64) {
                self.check_memory()?;
            }
        }
        let asleep = awake.is_empty() && !moved;
        if asleep || self.rng.below(16) == 0 {
            self.pass_time(asleep);
        }
        Ok(())
    }

    /// Lets time pass until something happens; only a little while somebody has work.
    fn pass_time(&mut self, asleep: bool) {
        let now = self.net.now();
        if self.net.next_time() <= now {
            return self.net.advance(now);
        }
        // Who is late already waits for something else.
        let mut next = self.net.next_time();
        let mut at = |time: Time| next = if time > now { next.min(time) } else { next };
        at(self.host.next_time());
        at(self.better_at);
        if !self.is_healed() {
            at(self.next_fault.max(now + Duration::from_micros(1)));
        }
        if !self.is_closing && self.shutdown.is_serving() {
            at(self.next_upkeep);
        }
        at(self.shutdown.next_time());
        for (start, guest) in &self.guests {
            at(guest.next_time().max(*start));
        }
        if let Some(operator) = &self.operator {
            at(operator.next_time());
        }
        for driver in &self.drivers {
            at(driver.next_time());
            at(driver.held_until);
        }
        {
            let shared = self.shared.lock();
            shared.orders.iter().for_each(|(time, _)| at(*time));
            shared.late_cancels.iter().for_each(|(time, ..)| at(*time));
        }
        if !asleep {
            next = next.min(now + Duration::from_micros(self.rng.below(100)));
        }
        if next == Time::NEVER {
            // Nothing will ever happen again; the checks of time go on.
            next = now + Duration::from_secs(1);
        }
        self.net.advance(next);
    }

    /// Pools come with reloads, and on demand.
    fn watch_new(&mut self) {
        for pool in self.world.pools() {
            if !self.watches.iter().any(|watch| Arc::ptr_eq(&watch.pool, &pool)) {
                self.watches.push(Watch::new(pool));
            }
        }
    }

    fn double_checkin(&mut self) {
        if !self.shared.lock().has(SimBug::DoubleCheckin) || self.rng.below(2_000) != 0 {
            return;
        }
        let pool = &self.world.pools()[0];
        let open = {
            let mut shelf = pool.lock();
            if shelf.state.counts().busy == 0 {
                return;
            }
            shelf.state.close();
            shelf.state.closed()
        };
        if open {
            self.common.post(0, Mail::Open { pool: pool.clone() });
        }
    }

    /// The limits over several pools, counted pool by pool.
    fn check_limits(&mut self) -> Result<(), String> {
        let general = &self.world.config.general;
        let (of_database, of_user) = (general.max_db_connections.get(), general.max_user_connections.get());
        if of_database.is_none() && of_user.is_none() {
            return Ok(());
        }
        let (mut all, mut users) = (0, BTreeMap::<&str, usize>::new());
        for watch in &self.watches {
            let shelf = watch.pool.lock();
            let total = shelf.state.counts().total();
            self.starved |= shelf.state.starves();
            all += total;
            *users.entry(&watch.pool.config.name.user).or_default() += total;
        }
        let most = users.into_values().max().unwrap_or(0);
        if of_database.is_some_and(|limit| all > limit) || of_user.is_some_and(|limit| most > limit) {
            return Err(format!(
                "{all} servers, {most} of one user; {of_database:?} and {of_user:?} are allowed"
            ));
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), String> {
        let sum = |of: fn(&Worker<WorkerNet>) -> usize| -> usize {
            self.drivers.iter().map(|driver| of(&driver.worker)).sum()
        };
        let (chunks, own) = (sum(Worker::buffer_bytes), sum(Worker::own_bytes));
        let sessions = sum(Worker::session_count);
        // Servers of pools that have gone are still being closed.
        let configured: usize = self.watches.iter().map(|watch| watch.pool.config.size).sum();
        let servers = configured.max(sum(Worker::entry_count));
        let budget = Budget::of(self.scene.workers, sessions, servers);
        if chunks > budget.chunks || own > budget.own {
            return Err(format!("{chunks} bytes of buffers and {own} of our own, but {budget:?}"));
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------------- rest

    /// Everybody has gone: what is left must be parked servers, and nothing else.
    fn rest(&mut self) -> Result<(), String> {
        let rest = if self.scene.is_clean { REST_CLEAN } else { REST };
        let until = self.net.now() + rest;
        while self.net.now() < until {
            self.step()?;
        }
        // Letters that can wait until their worker wakes for something else are read.
        self.common.post_all(|| Mail::Cancelled { token: u64::MAX });
        self.until_rest(false)?;
        // As at a shutdown.
        self.is_closing = true;
        for pool in self.world.pools() {
            let (servers, _) = pool.lock().state.retire();
            for server in servers {
                self.common.post(server.home.worker, Mail::Close { server });
            }
        }
        self.until_rest(true)
    }

    fn until_rest(&mut self, timers_too: bool) -> Result<(), String> {
        let give_up = self.net.now() + Duration::from_secs(10);
        loop {
            match self.check_rest(timers_too) {
                Ok(()) => return Ok(()),
                Err(why) if self.net.now() > give_up => {
                    let workers: Vec<_> =
                        self.drivers.iter().map(|driver| driver.worker.describe()).collect();
                    return Err(format!("{why}\n{}\n{}", workers.join("\n"), self.host.describe()));
                }
                Err(_) => self.step()?,
            }
        }
    }

    fn check_rest(&self, timers_too: bool) -> Result<(), String> {
        let mut idle = 0;
        for watch in &self.watches {
            let counts = watch.pool.lock().state.counts();
            idle += counts.idle;
            if counts.total() != counts.idle || counts.waiting > 0 {
                return Err(format!("a pool at rest: {counts:?}"));
            }
        }
        let sum = |of: fn(&Worker<WorkerNet>) -> usize| -> usize {
            self.drivers.iter().map(|driver| of(&driver.worker)).sum()
        };
        let clients: usize = self.common.peers.iter().map(|p| p.clients.load(Ordering::Relaxed)).sum();
        // A parked server may have fallen silent, which nobody can know before it is used.
        let (open, silent) = (self.host.open(), self.host.silent());
        let open = if open < idle && open + silent >= idle { idle } else { open };
        let left = [
            ("clients counted", clients, 0),
            ("sessions", sum(Worker::session_count), 0),
            ("entries of tables", sum(Worker::entry_count), idle),
            ("bytes of buffers", sum(Worker::buffer_bytes), 0),
            ("timers", if timers_too { sum(Worker::timer_count) } else { 0 }, 0),
            ("things to serve", sum(Worker::ready_count), 0),
            ("connections at the server", open, idle),
            ("locks", self.host.server.locks_held(), 0),
            ("clients that count", self.common.shared.clients.count(), 0),
        ];
        match left.iter().find(|(_, count, wanted)| count != wanted) {
            Some((what, count, wanted)) => Err(format!("at rest {count} {what}, {wanted} expected")),
            None => Ok(()),
        }
    }

    fn finish_report(&mut self) {
        let random = self.rng.next_u64();
        self.net.trace(&format!("end {random} {:?}", self.report));
        let report = &mut self.report;
        report.hash = self.net.trace_hash();
        report.simulated = self.net.now().since(Time::ZERO);
        *report.marks.entry("a pool starves under a limit over several").or_default() +=
            u64::from(self.starved);
        for (name, count) in self.net.counters() {
            *report.faults.entry(name).or_default() += count;
        }
        for driver in &self.drivers {
            let counters = &driver.worker.counters;
            let marks = [
                ("bytes already decrypted when a server moves", counters.decrypted_checkins),
                ("a server comes back with something to read", counters.unread_checkins),
                ("a server comes back with ciphertext to send", counters.unsent_checkins),
                ("a late event at home after a steal", counters.parked_taken),
                ("a late event for nothing", counters.late_events),
                ("a parked server has an event and nothing to say", counters.parked_quiet),
                ("a parked server says something of no importance", counters.parked_heard),
                ("a parked server closes", counters.parked_closed),
                ("data and close in one event", counters.closing_reads),
                ("a waiter leaves when a grant is on its way", counters.late_withdrawals),
                ("a grant reaches a session that does not want it", counters.late_grants),
                ("a grant reaches a session that has ended", counters.lost_grants),
                ("a server comes back to a pool that was replaced", counters.retired_checkins),
                ("a checkout meets a pool that was replaced", counters.retired_checkouts),
                ("a server cannot be deregistered", counters.deregister_failures),
                ("the connection of a database listens for a client", counters.listens),
                ("no connection listens for a client", counters.refused_listens),
                ("the connection that listened for a client is lost", counters.lost_listens),
                ("those who listen are slower than what they listen to", counters.paused_listens),
                ("a session moves to another worker", counters.moves),
                ("a cancel request follows a session", counters.followed_cancels),
                ("a server is taken from another worker", counters.steals),
                ("a server is granted across workers", counters.handoffs),
            ];
            for (name, count) in marks {
                *report.marks.entry(name).or_default() += count;
            }
            for (name, count) in &driver.marks {
                *report.marks.entry(name).or_default() += count;
            }
        }
    }
}
