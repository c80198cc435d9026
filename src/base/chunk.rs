//! Buffers by class, kept by one worker for reuse. The last one given back is the next one handed out, so
//! that the same few chunks stay in the processor's cache.

use crate::base::limits::{CHUNK_LARGE_BYTES, CHUNK_SMALL_BYTES, CHUNK_STANDARD_BYTES, CHUNKS_KEPT_MAX};

pub type Chunk = Box<[u8]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Small,
    Standard,
    Large,
}

impl Class {
    pub const fn bytes(self) -> usize {
        match self {
            Class::Small => CHUNK_SMALL_BYTES,
            Class::Standard => CHUNK_STANDARD_BYTES,
            Class::Large => CHUNK_LARGE_BYTES,
        }
    }

    /// A read brought `n` of `asked` bytes: streams are read in larger pieces.
    pub fn learn(&mut self, n: usize, asked: usize) {
        if n == asked && asked >= Class::Standard.bytes() {
            *self = Class::Large;
        } else if n < Class::Standard.bytes() / 2 {
            *self = Class::Standard;
        }
    }

    fn of(bytes: usize) -> Option<Class> {
        [Class::Small, Class::Standard, Class::Large].into_iter().find(|class| class.bytes() == bytes)
    }
}

/// Free chunks of one worker, and the count of bytes that are out.
#[derive(Debug, Default)]
pub struct Chunks {
    free: [Vec<Chunk>; 3],
    /// The lowest number of free chunks since the last trim: those were not needed.
    least: [usize; 3],
    out_bytes: usize,
}

impl Chunks {
    pub fn new() -> Chunks {
        Chunks::default()
    }

    pub fn take(&mut self, class: Class) -> Chunk {
        self.out_bytes += class.bytes();
        let slot = class as usize;
        let chunk = self.free[slot].pop();
        self.least[slot] = self.least[slot].min(self.free[slot].len());
        chunk.unwrap_or_else(|| vec![0; class.bytes()].into_boxed_slice())
    }

    /// A buffer of an exact size for a frame that no class holds.
    pub fn take_exact(&mut self, bytes: usize) -> Chunk {
        self.out_bytes += bytes;
        vec![0; bytes].into_boxed_slice()
    }

    pub fn give(&mut self, chunk: Chunk) {
        self.out_bytes = self.out_bytes.saturating_sub(chunk.len());
        if let Some(class) = Class::of(chunk.len()) {
            let free = &mut self.free[class as usize];
            if free.len() < CHUNKS_KEPT_MAX[class as usize] {
                free.push(chunk);
            }
        }
    }

    /// Chunks of so many bytes have come, with whatever is in them, from where others could have got them too.
    pub fn adopt(&mut self, bytes: usize) {
        self.out_bytes += bytes;
    }

    /// … or have gone there.
    pub fn disown(&mut self, bytes: usize) {
        self.out_bytes = self.out_bytes.saturating_sub(bytes);
    }

    /// Bytes of all chunks that are in use.
    pub fn out_bytes(&self) -> usize {
        self.out_bytes
    }

    /// Whether there is anything that could be freed.
    pub fn has_spare(&self) -> bool {
        self.free.iter().any(|free| !free.is_empty())
    }

    /// Frees what was never needed since the last call, and says whether that was anything.
    pub fn trim(&mut self) -> bool {
        let mut freed = false;
        for (free, least) in self.free.iter_mut().zip(&mut self.least) {
            let keep = free.len().saturating_sub(*least);
            freed |= *least > 0;
            free.truncate(keep);
            free.shrink_to_fit();
            *least = free.len();
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuses_the_hottest_and_counts() {
        let mut chunks = Chunks::new();
        let a = chunks.take(Class::Standard);
        let address = a.as_ptr() as usize;
        let b = chunks.take(Class::Standard);
        assert_eq!(chunks.out_bytes(), 2 * CHUNK_STANDARD_BYTES);
        chunks.give(b);
        chunks.give(a);
        let again = chunks.take(Class::Standard);
        assert_eq!(again.as_ptr() as usize, address);
        chunks.give(again);
        let _out = chunks.take(Class::Standard);
        let exact = chunks.take_exact(12_345);
        chunks.give(exact);
        assert_eq!(chunks.out_bytes(), CHUNK_STANDARD_BYTES);
    }

    #[test]
    fn trim_frees_what_lay_idle() {
        let mut chunks = Chunks::new();
        let out: Vec<_> = (0..10).map(|_| chunks.take(Class::Small)).collect();
        out.into_iter().for_each(|chunk| chunks.give(chunk));
        assert!(!chunks.trim(), "all ten were in use a moment ago");
        assert!(chunks.trim(), "none was needed since");
        assert_eq!(chunks.free[0].len(), 0);
    }
}
