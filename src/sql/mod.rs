//! What a session must know of a statement's text.
//!
//! ```text
//!  text ──► lexer ──► scan: where statements end, which functions they call ──► statements: command and effects
//! ```
//!
//! [`statements`] reads a Query or Parse and says for each statement what it does to the state of its session:
//! exactly where the tokens tell, and with more effects than it may have where they do not. It never says less, with
//! these exceptions, which no text shows: what views, triggers, rules, defaults, operators, casts, domains and row
//! security policies call, and functions called as columns (`t.f`).
//!
//! Owns no state of sessions and decides nothing about servers. Nothing here panics or allocates for any text, except
//! for values that are asked for.

pub mod command;
pub mod effects;
pub mod functions;
pub mod lexer;
pub mod outline;
pub mod value;
pub mod word;

mod scan;

use crate::base::limits::GATE_BYTES_MAX;
use crate::sql::command::Command;
use crate::sql::effects::Effects;
use crate::sql::scan::Scan;

/// The settings under which a server reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// standard_conforming_strings.
    pub conforming_strings: bool,
    pub encoding: Encoding,
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

impl Default for Reading {
    fn default() -> Reading {
        Reading { conforming_strings: true, encoding: Encoding::Safe }
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
pub fn statements(text: &[u8], reading: Reading) -> Statements<'_> {
    let readable = text.len() <= GATE_BYTES_MAX && (reading.encoding == Encoding::Safe || text.is_ascii());
    Statements(if readable { Source::Scan(Scan::new(text, reading)) } else { Source::Unreadable(text) })
}

/// See [`statements`].
#[derive(Clone, Debug)]
pub struct Statements<'t>(Source<'t>);

#[derive(Clone, Debug)]
enum Source<'t> {
    Scan(Scan<'t>),
    /// To be said yet as one statement.
    Unreadable(&'t [u8]),
    End,
}

impl Statements<'_> {
    /// Whether standard_conforming_strings may change what has been said so far: a backslash stands in a string that
    /// leaves its meaning to it.
    pub fn setting_matters(&self) -> bool {
        match &self.0 {
            Source::Scan(scan) => scan.lexer().setting_matters(),
            _ => true,
        }
    }
}

impl<'t> Iterator for Statements<'t> {
    type Item = Statement<'t>;

    fn next(&mut self) -> Option<Statement<'t>> {
        match &mut self.0 {
            Source::Scan(scan) => {
                let start = scan.begin()?;
                let command = scan.command();
                let text = &scan.text()[start..scan.end()];
                Some(Statement { start, text, command, effects: scan.effects })
            }
            Source::Unreadable(text) => {
                let text = *text;
                self.0 = Source::End;
                Some(Statement { start: 0, text, command: Command::Other, effects: Effects::UNREADABLE })
            }
            Source::End => None,
        }
    }
}
