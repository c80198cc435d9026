//! Bytes between sockets and sessions: one read, one write.

use std::io::{self, ErrorKind, IoSlice};

use crate::base::chunk::Chunks;
use crate::base::outbox::{Outbox, Piece};
use crate::base::relay::Relay;
use crate::io::net::{Net, Socket};
use crate::session::inbound::Inbound;
use crate::session::server::Readiness;

/// Pieces of one write.
const PIECES_MAX: usize = 16;

/// What a read brought.
#[derive(Debug)]
pub enum Read {
    Bytes(usize),
    Nothing,
    /// The peer has sent all it will.
    End,
    Failed(io::Error),
}

/// Reads once. A read that brings less than it asked for has emptied the socket, unless its end or an error has been
/// announced: those come with no further event.
pub fn read<S: Socket>(
    socket: &mut S,
    ready: &mut Readiness,
    inbound: &mut Inbound,
    chunks: &mut Chunks,
) -> Read {
    let room = inbound.relay.room(chunks, inbound.class);
    let asked = room.len();
    if asked == 0 {
        return Read::Nothing;
    }
    match socket.read(room) {
        Ok(0) => {
            ready.readable = false;
            Read::End
        }
        Ok(n) => {
            inbound.relay.fill(n);
            inbound.learn(n, asked);
            if n < asked && !ready.closing {
                ready.readable = false;
            }
            Read::Bytes(n)
        }
        Err(error) => {
            inbound.relay.rest(chunks);
            match error.kind() {
                ErrorKind::WouldBlock => {
                    ready.readable = false;
                    Read::Nothing
                }
                ErrorKind::Interrupted => Read::Nothing,
                _ => Read::Failed(error),
            }
        }
    }
}

/// A socket that has just taken all it can is to say when it takes more.
pub fn watch<N: Net>(
    net: &mut N,
    socket: &mut N::Socket,
    token: u64,
    ready: &mut Readiness,
) -> io::Result<()> {
    if ready.writable || ready.watches_writes {
        return Ok(());
    }
    ready.watches_writes = true;
    net.watch_writes(socket, token)
}

/// Writes what an outbox holds until it is empty or the socket takes no more. Returns the bytes written.
pub fn write<'r, S: Socket>(
    socket: &mut S,
    ready: &mut Readiness,
    outbox: &mut Outbox,
    chunks: &mut Chunks,
    relay: impl Fn(u8) -> Option<&'r Relay>,
) -> io::Result<usize> {
    let mut written = 0;
    while ready.writable && !outbox.is_empty() {
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
        let result = match (first, second) {
            // Mostly there is one.
            (Some(piece), None) => socket.write(&[IoSlice::new(bytes(piece)?)]),
            _ => {
                let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
                let mut count = 0;
                for (slot, piece) in pieces.iter_mut().zip(outbox.pieces()) {
                    *slot = IoSlice::new(bytes(piece)?);
                    count += 1;
                }
                socket.write(&pieces[..count])
            }
        };
        match result {
            Ok(n) => {
                outbox.sent(n, chunks);
                written += n;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => ready.writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
