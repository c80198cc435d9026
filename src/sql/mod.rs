//! What a session must know of a statement's text.
//!
//! ```text
//!  text ──► lexer ──► scan: where statements end, which functions they call ──► statements: command and effects
//! ```
//!
//! [`statements`] reads a Query or Parse and says for each statement what it does to the state of its session:
//! exactly where the tokens tell, and with more effects than it may have where they do not. It never says less, except of
//! what no text shows: functions behind triggers, views, operators and the like, and overloads of PostgreSQL's own. Of
//! functions that are not PostgreSQL's own a [`Catalog`] of the database can tell that they have no effects.
//!
//! Owns no state of sessions and decides nothing about servers. Nothing here panics or allocates for any text, except
//! for values that are asked for.

pub mod catalog;
pub mod command;
pub mod effects;
pub mod functions;
pub mod lexer;
pub mod outline;
pub mod value;
pub mod word;

mod scan;
#[cfg(test)]
mod tests;

use crate::base::limits::GATE_BYTES_MAX;
use crate::sql::catalog::Catalog;
use crate::sql::command::Command;
use crate::sql::effects::Effects;
use crate::sql::scan::Scan;

/// The settings under which a server reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading<'c> {
    /// standard_conforming_strings.
    pub conforming_strings: bool,
    pub encoding: Encoding,
    /// What the database has said of functions that are not PostgreSQL's own. The names of those are taken for theirs though a
    /// user may have overloaded them.
    pub catalog: Option<&'c Catalog>,
}

/// What must be known of client_encoding to find the end of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No character of several bytes has an ASCII one among them: UTF8, SQL_ASCII, the EUC ones, those of one byte.
    Safe,
    /// The others, which only clients may have: SJIS, BIG5, GBK, UHC, GB18030, JOHAB, SHIFT_JIS_2004, and unknown names.
    Unsafe,
}

impl Encoding {
    /// By the name that PostgreSQL reports.
    pub fn of(client_encoding: &[u8]) -> Encoding {
        const SAFE: [&[u8]; 8] =
            [b"UTF8", b"SQL_ASCII", b"LATIN", b"WIN", b"ISO_8859_", b"KOI8", b"EUC_", b"MULE_INTERNAL"];
        match SAFE.iter().any(|name| client_encoding.starts_with(name)) {
            true => Encoding::Safe,
            false => Encoding::Unsafe,
        }
    }
}

impl Default for Reading<'_> {
    fn default() -> Self {
        Reading { conforming_strings: true, encoding: Encoding::Safe, catalog: None }
    }
}

/// One statement of a text.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'t> {
    /// Where its first token begins in the whole text.
    pub start: usize,
    /// From its first token to its last.
    pub text: &'t [u8],
    pub command: Command<'t>,
    pub effects: Effects,
}

/// The statements of a text, which has no NUL in it.
pub fn statements<'t>(text: &'t [u8], reading: Reading<'t>) -> Statements<'t> {
    let readable = text.len() <= GATE_BYTES_MAX && (reading.encoding == Encoding::Safe || text.is_ascii());
    Statements { scan: Scan::new(text, reading), unreadable: (!readable).then_some(Unreadable::ToBeSaid) }
}

/// See [`statements`].
#[derive(Clone, Debug)]
pub struct Statements<'t> {
    scan: Scan<'t>,
    unreadable: Option<Unreadable>,
}

/// The whole text counts as one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unreadable {
    ToBeSaid,
    Said,
}

impl Statements<'_> {
    /// Whether standard_conforming_strings may change what has been said so far: a backslash stands in a string that
    /// leaves its meaning to it.
    pub fn setting_matters(&self) -> bool {
        self.unreadable.is_some() || self.scan.setting_matters()
    }
}

impl<'t> Iterator for Statements<'t> {
    type Item = Statement<'t>;

    fn next(&mut self) -> Option<Statement<'t>> {
        match &mut self.unreadable {
            None => {}
            Some(Unreadable::Said) => return None,
            Some(unreadable) => {
                *unreadable = Unreadable::Said;
                let (text, effects) = (self.scan.text(), Effects::UNREADABLE);
                return Some(Statement { start: 0, text, command: Command::Other, effects });
            }
        }
        let start = self.scan.begin()?;
        let command = self.scan.command();
        let text = &self.scan.text()[start..self.scan.end()];
        Some(Statement { start, text, command, effects: self.scan.effects })
    }
}
