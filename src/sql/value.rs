//! What names and constants in a text mean, as PostgreSQL's lexer and grammar make them.
//!
//! Where the meaning depends on what we do not know (the server's encoding, UESCAPE), there is no value: the caller
//! must do without.

use std::borrow::Cow;

use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::word::{is_plain_identifier, is_word};

/// PostgreSQL's NAMEDATALEN less the terminating zero.
const NAME_BYTES_MAX: usize = 63;

/// A name as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'t> {
    pub kind: Kind,
    pub text: &'t [u8],
}

impl<'t> Name<'t> {
    pub fn of(text: &'t [u8], token: Token) -> Name<'t> {
        Name { kind: token.kind, text: &text[token.start..token.end] }
    }

    /// Folded to lower case or without its quotes, and cut to 63 bytes. None for `U&"…"`, and for letters outside ASCII
    /// where the server's encoding has a say in folding or cutting.
    pub fn value(&self) -> Option<Cow<'t, [u8]>> {
        let value = match self.kind {
            Kind::Word if !self.text.is_ascii() => return None,
            Kind::Word if self.text.iter().any(u8::is_ascii_uppercase) => {
                Cow::Owned(self.text.to_ascii_lowercase())
            }
            Kind::Word => Cow::Borrowed(self.text),
            Kind::Quoted => undouble(self.text.get(1..self.text.len() - 1)?, b'"'),
            // Names where the grammar also takes a string: SET ROLE 'x'.
            Kind::String | Kind::EscapeString | Kind::DollarString => return string(self.kind, self.text),
            _ => return None,
        };
        if value.len() <= NAME_BYTES_MAX {
            return Some(value);
        }
        if !value.is_ascii() {
            return None;
        }
        Some(match value {
            Cow::Borrowed(value) => Cow::Borrowed(&value[..NAME_BYTES_MAX]),
            Cow::Owned(mut value) => {
                value.truncate(NAME_BYTES_MAX);
                Cow::Owned(value)
            }
        })
    }
}

/// The value of a string constant. None for `U&'…'`, bit strings, and escapes that make other than ASCII characters: the
/// server reads those in its own encoding.
pub fn string(kind: Kind, text: &[u8]) -> Option<Cow<'_, [u8]>> {
    match kind {
        Kind::DollarString => {
            let fence = text.iter().skip(1).position(|&byte| byte == b'$')? + 2;
            Some(Cow::Borrowed(text.get(fence..text.len().checked_sub(fence)?)?))
        }
        Kind::String => {
            let inside = text.get(1..text.len() - 1)?;
            if !inside.contains(&b'\'') {
                return Some(Cow::Borrowed(inside));
            }
            let mut value = Vec::with_capacity(inside.len());
            segments(text, 1, false, &mut |byte| value.push(byte))?;
            Some(Cow::Owned(value))
        }
        Kind::EscapeString => {
            let first = if text[0] == b'\'' { 1 } else { 2 };
            let mut value = Vec::with_capacity(text.len());
            segments(text, first, true, &mut |byte| value.push(byte))?;
            Some(Cow::Owned(value))
        }
        _ => None,
    }
}

/// The bytes of a string that may go on behind an end of line. `at` is behind the opening quote.
fn segments(text: &[u8], mut at: usize, escapes: bool, push: &mut dyn FnMut(u8)) -> Option<()> {
    loop {
        match *text.get(at)? {
            b'\'' if text.get(at + 1) == Some(&b'\'') => {
                push(b'\'');
                at += 2;
            }
            // The lexer has seen that nothing else follows: the next quote opens the next part.
            b'\'' => {
                let rest = &text[at + 1..];
                if rest.is_empty() {
                    return Some(());
                }
                at += 1 + next_part(rest)?;
            }
            b'\\' if escapes => at = escape(text, at + 1, push)?,
            byte => {
                push(byte);
                at += 1;
            }
        }
    }
}

/// Behind the quote that opens the next part of a string, past whitespace and line comments.
fn next_part(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *rest.get(at)? {
            b'\'' => return Some(at + 1),
            b'-' => at += rest[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r'))?,
            _ => at += 1,
        }
    }
}

/// One escape behind its backslash, and where it ends.
fn escape(text: &[u8], at: usize, push: &mut dyn FnMut(u8)) -> Option<usize> {
    let digits = |from: usize, most: usize, radix: u32| {
        let run = text[from.min(text.len())..].iter().take(most);
        let digits = run.take_while(|byte| char::from(**byte).is_digit(radix)).count();
        let value = text[from..from + digits]
            .iter()
            .fold(0, |value, byte| value * radix + char::from(*byte).to_digit(radix).unwrap_or(0));
        (digits, value)
    };
    let first = *text.get(at)?;
    let (end, value) = match first {
        b'b' => (at + 1, 8),
        b'f' => (at + 1, 12),
        b'n' => (at + 1, 10),
        b'r' => (at + 1, 13),
        b't' => (at + 1, 9),
        b'v' => (at + 1, 11),
        b'0'..=b'7' => {
            let (count, value) = digits(at, 3, 8);
            (at + count, value)
        }
        b'x' => match digits(at + 1, 2, 16) {
            (0, _) => (at + 1, u32::from(b'x')),
            (count, value) => (at + 1 + count, value),
        },
        b'u' | b'U' => {
            let wanted = if first == b'u' { 4 } else { 8 };
            let (count, value) = digits(at + 1, wanted, 16);
            if count < wanted {
                return None;
            }
            (at + 1 + count, value)
        }
        _ => {
            push(first);
            return Some(at + 1);
        }
    };
    match u8::try_from(value) {
        Ok(byte @ 1..=0x7f) => push(byte),
        _ => return None,
    }
    Some(end)
}

fn undouble(inside: &[u8], quote: u8) -> Cow<'_, [u8]> {
    if !inside.contains(&quote) {
        return Cow::Borrowed(inside);
    }
    let mut value = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        value.push(byte);
        if byte == quote {
            bytes.next();
        }
    }
    Cow::Owned(value)
}

/// The values of SET, from the first to the last as they are written: `'a', b, -1.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values<'t> {
    pub text: &'t [u8],
    pub conforming_strings: bool,
}

impl Values<'_> {
    /// The value as PostgreSQL stores it (`flatten_set_variable_args`). `quotes`: the parameter is a list of identifiers
    /// (GUC_LIST_QUOTE). None where we cannot know it: intervals, and what [`Name::value`] and [`string`] leave out.
    pub fn flatten(&self, quotes: bool) -> Option<Vec<u8>> {
        let mut lexer = Lexer::new(self.text, self.conforming_strings);
        let mut value = Vec::new();
        let mut tokens =
            std::iter::from_fn(|| lexer.next_token()).filter(|token| token.kind != Kind::Comment);
        loop {
            let mut token = tokens.next()?;
            let mut minus = false;
            if token.kind == Kind::Operator {
                minus = match &self.text[token.start..token.end] {
                    b"-" => true,
                    b"+" => false,
                    _ => return None,
                };
                token = tokens.next()?;
                if token.kind != Kind::Number {
                    return None;
                }
            }
            let text = &self.text[token.start..token.end];
            if token.kind == Kind::Number {
                number(minus, text, &mut value)?;
            } else {
                let item = Name { kind: token.kind, text }.value()?;
                if quotes && !is_plain_identifier(&item) {
                    value.push(b'"');
                    for &byte in &*item {
                        value.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
                    }
                    value.push(b'"');
                } else {
                    value.extend_from_slice(&item);
                }
            }
            match tokens.next() {
                None => return Some(value),
                Some(token) if token.kind == Kind::Comma => value.extend_from_slice(b", "),
                // An interval's unit, or UESCAPE.
                Some(_) => return None,
            }
        }
    }
}

/// A number as PostgreSQL prints what its grammar makes of it: an integer of 32 bits in decimal, everything else as it
/// is written.
fn number(minus: bool, text: &[u8], value: &mut Vec<u8>) -> Option<()> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'_').collect();
    let (radix, digits) = match (text.first(), text.get(1).map(|byte| byte | 0x20)) {
        (Some(b'0'), Some(b'x')) => (16, &digits[2..]),
        (Some(b'0'), Some(b'o')) => (8, &digits[2..]),
        (Some(b'0'), Some(b'b')) => (2, &digits[2..]),
        _ => (10, &*digits),
    };
    let plain = std::str::from_utf8(digits).ok()?;
    let integer = i32::from_str_radix(plain, radix);
    if minus && integer != Ok(0) {
        value.push(b'-');
    }
    match integer {
        Ok(integer) => value.extend_from_slice(integer.to_string().as_bytes()),
        Err(_) => value.extend_from_slice(text),
    }
    Some(())
}

/// The parameters that calls of `set_config` in a text name, in lower case. None if there is no call, or one whose
/// parameter is not a plain string.
pub fn set_config_names(text: &[u8]) -> Option<Vec<String>> {
    let mut lexer = Lexer::new(text, true);
    let mut tokens = std::iter::from_fn(|| lexer.next_token()).filter(|token| token.kind != Kind::Comment);
    let mut names = Vec::new();
    let mut last: Option<Token> = None;
    while let Some(token) = tokens.next() {
        let called = token.kind == Kind::Open
            && last.is_some_and(|last| {
                last.kind.is_name()
                    && Name::of(text, last).value().is_some_and(|name| *name == *b"set_config")
            });
        last = Some(token);
        if !called {
            continue;
        }
        let name = tokens.next()?;
        let then = tokens.next()?;
        // Without a backslash, what it means depends on nothing.
        let literal = matches!(name.kind, Kind::String | Kind::DollarString)
            && !text[name.start..name.end].contains(&b'\\')
            && matches!(then.kind, Kind::Comma | Kind::Typecast);
        if !literal {
            return None;
        }
        let name = string(name.kind, &text[name.start..name.end])?;
        names.push(std::str::from_utf8(&name).ok()?.to_ascii_lowercase());
        last = Some(then);
    }
    (!names.is_empty()).then_some(names)
}

/// A parameter's name as it is written, with dots, or as a special form of SET implies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter<'t> {
    Known(&'static str),
    Written(&'t [u8]),
}

impl<'t> Parameter<'t> {
    /// In lower case: PostgreSQL looks parameters up without regard to case. None as for [`Name::value`].
    pub fn value(&self) -> Option<Cow<'t, [u8]>> {
        let written = match self {
            Parameter::Known(name) => return Some(Cow::Borrowed(name.as_bytes())),
            Parameter::Written(written) => *written,
        };
        if written.iter().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9' | b'.')) {
            return Some(Cow::Borrowed(written));
        }
        let mut lexer = Lexer::new(written, true);
        let mut value = Vec::with_capacity(written.len());
        while let Some(token) = lexer.next_token() {
            match token.kind {
                Kind::Comment => {}
                Kind::Dot => value.push(b'.'),
                _ => value.extend_from_slice(&Name::of(written, token).value()?.to_ascii_lowercase()),
            }
        }
        Some(Cow::Owned(value))
    }

    pub fn is(&self, name: &str) -> bool {
        match self {
            Parameter::Known(known) => *known == name,
            Parameter::Written(written) => {
                is_word(written, name) || self.value().is_some_and(|value| *value == *name.as_bytes())
            }
        }
    }

    /// Whether its value is a list of identifiers, which PostgreSQL stores quoted where they need it (GUC_LIST_QUOTE; an
    /// extension cannot make one).
    pub fn is_quoted_list(&self) -> bool {
        const LISTS: [&str; 6] = [
            "search_path",
            "temp_tablespaces",
            "local_preload_libraries",
            "session_preload_libraries",
            "shared_preload_libraries",
            "unix_socket_directories",
        ];
        LISTS.iter().any(|list| self.is(list))
    }
}
