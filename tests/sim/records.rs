//! A toy record layer that stands for TLS: records of random sizes, records without data, a handshake, answers to key
//! updates, a goodbye. Nothing of it is secret; a record that is lost, repeated, cut or changed is found out.
//!
//! `Toy` is the layer itself. `ToyRecords` puts it under the proxy's transport, `Stream` under a client or server of the
//! simulation, with buffers of its own.
//!
//! A record: kind, count of the records before it (one byte), length (two bytes), body, each byte of it changed by the count.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use pgdog::base::peer::Peer;
use pgdog::base::rng::{Rng, SeededRng};
use pgdog::io::transport::{Opened, Pieces, RecordFault, Records, Sealer, Sink};

use crate::frame::ssl_request;
use crate::net::{SimNet, SimSocket};

const HEADER: usize = 4;

/// Kinds of records.
pub const HELLO: u8 = 0x16;
const DONE: u8 = 0x14;
const DATA: u8 = 0x17;
const CLOSE: u8 = 0x15;
/// Of no meaning, as a session ticket.
const TICKET: u8 = 0x01;
/// To be answered with a `TICKET`.
pub const UPDATE: u8 = 0x02;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Hello,
    /// The server has answered and waits for the client's last word.
    Done,
    Open,
}

struct Toy {
    role: Role,
    phase: Phase,
    rng: SeededRng,
    sent: u8,
    received: u8,
    /// Largest body of a record.
    body_max: u64,
    words: Vec<u8>,
    /// An answer to a key update is owed.
    owes_answer: bool,
}

enum Event {
    Nothing,
    Data,
    End,
}

impl Toy {
    fn new(role: Role, mut rng: SeededRng) -> Toy {
        let body_max = [3, 40, 1_000, 16_384][rng.below(4) as usize];
        let mut toy = Toy {
            role,
            phase: Phase::Hello,
            rng,
            sent: 0,
            received: 0,
            body_max,
            words: Vec::new(),
            owes_answer: false,
        };
        if role == Role::Client {
            toy.say(HELLO, 300);
        }
        toy
    }

    /// Queues a record with a random body.
    fn say(&mut self, kind: u8, length_max: u64) {
        let mut body = vec![0; self.rng.below(length_max) as usize];
        self.rng.fill(&mut body);
        let mut record = vec![0; HEADER + body.len()];
        record[HEADER..].copy_from_slice(&body);
        self.finish_record(kind, &mut record);
        self.words.extend(record);
    }

    /// Makes a record of a body that lies behind room for the header.
    fn finish_record(&mut self, kind: u8, record: &mut [u8]) {
        let length = (record.len() - HEADER) as u16;
        record[0] = kind;
        record[1] = self.sent;
        record[2..HEADER].copy_from_slice(&length.to_be_bytes());
        for byte in &mut record[HEADER..] {
            *byte ^= 0xa5 ^ self.sent;
        }
        self.sent = self.sent.wrapping_add(1);
    }

    /// The record at the front: how long it is and what it was. Its body is opened where it lies.
    fn open(&mut self, wire: &mut [u8]) -> Result<Option<(usize, Event)>, String> {
        let Some(&[kind, count, a, b]) = wire.first_chunk() else { return Ok(None) };
        let used = HEADER + usize::from(u16::from_be_bytes([a, b]));
        if wire.len() < used {
            return Ok(None);
        }
        if count != self.received {
            return Err(format!("record {count} came where {} was due", self.received));
        }
        self.received = self.received.wrapping_add(1);
        for byte in &mut wire[HEADER..used] {
            *byte ^= 0xa5 ^ count;
        }
        let event = match (kind, self.phase, self.role) {
            (HELLO, Phase::Hello, Role::Server) => {
                self.phase = Phase::Done;
                self.say(HELLO, 3_000);
                Event::Nothing
            }
            (HELLO, Phase::Hello, Role::Client) => {
                self.phase = Phase::Open;
                self.say(DONE, 40);
                Event::Nothing
            }
            (DONE, Phase::Done, Role::Server) => {
                self.phase = Phase::Open;
                for _ in 0..self.rng.below(3) {
                    self.say(TICKET, 200);
                }
                Event::Nothing
            }
            (DATA, Phase::Open, _) => Event::Data,
            (TICKET, Phase::Open, _) => Event::Nothing,
            (UPDATE, Phase::Open, _) => {
                match self.rng.below(2) {
                    0 => self.say(TICKET, 10),
                    _ => self.owes_answer = true,
                }
                Event::Nothing
            }
            (CLOSE, ..) => Event::End,
            // A proxy that stops before the handshake has begun says so in clear: an ErrorResponse.
            (b'E', Phase::Hello, Role::Client) => Event::End,
            (kind, phase, role) => return Err(format!("record of kind {kind} for a {role:?} in {phase:?}")),
        };
        Ok(Some((used, event)))
    }

    /// Seals what fits.
    fn seal(&mut self, data: &mut Pieces<'_>, wire: &mut [u8]) -> usize {
        let mut used = 0;
        if std::mem::take(&mut self.owes_answer) {
            self.say(TICKET, 10);
        }
        while !data.is_empty() {
            // Words come in the order of their counts.
            let aside = match self.rng.below(40) {
                0 => Some(DATA),
                1 => Some(TICKET),
                2 => Some(UPDATE),
                _ => None,
            };
            let words = std::mem::take(&mut self.words);
            if !words.is_empty() {
                if wire.len() - used < words.len() {
                    self.words = words;
                    break;
                }
                wire[used..used + words.len()].copy_from_slice(&words);
                used += words.len();
            }
            let room = (wire.len() - used).min(HEADER + 1 + self.rng.below(self.body_max) as usize);
            if room < HEADER + 1 {
                break;
            }
            if let Some(kind) = aside {
                self.finish_record(kind, &mut wire[used..used + HEADER]);
                used += HEADER;
                continue;
            }
            let count = data.gather(&mut wire[used + HEADER..used + room]);
            self.finish_record(DATA, &mut wire[used..used + HEADER + count]);
            used += HEADER + count;
        }
        if self.rng.below(4) == 0 && wire.len() - used >= HEADER && self.words.is_empty() {
            self.finish_record(TICKET, &mut wire[used..used + HEADER]);
            used += HEADER;
        }
        used
    }
}

/// The proxy's side.
pub struct ToyRecords(Toy, Arc<dyn Fn() + Send + Sync>);

impl Records for ToyRecords {
    fn open(&mut self, wire: &mut [u8], data: &mut Sink<'_>) -> Result<Opened, RecordFault> {
        match self.0.open(wire).map_err(RecordFault)? {
            None => Ok(Opened::Starved { used: 0 }),
            Some((used, event)) => match event {
                Event::Nothing => Ok(Opened::Record { used }),
                Event::End => Ok(Opened::End),
                Event::Data => {
                    data.put(&wire[HEADER..used]);
                    Ok(Opened::Record { used })
                }
            },
        }
    }

    fn seal(&mut self, data: &mut Pieces<'_>, wire: &mut [u8]) -> Result<usize, RecordFault> {
        if data.front().get(4..8) == Some(&[4, 210, 22, 46]) {
            self.1();
        }
        Ok(self.0.seal(data, wire))
    }

    fn words(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0.words)
    }

    fn is_open(&self) -> bool {
        self.0.phase == Phase::Open
    }

    fn peer(&mut self) -> Peer {
        Peer::default()
    }

    fn close(&mut self) {
        if self.0.phase == Phase::Open {
            self.0.say(CLOSE, 1);
        }
    }
}

/// Makes toy layers for the proxy.
pub struct ToySealer {
    pub offers: bool,
    pub asks: bool,
    /// For the seed of each.
    pub seed: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Called when what is sealed is a cancel request.
    pub mark_cancel: Arc<dyn Fn() + Send + Sync>,
}

impl ToySealer {
    fn make(&self, role: Role) -> Box<dyn Records> {
        Box::new(ToyRecords(Toy::new(role, SeededRng::new((self.seed)())), self.mark_cancel.clone()))
    }
}

impl Sealer for ToySealer {
    fn offers(&self) -> bool {
        self.offers
    }

    fn asks(&self) -> bool {
        self.asks
    }

    fn accept(&self, _: bool) -> Result<Box<dyn Records>, RecordFault> {
        Ok(self.make(Role::Server))
    }

    fn connect(&self, _: &str) -> Result<Box<dyn Records>, RecordFault> {
        Ok(self.make(Role::Client))
    }
}

/// How a client of the simulation begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    #[default]
    Plain,
    /// With an SSLRequest; in clear if that is refused.
    Asking,
    /// With the handshake.
    Direct,
}

/// A socket of a simulated client or server, sealed or not.
pub struct Stream {
    pub socket: SimSocket,
    layer: Option<Box<Layer>>,
}

struct Layer {
    rng: SeededRng,
    /// None while the answer to the SSLRequest has not come.
    toy: Option<Toy>,
    arrived: Vec<u8>,
    opened: Vec<u8>,
    unsent: Vec<u8>,
    is_closed: bool,
}

impl Layer {
    fn new(toy: Option<Toy>, rng: SeededRng) -> Layer {
        let (arrived, opened, unsent) = Default::default();
        Layer { rng, toy, arrived, opened, unsent, is_closed: false }
    }

    fn open_arrived(&mut self) -> io::Result<()> {
        let fault = |why| io::Error::new(ErrorKind::InvalidData, why);
        let Some(toy) = &mut self.toy else { return Ok(()) };
        while let Some((used, event)) = toy.open(&mut self.arrived).map_err(fault)? {
            match event {
                Event::Nothing => {}
                Event::Data => self.opened.extend(&self.arrived[HEADER..used]),
                Event::End => self.is_closed = true,
            }
            self.arrived.drain(..used);
        }
        Ok(())
    }
}

impl Stream {
    pub fn plain(socket: SimSocket) -> Stream {
        Stream { socket, layer: None }
    }

    pub fn dial(net: &SimNet, address: std::net::SocketAddr, begin: Begin, seed: u64) -> Stream {
        let socket = net.connect(address);
        let rng = SeededRng::new(seed ^ 0x544f_5900);
        let mut layer = Layer::new(None, rng.clone());
        match begin {
            Begin::Plain => return Stream::plain(socket),
            Begin::Asking => layer.unsent = ssl_request(),
            Begin::Direct => layer.toy = Some(Toy::new(Role::Client, rng)),
        }
        Stream { socket, layer: Some(Box::new(layer)) }
    }

    /// A server's side, from here on.
    pub fn seal(&mut self, seed: u64) {
        let rng = SeededRng::new(seed ^ 0x544f_5901);
        let toy = Some(Toy::new(Role::Server, rng.clone()));
        self.layer = Some(Box::new(Layer::new(toy, rng)));
    }

    pub fn describe(&self) -> String {
        self.layer.as_ref().map_or("plain".to_string(), |layer| {
            let (arrived, opened, unsent) = (layer.arrived.len(), layer.opened.len(), layer.unsent.len());
            format!("sealed, {arrived} bytes arrived, {opened} opened, {unsent} unsent")
        })
    }

    /// Bytes are on their way that the network has not taken.
    pub fn is_sending(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| {
            !layer.unsent.is_empty() || layer.toy.as_ref().is_some_and(|toy| !toy.words.is_empty())
        })
    }

    /// Sends what it can of what has been accepted.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(layer) = &mut self.layer else { return Ok(()) };
        if let Some(toy) = &mut layer.toy {
            layer.unsent.append(&mut toy.words);
        }
        while !layer.unsent.is_empty() {
            let count = self.socket.write(&layer.unsent)?;
            layer.unsent.drain(..count);
        }
        Ok(())
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let Some(layer) = &mut self.layer else { return self.socket.write(bytes) };
        let Some(toy) = layer.toy.as_mut().filter(|toy| toy.phase == Phase::Open) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let count = bytes.len().min(20_000);
        let pieces = [io::IoSlice::new(&bytes[..count])];
        let mut data = Pieces::new(&pieces);
        let mut wire = vec![0; 200_000];
        let used = toy.seal(&mut data, &mut wire);
        let count = count - data.left();
        layer.unsent.extend(&wire[..used]);
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// `InvalidData` if what came is not what the proxy may send.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let _ = self.flush();
            let Some(layer) = &mut self.layer else { return self.socket.read(buffer) };
            let count = layer.opened.len().min(buffer.len());
            if count > 0 {
                buffer[..count].copy_from_slice(&layer.opened[..count]);
                layer.opened.drain(..count);
                return Ok(count);
            }
            if layer.is_closed {
                return Ok(0);
            }
            if layer.toy.is_none() {
                let mut answer = [0];
                if self.socket.read(&mut answer)? == 0 {
                    return Ok(0);
                }
                match answer[0] {
                    b'S' => layer.toy = Some(Toy::new(Role::Client, layer.rng.clone())),
                    b'N' => self.layer = None,
                    // An error, in clear.
                    byte => {
                        self.layer = None;
                        buffer[0] = byte;
                        return Ok(1);
                    }
                }
                continue;
            }
            let mut raw = [0; 5_000];
            let asked = 1 + layer.rng.below(raw.len() as u64) as usize;
            let count = self.socket.read(&mut raw[..asked])?;
            if count == 0 {
                return Ok(0);
            }
            layer.arrived.extend(&raw[..count]);
            layer.open_arrived()?;
        }
    }

    /// Says goodbye, mostly.
    pub fn finish(&mut self) {
        if let Some(layer) = &mut self.layer
            && let Some(toy) = &mut layer.toy
            && toy.phase == Phase::Open
            && layer.rng.below(4) > 0
        {
            toy.say(CLOSE, 1);
        }
        let _ = self.flush();
    }

    pub fn abort(self) {
        self.socket.abort();
    }
}
