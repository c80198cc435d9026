//! Clients on the simulated network: sockets for [`SimClient`] and [`Hostile`], and cancel requests beside them.

use std::io::ErrorKind;
use std::net::SocketAddr;

use pgdog::base::time::Time;

use crate::client::{SimClient, Turn};
use crate::frame::cancel_request;
use crate::hostile::Hostile;
use crate::net::{SimNet, SimSocket};
use crate::records::{Begin, Stream};

/// A client with its socket.
pub struct Guest {
    pub client: SimClient,
    net: SimNet,
    address: SocketAddr,
    /// How its connections begin, the cancel requests' too.
    pub begin: Begin,
    socket: Option<Stream>,
    unsent: Vec<u8>,
    closing: bool,
    /// The connection of a cancel request, and what of it is not sent.
    cancel: Option<(Stream, Vec<u8>)>,
    /// The last turn left something to read.
    more: bool,
    /// Bytes it reads in one turn: a slow reader takes few.
    pub read_max: usize,
}

impl Guest {
    pub fn new(net: &SimNet, address: SocketAddr, client: SimClient) -> Guest {
        Guest {
            client,
            net: net.clone(),
            address,
            begin: Begin::Plain,
            socket: None,
            unsent: Vec::new(),
            closing: false,
            cancel: None,
            more: true,
            read_max: usize::MAX,
        }
    }

    pub fn next_time(&self) -> Time {
        self.client.next_time()
    }

    /// It has no connection any more.
    pub fn is_gone(&self) -> bool {
        self.client.is_over() && self.socket.is_none() && self.cancel.is_none()
    }

    /// What it is waiting for, for reports.
    pub fn describe(&self) -> String {
        let stream = self.socket.as_ref().map(Stream::describe).unwrap_or_default();
        format!("{}, {} unsent, {stream}", self.client.waiting_for(), self.unsent.len())
    }

    /// Does all that can be done now; `true` if that was something.
    pub fn turn(&mut self) -> bool {
        let mut moved = self.cancel_turn();
        if self.client.is_over() && self.socket.is_none() {
            return moved;
        }
        let dial = || Stream::dial(&self.net, self.address, self.begin, u64::from(self.client.number));
        let stream = self.socket.get_or_insert_with(dial);
        let edge = self.net.take_edge(&stream.socket);
        if !edge && !self.more && !moved && self.client.next_time() > self.net.now() {
            return false;
        }
        let mut bytes = Vec::new();
        let mut ended = None;
        let mut buffer = [0; 4096];
        while bytes.len() < self.read_max {
            let room = buffer.len().min(self.read_max - bytes.len());
            match stream.read(&mut buffer[..room]) {
                Ok(0) => {
                    ended = Some("end of stream".to_string());
                    break;
                }
                Ok(count) => bytes.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    self.client.wrong(error.to_string());
                    break;
                }
                Err(error) => {
                    ended = Some(error.to_string());
                    break;
                }
            }
        }
        self.more = ended.is_none() && bytes.len() >= self.read_max;
        moved |= !bytes.is_empty();
        let now = self.net.now();
        let Turn { send, close, cancel } = self.client.step(now, &bytes);
        moved |= !send.is_empty() || cancel.is_some();
        self.unsent.extend(send);
        self.closing |= close;
        if let Some((pid, secret)) = cancel {
            let stream = Stream::dial(&self.net, self.address, self.begin, u64::from(self.client.number) + 1);
            if self.begin != Begin::Plain {
                // A cancel request whose connection breaks may arrive much later.
                self.net.spare(&stream.socket);
            }
            self.cancel = Some((stream, cancel_request(pid, &secret)));
        }
        if let Some(why) = ended {
            self.client.on_closed(&why);
            self.socket = None;
            return true;
        }
        let Some(stream) = &mut self.socket else { return moved };
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    // The reason is read next.
                    self.unsent.clear();
                    moved = true;
                }
            }
        }
        if self.closing && self.unsent.is_empty() && !stream.is_sending() {
            stream.finish();
            self.socket = None;
            moved = true;
        }
        moved
    }

    fn cancel_turn(&mut self) -> bool {
        let Some((stream, packet)) = &mut self.cancel else { return false };
        if !self.net.take_edge(&stream.socket) {
            return false;
        }
        let mut moved = false;
        let ended = !matches!(stream.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        while !packet.is_empty() {
            match stream.write(packet) {
                Ok(count) => {
                    packet.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => packet.clear(),
            }
        }
        if ended {
            self.cancel = None;
            self.client.cancel_done();
            return true;
        }
        moved
    }
}

/// A hostile client with its socket.
pub struct Intruder {
    pub hostile: Hostile,
    net: SimNet,
    socket: Option<SimSocket>,
    unsent: Vec<u8>,
    has_begun: bool,
}

impl Intruder {
    pub fn new(net: &SimNet, address: SocketAddr, hostile: Hostile) -> Intruder {
        let socket = Some(net.connect(address));
        Intruder { hostile, net: net.clone(), socket, unsent: Vec::new(), has_begun: false }
    }

    /// The other side has ended it, or it has been told to go.
    pub fn is_gone(&self) -> bool {
        self.socket.is_none()
    }

    pub fn leave(&mut self) {
        self.socket = None;
    }

    /// Does all that can be done now; `true` if that was something.
    pub fn turn(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        // Each turn goes on until nothing more can be done.
        if !self.net.take_edge(socket) && std::mem::replace(&mut self.has_begun, true) {
            return false;
        }
        let mut moved = false;
        loop {
            let Some(socket) = &mut self.socket else { return moved };
            if self.unsent.is_empty() {
                self.unsent = self.hostile.send();
            }
            if !self.unsent.is_empty() {
                match socket.write(&self.unsent) {
                    Ok(count) => {
                        self.unsent.drain(..count);
                        moved = true;
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => {
                        self.socket = None;
                        return true;
                    }
                }
            }
            if !self.hostile.reads() {
                return moved;
            }
            match socket.read(&mut [0; 4096]) {
                Ok(0) => {
                    self.socket = None;
                    return true;
                }
                Ok(_) => moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return moved,
                Err(_) => {
                    self.socket = None;
                    return true;
                }
            }
        }
    }
}
