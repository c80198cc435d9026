//! Runs the script of `script.rs` against the simulated and a real PostgreSQL, and compares what they say, message
//! by message (without pids, secrets, table OIDs, file and line of errors, and times).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pgdog::base::time::Time;

use crate::frame::{Frame, Reader, cancel_request, password, take_frames};
use crate::postgres::auth::{ScramClient, md5_answer};
use crate::postgres::{BackendId, Config, Method, SimPg};
use crate::real::{Cluster, programs};
use crate::script::{Step, Until, script};

/// How long the real server is listened to when nothing is expected.
const QUIET: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_secs(5);

/// A server to talk to: connections by number.
trait Server {
    fn open(&mut self, connection: usize);
    fn send(&mut self, connection: usize, bytes: &[u8]);
    /// Waits for more bytes, up to `patience`; `None` at the end of the stream.
    fn receive(&mut self, connection: usize, patience: Duration) -> Option<Vec<u8>>;
    fn close(&mut self, connection: usize);
    fn pause(&mut self, time: Duration);
}

#[derive(Default)]
struct Real {
    port: u16,
    streams: BTreeMap<usize, TcpStream>,
}

impl Server for Real {
    fn open(&mut self, connection: usize) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        self.streams.insert(connection, stream);
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) {
        let _ = (&self.streams[&connection]).write_all(bytes);
    }

    fn receive(&mut self, connection: usize, patience: Duration) -> Option<Vec<u8>> {
        let stream = self.streams.get_mut(&connection).expect("an open connection");
        stream.set_read_timeout(Some(patience)).expect("set a timeout");
        let mut buffer = [0; 65_536];
        match stream.read(&mut buffer) {
            Ok(0) => None,
            Ok(count) => Some(buffer[..count].to_vec()),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                Some(Vec::new())
            }
            Err(_) => None,
        }
    }

    fn close(&mut self, connection: usize) {
        self.streams.remove(&connection);
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

struct Simulated {
    server: SimPg,
    now: Time,
    ids: BTreeMap<usize, BackendId>,
}

impl Simulated {
    /// Lets time pass to `until`, with all that happens on the way.
    fn advance(&mut self, until: Time) {
        while self.server.next_time() <= until {
            self.now = self.now.max(self.server.next_time());
            self.server.on_time(self.now);
        }
        self.now = until;
    }
}

impl Server for Simulated {
    fn open(&mut self, connection: usize) {
        let id = self.server.accept();
        self.ids.insert(connection, id);
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) {
        self.server.on_bytes(self.ids[&connection], bytes, self.now);
    }

    fn receive(&mut self, connection: usize, patience: Duration) -> Option<Vec<u8>> {
        let id = self.ids[&connection];
        let end = self.now + patience;
        loop {
            let bytes = self.server.take_output(id, self.now);
            if !bytes.is_empty() {
                return Some(bytes);
            }
            if self.server.closed(id).is_some() {
                return None;
            }
            if self.server.next_time() > end {
                self.advance(end);
                return Some(Vec::new());
            }
            self.now = self.now.max(self.server.next_time());
            self.server.on_time(self.now);
        }
    }

    fn close(&mut self, connection: usize) {
        self.server.on_eof(self.ids[&connection], self.now);
    }

    fn pause(&mut self, time: Duration) {
        self.advance(self.now + time);
    }
}

#[derive(Default)]
struct Connection {
    received: Vec<u8>,
    pid: i32,
    secret: Vec<u8>,
    /// Body of the last message of authentication.
    challenge: Vec<u8>,
}

/// Runs the script; one text per step.
fn run(server: &mut dyn Server, steps: &[Step]) -> Vec<Vec<String>> {
    let mut connections: BTreeMap<usize, Connection> = BTreeMap::new();
    let mut all = Vec::new();
    for step in steps {
        let mut lines = Vec::new();
        match step {
            Step::Open(at) => {
                server.open(*at);
                connections.insert(*at, Connection::default());
            }
            Step::Send(at, bytes) => server.send(*at, &with_pids(bytes, &connections)),
            Step::Expect(at, until) => {
                let connection = connections.get_mut(at).expect("an open connection");
                lines = expect(server, *at, connection, until);
            }
            Step::Raw(at, count) => {
                let connection = connections.get_mut(at).expect("an open connection");
                while connection.received.len() < *count {
                    match server.receive(*at, PATIENCE) {
                        Some(bytes) if !bytes.is_empty() => connection.received.extend(bytes),
                        _ => break,
                    }
                }
                let end = connection.received.len().min(*count);
                lines.push(format!("{:?}", String::from_utf8_lossy(&connection.received[..end])));
                connection.received.drain(..end);
            }
            Step::Cancel(at) => {
                let target = &connections[at];
                let packet = cancel_request(target.pid, &target.secret);
                server.open(999);
                server.send(999, &packet);
                while server.receive(999, PATIENCE).is_some_and(|bytes| !bytes.is_empty()) {}
            }
            Step::Close(at) => server.close(*at),
            Step::Pause(millis) => server.pause(Duration::from_millis(*millis)),
            Step::Md5(at, user, secret) => {
                let answer = md5_answer(user, secret, &connections[at].challenge[4..]);
                server.send(*at, &password(&[answer.as_bytes(), b"\0"].concat()));
            }
            Step::Scram(at, secret) => {
                let (client, first) = ScramClient::start(secret, "fyko+d2lbbFgONRv9qkxdawL");
                server.send(*at, &password(&first));
                let connection = connections.get_mut(at).expect("an open connection");
                lines = expect(server, *at, connection, &Until::Tag(b'R'));
                let challenge = String::from_utf8_lossy(&connection.challenge[4..]).into_owned();
                let proof = client.proof(&challenge).unwrap_or_default();
                server.send(*at, &password(&proof));
            }
        }
        all.push(lines);
    }
    all
}

/// Replaces `PID0` … by the pid of that connection's backend.
fn with_pids(bytes: &[u8], connections: &BTreeMap<usize, Connection>) -> Vec<u8> {
    let Some(place) = bytes.windows(3).position(|window| window == b"PID") else { return bytes.to_vec() };
    let number = usize::from(bytes[place + 3] - b'0');
    // Four bytes for four, so that no length changes.
    let pid = format!("{:<7}", connections[&number].pid);
    let mut out = bytes[..place].to_vec();
    out.extend(pid.as_bytes());
    out.extend(&bytes[place + 7..]);
    out
}

fn expect(server: &mut dyn Server, at: usize, connection: &mut Connection, until: &Until) -> Vec<String> {
    let mut lines = Vec::new();
    let mut readies = 0;
    let started = Instant::now();
    loop {
        let frames = match take_frames(&mut connection.received) {
            Ok(frames) => frames,
            Err(why) => {
                lines.push(why);
                return lines;
            }
        };
        let mut done = false;
        for frame in frames {
            note(connection, &frame);
            lines.push(frame.print());
            readies += usize::from(frame.tag == b'Z');
            done = match until {
                Until::Ready(count) => readies >= *count,
                Until::Tag(tag) => frame.tag == *tag,
                Until::Quiet | Until::Closed => false,
            };
        }
        if done {
            return lines;
        }
        let patience = if matches!(until, Until::Quiet) { QUIET } else { PATIENCE };
        match server.receive(at, patience) {
            None => {
                lines.push("closed".into());
                return lines;
            }
            Some(bytes) if bytes.is_empty() => {
                if !matches!(until, Until::Quiet) {
                    lines.push("nothing more".into());
                }
                return lines;
            }
            Some(bytes) => connection.received.extend(bytes),
        }
        assert!(started.elapsed() < Duration::from_secs(60), "a step that never ends: {lines:?}");
    }
}

fn note(connection: &mut Connection, frame: &Frame) {
    match frame.tag {
        b'K' => {
            let mut reader = Reader(&frame.body);
            connection.pid = reader.i32().unwrap_or(0);
            connection.secret = reader.0.to_vec();
        }
        b'R' => connection.challenge.clone_from(&frame.body),
        _ => {}
    }
}

const HBA: &str = "host all md5er 127.0.0.1/32 md5\nhost all scrammer 127.0.0.1/32 scram-sha-256\n\
                   host all plainer 127.0.0.1/32 password\nhost all all 127.0.0.1/32 trust\n";

fn simulated_config() -> Config {
    Config {
        users: [
            ("postgres".to_string(), Method::Trust),
            ("md5er".to_string(), Method::Md5("geheim".into())),
            ("scrammer".to_string(), Method::Scram("geheim".into())),
            ("plainer".to_string(), Method::Plain("geheim".into())),
        ]
        .into(),
        connections_max: 12,
        ..Config::default()
    }
}

/// Login users of the real cluster, in SQL.
const SETUP: &str = "set password_encryption = 'md5'; create role md5er login superuser password 'geheim'; \
    set password_encryption = 'scram-sha-256'; create role scrammer login superuser password 'geheim'; \
    create role plainer login superuser password 'geheim'";

#[test]
fn simulated_postgres_speaks_as_the_real_one() {
    let Some(programs) = programs() else {
        println!("SKIPPED: no PostgreSQL is installed, so the simulated one is not compared with a real one");
        return;
    };
    let settings = "max_connections = 12\nsuperuser_reserved_connections = 0\nmax_wal_senders = 0\n\
                    autovacuum = off\n";
    let cluster = Cluster::start(&programs, settings, HBA);
    let mut real = Real { port: cluster.port, ..Real::default() };
    let setup = [
        Step::Open(0),
        Step::Send(0, crate::frame::startup(3, 0, &[("user", "postgres")])),
        Step::Expect(0, Until::Ready(1)),
        Step::Send(0, crate::frame::query(SETUP)),
        Step::Expect(0, Until::Ready(1)),
        Step::Send(0, crate::frame::terminate()),
        Step::Expect(0, Until::Closed),
    ];
    run(&mut real, &setup);
    let steps = script();
    let expected = run(&mut real, &steps);
    drop(cluster);
    let mut simulated =
        Simulated { server: SimPg::new(simulated_config(), 1), now: Time::ZERO, ids: BTreeMap::new() };
    let found = run(&mut simulated, &steps);
    let messages: usize = expected.iter().map(Vec::len).sum();
    let mut differences = String::new();
    for (at, (expected, found)) in expected.iter().zip(&found).enumerate() {
        if expected != found {
            let sent: Vec<_> = steps[at.saturating_sub(2)..=at].iter().map(Step::print).collect();
            differences += &format!(
                "step {at}: {}\n  real:\n    {}\n  simulated:\n    {}\n",
                sent.join(" / "),
                expected.join("\n    "),
                found.join("\n    ")
            );
        }
    }
    if std::env::var_os("SIM_TRANSCRIPT").is_some() {
        for (step, lines) in steps.iter().zip(&expected) {
            println!("{}\n    {}", step.print(), lines.join("\n    "));
        }
    }
    println!("{} steps, {messages} messages of the server compared", steps.len());
    assert!(differences.is_empty(), "the simulated PostgreSQL differs from the real one:\n{differences}");
}
