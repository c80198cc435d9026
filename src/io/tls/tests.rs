//! Our end of TLS against rustls's own, and against itself.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::forge::{Key, Wish, dns, make};
use super::handshake::Tls;
use super::record::{Fault, RecordLayer};
use super::verify::{Servers, Trust};
use super::*;
use crate::base::chunk::Chunks;
use crate::base::peer::Peer;
use crate::base::rng::{Rng, SeededRng};
use crate::io::net::Socket;
use crate::io::transport::{Ends, Got, Transport};

/// A socket in memory that takes and gives random amounts.
struct Pipe {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
    ended: bool,
    rng: SeededRng,
}

impl Pipe {
    fn new(seed: u64) -> Pipe {
        Pipe { incoming: VecDeque::new(), outgoing: Vec::new(), ended: false, rng: SeededRng::new(seed) }
    }
}

impl Socket for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return if self.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let most = match self.rng.below(3) {
            0 => 1 + self.rng.below(7) as usize,
            1 => 1 + self.rng.below(5_000) as usize,
            _ => usize::MAX,
        };
        let n = buf.len().min(self.incoming.len()).min(most);
        buf.iter_mut().zip(self.incoming.drain(..n)).for_each(|(to, from)| *to = from);
        Ok(n)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        if self.rng.below(5) == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = 1 + self.rng.below(all.len() as u64) as usize;
        self.outgoing.extend(&all[..n]);
        Ok(n)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn connected(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// rustls's own end.
enum TheirEnd {
    Client(ClientConnection),
    Server(ServerConnection),
}

impl TheirEnd {
    fn feed(&mut self, mut bytes: &[u8], received: &mut Vec<u8>) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            received.extend(self.received());
            match self {
                TheirEnd::Client(connection) => {
                    connection.read_tls(&mut bytes).unwrap();
                    connection.process_new_packets()?;
                }
                TheirEnd::Server(connection) => {
                    connection.read_tls(&mut bytes).unwrap();
                    connection.process_new_packets()?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            TheirEnd::Client(connection) => while connection.write_tls(&mut out).unwrap() > 0 {},
            TheirEnd::Server(connection) => while connection.write_tls(&mut out).unwrap() > 0 {},
        }
        out
    }

    fn send(&mut self, data: &[u8]) {
        match self {
            TheirEnd::Client(connection) => connection.writer().write_all(data).unwrap(),
            TheirEnd::Server(connection) => connection.writer().write_all(data).unwrap(),
        }
    }

    fn received(&mut self) -> Vec<u8> {
        let mut data = vec![0; 1 << 20];
        let n = match self {
            TheirEnd::Client(connection) => connection.reader().read(&mut data),
            TheirEnd::Server(connection) => connection.reader().read(&mut data),
        };
        data.truncate(n.unwrap_or(0));
        data
    }

    fn close(&mut self) {
        match self {
            TheirEnd::Client(connection) => connection.send_close_notify(),
            TheirEnd::Server(connection) => connection.send_close_notify(),
        }
    }

    fn refresh(&mut self) {
        match self {
            TheirEnd::Client(connection) => connection.refresh_traffic_keys().unwrap(),
            TheirEnd::Server(connection) => connection.refresh_traffic_keys().unwrap(),
        }
    }
}

/// A transport of ours and rustls at its other end.
struct Pair {
    ours: Transport<Pipe>,
    theirs: TheirEnd,
    chunks: Chunks,
    peer: Option<Peer>,
    received: Vec<u8>,
    they_received: Vec<u8>,
    ended: bool,
}

impl Pair {
    fn they_received(&mut self) -> Vec<u8> {
        let mut received = std::mem::take(&mut self.they_received);
        received.extend(self.theirs.received());
        received
    }

    /// Moves bytes until nothing moves any more.
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..10_000 {
            let mut moved = false;
            let from_theirs = self.theirs.take();
            moved |= !from_theirs.is_empty();
            self.ours.socket.incoming.extend(from_theirs);
            while self.ours.is_sending() {
                let _ = self.ours.flush(&mut self.chunks);
            }
            loop {
                let size = 1 + self.ours.socket.rng.below(20_000) as usize;
                let mut room = vec![0; size];
                match self.ours.read(&mut room, false, &mut self.chunks).map_err(|error| error.to_string())? {
                    Got::Bytes { n, more } => {
                        self.received.extend(&room[..n]);
                        moved = true;
                        if !more && self.ours.socket.incoming.is_empty() {
                            assert!(!self.ours.holds());
                        }
                    }
                    Got::Secured(peer) => {
                        assert!(self.peer.replace(peer).is_none() && self.received.is_empty());
                        moved = true;
                    }
                    Got::Nothing { .. } if self.ours.socket.incoming.is_empty() => break,
                    Got::Nothing { .. } => {}
                    Got::End => {
                        self.ended = true;
                        break;
                    }
                }
            }
            while self.ours.is_sending() {
                let _ = self.ours.flush(&mut self.chunks);
            }
            let from_ours = std::mem::take(&mut self.ours.socket.outgoing);
            moved |= !from_ours.is_empty();
            self.theirs
                .feed(&from_ours, &mut self.they_received)
                .map_err(|error| format!("their end: {error}"))?;
            if !moved {
                return Ok(());
            }
        }
        panic!("it never comes to rest");
    }

    fn send(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let cut = data.len().min(1 + self.ours.socket.rng.below(200_000) as usize);
            let middle = cut / 3;
            let pieces = [IoSlice::new(&data[..middle]), IoSlice::new(&data[middle..cut])];
            match self.ours.write(&pieces, &mut self.chunks) {
                Ok(n) => data = &data[n..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }
}

struct Authority {
    ca: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    leaf_key: Key,
}

impl Authority {
    fn new() -> Authority {
        let (ca_key, leaf_key) = (Key::new(), Key::new());
        let ca = Wish { subject: "ca", is_ca: Some(true), ..Wish::default() };
        let leaf = Wish { names: vec![dns("localhost")], ..Wish::default() };
        Authority { ca: make(&ca, &ca_key, &ca_key), leaf: make(&leaf, &leaf_key, &ca_key), leaf_key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        roots
    }

    fn server_config(&self, provider: CryptoProvider) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], self.leaf_key.der())
            .unwrap()
    }

    fn client_config(&self, provider: CryptoProvider) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// Ours as the server of a rustls client.
    fn serve(&self, mut theirs: ClientConfig, direct: bool, seed: u64) -> Pair {
        let mut ours = self.server_config(rustls::crypto::ring::default_provider());
        ours.alpn_protocols = vec![ALPN.to_vec()];
        ours.send_tls13_tickets = 0;
        ours.enable_secret_extraction = true;
        theirs.resumption = Resumption::disabled();
        let name = ServerName::try_from("localhost").unwrap();
        let theirs = TheirEnd::Client(ClientConnection::new(Arc::new(theirs), name).unwrap());
        let ours = UnbufferedServerConnection::new(Arc::new(ours)).unwrap();
        let end_point = x509::digest(&self.leaf).map(Arc::from);
        pair(Tls::server(ours, end_point, direct), Ends::AtClose, theirs, seed)
    }

    /// Ours as the client of a rustls server.
    fn connect(&self, theirs: ServerConfig, seed: u64) -> Pair {
        let provider = provider();
        let trust = Trust::new(vec![self.ca.clone()], &provider).unwrap();
        let mut ours = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Servers::Trusted { trust, names: true }))
            .with_no_client_auth();
        ours.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").unwrap();
        let ours = UnbufferedClientConnection::new(Arc::new(ours), name).unwrap();
        let theirs = TheirEnd::Server(ServerConnection::new(Arc::new(theirs)).unwrap());
        pair(Tls::client(ours).unwrap(), Ends::AtFin, theirs, seed)
    }
}

fn pair(ours: Tls, ends: Ends, theirs: TheirEnd, seed: u64) -> Pair {
    let mut chunks = Chunks::new();
    let mut transport = Transport::plain(Pipe::new(seed));
    transport.seal(Box::new(ours), ends, &[], &[], &mut chunks);
    Pair {
        ours: transport,
        theirs,
        chunks,
        peer: None,
        received: Vec::new(),
        they_received: Vec::new(),
        ended: false,
    }
}

fn suites() -> Vec<CryptoProvider> {
    let all = rustls::crypto::ring::default_provider();
    all.cipher_suites
        .iter()
        .map(|suite| CryptoProvider { cipher_suites: vec![*suite], ..all.clone() })
        .collect()
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededRng::new(seed).fill(&mut bytes);
    bytes
}

fn talk(mut pair: Pair, seed: u64) {
    pair.run().unwrap();
    let peer = pair.peer.clone().expect("the handshake is over");
    assert_eq!(peer.end_point.map(|digest| digest.len()), Some(32));
    for (at, length) in [1, 100, 16_384, 16_385, 300_000, 0, 70_000].into_iter().enumerate() {
        let (there, back) = (noise(seed ^ at as u64, length), noise(seed ^ 77 ^ at as u64, length / 2 + 1));
        pair.send(&there);
        pair.run().unwrap();
        assert_eq!(pair.they_received(), there);
        // rustls buffers so much, unread.
        for part in back.chunks(30_000) {
            pair.theirs.send(part);
            pair.run().unwrap();
        }
        assert_eq!(std::mem::take(&mut pair.received), back);
    }
    pair.theirs.close();
    pair.run().unwrap();
    if !pair.ended {
        // A server is gone when its socket is closed.
        pair.ours.socket.ended = true;
        pair.run().unwrap();
    }
    assert!(pair.ended);
    pair.ours.close(&mut pair.chunks);
    assert_eq!(pair.chunks.out_bytes(), 0);
}

#[test]
fn every_cipher_suite_in_both_roles() {
    let authority = Authority::new();
    let suites = suites();
    assert!(suites.len() >= 7, "TLS 1.3 and 1.2, AES-128, AES-256, ChaCha20");
    for (at, provider) in suites.into_iter().enumerate() {
        // The certificate's key is ECDSA.
        if format!("{:?}", provider.cipher_suites[0]).contains("RSA") {
            continue;
        }
        for seed in 0..4 {
            let seed = seed * 100 + at as u64;
            talk(authority.serve(authority.client_config(provider.clone()), false, seed), seed);
            talk(authority.connect(authority.server_config(provider.clone()), seed), seed);
        }
    }
}

#[test]
fn keys_are_updated_by_either_side() {
    let authority = Authority::new();
    for seed in 0..10 {
        let provider = rustls::crypto::ring::default_provider();
        let mut pair = match seed % 2 {
            0 => authority.serve(authority.client_config(provider), false, seed),
            _ => authority.connect(authority.server_config(provider), seed),
        };
        pair.run().unwrap();
        for round in 0..200_u8 {
            // Ours change by themselves after so many records.
            let (there, back) = (vec![round; 1 + usize::from(round)], vec![!round; 20]);
            if round % 7 == 3 {
                pair.theirs.refresh();
            }
            pair.send(&there);
            pair.theirs.send(&back);
            pair.run().unwrap();
            assert_eq!(pair.they_received(), there);
            assert_eq!(std::mem::take(&mut pair.received), back);
        }
    }
}

#[test]
fn session_tickets_are_no_data() {
    let authority = Authority::new();
    let mut theirs = authority.server_config(rustls::crypto::ring::default_provider());
    theirs.send_tls13_tickets = 8;
    theirs.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    let mut pair = authority.connect(theirs, 5);
    pair.run().unwrap();
    pair.theirs.send(b"hello");
    pair.run().unwrap();
    assert_eq!(pair.received, b"hello");
}

#[test]
fn any_changed_byte_ends_the_connection() {
    let authority = Authority::new();
    for seed in 0..60 {
        let provider = rustls::crypto::ring::default_provider();
        let mut pair = authority.serve(authority.client_config(provider), false, seed);
        pair.run().unwrap();
        pair.theirs.send(b"select 1");
        let mut bytes = pair.theirs.take();
        let at = seed as usize % bytes.len();
        bytes[at] ^= 1 << (seed % 8);
        pair.ours.socket.incoming.extend(&bytes);
        // A longer record does not arrive whole.
        pair.ours.socket.incoming.extend([0; 20_000]);
        let error = pair.run().unwrap_err();
        assert!(error.starts_with("TLS: ") || error.starts_with("their end: "), "{error}");
        assert!(pair.received.is_empty());
        assert!(pair.run().is_err(), "it stays broken");
    }
}

#[test]
fn an_end_without_goodbye_is_a_failure() {
    let authority = Authority::new();
    let provider = rustls::crypto::ring::default_provider();
    let mut pair = authority.serve(authority.client_config(provider), false, 1);
    pair.run().unwrap();
    pair.theirs.send(b"last");
    pair.ours.socket.ended = true;
    let error = pair.run().unwrap_err();
    assert!(error.contains("without a word"), "{error}");
    assert_eq!(pair.received, b"last", "what came before it is good");
}

#[test]
fn direct_handshakes_name_the_protocol() {
    let authority = Authority::new();
    let provider = rustls::crypto::ring::default_provider;
    for (protocols, direct, works) in [
        (vec![], false, true),
        (vec![], true, false),
        (vec![ALPN.to_vec()], true, true),
        (vec![b"h2".to_vec(), ALPN.to_vec()], true, true),
        (vec![b"h2".to_vec()], true, false),
        (vec![b"h2".to_vec()], false, false),
    ] {
        let mut theirs = authority.client_config(provider());
        theirs.alpn_protocols = protocols.clone();
        let outcome = authority.serve(theirs, direct, 3).run();
        assert_eq!(outcome.is_ok(), works, "{protocols:?} {direct} {outcome:?}");
    }
}

#[test]
fn a_client_without_our_trust_is_told_why() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let provider = rustls::crypto::ring::default_provider;
    // It does not trust us.
    let error = authority.serve(stranger.client_config(provider()), false, 1).run().unwrap_err();
    assert!(error.contains("their end"), "{error}");
    // We do not trust the server, and tell it.
    let mut pair = authority.connect(stranger.server_config(provider()), 1);
    let error = pair.run().unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
    let _ = pair.ours.flush(&mut pair.chunks);
    while pair.ours.is_sending() {
        let _ = pair.ours.flush(&mut pair.chunks);
    }
    let alert =
        pair.theirs.feed(&std::mem::take(&mut pair.ours.socket.outgoing), &mut Vec::new()).unwrap_err();
    assert!(matches!(alert, rustls::Error::AlertReceived(_)), "{alert}");
}

#[test]
fn clients_show_certificates() {
    let authority = Authority::new();
    let (ca_key, client_key) = (Key::new(), Key::new());
    let ca = make(&Wish { subject: "ca", is_ca: Some(true), ..Wish::default() }, &ca_key, &ca_key);
    let wish = Wish {
        subject: "alice",
        names: vec![dns("alice.example"), (0x86, b"spiffe://x/alice".to_vec()), (0x87, vec![10, 0, 0, 7])],
        ..Wish::default()
    };
    // The second is what PostgreSQL's manual makes.
    for wish in [wish.clone(), Wish { version: 1, names: Vec::new(), ..wish.clone() }] {
        let der = make(&wish, &client_key, &ca_key);
        let trust = Trust::new(vec![ca.clone()], &provider()).unwrap();
        let mut ours = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(Clients::new(trust, &provider()).unwrap()))
            .with_single_cert(vec![authority.leaf.clone()], authority.leaf_key.der())
            .unwrap();
        ours.enable_secret_extraction = true;
        let ours = Arc::new(ours);
        for shows in [true, false] {
            let theirs = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(authority.roots());
            let theirs = match shows {
                true => {
                    // rustls would refuse to use one of version 1.
                    let signer = provider().key_provider.load_private_key(client_key.der()).unwrap();
                    let certified = CertifiedKey::new(vec![der.clone()], signer);
                    theirs.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
                }
                false => theirs.with_no_client_auth(),
            };
            let name = ServerName::try_from("localhost").unwrap();
            let theirs = TheirEnd::Client(ClientConnection::new(Arc::new(theirs), name).unwrap());
            let ours = UnbufferedServerConnection::new(ours.clone()).unwrap();
            let mut pair = pair(Tls::server(ours, None, false), Ends::AtClose, theirs, 1);
            pair.run().unwrap();
            let peer = pair.peer.unwrap();
            assert_eq!(peer.is_certified, shows);
            let names: Vec<&str> = peer.names.iter().map(|name| &**name).collect();
            match (shows, wish.version) {
                (false, _) => assert!(names.is_empty()),
                (true, 1) => assert_eq!(names, ["alice"]),
                (true, _) => assert_eq!(names, ["alice", "alice.example", "spiffe://x/alice", "10.0.0.7"]),
            }
        }
    }
    // Of somebody else's making.
    let stranger = make(&wish, &client_key, &client_key);
    let trust = Trust::new(vec![ca], &provider()).unwrap();
    let clients = Clients::new(trust, &provider()).unwrap();
    let now = rustls::pki_types::UnixTime::now();
    use rustls::server::danger::ClientCertVerifier;
    assert!(clients.verify_client_cert(&stranger, &[], now).is_err());
    let _ = WebPkiClientVerifier::no_client_auth();
}

// ---- the record layer against itself: what no rustls would send

/// A client's and a server's record layer of one connection.
fn layers() -> (RecordLayer, RecordLayer) {
    let authority = Authority::new();
    let mut server = authority.server_config(rustls::crypto::ring::default_provider());
    server.send_tls13_tickets = 0;
    server.enable_secret_extraction = true;
    let mut client = authority.client_config(rustls::crypto::ring::default_provider());
    client.enable_secret_extraction = true;
    let name = ServerName::try_from("localhost").unwrap();
    let client = UnbufferedClientConnection::new(Arc::new(client), name).unwrap();
    let server = UnbufferedServerConnection::new(Arc::new(server)).unwrap();
    let (mut client, mut server) = (Tls::client(client).unwrap(), Tls::server(server, None, false));
    let mut to_server = client.words();
    while !client.is_open() || !server.is_open() {
        feed(&mut server, &mut to_server);
        let mut to_client = server.words();
        feed(&mut client, &mut to_client);
        to_server.extend(client.words());
    }
    (client.into_layer(), server.into_layer())
}

fn feed(tls: &mut Tls, wire: &mut Vec<u8>) {
    let mut rest = crate::base::relay::Relay::default();
    let mut chunks = Chunks::new();
    while !wire.is_empty() && !tls.is_open() {
        let mut sink = crate::io::transport::Sink::new(&mut [], &mut rest, &mut chunks);
        match tls.open(wire, &mut sink).unwrap() {
            crate::io::transport::Opened::Record { used } => drop(wire.drain(..used)),
            crate::io::transport::Opened::Starved { used } => {
                wire.drain(..used);
                return;
            }
            crate::io::transport::Opened::End => panic!("it ended"),
        }
    }
}

fn opened(layer: &mut RecordLayer, wire: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut rest = crate::base::relay::Relay::default();
    let (mut chunks, mut room) = (Chunks::new(), vec![0; 20_000]);
    let mut sink = crate::io::transport::Sink::new(&mut room, &mut rest, &mut chunks);
    layer.open_record(&mut wire.to_vec(), &mut sink)?;
    let put = sink.len();
    room.truncate(put);
    Ok(room)
}

#[test]
fn each_fault_of_a_peer_has_its_name() {
    let key_update = |request: u8| vec![24, 0, 0, 1, request];
    type Sent = Vec<(u8, Vec<u8>)>;
    let cases: Vec<(&str, Sent, Fault)> = vec![
        ("a handshake record again", vec![(22, vec![1, 0, 0, 0])], Fault::UnexpectedHandshake(1)),
        ("a ticket from a client", vec![(22, vec![4, 0, 0, 0])], Fault::UnexpectedHandshake(4)),
        ("a change of ciphers", vec![(20, vec![1])], Fault::UnexpectedRecord(20)),
        ("a fatal alert", vec![(21, vec![2, 40])], Fault::Alert(40)),
        ("half an alert", vec![(21, vec![2])], Fault::BadAlert),
        ("an update of no kind", vec![(22, key_update(2))], Fault::BadHandshake),
        ("an update of no length", vec![(22, vec![24, 0, 0, 0])], Fault::BadHandshake),
        ("a message without end", vec![(22, vec![24, 0xff, 0xff, 0xff])], Fault::BadHandshake),
        ("an update and more", vec![(22, [key_update(0), vec![4]].concat())], Fault::UnalignedKeyUpdate),
        ("data in a message", vec![(22, vec![24, 0]), (23, b"x".to_vec())], Fault::UnexpectedRecord(23)),
        ("nothing, often", vec![(23, Vec::new()); 65], Fault::WithoutData),
        ("tickets, often", vec![(21, vec![1, 90]); 65], Fault::WithoutData),
    ];
    for (name, records, fault) in cases {
        let (mut client, mut server) = layers();
        let mut outcome = Ok(Vec::new());
        for (kind, data) in &records {
            assert!(outcome.is_ok(), "{name}: too early {outcome:?}");
            let record = client.record(*kind, data).unwrap();
            outcome = opened(&mut server, &record);
        }
        assert_eq!(outcome, Err(fault), "{name}");
    }
}

#[test]
fn messages_in_parts_and_updates_in_both_directions() {
    let (mut client, mut server) = layers();
    for part in [&[24][..], &[0, 0], &[1], &[1]] {
        let record = client.record(22, part).unwrap();
        assert_eq!(opened(&mut server, &record), Ok(Vec::new()));
    }
    client.update_for_test();
    let record = client.record(23, b"with the new key").unwrap();
    assert_eq!(opened(&mut server, &record), Ok(b"with the new key".to_vec()));
    // The server owes one, and sends it ahead of its data.
    let pieces = [IoSlice::new(b"answer")];
    let mut data = crate::io::transport::Pieces::new(&pieces);
    let mut wire = [0; 200];
    assert_eq!(server.seal(&mut data, &mut wire[..20]), Ok(0), "no room for the update");
    let used = server.seal(&mut data, &mut wire).unwrap();
    let first = crate::io::tls::record::whole_record(&wire).unwrap().unwrap();
    assert_eq!(opened(&mut client, &wire[..first]), Ok(Vec::new()));
    assert_eq!(opened(&mut client, &wire[first..used]), Ok(b"answer".to_vec()));
}

#[test]
fn impossible_headers() {
    let (_, mut server) = layers();
    assert_eq!(opened(&mut server, &[23, 3, 3, 0x48, 1]), Err(Fault::TooLong));
    assert_eq!(opened(&mut server, b"GET / HTTP/1.1\r\n\r\n"), Err(Fault::UnexpectedRecord(b'G')));
    let mut long = vec![23, 3, 3, 0x41, 1];
    long.resize(5 + 0x4101, 0);
    assert_eq!(opened(&mut server, &long), Err(Fault::TooLong));
    assert_eq!(opened(&mut server, &[23, 3, 3, 0, 3, 1, 2, 3]), Err(Fault::BadRecord));
    assert_eq!(opened(&mut server, &[21, 3, 3, 0, 2, 1, 0]), Err(Fault::UnexpectedRecord(21)));
}
