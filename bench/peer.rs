//! What a proxy is measured between: a server that answers at once, and a client that asks the same thing over and over.
//! Both block, and allocate nothing once they run.
//!
//! The server answers every statement with one row of one int, except `rows N`, `copy N` and `pages N`: N rows of one
//! int, N rows of COPY data of 100 bytes, or of 8 KB.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use pgdog::wire::TxStatus;
use pgdog::wire::encode::{self, Column, ColumnType};
use pgdog::wire::frame::{HEADER_BYTES, Header};
use pgdog::wire::startup::{self, Packet};

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A simple query.
    Simple,
    /// Parse, Bind, Describe, Execute and Sync with the unnamed statement.
    Extended,
    /// Bind, Execute and Sync with a named statement.
    Prepared,
    /// A simple query with that many rows of one int.
    Rows(u64),
    /// COPY out, in rows of 100 bytes.
    Copy(u64),
    /// COPY out, in rows of 8 KB.
    Pages(u64),
}

/// Listens on a port of its own, or on `port`, for ever: each connection has a thread, which calls `on_thread` first.
pub fn serve(port: u16, on_thread: fn()) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        on_thread();
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                on_thread();
                // A client that goes, goes.
                let _ = Backend::new(stream).and_then(Backend::run);
            });
        }
    });
    Ok(address)
}

/// One connection of the server.
struct Backend {
    stream: TcpStream,
    inbound: Vec<u8>,
    filled: usize,
    outbound: Vec<u8>,
    rows: Vec<u8>,
    copy: Vec<u8>,
    pages: Vec<u8>,
}

/// Rows that are written at a time.
const BLOCK: u64 = 512;

impl Backend {
    fn new(stream: TcpStream) -> io::Result<Backend> {
        stream.set_nodelay(true)?;
        let (mut rows, mut copy, mut pages) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..BLOCK {
            encode::data_row(&mut rows, [Some(&b"1234567"[..])].into_iter());
            encode::message(&mut copy, b'd', |buf| buf.extend_from_slice(&[b'x'; 100]));
        }
        for _ in 0..BLOCK / 32 {
            encode::message(&mut pages, b'd', |buf| buf.extend_from_slice(&[b'x'; 8100]));
        }
        let inbound = vec![0; 1 << 16];
        Ok(Backend { stream, inbound, filled: 0, outbound: Vec::with_capacity(1 << 16), rows, copy, pages })
    }

    fn run(mut self) -> io::Result<()> {
        self.log_in()?;
        loop {
            let mut at = 0;
            while let Ok(Some(header)) = Header::parse(&self.inbound[at..self.filled]) {
                let end = at + header.frame();
                if end > self.filled {
                    break;
                }
                self.answer(header.tag, at + HEADER_BYTES, end)?;
                at = end;
            }
            self.inbound.copy_within(at..self.filled, 0);
            self.filled -= at;
            self.stream.write_all(&self.outbound)?;
            self.outbound.clear();
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.inbound[self.filled..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.filled += n;
                Ok(())
            }
        }
    }

    fn log_in(&mut self) -> io::Result<()> {
        loop {
            match startup::parse(&self.inbound[..self.filled]) {
                Ok(Some((Packet::Startup(_), length))) => {
                    self.inbound.copy_within(length..self.filled, 0);
                    self.filled -= length;
                    break;
                }
                Ok(Some((_, length))) => {
                    self.stream.write_all(b"N")?;
                    self.inbound.copy_within(length..self.filled, 0);
                    self.filled -= length;
                }
                Ok(None) => self.fill()?,
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        let out = &mut self.outbound;
        encode::authentication(out, 0, &[]);
        for (name, value) in PARAMETERS {
            encode::parameter_status(out, name, value.as_bytes());
        }
        encode::backend_key(out, 1, &[0; 4]);
        encode::ready(out, TxStatus::Idle);
        Ok(())
    }

    fn answer(&mut self, tag: u8, start: usize, end: usize) -> io::Result<()> {
        let out = &mut self.outbound;
        match tag {
            b'Q' => {
                self.query(start, end)?;
                encode::ready(&mut self.outbound, TxStatus::Idle);
            }
            b'P' => out.extend_from_slice(encode::PARSE_COMPLETE),
            b'B' => out.extend_from_slice(encode::BIND_COMPLETE),
            b'C' => out.extend_from_slice(encode::CLOSE_COMPLETE),
            b'D' => {
                if self.inbound[start] == b'S' {
                    encode::message(out, b't', |buf| buf.extend_from_slice(&[0, 0]));
                }
                description(out);
            }
            b'E' => row(out),
            b'S' => encode::ready(out, TxStatus::Idle),
            b'X' => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => {}
        }
        Ok(())
    }

    fn query(&mut self, start: usize, end: usize) -> io::Result<()> {
        let text = std::str::from_utf8(&self.inbound[start..end - 1]).unwrap_or_default();
        let (word, count) = text.split_once(' ').unwrap_or_default();
        let count = count.parse().unwrap_or(0);
        let copy_out = [0, 0, 1, 0, 0];
        let (block, of) = match word {
            "rows" => {
                description(&mut self.outbound);
                (&self.rows, BLOCK)
            }
            "copy" | "pages" => {
                encode::message(&mut self.outbound, b'H', |buf| buf.extend_from_slice(&copy_out));
                if word == "copy" { (&self.copy, BLOCK) } else { (&self.pages, BLOCK / 32) }
            }
            _ => {
                description(&mut self.outbound);
                row(&mut self.outbound);
                return Ok(());
            }
        };
        self.stream.write_all(&self.outbound)?;
        self.outbound.clear();
        let each = block.len() / of as usize;
        let mut left = count;
        while left > 0 {
            let now = left.min(of);
            self.stream.write_all(&block[..now as usize * each])?;
            left -= now;
        }
        if word == "rows" {
            encode::command_complete(&mut self.outbound, "SELECT 0");
        } else {
            self.outbound.extend_from_slice(b"c\0\0\0\x04");
            encode::command_complete(&mut self.outbound, "COPY 0");
        }
        Ok(())
    }
}

const PARAMETERS: [(&str, &str); 13] = [
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "off"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.0"),
    ("session_authorization", "app"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "Etc/UTC"),
];

fn description(out: &mut Vec<u8>) {
    encode::row_description(out, &[Column { name: "abalance", kind: ColumnType::Int8 }]);
}

fn row(out: &mut Vec<u8>) {
    encode::data_row(out, [Some(&b"1234567"[..])].into_iter());
    encode::command_complete(out, "SELECT 1");
}

/// A client's connection.
pub struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects and logs in, with no password.
    pub fn connect(address: SocketAddr, user: &str, database: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut client = Client { stream, request: Vec::new(), buffer: vec![0; 1 << 20] };
        let parameters = [("user", user), ("database", database), ("application_name", "bench")];
        encode::startup(&mut client.request, startup::PROTOCOL_3_0, parameters.into_iter());
        client.ask()?;
        Ok(client)
    }

    /// Makes `kind` what `ask` asks for.
    pub fn prepare(&mut self, kind: Kind) -> io::Result<()> {
        let sql = "SELECT abalance FROM pgbench_accounts WHERE aid = 1";
        self.request.clear();
        let request = &mut self.request;
        let execute = |buf: &mut Vec<u8>, statement: &[u8]| {
            encode::message(buf, b'B', |buf| {
                encode::cstr(buf, b"");
                encode::cstr(buf, statement);
                buf.extend_from_slice(&[0; 6]);
            });
            encode::describe(buf, b'P', b"");
            encode::message(buf, b'E', |buf| buf.extend_from_slice(&[0; 5]));
            buf.extend_from_slice(encode::SYNC);
        };
        let text = |buf: &mut Vec<u8>| {
            encode::cstr(buf, sql.as_bytes());
            buf.extend_from_slice(&[0, 0]);
        };
        let mut parsed = Vec::new();
        text(&mut parsed);
        match kind {
            Kind::Simple => encode::query(request, sql),
            Kind::Extended => {
                encode::parse(request, b"", &parsed);
                execute(request, b"");
            }
            Kind::Prepared => {
                encode::parse(request, b"s1", &parsed);
                request.extend_from_slice(encode::SYNC);
                self.ask()?;
                self.request.clear();
                execute(&mut self.request, b"s1");
            }
            Kind::Rows(count) => encode::query(request, format!("rows {count}")),
            Kind::Copy(count) => encode::query(request, format!("copy {count}")),
            Kind::Pages(count) => encode::query(request, format!("pages {count}")),
        }
        Ok(())
    }

    /// Asks, and reads up to ReadyForQuery. Returns the bytes of the answer.
    pub fn ask(&mut self) -> io::Result<u64> {
        self.ask_and_read(usize::MAX, Duration::ZERO)
    }

    /// The same, with a pause behind every read, which brings at most `most` bytes.
    pub fn ask_and_read(&mut self, most: usize, pause: Duration) -> io::Result<u64> {
        self.stream.write_all(&self.request)?;
        let (mut total, mut tail) = (0, [0; 6]);
        let most = most.min(self.buffer.len());
        loop {
            let n = self.stream.read(&mut self.buffer[..most])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if total == 0 && self.buffer[0] == b'E' {
                let text = String::from_utf8_lossy(&self.buffer[..n.min(300)]).into_owned();
                return Err(io::Error::other(text));
            }
            total += n as u64;
            let last = n.min(6);
            tail.copy_within(last.., 0);
            tail[6 - last..].copy_from_slice(&self.buffer[n - last..n]);
            if tail == *b"Z\0\0\0\x05I" {
                return Ok(total);
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    }

    /// Says goodbye, and waits until the other side has closed.
    pub fn leave(mut self) -> io::Result<()> {
        self.stream.write_all(encode::TERMINATE)?;
        self.stream.read(&mut self.buffer).map(drop)
    }
}
