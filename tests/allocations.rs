//! Once it runs, a transaction allocates nothing: the whole process between a server that answers at once and clients
//! that ask over and over, with an allocator that counts. The threads of the two sides do not count.
//!
//! Upkeep goes on beside it, a few times a second: what every transaction needed would be there in every round, what is
//! there in some is not the transactions'.

#[path = "../bench/peer.rs"]
mod peer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use peer::{Client, Kind};
use pgdog::config::Config;
use pgdog::config::load::{Sources, Text, build};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_PEER: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that is about to end has no such value any more: it is none that serves.
    if !IS_PEER.try_with(Cell::get).unwrap_or(true) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all work is the system allocator's; counting touches no memory that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps GlobalAlloc's contract, which is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 6;

fn be_peer() {
    IS_PEER.set(true);
}

fn config(port: u16, server: SocketAddr) -> Config {
    let config = format!(
        "[general]\nhost = \"127.0.0.1\"\nport = {port}\nauth_type = \"trust\"\nworkers = 2\ndefault_pool_size = 3\n\
         client_idle_timeout = 600000\nquery_timeout = 600000\nclient_idle_in_transaction_timeout = 600000\n\
         [[databases]]\nname = \"app\"\nhost = \"127.0.0.1\"\nport = {}\n",
        server.port()
    );
    let loaded = build(&Sources {
        config: Some(Text { file: "pgdog.toml", text: &config }),
        users: Some(Text { file: "users.toml", text: "[[users]]\nname = \"app\"\ndatabase = \"app\"\n" }),
        ..Sources::default()
    });
    assert!(loaded.is_usable(), "{:?}", loaded.problems);
    loaded.config
}

/// Starts the whole process in this one, before a server that answers at once.
fn start() -> SocketAddr {
    let server = peer::serve(0, be_peer).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
    let config = config(address.port(), server);
    std::thread::spawn(move || pgdog::control::run(config, Box::new(|| Err(Vec::new()))).unwrap());
    for _ in 0..100 {
        if std::net::TcpStream::connect(address).is_ok() {
            return address;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("it does not listen");
}

/// So many clients in threads of their own, each with so many transactions; more clients than servers, so that some wait.
fn load(address: SocketAddr, kind: Kind, clients: usize, each: usize, warm_up: usize) -> u64 {
    let warm = std::sync::Arc::new(std::sync::Barrier::new(clients + 1));
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let warm = warm.clone();
            std::thread::spawn(move || {
                be_peer();
                let mut client = Client::connect(address, "app", "app").unwrap();
                client.prepare(kind).unwrap();
                (0..warm_up).for_each(|_| assert!(client.ask().unwrap() > 0));
                warm.wait();
                // The count is read between these two.
                warm.wait();
                (0..each).for_each(|_| assert!(client.ask().unwrap() > 0));
                warm.wait();
                warm.wait();
                client.leave().unwrap();
            })
        })
        .collect();
    warm.wait();
    sleep(Duration::from_millis(20));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    warm.wait();
    warm.wait();
    let found = ALLOCATIONS.load(Ordering::Relaxed) - before;
    warm.wait();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    found
}

#[test]
fn transactions_allocate_nothing() {
    be_peer();
    let address = start();
    // That it counts at all: a connection takes some.
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    Client::connect(address, "app", "app").unwrap().leave().unwrap();
    assert!(ALLOCATIONS.load(Ordering::Relaxed) - before > 5, "the allocator does not count");

    let short = [Kind::Simple, Kind::Extended, Kind::Prepared].map(|kind| (kind, 500));
    let streams = [Kind::Rows(20_000), Kind::Copy(5_000), Kind::Pages(100)].map(|kind| (kind, 40));
    // One; some that wait for servers; so many that both workers have some, and servers travel between them. Of streams no
    // more than there are servers: where a client is slower than its server, it keeps a large buffer for itself, and of those
    // only a few are kept for reuse.
    let short = short.into_iter().map(|(kind, each)| (kind, each, &[1, 8, 40][..]));
    let streams = streams.into_iter().map(|(kind, each)| (kind, each, &[1, 3][..]));
    for (kind, each, crowds) in short.chain(streams) {
        for &clients in crowds {
            let mut found = Vec::new();
            while !found.contains(&0) {
                let what = format!("{} transactions of {clients} clients, {kind:?}", clients * each);
                assert!(found.len() < ROUNDS, "allocations in {what}, in each round: {found:?}");
                found.push(load(address, kind, clients, each, each));
            }
        }
    }
}
