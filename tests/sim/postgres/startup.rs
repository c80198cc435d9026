//! From the first byte to the first ReadyForQuery: SSLRequest, startup packet, proof, parameters.
//! After `ProcessStartupPacket`, `ClientAuthentication` and `process_startup_options`.

use std::collections::BTreeMap;

use pgdog::base::rng::Rng;

use super::auth::{ScramServer, md5_answer};
use super::backend::{Backend, Phase};
use super::error::PgError;
use super::guc::Gucs;
use super::session::Session;
use super::shared::{Method, Refuse, Shared};
use crate::frame::{Frame, Reader, body};

/// `MAX_STARTUP_PACKET_LENGTH`
const STARTUP_BYTES_MAX: i32 = 10_000;

/// What the startup packet asked for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub user: String,
    pub database: String,
    pub minor: u16,
    options: Option<String>,
    settings: Vec<(String, String)>,
}

/// Where the proof stands.
pub enum Proof {
    Plain,
    Md5 { salt: [u8; 4] },
    ScramFirst,
    ScramLast(Box<ScramServer>),
}

/// What a packet of the startup phase was.
pub enum Packet {
    Cancel {
        pid: i32,
        secret: Vec<u8>,
    },
    /// Handled, or more bytes are needed.
    Other,
}

impl Backend {
    /// Takes one packet; `None` when none is complete.
    pub fn startup_packet(&mut self, shared: &mut Shared, live: usize) -> Option<Packet> {
        let header = self.input.get(..4)?;
        let length = i32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if length < 8 || length - 4 > STARTUP_BYTES_MAX {
            self.close();
            return Some(Packet::Other);
        }
        if self.input.len() < length as usize {
            return None;
        }
        let packet: Vec<u8> = self.input.drain(..length as usize).skip(4).collect();
        let code = i32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
        match code {
            80_877_102 => {
                self.close();
                let pid = Reader(&packet[4..]).i32().unwrap_or(0);
                return Some(Packet::Cancel { pid, secret: packet.get(8..).unwrap_or(&[]).to_vec() });
            }
            80_877_103 if !self.ssl_asked => {
                self.ssl_asked = true;
                if shared.config.ssl && shared.config.refuse != Refuse::Silent {
                    self.gss_asked = true;
                    self.sealing = true;
                    self.out.raw(b"S");
                    self.out.flush();
                } else {
                    self.refuse_encryption(shared);
                }
            }
            80_877_104 if !self.gss_asked => {
                self.gss_asked = true;
                self.refuse_encryption(shared);
            }
            _ => {
                if let Err(error) = self.login(shared, code, &packet[4..], live) {
                    self.fatal(error);
                }
            }
        }
        Some(Packet::Other)
    }

    fn refuse_encryption(&mut self, shared: &Shared) {
        if shared.config.refuse == Refuse::Silent {
            self.silent = true;
            return;
        }
        self.out.raw(b"N");
        self.out.flush();
    }

    fn login(&mut self, shared: &mut Shared, code: i32, packet: &[u8], live: usize) -> Result<(), PgError> {
        let (major, minor) = (code >> 16, (code & 0xffff) as u16);
        if major != 3 {
            let text =
                format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{}", {
                    shared.config.protocol_minor
                });
            if major < 3 {
                self.out.raw(format!("EFATAL:  {text}\n\0").as_bytes());
                self.out.flush();
                self.close();
                return Ok(());
            }
            return Err(PgError::fatal("0A000", text));
        }
        let (wish, unknown) = read_wish(packet, minor)?;
        if minor > shared.config.protocol_minor || !unknown.is_empty() {
            let known = minor.min(shared.config.protocol_minor);
            let mut message = body().i32(3 << 16 | i32::from(known)).i32(unknown.len() as i32);
            for name in &unknown {
                message = message.text(name);
            }
            self.out.put(b'v', &message.0);
        }
        if wish.user.is_empty() {
            return Err(PgError::fatal("28000", "no PostgreSQL user name specified in startup packet"));
        }
        match shared.config.refuse {
            Refuse::No => {}
            Refuse::StartingUp => return Err(PgError::fatal("57P03", "the database system is starting up")),
            Refuse::ShuttingDown => {
                return Err(PgError::fatal("57P03", "the database system is shutting down"));
            }
            Refuse::Close => {
                self.close();
                return Ok(());
            }
            Refuse::Silent => {
                self.silent = true;
                return Ok(());
            }
        }
        if live >= shared.config.connections_max {
            return Err(PgError::fatal("53300", "sorry, too many clients already"));
        }
        let method = shared.config.users.get(&wish.user).cloned().unwrap_or(Method::Trust);
        self.wish = Wish { minor: wish.minor.min(shared.config.protocol_minor), ..wish };
        self.is_client = true;
        match method {
            Method::Trust => return self.logged_in(shared),
            Method::Plain(_) => {
                self.out.put(b'R', &body().i32(3).0);
                self.phase = Phase::Auth(Proof::Plain);
            }
            Method::Md5(_) => {
                let mut salt = [0; 4];
                self.rng.fill(&mut salt);
                self.out.put(b'R', &body().i32(5).bytes(&salt).0);
                self.phase = Phase::Auth(Proof::Md5 { salt });
            }
            Method::Scram(_) => {
                self.out.put(b'R', &body().i32(10).text("SCRAM-SHA-256").u8(0).0);
                self.phase = Phase::Auth(Proof::ScramFirst);
            }
        }
        self.out.flush();
        Ok(())
    }

    /// A message while a proof is awaited.
    pub fn proof(&mut self, shared: &mut Shared, proof: Proof, frame: &Frame) -> Result<(), PgError> {
        if frame.tag != b'p' {
            let what = if matches!(proof, Proof::Plain | Proof::Md5 { .. }) { "password" } else { "SASL" };
            return Err(PgError::fatal(
                "08P01",
                format!("expected {what} response, got message type {}", frame.tag),
            ));
        }
        let user = self.wish.user.clone();
        let wrong = || PgError::fatal("28P01", format!("password authentication failed for user \"{user}\""));
        let malformed = || PgError::fatal("08P01", "malformed SCRAM message");
        let method = shared.config.users.get(&user).cloned();
        let mut reader = Reader(&frame.body);
        match (proof, method) {
            (Proof::Plain, Some(Method::Plain(password))) => {
                let given = reader.text()?;
                if given.is_empty() {
                    return Err(PgError::fatal("28P01", "empty password returned by client"));
                }
                if given != password {
                    return Err(wrong());
                }
            }
            (Proof::Md5 { salt }, Some(Method::Md5(password))) => {
                let given = reader.text()?;
                if given.is_empty() {
                    return Err(PgError::fatal("28P01", "empty password returned by client"));
                }
                if given != md5_answer(&user, &password, &salt) {
                    return Err(wrong());
                }
            }
            (Proof::ScramFirst, Some(Method::Scram(password))) => {
                if reader.text()? != "SCRAM-SHA-256" {
                    let text = "client selected an invalid SASL authentication mechanism";
                    return Err(PgError::fatal("08P01", text));
                }
                let first = String::from_utf8_lossy(&reader.value()?.unwrap_or_default()).into_owned();
                let nonce = format!("{:016x}", self.rng.next_u64());
                let salt = &super::auth::sha256(user.as_bytes())[..16];
                let iterations = shared.config.scram_iterations;
                let (server, answer) =
                    ScramServer::start(&first, &password, salt, iterations, &nonce).ok_or_else(malformed)?;
                self.out.put(b'R', &body().i32(11).bytes(answer.as_bytes()).0);
                self.out.flush();
                self.phase = Phase::Auth(Proof::ScramLast(Box::new(server)));
                return Ok(());
            }
            (Proof::ScramLast(server), _) => {
                let last = String::from_utf8_lossy(&frame.body);
                let answer = server.finish(&last).ok_or_else(wrong)?;
                self.out.put(b'R', &body().i32(12).bytes(answer.as_bytes()).0);
            }
            _ => return Err(wrong()),
        }
        self.logged_in(shared)
    }

    fn logged_in(&mut self, shared: &mut Shared) -> Result<(), PgError> {
        self.out.put(b'R', &body().i32(0).0);
        let wish = std::mem::take(&mut self.wish);
        if !shared.config.users.contains_key(&wish.user) {
            return Err(PgError::fatal("28000", format!("role \"{}\" does not exist", wish.user)));
        }
        if !shared.config.databases.contains(&wish.database) {
            return Err(PgError::fatal("3D000", format!("database \"{}\" does not exist", wish.database)));
        }
        let mut fixed: BTreeMap<String, String> = shared.config.settings.clone();
        fixed.insert("session_authorization".into(), wish.user.clone());
        fixed.insert("max_connections".into(), shared.config.connections_max.to_string());
        let mut gucs = Gucs::new(&fixed);
        let as_fatal = |error: PgError| PgError::fatal(error.code, error.message);
        for (name, value) in command_line(wish.options.as_deref().unwrap_or(""))? {
            gucs.at_start(&name, &value).map_err(as_fatal)?;
        }
        for (name, value) in &wish.settings {
            gucs.at_start(name, value).map_err(as_fatal)?;
        }
        for (name, value) in gucs.unreported() {
            self.out.put(b'S', &body().text(name).text(&value).0);
        }
        let length = if wish.minor >= 2 { 32 } else { 4 };
        self.secret = vec![0; length];
        self.rng.fill(&mut self.secret);
        let key = body().i32(self.pid).bytes(&self.secret).0;
        self.out.put(b'K', &key);
        self.session = Some(Session::new(self.pid, wish.user, wish.database, gucs));
        self.phase = Phase::Ready;
        self.ready = true;
        Ok(())
    }
}

fn read_wish(packet: &[u8], minor: u16) -> Result<(Wish, Vec<String>), PgError> {
    let layout =
        || PgError::fatal("08P01", "invalid startup packet layout: expected terminator as last byte");
    let mut wish = Wish { minor, ..Wish::default() };
    let mut unknown = Vec::new();
    let mut reader = Reader(packet);
    loop {
        let name = reader.text().map_err(|_| layout())?;
        if name.is_empty() {
            break;
        }
        let value = reader.text().map_err(|_| layout())?;
        match name.as_str() {
            "user" => wish.user = value,
            "database" => wish.database = value,
            "options" => wish.options = Some(value),
            "replication" => {}
            _ if name.starts_with("_pq_.") => unknown.push(name),
            _ => wish.settings.push((name, value)),
        }
    }
    if !reader.0.is_empty() {
        return Err(layout());
    }
    if wish.database.is_empty() {
        wish.database.clone_from(&wish.user);
    }
    Ok((wish, unknown))
}

/// `-c name=value` and `--name=value`, words split at blanks, a backslash protects.
fn command_line(options: &str) -> Result<Vec<(String, String)>, PgError> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_ascii_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    let mut out = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.as_str() {
            "-c" => words.next().unwrap_or_default(),
            other => match other.strip_prefix("--").or_else(|| other.strip_prefix("-c")) {
                Some(setting) => setting.to_string(),
                None => {
                    let text = format!("invalid command-line argument for server process: {word}");
                    return Err(PgError::fatal("42601", text));
                }
            },
        };
        let Some((name, value)) = setting.split_once('=') else {
            return Err(PgError::fatal("42601", format!("-c {setting} requires a value")));
        };
        out.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(out)
}
