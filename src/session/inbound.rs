//! The reading side of one socket: its relay, and the frame that is passing through.

use crate::base::chunk::{Chunks, Class};
use crate::base::relay::Relay;
use crate::wire::frame::{BadLength, Header};

/// What becomes of the bytes of a frame whose header has been seen, as they arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passing {
    /// Between frames: a header comes next.
    #[default]
    Nothing,
    /// `left` bytes go to the receiver.
    Send { left: u32 },
    /// `left` bytes are of no interest to anybody.
    Skip { left: u32 },
}

#[derive(Debug)]
pub struct Inbound {
    pub relay: Relay,
    pub passing: Passing,
    /// What the next read asks for.
    pub class: Class,
}

impl Default for Inbound {
    fn default() -> Inbound {
        Inbound { relay: Relay::default(), passing: Passing::Nothing, class: Class::Standard }
    }
}

/// The next thing on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Not enough bytes yet.
    Wait,
    /// A frame begins here; its body may not have arrived.
    Frame(Header),
    /// A stretch of a passing frame, at these positions, to be sent.
    Stretch { start: u64, end: u64 },
}

impl Inbound {
    /// Steps to the next frame, or over what has arrived of the passing one.
    #[inline]
    pub fn step(&mut self) -> Result<Next, BadLength> {
        loop {
            let (left, send) = match self.passing {
                Passing::Nothing => {
                    return Ok(match Header::parse(self.relay.unparsed())? {
                        Some(header) => Next::Frame(header),
                        None => Next::Wait,
                    });
                }
                Passing::Send { left } => (left, true),
                Passing::Skip { left } => (left, false),
            };
            let here = self.relay.unparsed().len().min(left as usize);
            if here == 0 && left > 0 {
                return Ok(Next::Wait);
            }
            let (start, end) = self.relay.advance(here);
            let left = left - here as u32;
            self.passing = match left {
                0 => Passing::Nothing,
                left if send => Passing::Send { left },
                left => Passing::Skip { left },
            };
            if send && start < end {
                return Ok(Next::Stretch { start, end });
            }
        }
    }

    /// Whether the frame at the front has arrived whole. If not, makes room for it.
    #[inline]
    pub fn hold(&mut self, header: Header, chunks: &mut Chunks) -> bool {
        if self.relay.unparsed().len() >= header.frame() {
            return true;
        }
        self.relay.reserve(header.frame(), chunks);
        false
    }

    /// The body of the frame at the front, which `hold` has found whole.
    pub fn body(&self, header: Header) -> &[u8] {
        &self.relay.unparsed()[5..header.frame()]
    }

    /// The whole of a frame that has been held.
    pub fn frame(&self, header: Header) -> &[u8] {
        &self.relay.unparsed()[..header.frame()]
    }

    /// Passes over the frame at the front: what has arrived of it is stepped over at once. Returns where what
    /// is to be sent lies.
    #[inline]
    pub fn send(&mut self, header: Header) -> (u64, u64) {
        let frame = header.frame();
        let here = self.relay.unparsed().len().min(frame);
        if here < frame {
            self.passing = Passing::Send { left: (frame - here) as u32 };
        }
        self.relay.advance(here)
    }

    pub fn skip(&mut self, header: Header) {
        let frame = header.frame();
        let here = self.relay.unparsed().len().min(frame);
        if here < frame {
            self.passing = Passing::Skip { left: (frame - here) as u32 };
        }
        self.relay.advance(here);
    }

    /// A frame has begun and not ended.
    pub fn is_inside_frame(&self) -> bool {
        self.passing != Passing::Nothing || !self.relay.unparsed().is_empty()
    }
}
