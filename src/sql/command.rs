//! What kind of command a statement is, with what a session must know of it, and how PostgreSQL answers it.

use crate::sql::effects::Effects;
use crate::sql::lexer::{Kind, Token};
use crate::sql::scan::Scan;
use crate::sql::value::{Name, Parameter, Values};
use crate::sql::word::{Folded, is_word};

/// A statement's command. Names and values are pieces of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'t> {
    /// SELECT, VALUES, TABLE, whichever WITH or parentheses are around it; SELECT INTO too.
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    Copy(Copy),
    Begin(TransactionModes),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(Option<Name<'t>>),
    Release(Option<Name<'t>>),
    RollbackTo(Option<Name<'t>>),
    PrepareTransaction,
    /// COMMIT PREPARED and ROLLBACK PREPARED.
    FinishPrepared,
    Set(Set<'t>),
    /// SET TRANSACTION.
    SetTransaction(TransactionModes),
    /// SET SESSION CHARACTERISTICS.
    SetCharacteristics(Scope, TransactionModes),
    SetConstraints,
    Reset(Parameter<'t>),
    ResetAll,
    /// SHOW of one parameter, or of all.
    Show(Option<Parameter<'t>>),
    Discard(Discard),
    /// PREPARE: its own effects are only that. The statement it prepares, for EXECUTE to run, is `body`.
    Prepare {
        name: Option<Name<'t>>,
        body: &'t [u8],
    },
    Execute(Option<Name<'t>>),
    /// None: ALL.
    Deallocate(Option<Name<'t>>),
    Listen(Option<Name<'t>>),
    /// None: all.
    Unlisten(Option<Name<'t>>),
    Notify(Option<Name<'t>>),
    Declare {
        name: Option<Name<'t>>,
        hold: bool,
    },
    Fetch,
    Move,
    /// None: ALL.
    Close(Option<Name<'t>>),
    Lock,
    Do,
    Call,
    Load,
    Explain {
        analyze: bool,
    },
    /// Makes a table of a query: CREATE TABLE AS, CREATE MATERIALIZED VIEW.
    CreateAs,
    /// Drops something, which may be temporary.
    Drop,
    /// Any other.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// FROM STDIN: the client sends data.
    In,
    /// TO STDOUT: the server sends data.
    Out,
    /// Between the server and its files or programs.
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temporary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Session,
    /// Until the end of the transaction.
    Local,
}

/// SET in one of its many forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'t> {
    pub scope: Scope,
    pub parameter: Parameter<'t>,
    pub value: Value<'t>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'t> {
    Default,
    List(Values<'t>),
    /// FROM CURRENT, or something else whose value the text does not say.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub read_only: Option<bool>,
    pub deferrable: Option<bool>,
    pub isolation: Option<Isolation>,
    /// SET TRANSACTION SNAPSHOT.
    pub snapshot: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// Which completion tags a command may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// These, without the numbers behind them.
    Only(&'static [&'static str]),
    /// Any that is not a sign of a change of state.
    Stateless,
}

impl Command<'_> {
    pub fn tags(&self) -> Tags {
        Tags::Only(match self {
            Command::Select => &["SELECT"],
            Command::Insert => &["INSERT"],
            Command::Update => &["UPDATE"],
            Command::Delete => &["DELETE"],
            Command::Merge => &["MERGE"],
            Command::Copy(_) => &["COPY"],
            Command::Begin(_) => &["BEGIN", "START TRANSACTION"],
            // A failed transaction can only be rolled back, and PostgreSQL says so.
            Command::Commit { .. } => &["COMMIT", "ROLLBACK"],
            Command::Rollback { .. } | Command::RollbackTo(_) => &["ROLLBACK"],
            Command::Savepoint(_) => &["SAVEPOINT"],
            Command::Release(_) => &["RELEASE"],
            Command::PrepareTransaction => &["PREPARE TRANSACTION", "ROLLBACK"],
            Command::FinishPrepared => &["COMMIT PREPARED", "ROLLBACK PREPARED"],
            Command::Set(_) | Command::SetTransaction(_) | Command::SetCharacteristics(..) => &["SET"],
            Command::SetConstraints => &["SET CONSTRAINTS"],
            Command::Reset(_) | Command::ResetAll => &["RESET"],
            Command::Show(_) => &["SHOW"],
            Command::Discard(Discard::All) => &["DISCARD ALL"],
            Command::Discard(Discard::Plans) => &["DISCARD PLANS"],
            Command::Discard(Discard::Sequences) => &["DISCARD SEQUENCES"],
            Command::Discard(Discard::Temporary) => &["DISCARD TEMP"],
            Command::Prepare { .. } => &["PREPARE"],
            Command::Execute(_) => &["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"],
            Command::Deallocate(Some(_)) => &["DEALLOCATE"],
            Command::Deallocate(None) => &["DEALLOCATE ALL"],
            Command::Listen(_) => &["LISTEN"],
            Command::Unlisten(_) => &["UNLISTEN"],
            Command::Notify(_) => &["NOTIFY"],
            Command::Declare { .. } => &["DECLARE CURSOR"],
            Command::Fetch => &["FETCH"],
            Command::Move => &["MOVE"],
            Command::Close(Some(_)) => &["CLOSE CURSOR"],
            Command::Close(None) => &["CLOSE CURSOR ALL"],
            Command::Lock => &["LOCK TABLE"],
            Command::Do => &["DO"],
            Command::Call => &["CALL"],
            Command::Load => &["LOAD"],
            Command::Explain { .. } => &["EXPLAIN"],
            Command::CreateAs => &["SELECT", "CREATE TABLE AS", "CREATE MATERIALIZED VIEW"],
            Command::Drop | Command::Other => return Tags::Stateless,
        })
    }
}

impl Tags {
    /// Tags that only commands give whose kind tells of a change of state, by their first words.
    const OF_STATE: &[&str] = &[
        "BEGIN",
        "CALL",
        "CLOSE CURSOR",
        "COMMIT",
        "DEALLOCATE",
        "DECLARE CURSOR",
        "DISCARD",
        "DO",
        "LISTEN",
        "LOAD",
        "PREPARE",
        "RELEASE",
        "RESET",
        "ROLLBACK",
        "SAVEPOINT",
        "SET",
        "START TRANSACTION",
        "UNLISTEN",
    ];

    /// Whether a completion tag (without its NUL) is one of these. One that is not says that the text was not read as
    /// the server read it.
    pub fn predict(self, tag: &[u8]) -> bool {
        let number = tag.iter().position(u8::is_ascii_digit).unwrap_or(tag.len());
        let words = tag[..number].trim_ascii_end();
        match self {
            Tags::Only(tags) => tags.iter().any(|of| of.as_bytes() == words),
            Tags::Stateless => {
                let is_of = |of: &&str| {
                    words.strip_prefix(of.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b' ')
                };
                words == b"SET CONSTRAINTS" || !Tags::OF_STATE.iter().any(is_of)
            }
        }
    }
}

/// Parameters that PostgreSQL sets anew at each beginning of a transaction, whatever SET says.
const OF_TRANSACTION: [&str; 3] =
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

impl<'t> Scan<'t> {
    /// Reads the statement to its end.
    pub(super) fn command(&mut self) -> Command<'t> {
        let Some(first) = self.step() else { return Command::Other };
        let command = match first.kind {
            // Behind parentheses comes a query, and nothing else.
            Kind::Open => Command::Select,
            Kind::Word => match Folded::of(self.text_of(first)) {
                Some(word) => self.by_word(word.as_bytes()),
                None => Command::Other,
            },
            _ => Command::Other,
        };
        self.finish();
        command
    }

    fn by_word(&mut self, word: &[u8]) -> Command<'t> {
        match word {
            b"select" | b"values" | b"table" => Command::Select,
            b"insert" => Command::Insert,
            b"update" => Command::Update,
            b"delete" => Command::Delete,
            b"merge" => Command::Merge,
            b"with" => self.with(),
            b"begin" => self.begin_transaction(),
            b"start" => {
                self.word("transaction");
                self.begin_transaction()
            }
            b"commit" | b"end" => self.end_transaction(true),
            b"rollback" | b"abort" => self.end_transaction(false),
            b"savepoint" => {
                self.effects |= Effects::TRANSACTION;
                Command::Savepoint(self.name())
            }
            b"release" => {
                self.effects |= Effects::TRANSACTION;
                self.noise("savepoint");
                Command::Release(self.name())
            }
            b"set" => self.set(),
            b"reset" => self.reset(),
            b"show" => self.show(),
            b"discard" => self.discard(),
            b"prepare" => self.prepare(),
            b"execute" => {
                self.effects |= Effects::EXECUTE;
                let name = self.name();
                // Its parentheses are no call, but what is in them may have some.
                self.calls_from_here();
                Command::Execute(name)
            }
            b"deallocate" => {
                self.effects |= Effects::PREPARED;
                self.noise("prepare");
                Command::Deallocate(self.name_or("all"))
            }
            b"listen" => {
                self.effects |= Effects::LISTEN;
                Command::Listen(self.name())
            }
            b"unlisten" => {
                self.effects |= Effects::LISTEN;
                Command::Unlisten(self.name())
            }
            b"notify" => {
                self.effects |= Effects::NOTIFY;
                Command::Notify(self.name())
            }
            b"declare" => self.declare(),
            b"fetch" | b"move" => {
                self.effects |= Effects::CURSOR;
                if word == b"fetch" { Command::Fetch } else { Command::Move }
            }
            b"close" => {
                self.effects |= Effects::CURSOR;
                Command::Close(self.name_or("all"))
            }
            b"copy" => self.copy(),
            b"lock" => Command::Lock,
            b"do" => {
                self.effects |= Effects::CODE;
                Command::Do
            }
            b"call" => {
                self.effects |= Effects::CODE;
                Command::Call
            }
            b"load" => {
                self.effects |= Effects::LASTING;
                Command::Load
            }
            b"explain" => self.explain(),
            b"create" => self.create(),
            b"drop" => {
                self.calls = false;
                Command::Drop
            }
            b"alter" => self.alter(),
            // Names and lists of columns; nothing of the user's runs, or only in a restricted operation that undoes
            // settings and takes no locks of the session.
            b"analyze" | b"analyse" | b"checkpoint" | b"cluster" | b"comment" | b"grant" | b"reassign"
            | b"refresh" | b"reindex" | b"revoke" | b"security" | b"truncate" | b"vacuum" => {
                self.calls = false;
                Command::Other
            }
            _ => Command::Other,
        }
    }

    // ---- pieces

    /// Whether the next token is this keyword.
    fn peek_is(&mut self, word: &str) -> bool {
        !self.behind_dot()
            && self.peek().is_some_and(|token| token.kind == Kind::Word && is_word(self.text_of(token), word))
    }

    /// Takes the next word if it is this one.
    fn word(&mut self, word: &str) -> bool {
        let is = self.peek_is(word);
        if is {
            self.step();
        }
        is
    }

    fn kind(&mut self, kind: Kind) -> Option<Token> {
        self.peek().filter(|token| token.kind == kind)?;
        self.step()
    }

    fn name(&mut self) -> Option<Name<'t>> {
        self.peek().filter(|token| token.kind.is_name())?;
        self.step().map(|token| Name::of(self.text(), token))
    }

    /// A name, unless it is this word without quotes.
    fn name_or(&mut self, word: &str) -> Option<Name<'t>> {
        if self.word(word) { None } else { self.name() }
    }

    /// The token behind so many others, in this statement.
    fn behind(&mut self, tokens: usize) -> Option<Token> {
        self.peek()?;
        let mut ahead = self.ahead();
        for _ in 0..tokens {
            // No semicolon belongs to the statements that ask.
            ahead.next().filter(|token| token.kind != Kind::Semicolon)?;
        }
        ahead.next().filter(|token| token.kind != Kind::Semicolon)
    }

    /// What follows the next token.
    fn second(&mut self) -> Option<Token> {
        self.behind(1)
    }

    fn second_is(&mut self, word: &str) -> bool {
        self.second().is_some_and(|token| token.kind == Kind::Word && is_word(self.text_of(token), word))
    }

    /// Takes the next two words if they are these.
    fn words(&mut self, first: &str, second: &str) -> bool {
        let are = self.peek_is(first) && self.second_is(second);
        if are {
            self.step();
            self.step();
        }
        are
    }

    /// A word that may be left out, if a name follows: otherwise it is the name.
    fn noise(&mut self, word: &str) {
        if self.peek_is(word) && self.second().is_some_and(|token| token.kind.is_name()) {
            self.step();
        }
    }

    /// From the first of some tokens to the last one read.
    fn since(&self, start: usize) -> &'t [u8] {
        &self.text()[start..self.end().max(start)]
    }

    fn calls_from_here(&mut self) {
        let calls = std::mem::replace(&mut self.calls, false);
        self.kind(Kind::Open);
        self.calls = calls;
    }

    // ---- transactions

    fn begin_transaction(&mut self) -> Command<'t> {
        self.effects |= Effects::TRANSACTION;
        if !self.word("work") {
            self.word("transaction");
        }
        Command::Begin(self.transaction_modes())
    }

    /// COMMIT or ROLLBACK with what follows.
    fn end_transaction(&mut self, commit: bool) -> Command<'t> {
        self.effects |= Effects::TRANSACTION;
        if self.word("prepared") {
            return Command::FinishPrepared;
        }
        if !self.word("work") {
            self.word("transaction");
        }
        if !commit && self.word("to") {
            self.noise("savepoint");
            return Command::RollbackTo(self.name());
        }
        let chain = self.word("and") && !self.word("no");
        if commit { Command::Commit { chain } } else { Command::Rollback { chain } }
    }

    fn transaction_modes(&mut self) -> TransactionModes {
        let mut modes = TransactionModes::default();
        let mut not = false;
        while let Some(token) = self.step() {
            let folded = Folded::of(self.text_of(token));
            match folded.as_ref().map(Folded::as_bytes) {
                Some(b"only") => modes.read_only = Some(true),
                Some(b"write") => modes.read_only = Some(false),
                Some(b"deferrable") => modes.deferrable = Some(!not),
                Some(b"serializable") => modes.isolation = Some(Isolation::Serializable),
                Some(b"repeatable") => modes.isolation = Some(Isolation::RepeatableRead),
                Some(b"committed") => modes.isolation = Some(Isolation::ReadCommitted),
                Some(b"uncommitted") => modes.isolation = Some(Isolation::ReadUncommitted),
                Some(b"snapshot") => modes.snapshot = true,
                _ => {}
            }
            not = folded.as_ref().map(Folded::as_bytes) == Some(b"not");
        }
        modes
    }

    // ---- parameters

    fn set(&mut self) -> Command<'t> {
        self.calls = false;
        if self.keyword("constraints") {
            return Command::SetConstraints;
        }
        let command = self.set_form();
        self.effects |= match &command {
            Command::SetTransaction(_)
            | Command::SetCharacteristics(Scope::Local, _)
            | Command::Set(Set { scope: Scope::Local, .. }) => Effects::LOCAL_SETTING,
            Command::Set(set) if OF_TRANSACTION.iter().any(|name| set.parameter.is(name)) => {
                Effects::LOCAL_SETTING
            }
            _ => Effects::SETTING,
        };
        command
    }

    /// Takes the next word if it is this one, and no parameter's name or the beginning of one.
    fn keyword(&mut self, word: &str) -> bool {
        if !self.peek_is(word) {
            return false;
        }
        let names_parameter = self.second().is_some_and(|next| match next.kind {
            Kind::Dot => true,
            Kind::Operator => self.text_of(next) == b"=",
            Kind::Word => is_word(self.text_of(next), "to") || is_word(self.text_of(next), "from"),
            _ => false,
        });
        if !names_parameter {
            self.step();
        }
        !names_parameter
    }

    fn set_form(&mut self) -> Command<'t> {
        let scope = if self.keyword("local") { Scope::Local } else { Scope::Session };
        // SET SESSION CHARACTERISTICS and SET SESSION AUTHORIZATION are forms of their own, which may have a SESSION before
        // them like every other form.
        if scope == Scope::Session && self.peek_is("session") && !self.session_is_form() {
            self.keyword("session");
        }
        if self.words("session", "authorization") {
            return self.set_known(scope, "session_authorization");
        }
        if self.session_is_form() && self.words("session", "characteristics") {
            self.words("as", "transaction");
            return Command::SetCharacteristics(scope, self.transaction_modes());
        }
        if self.keyword("transaction") {
            return Command::SetTransaction(self.transaction_modes());
        }
        if self.keyword("time") {
            self.word("zone");
            return self.set_known(scope, "timezone");
        }
        if self.keyword("names") {
            return self.set_known(scope, "client_encoding");
        }
        if self.keyword("schema") {
            return self.set_known(scope, "search_path");
        }
        if self.keyword("role") {
            return self.set_known(scope, "role");
        }
        if self.keyword("xml") {
            self.word("option");
            return self.set_known(scope, "xmloption");
        }
        let parameter = self.parameter();
        if !self.word("to") {
            // `=`; or FROM CURRENT, whose value the text does not say.
            if self.peek().is_none_or(|token| self.text_of(token) != b"=") {
                return Command::Set(Set { scope, parameter, value: Value::Unknown });
            }
            self.step();
        }
        let value = self.values();
        Command::Set(Set { scope, parameter, value })
    }

    /// Whether SESSION, which comes next, begins one of its own forms.
    fn session_is_form(&mut self) -> bool {
        if self.second_is("authorization") {
            return true;
        }
        let third = self.behind(2);
        self.second_is("characteristics")
            && third.is_some_and(|token| token.kind == Kind::Word && is_word(self.text_of(token), "as"))
    }

    fn set_known(&mut self, scope: Scope, name: &'static str) -> Command<'t> {
        let parameter = Parameter::Known(name);
        let value = match self.peek() {
            None => Value::Default,
            Some(_) if name == "timezone" && self.peek_is("local") => Value::Default,
            Some(_) => self.values(),
        };
        Command::Set(Set { scope, parameter, value })
    }

    fn parameter(&mut self) -> Parameter<'t> {
        let start = self.peek().map_or(self.end(), |token| token.start);
        if self.name().is_some() {
            while self.kind(Kind::Dot).is_some() && self.name().is_some() {}
        }
        Parameter::Written(self.since(start))
    }

    fn values(&mut self) -> Value<'t> {
        let Some(first) = self.peek() else { return Value::Unknown };
        if self.peek_is("default") {
            return Value::Default;
        }
        self.finish();
        let text = self.since(first.start);
        Value::List(Values { text, conforming_strings: self.reading().conforming_strings })
    }

    fn reset(&mut self) -> Command<'t> {
        self.calls = false;
        self.effects |= Effects::SETTING;
        if self.word("all") { Command::ResetAll } else { Command::Reset(self.parameter_or_form()) }
    }

    fn show(&mut self) -> Command<'t> {
        self.calls = false;
        let parameter = self.parameter_or_form();
        // `"all"` is as good as ALL to it.
        Command::Show(if parameter.is("all") { None } else { Some(parameter) })
    }

    /// What RESET and SHOW name.
    fn parameter_or_form(&mut self) -> Parameter<'t> {
        if self.words("time", "zone") {
            Parameter::Known("timezone")
        } else if self.words("session", "authorization") {
            Parameter::Known("session_authorization")
        } else if self.words("transaction", "isolation") {
            Parameter::Known("transaction_isolation")
        } else {
            self.parameter()
        }
    }

    fn discard(&mut self) -> Command<'t> {
        self.effects |= Effects::DISCARD;
        Command::Discard(if self.word("plans") {
            Discard::Plans
        } else if self.word("sequences") {
            Discard::Sequences
        } else if self.word("temp") || self.word("temporary") {
            Discard::Temporary
        } else {
            Discard::All
        })
    }

    // ---- prepared statements and cursors

    fn prepare(&mut self) -> Command<'t> {
        self.calls = false;
        if self.peek_is("transaction") && self.second().is_some_and(|token| token.kind.is_string()) {
            self.effects |= Effects::TRANSACTION;
            return Command::PrepareTransaction;
        }
        let name = self.name();
        // Types; then AS.
        while !self.peek_is("as") && self.step().is_some() {}
        self.step();
        let start = self.peek().map_or(self.end(), |token| token.start);
        self.finish();
        self.effects = Effects::PREPARED;
        Command::Prepare { name, body: self.since(start) }
    }

    fn declare(&mut self) -> Command<'t> {
        let name = self.name();
        let mut hold = false;
        while !self.peek_is("for") {
            if self.word("with") {
                hold = self.peek_is("hold");
            } else if self.step().is_none() {
                break;
            }
        }
        self.effects |= if hold { Effects::HELD_CURSOR } else { Effects::CURSOR };
        Command::Declare { name, hold }
    }

    // ---- queries and data

    fn with(&mut self) -> Command<'t> {
        while let Some(token) = self.peek() {
            let verb = self.at_top() && token.kind == Kind::Word && self.is_verb(token);
            if verb || self.at_top() && token.kind == Kind::Open && self.behind_close() {
                let text = self.text_of(token);
                let command = match Folded::of(text).as_ref().map(Folded::as_bytes) {
                    Some(b"insert") => Command::Insert,
                    Some(b"update") => Command::Update,
                    Some(b"delete") => Command::Delete,
                    Some(b"merge") => Command::Merge,
                    _ => Command::Select,
                };
                return command;
            }
            self.step();
        }
        Command::Select
    }

    fn copy(&mut self) -> Command<'t> {
        // The calls of a query count; a table's columns are none.
        self.calls = self.peek().is_some_and(|token| token.kind == Kind::Open);
        let mut copy = Copy::Server;
        while self.peek().is_some() {
            let (from, to) = (self.peek_is("from"), self.peek_is("to"));
            self.step();
            if self.at_top() && (from || to) {
                if self.word("stdin") || self.word("stdout") {
                    copy = if from { Copy::In } else { Copy::Out };
                }
                break;
            }
        }
        // Options, of which some have lists; then a condition for the rows.
        self.calls = false;
        while self.peek().is_some_and(|token| !(self.at_top() && is_word(self.text_of(token), "where"))) {
            self.step();
        }
        self.calls = true;
        Command::Copy(copy)
    }

    fn explain(&mut self) -> Command<'t> {
        let mut analyze = false;
        if self.kind(Kind::Open).is_some() {
            while !self.at_top() {
                let Some(token) = self.step() else { break };
                let text = self.text_of(token);
                if token.kind == Kind::Word && (is_word(text, "analyze") || is_word(text, "analyse")) {
                    // Whatever value follows: off is as good as on for what we say.
                    analyze = true;
                }
            }
        } else {
            loop {
                if self.word("analyze") || self.word("analyse") {
                    analyze = true;
                } else if !self.word("verbose") {
                    break;
                }
            }
        }
        if let Some(token) = self.step()
            && token.kind == Kind::Word
            && let Some(word) = Folded::of(self.text_of(token))
        {
            let inner = self.by_word(word.as_bytes());
            let effects = match inner {
                // It runs the query, and makes no cursor.
                Command::Declare { .. } => self.effects.without(Effects::CURSOR | Effects::HELD_CURSOR),
                _ => self.effects,
            };
            self.effects = effects;
            self.finish();
        }
        if !analyze {
            self.effects = self.effects.without(Effects::TEMPORARY | Effects::EXECUTE);
        }
        Command::Explain { analyze }
    }

    // ---- definitions

    fn create(&mut self) -> Command<'t> {
        self.calls = false;
        let mut temporary = false;
        while let Some(token) = self.step() {
            let Some(word) = Folded::of(self.text_of(token)) else { return Command::Other };
            match word.as_bytes() {
                b"or" | b"replace" | b"global" | b"local" | b"unlogged" | b"unique" | b"recursive"
                | b"trusted" | b"constraint" | b"event" => {}
                b"temp" | b"temporary" => temporary = true,
                b"table" => return self.create_table(temporary),
                b"materialized" => {
                    self.word("view");
                    if self.names_temporary() {
                        self.effects |= Effects::TEMPORARY;
                    }
                    self.calls = true;
                    return Command::CreateAs;
                }
                b"index" => {
                    while !self.peek_is("on") && self.step().is_some() {}
                    self.step();
                    while self.peek().is_some_and(|token| token.kind != Kind::Open) {
                        self.step();
                    }
                    self.step();
                    self.calls = true;
                    return Command::Other;
                }
                b"schema" => {
                    self.calls = true;
                    return Command::Other;
                }
                b"extension" | b"language" => {
                    // Runs a script, and may load a library. A language without a handler is an extension.
                    self.effects |= Effects::CODE;
                    return Command::Other;
                }
                _ => return self.finish_definition(temporary),
            }
        }
        Command::Other
    }

    /// To the end of a definition, whose parts are kept and not run. Whether it names the schema of temporary objects.
    fn finish_definition(&mut self, temporary: bool) -> Command<'t> {
        let mut named = temporary;
        while let Some(token) = self.step() {
            named = named || token.kind == Kind::Dot && self.is_behind_temporary_schema();
        }
        self.effects = if named { Effects::TEMPORARY } else { Effects::NONE };
        Command::Other
    }

    fn create_table(&mut self, temporary: bool) -> Command<'t> {
        let temporary = self.names_temporary() || temporary;
        self.calls = true;
        let (mut command, mut dropped) = (Command::Other, false);
        // … (columns) ON COMMIT DROP AS SELECT …
        while let Some(token) = self.peek() {
            if self.at_top() && token.kind == Kind::Word {
                if self.peek_is("as") {
                    command = Command::CreateAs;
                    self.step();
                    if self.word("execute") {
                        self.effects |= Effects::EXECUTE;
                        self.name();
                        self.calls_from_here();
                    }
                    break;
                }
                if self.word("commit") {
                    dropped |= self.word("drop");
                    continue;
                }
            }
            self.step();
        }
        if temporary && !dropped {
            self.effects |= Effects::TEMPORARY;
        }
        command
    }

    /// Whether the new relation that is named here, perhaps behind IF NOT EXISTS, is in the schema of temporary objects.
    fn names_temporary(&mut self) -> bool {
        if self.second_is("not") && self.word("if") {
            self.word("not");
            self.word("exists");
        }
        self.is_temporary_name(self.ahead())
    }

    fn alter(&mut self) -> Command<'t> {
        // Expressions of tables and domains are evaluated for their rows; the others define, and set for later.
        self.calls = self.peek_is("table") || self.peek_is("domain") || self.peek_is("foreign");
        if self.peek_is("extension") {
            self.effects |= Effects::CODE;
        }
        Command::Other
    }
}
