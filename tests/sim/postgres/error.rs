//! Errors and notices with PostgreSQL's severities, SQLSTATEs and texts.

use crate::frame::body;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Notice,
    Warning,
    Error,
    Fatal,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

#[derive(Clone, Debug)]
pub struct PgError {
    pub severity: Severity,
    pub code: &'static str,
    pub message: String,
}

impl PgError {
    pub fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> PgError {
        PgError { severity, code, message: message.into() }
    }

    pub fn error(code: &'static str, message: impl Into<String>) -> PgError {
        PgError::new(Severity::Error, code, message)
    }

    pub fn fatal(code: &'static str, message: impl Into<String>) -> PgError {
        PgError::new(Severity::Fatal, code, message)
    }

    pub fn syntax(message: impl Into<String>) -> PgError {
        PgError::error("42601", message)
    }

    pub fn protocol(message: impl Into<String>) -> PgError {
        PgError::error("08P01", message)
    }

    pub fn aborted() -> PgError {
        PgError::error(
            "25P02",
            "current transaction is aborted, commands ignored until end of transaction block",
        )
    }

    pub fn cancelled() -> PgError {
        PgError::error("57014", "canceling statement due to user request")
    }

    pub fn terminated() -> PgError {
        PgError::fatal("57P01", "terminating connection due to administrator command")
    }

    /// The function of PostgreSQL that has it, where that tells it apart.
    fn routine(&self) -> &'static str {
        if self.message.starts_with("cached plan") { "RevalidateCachedQuery" } else { "sim" }
    }

    /// The body of ErrorResponse or NoticeResponse.
    pub fn body(&self) -> Vec<u8> {
        body()
            .u8(b'S')
            .text(self.severity.name())
            .u8(b'V')
            .text(self.severity.name())
            .u8(b'C')
            .text(self.code)
            .u8(b'M')
            .text(&self.message)
            .u8(b'F')
            .text("sim.c")
            .u8(b'L')
            .text("1")
            .u8(b'R')
            .text(self.routine())
            .u8(0)
            .0
    }
}

/// A message that is too short or not terminated is an error of the protocol.
impl From<String> for PgError {
    fn from(message: String) -> PgError {
        PgError::protocol(message)
    }
}
