//! The parts that every transaction and every row pass through, alone.
//!
//!   micro               all of them: nanoseconds each, GB/s where bytes are scanned
//!   micro NAME COUNT    one of them, so often, in silence: to have its instructions counted

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use pgdog::base::chunk::Chunks;
use pgdog::base::limits::CHUNK_LARGE_BYTES;
use pgdog::base::outbox::Outbox;
use pgdog::base::time::Time;
use pgdog::cluster::pool::{Checkin, Checkout, PoolState, Ticket};
use pgdog::session::exchange::{Exchange, Exchanges, Order, What};
use pgdog::wire::TxStatus;
use pgdog::wire::encode;
use pgdog::wire::frame::run_of;

struct Micro {
    name: &'static str,
    /// Bytes that one run scans; zero if that is not what it does.
    bytes: usize,
    run: Box<dyn FnMut()>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            all().into_iter().for_each(show);
            ExitCode::SUCCESS
        }
        [name, count] => {
            let found = all().into_iter().find(|micro| micro.name == name);
            let (Some(mut micro), Ok(count)) = (found, count.parse::<u64>()) else { return usage() };
            (0..count).for_each(|_| (micro.run)());
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let names: Vec<_> = all().iter().map(|micro| micro.name).collect();
    eprintln!("micro [NAME COUNT]; names: {}", names.join(", "));
    ExitCode::FAILURE
}

fn show(mut micro: Micro) {
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let began = Instant::now();
        let mut runs = 0;
        while began.elapsed().as_millis() < 10 {
            (0..100).for_each(|_| (micro.run)());
            runs += 100;
        }
        best = best.min(began.elapsed().as_nanos() as f64 / f64::from(runs));
    }
    let speed = match micro.bytes {
        0 => String::new(),
        bytes => format!("  {:6.2} GB/s", bytes as f64 / best),
    };
    println!("{:<24} {best:10.1} ns{speed}", micro.name);
}

fn all() -> Vec<Micro> {
    vec![
        scan("scan-ints", &[7]),
        scan("scan-100-bytes", &[94]),
        scan("scan-mixed", &[1, 9, 3, 30, 12, 2, 7, 60]),
        Micro { name: "exchange-simple", bytes: 0, run: exchange(&[What::Query], b"TDCZ") },
        Micro {
            name: "exchange-extended",
            bytes: 0,
            run: exchange(
                &[What::Parse, What::Bind, What::DescribePortal, What::Execute, What::Sync],
                b"12TDCZ",
            ),
        },
        Micro { name: "checkout-checkin", bytes: 0, run: checkout_and_checkin() },
        Micro { name: "checkout-wait", bytes: 0, run: checkout_after_a_wait() },
        Micro { name: "outbox", bytes: 0, run: outbox() },
    ]
}

/// A large chunk full of rows of one text, of these lengths in turn.
fn scan(name: &'static str, lengths: &[usize]) -> Micro {
    let mut rows = Vec::new();
    for length in lengths.iter().cycle() {
        let before = rows.len();
        encode::data_row(&mut rows, [Some(&[b'x'; 100][..*length])].into_iter());
        if rows.len() > CHUNK_LARGE_BYTES {
            rows.truncate(before);
            break;
        }
    }
    let bytes = rows.len();
    let run = move || {
        let end = run_of(black_box(&rows), |tag| matches!(tag, b'D' | b'd'));
        assert_eq!(end, rows.len());
    };
    Micro { name, bytes, run: Box::new(run) }
}

fn exchange(asks: &'static [What], answers: &'static [u8]) -> Box<dyn FnMut()> {
    let mut exchanges = Exchanges::default();
    Box::new(move || {
        for &what in asks {
            exchanges.push(Exchange::new(what, Order::Forward));
        }
        for &tag in answers {
            let status = (tag == b'Z').then_some(TxStatus::Idle);
            let outcome = match tag {
                b'D' => exchanges.row(tag).map(drop).is_ok(),
                _ => exchanges.on_reply(black_box(tag), status).is_ok(),
            };
            assert!(outcome);
        }
        assert!(exchanges.is_quiet());
    })
}

fn ticket(session: u64) -> Ticket {
    Ticket { worker: 0, session, number: 1 }
}

/// A pool of ten in the hands of sessions 0 to 9.
fn busy_pool() -> PoolState<Box<u64>> {
    let mut pool = PoolState::new(10, 2, None);
    for server in 0..10 {
        assert!(matches!(pool.checkout(ticket(server), Time::ZERO), Checkout::Wait { open: true }));
        assert!(matches!(pool.opened(Box::new(server), 0, Time::ZERO), Checkin::Granted { .. }));
    }
    pool
}

fn checkout_and_checkin() -> Box<dyn FnMut()> {
    let mut pool = busy_pool();
    for server in 0..10 {
        assert!(matches!(pool.checkin(Box::new(server), 0, Time::ZERO), Checkin::Parked { .. }));
    }
    Box::new(move || {
        let Checkout::Ready(server) = pool.checkout(black_box(ticket(1)), Time::ZERO) else {
            unreachable!("ten are idle")
        };
        assert!(matches!(pool.checkin(server, 0, Time::ZERO), Checkin::Parked { .. }));
    })
}

/// Somebody waits, and is served by the next server that comes back.
fn checkout_after_a_wait() -> Box<dyn FnMut()> {
    let mut pool = busy_pool();
    let mut server = Some(Box::new(0));
    Box::new(move || {
        assert!(matches!(pool.checkout(black_box(ticket(11)), Time::ZERO), Checkout::Wait { open: false }));
        if let Some(Checkin::Granted { server: granted, .. }) =
            server.take().map(|server| pool.checkin(server, 0, Time::ZERO))
        {
            server = Some(granted);
        }
        assert!(server.is_some());
    })
}

/// An answer in four pieces, as a server sends it, written at once.
fn outbox() -> Box<dyn FnMut()> {
    let mut outbox = Outbox::default();
    let mut chunks = Chunks::new();
    let mut at = 0;
    Box::new(move || {
        for length in [38, 18, 14, 6] {
            outbox.relay(1, at, at + length);
            at += length;
        }
        assert_eq!(black_box(&outbox).pieces().count(), 1);
        outbox.sent(76, &mut chunks);
        assert!(outbox.is_empty());
    })
}
