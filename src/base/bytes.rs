//! A checked cursor over bytes that somebody else sent. Integers are big-endian, as on PostgreSQL's wire.

use std::ffi::CStr;

/// The bytes ended, or did not hold what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes(bytes)
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A string ended by NUL, without the NUL.
    pub fn cstr(&mut self) -> Result<&'a [u8], Malformed> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Malformed)?.to_bytes();
        self.0 = &self.0[text.len() + 1..];
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_ends() {
        let mut bytes = Bytes::new(b"ab\0\x00\x00\x00\x07\x01\x02z");
        assert_eq!(bytes.cstr(), Ok(&b"ab"[..]));
        assert_eq!(bytes.u32(), Ok(7));
        assert_eq!(bytes.u16(), Ok(0x0102));
        assert_eq!(bytes.cstr(), Err(Malformed));
        assert_eq!(bytes.u8(), Ok(b'z'));
        assert_eq!(bytes.u8(), Err(Malformed));
        assert_eq!(bytes.take(1), Err(Malformed));
        assert!(bytes.is_empty());
    }
}
