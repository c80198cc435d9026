//! PostgreSQL's frontend/backend protocol, version 3 (manual, chapter "Frontend/Backend Protocol"): frames,
//! startup packets, the messages we read as views, and encoders for those we write. No state, no I/O.

pub mod encode;
pub mod error;
pub mod frame;
pub mod proxy;
pub mod startup;

/// Transaction status of ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TxStatus {
    #[default]
    Idle,
    InTransaction,
    Failed,
}

impl TxStatus {
    pub fn of(byte: u8) -> Option<TxStatus> {
        match byte {
            b'I' => Some(TxStatus::Idle),
            b'T' => Some(TxStatus::InTransaction),
            b'E' => Some(TxStatus::Failed),
            _ => None,
        }
    }

    /// The body of ReadyForQuery: this byte and nothing else.
    pub fn of_body(body: &[u8]) -> Option<TxStatus> {
        if let [byte] = body { TxStatus::of(*byte) } else { None }
    }

    pub fn byte(self) -> u8 {
        match self {
            TxStatus::Idle => b'I',
            TxStatus::InTransaction => b'T',
            TxStatus::Failed => b'E',
        }
    }
}

/// What tells a cancel request apart: process id and secret, as in BackendKeyData. Protocol 3.2 allows secrets
/// of 4 to 256 bytes; 3.0 has exactly 4.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct BackendKey {
    pub pid: u32,
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendKey({}, ***)", self.pid)
    }
}
