//! Values against naive models of them, under random operations; and streams that are cut anywhere, which must come to
//! the same.

mod fuzz;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fuzz::mini::Options;
use fuzz::talk::{Cut, directly, script, through};
use pgdog::base::chunk::{Chunks, Class};
use pgdog::base::limits::OVERTAKEN_MAX;
use pgdog::base::outbox::{Outbox, Piece};
use pgdog::base::relay::Relay;
use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;
use pgdog::cluster::pool::{Checkin, Checkout, Counts, PoolState, Ticket};
use pgdog::cluster::statements::Prepared;

const SEEDS: u64 = 4_000;

/// What a pool should be: sets, and one queue.
#[derive(Default)]
struct NaivePool {
    idle: BTreeMap<u64, usize>,
    opening: usize,
    busy: BTreeSet<usize>,
    closing: usize,
    waiting: Vec<Ticket>,
    overtaken: BTreeMap<Ticket, u32>,
    paused: bool,
    retired: bool,
    next_server: usize,
}

impl NaivePool {
    fn counts(&self) -> Counts {
        Counts {
            idle: self.idle.len(),
            opening: self.opening,
            busy: self.busy.len(),
            closing: self.closing,
            waiting: self.waiting.len(),
        }
    }

    /// A waiter has been served by `worker`: it must be the one whose turn it is.
    fn serve(&mut self, ticket: Ticket, worker: u16) {
        let oldest = self.waiting[0];
        let at = self.waiting.iter().position(|other| *other == ticket).expect("it waits");
        let first_of_its_worker = self.waiting.iter().find(|other| other.worker == ticket.worker);
        assert_eq!(first_of_its_worker, Some(&ticket), "within a worker it is first in, first out");
        let overtaken = self.overtaken.get(&oldest).copied().unwrap_or(0);
        let own = self.waiting.iter().find(|other| other.worker == worker);
        match own {
            Some(own) if overtaken < OVERTAKEN_MAX => assert_eq!(ticket, *own),
            _ => assert_eq!(ticket, oldest),
        }
        if ticket != oldest {
            *self.overtaken.entry(oldest).or_default() += 1;
        }
        self.waiting.remove(at);
    }

    fn wants_open(&self, size: usize) -> bool {
        !self.paused && !self.retired && self.opening < self.waiting.len() && self.counts().total() < size
    }

    fn checked_in(&mut self, outcome: Checkin<usize>, server: usize, worker: u16, size: usize) {
        let surplus = self.retired || self.counts().total() > size;
        match outcome {
            Checkin::Surplus(same) => {
                assert!(surplus && same == server);
                assert!(self.busy.remove(&server));
                self.closing += 1;
            }
            Checkin::Granted { ticket, server: same } => {
                assert!(!surplus && !self.paused && same == server);
                self.serve(ticket, worker);
            }
            Checkin::Parked { id } => {
                assert!(
                    !surplus && (self.paused || self.waiting.is_empty()),
                    "a server rests while somebody waits"
                );
                assert!(self.busy.remove(&server));
                assert!(self.idle.insert(id, server).is_none());
            }
        }
    }
}

#[test]
fn a_pool_is_what_its_model_is() {
    for seed in 0..SEEDS {
        let mut rng = SeededRng::new(seed);
        let workers = 1 + rng.below(3) as u16;
        let size = 1 + rng.below(4) as usize;
        let mut pool: PoolState<usize> = PoolState::new(size, usize::from(workers), None);
        let mut model = NaivePool::default();
        let mut number = 0;
        for step in 0..150 {
            let now = Time::from_micros(step + 1);
            let worker = rng.below(u64::from(workers)) as u16;
            let busy: Vec<usize> = model.busy.iter().copied().collect();
            let one = (!busy.is_empty()).then(|| busy[rng.below(busy.len() as u64) as usize]);
            match (rng.below(20), one) {
                (0..6, _) => {
                    number += 1;
                    let ticket = Ticket { worker, session: u64::from(number), number };
                    match pool.checkout(ticket, now) {
                        Checkout::Ready(server) => {
                            assert!(!model.paused && !model.retired && model.waiting.is_empty());
                            let id =
                                model.idle.iter().find(|(_, other)| **other == server).map(|(id, _)| *id);
                            model.idle.remove(&id.expect("it rested"));
                            assert!(model.busy.insert(server), "a server is given twice");
                        }
                        Checkout::Wait { open } => {
                            assert!(!model.retired);
                            assert!(model.paused || !model.waiting.is_empty() || model.idle.is_empty());
                            model.waiting.push(ticket);
                            // An opening that failed holds further ones back until `retry`.
                            assert!(!open || model.wants_open(size));
                            model.opening += usize::from(open);
                        }
                        Checkout::Retired => assert!(model.retired),
                    }
                }
                (6..11, Some(server)) => {
                    let outcome = pool.checkin(server, worker, now);
                    model.checked_in(outcome, server, worker, size);
                }
                (11..13, _) if model.opening > 0 => {
                    model.next_server += 1;
                    let server = model.next_server;
                    model.opening -= 1;
                    model.busy.insert(server);
                    if rng.below(4) == 0 {
                        pool.opened_busy();
                    } else {
                        let outcome = pool.opened(server, worker, now);
                        model.checked_in(outcome, server, worker, size);
                    }
                }
                (13, _) if model.opening > 0 => {
                    model.opening -= 1;
                    let told = if rng.below(2) == 0 {
                        pool.open_failed()
                    } else {
                        model.closing += 1;
                        pool.open_aborted()
                    };
                    let alone = model.idle.len() + model.busy.len() + model.opening == 0;
                    let wanted = if alone { std::mem::take(&mut model.waiting) } else { Vec::new() };
                    assert_eq!(told, wanted);
                }
                (14, Some(server)) => {
                    pool.close();
                    model.busy.remove(&server);
                    model.closing += 1;
                }
                (15, _) if model.closing > 0 => {
                    model.closing -= 1;
                    let wanted = model.wants_open(size);
                    let open = pool.closed();
                    assert!(!open || wanted);
                    model.opening += usize::from(open);
                }
                (16, _) => {
                    let mut open = pool.retry(now);
                    while model.wants_open(size) {
                        model.opening += 1;
                        open -= 1;
                    }
                    assert_eq!(open, 0);
                }
                (17, _) if !model.waiting.is_empty() => {
                    let ticket = model.waiting.remove(rng.below(model.waiting.len() as u64) as usize);
                    assert!(pool.withdraw(ticket));
                    assert!(!pool.withdraw(ticket), "a ticket is withdrawn twice");
                }
                (18, _) => {
                    if model.paused {
                        let (grants, open) = pool.resume();
                        model.paused = model.retired;
                        for (ticket, server) in grants {
                            assert!(!model.retired);
                            let id =
                                model.idle.iter().find(|(_, other)| **other == server).map(|(id, _)| *id);
                            model.idle.remove(&id.expect("it rested"));
                            model.busy.insert(server);
                            let at =
                                model.waiting.iter().position(|other| *other == ticket).expect("it waits");
                            model.waiting.remove(at);
                        }
                        model.opening += open;
                        assert!(model.retired || model.waiting.is_empty() || model.idle.is_empty());
                    } else {
                        pool.pause();
                        model.paused = !model.retired;
                    }
                }
                (19, _) if rng.below(20) == 0 => {
                    let (servers, told) = pool.retire();
                    (model.retired, model.paused) = (true, false);
                    assert_eq!(servers.len(), model.idle.len());
                    model.closing += servers.len();
                    model.idle.clear();
                    assert_eq!(told, std::mem::take(&mut model.waiting));
                }
                _ => {
                    let id = model.idle.keys().next().copied().unwrap_or(999_999);
                    assert_eq!(pool.parked(id), model.idle.get(&id));
                    if let Some(server) = pool.take(id) {
                        assert_eq!(model.idle.remove(&id), Some(server));
                        model.busy.insert(server);
                    }
                }
            }
            assert_eq!(pool.counts(), model.counts(), "seed {seed}, step {step}");
            assert!(pool.counts().total() <= size, "seed {seed}, step {step}");
            assert!(model.overtaken.values().all(|&times| times <= OVERTAKEN_MAX));
        }
    }
}

#[test]
fn prepared_statements_are_what_their_model_is() {
    for seed in 0..SEEDS {
        let mut rng = SeededRng::new(seed);
        let limit = 1 + rng.below(6) as usize;
        let (mut prepared, mut model) = (Prepared::default(), BTreeSet::new());
        for _ in 0..200 {
            let id = rng.below(12);
            match rng.below(8) {
                0..3 => {
                    while let Some(gone) = prepared.evict(limit) {
                        assert!(model.len() >= limit, "somebody has to go for no reason");
                        assert!(model.remove(&gone), "what goes was there");
                    }
                    assert!(model.len() < limit);
                    prepared.insert(id, Time::ZERO);
                    model.insert(id);
                }
                3..6 => assert_eq!(prepared.touch(id, Time::ZERO), model.contains(&id)),
                6 => {
                    prepared.remove(id);
                    model.remove(&id);
                }
                _ if rng.below(20) == 0 => {
                    prepared.clear();
                    model.clear();
                }
                _ => {}
            }
            assert_eq!((prepared.len(), prepared.is_empty()), (model.len(), model.is_empty()));
            assert!((0..12).all(|id| prepared.contains(id) == model.contains(&id)));
        }
    }
}

/// The second chance: what was used since the hand passed it stays, while something else was not.
#[test]
fn what_is_used_stays() {
    let mut prepared = Prepared::default();
    (0..4).for_each(|id| prepared.insert(id, Time::ZERO));
    let first = prepared.evict(4).expect("it is full");
    for round in 0..100 {
        prepared.insert(10 + round, Time::ZERO);
        let used = (0..4).find(|id| *id != first && prepared.contains(*id));
        used.inspect(|id| assert!(prepared.touch(*id, Time::ZERO)));
        let before = prepared.len();
        let gone = prepared.evict(4).expect("it is full");
        assert_eq!(prepared.len(), before - 1);
        // Of four, at most the new one and the touched one are in use after the first round of the hand.
        assert!(round < 2 || Some(gone) != used, "what was used goes before what was not");
    }
}

/// A relay and an outbox behind it, beside one queue of bytes: what is promised is what is sent, in order, wherever the
/// relay's bytes have moved meanwhile.
#[test]
fn relay_and_outbox_are_what_their_model_is() {
    for seed in 0..SEEDS {
        let mut rng = SeededRng::new(seed);
        let (mut chunks, mut relay, mut outbox) = (Chunks::new(), Relay::default(), Outbox::default());
        let (mut unparsed, mut promised, mut next) = (VecDeque::new(), VecDeque::new(), 0_u8);
        for _ in 0..120 {
            match rng.below(10) {
                0..3 => {
                    let class = if rng.below(4) == 0 { Class::Standard } else { Class::Small };
                    let room = relay.room(&mut chunks, class);
                    let n = room.len().min(rng.below(900) as usize);
                    for slot in &mut room[..n] {
                        next = next.wrapping_add(1);
                        *slot = next;
                        unparsed.push_back(next);
                    }
                    relay.fill(n);
                }
                3 | 4 => {
                    let n = rng.below(relay.unparsed().len() as u64 + 1) as usize;
                    let (start, end) = relay.advance(n);
                    let bytes: Vec<u8> = unparsed.drain(..n).collect();
                    // What is not sent is of no interest.
                    if rng.below(4) > 0 {
                        outbox.relay(0, start, end);
                        promised.extend(bytes);
                    }
                }
                5 => {
                    let n = rng.below(50) as usize;
                    outbox.own(|buf| buf.extend((0..n).map(|_| 200)));
                    promised.extend(std::iter::repeat_n(200, n));
                }
                6 | 7 => send(&mut outbox, &relay, &mut promised, &mut chunks, rng.below(600) as usize),
                8 => relay.reserve(1 + rng.below(5_000) as usize, &mut chunks),
                _ if rng.below(3) == 0 => relay.shrink(&mut chunks),
                _ if rng.below(2) == 0 => outbox.adopt(0, &mut relay, &mut chunks),
                _ => relay.rest(&mut chunks),
            }
            let parsed = relay.parsed();
            relay.free_to(outbox.first_of(0).unwrap_or(parsed).min(parsed));
            assert!(relay.unparsed().iter().eq(unparsed.iter()));
            assert_eq!(outbox.is_empty(), promised.is_empty());
        }
        while !outbox.is_empty() {
            send(&mut outbox, &relay, &mut promised, &mut chunks, 1_000);
        }
        assert!(promised.is_empty());
        outbox.clear(&mut chunks);
        relay.release(&mut chunks);
        assert_eq!(chunks.out_bytes(), 0, "seed {seed}");
    }
}

fn send(outbox: &mut Outbox, relay: &Relay, promised: &mut VecDeque<u8>, chunks: &mut Chunks, n: usize) {
    let bytes = |piece| match piece {
        Piece::Bytes(bytes) => bytes,
        Piece::Relay { start, end, .. } => relay.range(start, end),
    };
    let all: Vec<u8> = outbox.pieces().flat_map(bytes).copied().collect();
    assert!(all.iter().eq(promised.iter()), "what is to be sent is not what was promised");
    let n = n.min(all.len());
    promised.drain(..n);
    outbox.sent(n, chunks);
}

/// A whole conversation comes to the same on both sides, however the bytes of both are cut. What the servers are sent
/// may differ in what the proxy adds by itself, which depends on what it knows when; so whole streams are compared for
/// conversations whose every batch is answered before the next.
#[test]
fn a_conversation_does_not_depend_on_how_it_is_cut() {
    for seed in 0..100 {
        let mut rng = SeededRng::new(seed);
        let mut data = vec![0; 40];
        rng.fill(&mut data);
        let (frames, breaks) = script(&data);
        let options = Options { prepared_limit: 1 + (seed % 3) as usize, ..Options::PLAIN };
        let wanted = directly(&frames);
        for cut in [Cut::Whole, Cut::Random(seed), Cut::Random(seed + 1_000)] {
            let heard = through(options, &frames, &breaks, cut);
            assert!(heard.client == wanted, "seed {seed}, {cut:?}");
        }
        if frames.iter().map(Vec::len).sum::<usize>() < 1_000 {
            assert!(
                through(options, &frames, &breaks, Cut::Bytes).client == wanted,
                "seed {seed}, byte by byte"
            );
        }
    }
}

/// Conversations that once came to something else.
#[test]
fn what_fuzzing_found() {
    use fuzz::toy::{bind, execute, named, parse, plain, query};
    let sync = || plain(b'S', b"");
    let run = |limit, frames: &[Vec<u8>], breaks: &[usize]| {
        let options = Options { prepared_limit: limit, ..Options::PLAIN };
        for cut in [Cut::Whole, Cut::Random(1), Cut::Random(2)] {
            assert!(through(options, frames, breaks, cut).client == directly(frames), "{cut:?}");
        }
    };
    // A batch longer than the queue of expected answers: the Flush that its bound calls for is sent, and not in the
    // middle of a Bind.
    for shift in 0..3 {
        let mut frames = vec![parse("a", "one"), sync()];
        frames.extend((0..shift).map(|_| named(b'D', b'S', "a")));
        frames.extend((0..1_200).flat_map(|_| [bind("", "a", 10), execute("")]));
        frames.push(sync());
        run(10, &frames, &[]);
        let mut frames: Vec<_> =
            (0..700).flat_map(|n| [parse(&format!("s{n}"), &format!("{n}")), bind("", "a", 1)]).collect();
        frames.splice(
            0..0,
            [parse("a", "one"), parse("b", "two"), parse("c", "three")].into_iter().skip(shift),
        );
        frames.insert(0, parse("a", "zero"));
        frames.push(sync());
        run(2, &frames, &[]);
    }
    // The Close that was to make room is ignored behind an error: the statement is still there.
    let batch = |name| [bind("", name, 1), execute(""), sync()];
    let mut frames = vec![parse("a", "one"), sync(), parse("b", "two"), sync(), query("three")];
    frames.push(execute("nowhere"));
    frames.extend(batch("a"));
    frames.extend(batch("b"));
    frames.extend(batch("a"));
    run(1, &frames, &[]);
    // The same of the unnamed statement, sent again to another server.
    let mut frames = vec![parse("", "one"), sync(), execute("nowhere")];
    frames.extend(batch(""));
    frames.extend(batch(""));
    run(1, &frames, &[2]);
}

/// The same, with nothing that fails and nothing that needs anything added: then both sides' streams are equal byte by
/// byte.
#[test]
fn servers_are_sent_the_same_however_it_is_cut() {
    use fuzz::toy::{bind, execute, parse, plain, query};
    let frames = [
        query("one"),
        parse("a", "rows 3"),
        bind("", "a", 700),
        execute(""),
        plain(b'S', b""),
        query("begin"),
        bind("", "a", 40_000),
        execute(""),
        plain(b'S', b""),
        query("rows 40"),
        query("commit"),
        query("copy in"),
        plain(b'd', &[b'x'; 30_000]),
        plain(b'd', b"x"),
        plain(b'c', b""),
        query("show"),
    ];
    let whole = through(Options::PLAIN, &frames, &[], Cut::Whole);
    assert!(whole.client == directly(&frames));
    for cut in std::iter::once(Cut::Bytes).chain((0..20).map(Cut::Random)) {
        let heard = through(Options::PLAIN, &frames, &[], cut);
        assert!(heard.client == whole.client, "{cut:?}");
        assert!(heard.servers == whole.servers, "{cut:?}");
    }
}
