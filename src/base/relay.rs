//! The one buffer of a socket that is read: bytes stay where they were read until every receiver has them.
//!
//! `freed ≤ parsed ≤ filled`. Positions are absolute in the stream, so that what has been promised to a
//! receiver keeps its name when the buffer moves. A relay without bytes owns no chunk.

use crate::base::chunk::{Chunk, Chunks, Class};

#[derive(Debug, Default)]
pub struct Relay {
    chunk: Chunk,
    /// Position in the stream of the chunk's first byte.
    base: u64,
    freed: u32,
    parsed: u32,
    filled: u32,
}

impl Relay {
    /// Room for a read. Takes a chunk of `class` if there is none; moves what is held to the front when less
    /// than a quarter of the chunk is left behind it. Empty when the relay is full.
    pub fn room(&mut self, chunks: &mut Chunks, class: Class) -> &mut [u8] {
        if self.chunk.is_empty() {
            self.chunk = chunks.take(class);
        } else if self.freed > 0 && self.chunk.len() - self.filled as usize <= self.chunk.len() / 4 {
            self.compact();
        }
        &mut self.chunk[self.filled as usize..]
    }

    /// Whether a read would have room, once what is sent is out of the way.
    pub fn has_room(&self) -> bool {
        self.chunk.is_empty() || ((self.filled - self.freed) as usize) < self.chunk.len()
    }

    pub fn fill(&mut self, n: usize) {
        debug_assert!(self.filled as usize + n <= self.chunk.len());
        self.filled += n as u32;
    }

    /// What has been read and not yet been decided about.
    pub fn unparsed(&self) -> &[u8] {
        &self.chunk[self.parsed as usize..self.filled as usize]
    }

    /// The same, for a record layer that opens records where they lie.
    pub fn unparsed_mut(&mut self) -> &mut [u8] {
        &mut self.chunk[self.parsed as usize..self.filled as usize]
    }

    /// Adds bytes, whatever room that takes.
    pub fn append(&mut self, bytes: &[u8], chunks: &mut Chunks) {
        if bytes.is_empty() {
            return;
        }
        let class = if bytes.len() <= Class::Small.bytes() { Class::Small } else { Class::Standard };
        if self.room(chunks, class).len() < bytes.len() {
            self.reserve(self.unparsed().len() + bytes.len(), chunks);
        }
        let at = self.filled as usize;
        self.chunk[at..at + bytes.len()].copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    /// The first `n` bytes are of no more use to anybody.
    pub fn consume(&mut self, n: usize) {
        let (_, end) = self.advance(n);
        self.free_to(end);
    }

    /// Decides about the next `n` bytes: returns their positions in the stream.
    pub fn advance(&mut self, n: usize) -> (u64, u64) {
        debug_assert!(self.parsed as usize + n <= self.filled as usize);
        let start = self.parsed();
        self.parsed += n as u32;
        (start, self.parsed())
    }

    /// The position up to which all bytes have been decided about.
    pub fn parsed(&self) -> u64 {
        self.base + u64::from(self.parsed)
    }

    pub fn range(&self, start: u64, end: u64) -> &[u8] {
        &self.chunk[(start - self.base) as usize..(end - self.base) as usize]
    }

    /// Everything before `position` has reached its receivers. `position` is at most `parsed()`.
    pub fn free_to(&mut self, position: u64) {
        debug_assert!(position <= self.parsed());
        self.freed = (position - self.base) as u32;
        if self.freed == self.filled {
            self.base += u64::from(self.filled);
            (self.freed, self.parsed, self.filled) = (0, 0, 0);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Bytes of the chunk behind it, zero if it has none.
    pub fn capacity(&self) -> usize {
        self.chunk.len()
    }

    /// Gives the chunk back if nothing is in it.
    pub fn rest(&mut self, chunks: &mut Chunks) {
        if self.filled == 0 && !self.chunk.is_empty() {
            chunks.give(std::mem::take(&mut self.chunk));
        }
    }

    /// Gives the chunk back with whatever is in it.
    pub fn release(&mut self, chunks: &mut Chunks) {
        self.base += u64::from(self.filled);
        (self.freed, self.parsed, self.filled) = (0, 0, 0);
        self.rest(chunks);
    }

    /// Makes room for `n` unparsed bytes in one piece: a frame that must be seen whole.
    pub fn reserve(&mut self, n: usize, chunks: &mut Chunks) {
        if self.parsed as usize + n <= self.chunk.len() {
            return;
        }
        if (self.parsed - self.freed) as usize + n <= self.chunk.len() {
            self.compact();
            return;
        }
        let need = (self.parsed - self.freed) as usize + n;
        self.move_to(chunks.take_exact(need), chunks);
    }

    /// Moves what is held into the smallest chunk that holds it: for a session that must wait.
    pub fn shrink(&mut self, chunks: &mut Chunks) {
        let held = (self.filled - self.freed) as usize;
        if held == 0 {
            return self.rest(chunks);
        }
        if held <= Class::Small.bytes() && self.chunk.len() > Class::Small.bytes() {
            let small = chunks.take(Class::Small);
            self.move_to(small, chunks);
        }
    }

    /// Takes the chunk away from the relay, which goes on empty. The bytes from `start` to `end` lie at the
    /// returned indices.
    pub fn detach(&mut self, start: u64, end: u64) -> (Chunk, usize, usize) {
        let (from, to) = ((start - self.base) as usize, (end - self.base) as usize);
        self.base += u64::from(self.filled);
        (self.freed, self.parsed, self.filled) = (0, 0, 0);
        (std::mem::take(&mut self.chunk), from, to)
    }

    fn compact(&mut self) {
        self.chunk.copy_within(self.freed as usize..self.filled as usize, 0);
        self.shift();
    }

    fn move_to(&mut self, mut chunk: Chunk, chunks: &mut Chunks) {
        let held = &self.chunk[self.freed as usize..self.filled as usize];
        chunk[..held.len()].copy_from_slice(held);
        self.shift();
        chunks.give(std::mem::replace(&mut self.chunk, chunk));
    }

    fn shift(&mut self) {
        self.base += u64::from(self.freed);
        self.parsed -= self.freed;
        self.filled -= self.freed;
        self.freed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(relay: &mut Relay, chunks: &mut Chunks, bytes: &[u8]) {
        let room = relay.room(chunks, Class::Small);
        room[..bytes.len()].copy_from_slice(bytes);
        relay.fill(bytes.len());
    }

    #[test]
    fn positions_survive_moves() {
        let mut chunks = Chunks::new();
        let mut relay = Relay::default();
        feed(&mut relay, &mut chunks, b"hello world");
        let hello = relay.advance(5);
        let world = relay.advance(6);
        relay.free_to(hello.1);
        relay.reserve(5000, &mut chunks);
        assert_eq!(relay.range(world.0, world.1), b" world");
        feed(&mut relay, &mut chunks, b"!");
        assert_eq!(relay.unparsed(), b"!");
        let last = relay.advance(1);
        assert_eq!((last.0, last.1), (11, 12));
        relay.shrink(&mut chunks);
        assert_eq!(relay.capacity(), Class::Small.bytes());
        assert_eq!(relay.range(world.0, last.1), b" world!");
        relay.free_to(last.1);
        relay.rest(&mut chunks);
        assert_eq!(relay.capacity(), 0);
        assert_eq!(chunks.out_bytes(), 0);
        assert_eq!(relay.parsed(), 12);
    }

    #[test]
    fn full_relay_has_no_room() {
        let mut chunks = Chunks::new();
        let mut relay = Relay::default();
        feed(&mut relay, &mut chunks, &[7; CHUNK]);
        assert!(!relay.has_room());
        assert!(relay.room(&mut chunks, Class::Small).is_empty());
        let (_, half) = relay.advance(CHUNK / 2);
        relay.free_to(half);
        assert!(relay.has_room());
        assert_eq!(relay.room(&mut chunks, Class::Small).len(), CHUNK / 2);
        assert_eq!(relay.unparsed().len(), CHUNK / 2);
    }

    #[test]
    fn detached_bytes_leave_an_empty_relay() {
        let mut chunks = Chunks::new();
        let mut relay = Relay::default();
        feed(&mut relay, &mut chunks, b"abcdef");
        let (start, end) = relay.advance(6);
        let (chunk, from, to) = relay.detach(start + 2, end);
        assert_eq!(&chunk[from..to], b"cdef");
        assert!(relay.is_empty());
        assert_eq!(relay.parsed(), 6);
    }

    const CHUNK: usize = Class::Small.bytes();
}
