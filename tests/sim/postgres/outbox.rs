//! Output of one backend: PostgreSQL's 8 KiB send buffer, what has been flushed, and lies on the way.

use std::collections::VecDeque;

use super::fault::Lie;

/// `PqSendBufferSize`
const SEND_BYTES: usize = 8192;

#[derive(Default)]
pub struct Outbox {
    /// Not flushed: the other side cannot see it.
    held: Vec<u8>,
    /// Flushed and not yet taken by the network. While it is not empty the backend sits in `send`.
    wire: Vec<u8>,
    lies: VecDeque<Lie>,
    /// Bytes until the connection is cut.
    cut: Option<usize>,
    /// The cut has been reached.
    pub is_cut: bool,
    /// Lies told and cuts made.
    pub faults: u64,
}

impl Outbox {
    pub fn put(&mut self, tag: u8, body: &[u8]) {
        let mut frame = vec![tag];
        frame.extend((body.len() as i32 + 4).to_be_bytes());
        frame.extend(body);
        if let Some(lie) = self.lies.pop_front() {
            self.faults += 1;
            match lie {
                Lie::Garbage(bytes) => frame = bytes,
                Lie::Tag(other) => frame[0] = other,
                Lie::Length(length) => frame[1..5].copy_from_slice(&length.to_be_bytes()),
                Lie::Unexpected(mut other) => {
                    other.extend(frame);
                    frame = other;
                }
                Lie::Omit => return,
            }
        }
        self.raw(&frame);
    }

    /// Bytes that are not a message: the answer to SSLRequest.
    pub fn raw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.held.len() == SEND_BYTES {
                self.flush();
            }
            let (now, later) = bytes.split_at(bytes.len().min(SEND_BYTES - self.held.len()));
            self.held.extend(now);
            bytes = later;
        }
    }

    pub fn flush(&mut self) {
        if self.is_cut {
            self.held.clear();
            return;
        }
        match self.cut {
            Some(left) if self.held.len() >= left => {
                self.held.truncate(left);
                self.is_cut = true;
                self.faults += 1;
            }
            Some(left) => self.cut = Some(left - self.held.len()),
            None => {}
        }
        self.wire.append(&mut self.held);
    }

    pub fn lie(&mut self, lie: Lie) {
        self.lies.push_back(lie);
    }

    pub fn cut_after(&mut self, bytes: usize) {
        self.cut = Some(bytes);
    }

    /// The connection is gone: nothing of this arrives.
    pub fn drop_all(&mut self) {
        self.held.clear();
        self.wire.clear();
    }

    pub fn is_blocked(&self) -> bool {
        !self.wire.is_empty()
    }

    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    pub fn sent(&mut self, count: usize) {
        self.wire.drain(..count);
    }

    /// Bytes that were put but not flushed.
    pub fn held_len(&self) -> usize {
        self.held.len()
    }
}
