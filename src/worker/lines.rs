//! Bytes between transports and sessions: one read, one write.

use std::io::{self, ErrorKind, IoSlice};

use crate::base::chunk::Chunks;
use crate::base::outbox::{Outbox, Piece};
use crate::base::peer::Peer;
use crate::base::relay::Relay;
use crate::io::net::{Net, Socket};
use crate::io::transport::{Got, Transport};
use crate::session::inbound::Inbound;
use crate::session::server::Readiness;

/// Pieces of one write.
const PIECES_MAX: usize = 16;

/// What a read brought.
#[derive(Debug)]
pub enum Read {
    Bytes(usize),
    Nothing,
    /// The handshake of the transport's record layer is over.
    Secured(Peer),
    /// There is no room to read into.
    Full,
    /// The peer has sent all it will.
    End,
    Failed(io::Error),
}

/// Reads once. A read that brings less than it asked for has emptied the socket, unless its end or an error has been
/// announced, or a record layer has more: those come with no further event.
pub fn read<S: Socket>(
    transport: &mut Transport<S>,
    ready: &mut Readiness,
    inbound: &mut Inbound,
    chunks: &mut Chunks,
) -> Read {
    let room = inbound.relay.room(chunks, inbound.class);
    let asked = room.len();
    if asked == 0 {
        return Read::Full;
    }
    let got = transport.read(room, ready.closing, chunks);
    match got {
        Ok(Got::Bytes { n, more }) => {
            inbound.relay.fill(n);
            inbound.class.learn(n, asked);
            ready.readable = more;
            return Read::Bytes(n);
        }
        Ok(Got::Nothing { more }) => ready.readable = more,
        Ok(Got::Secured(_)) => {}
        Ok(Got::End) | Err(_) => ready.readable = false,
    }
    inbound.relay.rest(chunks);
    match got {
        Ok(Got::Secured(peer)) => Read::Secured(peer),
        Ok(Got::End) => Read::End,
        Err(error) => Read::Failed(error),
        _ => Read::Nothing,
    }
}

/// A socket that has just taken all it can is to say when it takes more.
pub fn watch<N: Net>(
    net: &mut N,
    line: &mut Transport<N::Socket>,
    token: u64,
    ready: &mut Readiness,
) -> io::Result<()> {
    if ready.writable || ready.watches_writes {
        return Ok(());
    }
    ready.watches_writes = true;
    net.watch_writes(&mut line.socket, token)
}

/// What a write came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Bytes of the outbox.
    pub bytes: usize,
    /// Something has moved: bytes were accepted, or the last that had been went out.
    pub any: bool,
}

/// Writes what an outbox holds until it is empty or the transport takes no more.
pub fn write<'r, S: Socket>(
    transport: &mut Transport<S>,
    ready: &mut Readiness,
    outbox: &mut Outbox,
    chunks: &mut Chunks,
    relay: impl Fn(u8) -> Option<&'r Relay>,
) -> io::Result<Written> {
    let mut written = Written::default();
    while ready.writable {
        let result = if transport.is_sending() {
            transport.flush(chunks).map(|()| 0)
        } else if !outbox.is_empty() && transport.takes_data() {
            let bytes = |piece| match piece {
                Piece::Bytes(bytes) => Ok(bytes),
                Piece::Relay { source, start, end } => match relay(source) {
                    Some(relay) => Ok(relay.range(start, end)),
                    None => Err(io::Error::other("a relay has gone before its bytes were sent")),
                },
            };
            let (first, second) = {
                let mut waiting = outbox.pieces();
                (waiting.next(), waiting.next())
            };
            match (first, second) {
                // Mostly there is one.
                (Some(piece), None) => transport.write(&[IoSlice::new(bytes(piece)?)], chunks),
                _ => {
                    let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
                    let mut count = 0;
                    for (slot, piece) in pieces.iter_mut().zip(outbox.pieces()) {
                        *slot = IoSlice::new(bytes(piece)?);
                        count += 1;
                    }
                    transport.write(&pieces[..count], chunks)
                }
            }
        } else {
            return Ok(written);
        };
        match result {
            Ok(n) => {
                outbox.sent(n, chunks);
                written.bytes += n;
                written.any = true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => ready.writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
