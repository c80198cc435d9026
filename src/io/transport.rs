//! A connection as sessions see it: a socket, alone or behind a record layer (TLS).
//!
//! Owns the socket, and of a sealed connection the bytes that are on their way through the record layer:
//!
//! ```text
//!  socket ──► arrived ──► open ──► the reader's room, and `opened` for what does not fit there
//!  socket ◄── unsent  ◄── seal ◄── what is written;  ◄── words of the layer: handshake, answers, close_notify
//! ```
//!
//! What differs from a socket: bytes can be read that no event announces (`holds`); an event may bring nothing to read; bytes
//! that were accepted may not be on the wire yet (`is_sending`), and reading may make some. Nothing is written before the
//! handshake is over (`takes_data`), nothing is sent while reading. A connection at rest owns no buffer. A plain one costs
//! one branch.
//!
//! Does not know TLS: `Records` is the record layer, without I/O.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};

use crate::base::chunk::{Chunks, Class};
use crate::base::limits::{HANDSHAKE_BYTES_MAX, RECORDS_PER_READ_MAX, SOCKET_READS_PER_READ_MAX};
use crate::base::peer::Peer;
use crate::base::relay::Relay;
use crate::base::sabotage::{self, Bug};
use crate::io::net::Socket;

/// What a record layer does. It has no I/O, and keeps no data of the stream.
pub trait Records: Send {
    /// Opens the record at the front of `wire`.
    ///
    /// # Errors
    /// The peer does not keep to the protocol, or does not prove who it is. What the layer has to say to that is among its
    /// words.
    fn open(&mut self, wire: &mut [u8], data: &mut Sink<'_>) -> Result<Opened, RecordFault>;

    /// Seals as much of `data` as fits into `wire`. Returns the bytes used of `wire`; none if not even a part fits.
    fn seal(&mut self, data: &mut Pieces<'_>, wire: &mut [u8]) -> Result<usize, RecordFault>;

    /// Takes what the layer itself has to send.
    fn words(&mut self) -> Vec<u8>;

    /// The handshake is over: data may be sealed.
    fn is_open(&self) -> bool;

    /// Nothing more will be sealed: the peer is to know that this is the end.
    fn close(&mut self);

    /// Whom the handshake was with; once.
    fn peer(&mut self) -> Peer;
}

/// Why a connection cannot go on, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFault(pub String);

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RecordFault> for io::Error {
    fn from(fault: RecordFault) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, fault.0)
    }
}

/// What a call of `open` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// These bytes of the wire have been dealt with; there may be more to open behind them.
    Record { used: usize },
    /// These bytes have been dealt with, and nothing more can be done before others arrive.
    Starved { used: usize },
    /// The peer has said that it will send no more.
    End,
}

/// Where the data of opened records goes: into the room of whoever reads, and what does not fit there into a buffer.
pub struct Sink<'a> {
    room: &'a mut [u8],
    put: usize,
    rest: &'a mut Relay,
    chunks: &'a mut Chunks,
}

impl<'a> Sink<'a> {
    pub fn new(room: &'a mut [u8], rest: &'a mut Relay, chunks: &'a mut Chunks) -> Sink<'a> {
        Sink { room, put: 0, rest, chunks }
    }

    /// Bytes in the room.
    pub fn len(&self) -> usize {
        self.put
    }

    pub fn is_empty(&self) -> bool {
        self.put == 0 && self.rest.is_empty()
    }

    pub fn put(&mut self, data: &[u8]) {
        let (now, later) = data.split_at(data.len().min(self.room.len() - self.put));
        self.room[self.put..self.put + now.len()].copy_from_slice(now);
        self.put += now.len();
        self.rest.append(later, self.chunks);
    }
}

/// What is to be sealed, from the front.
pub struct Pieces<'a> {
    pieces: &'a [IoSlice<'a>],
    /// Bytes taken of the first piece, and of all of them.
    taken_of_first: usize,
    taken: usize,
}

impl<'a> Pieces<'a> {
    pub fn new(pieces: &'a [IoSlice<'a>]) -> Pieces<'a> {
        let mut all = Pieces { pieces, taken_of_first: 0, taken: 0 };
        // Past empty ones.
        all.advance(0);
        all
    }

    /// What lies at the front in one piece; empty at the end.
    pub fn front(&self) -> &'a [u8] {
        self.pieces.first().map_or(&[], |piece| {
            let piece: &'a [u8] = piece;
            &piece[self.taken_of_first..]
        })
    }

    /// The first `n` bytes of the front are done with.
    pub fn advance(&mut self, n: usize) {
        self.taken_of_first += n;
        self.taken += n;
        while let Some(first) = self.pieces.first()
            && self.taken_of_first == first.len()
        {
            self.pieces = &self.pieces[1..];
            self.taken_of_first = 0;
        }
    }

    /// Moves bytes from the front to `to`, until that is full or nothing is left. Returns how many.
    pub fn gather(&mut self, to: &mut [u8]) -> usize {
        let mut count = 0;
        loop {
            let front = self.front();
            let n = front.len().min(to.len() - count);
            if n == 0 {
                return count;
            }
            to[count..count + n].copy_from_slice(&front[..n]);
            count += n;
            self.advance(n);
        }
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum::<usize>() - self.taken_of_first
    }

    pub fn is_empty(&self) -> bool {
        self.front().is_empty()
    }
}

/// Makes record layers, by what is configured about certificates.
pub trait Sealer: Send + Sync {
    /// Whether clients may ask for encryption.
    fn offers(&self) -> bool;
    /// Whether servers are to be asked for it.
    fn asks(&self) -> bool;
    /// For a client; `direct` if it has not asked with an SSLRequest.
    ///
    /// # Errors
    /// None can be made.
    fn accept(&self, direct: bool) -> Result<Box<dyn Records>, RecordFault>;
    /// For a connection to the server of this name.
    ///
    /// # Errors
    /// None can be made: the name cannot stand in a certificate.
    fn connect(&self, host: &str) -> Result<Box<dyn Records>, RecordFault>;
}

/// No encryption at all.
pub struct Unsealed;

impl Sealer for Unsealed {
    fn offers(&self) -> bool {
        false
    }

    fn asks(&self) -> bool {
        false
    }

    fn accept(&self, _: bool) -> Result<Box<dyn Records>, RecordFault> {
        Err(RecordFault("no certificate is configured".to_owned()))
    }

    fn connect(&self, _: &str) -> Result<Box<dyn Records>, RecordFault> {
        Err(RecordFault("encryption is not configured".to_owned()))
    }
}

/// What a read brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// `more`: another read may bring something without a further event.
    Bytes {
        n: usize,
        more: bool,
    },
    Nothing {
        more: bool,
    },
    /// The handshake is over; comes once, before any data.
    Secured(Peer),
    /// The peer has sent all it will.
    End,
}

/// Whether the end of the stream is when the peer says so, or when its socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// A client that says goodbye may wait for ours.
    AtClose,
    /// A server's process is gone only when its socket is closed.
    AtFin,
}

pub struct Transport<S> {
    pub socket: S,
    sealed: Option<Box<Sealed>>,
}

/// How far we are with saying that we will send no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    No,
    /// It is said among what has not been sent yet.
    Said,
    /// The socket has been shut down.
    Done,
}

struct Sealed {
    records: Box<dyn Records>,
    ends: Ends,
    arrived: Relay,
    opened: Relay,
    unsent: Relay,
    /// What the next read of the socket asks for.
    class: Class,
    /// Nothing can be opened before more bytes arrive.
    is_starved: bool,
    /// The peer has said that it will send no more.
    is_closed: bool,
    finish: Finish,
    /// The end of the handshake has been reported.
    is_secured: bool,
    /// Read before it.
    handshake_bytes: usize,
    /// Comes after what was opened before it.
    fault: Option<RecordFault>,
}

impl<S: Socket> Transport<S> {
    pub fn plain(socket: S) -> Transport<S> {
        Transport { socket, sealed: None }
    }

    /// Puts a record layer before the socket. `arrived` has been read from it already, and `unsent` was to be written before.
    pub fn seal(
        &mut self,
        records: Box<dyn Records>,
        ends: Ends,
        arrived: &[u8],
        unsent: &[u8],
        chunks: &mut Chunks,
    ) {
        debug_assert!(self.sealed.is_none(), "sealed twice");
        let mut sealed = Box::new(Sealed {
            records,
            ends,
            arrived: Relay::default(),
            opened: Relay::default(),
            unsent: Relay::default(),
            class: Class::Standard,
            is_starved: false,
            is_closed: false,
            finish: Finish::No,
            is_secured: false,
            handshake_bytes: arrived.len(),
            fault: None,
        });
        sealed.arrived.append(arrived, chunks);
        sealed.unsent.append(unsent, chunks);
        sealed.speak(chunks);
        self.sealed = Some(sealed);
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Something can be read whatever the socket has.
    pub fn holds(&self) -> bool {
        self.sealed.as_ref().is_some_and(|sealed| sealed.holds())
    }

    /// Bytes have been accepted, or made by the layer itself, that the socket has not taken yet.
    pub fn is_sending(&self) -> bool {
        self.sealed.as_ref().is_some_and(|sealed| !sealed.unsent.is_empty())
    }

    /// Data can be written; not before the handshake is over.
    pub fn takes_data(&self) -> bool {
        self.sealed.as_ref().is_none_or(|sealed| sealed.records.is_open())
    }

    /// Reads what there is, as far as `room` goes. `closing`: the socket's end or an error has been announced, which comes with no
    /// further event; only reads that find it empty tell that it is.
    #[inline]
    pub fn read(&mut self, room: &mut [u8], closing: bool, chunks: &mut Chunks) -> io::Result<Got> {
        if let Some(sealed) = &mut self.sealed {
            return sealed.read(&mut self.socket, room, closing, chunks);
        }
        match self.socket.read(room) {
            Ok(0) => Ok(Got::End),
            Ok(n) => Ok(Got::Bytes { n, more: n == room.len() || closing }),
            Err(error) => nothing(error),
        }
    }

    /// Writes as much as is taken.
    ///
    /// # Errors
    /// `WouldBlock`, and the socket's.
    #[inline]
    pub fn write(&mut self, pieces: &[IoSlice<'_>], chunks: &mut Chunks) -> io::Result<usize> {
        match &mut self.sealed {
            None => self.socket.write(pieces),
            Some(sealed) => sealed.write(&mut self.socket, pieces, chunks),
        }
    }

    /// Sends what has been accepted.
    ///
    /// # Errors
    /// `WouldBlock` if that did not all go, and the socket's.
    pub fn flush(&mut self, chunks: &mut Chunks) -> io::Result<()> {
        match &mut self.sealed {
            None => Ok(()),
            Some(sealed) => sealed.flush(&mut self.socket, chunks),
        }
    }

    /// Tells the peer that nothing more will be sent, once what has been accepted is. What cannot be sent at once goes with the
    /// next flush.
    pub fn finish(&mut self, chunks: &mut Chunks) {
        let Some(sealed) = &mut self.sealed else {
            let _ = self.socket.shutdown_write();
            return;
        };
        sealed.say_goodbye(chunks);
        let _ = sealed.flush(&mut self.socket, chunks);
    }

    /// Nothing more will be read or written: gives all buffers back. A peer behind a record layer is told, if the socket takes it.
    pub fn close(&mut self, chunks: &mut Chunks) {
        let Some(sealed) = &mut self.sealed else { return };
        sealed.say_goodbye(chunks);
        let _ = sealed.flush(&mut self.socket, chunks);
        for relay in [&mut sealed.arrived, &mut sealed.opened, &mut sealed.unsent] {
            relay.release(chunks);
        }
    }

    /// Bytes of the buffers behind it.
    pub fn buffer_bytes(&self) -> usize {
        self.sealed.as_ref().map_or(0, |sealed| {
            sealed.arrived.capacity() + sealed.opened.capacity() + sealed.unsent.capacity()
        })
    }
}

fn nothing(error: io::Error) -> io::Result<Got> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(Got::Nothing { more: false }),
        ErrorKind::Interrupted => Ok(Got::Nothing { more: true }),
        _ => Err(error),
    }
}

impl Sealed {
    fn holds(&self) -> bool {
        let waits = !self.arrived.is_empty() && !self.is_starved;
        !self.opened.is_empty() || waits || self.fault.is_some() || self.is_closed
    }

    fn read<S: Socket>(
        &mut self,
        socket: &mut S,
        room: &mut [u8],
        closing: bool,
        chunks: &mut Chunks,
    ) -> io::Result<Got> {
        let mut put = self.take_opened(room, chunks);
        let (mut is_dry, mut reads) = (false, 0);
        loop {
            let stopped = self.open_arrived(room, &mut put, chunks);
            if !self.is_secured && self.records.is_open() {
                self.is_secured = true;
                return Ok(Got::Secured(self.records.peer()));
            }
            if put > 0 {
                let more = !is_dry || ((stopped || self.holds()) && !sabotage::is_on(Bug::ForgottenRecords));
                self.rest(chunks);
                return Ok(Got::Bytes { n: put, more });
            }
            if let Some(fault) = &self.fault {
                return Err(fault.clone().into());
            }
            if self.is_closed && self.ends == Ends::AtClose {
                return Ok(Got::End);
            }
            if is_dry || stopped || reads == SOCKET_READS_PER_READ_MAX {
                self.rest(chunks);
                return Ok(Got::Nothing { more: !is_dry || stopped });
            }
            reads += 1;
            match self.read_socket(socket, chunks) {
                Ok((0, _)) => {
                    self.rest(chunks);
                    if self.is_closed {
                        return Ok(Got::End);
                    }
                    let text = "the connection was closed without a word of the record layer";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
                }
                Ok((n, asked)) => is_dry = n < asked && !closing,
                Err(error) => {
                    self.rest(chunks);
                    return nothing(error);
                }
            }
        }
    }

    /// Hands out what an earlier read had no room for.
    fn take_opened(&mut self, room: &mut [u8], chunks: &mut Chunks) -> usize {
        let opened = self.opened.unparsed();
        let n = opened.len().min(room.len());
        if n > 0 {
            room[..n].copy_from_slice(&opened[..n]);
            self.opened.consume(n);
            self.opened.rest(chunks);
        }
        n
    }

    /// Opens records while there is room for their data. True if it stopped before nothing more could be opened.
    fn open_arrived(&mut self, room: &mut [u8], put: &mut usize, chunks: &mut Chunks) -> bool {
        for _ in 0..RECORDS_PER_READ_MAX {
            if *put == room.len() || !self.opened.is_empty() || self.fault.is_some() {
                return true;
            }
            if !self.is_secured && self.records.is_open() {
                return true;
            }
            if self.is_starved || self.is_closed || self.arrived.is_empty() {
                return false;
            }
            let mut sink = Sink::new(&mut room[*put..], &mut self.opened, chunks);
            let outcome = self.records.open(self.arrived.unparsed_mut(), &mut sink);
            *put += sink.put;
            match outcome {
                Ok(Opened::Record { used }) => self.arrived.consume(used),
                Ok(Opened::Starved { used }) => {
                    self.arrived.consume(used);
                    self.is_starved = true;
                }
                Ok(Opened::End) => self.is_closed = true,
                Err(fault) => self.fault = Some(fault),
            }
            self.speak(chunks);
        }
        true
    }

    /// Reads once. Returns the bytes read and asked for.
    fn read_socket<S: Socket>(&mut self, socket: &mut S, chunks: &mut Chunks) -> io::Result<(usize, usize)> {
        if self.is_closed {
            // Whatever may follow the goodbye is of no interest.
            self.arrived.release(chunks);
        }
        if self.arrived.room(chunks, self.class).is_empty() {
            if self.arrived.capacity() >= Class::Large.bytes() {
                return Err(RecordFault("a record without end".to_owned()).into());
            }
            self.arrived.reserve(Class::Large.bytes(), chunks);
        }
        let space = self.arrived.room(chunks, self.class);
        let asked = space.len();
        let n = socket.read(space)?;
        self.arrived.fill(n);
        self.class.learn(n, asked);
        self.is_starved = n == 0;
        if !self.records.is_open() {
            self.handshake_bytes += n;
            if self.handshake_bytes > HANDSHAKE_BYTES_MAX {
                return Err(RecordFault("a handshake without end".to_owned()).into());
            }
        }
        Ok((n, asked))
    }

    fn write<S: Socket>(
        &mut self,
        socket: &mut S,
        pieces: &[IoSlice<'_>],
        chunks: &mut Chunks,
    ) -> io::Result<usize> {
        self.flush(socket, chunks)?;
        if !self.records.is_open() || self.finish != Finish::No {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut data = Pieces::new(pieces);
        let class = if data.left() <= STANDARD_DATA_BYTES_MAX { Class::Standard } else { Class::Large };
        while !data.is_empty() {
            let n = self.records.seal(&mut data, self.unsent.room(chunks, class))?;
            if n == 0 {
                break;
            }
            self.unsent.fill(n);
        }
        match self.flush(socket, chunks) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(data.taken),
        }
    }

    fn flush<S: Socket>(&mut self, socket: &mut S, chunks: &mut Chunks) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match socket.write(&[IoSlice::new(self.unsent.unparsed())]) {
                Ok(n) => self.unsent.consume(n),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) => {
                    // Nothing will ever go out.
                    self.unsent.release(chunks);
                    return Err(error);
                }
            }
        }
        self.unsent.rest(chunks);
        if self.finish == Finish::Said {
            self.finish = Finish::Done;
            let _ = socket.shutdown_write();
        }
        Ok(())
    }

    fn say_goodbye(&mut self, chunks: &mut Chunks) {
        if self.finish == Finish::No {
            self.records.close();
            self.speak(chunks);
            self.finish = Finish::Said;
        }
    }

    /// Queues what the layer itself has to say; behind our goodbye that is nothing any more.
    fn speak(&mut self, chunks: &mut Chunks) {
        let words = self.records.words();
        if self.finish == Finish::No {
            self.unsent.append(&words, chunks);
            if self.unsent.unparsed().len() > UNSENT_BYTES_MAX {
                self.fault = Some(RecordFault("it makes us talk and does not listen".to_owned()));
            }
        }
    }

    /// Keeps no larger buffer than half a record needs.
    fn rest(&mut self, chunks: &mut Chunks) {
        self.arrived.shrink(chunks);
    }
}

/// What may wait to be sent: a large chunk of sealed data, and what the layer has to say besides.
const UNSENT_BYTES_MAX: usize = Class::Large.bytes() + 32 * 1024;
/// Data whose records fit into a standard chunk, whatever a layer adds to them.
const STANDARD_DATA_BYTES_MAX: usize = Class::Standard.bytes() / 4 * 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_taken_from_the_front() {
        let slices = [IoSlice::new(b""), IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg")];
        let mut pieces = Pieces::new(&slices);
        assert_eq!((pieces.left(), pieces.front()), (7, &b"abc"[..]));
        let mut to = [0; 5];
        assert_eq!(pieces.gather(&mut to[..2]), 2);
        assert_eq!(pieces.front(), b"c");
        assert_eq!(pieces.gather(&mut to), 5);
        assert_eq!((&to[..], pieces.taken, pieces.left()), (&b"cdefg"[..], 7, 0));
        assert!(pieces.is_empty() && pieces.gather(&mut to) == 0);
    }

    #[test]
    fn what_does_not_fit_waits() {
        let mut chunks = Chunks::new();
        let (mut room, mut rest) = ([0; 4], Relay::default());
        let mut sink = Sink::new(&mut room, &mut rest, &mut chunks);
        sink.put(b"abc");
        sink.put(b"def");
        sink.put(b"ghi");
        assert_eq!(sink.put, 4);
        assert_eq!((&room, rest.unparsed()), (b"abcd", &b"efghi"[..]));
        rest.release(&mut chunks);
        assert_eq!(chunks.out_bytes(), 0);
    }
}
