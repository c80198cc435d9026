//! A client's prepared statements, by its own names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::limits::CLIENT_STATEMENTS_MAX;
use crate::cluster::settings::Settings;
use crate::cluster::statements::Statement;
use crate::session::exchange::{Defines, Exchange, Forgets, Note, Order, Settles};
use crate::sql::effects::Effects;
use crate::sql::outline::Outline;

/// What a text does, and where that does not tell all, the text.
pub type Described = (Outline, Box<[u8]>);

/// What a name of the client's stands for.
#[derive(Clone, Debug)]
pub struct Named {
    pub statement: Arc<Statement>,
    /// Tells it apart from what the name stood for before.
    pub number: u32,
    pub trust: Trust,
}

/// Which shape a client has been promised for a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// None: no server has read it since the client prepared it. Tables may have changed since others did.
    Unsettled,
    /// None yet: in this checkout the server is reading it.
    Settling(u32),
    /// That of its `Statement`: a server that would now give it another must not run it.
    Settled,
    /// A server would: the client is to be told so once, and starts again.
    Outdated,
}

#[derive(Debug, Default)]
pub struct ClientStatements {
    named: BTreeMap<Box<[u8]>, Named>,
    /// Counts what was named.
    last_number: u32,
    pub unnamed: UnnamedStatement,
    /// Counts the client's unnamed statements.
    pub version: u32,
    /// Names that are passed through and stand for a COPY FROM STDIN.
    pub copies: Vec<Box<[u8]>>,
    /// Statements of SQL's own PREPARE, with their texts where the outline does not tell all.
    in_sql: BTreeMap<Box<[u8]>, Described>,
    /// The settings under which the unnamed statement was read.
    read_under: Option<Arc<Settings>>,
}

/// The client's unnamed statement, kept for a server that does not have it.
#[derive(Debug, Default)]
pub enum UnnamedStatement {
    #[default]
    None,
    Kept {
        version: u32,
        /// The body of Parse behind the name.
        body: Vec<u8>,
        is_copy: bool,
        outline: Outline,
    },
    /// There is one, but only its server knows it: it was too long to keep.
    Lost { version: u32, is_copy: bool },
}

impl ClientStatements {
    pub fn find(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.named.get(name).map(|named| &named.statement)
    }

    pub fn named(&self, name: &[u8]) -> Option<&Named> {
        self.named.get(name)
    }

    pub fn named_mut(&mut self, name: &[u8]) -> Option<&mut Named> {
        self.named.get_mut(name)
    }

    /// What a server has been asked about, if the name still stands for it.
    pub fn settling_mut(&mut self, settle: &Settles) -> Option<&mut Named> {
        self.named.get_mut(&settle.name).filter(|named| named.number == settle.number)
    }

    /// What got this number: looks through all of them.
    pub fn numbered_mut(&mut self, number: u32) -> Option<&mut Named> {
        self.named.values_mut().find(|named| named.number == number)
    }

    /// A name is prepared. Returns its number.
    pub fn define(&mut self, name: &[u8], statement: Arc<Statement>, trust: Trust) -> u32 {
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        self.named.insert(name.into(), Named { statement, number, trust });
        number
    }

    pub fn forget(&mut self, name: &[u8]) -> Option<Named> {
        self.named.remove(name)
    }

    /// DISCARD ALL, DEALLOCATE ALL.
    pub fn forget_all(&mut self) {
        self.named.clear();
        self.in_sql.clear();
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<Statement>)> {
        self.named.iter().map(|(name, named)| (&**name, &named.statement))
    }

    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// PREPARE of SQL. A name that cannot be told, and one too many, are not remembered.
    pub fn prepared_in_sql(&mut self, name: Option<&[u8]>, outline: Outline, text: &[u8]) {
        if let Some(name) = name
            && self.in_sql.len() < CLIENT_STATEMENTS_MAX
        {
            let is_read_again = outline.looks_again || outline.effects.any(Effects::UNKNOWN_FUNCTION);
            let text = if is_read_again { text } else { &[] };
            self.in_sql.insert(name.into(), (outline, text.into()));
        }
    }

    pub fn is_in_sql(&self, name: &[u8]) -> bool {
        self.in_sql.contains_key(name)
    }

    /// What EXECUTE of a name runs, whichever protocol has prepared it.
    pub fn text_by_name(&self, name: &[u8]) -> Option<Described> {
        let extended = self.find(name).map(|statement| (statement.outline, statement.key.body.clone()));
        extended.or_else(|| self.in_sql.get(name).cloned())
    }

    /// What the unnamed statement does, if it has this body and is read under the same settings.
    pub fn unnamed_outline(&self, parsed: &[u8], settings: &Arc<Settings>) -> Option<Outline> {
        let same = self.read_under.as_ref().is_some_and(|under| Arc::ptr_eq(under, settings));
        match &self.unnamed {
            UnnamedStatement::Kept { body, outline, .. } if same && **body == *parsed => Some(*outline),
            _ => None,
        }
    }

    /// Keeps the unnamed statement whose Parse has this body (behind the name), and returns its version.
    pub fn keep_unnamed(&mut self, parsed: &[u8], outline: Outline, settings: &Arc<Settings>) -> u32 {
        if self.read_under.as_ref().is_none_or(|under| !Arc::ptr_eq(under, settings)) {
            self.read_under = Some(settings.clone());
        }
        self.version = self.version.wrapping_add(1);
        let is_copy = is_copy(parsed);
        let mut body = match std::mem::take(&mut self.unnamed) {
            UnnamedStatement::Kept { mut body, .. } => {
                body.clear();
                body
            }
            _ => Vec::new(),
        };
        body.extend_from_slice(parsed);
        self.unnamed = UnnamedStatement::Kept { version: self.version, body, is_copy, outline };
        self.version
    }

    pub fn lose_unnamed(&mut self, is_copy: bool) -> u32 {
        self.version = self.version.wrapping_add(1);
        self.unnamed = UnnamedStatement::Lost { version: self.version, is_copy };
        self.version
    }

    /// Undoes what messages meant that the server ignored, the last one first. The first of them is the one that
    /// failed, if `failed`.
    pub fn undo(&mut self, dropped: &[Exchange]) {
        for exchange in dropped.iter().rev() {
            match &exchange.note {
                Note::Defines(define) => {
                    let Defines { name, number, .. } = &**define;
                    if self.named.get(name).is_some_and(|now| now.number == *number) {
                        self.named.remove(name);
                    }
                }
                Note::Forgets(forget) => {
                    let Forgets { name, named } = &**forget;
                    self.named.insert(name.clone(), named.clone());
                }
                Note::Settles(settle) => {
                    if let Some(named) = self.settling_mut(settle)
                        && matches!(named.trust, Trust::Settling(_))
                    {
                        named.trust = Trust::Unsettled;
                    }
                }
                // The one before it is not known any more; who binds it gets an error.
                // One that we have sent again ourselves is still the client's.
                Note::Unnamed(version)
                    if exchange.order == Order::Forward && self.unnamed.version() == Some(*version) =>
                {
                    self.unnamed = UnnamedStatement::None;
                }
                _ => {}
            }
        }
    }
}

impl UnnamedStatement {
    pub fn version(&self) -> Option<u32> {
        match self {
            UnnamedStatement::None => None,
            UnnamedStatement::Kept { version, .. } | UnnamedStatement::Lost { version, .. } => Some(*version),
        }
    }

    pub fn is_copy(&self) -> bool {
        matches!(
            self,
            UnnamedStatement::Kept { is_copy: true, .. } | UnnamedStatement::Lost { is_copy: true, .. }
        )
    }
}

/// Whether a statement's first word is COPY: its Execute may begin a COPY FROM STDIN. Comments before it are passed
/// over as PostgreSQL does, nested ones too.
pub fn is_copy(text: &[u8]) -> bool {
    // Mostly the first letter tells.
    text.first().is_some_and(|first| !first.is_ascii_alphabetic() || first | 0x20 == b'c')
        && begins_with_copy(text)
}

fn begins_with_copy(text: &[u8]) -> bool {
    let mut rest = text;
    loop {
        rest = rest.trim_ascii_start();
        if let Some(comment) = rest.strip_prefix(b"--") {
            let Some(end) = comment.iter().position(|&byte| matches!(byte, b'\n' | b'\r')) else {
                return false;
            };
            rest = &comment[end..];
        } else if rest.starts_with(b"/*") {
            let Some(end) = comment_end(rest) else { return false };
            rest = &rest[end..];
        } else {
            let word = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
            return rest[..word].eq_ignore_ascii_case(b"copy");
        }
    }
}

fn comment_end(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < text.len() {
        match &text[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies() {
        for text in
            ["copy t from stdin", " \n/* a /* b */ c */ -- d\nCoPy\tt from stdin", "COPY(select 1) to stdout"]
        {
            assert!(is_copy(text.as_bytes()), "{text}");
        }
        for text in ["", "copying", "select 'copy'", "/* copy", "-- copy t", "/*/ copy */ select", "copy_x"] {
            assert!(!is_copy(text.as_bytes()), "{text}");
        }
    }
}
