//! What one socket is to be sent, in order: ranges of relays (bytes where they were read), bytes of our own,
//! and chunks taken over from a relay that has moved on.

use std::collections::VecDeque;

use crate::base::chunk::{Chunk, Chunks};
use crate::base::relay::Relay;

/// Names a relay among those of one session: 0 is the client's, `n + 1` that of its server `n`.
pub type Source = u8;

#[derive(Debug)]
enum Segment {
    Relay { source: Source, start: u64, end: u64 },
    Own { bytes: usize },
    Chunk { chunk: Chunk, start: usize, end: usize },
}

#[derive(Debug, Default)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    own: Vec<u8>,
    own_sent: usize,
}

/// A piece to write: bytes of the outbox itself, or a range of somebody's relay.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    Bytes(&'a [u8]),
    Relay { source: Source, start: u64, end: u64 },
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes of our own that wait.
    pub fn own_bytes(&self) -> usize {
        self.own.len() - self.own_sent
    }

    /// Memory for bytes of our own.
    pub fn own_capacity(&self) -> usize {
        self.own.capacity()
    }

    /// Bytes of the chunks that were taken over.
    pub fn chunk_bytes(&self) -> usize {
        let bytes = |segment: &Segment| match segment {
            Segment::Chunk { chunk, .. } => chunk.len(),
            _ => 0,
        };
        self.segments.iter().map(bytes).sum()
    }

    /// Appends a range of a relay.
    pub fn relay(&mut self, source: Source, start: u64, end: u64) {
        if let Some(Segment::Relay { source: last, end: last_end, .. }) = self.segments.back_mut()
            && *last == source
            && *last_end == start
        {
            *last_end = end;
            return;
        }
        if start < end {
            self.push(Segment::Relay { source, start, end });
        }
    }

    /// Appends what `write` adds to the buffer.
    pub fn own<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = self.own.len();
        let result = write(&mut self.own);
        let added = self.own.len() - before;
        match self.segments.back_mut() {
            _ if added == 0 => {}
            Some(Segment::Own { bytes }) => *bytes += added,
            _ => self.push(Segment::Own { bytes: added }),
        }
        result
    }

    fn push(&mut self, segment: Segment) {
        if self.segments.capacity() == 0 {
            // Mostly there is never a second one, and each connection keeps its place.
            self.segments.reserve_exact(1);
        }
        self.segments.push_back(segment);
    }

    /// The pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut own = self.own_sent;
        self.segments.iter().map(move |segment| match segment {
            Segment::Relay { source, start, end } => {
                Piece::Relay { source: *source, start: *start, end: *end }
            }
            Segment::Own { bytes } => {
                own += bytes;
                Piece::Bytes(&self.own[own - bytes..own])
            }
            Segment::Chunk { chunk, start, end } => Piece::Bytes(&chunk[*start..*end]),
        })
    }

    /// The first `n` bytes have been written.
    pub fn sent(&mut self, mut n: usize, chunks: &mut Chunks) {
        while n > 0 {
            let Some(front) = self.segments.front_mut() else {
                debug_assert!(false, "more sent than there was");
                return;
            };
            let left = match front {
                Segment::Relay { start, end, .. } => {
                    let step = n.min((*end - *start) as usize);
                    *start += step as u64;
                    n -= step;
                    (*end - *start) as usize
                }
                Segment::Own { bytes } => {
                    let step = n.min(*bytes);
                    *bytes -= step;
                    self.own_sent += step;
                    n -= step;
                    *bytes
                }
                Segment::Chunk { start, end, .. } => {
                    let step = n.min(*end - *start);
                    *start += step;
                    n -= step;
                    *end - *start
                }
            };
            if left == 0
                && let Some(Segment::Chunk { chunk, .. }) = self.segments.pop_front()
            {
                chunks.give(chunk);
            }
        }
        if self.own_sent == self.own.len() {
            self.own.clear();
            self.own_sent = 0;
        }
    }

    /// The first position of `source`'s relay that is still to be sent.
    pub fn first_of(&self, source: Source) -> Option<u64> {
        self.segments.iter().find_map(|segment| match segment {
            Segment::Relay { source: of, start, .. } if *of == source => Some(*start),
            _ => None,
        })
    }

    /// Makes the outbox independent of `source`'s relay: one range takes the relay's chunk over; several are copied out,
    /// and so is one where the relay holds bytes that nobody has decided about, which stay with it.
    pub fn adopt(&mut self, source: Source, relay: &mut Relay, chunks: &mut Chunks) {
        let mut ranges = self.segments.iter_mut().filter_map(|segment| match segment {
            Segment::Relay { source: of, start, end } if *of == source => Some((*start, *end)),
            _ => None,
        });
        if ranges.next().is_none() {
            return;
        }
        let copies = ranges.next().is_some() || !relay.unparsed().is_empty();
        for segment in &mut self.segments {
            if let Segment::Relay { source: of, start, end } = segment
                && *of == source
            {
                *segment = if copies {
                    let bytes = relay.range(*start, *end);
                    let mut chunk = chunks.take_exact(bytes.len());
                    chunk.copy_from_slice(bytes);
                    Segment::Chunk { start: 0, end: chunk.len(), chunk }
                } else {
                    let (chunk, start, end) = relay.detach(*start, *end);
                    Segment::Chunk { chunk, start, end }
                };
            }
        }
    }

    /// Forgets everything: the receiver has gone.
    pub fn clear(&mut self, chunks: &mut Chunks) {
        for segment in self.segments.drain(..) {
            if let Segment::Chunk { chunk, .. } = segment {
                chunks.give(chunk);
            }
        }
        self.own.clear();
        self.own_sent = 0;
    }

    /// Gives memory back that an idle connection has no use for.
    pub fn rest(&mut self, keep_bytes: usize) {
        if self.is_empty() && self.own.capacity() > keep_bytes {
            self.own = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chunk::Class;

    fn gather(outbox: &Outbox, relay: &[u8]) -> Vec<u8> {
        outbox
            .pieces()
            .flat_map(|piece| match piece {
                Piece::Bytes(bytes) => bytes.to_vec(),
                Piece::Relay { start, end, .. } => relay[start as usize..end as usize].to_vec(),
            })
            .collect()
    }

    #[test]
    fn keeps_order_under_partial_writes() {
        let relay = b"0123456789";
        let mut chunks = Chunks::new();
        for cut in 1..14 {
            let mut outbox = Outbox::default();
            outbox.own(|buf| buf.extend_from_slice(b"ab"));
            outbox.relay(1, 0, 3);
            outbox.relay(1, 3, 5);
            outbox.own(|buf| buf.extend_from_slice(b"cd"));
            outbox.own(|buf| buf.extend_from_slice(b"e"));
            outbox.relay(1, 7, 10);
            let want = b"ab01234cde789".to_vec();
            let mut got = Vec::new();
            while !outbox.is_empty() {
                let all = gather(&outbox, relay);
                let n = cut.min(all.len());
                got.extend_from_slice(&all[..n]);
                outbox.sent(n, &mut chunks);
            }
            assert_eq!(got, want);
            assert_eq!(outbox.own_bytes(), 0);
        }
    }

    #[test]
    fn first_of_names_the_slowest() {
        let mut chunks = Chunks::new();
        let mut outbox = Outbox::default();
        outbox.relay(2, 5, 9);
        outbox.relay(1, 0, 4);
        outbox.sent(6, &mut chunks);
        assert_eq!((outbox.first_of(2), outbox.first_of(1)), (None, Some(2)));
    }

    #[test]
    fn adopting_leaves_undecided_bytes_where_they_are() {
        let mut chunks = Chunks::new();
        let mut relay = Relay::default();
        relay.room(&mut chunks, Class::Small)[..10].copy_from_slice(b"0123456789");
        relay.fill(10);
        relay.advance(6);
        let mut outbox = Outbox::default();
        outbox.relay(1, 2, 6);
        outbox.adopt(1, &mut relay, &mut chunks);
        relay.free_to(relay.parsed());
        assert_eq!((gather(&outbox, b""), relay.unparsed()), (b"2345".to_vec(), &b"6789"[..]));
    }

    #[test]
    fn adopted_bytes_need_no_relay() {
        for several in [false, true] {
            let mut chunks = Chunks::new();
            let mut relay = Relay::default();
            relay.room(&mut chunks, Class::Small)[..10].copy_from_slice(b"0123456789");
            relay.fill(10);
            relay.advance(10);
            let mut outbox = Outbox::default();
            outbox.relay(1, 2, 4);
            outbox.own(|buf| buf.push(b'x'));
            if several {
                outbox.relay(1, 6, 8);
            }
            outbox.adopt(1, &mut relay, &mut chunks);
            assert_eq!(outbox.first_of(1), None);
            relay.free_to(relay.parsed());
            relay.rest(&mut chunks);
            let want: &[u8] = if several { b"23x67" } else { b"23x" };
            assert_eq!(gather(&outbox, b""), want);
            outbox.sent(want.len(), &mut chunks);
            assert_eq!(chunks.out_bytes(), 0);
        }
    }
}
