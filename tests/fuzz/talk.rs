//! Whole conversations: a session between a client that keeps to the protocol and servers that do, with the bytes
//! cut anywhere, beside the same client speaking to such a server directly.

use std::collections::BTreeMap;

use pgdog::base::rng::{Rng, SeededRng};

use super::mini::{Line, Mini, Options};
use super::toy::{self, Toy, bind, execute, named, parse, plain, query};

/// How streams are cut into pieces.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Whole,
    Bytes,
    /// Pieces of random lengths, and sockets that take and give random amounts.
    Random(u64),
}

struct Knife {
    cut: Cut,
    rng: SeededRng,
}

impl Knife {
    fn piece(&mut self) -> usize {
        match self.cut {
            Cut::Whole => usize::MAX,
            Cut::Bytes => 1,
            Cut::Random(_) => match self.rng.below(4) {
                0 => 1 + self.rng.below(4) as usize,
                1 => 1 + self.rng.below(40) as usize,
                2 => 1 + self.rng.below(2_000) as usize,
                _ => 1 + self.rng.below(40_000) as usize,
            },
        }
    }
}

/// Whether names of statements are the client's own business: then it must not change servers.
pub fn passes_names(options: Options) -> bool {
    options.prepared == "disabled" || options.mode == "session"
}

/// What the client gets from a server without a proxy, after the login.
pub fn directly(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut server = Toy::new();
    server.feed(&toy::startup());
    server.out.clear();
    frames.iter().for_each(|frame| server.feed(frame));
    server.out
}

/// What the client and the servers get through a session.
pub struct Heard {
    pub client: Vec<u8>,
    pub servers: BTreeMap<Line, Vec<u8>>,
}

/// `breaks` says before which frames a parked server is lost.
pub fn through(options: Options, frames: &[Vec<u8>], breaks: &[usize], cut: Cut) -> Heard {
    let seed = if let Cut::Random(seed) = cut { seed } else { 0 };
    let mut mini = Mini::new(options, 1);
    let mut toys: BTreeMap<Line, Toy> = BTreeMap::new();
    let mut heard: BTreeMap<Line, usize> = BTreeMap::new();
    let mut knife = Knife { cut, rng: SeededRng::new(seed) };
    mini.client_sends(&toy::startup());
    converse(&mut mini, &mut toys, &mut heard, &mut knife);
    let login = mini.to_client.len();
    let mut unsent: Vec<u8> = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        if breaks.contains(&at) {
            // Only between transactions is a server of nobody's lost without a trace.
            send(&mut mini, &mut toys, &mut heard, &mut knife, &mut unsent);
            converse(&mut mini, &mut toys, &mut heard, &mut knife);
            for line in mini.parked_lines() {
                mini.server_ends(line);
            }
            mini.serve();
        }
        unsent.extend_from_slice(frame);
    }
    send(&mut mini, &mut toys, &mut heard, &mut knife, &mut unsent);
    converse(&mut mini, &mut toys, &mut heard, &mut knife);
    let client = mini.to_client[login..].to_vec();
    let (_, servers) = mini.end();
    Heard { client, servers }
}

fn send(
    mini: &mut Mini,
    toys: &mut BTreeMap<Line, Toy>,
    heard: &mut BTreeMap<Line, usize>,
    knife: &mut Knife,
    unsent: &mut Vec<u8>,
) {
    let all = std::mem::take(unsent);
    let mut rest = &all[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(knife.piece().min(rest.len()));
        rest = after;
        mini.client_sends(piece);
        turn(mini, toys, heard, knife);
    }
}

/// Until nobody has anything more to say.
fn converse(
    mini: &mut Mini,
    toys: &mut BTreeMap<Line, Toy>,
    heard: &mut BTreeMap<Line, usize>,
    knife: &mut Knife,
) {
    while turn(mini, toys, heard, knife) {}
}

fn turn(
    mini: &mut Mini,
    toys: &mut BTreeMap<Line, Toy>,
    heard: &mut BTreeMap<Line, usize>,
    knife: &mut Knife,
) -> bool {
    let before = mini.to_client.len();
    mini.read_bytes_max = knife.piece();
    mini.client_takes = knife.piece();
    mini.servers_take = knife.piece();
    mini.serve();
    let mut busy = mini.client_takes == 0 || mini.servers_take == 0 || mini.to_client.len() > before;
    for line in mini.lines() {
        let server = toys.entry(line).or_insert_with(Toy::new);
        let told = heard.entry(line).or_default();
        let new = mini.to_servers.get(&line).map_or(&[][..], |all| &all[*told..]);
        *told += new.len();
        busy |= !new.is_empty() || !server.out.is_empty();
        server.feed(new);
        let n = knife.piece().min(server.out.len());
        let said: Vec<u8> = server.out.drain(..n).collect();
        mini.server_sends(line, &said);
        if server.ended && server.out.is_empty() {
            mini.server_ends(line);
        }
    }
    busy
}

/// A client's frames, made of any bytes; every batch is ended. Also where a parked server is to be lost.
pub fn script(data: &[u8]) -> (Vec<Vec<u8>>, Vec<usize>) {
    const NAMES: [&str; 4] = ["", "a", "b", "c"];
    const TEXTS: [&str; 16] = [
        "one", "begin", "commit", "rollback", "error", "set x", "set y", "show", "rows 3", "rows 40",
        "syntax", "", "two", "three", "four", "five",
    ];
    let (mut frames, mut breaks, mut open) = (Vec::new(), Vec::new(), false);
    let mut server = Toy::new();
    server.feed(&toy::startup());
    for pair in data.chunks_exact(2).take(400) {
        let (what, which) = (pair[0] % 16, usize::from(pair[1]));
        let (name, portal, text) = (NAMES[which & 3], NAMES[which >> 2 & 1], TEXTS[which >> 4]);
        let before = frames.len();
        if server.unnamed_is_doubtful && name.is_empty() && matches!(what, 5 | 6 | 9) {
            frames.push(parse(name, "one"));
        }
        open = match what {
            0 if !open => {
                frames.push(query(text));
                false
            }
            1 if !open => {
                breaks.push(frames.len());
                false
            }
            // What is copied comes blindly behind its query.
            2 if !open => {
                frames.push(query("copy in"));
                for _ in 0..which % 5 {
                    frames.push(plain(b'd', &b"x".repeat(which * 3)));
                }
                frames.push(if which & 1 == 0 { plain(b'c', b"") } else { plain(b'f', b"no\0") });
                false
            }
            3 | 4 => {
                frames.push(parse(name, TEXTS[which >> 4 & 15]));
                true
            }
            5 | 6 => {
                let long = if which & 128 > 0 { which * 300 } else { which };
                frames.push(bind(portal, name, long));
                true
            }
            7 | 8 => {
                frames.push(execute(portal));
                true
            }
            9 => {
                frames.push(named(b'D', b'S', name));
                true
            }
            10 => {
                frames.push(named(b'D', b'P', portal));
                true
            }
            11 => {
                frames.push(named(b'C', if which & 4 == 0 { b'S' } else { b'P' }, name));
                true
            }
            12 => {
                frames.push(plain(b'H', b""));
                open
            }
            // The usual batch.
            13 | 14 => {
                frames.extend([parse(name, text), bind("", name, which), execute(""), plain(b'S', b"")]);
                false
            }
            _ => {
                frames.push(plain(b'S', b""));
                false
            }
        };
        frames[before..].iter().for_each(|frame| server.feed(frame));
    }
    frames.push(plain(b'S', b""));
    (frames, breaks)
}
