//! TLS beneath a transport: rustls until the handshake is over, our record layer from there on.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, Error};

use crate::base::peer::Peer;
use crate::io::tls::ALPN;
use crate::io::tls::record::{NextKeys, RecordLayer, whole_record};
use crate::io::tls::x509::{Certificate, Name, digest};
use crate::io::transport::{Opened, Pieces, RecordFault, Records, Sink};

/// One connection.
pub struct Tls {
    state: State,
    words: Vec<u8>,
    peer: Peer,
    /// Bytes at the front of the wire that rustls has seen and waits for the rest of.
    seen: usize,
}

enum State {
    Client(Box<UnbufferedClientConnection>),
    Server { connection: Box<UnbufferedServerConnection>, needs_alpn: bool },
    Open(Box<RecordLayer>),
    Failed,
}

/// Where a handshake stands.
enum Step {
    /// `used` bytes have been dealt with, and more of the wire can be.
    Going { used: usize },
    /// `used` bytes have been dealt with; what is left of the wire is not enough.
    Starved { used: usize },
    /// It is over.
    Over { used: usize },
}

impl Tls {
    /// A client's end, with its first words ready.
    ///
    /// # Errors
    /// rustls's, of its configuration.
    pub fn client(connection: UnbufferedClientConnection) -> Result<Tls, RecordFault> {
        let mut tls = Tls {
            state: State::Client(Box::new(connection)),
            words: Vec::new(),
            peer: Peer::default(),
            seen: 0,
        };
        tls.process(&mut [])?;
        Ok(tls)
    }

    /// A server's end, whose certificate has this digest. With `needs_alpn` the client must ask for PostgreSQL by name.
    pub fn server(
        connection: UnbufferedServerConnection,
        end_point: Option<Arc<[u8]>>,
        needs_alpn: bool,
    ) -> Tls {
        Tls {
            state: State::Server { connection: Box::new(connection), needs_alpn },
            words: Vec::new(),
            peer: Peer { end_point, ..Peer::default() },
            seen: 0,
        }
    }

    /// Goes on with the handshake. rustls is given whole records one by one, so that it never sees one that is ours; and what it
    /// has seen and not let go of, it is given again: it has noted where in that its messages lie.
    fn shake(&mut self, wire: &mut [u8]) -> Result<Opened, RecordFault> {
        let (mut used, mut end) = (0, self.seen);
        loop {
            let Some(length) = whole_record(&wire[end..])? else {
                self.seen = end - used;
                return Ok(Opened::Starved { used });
            };
            end += length;
            used += match self.process(&mut wire[used..end])? {
                Step::Starved { used } => used,
                Step::Over { used: all } if used + all == end => {
                    self.finish()?;
                    return Ok(Opened::Record { used: end });
                }
                _ => return Err(RecordFault("TLS: the handshake ends within a record".to_owned())),
            };
        }
    }

    /// Lets rustls process what it can of these records.
    fn process(&mut self, wire: &mut [u8]) -> Result<Step, RecordFault> {
        let mut used = 0;
        loop {
            match self.step(&mut wire[used..]) {
                Ok(Step::Going { used: more }) => used += more,
                Ok(Step::Starved { used: more }) => return Ok(Step::Starved { used: used + more }),
                Ok(Step::Over { used: more }) => return Ok(Step::Over { used: used + more }),
                Err((more, error)) => {
                    // The alert that tells the peer comes with the next step. There is none beyond: it would go on behind an
                    // error, and look at the faulty record again.
                    let _ = self.step(&mut wire[used + more..]);
                    return Err(fault(&error));
                }
            }
        }
    }

    /// One step of rustls. An error comes with the bytes that have been dealt with.
    fn step(&mut self, wire: &mut [u8]) -> Result<Step, (usize, Error)> {
        match &mut self.state {
            State::Client(connection) => step(connection.process_tls_records(wire), &mut self.words),
            State::Server { connection, .. } => step(connection.process_tls_records(wire), &mut self.words),
            State::Open(_) | State::Failed => Err((0, Error::HandshakeNotComplete)),
        }
    }

    /// The handshake is over: notes whom it was with, and takes the keys.
    fn finish(&mut self) -> Result<(), RecordFault> {
        let (secrets, version, next) = match std::mem::replace(&mut self.state, State::Failed) {
            State::Client(connection) => {
                self.peer.end_point = leaf(&connection).and_then(digest).map(Arc::from);
                let (secrets, kernel) =
                    connection.dangerous_into_kernel_connection().map_err(|e| fault(&e))?;
                let version = kernel.protocol_version();
                (secrets, version, NextKeys::Client(Box::new(kernel)))
            }
            State::Server { connection, needs_alpn } => {
                if needs_alpn && connection.alpn_protocol() != Some(ALPN) {
                    let text = "TLS: a direct handshake that does not ask for the protocol postgresql";
                    return Err(RecordFault(text.to_owned()));
                }
                if let Some(leaf) = leaf(&connection) {
                    self.peer.is_certified = true;
                    self.peer.names = names(leaf);
                }
                let (secrets, kernel) =
                    connection.dangerous_into_kernel_connection().map_err(|e| fault(&e))?;
                let version = kernel.protocol_version();
                (secrets, version, NextKeys::Server(Box::new(kernel)))
            }
            State::Open(_) | State::Failed => return Err(RecordFault("TLS: it is over".to_owned())),
        };
        self.state = State::Open(Box::new(RecordLayer::new(&secrets, version, next)?));
        Ok(())
    }
}

#[cfg(test)]
impl Tls {
    pub(super) fn into_layer(self) -> RecordLayer {
        match self.state {
            State::Open(layer) => *layer,
            _ => panic!("the handshake is not over"),
        }
    }
}

impl Records for Tls {
    fn open(&mut self, wire: &mut [u8], data: &mut Sink<'_>) -> Result<Opened, RecordFault> {
        match &mut self.state {
            State::Open(layer) => layer.open(wire, data),
            _ => self.shake(wire),
        }
    }

    fn seal(&mut self, data: &mut Pieces<'_>, wire: &mut [u8]) -> Result<usize, RecordFault> {
        match &mut self.state {
            State::Open(layer) => layer.seal(data, wire),
            _ => Ok(0),
        }
    }

    fn words(&mut self) -> Vec<u8> {
        let mut words = std::mem::take(&mut self.words);
        if let State::Open(layer) = &mut self.state {
            words.extend(layer.words());
        }
        words
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn close(&mut self) {
        if let State::Open(layer) = &mut self.state {
            layer.close();
        }
    }

    fn peer(&mut self) -> Peer {
        std::mem::take(&mut self.peer)
    }
}

/// Carries out what a status of rustls asks for.
fn step<Data>(status: UnbufferedStatus<'_, '_, Data>, words: &mut Vec<u8>) -> Result<Step, (usize, Error)> {
    let used = status.discard;
    let general = |text: &str| Err((used, Error::General(text.to_owned())));
    match status.state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(&mut data, words).map_err(|error| (used, error))?;
            Ok(Step::Going { used })
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // The transport sends them in order.
            data.done();
            Ok(Step::Going { used })
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Starved { used }),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Over { used }),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            general("the peer has closed during the handshake")
        }
        Ok(_) => general("data during the handshake"),
        Err(error) => Err((used, error)),
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, words: &mut Vec<u8>) -> Result<(), Error> {
    let at = words.len();
    let mut room = 0;
    loop {
        words.resize(at + room, 0);
        match data.encode(&mut words[at..]) {
            Ok(written) => {
                words.truncate(at + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(wanted)) if wanted.required_size > room => {
                room = wanted.required_size;
            }
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}

fn fault(error: &Error) -> RecordFault {
    RecordFault(format!("TLS: {error}"))
}

/// The certificate that the other end has shown as its own.
fn leaf(state: &CommonState) -> Option<&[u8]> {
    state.peer_certificates()?.first().map(AsRef::as_ref)
}

fn names(leaf: &[u8]) -> Vec<Box<str>> {
    let Ok(certificate) = Certificate::parse(leaf) else { return Vec::new() };
    let others = certificate.names().map(|name| match name {
        Name::Dns(name) | Name::Uri(name) | Name::Email(name) => name.into(),
        Name::Ip(address) => address.to_string().into(),
    });
    certificate.common_name().map(Box::from).into_iter().chain(others).collect()
}
