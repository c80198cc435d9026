//! Encoders: each appends one whole message to a buffer; lengths are filled in afterwards.

use crate::wire::{BackendKey, TxStatus};

/// Appends a message of type `tag` whose body `body` writes.
pub fn message(buf: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    buf.push(tag);
    untyped(buf, body);
}

/// Appends a message without a type: startup packets.
pub fn untyped(buf: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = buf.len();
    buf.extend_from_slice(&[0; 4]);
    body(buf);
    let length = (buf.len() - at) as u32;
    buf[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

pub fn cstr(buf: &mut Vec<u8>, text: &[u8]) {
    buf.extend_from_slice(text);
    buf.push(0);
}

pub const SYNC: &[u8] = b"S\0\0\0\x04";
pub const FLUSH: &[u8] = b"H\0\0\0\x04";
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";
pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
pub const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
pub const NO_DATA: &[u8] = b"n\0\0\0\x04";
pub const EMPTY_QUERY_RESPONSE: &[u8] = b"I\0\0\0\x04";

pub fn query(buf: &mut Vec<u8>, sql: impl AsRef<[u8]>) {
    message(buf, b'Q', |buf| cstr(buf, sql.as_ref()));
}

pub fn parse(buf: &mut Vec<u8>, name: &[u8], text_and_types: &[u8]) {
    message(buf, b'P', |buf| {
        cstr(buf, name);
        buf.extend_from_slice(text_and_types);
    });
}

/// Bind of the unnamed portal to the unnamed statement: values and results as text.
pub fn bind_text(buf: &mut Vec<u8>, values: &[&[u8]]) {
    message(buf, b'B', |buf| {
        buf.extend_from_slice(&[0; 4]);
        buf.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            buf.extend_from_slice(&(value.len() as u32).to_be_bytes());
            buf.extend_from_slice(value);
        }
        buf.extend_from_slice(&[0; 2]);
    });
}

/// Execute of the unnamed portal, up to so many rows.
pub fn execute(buf: &mut Vec<u8>, rows_max: u32) {
    message(buf, b'E', |buf| {
        buf.push(0);
        buf.extend_from_slice(&rows_max.to_be_bytes());
    });
}

/// Close of a statement (`b'S'`) or portal (`b'P'`).
pub fn close(buf: &mut Vec<u8>, kind: u8, name: &[u8]) {
    message(buf, b'C', |buf| {
        buf.push(kind);
        cstr(buf, name);
    });
}

/// Describe of a statement (`b'S'`) or portal (`b'P'`).
pub fn describe(buf: &mut Vec<u8>, kind: u8, name: &[u8]) {
    message(buf, b'D', |buf| {
        buf.push(kind);
        cstr(buf, name);
    });
}

pub fn copy_fail(buf: &mut Vec<u8>, why: &str) {
    message(buf, b'f', |buf| cstr(buf, why.as_bytes()));
}

/// PasswordMessage, SASLResponse: the same type with different bodies.
pub fn password(buf: &mut Vec<u8>, body: &[u8]) {
    message(buf, b'p', |buf| buf.extend_from_slice(body));
}

pub fn sasl_initial(buf: &mut Vec<u8>, mechanism: &str, response: &[u8]) {
    message(buf, b'p', |buf| {
        cstr(buf, mechanism.as_bytes());
        buf.extend_from_slice(&(response.len() as u32).to_be_bytes());
        buf.extend_from_slice(response);
    });
}

pub fn startup<'a, V: AsRef<[u8]>>(
    buf: &mut Vec<u8>,
    version: u32,
    parameters: impl Iterator<Item = (&'a str, V)>,
) {
    untyped(buf, |buf| {
        buf.extend_from_slice(&version.to_be_bytes());
        for (name, value) in parameters {
            cstr(buf, name.as_bytes());
            cstr(buf, value.as_ref());
        }
        buf.push(0);
    });
}

pub fn ssl_request(buf: &mut Vec<u8>) {
    untyped(buf, |buf| buf.extend_from_slice(&crate::wire::startup::SSL_REQUEST.to_be_bytes()));
}

pub fn cancel_request(buf: &mut Vec<u8>, key: &BackendKey) {
    untyped(buf, |buf| {
        buf.extend_from_slice(&crate::wire::startup::CANCEL_REQUEST.to_be_bytes());
        buf.extend_from_slice(&key.pid.to_be_bytes());
        buf.extend_from_slice(&key.secret);
    });
}

/// AuthenticationXXX with its code and the data behind it.
pub fn authentication(buf: &mut Vec<u8>, code: u32, data: &[u8]) {
    message(buf, b'R', |buf| {
        buf.extend_from_slice(&code.to_be_bytes());
        buf.extend_from_slice(data);
    });
}

pub fn negotiate_version(buf: &mut Vec<u8>, newest_minor: u32, unknown: &[&[u8]]) {
    message(buf, b'v', |buf| {
        buf.extend_from_slice(&newest_minor.to_be_bytes());
        buf.extend_from_slice(&(unknown.len() as u32).to_be_bytes());
        unknown.iter().for_each(|name| cstr(buf, name));
    });
}

pub fn parameter_status(buf: &mut Vec<u8>, name: &str, value: &[u8]) {
    message(buf, b'S', |buf| {
        cstr(buf, name.as_bytes());
        cstr(buf, value);
    });
}

pub fn backend_key(buf: &mut Vec<u8>, pid: u32, secret: &[u8]) {
    message(buf, b'K', |buf| {
        buf.extend_from_slice(&pid.to_be_bytes());
        buf.extend_from_slice(secret);
    });
}

pub fn ready(buf: &mut Vec<u8>, status: TxStatus) {
    buf.extend_from_slice(&[b'Z', 0, 0, 0, 5, status.byte()]);
}

pub fn command_complete(buf: &mut Vec<u8>, tag: &str) {
    message(buf, b'C', |buf| cstr(buf, tag.as_bytes()));
}

/// A column of a result of our own, in text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: ColumnType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    Text,
    Int8,
    Numeric,
    Bool,
}

impl ColumnType {
    /// OID and size of the type in pg_type.
    fn oid(self) -> (u32, i16) {
        match self {
            ColumnType::Text => (25, -1),
            ColumnType::Int8 => (20, 8),
            ColumnType::Numeric => (1700, -1),
            ColumnType::Bool => (16, 1),
        }
    }
}

pub fn row_description(buf: &mut Vec<u8>, columns: &[Column]) {
    message(buf, b'T', |buf| {
        buf.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for column in columns {
            let (oid, size) = column.kind.oid();
            cstr(buf, column.name.as_bytes());
            buf.extend_from_slice(&[0; 6]);
            buf.extend_from_slice(&oid.to_be_bytes());
            buf.extend_from_slice(&size.to_be_bytes());
            buf.extend_from_slice(&(-1i32).to_be_bytes());
            buf.extend_from_slice(&[0; 2]);
        }
    });
}

/// A row of text values; `None` is NULL.
pub fn data_row<'a>(buf: &mut Vec<u8>, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) {
    message(buf, b'D', |buf| {
        buf.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                None => buf.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(bytes) => {
                    buf.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    buf.extend_from_slice(bytes);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        let mut buf = Vec::new();
        query(&mut buf, "hi");
        assert_eq!(buf, b"Q\0\0\0\x07hi\0");
        buf.clear();
        startup(&mut buf, 0x30000, [("user", "a")].into_iter());
        assert_eq!(buf, b"\0\0\0\x10\0\x03\0\0user\0a\0\0");
        buf.clear();
        cancel_request(&mut buf, &BackendKey { pid: 7, secret: Box::new([1, 2, 3, 4]) });
        assert_eq!(buf, b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\x01\x02\x03\x04");
        buf.clear();
        data_row(&mut buf, [Some(&b"x"[..]), None].into_iter());
        assert_eq!(buf, b"D\0\0\0\x0f\0\x02\0\0\0\x01x\xff\xff\xff\xff");
    }
}
