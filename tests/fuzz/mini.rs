//! A worker in miniature: one session, one pool, no sockets. It reads, writes and carries out actions exactly as
//! `src/worker/sessions.rs` and `src/worker/servers.rs` do; how many bytes a socket gives or takes at once is the
//! test's choice. A socket is a number.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pgdog::base::chunk::Chunks;
use pgdog::base::limits::{CHUNK_LARGE_BYTES, HELD_FRAME_BYTES_MAX, OWN_BYTES_MAX};
use pgdog::base::outbox::{Outbox, Piece};
use pgdog::base::relay::Relay;
use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;
use pgdog::cluster::pool::{Checkin, Checkout, Ticket};
use pgdog::cluster::shared::Shared;
use pgdog::cluster::world::{Name, OpenFailure, World};
use pgdog::config::load::{Sources, Text, build};
use pgdog::session::cx::{Action, Answer, Ask, Cx, Discard};
use pgdog::session::inbound::Inbound;
use pgdog::session::server::{Phase, Server, ServerPool, ServerWorld};
use pgdog::session::{CancelKey, Closing, Session, Side, Unbound};
use pgdog::wire::encode;
use pgdog::wire::frame::Header;

pub type Line = u32;
type Held = Box<Server<Line>>;

/// What a peer has sent that has not been read yet.
#[derive(Default)]
pub struct Incoming {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl Incoming {
    /// As a socket's read: none if there is nothing, zero at the end.
    fn read(&mut self, room: &mut [u8], at_most: usize) -> Option<usize> {
        let n = room.len().min(at_most).min(self.bytes.len());
        for (slot, byte) in room.iter_mut().zip(self.bytes.drain(..n)) {
            *slot = byte;
        }
        (n > 0 || std::mem::take(&mut self.ended)).then_some(n)
    }

    fn is_ready(&self) -> bool {
        !self.bytes.is_empty() || self.ended
    }
}

pub struct Mini {
    pub now: Time,
    rng: SeededRng,
    pub chunks: Chunks,
    pub world: Arc<ServerWorld<Line>>,
    pub pool: Arc<ServerPool<Line>>,
    shared: Shared,
    actions: Vec<Action<Line>>,
    draining: bool,
    pub session: Option<Box<Session<Line>>>,
    unbound: BTreeMap<Line, Held>,
    parked: BTreeMap<Line, u64>,
    deliveries: VecDeque<(Ticket, Held)>,
    asks: VecDeque<(Option<Line>, Ask)>,
    next_line: Line,
    pub from_client: Incoming,
    pub from_servers: BTreeMap<Line, Incoming>,
    pub to_client: Vec<u8>,
    /// Everything that each server was ever sent.
    pub to_servers: BTreeMap<Line, Vec<u8>>,
    /// The most that one read brings, and what sockets still take before they are full.
    pub read_bytes_max: usize,
    pub client_takes: usize,
    pub servers_take: usize,
    /// Cancel requests that would have been sent.
    pub cancels: usize,
}

/// How a session is configured.
#[derive(Clone, Copy)]
pub struct Options {
    pub auth: &'static str,
    pub mode: &'static str,
    pub prepared: &'static str,
    pub recovery: &'static str,
    pub client_recovery: &'static str,
    pub pool_size: usize,
    pub prepared_limit: usize,
}

impl Options {
    pub const PLAIN: Options = Options {
        auth: "trust",
        mode: "transaction",
        prepared: "extended",
        recovery: "recover",
        client_recovery: "drop",
        pool_size: 2,
        prepared_limit: 100,
    };

    /// One of all combinations.
    pub fn of(byte: u8) -> Options {
        let bits = usize::from(byte);
        Options {
            auth: ["trust", "trust", "plain", "scram"][bits & 3],
            mode: ["transaction", "session", "statement", "transaction"][bits >> 2 & 3],
            prepared: ["extended", "disabled"][bits >> 4 & 1],
            recovery: ["recover", "rollback_only", "drop", "recover"][bits >> 5 & 3],
            client_recovery: ["recover", "drop"][bits >> 7],
            pool_size: 1 + (bits & 1),
            prepared_limit: 2,
        }
    }
}

/// Messages that a fuzzed client is made to send at most.
const ROUNDS_MAX: usize = 2_000;

impl Mini {
    pub fn new(options: Options, seed: u64) -> Mini {
        let mut rng = SeededRng::new(seed);
        let world = Arc::new(World::build(Arc::new(config(options)), None));
        let chunks = Chunks::new();
        let shared = Shared::new(100, &mut rng);
        let pool =
            world.cluster_of(&Name::new("db", "u")).expect("the configuration names it").pools[0].clone();
        let mut mini = Mini {
            now: Time::from_micros(1_000_000),
            rng,
            chunks,
            world,
            pool,
            shared,
            actions: Vec::new(),
            draining: false,
            session: None,
            unbound: BTreeMap::new(),
            parked: BTreeMap::new(),
            deliveries: VecDeque::new(),
            asks: VecDeque::new(),
            next_line: 1,
            from_client: Incoming::default(),
            from_servers: BTreeMap::new(),
            to_client: Vec::new(),
            to_servers: BTreeMap::new(),
            read_bytes_max: usize::MAX,
            client_takes: usize::MAX,
            servers_take: usize::MAX,
            cancels: 0,
        };
        let mut secret = [0; 32];
        mini.rng.fill(&mut secret);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1)).into();
        let session = Session::new(1, 0, peer, CancelKey::new(7, secret), &mini.cx());
        mini.session = Some(Box::new(session));
        mini
    }

    fn cx(&mut self) -> Cx<'_, Line> {
        Cx {
            now: self.now,
            rng: &mut self.rng,
            chunks: &mut self.chunks,
            world: &self.world,
            shared: &self.shared,
            actions: &mut self.actions,
            draining: self.draining,
            offers_tls: false,
        }
    }

    // ---- What happens to it.

    pub fn client_sends(&mut self, bytes: &[u8]) {
        if !self.from_client.ended {
            self.from_client.bytes.extend(bytes);
        }
    }

    pub fn client_ends(&mut self) {
        self.from_client.ended = true;
    }

    pub fn client_breaks(&mut self) {
        if let Some(mut session) = self.session.take() {
            session.on_client_lost(&mut self.cx());
            self.session = Some(session);
        }
        self.serve();
    }

    pub fn server_sends(&mut self, line: Line, bytes: &[u8]) {
        if let Some(incoming) = self.from_servers.get_mut(&line).filter(|incoming| !incoming.ended) {
            incoming.bytes.extend(bytes);
        }
    }

    pub fn server_ends(&mut self, line: Line) {
        if let Some(incoming) = self.from_servers.get_mut(&line) {
            incoming.ended = true;
        }
    }

    /// Servers whose connection stands.
    pub fn lines(&self) -> Vec<Line> {
        self.from_servers.keys().copied().collect()
    }

    pub fn parked_lines(&self) -> Vec<Line> {
        self.parked.keys().copied().collect()
    }

    pub fn pass_time(&mut self, span: Duration) {
        self.now = self.now + span;
        if let Some(mut session) = self.session.take() {
            session.on_time(&mut self.cx());
            self.session = Some(session);
        }
        for line in self.unbound.keys().copied().collect::<Vec<_>>() {
            if let Some(mut server) = self.unbound.remove(&line) {
                let step = server.on_time(self.now);
                self.on_unbound(server, step);
            }
        }
        let open = self.pool.lock().state.retry(self.now);
        (0..open).for_each(|_| self.open());
        self.serve();
    }

    pub fn cancel(&mut self) {
        self.with_session(|session, cx| session.on_cancel(cx));
    }

    pub fn drain(&mut self) {
        self.draining = true;
        self.with_session(|session, cx| session.on_drain(cx));
    }

    pub fn terminate(&mut self) {
        self.with_session(|session, cx| session.on_terminate(cx));
    }

    pub fn on_console(&mut self) {
        self.with_session(|session, cx| session.on_console(Ok(Vec::new()), cx));
    }

    /// The helper thread answers whatever it was asked.
    pub fn answer_asks(&mut self) {
        while let Some((line, ask)) = self.asks.pop_front() {
            match (line, ask.run()) {
                (None, answer) => self.with_session(|session, cx| session.on_answer(answer, cx)),
                (Some(line), Answer::Keys(keys)) => {
                    if let Some(mut server) = self.unbound.remove(&line) {
                        let step = server.on_keys(&keys, &mut self.cx());
                        self.on_unbound(server, step);
                    }
                }
                (Some(_), _) => {}
            }
        }
        self.serve();
    }

    fn with_session(&mut self, what: impl FnOnce(&mut Session<Line>, &mut Cx<'_, Line>)) {
        if let Some(mut session) = self.session.take() {
            what(&mut session, &mut self.cx());
            self.session = Some(session);
        }
        self.serve();
    }

    // ---- What it does.

    /// Reads, writes and acts until nothing more can be done.
    pub fn serve(&mut self) {
        let mut idle_rounds = 0;
        while idle_rounds < 1_000_000 {
            idle_rounds += 1;
            let progress = self.settle() | self.deliver() | self.read_session() | self.serve_unbound();
            self.check_bounds();
            if !progress {
                break;
            }
        }
        assert!(idle_rounds < 1_000_000, "it goes round and round");
        if let Some(mut session) = self.session.take() {
            session.rest(&mut self.cx());
            self.session = Some(session);
        }
        self.check_bounds();
    }

    fn settle(&mut self) -> bool {
        let mut progress = false;
        loop {
            let Some(mut session) = self.session.take() else {
                assert!(self.actions.is_empty(), "actions of a session that has ended");
                return progress;
            };
            let mut written = self.flush(&mut session);
            for action in std::mem::take(&mut self.actions) {
                written = true;
                self.run_action(&mut session, action);
            }
            let over = session.client.outbox.is_empty() || session.next_time() <= self.now;
            if session.is_closing() && over && self.actions.is_empty() {
                assert!(session.links.is_empty(), "a session ended with servers in its hands");
                session.release_buffers(&mut self.chunks);
                self.from_client = Incoming { bytes: VecDeque::new(), ended: true };
                return true;
            }
            self.session = Some(session);
            if !written {
                return progress;
            }
            progress = true;
        }
    }

    fn flush(&mut self, session: &mut Session<Line>) -> bool {
        let mut any = false;
        for at in 0..session.links.len() {
            let Session { client, links, .. } = &mut *session;
            let server = &mut *links[at].server;
            let relay = |source| (source == 0).then_some(&client.inbound.relay);
            let sink = self.to_servers.entry(server.socket).or_default();
            let n = write(&mut server.outbox, &mut self.chunks, relay, &mut self.servers_take, sink);
            if n > 0 {
                any = true;
                session.on_written(Side::Server(at), &mut self.cx());
            }
        }
        let Session { client, links, .. } = &mut *session;
        let relay = |source: u8| {
            links.get(usize::from(source).wrapping_sub(1)).map(|link| &link.server.inbound.relay)
        };
        let n =
            write(&mut client.outbox, &mut self.chunks, relay, &mut self.client_takes, &mut self.to_client);
        if n > 0 {
            any = true;
            session.on_written(Side::Client, &mut self.cx());
        }
        any
    }

    fn read_session(&mut self) -> bool {
        let Some(mut session) = self.session.take() else { return false };
        let progress = self.read_some(&mut session);
        self.session = Some(session);
        progress
    }

    fn read_some(&mut self, session: &mut Session<Line>) -> bool {
        for at in 0..session.links.len() {
            if !session.wants_read(Side::Server(at)) {
                continue;
            }
            let server = &mut session.links[at].server;
            let Some(incoming) = self.from_servers.get_mut(&server.socket) else { continue };
            match read(incoming, &mut server.inbound, &mut self.chunks, self.read_bytes_max) {
                None => continue,
                Some(0) => session.on_closed(Side::Server(at), &mut self.cx()),
                Some(_) => session.on_bytes(Side::Server(at), &mut self.cx()),
            }
            return true;
        }
        if session.wants_read(Side::Client) && self.from_client.is_ready() {
            let inbound = &mut session.client.inbound;
            match read(&mut self.from_client, inbound, &mut self.chunks, self.read_bytes_max) {
                None => return false,
                Some(0) => session.on_closed(Side::Client, &mut self.cx()),
                Some(_) => session.on_bytes(Side::Client, &mut self.cx()),
            }
            return true;
        }
        false
    }

    fn run_action(&mut self, session: &mut Session<Line>, action: Action<Line>) {
        match action {
            Action::Checkout { pool, number } => {
                let ticket = Ticket { worker: 0, session: 1, number };
                let checkout = pool.lock().state.checkout(ticket, self.now);
                match checkout {
                    Checkout::Ready(server) => {
                        self.parked.remove(&server.socket);
                        self.hand_over(session, number, server);
                    }
                    Checkout::Wait { open: true } => self.open(),
                    Checkout::Wait { open: false } => {}
                    Checkout::Retired => unreachable!("nothing replaces the pool"),
                }
            }
            Action::Withdraw { pool, number } => {
                pool.lock().state.withdraw(Ticket { worker: 0, session: 1, number });
            }
            Action::Checkin { link } if link < session.links.len() => {
                let server = session.unlink(link, &mut self.cx());
                assert!(server.is_settled(), "a server goes back in the middle of something");
                self.checkin(server);
            }
            Action::Abandon { link } if link < session.links.len() => {
                let mut server = session.unlink(link, &mut self.cx());
                let step = server.abandon(&mut self.cx());
                self.on_unbound(server, step);
            }
            Action::Discard { link, why } if link < session.links.len() => {
                session.links[link].server.outbox.clear(&mut self.chunks);
                let server = session.unlink(link, &mut self.cx());
                self.discard(server, why == Discard::Lost);
            }
            Action::Checkin { .. } | Action::Abandon { .. } | Action::Discard { .. } => {}
            Action::Cancel { .. } => self.cancels += 1,
            // There is nobody else: it has been carried out.
            Action::CancelKey(_) => session.on_cancelled(&mut self.cx()),
            Action::Ask(ask) => self.asks.push_back((None, ask)),
            Action::Listen { channels, number } => {
                // Somebody else listens for it, and is told something at once; now and then that fails, or ends.
                let luck = self.rng.below(8);
                session.on_listening(number, luck > 0, &mut self.cx());
                for channel in channels {
                    let mut message = Vec::new();
                    encode::message(&mut message, b'A', |buf| {
                        buf.extend_from_slice(&[0, 0, 0, 9]);
                        encode::cstr(buf, &channel);
                        encode::cstr(buf, b"of another");
                    });
                    session.on_notification(&message.into(), &mut self.cx());
                }
                if luck == 1 {
                    session.on_listening_lost(&mut self.cx());
                }
            }
            Action::Console(_) | Action::Close | Action::Seal { .. } | Action::Retire { .. } => {}
        }
    }

    fn hand_over(&mut self, session: &mut Session<Line>, number: u32, server: Held) {
        if let Some(server) = session.on_grant(number, server, &mut self.cx()) {
            self.checkin(server);
        }
    }

    fn deliver(&mut self) -> bool {
        let mut progress = false;
        while let Some((ticket, server)) = self.deliveries.pop_front() {
            progress = true;
            match self.session.take() {
                Some(mut session) => {
                    self.hand_over(&mut session, ticket.number, server);
                    self.session = Some(session);
                }
                None => self.checkin(server),
            }
        }
        progress
    }

    fn open(&mut self) {
        let line = self.next_line;
        self.next_line += 1;
        let address = SocketAddr::from(([127, 0, 0, 1], 5432)).into();
        let pool = self.pool.clone();
        let mut server =
            Box::new(Server::new(line, u64::from(line), pool, address, 1, self.now, &mut self.rng));
        server.on_connected(false);
        self.from_servers.insert(line, Incoming::default());
        self.unbound.insert(line, server);
    }

    /// Reads and writes of servers in nobody's hands, parked ones among them.
    fn serve_unbound(&mut self) -> bool {
        let mut progress = false;
        for line in self.unbound.keys().copied().collect::<Vec<_>>() {
            let Some(mut server) = self.unbound.remove(&line) else { continue };
            let sink = self.to_servers.entry(line).or_default();
            let n = write(&mut server.outbox, &mut self.chunks, |_| None, &mut self.servers_take, sink);
            let step = match self.read_unbound(&mut server) {
                Some(step) => {
                    progress = true;
                    step
                }
                None if n > 0 && matches!(server.phase, Phase::Cleaning { .. }) => {
                    server.on_bytes(&mut self.cx())
                }
                None => Unbound::Going,
            };
            progress |= n > 0 || !matches!(step, Unbound::Going);
            self.on_unbound(server, step);
        }
        for (line, id) in self.parked.clone() {
            if !self.from_servers.get(&line).is_some_and(Incoming::is_ready) {
                continue;
            }
            progress = true;
            let Some(mut server) = self.pool.lock().state.take(id) else {
                panic!("a parked server has gone")
            };
            self.parked.remove(&line);
            match self.read_unbound(&mut server) {
                None | Some(Unbound::Going) if server.is_at_rest() => self.checkin(server),
                None | Some(Unbound::Going) => {
                    server.phase = Phase::Cleaning { until: self.now + server.pool.config.rollback_timeout };
                    self.on_unbound(server, Unbound::Going);
                }
                Some(step) => self.on_unbound(server, step),
            }
        }
        progress
    }

    fn read_unbound(&mut self, server: &mut Held) -> Option<Unbound> {
        let incoming = self.from_servers.get_mut(&server.socket)?;
        if incoming.is_ready() && !server.inbound.relay.has_room() {
            return Some(Unbound::Close(Closing::OutOfSync));
        }
        match read(incoming, &mut server.inbound, &mut self.chunks, self.read_bytes_max)? {
            0 => Some(server.on_eof()),
            _ => Some(server.on_bytes(&mut self.cx())),
        }
    }

    fn on_unbound(&mut self, mut server: Held, step: Unbound) {
        let line = server.socket;
        match step {
            Unbound::Going => {
                server.rest(&mut self.chunks);
                self.unbound.insert(line, server);
            }
            Unbound::Derive(job) => {
                self.asks.push_back((Some(line), Ask::Keys(job)));
                self.unbound.insert(line, server);
            }
            Unbound::Opened => {
                server.rest(&mut self.chunks);
                let pool = self.pool.clone();
                let outcome = pool.lock().state.opened(server, 0, self.now);
                self.after_checkin(line, outcome);
            }
            Unbound::Seal => unreachable!("nobody has asked for it"),
            Unbound::Clean => {
                assert!(server.is_settled(), "a server is called clean in the middle of something");
                self.checkin(server);
            }
            Unbound::Failed(failure) => self.on_login_failed(server, failure),
            Unbound::Close(why) => self.discard(server, why == Closing::Lost),
        }
    }

    fn on_login_failed(&mut self, mut server: Held, failure: OpenFailure) {
        let pool = self.pool.clone();
        let gone = matches!(failure, OpenFailure::Connect(_) | OpenFailure::Closed);
        let tickets = if gone { pool.lock().state.open_failed() } else { pool.lock().state.open_aborted() };
        if gone {
            self.from_servers.remove(&server.socket);
            server.release_buffers(&mut self.chunks);
        } else {
            self.say_goodbye(server);
        }
        for ticket in tickets {
            if let Some(mut session) = self.session.take() {
                session.on_refused(ticket.number, Some(failure.clone()), &mut self.cx());
                self.session = Some(session);
            }
        }
    }

    fn checkin(&mut self, mut server: Held) {
        let line = server.socket;
        server.rest(&mut self.chunks);
        let pool = self.pool.clone();
        let outcome = {
            let mut shelf = pool.lock();
            if server.expires <= self.now {
                shelf.state.close();
                Checkin::Surplus(server)
            } else {
                shelf.state.checkin(server, 0, self.now)
            }
        };
        self.after_checkin(line, outcome);
    }

    fn after_checkin(&mut self, line: Line, outcome: Checkin<Held>) {
        match outcome {
            Checkin::Parked { id } => drop(self.parked.insert(line, id)),
            Checkin::Granted { ticket, server } => self.deliveries.push_back((ticket, server)),
            Checkin::Surplus(server) => self.say_goodbye(server),
        }
    }

    fn discard(&mut self, mut server: Held, lost: bool) {
        if !matches!(server.phase, Phase::Closing { .. }) {
            self.pool.lock().state.close();
        }
        if !lost {
            return self.say_goodbye(server);
        }
        server.release_buffers(&mut self.chunks);
        self.from_servers.remove(&server.socket);
        let open = self.pool.lock().state.closed();
        if open {
            self.open();
        }
    }

    fn say_goodbye(&mut self, mut server: Held) {
        server.say_goodbye(self.now);
        server.rest(&mut self.chunks);
        self.unbound.insert(server.socket, server);
    }

    // ---- What must hold.

    /// Memory never grows beyond what the limits add up to; the pool never beyond its size.
    fn check_bounds(&self) {
        let sockets = 1 + self.from_servers.len();
        let limit = sockets * (2 * HELD_FRAME_BYTES_MAX + 2 * CHUNK_LARGE_BYTES);
        assert!(self.chunks.out_bytes() <= limit, "{} bytes of buffers are out", self.chunks.out_bytes());
        let shelf = self.pool.lock();
        let counts = shelf.state.counts();
        assert!(counts.total() <= shelf.state.size(), "{counts:?}");
        assert!(counts.waiting <= 1, "{counts:?}");
        if let Some(session) = &self.session {
            // The bound is looked at before each step, and a step adds at most one statement of the client.
            let own = OWN_BYTES_MAX + 2 * HELD_FRAME_BYTES_MAX;
            assert!(session.client.outbox.own_bytes() <= own);
            assert!(session.links.len() <= 1);
        }
    }

    /// The client leaves, everybody takes and closes what is asked of them, and time passes: nothing may be left.
    pub fn end(mut self) -> (Vec<u8>, BTreeMap<Line, Vec<u8>>) {
        (self.client_takes, self.servers_take, self.read_bytes_max) = (usize::MAX, usize::MAX, usize::MAX);
        self.client_ends();
        self.serve();
        self.answer_asks();
        // Each query that it has left behind may wait for a server as long as it may.
        for _ in 0..6 + ROUNDS_MAX {
            self.pass_time(Duration::from_secs(3_600));
            if self.session.is_none() && self.unbound.is_empty() {
                break;
            }
        }
        assert!(self.session.is_none(), "a session outlives its client and every timeout");
        let (parked, waiting) = self.pool.lock().state.retire();
        assert!(waiting.is_empty(), "a ticket outlives its session");
        for server in parked {
            self.parked.remove(&server.socket);
            self.say_goodbye(server);
        }
        for line in self.lines() {
            self.server_ends(line);
        }
        self.serve();
        self.pass_time(Duration::from_secs(3_600));
        let counts = self.pool.lock().state.counts();
        assert_eq!(counts.total() + counts.waiting, 0, "{counts:?}");
        assert!(self.unbound.is_empty() && self.parked.is_empty());
        assert_eq!(self.chunks.out_bytes(), 0, "buffers were not given back");
        (self.to_client, self.to_servers)
    }
}

fn read(
    incoming: &mut Incoming,
    inbound: &mut Inbound,
    chunks: &mut Chunks,
    at_most: usize,
) -> Option<usize> {
    if !incoming.is_ready() {
        return None;
    }
    let room = inbound.relay.room(chunks, inbound.class);
    let asked = room.len();
    if asked == 0 {
        return None;
    }
    let n = incoming.read(room, at_most);
    if let Some(n) = n {
        inbound.relay.fill(n);
        inbound.class.learn(n, asked);
    }
    if n.unwrap_or(0) == 0 {
        inbound.relay.rest(chunks);
    }
    n
}

fn write<'r>(
    outbox: &mut Outbox,
    chunks: &mut Chunks,
    relay: impl Fn(u8) -> Option<&'r Relay>,
    takes: &mut usize,
    sink: &mut Vec<u8>,
) -> usize {
    let before = sink.len();
    while *takes > 0 && !outbox.is_empty() {
        let bytes = match outbox.pieces().next().expect("it is not empty") {
            Piece::Bytes(bytes) => bytes,
            Piece::Relay { source, start, end } => {
                relay(source).expect("a relay has gone before its bytes were sent").range(start, end)
            }
        };
        let n = bytes.len().min(*takes);
        sink.extend_from_slice(&bytes[..n]);
        *takes -= n;
        outbox.sent(n, chunks);
    }
    sink.len() - before
}

fn config(options: Options) -> pgdog::config::Config {
    let Options { auth, mode, prepared, recovery, client_recovery, pool_size, prepared_limit } = options;
    let notifications = if pool_size == 1 { 2 } else { 0 };
    let config = format!(
        "[general]\nauth_type = \"{auth}\"\npooler_mode = \"{mode}\"\nprepared_statements = \"{prepared}\"\n\
         connection_recovery = \"{recovery}\"\nclient_connection_recovery = \"{client_recovery}\"\n\
         default_pool_size = {pool_size}\nprepared_statements_limit = {prepared_limit}\nworkers = 1\n\
         pub_sub_channel_size = {notifications}\n\
         client_idle_timeout = 600000\nquery_timeout = 600000\nclient_idle_in_transaction_timeout = 600000\n\
         [[databases]]\nname = \"db\"\nhost = \"127.0.0.1\"\n"
    );
    let users = "[[users]]\nname = \"u\"\ndatabase = \"db\"\npassword = \"p\"\n";
    let loaded = build(&Sources {
        config: Some(Text { file: "pgdog.toml", text: &config }),
        users: Some(Text { file: "users.toml", text: users }),
        ..Sources::default()
    });
    assert!(loaded.is_usable(), "{:?}", loaded.problems);
    loaded.config
}

/// Splits a stream into whole frames; the rest is what is left of an unfinished one. Panics at an impossible length.
pub fn frames(stream: &[u8]) -> (Vec<(u8, &[u8])>, &[u8]) {
    let (mut frames, mut rest) = (Vec::new(), stream);
    while let Some(header) = Header::parse(rest).unwrap_or_else(|bad| panic!("not a frame: {bad:?}")) {
        if rest.len() < header.frame() {
            break;
        }
        frames.push((header.tag, &rest[5..header.frame()]));
        rest = &rest[header.frame()..];
    }
    (frames, rest)
}
