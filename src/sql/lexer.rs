//! PostgreSQL's lexical rules (`src/backend/parser/scan.l`), in one pass, without allocation and without looking back.
//!
//! One reading serves the versions 14 to 18: where they differ, a text is an error in one of them, and an error in any
//! statement of a text means that PostgreSQL runs none of them. So what is valid anywhere is read as valid. A text
//! that no version reads gives tokens all the same (`Unterminated`, `Other`).
//!
//! Invariants: tokens are not empty, come in the order of the text and do not overlap; between them lies whitespace
//! only; the work is linear in the length of the text, whatever it is.

/// A piece of a text: `text[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

// As wide as a position: tokens are copied a lot, and one without padding is copied in whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// An identifier or keyword without quotes. `N` before a string is one too, as in PostgreSQL.
    Word,
    /// `"…"`
    Quoted,
    /// `U&"…"`
    UnicodeQuoted,
    /// `'…'` in which a backslash is an ordinary character.
    String,
    /// `E'…'`, and `'…'` where standard_conforming_strings is off.
    EscapeString,
    /// `U&'…'`
    UnicodeString,
    /// `B'…'` and `X'…'`
    BitString,
    /// `$$…$$`
    DollarString,
    Number,
    /// `$1`
    Parameter,
    Operator,
    Open,
    Close,
    Comma,
    Dot,
    Semicolon,
    /// `::`
    Typecast,
    /// `[`, `]`, `:`, `:=`, `..`
    Punctuation,
    /// `-- …` without the end of the line, or `/* … */`.
    Comment,
    /// A string, identifier or comment whose end is missing: it extends to the end of the text.
    Unterminated,
    /// A byte that begins nothing.
    Other,
}

impl Kind {
    /// A name, or a word that may be one.
    pub fn is_name(self) -> bool {
        matches!(self, Kind::Word | Kind::Quoted | Kind::UnicodeQuoted)
    }

    /// What PostgreSQL's grammar takes for a string constant.
    pub fn is_string(self) -> bool {
        matches!(self, Kind::String | Kind::EscapeString | Kind::UnicodeString | Kind::DollarString)
    }
}

/// The shape of what has been read so far: what PostgreSQL's own lexer and parser suffer from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The longest run of operator characters, in bytes.
    pub operator_run: usize,
    /// The deepest nesting of comments.
    pub comment_depth: usize,
}

#[derive(Clone, Debug)]
pub struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    conforming_strings: bool,
    setting_matters: bool,
    run: OperatorRun,
    shape: Shape,
}

/// A run of operator characters up to where a comment begins in it. It is cut into operators by rules that look at all
/// of it, so it is looked at once.
#[derive(Clone, Copy, Debug, Default)]
struct OperatorRun {
    end: usize,
    /// Behind the last character that SQL's own operators do not have; they may end in `+` or `-` only with one.
    special_end: usize,
    /// Where the `+` and `-` at its end begin.
    signs: usize,
}

const SPACE: u8 = 1;
const WORD_START: u8 = 2;
const WORD: u8 = 4;
const DIGIT: u8 = 8;
const OPERATOR: u8 = 16;
/// An operator character outside `+-*/<>=`.
const SPECIAL: u8 = 32;
/// The end of a string constant, or a backslash in it.
const IN_STRING: u8 = 64;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        class[at] = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'0'..=b'9' => DIGIT | WORD,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' | 0x80..=0xff => WORD_START | WORD,
            b'$' => WORD,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%' => OPERATOR | SPECIAL,
            b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' => OPERATOR,
            b'\'' | b'\\' => IN_STRING,
            _ => 0,
        };
        at += 1;
    }
    class
};

#[inline]
fn is(byte: u8, classes: u8) -> bool {
    CLASS[byte as usize] & classes != 0
}

impl<'t> Lexer<'t> {
    /// `conforming_strings`: the server's standard_conforming_strings when it reads the text.
    pub fn new(text: &'t [u8], conforming_strings: bool) -> Lexer<'t> {
        Lexer {
            text,
            at: 0,
            conforming_strings,
            setting_matters: false,
            run: OperatorRun::default(),
            shape: Shape::default(),
        }
    }

    /// Whether standard_conforming_strings may change the tokens of what has been read so far.
    pub fn setting_matters(&self) -> bool {
        self.setting_matters
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn text(&self) -> &'t [u8] {
        self.text
    }

    /// The next token; none at the end of the text.
    #[inline]
    pub fn next_token(&mut self) -> Option<Token> {
        let text = self.text;
        while is(*text.get(self.at)?, SPACE) {
            self.at += 1;
        }
        let start = self.at;
        let first = text[start];
        let (kind, end) = match first {
            _ if is(first, WORD_START) => self.word(start),
            b'(' => (Kind::Open, start + 1),
            b')' => (Kind::Close, start + 1),
            b',' => (Kind::Comma, start + 1),
            b';' => (Kind::Semicolon, start + 1),
            b'\'' if self.conforming_strings => self.string(start, start + 1, Kind::String),
            b'\'' => self.string(start, start + 1, Kind::EscapeString),
            b'"' => self.quoted(start + 1, Kind::Quoted),
            b'$' => self.dollar(start),
            b'.' => match self.peek(start + 1) {
                b'.' => (Kind::Punctuation, start + 2),
                next if is(next, DIGIT) => (Kind::Number, self.number(start)),
                _ => (Kind::Dot, start + 1),
            },
            b':' => match self.peek(start + 1) {
                b':' => (Kind::Typecast, start + 2),
                b'=' => (Kind::Punctuation, start + 2),
                _ => (Kind::Punctuation, start + 1),
            },
            b'[' | b']' => (Kind::Punctuation, start + 1),
            b'-' if self.peek(start + 1) == b'-' => (Kind::Comment, end_of_line(text, start + 2)),
            b'/' if self.peek(start + 1) == b'*' => self.block_comment(start),
            _ if is(first, DIGIT) => (Kind::Number, self.number(start)),
            _ if is(first, OPERATOR) => (Kind::Operator, self.operator(start)),
            _ => (Kind::Other, start + 1),
        };
        self.at = end;
        Some(Token { kind, start, end })
    }

    /// The byte at a place, NUL behind the end (and NUL begins nothing).
    #[inline]
    fn peek(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn skip(&self, mut at: usize, classes: u8) -> usize {
        while is(self.peek(at), classes) {
            at += 1;
        }
        at
    }

    fn word(&mut self, start: usize) -> (Kind, usize) {
        let next = self.peek(start + 1);
        match (self.text[start] | 0x20, next) {
            (b'e', b'\'') => return self.string(start, start + 2, Kind::EscapeString),
            (b'b' | b'x', b'\'') => return self.string(start, start + 2, Kind::BitString),
            (b'u', b'&') => match self.peek(start + 2) {
                b'\'' => return self.string(start, start + 3, Kind::UnicodeString),
                b'"' => return self.quoted(start + 3, Kind::UnicodeQuoted),
                _ => {}
            },
            _ => {}
        }
        (Kind::Word, self.skip(start + 1, WORD))
    }

    /// A string that begins at `start`, with its prefix, and whose opening quote ends at `at`; with the parts that continue it behind an end of line.
    fn string(&mut self, start: usize, mut at: usize, kind: Kind) -> (Kind, usize) {
        let text = self.text;
        loop {
            while at < text.len() && !is(text[at], IN_STRING) {
                at += 1;
            }
            if at >= text.len() {
                return (Kind::Unterminated, text.len());
            }
            if text[at] == b'\\' {
                at += if kind == Kind::EscapeString { 2 } else { 1 };
                self.setting_matters |= text[start] == b'\'';
                continue;
            }
            if kind != Kind::BitString && self.peek(at + 1) == b'\'' {
                at += 2;
                continue;
            }
            match continuation(text, at + 1) {
                Some(inside) => at = inside,
                None => return (kind, at + 1),
            }
        }
    }

    fn quoted(&self, mut at: usize, kind: Kind) -> (Kind, usize) {
        loop {
            while at < self.text.len() && self.text[at] != b'"' {
                at += 1;
            }
            match (self.peek(at), self.peek(at + 1)) {
                (b'"', b'"') => at += 2,
                (b'"', _) => return (kind, at + 1),
                _ => return (Kind::Unterminated, self.text.len()),
            }
        }
    }

    fn dollar(&self, start: usize) -> (Kind, usize) {
        let text = self.text;
        let next = self.peek(start + 1);
        if is(next, DIGIT) {
            return (Kind::Parameter, self.skip(start + 1, DIGIT));
        }
        let mut at = start + 1;
        if is(next, WORD_START) {
            while at < text.len() && text[at] != b'$' && is(text[at], WORD) {
                at += 1;
            }
        }
        if self.peek(at) != b'$' {
            return (Kind::Other, start + 1);
        }
        let fence = &text[start..=at];
        at += 1;
        loop {
            while at < text.len() && text[at] != b'$' {
                at += 1;
            }
            if at >= text.len() {
                return (Kind::Unterminated, text.len());
            }
            if text[at..].starts_with(fence) {
                return (Kind::DollarString, at + fence.len());
            }
            at += 1;
        }
    }

    fn block_comment(&mut self, start: usize) -> (Kind, usize) {
        let (mut at, mut depth) = (start, 0);
        loop {
            while at < self.text.len() && !matches!(self.text[at], b'*' | b'/') {
                at += 1;
            }
            match (self.peek(at), self.peek(at + 1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.shape.comment_depth = self.shape.comment_depth.max(depth);
                    at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return (Kind::Comment, at);
                    }
                }
                _ if at >= self.text.len() => return (Kind::Unterminated, self.text.len()),
                _ => at += 1,
            }
        }
    }

    /// Digits, with single underscores between them.
    #[inline]
    fn digits(&self, mut at: usize, is_digit: impl Fn(u8) -> bool) -> usize {
        loop {
            while is_digit(self.peek(at)) {
                at += 1;
            }
            if self.peek(at) != b'_' || !is_digit(self.peek(at + 1)) {
                return at;
            }
            at += 1;
        }
    }

    /// The end of an integer that is not decimal, if one begins here.
    #[cold]
    fn based(&self, start: usize) -> Option<usize> {
        let of_base = match self.peek(start + 1) | 0x20 {
            b'x' => |byte: u8| byte.is_ascii_hexdigit(),
            b'o' => |byte: u8| matches!(byte, b'0'..=b'7'),
            b'b' => |byte: u8| matches!(byte, b'0' | b'1'),
            _ => return None,
        };
        let first = start + 2 + usize::from(self.peek(start + 2) == b'_');
        of_base(self.peek(first)).then(|| self.digits(first, of_base))
    }

    /// Letters directly behind a number are the next token: PostgreSQL 14 reads them so, later versions refuse them.
    fn number(&self, start: usize) -> usize {
        let decimal = |byte: u8| byte.is_ascii_digit();
        if self.text[start] == b'0'
            && self.peek(start + 1).is_ascii_alphabetic()
            && let Some(end) = self.based(start)
        {
            return end;
        }
        let mut at = start;
        if decimal(self.text[start]) {
            at = self.digits(start, decimal);
        }
        if self.peek(at) == b'.' && self.peek(at + 1) != b'.' {
            at += 1;
            if decimal(self.peek(at)) {
                at = self.digits(at, decimal);
            }
        }
        if self.peek(at) | 0x20 == b'e' {
            let first = at + 1 + usize::from(matches!(self.peek(at + 1), b'+' | b'-'));
            if decimal(self.peek(first)) {
                at = self.digits(first, decimal);
            }
        }
        at
    }

    fn operator(&mut self, start: usize) -> usize {
        if start >= self.run.end {
            self.run = self.operator_run(start);
            self.shape.operator_run = self.shape.operator_run.max(self.run.end - start);
        }
        let run = self.run;
        if run.special_end > start { run.end } else { run.signs.max(start + 1) }
    }

    fn operator_run(&self, start: usize) -> OperatorRun {
        let (mut at, mut special_end, mut signs) = (start, start, start);
        while is(self.peek(at), OPERATOR) {
            match (self.text[at], self.peek(at + 1)) {
                (b'-', b'-') | (b'/', b'*') => break,
                (b'+' | b'-', _) => {}
                (byte, _) => {
                    signs = at + 1;
                    if is(byte, SPECIAL) {
                        special_end = at + 1;
                    }
                }
            }
            at += 1;
        }
        OperatorRun { end: at, special_end, signs }
    }
}

/// Where a line comment ends, which is before the end of its line.
fn end_of_line(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && !matches!(text[at], b'\n' | b'\r') {
        at += 1;
    }
    at
}

/// Behind a quote: if only whitespace with an end of line, and line comments, lie between it and the next quote, the
/// string goes on there.
fn continuation(text: &[u8], mut at: usize) -> Option<usize> {
    let mut newline = false;
    loop {
        match *text.get(at)? {
            b'\n' | b'\r' => newline = true,
            byte if is(byte, SPACE) => {}
            b'-' if text.get(at + 1) == Some(&b'-') => {
                // A comment that ends the text ends no line.
                at = end_of_line(text, at + 2);
                continue;
            }
            b'\'' if newline => return Some(at + 1),
            _ => return None,
        }
        at += 1;
    }
}
