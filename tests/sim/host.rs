//! The simulated PostgreSQL on the simulated network: a listener, sockets, and nothing else.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::OnceLock;

use pgdog::base::time::Time;

use crate::net::{PollId, SimNet};
use crate::postgres::{BackendId, Ended, SimPg};
use crate::records::Stream;

/// `PqRecvBuffer`: what a backend reads at once.
const READ_BYTES: usize = 8192;

pub struct PgHost {
    pub server: SimPg,
    pub address: SocketAddr,
    net: SimNet,
    poll: PollId,
    sockets: BTreeMap<BackendId, Stream>,
    /// What a record layer had to complain of.
    pub faults: Vec<String>,
}

/// `SIM_BACKEND=7` shows what goes to and from that backend, 0 of all.
fn show(way: &str, id: BackendId, now: Time, bytes: &[u8]) {
    let shown = *SHOWN.get_or_init(|| std::env::var("SIM_BACKEND").ok()?.parse().ok());
    if shown == Some(id.0) || shown == Some(0) {
        println!(
            "{way}{} {now:?} {}",
            id.0,
            String::from_utf8_lossy(bytes).replace('\0', "~").replace('\n', "|")
        );
    }
}

static SHOWN: OnceLock<Option<u32>> = OnceLock::new();

impl PgHost {
    pub fn new(net: &SimNet, address: SocketAddr, server: SimPg) -> PgHost {
        net.listen(address);
        PgHost {
            server,
            address,
            net: net.clone(),
            poll: net.new_poll(),
            sockets: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    pub fn next_time(&self) -> Time {
        self.server.next_time()
    }

    /// Does all that can be done now. A backend reads only when it has nothing else to do, and does nothing else
    /// while the network does not take its output.
    pub fn turn(&mut self) {
        let now = self.net.now();
        while let Some(socket) = self.net.accept(self.address) {
            let id = self.server.accept();
            let _ = self.net.register(&socket, self.poll, u64::from(id.0), true);
            self.sockets.insert(id, Stream::plain(socket));
        }
        self.server.on_time(now);
        // What one backend does may let another go on.
        loop {
            let mut ids = self.server.take_touched();
            let (events, _) = self.net.poll(self.poll, usize::MAX);
            ids.extend(events.iter().map(|event| BackendId(event.token as u32)));
            if ids.is_empty() {
                return;
            }
            for id in ids {
                self.pump(id, now);
            }
        }
    }

    fn pump(&mut self, id: BackendId, now: Time) {
        loop {
            let Some(stream) = self.sockets.get_mut(&id) else { return };
            if stream.flush().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return;
            }
            if !self.server.output(id).is_empty() {
                match stream.write(self.server.output(id)) {
                    Ok(count) => {
                        show("<", id, now, &self.server.output(id)[..count]);
                        self.server.sent(id, count, now);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(_) => self.server.on_reset(id, now),
                }
                continue;
            }
            if self.server.take_sealing(id) {
                stream.seal(u64::from(id.0));
            }
            if let Some(ended) = self.server.closed(id) {
                match (self.sockets.remove(&id), ended) {
                    (Some(stream), Ended::Reset) => stream.abort(),
                    (Some(mut stream), Ended::Closed) => stream.finish(),
                    (None, _) => {}
                }
                self.server.forget(id);
                return;
            }
            if !self.server.is_reading(id) {
                return;
            }
            let mut buffer = [0; READ_BYTES];
            match stream.read(&mut buffer) {
                Ok(0) => self.server.on_eof(id, now),
                Ok(count) => {
                    show(">", id, now, &buffer[..count]);
                    self.server.on_bytes(id, &buffer[..count], now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    if error.kind() == ErrorKind::InvalidData {
                        self.faults.push(format!("{id:?}: {error}"));
                    }
                    self.server.on_reset(id, now);
                }
            }
        }
    }

    /// Clients that have a process, as far as the other side has to know of it: not those whose connection broke, nor
    /// those that a fault keeps from seeing its end.
    pub fn clients(&self) -> usize {
        let counts = |(id, stream): &(&BackendId, &Stream)| {
            self.server.is_client(**id) && !self.net.is_broken(&stream.socket)
        };
        self.sockets.iter().filter(counts).count()
    }

    /// Those of [`PgHost::clients`] whose other side has closed, and who have not heard of it yet.
    pub fn left(&self) -> usize {
        let is_left = |(id, stream): &(&BackendId, &Stream)| {
            let socket = &stream.socket;
            self.server.is_client(**id) && !self.net.is_broken(socket) && self.net.is_left(socket)
        };
        self.sockets.iter().filter(is_left).count()
    }

    /// Whether a backend serves nobody any more: it has ended, or will once it reads on.
    pub fn is_deserted(&self, pid: i32) -> bool {
        let backend = self.server.seen().into_iter().find(|seen| seen.pid == pid);
        let stream = backend.and_then(|seen| self.sockets.get(&seen.id));
        stream.is_none_or(|stream| self.net.is_broken(&stream.socket) || self.net.is_left(&stream.socket))
    }

    /// The clients, each in words.
    pub fn describe(&self) -> String {
        let line = |(id, stream): (&BackendId, &Stream)| {
            let seen = self.server.seen().into_iter().find(|seen| seen.id == *id);
            let broken = self.net.is_broken(&stream.socket);
            format!(
                "{id:?} socket {:?} broken {broken}, client {}: {seen:?}",
                stream.socket.id(),
                self.server.is_client(*id)
            )
        };
        self.sockets.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Connections of the network that the server holds open, except those that a fault keeps from seeing their end.
    pub fn open(&self) -> usize {
        self.sockets.len() - self.silent()
    }

    pub fn silent(&self) -> usize {
        self.sockets.keys().filter(|id| self.server.is_silent(**id)).count()
    }
}
