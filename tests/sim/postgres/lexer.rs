//! Tokens of the small SQL dialect, with their places, as PostgreSQL's `scan.l` would cut them.

use super::error::PgError;

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// An identifier or keyword, folded to lower case.
    Word(String),
    /// A quoted identifier.
    Quoted(String),
    /// A string literal.
    Text(String),
    Integer(i64),
    Decimal(String),
    Parameter(usize),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

const SYMBOLS: [&str; 18] =
    ["::", "||", "<>", "<=", ">=", "!=", "(", ")", ",", ";", "+", "-", "*", "/", "=", "<", ">", "."];

/// Cuts `sql`; the last token is `End`.
///
/// # Errors
/// 42601 for an unterminated literal or comment and for a byte that starts no token.
pub fn tokens(sql: &str) -> Result<Vec<Token>, PgError> {
    let bytes = sql.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let byte = bytes[at];
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if sql[at..].starts_with("--") {
            at = sql[at..].find('\n').map_or(bytes.len(), |n| at + n + 1);
            continue;
        }
        if sql[at..].starts_with("/*") {
            at = comment_end(bytes, at).ok_or_else(|| {
                PgError::syntax(format!("unterminated /* comment at or near \"{}\"", &sql[at..]))
            })?;
            continue;
        }
        let kind = if byte == b'\'' || (matches!(byte, b'e' | b'E') && bytes.get(at + 1) == Some(&b'\'')) {
            let escapes = byte != b'\'';
            let (text, end) = quoted(bytes, at + usize::from(escapes), b'\'', escapes).ok_or_else(|| {
                PgError::syntax(format!("unterminated quoted string at or near \"{}\"", &sql[start..]))
            })?;
            at = end;
            Kind::Text(text)
        } else if byte == b'"' {
            let (text, end) = quoted(bytes, at, b'"', false).ok_or_else(|| {
                PgError::syntax(format!("unterminated quoted identifier at or near \"{}\"", &sql[start..]))
            })?;
            at = end;
            Kind::Quoted(text)
        } else if byte == b'$' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at += 1;
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            Kind::Parameter(sql[start + 1..at].parse().unwrap_or(usize::MAX))
        } else if byte == b'$' {
            let (text, end) = dollar_quoted(sql, at).ok_or_else(|| {
                PgError::syntax(format!("unterminated dollar-quoted string at or near \"{}\"", &sql[start..]))
            })?;
            at = end;
            Kind::Text(text)
        } else if byte.is_ascii_digit() || (byte == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit))
        {
            while bytes.get(at).is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
                at += 1;
            }
            match sql[start..at].parse::<i64>() {
                Ok(value) => Kind::Integer(value),
                Err(_) => Kind::Decimal(sql[start..at].to_string()),
            }
        } else if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 {
            while bytes
                .get(at)
                .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'$' || *b >= 0x80)
            {
                at += 1;
            }
            Kind::Word(sql[start..at].to_ascii_lowercase())
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| sql[at..].starts_with(**symbol)) {
            at += symbol.len();
            Kind::Symbol(symbol)
        } else {
            return Err(PgError::syntax(format!("syntax error at or near \"{}\"", byte as char)));
        };
        out.push(Token { kind, start, end: at });
    }
    out.push(Token { kind: Kind::End, start: bytes.len(), end: bytes.len() });
    Ok(out)
}

fn comment_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
    None
}

fn quoted(bytes: &[u8], from: usize, quote: u8, escapes: bool) -> Option<(String, usize)> {
    let mut text = Vec::new();
    let mut at = from + 1;
    loop {
        let byte = *bytes.get(at)?;
        if byte == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return Some((String::from_utf8_lossy(&text).into_owned(), at + 1));
            }
            at += 1;
        } else if escapes && byte == b'\\' {
            at += 1;
            text.push(match *bytes.get(at)? {
                b'n' => b'\n',
                b't' => b'\t',
                other => other,
            });
            at += 1;
            continue;
        }
        text.push(byte);
        at += 1;
    }
}

fn dollar_quoted(sql: &str, from: usize) -> Option<(String, usize)> {
    let tag_end = from + 1 + sql[from + 1..].find('$')?;
    let tag = &sql[from..=tag_end];
    let body = tag_end + 1;
    let end = body + sql[body..].find(tag)?;
    Some((sql[body..end].to_string(), end + tag.len()))
}
