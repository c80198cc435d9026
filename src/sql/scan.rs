//! The walk over a statement's tokens: where it ends, which functions it calls, which of its words name new objects.
//!
//! A call is a name before a parenthesis. Whether it is one is decided by the grammar of PostgreSQL 14 to 18 as far as
//! the tokens before it tell; a doubt is a call.

use crate::sql::Reading;
use crate::sql::effects::Effects;
use crate::sql::functions;
use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::value::Name;
use crate::sql::word::{Folded, is_restricted, is_word};

/// Tokens that are remembered: a name of three parts with its dots, and two before it.
const RECENT: usize = 8;
/// Levels of parentheses about which more is known than that they are there.
const LEVELS: u32 = 64;
/// Tokens in which the arguments of set_config must end to be understood, and calls of it in a statement that are looked at.
const SET_CONFIG_TOKENS_MAX: usize = 64;
const SET_CONFIG_CALLS_MAX: u32 = 16;

#[derive(Clone, Debug)]
pub(super) struct Scan<'t> {
    lexer: Lexer<'t>,
    reading: Reading<'t>,
    peeked: Option<Token>,
    /// The last tokens; the newest is at `count - 1`, modulo the length.
    recent: [Token; RECENT],
    count: usize,
    /// Where the last token of the statement ends.
    end: usize,
    ended: bool,
    depth: u32,
    /// Levels whose parenthesis stands behind ON, OPERATOR or WITH: what follows it may be an expression.
    before_expression: u64,
    /// The last parenthesis that closed was one of those.
    closed_before_expression: bool,
    /// Levels that are in the list of a WITH clause: names before parentheses are those of its queries there.
    with_lists: u64,
    /// Which token ended the last such list.
    verb: Option<usize>,
    routine: Routine,
    /// BEGIN ATOMIC bodies that are open.
    bodies: u32,
    set_config_calls: u32,
    /// Whether names before parentheses are looked at.
    pub(super) calls: bool,
    pub(super) effects: Effects,
}

/// How much of CREATE [OR REPLACE] FUNCTION has been read at the beginning of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Routine {
    Start,
    Create,
    Or,
    Replace,
    /// It is one: it may have a body of statements.
    Yes,
    No,
}

/// A look at tokens to come. Reads them again later: to be used for a bounded number of tokens only.
#[derive(Clone)]
pub(super) struct Ahead<'t> {
    peeked: Option<Token>,
    lexer: Lexer<'t>,
}

impl<'t> Ahead<'t> {
    /// The next token, which may belong to the next statement.
    pub(super) fn next(&mut self) -> Option<Token> {
        self.peeked.take().or_else(|| read(&mut self.lexer))
    }
}

/// The next token that is no comment.
#[inline]
fn read(lexer: &mut Lexer<'_>) -> Option<Token> {
    loop {
        let token = lexer.next_token()?;
        if token.kind != Kind::Comment {
            return Some(token);
        }
    }
}

const NOTHING: Token = Token { kind: Kind::Other, start: 0, end: 0 };

impl<'t> Scan<'t> {
    pub(super) fn new(text: &'t [u8], reading: Reading<'t>) -> Scan<'t> {
        Scan {
            lexer: Lexer::new(text, reading.conforming_strings),
            reading,
            peeked: None,
            recent: [NOTHING; RECENT],
            count: 0,
            end: 0,
            ended: true,
            depth: 0,
            before_expression: 0,
            closed_before_expression: false,
            with_lists: 0,
            verb: None,
            routine: Routine::Start,
            bodies: 0,
            set_config_calls: 0,
            calls: true,
            effects: Effects::NONE,
        }
    }

    pub(super) fn reading(&self) -> Reading<'t> {
        self.reading
    }

    pub(super) fn setting_matters(&self) -> bool {
        self.lexer.setting_matters()
    }

    pub(super) fn text(&self) -> &'t [u8] {
        self.lexer.text()
    }

    pub(super) fn text_of(&self, token: Token) -> &'t [u8] {
        &self.text()[token.start..token.end]
    }

    /// Moves to the next statement that is not empty, and says where it begins.
    pub(super) fn begin(&mut self) -> Option<usize> {
        loop {
            let token = self.look()?;
            if token.kind != Kind::Semicolon {
                self.ended = false;
                self.count = 0;
                self.depth = 0;
                self.before_expression = 0;
                self.with_lists = 0;
                self.verb = None;
                self.routine = Routine::Start;
                self.bodies = 0;
                self.set_config_calls = 0;
                self.calls = true;
                self.effects = Effects::NONE;
                return Some(token.start);
            }
            self.peeked = None;
        }
    }

    /// Where the last token of the statement ends.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    fn look(&mut self) -> Option<Token> {
        if self.peeked.is_none() {
            self.peeked = read(&mut self.lexer);
        }
        self.peeked
    }

    pub(super) fn ahead(&self) -> Ahead<'t> {
        Ahead { peeked: self.peeked, lexer: self.lexer.clone() }
    }

    /// The next token of the statement, without moving.
    pub(super) fn peek(&mut self) -> Option<Token> {
        if self.ended {
            return None;
        }
        let token = self.look()?;
        let ends = token.kind == Kind::Semicolon && self.depth == 0 && self.bodies == 0;
        (!ends).then_some(token)
    }

    /// The next token of the statement; none at its end.
    pub(super) fn step(&mut self) -> Option<Token> {
        if self.ended {
            return None;
        }
        let token = match self.peeked.take() {
            Some(token) => token,
            None => match read(&mut self.lexer) {
                Some(token) => token,
                None => {
                    self.ended = true;
                    return None;
                }
            },
        };
        match token.kind {
            Kind::Word => self.on_word(token),
            Kind::Open => self.on_open(),
            Kind::Close => self.on_close(),
            Kind::Semicolon if self.depth == 0 => {
                if self.bodies == 0 {
                    self.ended = true;
                    return None;
                }
                self.on_body_semicolon();
            }
            _ => {}
        }
        self.recent[self.count % RECENT] = token;
        self.count += 1;
        self.end = self.end.max(token.end);
        Some(token)
    }

    /// The rest of the statement.
    pub(super) fn finish(&mut self) {
        while self.step().is_some() {}
    }

    /// The token that was read `back` tokens ago, 1 being the last.
    fn recent(&self, back: usize) -> Token {
        if back > self.count || back > RECENT { NOTHING } else { self.recent[(self.count - back) % RECENT] }
    }

    /// Whether it was this keyword.
    fn is_recent_word(&self, back: usize, word: &str) -> bool {
        let token = self.recent(back);
        token.kind == Kind::Word
            && is_word(self.text_of(token), word)
            && self.recent(back + 1).kind != Kind::Dot
    }

    /// Whether a dot has just been read: what comes is a part of a name, whichever word it is.
    pub(super) fn behind_dot(&self) -> bool {
        self.recent(1).kind == Kind::Dot
    }

    fn level(&self) -> u64 {
        if self.depth < LEVELS { 1 << self.depth } else { 0 }
    }

    fn on_word(&mut self, token: Token) {
        if self.behind_dot() {
            return;
        }
        let text = self.text_of(token);
        match text.len() {
            4 if is_word(text, "with") => self.on_with(),
            4 if is_word(text, "into") => self.on_into(),
            5 if self.routine == Routine::Yes && is_word(text, "begin") => return self.on_begin(),
            6 if is_word(text, "update") => self.on_update(),
            _ => {}
        }
        if self.with_lists & self.level() != 0 && self.is_verb(token) {
            self.with_lists &= !self.level();
            self.verb = Some(self.count);
        }
        if self.routine != Routine::No && self.routine != Routine::Yes {
            self.routine = match self.routine {
                Routine::Start if is_word(text, "create") => Routine::Create,
                Routine::Create if is_word(text, "or") => Routine::Or,
                Routine::Or if is_word(text, "replace") => Routine::Replace,
                Routine::Create | Routine::Replace
                    if is_word(text, "function") || is_word(text, "procedure") =>
                {
                    Routine::Yes
                }
                _ => Routine::No,
            };
        }
    }

    /// The word with which the statement behind the list of a WITH clause begins, not the name of one of its queries.
    pub(super) fn is_verb(&self, token: Token) -> bool {
        const VERBS: [&str; 7] = ["select", "insert", "update", "delete", "merge", "values", "table"];
        let text = self.text_of(token);
        // SEARCH and CYCLE name columns, which may be called as their own words are: `BY delete`, but `SET by DELETE`. A
        // doubt is a verb: behind it calls count.
        let names_column =
            |back| ["by", "set", "using", "cycle"].iter().any(|word| self.is_recent_word(back, word));
        VERBS.iter().any(|verb| is_word(text, verb))
            && !self.behind_dot()
            && self.recent(1).kind != Kind::Comma
            && !self.is_recent_word(1, "with")
            && !(self.is_recent_word(1, "recursive") && self.is_recent_word(2, "with"))
            && (!names_column(1) || names_column(2))
    }

    /// Whether we are outside all parentheses.
    pub(super) fn at_top(&self) -> bool {
        self.depth == 0
    }

    pub(super) fn behind_close(&self) -> bool {
        self.recent(1).kind == Kind::Close
    }

    /// Whether the level at which we are is in the list of a WITH clause.
    fn in_with_list(&self) -> bool {
        self.with_lists & self.level() != 0
    }

    /// WITH begins a list of queries if a name follows with AS or columns behind it; WITH TIME and WITH ORDINALITY never do
    /// (PostgreSQL's lexer makes them one token).
    fn on_with(&mut self) {
        let text = self.text();
        let is =
            |token: Token, word| token.kind == Kind::Word && is_word(&text[token.start..token.end], word);
        let mut ahead = self.ahead();
        let mut next = || ahead.next().unwrap_or(NOTHING);
        let (mut name, mut behind) = (next(), next());
        // RECURSIVE may also be the name.
        if is(name, "recursive") && behind.kind.is_name() && !is(behind, "as") {
            (name, behind) = (behind, next());
        }
        // A restricted keyword is no name of a query, except some that nobody would use. EXCLUDE has WITH OPERATOR (…).
        let is_name = name.kind.is_name()
            && !["time", "ordinality", "operator"].iter().any(|word| is(name, word))
            && !(name.kind == Kind::Word && self.is_restricted(name));
        let begins = is_name
            && (behind.kind == Kind::Open
                || is(behind, "as") && {
                    let query = next();
                    query.kind == Kind::Open || is(query, "materialized") || is(query, "not")
                });
        if begins {
            self.with_lists |= self.level();
        }
    }

    fn is_restricted(&self, token: Token) -> bool {
        Folded::of(self.text_of(token)).is_some_and(|folded| is_restricted(folded.as_bytes()))
    }

    /// INTO names the target of INSERT or MERGE, or makes a table out of a SELECT.
    fn on_into(&mut self) {
        // They are names too: `SELECT 1 AS insert INTO t`.
        let verb = self.is_recent_word(1, "insert") || self.is_recent_word(1, "merge");
        let begins =
            self.count == 1 || self.recent(2).kind == Kind::Open || self.verb == self.count.checked_sub(1);
        if verb && begins {
            return;
        }
        let mut ahead = self.ahead();
        // LOCAL TEMPORARY TABLE; LOCAL and GLOBAL may also be the name.
        for _ in 0..3 {
            let mut next = ahead.clone();
            let token = next.next().unwrap_or(NOTHING);
            let is = |words: &[&str]| {
                token.kind == Kind::Word && words.iter().any(|word| is_word(self.text_of(token), word))
            };
            if is(&["temp", "temporary", "local", "global"]) {
                self.effects |= Effects::TEMPORARY;
                return;
            }
            if !is(&["unlogged", "table"]) {
                break;
            }
            ahead = next;
        }
        if self.is_temporary_name(ahead) {
            self.effects |= Effects::TEMPORARY;
        }
    }

    /// Whether the name that comes, of up to three parts, is qualified by the schema of temporary objects.
    pub(super) fn is_temporary_name(&self, mut ahead: Ahead<'t>) -> bool {
        for _ in 0..2 {
            let Some(part) = ahead.next() else { return false };
            if !ahead.next().is_some_and(|next| next.kind == Kind::Dot) {
                return false;
            }
            if self.is_temporary_schema(part) {
                return true;
            }
        }
        false
    }

    /// `pg_temp`, or the schema of a session by its number.
    pub(super) fn is_temporary_schema(&self, token: Token) -> bool {
        match token.kind {
            Kind::Word | Kind::Quoted => {
                let text = self.text_of(token);
                let text = text.strip_prefix(b"\"").unwrap_or(text);
                text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"pg_temp"))
            }
            Kind::UnicodeQuoted => true,
            _ => false,
        }
    }

    /// Whether the last token was a dot behind that schema.
    pub(super) fn is_behind_temporary_schema(&self) -> bool {
        self.is_temporary_schema(self.recent(2))
    }

    /// UPDATE of pg_settings sets parameters, by a rule.
    fn on_update(&mut self) {
        let text = self.text();
        let is = |token: Token, name: &str| {
            Name::of(text, token).value().is_some_and(|value| *value == *name.as_bytes())
        };
        let Some(token) = self.look() else { return };
        if !matches!(text[token.start] | 0x20, b'o' | b'p' | b'"') {
            return;
        }
        let mut ahead = self.ahead();
        // ONLY pg_catalog . pg_settings
        for _ in 0..4 {
            let Some(token) = ahead.next() else { return };
            if is(token, "pg_settings") {
                self.effects |= Effects::SETTING;
                return;
            }
            if !is(token, "only") && !is(token, "pg_catalog") && token.kind != Kind::Dot {
                return;
            }
        }
    }

    fn on_begin(&mut self) {
        if self.depth > 0 {
            return;
        }
        let Some(next) = self.look() else { return };
        if next.kind == Kind::Word && is_word(self.text_of(next), "atomic") {
            self.peeked = None;
            self.end = next.end;
            self.bodies = self.bodies.saturating_add(1);
            self.routine = Routine::Start;
            self.end_bodies();
        }
    }

    /// A statement of a body has ended.
    fn on_body_semicolon(&mut self) {
        self.with_lists = 0;
        self.routine = Routine::Start;
        self.end_bodies();
    }

    /// END where a statement of a body would begin ends the body.
    fn end_bodies(&mut self) {
        let Some(next) = self.look() else { return };
        if next.kind == Kind::Word && is_word(self.text_of(next), "end") {
            self.peeked = None;
            self.end = next.end;
            self.bodies = self.bodies.saturating_sub(1);
            self.routine = Routine::No;
        }
    }

    fn on_open(&mut self) {
        if self.recent(1).kind.is_name() {
            if self.calls {
                self.on_call();
            }
            let opens_expression = |word| self.is_recent_word(1, word);
            let opens_expression =
                opens_expression("on") || opens_expression("operator") || opens_expression("with");
            self.depth = self.depth.saturating_add(1);
            self.before_expression &= !self.level();
            if opens_expression {
                self.before_expression |= self.level();
            }
        } else {
            self.depth = self.depth.saturating_add(1);
            self.before_expression &= !self.level();
        }
        self.with_lists &= !self.level();
    }

    fn on_close(&mut self) {
        self.closed_before_expression = self.depth >= LEVELS || self.before_expression & self.level() != 0;
        self.with_lists &= !self.level();
        // One too many is an error, and the server runs nothing.
        self.depth = self.depth.saturating_sub(1);
    }

    /// A name has been read, and a parenthesis follows.
    fn on_call(&mut self) {
        let name = self.recent(1);
        let folded = match name.kind {
            Kind::Word => Folded::of(self.text_of(name)),
            _ => None,
        };
        let folded = folded.as_ref().map(Folded::as_bytes);
        let qualified = self.recent(2).kind == Kind::Dot;
        if !qualified && matches!(folded, Some(b"values" | b"in" | b"and" | b"or" | b"as" | b"from" | b"on"))
        {
            return;
        }
        let mut before = 2;
        while before + 1 < RECENT
            && self.recent(before).kind == Kind::Dot
            && self.recent(before + 1).kind.is_name()
        {
            before += 2;
        }
        if self.is_no_call(before) {
            return;
        }
        let quoted;
        let value = match (folded, name.kind) {
            (Some(folded), _) => folded,
            (None, Kind::Quoted) => {
                quoted = Name::of(self.text(), name).value();
                match &quoted {
                    Some(value) => value,
                    None => return self.effects |= Effects::UNKNOWN_FUNCTION,
                }
            }
            _ => return self.effects |= Effects::UNKNOWN_FUNCTION,
        };
        let of_postgresql =
            !qualified || Name::of(self.text(), self.recent(3)).value().as_deref() == Some(b"pg_catalog");
        let own = match of_postgresql {
            true if value == b"set_config" => Some(self.set_config()),
            true => functions::find(value),
            false => None,
        };
        self.effects |= own.unwrap_or_else(|| {
            let harmless = self.reading.catalog.is_some_and(|catalog| catalog.is_harmless(value));
            if harmless { Effects::NONE } else { Effects::UNKNOWN_FUNCTION }
        });
    }

    /// Whether the token before a name, `back` tokens ago, says that it is not the name of a function to be called.
    fn is_no_call(&self, back: usize) -> bool {
        if self.in_with_list() {
            return true;
        }
        let before = self.recent(back);
        match before.kind {
            // A type and its modifiers.
            Kind::Typecast => true,
            // An alias and its columns.
            Kind::Close => !self.closed_before_expression,
            Kind::Word => {
                let text = self.text_of(before);
                // What INSERT, CREATE TABLE and REFERENCES name, and aliases; AS of CAST names a type.
                const NAMING: [&str; 7] =
                    ["into", "as", "table", "exists", "view", "references", "ordinality"];
                matches!(text.len(), 2 | 4..=6 | 10) && NAMING.iter().any(|word| is_word(text, word))
            }
            _ => false,
        }
    }

    /// `set_config(name, value, true)` holds until the end of the transaction.
    fn set_config(&mut self) -> Effects {
        self.set_config_calls = self.set_config_calls.saturating_add(1);
        if self.set_config_calls > SET_CONFIG_CALLS_MAX {
            return Effects::SETTING;
        }
        let mut ahead = self.ahead();
        let (mut depth, mut last, mut before) = (0u32, NOTHING, NOTHING);
        for _ in 0..SET_CONFIG_TOKENS_MAX {
            let Some(token) = ahead.next() else { break };
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close if depth == 0 => {
                    let local = last.kind == Kind::Word
                        && is_word(self.text_of(last), "true")
                        && before.kind == Kind::Comma;
                    return if local { Effects::LOCAL_SETTING } else { Effects::SETTING };
                }
                Kind::Close => depth -= 1,
                Kind::Semicolon => break,
                _ => {}
            }
            (before, last) = (last, token);
        }
        Effects::SETTING
    }
}
