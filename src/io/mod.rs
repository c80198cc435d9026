//! The world outside: sockets, readiness, the clock, names, signals, the log. Carries out, decides nothing.

pub mod log;
pub mod mio_net;
pub mod net;
pub mod random;
pub mod stream;
#[allow(unsafe_code)]
pub mod sys;
pub mod tls;
pub mod transport;
