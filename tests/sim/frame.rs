//! The wire format, written a second time: builders of client and server messages, a splitter and a printer.
//!
//! Owns nothing of the crate under test, so that a mistake there is not repeated here. Follows the PostgreSQL
//! manual, "Frontend/Backend Protocol", section "Message Formats".

/// One message with a tag. `body` is what follows the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    pub body: Vec<u8>,
}

/// Writes the body of one message.
#[derive(Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn u8(mut self, value: u8) -> Body {
        self.0.push(value);
        self
    }

    pub fn i16(mut self, value: i16) -> Body {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn i32(mut self, value: i32) -> Body {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Body {
        self.0.extend(bytes);
        self
    }

    /// A string with its terminating zero.
    pub fn text(self, text: &str) -> Body {
        self.bytes(text.as_bytes()).u8(0)
    }

    /// A length and the bytes; -1 for NULL.
    pub fn value(self, value: Option<&[u8]>) -> Body {
        match value {
            Some(bytes) => self.i32(bytes.len() as i32).bytes(bytes),
            None => self.i32(-1),
        }
    }

    pub fn tagged(self, tag: u8) -> Vec<u8> {
        let mut out = vec![tag];
        out.extend((self.0.len() as i32 + 4).to_be_bytes());
        out.extend(self.0);
        out
    }

    /// A startup-style packet: a length, no tag.
    pub fn untagged(self) -> Vec<u8> {
        let mut out = (self.0.len() as i32 + 4).to_be_bytes().to_vec();
        out.extend(self.0);
        out
    }
}

pub fn body() -> Body {
    Body::default()
}

pub fn startup(major: u16, minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = body().i32(i32::from(major) << 16 | i32::from(minor));
    for (name, value) in parameters {
        packet = packet.text(name).text(value);
    }
    packet.u8(0).untagged()
}

pub fn ssl_request() -> Vec<u8> {
    body().i32(80_877_103).untagged()
}

pub fn gss_request() -> Vec<u8> {
    body().i32(80_877_104).untagged()
}

pub fn cancel_request(pid: i32, secret: &[u8]) -> Vec<u8> {
    body().i32(80_877_102).i32(pid).bytes(secret).untagged()
}

pub fn query(text: &str) -> Vec<u8> {
    body().text(text).tagged(b'Q')
}

pub fn parse(name: &str, text: &str, types: &[i32]) -> Vec<u8> {
    let mut message = body().text(name).text(text).i16(types.len() as i16);
    for oid in types {
        message = message.i32(*oid);
    }
    message.tagged(b'P')
}

/// Parameters in text format, results in the formats given.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>], results: &[i16]) -> Vec<u8> {
    let bytes: Vec<_> = parameters.iter().map(|value| value.map(str::as_bytes)).collect();
    bind_formats(portal, statement, &[], &bytes, results)
}

pub fn bind_formats(
    portal: &str,
    statement: &str,
    formats: &[i16],
    parameters: &[Option<&[u8]>],
    results: &[i16],
) -> Vec<u8> {
    let mut message = body().text(portal).text(statement).i16(formats.len() as i16);
    for format in formats {
        message = message.i16(*format);
    }
    message = message.i16(parameters.len() as i16);
    for value in parameters {
        message = message.value(*value);
    }
    message = message.i16(results.len() as i16);
    for format in results {
        message = message.i16(*format);
    }
    message.tagged(b'B')
}

/// `kind` is `b'S'` for a statement, `b'P'` for a portal.
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    body().u8(kind).text(name).tagged(b'D')
}

pub fn execute(portal: &str, rows_max: i32) -> Vec<u8> {
    body().text(portal).i32(rows_max).tagged(b'E')
}

pub fn close(kind: u8, name: &str) -> Vec<u8> {
    body().u8(kind).text(name).tagged(b'C')
}

pub fn flush() -> Vec<u8> {
    body().tagged(b'H')
}

pub fn sync() -> Vec<u8> {
    body().tagged(b'S')
}

pub fn terminate() -> Vec<u8> {
    body().tagged(b'X')
}

pub fn copy_data(bytes: &[u8]) -> Vec<u8> {
    body().bytes(bytes).tagged(b'd')
}

pub fn copy_done() -> Vec<u8> {
    body().tagged(b'c')
}

pub fn copy_fail(reason: &str) -> Vec<u8> {
    body().text(reason).tagged(b'f')
}

pub fn password(bytes: &[u8]) -> Vec<u8> {
    body().bytes(bytes).tagged(b'p')
}

/// Arguments and result in text format.
pub fn function_call(oid: i32, arguments: &[Option<&str>]) -> Vec<u8> {
    let mut message = body().i32(oid).i16(0).i16(arguments.len() as i16);
    for argument in arguments {
        message = message.value(argument.map(str::as_bytes));
    }
    message.i16(0).tagged(b'F')
}

/// Longer than any message the simulation makes: a length beyond it is a lie.
pub const FRAME_BYTES_MAX: i32 = 64 << 20;

/// Takes the first complete message off `bytes`.
///
/// # Errors
/// The length is below 4 or beyond [`FRAME_BYTES_MAX`].
pub fn take_frame(bytes: &mut Vec<u8>) -> Result<Option<Frame>, String> {
    let Some(header) = bytes.get(1..5) else { return Ok(None) };
    let length = i32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    if !(4..=FRAME_BYTES_MAX).contains(&length) {
        return Err(format!("frame {:?} with length {length}", bytes[0] as char));
    }
    let end = 1 + length as usize;
    if bytes.len() < end {
        return Ok(None);
    }
    let rest = bytes.split_off(end);
    let mut taken = std::mem::replace(bytes, rest);
    let tag = taken[0];
    taken.drain(..5);
    Ok(Some(Frame { tag, body: taken }))
}

/// Splits `bytes` into messages; what remains stays in `bytes`. Linear, whatever the number of messages.
///
/// # Errors
/// As [`take_frame`].
pub fn take_frames(bytes: &mut Vec<u8>) -> Result<Vec<Frame>, String> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at + 1..at + 5) {
        let length = i32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if !(4..=FRAME_BYTES_MAX).contains(&length) {
            return Err(format!("frame {:?} with length {length}", bytes[at] as char));
        }
        let end = at + 1 + length as usize;
        if bytes.len() < end {
            break;
        }
        frames.push(Frame { tag: bytes[at], body: bytes[at + 5..end].to_vec() });
        at = end;
    }
    bytes.drain(..at);
    Ok(frames)
}

/// Reads a body; every method fails on a body that is too short.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        if count > self.0.len() {
            return Err("insufficient data left in message".into());
        }
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8, String> {
        self.take(1).map(|b| b[0]).map_err(|_| "no data left in message".into())
    }

    pub fn i16(&mut self) -> Result<i16, String> {
        self.take(2).map(|b| i16::from_be_bytes([b[0], b[1]]))
    }

    pub fn i32(&mut self) -> Result<i32, String> {
        self.take(4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub fn text(&mut self) -> Result<String, String> {
        let end = self.0.iter().position(|b| *b == 0).ok_or("invalid string in message")?;
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    pub fn value(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.i32()? {
            -1 => Ok(None),
            length if length >= 0 => self.take(length as usize).map(|b| Some(b.to_vec())),
            length => Err(format!("value of length {length}")),
        }
    }
}

impl Frame {
    /// The fields of ErrorResponse or NoticeResponse.
    pub fn field(&self, code: u8) -> Option<String> {
        let mut reader = Reader(&self.body);
        while let Ok(kind) = reader.u8() {
            if kind == 0 {
                return None;
            }
            let text = reader.text().ok()?;
            if kind == code {
                return Some(text);
            }
        }
        None
    }

    /// The values of a DataRow as text.
    pub fn row(&self) -> Result<Vec<Option<String>>, String> {
        let mut reader = Reader(&self.body);
        let mut values = Vec::new();
        for _ in 0..reader.i16()? {
            values.push(reader.value()?.map(|v| String::from_utf8_lossy(&v).into_owned()));
        }
        if reader.0.is_empty() { Ok(values) } else { Err("DataRow with bytes left over".into()) }
    }

    /// The text of CommandComplete.
    pub fn tag_text(&self) -> Result<String, String> {
        Reader(&self.body).text()
    }

    /// One line for a message of a server, without what differs between two runs (pids, secrets, file and line,
    /// OIDs of tables, salts, the version).
    pub fn print(&self) -> String {
        self.try_print().unwrap_or_else(|why| format!("{:?} malformed: {why}", self.tag as char))
    }

    fn try_print(&self) -> Result<String, String> {
        let mut r = Reader(&self.body);
        Ok(match self.tag {
            b'R' => match r.i32()? {
                0 => "AuthenticationOk".into(),
                3 => "AuthenticationCleartextPassword".into(),
                5 => format!("AuthenticationMD5Password salt of {}", r.0.len()),
                10 => {
                    let mut names = Vec::new();
                    loop {
                        match r.text()? {
                            name if name.is_empty() => break,
                            name => names.push(name),
                        }
                    }
                    format!("AuthenticationSASL {}", names.join(" "))
                }
                11 => "AuthenticationSASLContinue".into(),
                12 => "AuthenticationSASLFinal".into(),
                other => format!("Authentication {other}"),
            },
            b'S' => {
                let name = r.text()?;
                let value = r.text()?;
                let value = if name == "server_version" { "15".into() } else { value };
                format!("ParameterStatus {name} = {value}")
            }
            b'K' => format!("BackendKeyData of {}", self.body.len()),
            b'Z' => format!("ReadyForQuery {}", r.u8()? as char),
            b'C' => format!("CommandComplete {}", r.text()?),
            b'D' => {
                let mut values = Vec::new();
                for _ in 0..r.i16()? {
                    values.push(
                        r.value()?.map_or("NULL".into(), |v| format!("{:?}", String::from_utf8_lossy(&v))),
                    );
                }
                format!("DataRow {}", values.join(" "))
            }
            b'T' => {
                let mut columns = Vec::new();
                for _ in 0..r.i16()? {
                    let name = r.text()?;
                    let table = if r.i32()? == 0 { "-" } else { "table" };
                    let (number, oid, length) = (r.i16()?, r.i32()?, r.i16()?);
                    let (modifier, format) = (r.i32()?, r.i16()?);
                    columns.push(format!("{name}({table}.{number} {oid} {length} {modifier} {format})"));
                }
                format!("RowDescription {}", columns.join(" "))
            }
            b't' => {
                let mut types = Vec::new();
                for _ in 0..r.i16()? {
                    types.push(r.i32()?.to_string());
                }
                format!("ParameterDescription {}", types.join(" "))
            }
            b'E' | b'N' => format!(
                "{} {} {} {}",
                if self.tag == b'E' { "ErrorResponse" } else { "NoticeResponse" },
                self.field(b'S').unwrap_or_default(),
                self.field(b'C').unwrap_or_default(),
                self.field(b'M').unwrap_or_default()
            ),
            b'A' => {
                let _pid = r.i32()?;
                format!("NotificationResponse {} {:?}", r.text()?, r.text()?)
            }
            b'G' | b'H' | b'W' => {
                let format = r.u8()?;
                let mut columns = Vec::new();
                for _ in 0..r.i16()? {
                    columns.push(r.i16()?.to_string());
                }
                format!("Copy{}Response {format} [{}]", self.tag as char, columns.join(" "))
            }
            b'd' => format!("CopyData {:?}", String::from_utf8_lossy(r.0)),
            b'V' => {
                format!(
                    "FunctionCallResponse {:?}",
                    r.value()?.map(|v| String::from_utf8_lossy(&v).into_owned())
                )
            }
            b'v' => {
                let (version, count) = (r.i32()?, r.i32()?);
                let mut names = Vec::new();
                for _ in 0..count {
                    names.push(r.text()?);
                }
                format!(
                    "NegotiateProtocolVersion {}.{} [{}]",
                    version >> 16,
                    version & 0xffff,
                    names.join(" ")
                )
            }
            b'1' => "ParseComplete".into(),
            b'2' => "BindComplete".into(),
            b'3' => "CloseComplete".into(),
            b'I' => "EmptyQueryResponse".into(),
            b's' => "PortalSuspended".into(),
            b'n' => "NoData".into(),
            b'c' => "CopyDone".into(),
            other => format!("{:?} of {}", other as char, self.body.len()),
        })
    }
}
