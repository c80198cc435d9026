//! Random bytes from the operating system, fetched in blocks.

use std::fs::File;
use std::io::{self, Read};

use crate::base::rng::Rng;

pub struct OsRng {
    source: File,
    block: [u8; 256],
    used: usize,
}

impl OsRng {
    pub fn new() -> io::Result<OsRng> {
        let mut source = File::open("/dev/urandom")?;
        let mut block = [0; 256];
        source.read_exact(&mut block)?;
        Ok(OsRng { source, block, used: 0 })
    }
}

impl Rng for OsRng {
    fn fill(&mut self, bytes: &mut [u8]) {
        let mut wanted = bytes;
        while !wanted.is_empty() {
            if self.used == self.block.len() {
                // Without random bytes no secret can be made: better no process than guessable ones.
                self.source.read_exact(&mut self.block).unwrap_or_else(|error| {
                    log::error!("cannot read /dev/urandom: {error}");
                    std::process::abort()
                });
                self.used = 0;
            }
            let unused = &mut self.block[self.used..];
            let n = unused.len().min(wanted.len());
            let (now, later) = wanted.split_at_mut(n);
            now.copy_from_slice(&unused[..n]);
            // What has been given away is nowhere else.
            unused[..n].fill(0);
            self.used += n;
            wanted = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_repeat() {
        let mut rng = OsRng::new().unwrap();
        let mut bytes = [0; 1000];
        rng.fill(&mut bytes);
        assert_ne!(bytes[..250], bytes[256..506]);
        assert_ne!(rng.next_u64(), rng.next_u64());
    }
}
