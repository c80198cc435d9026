//! The targets.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pgdog::auth::scram::ScramFault;
use pgdog::auth::scram::client::{ClientBinding, ClientGreeted};
use pgdog::auth::scram::server::{ServerBinding, ServerStart};
use pgdog::auth::verifier::{Candidates, Challenge, Iterations, Keys, derive};
use pgdog::base::chunk::Chunks;
use pgdog::base::limits::PROXY_HEADER_BYTES_MAX;
use pgdog::base::relay::Relay;
use pgdog::base::rng::{Rng, SeededRng};
use pgdog::cluster::world::World;
use pgdog::config::General;
use pgdog::config::load::{Sources, Text, build};
use pgdog::io::tls::TlsSealer;
use pgdog::io::tls::x509::{Certificate, Usage, digest};
use pgdog::io::transport::{Opened, Sealer, Sink};
use pgdog::session::exchange::{Exchange, Exchanges, Note, Order, Outcome, What};
use pgdog::session::inbound::{Inbound, Next};
use pgdog::wire::frame::{Header, run_of};
use pgdog::wire::proxy;
use pgdog::wire::startup::{self, Packet, split_options};
use pgdog::wire::{TxStatus, encode, error};

use super::mini::{Mini, Options, frames};
use super::talk::{Cut, directly, passes_names, script, through};
use super::toy;

pub type Body = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const ALL: &[(&str, Body)] = &[
    ("frame", frame),
    ("startup", startup_packet),
    ("client", client),
    ("server", server),
    ("scram", scram),
    ("config", config),
    ("session", session),
    ("talk", talk),
    ("sql", sql),
    ("tls", tls),
];

/// The scanner finds the same frames however the bytes arrive, and never looks beyond them.
pub fn frame(data: &[u8]) {
    let runs = run_of(data, |_| true);
    let (_, rest) = prefix(data);
    assert_eq!(runs, data.len() - rest.len());
    assert!(run_of(data, |tag| tag != b'D') <= runs);
    let mut rng = SeededRng::new(data.len() as u64);
    let mut chunks = Chunks::new();
    for step in [1, 7, usize::MAX] {
        assert_eq!(
            inbound(data, step, &mut rng, &mut chunks),
            inbound(data, usize::MAX, &mut rng, &mut chunks)
        );
    }
    assert_eq!(chunks.out_bytes(), 0);
    error::fields(data).for_each(drop);
    let _ = (error::summary(data), error::is_fatal(data));
}

fn prefix(data: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut tags, mut rest) = (Vec::new(), data);
    while let Ok(Some(header)) = Header::parse(rest) {
        if rest.len() < header.frame() {
            break;
        }
        tags.push(header.tag);
        rest = &rest[header.frame()..];
    }
    (tags, rest)
}

/// Passes every second frame and skips the others: what is sent, which frames were seen, and whether it broke off.
fn inbound(
    data: &[u8],
    step: usize,
    rng: &mut SeededRng,
    chunks: &mut Chunks,
) -> (Vec<u8>, Vec<Header>, bool) {
    let (mut inbound, mut sent, mut seen, mut broken) = (Inbound::default(), Vec::new(), Vec::new(), false);
    let mut rest = data;
    while !rest.is_empty() && !broken {
        let room = inbound.relay.room(chunks, inbound.class);
        let n = step.min(rest.len()).min(room.len()).min(1 + rng.below(40_000) as usize);
        room[..n].copy_from_slice(&rest[..n]);
        inbound.relay.fill(n);
        rest = &rest[n..];
        loop {
            match inbound.step() {
                Ok(Next::Wait) => break,
                Ok(Next::Frame(header)) if seen.len() % 2 == 0 => {
                    seen.push(header);
                    let (start, end) = inbound.send(header);
                    sent.extend_from_slice(inbound.relay.range(start, end));
                }
                Ok(Next::Frame(header)) => {
                    seen.push(header);
                    inbound.skip(header);
                }
                Ok(Next::Stretch { start, end }) => sent.extend_from_slice(inbound.relay.range(start, end)),
                Err(_) => {
                    broken = true;
                    break;
                }
            }
            inbound.relay.free_to(inbound.relay.parsed());
        }
        inbound.relay.free_to(inbound.relay.parsed());
    }
    inbound.relay.release(chunks);
    (sent, seen, broken)
}

/// A header of the PROXY protocol is found where it ends, and in no part of it.
fn proxy_header(data: &[u8]) {
    match proxy::parse(data) {
        Ok(Some((source, length))) => {
            assert!(length <= data.len() && length <= PROXY_HEADER_BYTES_MAX);
            (0..length).for_each(|cut| assert_eq!(proxy::parse(&data[..cut]), Ok(None)));
            assert_eq!(proxy::parse(&data[..length]), Ok(Some((source, length))));
        }
        Ok(None) => assert!(data.len() < PROXY_HEADER_BYTES_MAX),
        Err(_) => {}
    }
}

/// A packet is found once it is whole and not before, and what was understood of it says the same again.
pub fn startup_packet(data: &[u8]) {
    proxy_header(data);
    let parsed = startup::parse(data);
    if let Ok(Some((packet, length))) = &parsed {
        assert!(*length <= data.len());
        for cut in 0..*length {
            assert_eq!(startup::parse(&data[..cut]), Ok(None));
        }
        match packet {
            Packet::Startup(startup) => {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let pairs: Vec<_> =
                    startup.parameters.iter().map(|(name, value)| (*name, text(value))).collect();
                let mut again = Vec::new();
                encode::startup(
                    &mut again,
                    startup.version,
                    pairs.iter().map(|(name, value)| (*name, &**value)),
                );
                if startup.parameters.iter().all(|(_, value)| std::str::from_utf8(value).is_ok()) {
                    assert_eq!(again, data[..*length]);
                }
            }
            Packet::Cancel(key) => {
                let mut again = Vec::new();
                encode::cancel_request(&mut again, key);
                assert_eq!(again, data[..*length]);
            }
            Packet::Ssl | Packet::Gssenc => {}
        }
    }
    for argument in split_options(&String::from_utf8_lossy(data)) {
        assert!(argument.len() <= data.len() * 3);
    }
    // The same, at the front of a session.
    let mut mini = Mini::new(Options::PLAIN, 1);
    mini.read_bytes_max = data.first().map_or(1, |&byte| usize::from(byte) + 1);
    mini.client_sends(data);
    mini.serve();
    let (client, servers) = mini.end();
    check_client(&client, data);
    servers.values().for_each(|sent| check_server(sent));
}

/// Any bytes from a client that has logged in, beside servers that answer everything.
pub fn client(data: &[u8]) {
    let Some((&[options, pieces], bytes)) = data.split_first_chunk() else { return };
    let mut options = Options::of(options);
    options.auth = "trust";
    let mut mini = Mini::new(options, 1);
    let mut sent = toy::startup();
    mini.client_sends(&sent);
    let mut answered = Answered::default();
    answered.serve(&mut mini);
    mini.read_bytes_max = 1 + usize::from(pieces & 15) * usize::from(pieces >> 4).pow(3);
    for piece in bytes.chunks(1 + usize::from(pieces >> 3) * 7) {
        mini.client_sends(piece);
        sent.extend_from_slice(piece);
        mini.serve();
        if pieces & 1 == 0 {
            answered.serve(&mut mini);
        }
    }
    answered.serve(&mut mini);
    let (client, servers) = mini.end();
    check_client(&client, &sent);
    servers.values().for_each(|sent| check_server(sent));
}

/// Any bytes from a server: while it logs in, while it is asked, while it is being cleaned, and while it rests.
pub fn server(data: &[u8]) {
    exchanges(data);
    let Some((&[options, phase], bytes)) = data.split_first_chunk() else { return };
    let mut options = Options::of(options);
    options.auth = "trust";
    let mut mini = Mini::new(options, 1);
    let mut sent = toy::startup();
    mini.client_sends(&sent);
    mini.serve();
    let mut answered = Answered::default();
    if phase & 3 != 0 {
        answered.serve(&mut mini);
        let asked: &[Vec<u8>] = match phase >> 2 & 3 {
            0 => &[toy::query("one"), toy::query("two")],
            1 => &[toy::parse("a", "one"), toy::bind("", "a", 3), toy::execute(""), toy::plain(b'S', b"")],
            2 => {
                &[toy::parse("", "copy in"), toy::bind("p", "", 3), toy::execute("p"), toy::plain(b'H', b"")]
            }
            _ => &[toy::plain(b'F', b"\0\0\0\x01"), toy::query("one")],
        };
        for frame in asked {
            mini.client_sends(frame);
            sent.extend_from_slice(frame);
        }
        mini.serve();
        match phase & 3 {
            1 => {}
            2 => mini.client_breaks(),
            _ => answered.serve(&mut mini),
        }
    }
    mini.read_bytes_max = 1 + usize::from(phase >> 4) * 40;
    for piece in bytes.chunks(1 + usize::from(phase >> 4) * 3) {
        mini.lines().into_iter().for_each(|line| mini.server_sends(line, piece));
        mini.serve();
    }
    mini.answer_asks();
    let (client, servers) = mini.end();
    check_client(&client, &sent);
    servers.values().for_each(|sent| check_server(sent));
}

/// The queue of expected answers: everything recorded is answered, dropped or still there.
fn exchanges(data: &[u8]) {
    const WHATS: [What; 10] = [
        What::Parse,
        What::Bind,
        What::DescribeStatement,
        What::DescribePortal,
        What::Execute,
        What::Close,
        What::Sync,
        What::Query,
        What::Function,
        What::CopyEnd,
    ];
    let mut exchanges = Exchanges::default();
    let (mut kept, mut copy_ends, mut ended) = (0, 0, 0);
    for &byte in data.iter().take(4_000) {
        if byte < 128 {
            let what = WHATS[usize::from(byte) % WHATS.len()];
            let order = [Order::Forward, Order::Swallow][usize::from(byte >> 6)];
            if exchanges.push(Exchange { what, order, note: Note::Nothing }).is_none() {
                kept += 1;
                copy_ends += usize::from(what == What::CopyEnd);
            }
        } else {
            let tags = b"123CDEGHIKNSTVWZcdnst";
            let tag = tags[usize::from(byte) % tags.len()];
            if matches!(tag, b'D' | b'd') {
                let _ = exchanges.row(tag);
                continue;
            }
            match exchanges.on_reply(tag, TxStatus::of(b'I')) {
                Ok(Outcome::Done(_)) => ended += 1,
                Ok(Outcome::Ready(exchange, _)) => {
                    assert!(matches!(exchange.what, What::Sync | What::Query | What::Function));
                    ended += 1;
                }
                Ok(Outcome::Failed { dropped, .. }) => {
                    assert!(dropped.iter().all(|exchange| exchange.what != What::Sync));
                    ended += dropped.len();
                }
                Ok(Outcome::Going(_) | Outcome::Unsolicited) => {}
                Err(_) => return,
            }
        }
        if exchanges.is_quiet() {
            assert!(exchanges.is_empty() && !exchanges.needs_sync());
        }
        // A CopyEnd may go without a word.
        assert!(kept >= ended + exchanges.len() && kept <= ended + exchanges.len() + copy_ends);
    }
}

/// Nobody who changes a message logs in, on either side.
pub fn scram(data: &[u8]) {
    let Some((&how, message)) = data.split_first() else { return };
    let challenge =
        Challenge::new(b"0123456789abcdef", Iterations::new(2).expect("two")).expect("sixteen bytes");
    let candidates = Arc::new(Candidates::derive(challenge, [&b"old"[..], b"new"]).expect("two of them"));
    let (which, changed) = (usize::from(how & 3), std::cell::Cell::new(false));
    let garble = |at: usize, real: &mut Vec<u8>| {
        if at != which {
            return;
        }
        let before = real.clone();
        match how >> 2 & 3 {
            0 => *real = message.to_vec(),
            1 => real.iter_mut().zip(message).for_each(|(byte, with)| *byte ^= with),
            2 => real.extend_from_slice(message),
            _ => {
                let at = message.first().map_or(0, |&at| usize::from(at) % (real.len() + 1));
                real.splice(at..at, message.iter().skip(1).copied());
            }
        }
        changed.set(*real != before);
    };
    let result = (|| -> Result<(), ScramFault> {
        let offered = ServerBinding::Unavailable.mechanisms().iter().map(|one| one.name().as_bytes());
        let (greeting, greeted) =
            ClientGreeted::begin(offered, &ClientBinding::Unavailable, &mut SeededRng::new(1))?;
        let name = greeting.mechanism.name().as_bytes();
        let mut text = greeting.message;
        garble(0, &mut text);
        let start = ServerStart::new(candidates.clone(), ServerBinding::Unavailable, name)?;
        let (mut text, challenged) = start.client_first(&text, &mut SeededRng::new(2))?;
        garble(1, &mut text);
        let needs = greeted.server_first(&text)?;
        let asked = needs.challenge();
        // As many iterations as a stranger likes are not run here.
        let keys = if asked.iterations().count() <= 4096 {
            derive(b"new", asked)
        } else {
            Keys::new([1; 32], [2; 32])
        };
        let (mut text, awaits) = needs.resume(&keys);
        garble(2, &mut text);
        let (mut text, login) = challenged.client_final(&text)?;
        assert_eq!(login.candidate, 1);
        let real = text.clone();
        garble(3, &mut text);
        awaits.server_final(&text)?;
        assert!(text.starts_with(&real), "a signature that was never made is believed");
        Ok(())
    })();
    match result {
        Ok(()) => assert!(!changed.get() || which == 3, "message {which} was changed and nobody noticed"),
        Err(_) => assert!(changed.get(), "an honest login fails"),
    }
    if let Ok(text) = std::str::from_utf8(message) {
        let _ = pgdog::auth::verifier::Verifier::parse(text);
        let _ = pgdog::auth::plain::StoredSecret::parse(text);
    }
}

/// Any text as a configuration: it is refused with reasons, or a world can be made of it.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (config, users) = text.split_once('\u{1}').unwrap_or((&text, ""));
    let sources = Sources {
        config: Some(Text { file: "pgdog.toml", text: config }),
        users: Some(Text { file: "users.toml", text: users }),
        ..Sources::default()
    };
    let loaded = build(&sources);
    let again = build(&sources);
    assert_eq!(format!("{:?}", loaded.problems), format!("{:?}", again.problems));
    for problem in &loaded.problems {
        assert!(!problem.text.is_empty());
        assert!(problem.line.is_none_or(|line| line >= 1 && line <= 1 + config.lines().count().max(users.lines().count())));
    }
    if let Ok((config, _)) = loaded.into_result()
        && config.general.workers <= 1_024
    {
        let config = Arc::new(config);
        let world: World<()> = World::build(config.clone(), None);
        let next = World::build(config, Some(&world));
        assert_eq!(world.retired(&next).len(), 0, "the same configuration changes its pools");
    }
}

/// A session that anything may happen to.
pub fn session(data: &[u8]) {
    let Some((&[options, start], mut events)) = data.split_first_chunk() else { return };
    let mut mini = Mini::new(Options::of(options), 1);
    let (mut sent, mut answered) = (Vec::new(), Answered::default());
    if start & 1 == 0 {
        sent = toy::startup();
        mini.client_sends(&sent);
        mini.serve();
        mini.answer_asks();
    }
    if start & 2 == 0 {
        answered.serve(&mut mini);
    }
    let mut left = 500;
    while let Some((&[what, which], rest)) = events.split_first_chunk() {
        events = rest;
        left -= 1;
        if left == 0 {
            break;
        }
        let lines = mini.lines();
        let line = lines.get(usize::from(what >> 4) % lines.len().max(1)).copied().unwrap_or(0);
        match what & 15 {
            0 => {
                let (bytes, rest) = events.split_at(usize::from(which).min(events.len()));
                events = rest;
                mini.client_sends(bytes);
                sent.extend_from_slice(bytes);
            }
            1 | 2 => {
                let bytes = said_by_client(which);
                mini.client_sends(&bytes);
                sent.extend_from_slice(&bytes);
            }
            3 => {
                let (bytes, rest) = events.split_at(usize::from(which).min(events.len()));
                events = rest;
                mini.server_sends(line, bytes);
            }
            4 => mini.server_sends(line, &said_by_server(which)),
            5 => answered.serve(&mut mini),
            6 => mini.client_takes = amount(which),
            7 => mini.servers_take = amount(which),
            8 => mini.read_bytes_max = amount(which).max(1),
            9 => mini.pass_time(Duration::from_millis(1 << (which % 24))),
            10 if which > 200 => mini.client_ends(),
            10 if which > 180 => mini.client_breaks(),
            10 => mini.serve(),
            11 if which > 200 => mini.server_ends(line),
            12 => mini.cancel(),
            13 if which > 250 => mini.drain(),
            13 if which < 3 => mini.terminate(),
            14 => mini.answer_asks(),
            15 => mini.on_console(),
            _ => mini.serve(),
        }
    }
    let (client, servers) = mini.end();
    check_client(&client, &sent);
    servers.values().for_each(|sent| check_server(sent));
}

/// A client and servers that keep to the protocol, whose bytes are cut anywhere: the client hears what it would hear
/// from a server of its own.
pub fn talk(data: &[u8]) {
    let Some((&[options, cut, seed], rest)) = data.split_first_chunk() else { return };
    let mut options = Options { prepared_limit: 1 + usize::from(seed & 3), ..Options::of(options) };
    options.auth = "trust";
    if options.mode == "statement" {
        options.mode = "transaction";
    }
    let (frames, breaks) = script(rest);
    let cut = match cut % 4 {
        0 => Cut::Whole,
        1 if frames.concat().len() < 4_000 => Cut::Bytes,
        _ => Cut::Random(u64::from(seed)),
    };
    let breaks = if passes_names(options) { Vec::new() } else { breaks };
    let heard = through(options, &frames, &breaks, cut);
    let wanted = directly(&frames);
    if heard.client != wanted {
        for (line, told) in &heard.servers {
            let length = u32::from_be_bytes([told[0], told[1], told[2], told[3]]) as usize;
            println!("server {line} was sent {:?}", show(&told[length..]));
        }
        println!("{} {}", options.mode, options.prepared);
    }
    let (heard, wanted) = (show(&heard.client), show(&wanted));
    if let Some(at) = (0..heard.len().max(wanted.len())).find(|&at| heard.get(at) != wanted.get(at)) {
        panic!(
            "answer {at} of {:?} is {:?}, not {:?}",
            show(&frames.concat()),
            heard.get(at),
            wanted.get(at)
        );
    }
}

fn show(stream: &[u8]) -> Vec<String> {
    let text = |(tag, body): &(u8, &[u8])| {
        format!("{}{}", char::from(*tag), body[..body.len().min(40)].escape_ascii())
    };
    frames(stream).0.iter().map(text).collect()
}

fn amount(which: u8) -> usize {
    match which {
        0 => 0,
        200.. => usize::MAX,
        which => usize::from(which).pow(2),
    }
}

fn said_by_client(which: u8) -> Vec<u8> {
    match which % 32 {
        0 => toy::query("one"),
        1 => toy::parse("", "one"),
        2 => toy::parse("a", "two"),
        3 => toy::parse("b", "copy in"),
        4 => toy::bind("", "", 5),
        5 => toy::bind("", "a", 5),
        6 => toy::bind("p", "b", 5),
        7 => toy::execute(""),
        8 => toy::execute("p"),
        9 | 10 => toy::plain(b'S', b""),
        11 => toy::plain(b'H', b""),
        12 => toy::plain(b'd', b"xxxx"),
        13 => toy::plain(b'c', b""),
        14 => toy::plain(b'f', b"no\0"),
        15 => toy::named(b'D', b'S', "a"),
        16 => toy::named(b'D', b'P', ""),
        17 => toy::named(b'C', b'S', "a"),
        18 => toy::plain(b'X', b""),
        19 => toy::plain(b'F', b"\0\0\0\x01"),
        20 => toy::startup(),
        21 => b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
        22 => b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02".to_vec(),
        23 => toy::plain(b'p', b"p\0"),
        24 => toy::plain(b'd', &[b'x'; 40_000]),
        25 => toy::bind("", "a", 40_000),
        26 => toy::parse("c", &"long ".repeat(8_000)),
        27 => [toy::parse("d", "four"), toy::bind("", "d", 1)].concat().repeat(600),
        28 => toy::plain(b'S', b"").repeat(70),
        29 => b"Q\0\x10\0\0half".to_vec(),
        30 => b"P\0\0\x20\0long\0half".to_vec(),
        _ => toy::parse("", "copy in"),
    }
}

fn said_by_server(which: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    match which % 32 {
        0 => bytes.extend_from_slice(encode::PARSE_COMPLETE),
        1 => bytes.extend_from_slice(encode::BIND_COMPLETE),
        2 => bytes.extend_from_slice(encode::CLOSE_COMPLETE),
        3 => encode::message(&mut bytes, b'C', |buf| encode::cstr(buf, b"SELECT 1")),
        4 => encode::message(&mut bytes, b'C', |buf| encode::cstr(buf, b"SET")),
        5 | 6 => encode::ready(&mut bytes, TxStatus::Idle),
        7 => encode::ready(&mut bytes, TxStatus::InTransaction),
        8 => encode::ready(&mut bytes, TxStatus::Failed),
        9 => error::write(&mut bytes, error::Severity::Error, "XX000", "of \"__pgdog_1\"", [None; 3]),
        10 => error::write(&mut bytes, error::Severity::Fatal, "57P01", "terminating", [None; 3]),
        11 => error::write(&mut bytes, error::Severity::Notice, "00000", "note", [None; 3]),
        12 => encode::parameter_status(&mut bytes, "application_name", b"x"),
        13 => encode::message(&mut bytes, b'A', |buf| buf.extend_from_slice(b"\0\0\0\x01c\0p\0")),
        14 => encode::data_row(&mut bytes, [Some(&b"value"[..])].into_iter()),
        15 => encode::data_row(&mut bytes, [Some(&[b'v'; 50_000][..])].into_iter()),
        16 => encode::message(&mut bytes, b'G', |buf| buf.extend_from_slice(&[0; 3])),
        17 => encode::message(&mut bytes, b'H', |buf| buf.extend_from_slice(&[0; 3])),
        18 => encode::message(&mut bytes, b'W', |buf| buf.extend_from_slice(&[0; 3])),
        19 => encode::message(&mut bytes, b'c', |_| ()),
        20 => encode::message(&mut bytes, b'd', |buf| buf.extend_from_slice(b"row")),
        21 => bytes.extend_from_slice(encode::NO_DATA),
        22 => encode::message(&mut bytes, b't', |buf| buf.extend_from_slice(&[0; 2])),
        23 => encode::message(&mut bytes, b'T', |buf| buf.extend_from_slice(&[0; 2])),
        24 => bytes.extend_from_slice(encode::EMPTY_QUERY_RESPONSE),
        25 => encode::message(&mut bytes, b's', |_| ()),
        26 => encode::authentication(&mut bytes, 0, &[]),
        27 => encode::authentication(&mut bytes, 10, b"SCRAM-SHA-256\0\0"),
        28 => encode::authentication(&mut bytes, 5, &[1, 2, 3, 4]),
        29 => bytes.extend_from_slice(b"D\0\0\xff\0half"),
        30 => bytes.extend_from_slice(b"C\0\0\0\x40half"),
        _ => encode::message(&mut bytes, b'V', |buf| buf.extend_from_slice(&[0xff; 4])),
    }
    bytes
}

/// Servers that answer every message they have been sent, whatever it says.
#[derive(Default)]
struct Answered(std::collections::BTreeMap<u32, usize>);

impl Answered {
    fn serve(&mut self, mini: &mut Mini) {
        loop {
            mini.serve();
            let mut any = false;
            for line in mini.lines() {
                let said = self.answer(mini, line);
                any |= !said.is_empty();
                mini.server_sends(line, &said);
            }
            if !any {
                return;
            }
        }
    }

    fn answer(&mut self, mini: &Mini, line: u32) -> Vec<u8> {
        let told = mini.to_servers.get(&line).map_or(&[][..], |all| all);
        let at = self.0.entry(line).or_default();
        let mut said = Vec::new();
        if *at == 0 {
            let Some(&[a, b, c, d]) = told.first_chunk() else { return said };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if told.len() < length {
                return said;
            }
            *at = length;
            encode::authentication(&mut said, 0, &[]);
            encode::parameter_status(&mut said, "application_name", b"");
            encode::ready(&mut said, TxStatus::Idle);
        }
        let (heard, rest) = frames(&told[*at..]);
        *at = told.len() - rest.len();
        for (tag, _) in heard {
            match tag {
                b'Q' => {
                    encode::message(&mut said, b'C', |buf| encode::cstr(buf, b"SELECT 1"));
                    encode::ready(&mut said, TxStatus::Idle);
                }
                b'P' => said.extend_from_slice(encode::PARSE_COMPLETE),
                b'B' => said.extend_from_slice(encode::BIND_COMPLETE),
                b'D' => said.extend_from_slice(encode::NO_DATA),
                b'E' => encode::message(&mut said, b'C', |buf| encode::cstr(buf, b"SELECT 1")),
                b'C' => said.extend_from_slice(encode::CLOSE_COMPLETE),
                b'S' => encode::ready(&mut said, TxStatus::Idle),
                b'F' => {
                    encode::message(&mut said, b'V', |buf| buf.extend_from_slice(&[0xff; 4]));
                    encode::ready(&mut said, TxStatus::Idle);
                }
                _ => {}
            }
        }
        said
    }
}

/// A client is sent frames, of types that a server sends, and no more ReadyForQuery than it has asked for.
fn check_client(stream: &[u8], sent: &[u8]) {
    let start = stream.iter().position(|&byte| byte != b'N').unwrap_or(stream.len());
    let (heard, rest) = frames(&stream[start..]);
    for (tag, body) in &heard {
        assert!(b"RSKZEv123CDTtnIsGHWcdVNA".contains(tag), "a client is sent {:?}", char::from(*tag));
        match tag {
            b'Z' => assert!(body.len() == 1 && TxStatus::of(body[0]).is_some()),
            b'1' | b'2' | b'3' => {}
            _ => {}
        }
    }
    assert!(rest.first().is_none_or(|tag| b"RSKZEv123CDTtnIsGHWcdVNA".contains(tag)));
    let mut asked = sent;
    while let Ok(Some((packet, length))) = startup::parse(asked) {
        asked = &asked[length..];
        if !matches!(packet, Packet::Ssl | Packet::Gssenc) {
            break;
        }
    }
    let (mut owed, mut rest) = (1, asked);
    while let Ok(Some(header)) = Header::parse(rest) {
        owed += usize::from(matches!(header.tag, b'Q' | b'S' | b'F'));
        rest = &rest[header.frame().min(rest.len())..];
    }
    let given = heard.iter().filter(|(tag, _)| *tag == b'Z').count();
    assert!(given <= owed, "{given} times ready, and {owed} times asked");
}

/// A server is sent a startup packet and then frames, of types that a client sends.
fn check_server(stream: &[u8]) {
    let Some((Packet::Startup(_), length)) = startup::parse(stream).expect("a startup packet") else {
        return;
    };
    let (heard, rest) = frames(&stream[length..]);
    for (tag, _) in &heard {
        assert!(b"PBDECSHQFdcfXp".contains(tag), "a server is sent {:?}", char::from(*tag));
    }
    assert!(rest.first().is_none_or(|tag| b"PBDECSHQFdcfXp".contains(tag)));
}

/// The lexer and the gate.
pub fn sql(data: &[u8]) {
    super::sql::check(data);
}

/// A peer's certificate, before anybody has checked it; and a server's words in a handshake, in pieces of any size.
pub fn tls(data: &[u8]) {
    if let Ok(certificate) = Certificate::parse(data) {
        assert!(certificate.signed.len() + certificate.signature.len() < data.len());
        assert!(certificate.names().count() <= data.len());
        let _ = (certificate.common_name(), certificate.allows(Usage::Server), certificate.is_self_issued());
        let _ = certificate.is_valid_at(0);
    }
    let _ = digest(data);
    let whole = handshake(data, usize::MAX);
    for step in [1, 6, 500] {
        assert_eq!(handshake(data, step), whole, "pieces of {step} bytes");
    }
}

/// Whether what the server says is refused.
fn handshake(data: &[u8], step: usize) -> bool {
    static SEALER: OnceLock<TlsSealer> = OnceLock::new();
    let sealer = SEALER.get_or_init(|| TlsSealer::load(&General::default()).expect("nothing to be loaded"));
    let mut records = sealer.connect("localhost").expect("a name");
    assert!(records.words().len() < 2_000, "the ClientHello");
    let (mut wire, mut rest, mut chunks) = (Vec::new(), Relay::default(), Chunks::new());
    for piece in data.chunks(step.min(data.len().max(1))) {
        wire.extend_from_slice(piece);
        loop {
            let mut sink = Sink::new(&mut [], &mut rest, &mut chunks);
            match records.open(&mut wire, &mut sink) {
                Ok(Opened::Record { used }) => drop(wire.drain(..used)),
                Ok(Opened::Starved { used }) => {
                    wire.drain(..used);
                    break;
                }
                Ok(Opened::End) => panic!("an end that nobody has proved"),
                Err(_) => {
                    assert!(records.words().len() < 100, "an alert at most");
                    return true;
                }
            }
        }
        assert!(!records.is_open() && rest.is_empty(), "nobody has proved anything");
    }
    false
}
