//! Bytes that must not outlive their use or reach a log.
//!
//! Overwriting on drop is best effort: `black_box` keeps the compiler from removing the stores, but copies that
//! the compiler made in registers or on the stack while computing are out of reach of safe code.

use std::fmt;
use std::hint::black_box;

/// A password in clear. Not compared with `==`: see [`super::plain`].
#[derive(Clone)]
pub struct Password(Box<[u8]>);

impl Password {
    pub fn new(bytes: &[u8]) -> Password {
        Password(bytes.into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        erase(&mut self.0);
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// Overwrites `bytes` with zeros.
pub(super) fn erase(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_masked_and_erase_clears() {
        assert_eq!(format!("{:?}", Password::new(b"secret")), "Password(***)");
        let mut bytes = *b"secret";
        erase(&mut bytes);
        assert_eq!(bytes, [0; 6]);
    }
}
