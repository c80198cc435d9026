//! What a server does when it dies or lies.

use std::time::Duration;

/// A fault to inject into one backend.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is cut after this many more bytes of output, wherever that is.
    DieAfterOutput { bytes: usize, reset: bool },
    /// The connection is cut now; what was not sent is lost.
    DieNow { reset: bool },
    /// The connection is cut before this many more statements have been executed.
    DieAtStatement { statements: u32, reset: bool },
    /// In place of the next message.
    Lie(Lie),
    /// Reads and writes nothing any more, and stays connected.
    Silent,
    /// The next statement takes this long before its first byte.
    SlowNext(Duration),
    /// 57P01
    Terminate,
    /// When idle next: NoticeResponse.
    Notice(String),
    /// When idle next: ParameterStatus (a reload of the configuration).
    Parameter(String, String),
}

/// What comes in place of a message.
#[derive(Clone, Debug)]
pub enum Lie {
    /// These bytes.
    Garbage(Vec<u8>),
    /// The message under another tag.
    Tag(u8),
    /// The message with this length in its header.
    Length(i32),
    /// This whole message before the right one.
    Unexpected(Vec<u8>),
    /// The message is left out.
    Omit,
}
