//! The control thread.
//!
//! It ends as [`crate::worker::shutdown`] says. A second signal ends the process at once.

use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::admin::{Command, complete};
use crate::base::limits::{BUSY_INTERVAL, NOTIFICATIONS_UNDERWAY_MAX};
use crate::base::time::Time;
use crate::cluster::shared::Shared;
use crate::config::Config;
use crate::control::accept::{self, Acceptor, UnixSocket};
use crate::control::helper;
use crate::io::mio_net::{self, Clock, MioNet};
use crate::io::net::Net;
use crate::io::random::OsRng;
use crate::io::stream::Stream;
use crate::io::sys;
use crate::io::tls::TlsSealer;
use crate::io::transport::{Sealer, Transport};
use crate::session::errors::ClientError;
use crate::session::server::ServerWorld;
use crate::worker::Worker;
use crate::worker::mail::{Busy, Common, Mail, Mailbox, Order, Orders, Peer};
use crate::worker::shutdown::Shutdown;
use crate::worker::upkeep::{self, Upkeep, replace_world};

const SIGNALS: [(Token, i32); 3] = [(Token(1), SIGHUP), (Token(2), SIGTERM), (Token(3), SIGINT)];
const WAKER: Token = Token(4);

/// Why a configuration cannot be used: lines to show.
pub type Faults = Vec<String>;

type Line = Transport<Stream>;
type World = ServerWorld<Line>;

pub struct Process {
    poll: Poll,
    events: Events,
    clock: Clock,
    /// The listening socket, for its options; a worker accepts. None once nobody is accepted any more.
    listener: Option<TcpListener>,
    /// The Unix socket's file; it is removed with this value.
    unix_socket: Option<UnixSocket>,
    signals: Vec<(Token, i32, UnixStream)>,
    inbox: Arc<Inbox>,
    common: Arc<Common<Line>>,
    world: Arc<World>,
    sealer: Arc<dyn Sealer>,
    upkeep: Upkeep,
    next_upkeep: Time,
    shutdown: Shutdown,
    load: Box<dyn FnMut() -> Result<Config, Faults>>,
    threads: Vec<JoinHandle<()>>,
}

/// Orders of workers: those for the helper go on to it, the others wait here for the control thread.
struct Inbox {
    helper: Sender<Order>,
    waiting: Mutex<Vec<Order>>,
    waker: Waker,
}

impl Orders for Arc<Inbox> {
    fn send(&self, order: Order) {
        match order {
            Order::Resolve { .. } | Order::Ask { .. } => {
                // The helper ends only with the process.
                let _ = self.helper.send(order);
            }
            order => {
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(order);
                if let Err(error) = self.waker.wake() {
                    log::error!("cannot wake the control thread: {error}");
                }
            }
        }
    }
}

/// Runs until the process is told to stop. `load` reads the configuration again, for a reload.
pub fn run(config: Config, load: Box<dyn FnMut() -> Result<Config, Faults>>) -> io::Result<()> {
    let mut process = Process::start(config, load)?;
    while !process.shutdown.has_ended() {
        process.turn()?;
    }
    process.stop();
    Ok(())
}

impl Process {
    fn start(config: Config, load: Box<dyn FnMut() -> Result<Config, Faults>>) -> io::Result<Process> {
        match sys::raise_file_limit() {
            Ok(limit) => log::info!("at most {limit} open files"),
            Err(error) => log::warn!("cannot raise the limit of open files: {error}"),
        }
        let sealer =
            TlsSealer::load(&config.general).map_err(|faults| io::Error::other(faults.join("; ")))?;
        let sealer: Arc<dyn Sealer> = Arc::new(sealer);
        let poll = Poll::new()?;
        let clock = Clock;
        let listener = accept::listen(&config.general.host, config.general.port, &config.tcp)?;
        let address = listener.local_addr()?;
        let mut unix_socket = UnixSocket::listen(&config.general)?;
        let signals = watch_signals(&poll)?;

        let (helper_orders, helper_inbox) = mpsc::channel();
        let waker = Waker::new(poll.registry(), WAKER)?;
        let inbox = Arc::new(Inbox { helper: helper_orders, waiting: Mutex::default(), waker });
        let workers = config.general.workers.max(1);
        let mut nets = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..workers {
            let net = MioNet::new(clock)?;
            peers.push(Peer {
                mailbox: Mailbox::new(Box::new(net.waker()?)),
                registrar: Box::new(net.registrar()?),
                clients: AtomicUsize::new(0),
                notifications: AtomicUsize::new(0),
                busy: Busy::default(),
            });
            nets.push(net);
        }
        let common = Arc::new(Common {
            peers,
            shared: Shared::new(config.general.prepared_statements_limit, &mut OsRng::new()?),
            orders: Box::new(inbox.clone()),
            servers: AtomicUsize::new(0),
            notifications_max: NOTIFICATIONS_UNDERWAY_MAX,
            bugs: AtomicUsize::new(0),
        });
        let world = Arc::new(World::build(Arc::new(config), None));

        let mut threads = Vec::new();
        for (id, net) in nets.into_iter().enumerate() {
            let (common, world, rng) = (common.clone(), world.clone(), Box::new(OsRng::new()?));
            let sealer = sealer.clone();
            let name = format!("pgdog-worker-{id}");
            let acceptor = match id {
                accept::WORKER => {
                    let unix = unix_socket.as_mut().and_then(UnixSocket::take);
                    Some(Acceptor::new(listener.try_clone()?, unix, &net, common.clone())?)
                }
                _ => None,
            };
            let body = move || work(Worker::new(id as u16, net, common, world, sealer, rng), acceptor);
            threads.push(std::thread::Builder::new().name(name).spawn(body)?);
        }
        let for_helper = common.clone();
        std::thread::Builder::new()
            .name("pgdog-helper".into())
            .spawn(move || helper::run(&helper_inbox, &for_helper))?;

        log::info!(
            "pgdog {} listens on {address}{}: {workers} workers, {} pools",
            env!("CARGO_PKG_VERSION"),
            unix_socket.as_ref().map(|socket| format!(" and {}", socket.name())).unwrap_or_default(),
            world.pools().len()
        );
        let now = clock.now();
        Ok(Process {
            poll,
            events: Events::with_capacity(64),
            clock,
            listener: Some(listener),
            unix_socket,
            signals,
            inbox,
            common,
            world,
            sealer,
            upkeep: Upkeep::new(now),
            next_upkeep: now,
            shutdown: Shutdown::default(),
            load,
            threads,
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        let until = self.next_upkeep.min(self.shutdown.next_time());
        match self.poll.poll(&mut self.events, Some(until.since(self.clock.now()))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = self.clock.now();
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                WAKER => {}
                token => self.on_signal(token, now),
            }
        }
        self.events = events;
        let orders = std::mem::take(&mut *self.inbox.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for order in orders {
            self.on_order(order, now);
        }
        if now >= self.next_upkeep {
            self.next_upkeep = now + upkeep::INTERVAL;
            if self.shutdown.is_serving() {
                self.upkeep.run(&self.world, &self.common, now);
            }
        }
        self.shutdown.advance(&self.world, &self.common, now);
        Ok(())
    }

    fn on_signal(&mut self, token: Token, now: Time) {
        let Some((_, signal, pipe)) = self.signals.iter_mut().find(|(of, ..)| *of == token) else { return };
        let signal = *signal;
        let mut bytes = [0; 64];
        while matches!(pipe.read(&mut bytes), Ok(n) if n > 0) {}
        match signal {
            SIGHUP => drop(self.reload()),
            _ if !self.shutdown.has_begun() => self.shut_down(now),
            _ => {
                log::warn!("a second signal: stopping at once");
                std::process::exit(1);
            }
        }
    }

    fn on_order(&mut self, order: Order, now: Time) {
        match order {
            Order::Control { asker, command } => {
                let answer = match command {
                    Command::Reload => self.reload().map(|()| complete("RELOAD")).map_err(|faults| {
                        let text = format!("the configuration is unchanged: {}", faults.join("; "));
                        ClientError::Console { state: "F0000", text }
                    }),
                    Command::Shutdown => {
                        // The answer goes ahead: the console is closed with all the others.
                        let answer = Ok(complete("SHUTDOWN"));
                        self.common.post(asker.worker, Mail::Console { token: asker.token, answer });
                        return self.shut_down(now);
                    }
                    _ => Err(ClientError::Internal),
                };
                self.common.post(asker.worker, Mail::Console { token: asker.token, answer });
            }
            Order::Drained => self.shutdown.on_drained(),
            Order::Resolve { .. } | Order::Ask { .. } => {}
        }
    }

    /// Reads the configuration again. A faulty one changes nothing.
    fn reload(&mut self) -> Result<(), Faults> {
        let unusable = |faults: &Faults| {
            log::error!("the configuration cannot be used and stays as it was:");
            faults.iter().for_each(|fault| log::error!("{fault}"));
        };
        let mut config = (self.load)().inspect_err(unusable)?;
        let sealer = TlsSealer::load(&config.general).inspect_err(unusable)?;
        let changes = Config::changes(&self.world.config, &config);
        for key in &changes.restart {
            log::warn!("{key} has changed: that takes a restart");
        }
        config.keep_running(&self.world.config);
        crate::io::log::set_level(&config.general.log_level);
        self.common.shared.statements().set_limit(config.general.prepared_statements_limit);
        self.listener.iter().for_each(|listener| mio_net::tune(listener, &config.tcp));
        let world = Arc::new(World::build(Arc::new(config), Some(&self.world)));
        self.sealer = Arc::new(sealer);
        replace_world(&self.world, &world, &self.sealer, &self.common);
        self.world = world;
        log::info!("the configuration has been read again");
        Ok(())
    }

    fn shut_down(&mut self, now: Time) {
        self.listener = None;
        self.unix_socket = None;
        self.shutdown.begin(&self.world, &self.common, now);
    }

    fn stop(self) {
        self.common.post_all(|| Mail::Stop);
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a worker has panicked");
            }
        }
        log::info!("stopped");
    }
}

/// The loop of a worker's thread. The clock is read once before and once after each wait.
fn work(mut worker: Worker<MioNet>, mut acceptor: Option<Acceptor>) {
    let mut events = Vec::new();
    let mut done = worker.net.now();
    let mut meter = Meter::new(done);
    while !worker.is_stopped() {
        let accepts = acceptor.as_ref().map_or(Time::NEVER, Acceptor::next_time);
        let until = worker.wait_until().min(accepts);
        if let Err(error) = worker.net.poll(done, until, &mut events) {
            log::error!("worker {} cannot wait for events: {error}", worker.id);
            std::process::abort();
        }
        worker.begin_turn();
        let woke = worker.now();
        if let Some(acceptor) = &mut acceptor
            && (worker.net.has_clients() || accepts <= woke)
        {
            acceptor.accept(woke);
        }
        worker.turn(&events);
        events.clear();
        if worker.is_draining() {
            acceptor = None;
        }
        done = worker.net.now();
        if let Some(percent) = meter.look(done) {
            worker.tell_busy(percent);
        }
    }
}

/// How much of its time a worker's thread works. That it waits for a processor does not count: on another thread its clients
/// would wait, too.
struct Meter {
    began: Time,
    worked: Duration,
}

impl Meter {
    fn new(now: Time) -> Meter {
        Meter { began: now, worked: sys::thread_time() }
    }

    /// Now and then, the percentage since the last answer.
    fn look(&mut self, now: Time) -> Option<u32> {
        let passed = now.since(self.began);
        if passed < BUSY_INTERVAL {
            return None;
        }
        let next = Meter::new(now);
        let worked = next.worked.saturating_sub(self.worked);
        *self = next;
        Some((worked.as_micros() * 100 / passed.as_micros().max(1)) as u32)
    }
}

fn watch_signals(poll: &Poll) -> io::Result<Vec<(Token, i32, UnixStream)>> {
    let mut signals = Vec::new();
    for (token, signal) in SIGNALS {
        let (read, write) = StdUnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal, write)?;
        let mut read = UnixStream::from_std(read);
        poll.registry().register(&mut read, token, Interest::READABLE)?;
        signals.push((token, signal, read));
    }
    Ok(signals)
}
