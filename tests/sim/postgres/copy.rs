//! COPY in text format: rows from bytes and back.

use super::error::PgError;
use super::portal::Column;
use super::sql::Name;
use super::value::{Type, Value};

/// A COPY FROM STDIN under way.
pub struct CopyIn {
    pub name: Name,
    pub temporary: bool,
    pub places: Vec<usize>,
    pub kinds: Vec<(String, Type)>,
    pub rows: u64,
    buffer: Vec<u8>,
    /// The line `\.` has come; the rest is ignored.
    ended: bool,
}

impl CopyIn {
    pub fn new(name: Name, temporary: bool, places: Vec<usize>, kinds: Vec<(String, Type)>) -> CopyIn {
        CopyIn { name, temporary, places, kinds, rows: 0, buffer: Vec::new(), ended: false }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.buffer.extend(bytes);
        }
    }

    /// The next complete row; with `last`, also an unfinished one.
    pub fn row(&mut self, last: bool) -> Result<Option<Vec<Value>>, PgError> {
        if self.ended {
            return Ok(None);
        }
        let line = match self.buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                line
            }
            None if last && !self.buffer.is_empty() => std::mem::take(&mut self.buffer),
            None => return Ok(None),
        };
        if line == b"\\." {
            self.ended = true;
            self.buffer.clear();
            return Ok(None);
        }
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
        let mut values = Vec::new();
        if fields.len() > self.kinds.len() {
            return Err(PgError::error("22P04", "extra data after last expected column"));
        }
        for (at, (name, kind)) in self.kinds.iter().enumerate() {
            let Some(field) = fields.get(at) else {
                return Err(PgError::error("22P04", format!("missing data for column \"{name}\"")));
            };
            values.push(match unescape(field) {
                Some(text) => kind.input(&text)?,
                None => Value::Null,
            });
        }
        self.rows += 1;
        Ok(Some(values))
    }
}

fn unescape(field: &[u8]) -> Option<String> {
    if field == b"\\N" {
        return None;
    }
    let mut out = Vec::new();
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(other) => out.push(*other),
            None => out.push(b'\\'),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// One row as a line of COPY OUT.
pub fn line(row: &[Value], columns: &[Column]) -> Vec<u8> {
    let fields: Vec<String> = row
        .iter()
        .zip(columns)
        .map(|(value, _)| match value.output() {
            None => "\\N".into(),
            Some(text) => {
                text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
            }
        })
        .collect();
    (fields.join("\t") + "\n").into_bytes()
}
