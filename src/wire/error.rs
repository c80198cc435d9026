//! ErrorResponse and NoticeResponse: fields by a one-letter code (manual, "Error and Notice Message Fields").

use crate::base::bytes::Bytes;
use crate::wire::encode::{cstr, message};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Fatal,
    Notice,
    Warning,
}

impl Severity {
    pub fn text(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
        }
    }
}

/// Five characters as in the manual's appendix "PostgreSQL Error Codes".
pub type SqlState = &'static str;

/// Appends an ErrorResponse, or a NoticeResponse for the severities of notices. `more` is its detail, its hint, and the
/// function of PostgreSQL that has this error.
pub fn write(buf: &mut Vec<u8>, severity: Severity, state: &str, text: &str, more: [Option<&str>; 3]) {
    let tag = match severity {
        Severity::Error | Severity::Fatal => b'E',
        Severity::Notice | Severity::Warning => b'N',
    };
    message(buf, tag, |buf| {
        let mut field = |code: u8, value: &str| {
            buf.push(code);
            // A NUL inside would end the field and shift all that follow.
            cstr(buf, value.split('\0').next().unwrap_or_default().as_bytes());
        };
        field(b'S', severity.text());
        field(b'V', severity.text());
        field(b'C', state);
        field(b'M', text);
        for (code, value) in [b'D', b'H', b'R'].into_iter().zip(more) {
            value.into_iter().for_each(|value| field(code, value));
        }
        buf.push(0);
    });
}

/// The fields of an error's body, in order; ends at the first that is malformed.
pub fn fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut bytes = Bytes::new(body);
    std::iter::from_fn(move || {
        let code = bytes.u8().ok().filter(|&code| code != 0)?;
        Some((code, bytes.cstr().ok()?))
    })
}

pub fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    fields(body).find(|(of, _)| *of == code).map(|(_, value)| value)
}

/// "SQLSTATE: message" of an error's body, for logs and for errors of our own that quote it.
pub fn summary(body: &[u8]) -> String {
    let text = |code| field(body, code).map(String::from_utf8_lossy).unwrap_or_default();
    format!("{}: {}", text(b'C'), text(b'M'))
}

/// Whether the severity (its untranslated form, where the server sends one) ends the connection.
pub fn is_fatal(body: &[u8]) -> bool {
    let severity = field(body, b'V').or_else(|| field(body, b'S'));
    matches!(severity, Some(b"FATAL" | b"PANIC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let mut buf = Vec::new();
        write(&mut buf, Severity::Fatal, "28P01", "no\0pe", [None, Some("try again"), None]);
        let body = &buf[5..];
        assert_eq!(buf[0], b'E');
        assert_eq!(field(body, b'M'), Some(&b"no"[..]));
        assert_eq!(field(body, b'H'), Some(&b"try again"[..]));
        assert!(is_fatal(body));
        assert_eq!(summary(body), "28P01: no");
        assert_eq!(fields(b"Sabc").count(), 0, "a field without its end is not a field");
    }
}
