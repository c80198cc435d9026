//! Passwords and tokens: never printed, overwritten when dropped.

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{Ordering, compiler_fence};

/// A secret text. `Debug` prints `***`; there is no `Display`.
///
/// The bytes are overwritten when the value is dropped. Copies that were made elsewhere (the file's text before it
/// was read, a reallocated buffer) are the business of whoever made them.
#[derive(Clone, Default, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the text over without copying it.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into().into_bytes())
    }

    /// The secret as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text.
    pub fn expose(&self) -> &str {
        // Built from a String and never changed, so this cannot fail; an empty text is the safe answer if it did.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// True without any characters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Compares every byte whatever differs first, so that the time taken tells only the length.
impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.len() == other.0.len()
            && black_box(self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites bytes in a way that the optimiser has to keep.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(&*bytes);
    compiler_fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(secret.as_bytes(), b"hunter2");
    }

    #[test]
    fn compared_by_content() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("aa"));
        assert!(Secret::default().is_empty());
    }

    #[test]
    fn wiped() {
        let mut bytes = *b"secret";
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 6]);
    }
}
