//! A simulated network and clock: connections of two byte pipes with bounded buffers, latency, resets, half-closes,
//! listeners that refuse or hang, and edge-triggered readiness with spurious and stale events.
//!
//! One event queue, ordered by time and then by order of creation; all chance comes from one seed, so a run replays.
//! Sockets behave as non-blocking TCP sockets of Linux do (checked there): data received before a reset can still be
//! read, then ECONNRESET comes once, then the end; a write after it gives EPIPE; closing with unread bytes resets.
//! A read gives all there is up to its buffer, so that a short read means "drained" as on Linux; chance cuts data
//! into pieces that *arrive* one by one instead.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::{self, Write as _};
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PollId(u32);

/// Looked at in every step: found faster than in a tree. Nothing depends on the order.
type Ends = HashMap<SocketId, End, BuildHasherDefault<IdHasher>>;

/// For numbers that are counted up; the same in every run.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("ids are numbers");
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a listener does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Accept,
    Refuse,
    /// The connection never comes about.
    Hang,
}

/// Chances are per thousand.
#[derive(Clone, Debug)]
pub struct Settings {
    pub latency_min: Duration,
    pub latency_max: Duration,
    /// Room for bytes written and not yet read, in one direction; each direction draws its own.
    pub buffer_min: usize,
    pub buffer_max: usize,
    /// A write takes only a part of what fits.
    pub partial_write: u64,
    /// What was written arrives in several pieces, at different times.
    pub split: u64,
    /// The end of the stream arrives together with the last bytes.
    pub close_with_data: u64,
    /// A write breaks the connection instead.
    pub reset: u64,
    /// A poll reports readiness of a socket that has none.
    pub spurious: u64,
    /// An event of a socket that another worker has deregistered is still reported.
    pub stale: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            latency_min: Duration::from_micros(20),
            latency_max: Duration::from_micros(300),
            buffer_min: 600,
            buffer_max: 64 << 10,
            partial_write: 100,
            split: 300,
            close_with_data: 500,
            reset: 0,
            spurious: 20,
            stale: 200,
        }
    }
}

impl Settings {
    /// No chance at all: constant latency, large buffers.
    pub fn calm() -> Settings {
        Settings {
            latency_min: Duration::from_micros(50),
            latency_max: Duration::from_micros(50),
            buffer_min: 64 << 10,
            buffer_max: 64 << 10,
            partial_write: 0,
            split: 0,
            close_with_data: 0,
            reset: 0,
            spurious: 0,
            stale: 0,
        }
    }
}

/// Readiness of a registered socket, as mio reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    pub read_closed: bool,
    pub write_closed: bool,
    pub error: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Connection {
    Connecting,
    Standing,
    Refused,
}

/// One side of a connection.
struct End {
    peer: SocketId,
    connection: Connection,
    /// Arrived and not read.
    received: VecDeque<u8>,
    /// Written by the peer and not arrived.
    flying: usize,
    /// Room of the direction towards this side.
    room: usize,
    /// When the last bytes towards this side arrive: the next do not overtake them.
    last_arrival: Time,
    fin: bool,
    /// The connection is broken; the error is reported once.
    broken: bool,
    error: Option<ErrorKind>,
    /// This side has shut down its writing.
    write_closed: bool,
    /// The owner is gone.
    closed: bool,
    /// Chance does not break it.
    spared: bool,
    /// A write found no room: an event is owed.
    wants_room: bool,
    registered: Option<(PollId, u64)>,
    /// Its poll is told when it can be written, too.
    watches_writes: bool,
    /// Something has happened while no poll watched.
    edge: bool,
}

struct Listener {
    answer: Answer,
    queue: VecDeque<SocketId>,
    registered: Option<(PollId, u64)>,
    edge: bool,
}

#[derive(Default)]
struct Poll {
    woken: bool,
    members: BTreeMap<SocketId, u64>,
    /// Members with an edge that has not been reported.
    ready: BTreeSet<SocketId>,
    /// Tokens deregistered by another worker whose event may still come.
    stale: Vec<u64>,
}

enum Happening {
    /// Bytes arrive.
    Bytes(SocketId, Vec<u8>),
    Fin(SocketId),
    Reset(SocketId),
    Connected {
        from: SocketId,
        to: SocketId,
        address: SocketAddr,
    },
    Refused(SocketId),
    /// The writer learns that there is room.
    Room(SocketId),
}

/// Lines of the trace that are kept for a report.
const TRACE_LINES_MAX: usize = 4000;

struct Core {
    now: Time,
    rng: SeededRng,
    settings: Settings,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    ends: Ends,
    /// The last line noted.
    line: String,
    listeners: BTreeMap<SocketAddr, Listener>,
    polls: BTreeMap<PollId, Poll>,
    counters: BTreeMap<&'static str, u64>,
    hash: u64,
    trace: VecDeque<String>,
    /// Length of the trace kept; 0 keeps only the hash.
    trace_lines: usize,
}

/// The network and its clock. Clones are handles of the same network.
#[derive(Clone)]
pub struct SimNet(Arc<Mutex<Core>>);

/// One side of a connection. Dropping it closes it.
pub struct SimSocket {
    net: SimNet,
    id: SocketId,
}

/// Ends the wait of a poll.
#[derive(Clone)]
pub struct SimWaker {
    net: SimNet,
    poll: PollId,
}

impl SimNet {
    pub fn new(seed: u64, settings: Settings) -> SimNet {
        SimNet(Arc::new(Mutex::new(Core {
            now: Time::ZERO,
            rng: SeededRng::new(seed ^ 0x4e45_5400),
            settings,
            queue: BTreeMap::new(),
            sequence: 0,
            ends: Ends::default(),
            line: String::new(),
            listeners: BTreeMap::new(),
            polls: BTreeMap::new(),
            counters: BTreeMap::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            trace: VecDeque::new(),
            trace_lines: 0,
        })))
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.lock().expect("the simulated network is used by one thread")
    }

    pub fn now(&self) -> Time {
        self.core().now
    }

    pub fn settings<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> T {
        change(&mut self.core().settings)
    }

    /// Chance does no harm any more: what is under way may end well. Latency and small buffers stay.
    pub fn heal(&self) {
        self.settings(|settings| settings.reset = 0);
        for listener in self.core().listeners.values_mut() {
            listener.answer = Answer::Accept;
        }
    }

    /// A random number below `bound`, from the network's own seed.
    pub fn below(&self, bound: u64) -> u64 {
        self.core().rng.below(bound)
    }

    // ------------------------------------------------------------------------------------------ time

    /// When something happens next in the network.
    pub fn next_time(&self) -> Time {
        self.core().queue.first_key_value().map_or(Time::NEVER, |((time, _), _)| *time)
    }

    /// Lets time pass until `time`, with everything that happens on the way.
    pub fn advance(&self, time: Time) {
        let mut core = self.core();
        while let Some(((at, _), _)) = core.queue.first_key_value()
            && *at <= time
        {
            let at = *at;
            core.now = core.now.max(at);
            if let Some((_, happening)) = core.queue.pop_first() {
                core.happen(happening);
            }
        }
        core.now = core.now.max(time);
    }

    // ------------------------------------------------------------------------------------- listeners

    pub fn listen(&self, address: SocketAddr) {
        let listener =
            Listener { answer: Answer::Accept, queue: VecDeque::new(), registered: None, edge: false };
        self.core().listeners.insert(address, listener);
    }

    pub fn answer(&self, address: SocketAddr, answer: Answer) {
        if let Some(listener) = self.core().listeners.get_mut(&address) {
            listener.answer = answer;
        }
    }

    pub fn register_listener(&self, address: SocketAddr, poll: PollId, token: u64) {
        if let Some(listener) = self.core().listeners.get_mut(&address) {
            listener.registered = Some((poll, token));
            listener.edge = true;
        }
    }

    pub fn accept(&self, address: SocketAddr) -> Option<SimSocket> {
        let id = self.core().listeners.get_mut(&address)?.queue.pop_front()?;
        Some(SimSocket { net: self.clone(), id })
    }

    /// Begins to connect; the socket becomes writable when that has succeeded or failed.
    pub fn connect(&self, address: SocketAddr) -> SimSocket {
        let mut core = self.core();
        let (from, to) = (SocketId(core.sequence), SocketId(core.sequence + 1));
        core.sequence += 2;
        for (id, peer) in [(from, to), (to, from)] {
            let room = core.room();
            core.ends.insert(id, End::new(peer, room));
        }
        let latency = core.latency();
        let at = core.now + latency;
        match core.listeners.get(&address).map(|listener| listener.answer) {
            Some(Answer::Accept) => core.schedule(at, Happening::Connected { from, to, address }),
            Some(Answer::Hang) => core.count("connects hung"),
            Some(Answer::Refuse) | None => {
                core.count("connects refused");
                core.schedule(at, Happening::Refused(from));
            }
        }
        drop(core);
        SimSocket { net: self.clone(), id: from }
    }

    /// Breaks a connection, for both sides.
    pub fn break_off(&self, socket: &SimSocket) {
        self.core().break_both(socket.id);
    }

    /// Chance does not break this connection.
    pub fn spare(&self, socket: &SimSocket) {
        let mut core = self.core();
        let peer = core.ends.get(&socket.id).map(|end| end.peer);
        for id in [Some(socket.id), peer].into_iter().flatten() {
            if let Some(end) = core.ends.get_mut(&id) {
                end.spared = true;
            }
        }
    }

    /// One of the sides has had a reset, or given one.
    pub fn is_broken(&self, socket: &SimSocket) -> bool {
        let core = self.core();
        let Some(end) = core.ends.get(&socket.id) else { return true };
        end.broken || core.ends.get(&end.peer).is_none_or(|peer| peer.broken)
    }

    /// The other side has closed its socket; this one may not know yet.
    pub fn is_left(&self, socket: &SimSocket) -> bool {
        let core = self.core();
        let peer = core.ends.get(&socket.id).and_then(|end| core.ends.get(&end.peer));
        peer.is_none_or(|peer| peer.closed)
    }

    // ------------------------------------------------------------------------------------ readiness

    pub fn new_poll(&self) -> PollId {
        let mut core = self.core();
        let id = PollId(core.polls.len() as u32);
        core.polls.insert(id, Poll::default());
        id
    }

    pub fn waker(&self, poll: PollId) -> SimWaker {
        SimWaker { net: self.clone(), poll }
    }

    /// Reports `socket` to `poll` from now on; what is ready already is reported too. That it can be written is reported
    /// with `writes` only.
    ///
    /// # Errors
    /// `AlreadyExists` if it is registered.
    pub fn register(&self, socket: &SimSocket, poll: PollId, token: u64, writes: bool) -> io::Result<()> {
        let mut core = self.core();
        let Some(end) = core.ends.get_mut(&socket.id) else { return Err(ErrorKind::NotFound.into()) };
        if end.registered.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        end.registered = Some((poll, token));
        end.watches_writes = writes;
        if let Some(poll) = core.polls.get_mut(&poll) {
            poll.members.insert(socket.id, token);
        }
        core.edge(socket.id);
        Ok(())
    }

    /// Reports from now on, too, that `socket` can be written; at once, if it can.
    ///
    /// # Errors
    /// `NotFound` if it is not registered there.
    pub fn watch_writes(&self, socket: &SimSocket, poll: PollId, token: u64) -> io::Result<()> {
        let mut core = self.core();
        match core.ends.get_mut(&socket.id) {
            Some(end) if end.registered == Some((poll, token)) => end.watches_writes = true,
            _ => return Err(ErrorKind::NotFound.into()),
        }
        core.edge(socket.id);
        Ok(())
    }

    /// Takes `socket` out of its poll. `by` is the poll of the worker that does it.
    ///
    /// # Errors
    /// `NotFound` if it is not registered.
    pub fn deregister(&self, socket: &SimSocket, by: Option<PollId>) -> io::Result<()> {
        let mut core = self.core();
        let Some((poll, token)) = core.unregister(socket.id) else { return Err(ErrorKind::NotFound.into()) };
        if by != Some(poll) && core.chance(|settings| settings.stale) {
            core.count("stale events");
            if let Some(poll) = core.polls.get_mut(&poll) {
                poll.stale.push(token);
            }
        }
        Ok(())
    }

    /// Something waits to be polled.
    pub fn has_events(&self, poll: PollId) -> bool {
        let core = self.core();
        let queued =
            |l: &Listener| l.edge && !l.queue.is_empty() && l.registered.is_some_and(|(at, _)| at == poll);
        let place = &core.polls[&poll];
        place.woken
            || !place.stale.is_empty()
            || place.ready.iter().any(|id| core.ends[id].is_ready(&core.ends))
            || core.listeners.values().any(queued)
    }

    /// Whether something has happened to a socket that no poll watches, since the last call.
    pub fn take_edge(&self, socket: &SimSocket) -> bool {
        let mut core = self.core();
        core.ends.get_mut(&socket.id).is_some_and(|end| std::mem::take(&mut end.edge))
    }

    /// Up to `max` events, in random order. `true` as well if the poll was woken.
    pub fn poll(&self, poll: PollId, max: usize) -> (Vec<Event>, bool) {
        let mut core = self.core();
        let core = &mut *core;
        let spurious = core.chance(|settings| settings.spurious);
        let Some(place) = core.polls.get_mut(&poll) else { return (Vec::new(), false) };
        let mut candidates = Vec::new();
        place.ready.retain(|id| {
            let ready = core.ends[id].is_ready(&core.ends);
            if ready {
                candidates.push((*id, place.members[id], false));
            }
            ready
        });
        if spurious && !place.members.is_empty() {
            let at = core.rng.below(place.members.len() as u64) as usize;
            if let Some((id, token)) = place.members.iter().nth(at)
                && !place.ready.contains(id)
            {
                candidates.push((*id, *token, true));
            }
        }
        // A Fisher-Yates shuffle.
        for at in (1..candidates.len()).rev() {
            candidates.swap(at, core.rng.below(at as u64 + 1) as usize);
        }
        let mut events = Vec::new();
        for (id, token, spurious) in candidates.into_iter().take(max) {
            let mut event = core.ends[&id].event(token, &core.ends);
            if spurious {
                *core.counters.entry("spurious events").or_default() += 1;
                event.readable = true;
                event.writable |= core.rng.below(2) == 0;
            }
            place.ready.remove(&id);
            events.push(event);
        }
        for listener in core.listeners.values_mut() {
            if let Some((at, token)) = listener.registered
                && at == poll
                && listener.edge
                && !listener.queue.is_empty()
                && events.len() < max
            {
                listener.edge = false;
                events.push(Event { readable: true, ..Event::nothing(token) });
            }
        }
        for token in place.stale.drain(..) {
            events.insert(0, Event { readable: true, writable: true, ..Event::nothing(token) });
        }
        let woken = std::mem::take(&mut place.woken);
        for event in &events {
            core.note(format_args!("event {poll:?} {event:?}"));
        }
        (events, woken)
    }

    // ------------------------------------------------------------------------------------- reports

    /// A line of the trace: part of the hash that two runs of a seed share.
    pub fn trace(&self, line: &str) {
        self.core().note(format_args!("{line}"));
    }

    pub fn keep_trace(&self) {
        self.core().trace_lines = TRACE_LINES_MAX;
    }

    pub fn trace_hash(&self) -> u64 {
        self.core().hash
    }

    pub fn trace_lines(&self) -> Vec<String> {
        self.core().trace.iter().cloned().collect()
    }

    /// Faults injected so far, by kind.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.core().counters.clone()
    }

    /// Sockets that have an owner; for a check that nothing is left.
    pub fn open_sockets(&self) -> usize {
        self.core()
            .ends
            .values()
            .filter(|end| !end.closed && end.connection != Connection::Connecting)
            .count()
    }
}

impl Event {
    fn nothing(token: u64) -> Event {
        Event {
            token,
            readable: false,
            writable: false,
            read_closed: false,
            write_closed: false,
            error: false,
        }
    }
}

impl End {
    fn new(peer: SocketId, room: usize) -> End {
        End {
            peer,
            connection: Connection::Connecting,
            received: VecDeque::new(),
            flying: 0,
            room,
            last_arrival: Time::ZERO,
            fin: false,
            broken: false,
            error: None,
            write_closed: false,
            closed: false,
            spared: false,
            wants_room: false,
            registered: None,
            watches_writes: false,
            edge: false,
        }
    }

    /// Room left for the peer's writes.
    fn free(&self) -> usize {
        self.room.saturating_sub(self.flying + self.received.len())
    }

    fn event(&self, token: u64, ends: &Ends) -> Event {
        let refused = self.connection == Connection::Refused;
        let gone = self.broken || refused;
        let room = ends.get(&self.peer).is_none_or(|peer| peer.free() > 0);
        Event {
            token,
            readable: !self.received.is_empty() || self.fin || gone,
            writable: self.watches_writes && ((self.connection == Connection::Standing && room) || gone),
            read_closed: self.fin || gone,
            write_closed: gone || (self.fin && self.write_closed),
            error: gone,
        }
    }

    fn is_ready(&self, ends: &Ends) -> bool {
        self.event(0, ends) != Event::nothing(0)
    }
}

impl Core {
    fn chance(&mut self, of: impl FnOnce(&Settings) -> u64) -> bool {
        let per_mille = of(&self.settings);
        per_mille > 0 && self.rng.below(1000) < per_mille
    }

    fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    fn latency(&mut self) -> Duration {
        let (min, max) = (self.settings.latency_min, self.settings.latency_max);
        let spread = (max.saturating_sub(min)).as_micros() as u64;
        min + Duration::from_micros(self.rng.below(spread + 1))
    }

    fn room(&mut self) -> usize {
        let (min, max) = (self.settings.buffer_min, self.settings.buffer_max);
        // Small ones are as likely as large ones.
        let room = min.saturating_mul(1 << self.rng.below(8)).min(max);
        room.max(1)
    }

    fn schedule(&mut self, at: Time, happening: Happening) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.queue.insert((at, sequence), happening);
    }

    /// FNV-1a over the lines, with the time.
    fn note(&mut self, line: fmt::Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{} {line}", self.now.as_micros());
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace_lines > 0 {
            if self.trace.len() == self.trace_lines {
                self.trace.pop_front();
            }
            self.trace.push_back(self.line.clone());
        }
    }

    /// When something sent now arrives at `to`, behind all that was sent before.
    fn arrival(&mut self, to: SocketId) -> Time {
        let latency = self.latency();
        let at = self.now + latency;
        match self.ends.get_mut(&to) {
            Some(end) => {
                end.last_arrival = end.last_arrival.max(at);
                end.last_arrival
            }
            None => at,
        }
    }

    /// Something has happened to a socket.
    fn edge(&mut self, id: SocketId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        match end.registered {
            Some((poll, _)) => {
                if let Some(poll) = self.polls.get_mut(&poll) {
                    poll.ready.insert(id);
                }
            }
            None => end.edge = true,
        }
    }

    fn unregister(&mut self, id: SocketId) -> Option<(PollId, u64)> {
        let place = self.ends.get_mut(&id)?.registered.take()?;
        if let Some(poll) = self.polls.get_mut(&place.0) {
            poll.members.remove(&id);
            poll.ready.remove(&id);
        }
        Some(place)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Bytes(to, bytes) => {
                self.note(format_args!("{} bytes at {to:?}", bytes.len()));
                let Some(end) = self.ends.get_mut(&to) else { return };
                end.flying -= bytes.len();
                if end.broken {
                    return;
                }
                if end.closed {
                    let peer = end.peer;
                    let at = self.arrival(peer);
                    self.schedule(at, Happening::Reset(peer));
                    return;
                }
                end.received.extend(bytes);
                self.edge(to);
            }
            Happening::Fin(to) => {
                self.note(format_args!("end at {to:?}"));
                if let Some(end) = self.ends.get_mut(&to) {
                    end.fin = true;
                }
                self.edge(to);
                self.sweep(to);
            }
            Happening::Reset(to) => {
                self.note(format_args!("reset at {to:?}"));
                if let Some(end) = self.ends.get_mut(&to)
                    && !end.broken
                {
                    end.broken = true;
                    // Behind an end of stream the error is that of a write.
                    end.error =
                        Some(if end.fin { ErrorKind::BrokenPipe } else { ErrorKind::ConnectionReset });
                    self.edge(to);
                }
                self.sweep(to);
            }
            Happening::Connected { from, to, address } => {
                self.note(format_args!("{from:?} connected to {to:?}"));
                for id in [from, to] {
                    if let Some(end) = self.ends.get_mut(&id) {
                        end.connection = Connection::Standing;
                    }
                    self.edge(id);
                }
                if let Some(listener) = self.listeners.get_mut(&address) {
                    listener.queue.push_back(to);
                    listener.edge = true;
                }
            }
            Happening::Refused(from) => {
                self.note(format_args!("{from:?} refused"));
                if let Some(end) = self.ends.get_mut(&from) {
                    end.connection = Connection::Refused;
                    end.error = Some(ErrorKind::ConnectionRefused);
                    self.edge(from);
                }
            }
            Happening::Room(at) => self.edge(at),
        }
    }

    /// Forgets a connection when both owners are gone.
    fn sweep(&mut self, id: SocketId) {
        let Some(end) = self.ends.get(&id) else { return };
        let peer = end.peer;
        let gone = |end: Option<&End>| end.is_none_or(|end| end.closed && (end.broken || end.fin));
        if gone(self.ends.get(&id)) && gone(self.ends.get(&peer)) {
            self.ends.remove(&id);
            self.ends.remove(&peer);
        }
    }

    fn break_both(&mut self, id: SocketId) {
        let Some(end) = self.ends.get(&id) else { return };
        let peer = end.peer;
        let at = self.arrival(peer);
        self.schedule(at, Happening::Reset(peer));
        self.schedule(self.now, Happening::Reset(id));
    }

    fn write(&mut self, id: SocketId, bytes: &[u8]) -> io::Result<usize> {
        let Some(end) = self.ends.get_mut(&id) else { return Err(ErrorKind::BrokenPipe.into()) };
        if let Some(error) = end.error.take() {
            return Err(error.into());
        }
        if end.broken || end.write_closed || end.connection == Connection::Refused {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if end.connection == Connection::Connecting {
            end.wants_room = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let peer = end.peer;
        // A cancel request whose connection breaks may arrive much later, whoever forwards it.
        let is_cancel = bytes.get(4..8) == Some(&80_877_102_u32.to_be_bytes());
        if let Some(end) = self.ends.get_mut(&id) {
            end.spared |= is_cancel;
        }
        let spared = self.ends.get(&id).is_some_and(|end| end.spared);
        if !spared && self.chance(|settings| settings.reset) {
            self.count("resets");
            self.break_both(id);
        }
        let free = self.ends.get(&peer).map_or(usize::MAX, End::free);
        let mut count = bytes.len().min(free);
        if count > 1 && self.chance(|settings| settings.partial_write) {
            self.count("partial writes");
            count = 1 + self.rng.below(count as u64 - 1) as usize;
            // A caller may take a short write for a full buffer: then it waits for this.
            let latency = self.latency();
            self.schedule(self.now + latency, Happening::Room(id));
        }
        if count < bytes.len()
            && let Some(end) = self.ends.get_mut(&id)
        {
            end.wants_room = true;
        }
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.note(format_args!("{count} bytes from {id:?}"));
        self.send(peer, &bytes[..count]);
        Ok(count)
    }

    fn send(&mut self, to: SocketId, mut bytes: &[u8]) {
        if let Some(end) = self.ends.get_mut(&to) {
            end.flying += bytes.len();
        } else {
            return;
        }
        while !bytes.is_empty() {
            let mut count = bytes.len();
            if count > 1 && self.chance(|settings| settings.split) {
                self.count("split arrivals");
                // Cuts near the beginning hit headers.
                let near = if self.rng.below(2) == 0 { count.min(8) } else { count };
                count = 1 + self.rng.below(near as u64) as usize;
            }
            let (piece, rest) = bytes.split_at(count.min(bytes.len()));
            let at = self.arrival(to);
            self.schedule(at, Happening::Bytes(to, piece.to_vec()));
            bytes = rest;
        }
    }

    fn fin(&mut self, id: SocketId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.write_closed || end.broken {
            return;
        }
        end.write_closed = true;
        let peer = end.peer;
        let last = self.ends.get(&peer).map_or(Time::ZERO, |end| end.last_arrival);
        let at = if last > self.now && self.chance(|settings| settings.close_with_data) {
            self.count("data and close at once");
            last
        } else {
            self.arrival(peer)
        };
        self.schedule(at, Happening::Fin(peer));
    }

    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(end) = self.ends.get_mut(&id) else { return Ok(0) };
        if end.connection == Connection::Connecting {
            return Err(ErrorKind::WouldBlock.into());
        }
        if end.received.is_empty() {
            if end.fin {
                return Ok(0);
            }
            if let Some(error) = end.error.take() {
                return Err(error.into());
            }
            if end.broken || end.connection == Connection::Refused {
                return Ok(0);
            }
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = end.received.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(end.received.drain(..count)) {
            *place = byte;
        }
        let (peer, free, room) = (end.peer, end.free(), end.room);
        self.note(format_args!("{count} bytes read at {id:?}"));
        // Linux wakes a writer when a third of the buffer is free.
        if free * 3 >= room
            && self.ends.get_mut(&peer).is_some_and(|peer| std::mem::take(&mut peer.wants_room))
        {
            let latency = self.latency();
            self.schedule(self.now + latency, Happening::Room(peer));
        }
        Ok(count)
    }

    fn close(&mut self, id: SocketId) {
        self.note(format_args!("close {id:?}"));
        self.unregister(id);
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.closed = true;
        let unread = !end.received.is_empty();
        let standing = end.connection == Connection::Standing;
        let peer = end.peer;
        if !standing {
            end.broken = true;
            end.connection = Connection::Refused;
            if let Some(other) = self.ends.get_mut(&peer) {
                other.broken = true;
            }
            self.edge(peer);
        } else if unread {
            end.broken = true;
            let at = self.arrival(peer);
            self.schedule(at, Happening::Reset(peer));
        } else {
            self.fin(id);
        }
        self.sweep(id);
    }
}

impl SimSocket {
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// # Errors
    /// `WouldBlock`, `ConnectionReset` once; `Ok(0)` at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.net.core().read(self.id, buffer)
    }

    /// # Errors
    /// `WouldBlock`, `ConnectionReset` or `ConnectionRefused` once, then `BrokenPipe`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.net.core().write(self.id, bytes)
    }

    /// # Errors
    /// As [`SimSocket::write`].
    pub fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.write(&bytes)
    }

    /// # Errors
    /// `NotConnected` on a broken connection.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        let mut core = self.net.core();
        let standing =
            core.ends.get(&self.id).is_some_and(|e| !e.broken && e.connection == Connection::Standing);
        if !standing {
            return Err(ErrorKind::NotConnected.into());
        }
        core.fin(self.id);
        Ok(())
    }

    /// Whether the connection stands.
    ///
    /// # Errors
    /// `WouldBlock` while that is open, `ConnectionRefused`, `ConnectionReset`.
    pub fn connected(&mut self) -> io::Result<()> {
        let mut core = self.net.core();
        let Some(end) = core.ends.get_mut(&self.id) else { return Err(ErrorKind::NotConnected.into()) };
        match end.connection {
            Connection::Connecting => Err(ErrorKind::WouldBlock.into()),
            _ => end.error.take().map_or(Ok(()), |error| Err(error.into())),
        }
    }

    /// Closes with a reset.
    pub fn abort(self) {
        let mut core = self.net.core();
        core.count("aborts");
        core.unregister(self.id);
        let Some(end) = core.ends.get_mut(&self.id) else { return };
        end.broken = true;
        end.closed = true;
        let peer = end.peer;
        let at = core.arrival(peer);
        core.schedule(at, Happening::Reset(peer));
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Ok(mut core) = self.net.0.lock() {
            let open = core.ends.get(&self.id).is_some_and(|end| !end.closed);
            if open {
                core.close(self.id);
            }
        }
    }
}

impl SimWaker {
    pub fn wake(&self) {
        let mut core = self.net.core();
        if let Some(poll) = core.polls.get_mut(&self.poll) {
            poll.woken = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 5432))
    }

    fn pair(net: &SimNet) -> (SimSocket, SimSocket) {
        net.listen(address());
        let client = net.connect(address());
        settle(net);
        let server = net.accept(address()).expect("a connection");
        (client, server)
    }

    fn settle(net: &SimNet) {
        while net.next_time() < Time::NEVER {
            net.advance(net.next_time());
        }
    }

    fn kind<T>(result: io::Result<T>) -> ErrorKind {
        result.err().expect("an error").kind()
    }

    #[test]
    fn bytes_arrive_whole_and_in_order_whatever_the_chances() {
        for seed in 0..50 {
            let net = SimNet::new(seed, Settings::default());
            let (mut client, mut server) = pair(&net);
            let poll = net.new_poll();
            net.register(&client, poll, 1, true).expect("register");
            net.register(&server, poll, 2, true).expect("register");
            let sent: Vec<u8> = (0..30_000_u32).map(|n| (n % 251) as u8).collect();
            let (mut written, mut received) = (0, Vec::<u8>::new());
            // Strictly edge-triggered: each side works only after an event, until WouldBlock.
            while received.len() < sent.len() {
                let (events, _) = net.poll(poll, 16);
                for event in &events {
                    if event.token == 1 && event.writable {
                        while written < sent.len() {
                            match client.write(&sent[written..]) {
                                Ok(count) => written += count,
                                Err(_) => break,
                            }
                        }
                    } else if event.token == 2 && event.readable {
                        let mut buffer = [0; 100];
                        while let Ok(count) = server.read(&mut buffer) {
                            received.extend(&buffer[..count]);
                        }
                    }
                }
                if events.is_empty() {
                    assert!(
                        net.next_time() < Time::NEVER,
                        "seed {seed}: stuck at {written}/{}",
                        received.len()
                    );
                    net.advance(net.next_time());
                }
            }
            assert_eq!(received, sent, "seed {seed}");
        }
    }

    #[test]
    fn data_before_a_reset_can_be_read_and_the_error_comes_once() {
        let net = SimNet::new(1, Settings::calm());
        let (mut client, mut server) = pair(&net);
        server.write(b"hello").expect("write");
        server.abort();
        settle(&net);
        let mut buffer = [0; 100];
        assert_eq!(client.read(&mut buffer).expect("data"), 5);
        assert_eq!(kind(client.read(&mut buffer)), ErrorKind::ConnectionReset);
        assert_eq!(client.read(&mut buffer).expect("the end"), 0);
        assert_eq!(kind(client.write(b"x")), ErrorKind::BrokenPipe);
    }

    #[test]
    fn closing_with_unread_bytes_resets_and_without_ends() {
        let net = SimNet::new(1, Settings::calm());
        for unread in [true, false] {
            let (mut client, mut server) = pair(&net);
            if unread {
                client.write(b"never read").expect("write");
            }
            server.write(b"bye").expect("write");
            settle(&net);
            drop(server);
            settle(&net);
            let mut buffer = [0; 100];
            assert_eq!(client.read(&mut buffer).expect("data"), 3);
            if unread {
                assert_eq!(kind(client.read(&mut buffer)), ErrorKind::ConnectionReset);
            } else {
                assert_eq!(client.read(&mut buffer).expect("the end"), 0);
                assert_eq!(client.write(b"into the void").expect("write"), 13);
                settle(&net);
                assert_eq!(kind(client.write(b"x")), ErrorKind::BrokenPipe);
            }
        }
        settle(&net);
        assert_eq!(net.open_sockets(), 0);
    }

    #[test]
    fn half_close_lets_the_other_direction_live() {
        let net = SimNet::new(1, Settings::calm());
        let (mut client, mut server) = pair(&net);
        client.write(b"question").expect("write");
        client.shutdown_write().expect("shutdown");
        settle(&net);
        let mut buffer = [0; 100];
        assert_eq!(server.read(&mut buffer).expect("data"), 8);
        assert_eq!(server.read(&mut buffer).expect("the end"), 0);
        server.write(b"answer").expect("write");
        settle(&net);
        assert_eq!(client.read(&mut buffer).expect("data"), 6);
        assert_eq!(kind(client.write(b"x")), ErrorKind::BrokenPipe);
    }

    #[test]
    fn connects_are_refused_or_hang() {
        let net = SimNet::new(1, Settings::calm());
        let mut refused = net.connect(address());
        assert_eq!(kind(refused.connected()), ErrorKind::WouldBlock);
        settle(&net);
        assert_eq!(kind(refused.connected()), ErrorKind::ConnectionRefused);
        net.listen(address());
        net.answer(address(), Answer::Hang);
        let mut hanging = net.connect(address());
        settle(&net);
        assert_eq!(kind(hanging.connected()), ErrorKind::WouldBlock);
        assert_eq!(kind(hanging.write(b"x")), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_socket_moves_between_polls_without_losing_its_readiness() {
        let net = SimNet::new(1, Settings { stale: 1000, ..Settings::calm() });
        let (mut client, server) = pair(&net);
        let (home, other) = (net.new_poll(), net.new_poll());
        net.register(&server, home, 7, true).expect("register");
        assert!(net.register(&server, other, 8, true).is_err());
        client.write(b"x").expect("write");
        settle(&net);
        net.deregister(&server, Some(other)).expect("deregister");
        net.register(&server, other, 8, true).expect("register");
        let (events, _) = net.poll(other, 8);
        assert!(events.iter().any(|event| event.token == 8 && event.readable));
        let (stale, _) = net.poll(home, 8);
        assert_eq!(stale.len(), 1, "the event that the old home had fetched");
        assert!(net.poll(other, 8).0.is_empty(), "an edge is reported once");
        net.waker(home).wake();
        assert!(net.poll(home, 8).1);
    }

    #[test]
    fn a_seed_replays() {
        let run = |seed| {
            let net = SimNet::new(seed, Settings::default());
            let (mut client, mut server) = pair(&net);
            let mut buffer = [0; 64];
            for _ in 0..100 {
                let _ = client.write(&[1; 50]);
                net.advance(net.next_time());
                let _ = server.read(&mut buffer);
            }
            net.trace_hash()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
