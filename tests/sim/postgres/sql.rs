//! Parser of the small SQL dialect: text to statements. What it does not know is a syntax error at its first token.

use super::error::PgError;
use super::lexer::{Kind, Token, tokens};
use super::value::Type;

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Text(String),
    Integer(i64),
    Decimal(String),
    Bool(bool),
    Null,
    Parameter(usize),
    Column(String),
    Call { name: String, arguments: Vec<Expr> },
    CountStar,
    Cast { inner: Box<Expr>, to: Type },
    Binary { operator: &'static str, left: Box<Expr>, right: Box<Expr> },
    Negative(Box<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Star,
    Expr { expr: Expr, alias: Option<String> },
}

#[derive(Clone, Debug, PartialEq)]
pub enum From {
    Nothing,
    Series { first: Expr, last: Expr, alias: String },
    Table(Name),
}

/// A table's name; `temporary` when it is written `pg_temp.name`.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    pub schema: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    pub targets: Vec<Target>,
    pub from: From,
    pub filter: Option<Expr>,
    /// Place of the sort key among the targets, from 1, and whether it descends.
    pub order: Option<(Expr, bool)>,
    pub limit: Option<Expr>,
}

#[derive(Clone, Debug)]
pub struct ColumnDef {
    pub name: String,
    pub kind: Type,
    pub key: bool,
}

#[derive(Clone, Debug)]
pub enum CopyFrom {
    Table { name: Name, columns: Vec<String> },
    Query(Box<Select>),
}

#[derive(Clone, Debug)]
pub enum Scope {
    Session,
    Local,
}

#[derive(Clone, Debug)]
pub enum How {
    Value(String),
    Default,
}

#[derive(Clone, Debug)]
pub enum Discard {
    All,
    Plans,
    Temporary,
    Sequences,
}

/// How far FETCH goes; `None` is ALL.
pub type FetchCount = Option<i64>;

#[derive(Clone, Debug)]
pub enum Stmt {
    Select(Select),
    Insert {
        table: Name,
        columns: Vec<String>,
        rows: Vec<Vec<Expr>>,
        source: Option<Select>,
        returning: Vec<Target>,
    },
    Update {
        table: Name,
        set: Vec<(String, Expr)>,
        filter: Option<Expr>,
    },
    Delete {
        table: Name,
        filter: Option<Expr>,
    },
    Truncate(Name),
    CreateTable {
        name: Name,
        temporary: bool,
        if_not_exists: bool,
        columns: Vec<ColumnDef>,
    },
    CreateView {
        name: Name,
        select: Select,
    },
    Drop {
        name: Name,
        view: bool,
        if_exists: bool,
    },
    CopyIn {
        table: Name,
        columns: Vec<String>,
    },
    CopyOut(CopyFrom),
    Begin(Vec<(&'static str, String)>, &'static str),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    Set {
        scope: Scope,
        name: String,
        how: How,
    },
    SetTransaction(Vec<(&'static str, String)>),
    Reset(String),
    ResetAll,
    Show(String),
    Discard(Discard),
    Prepare {
        name: String,
        types: Vec<Type>,
        body: Box<Parsed>,
    },
    ExecutePrepared {
        name: String,
        arguments: Vec<Expr>,
    },
    Deallocate(Option<String>),
    Declare {
        name: String,
        hold: bool,
        select: Select,
    },
    Fetch {
        count: FetchCount,
        cursor: String,
        moving: bool,
    },
    CloseCursor(Option<String>),
    Listen(String),
    Unlisten(Option<String>),
    Notify {
        channel: String,
        payload: String,
    },
    Do {
        level: String,
        message: String,
    },
    Vacuum,
}

/// A statement with its own text.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub stmt: Stmt,
    pub text: String,
}

impl Stmt {
    /// `TransactionStmt` of PostgreSQL.
    pub fn is_transaction(&self) -> bool {
        matches!(
            self,
            Stmt::Begin(..)
                | Stmt::Commit { .. }
                | Stmt::Rollback { .. }
                | Stmt::Savepoint(_)
                | Stmt::RollbackTo(_)
                | Stmt::Release(_)
        )
    }

    /// May run in an aborted transaction (`IsTransactionExitStmt`).
    pub fn is_exit(&self) -> bool {
        matches!(self, Stmt::Commit { .. } | Stmt::Rollback { .. } | Stmt::RollbackTo(_))
    }
}

/// All statements of a query string; empty ones are dropped.
///
/// # Errors
/// 42601 with the text PostgreSQL gives.
pub fn parse(sql: &str) -> Result<Vec<Parsed>, PgError> {
    let mut parser = Parser { sql, tokens: tokens(sql)?, at: 0 };
    let mut statements = Vec::new();
    loop {
        while parser.eat(";") {}
        if parser.peek() == &Kind::End {
            return Ok(statements);
        }
        statements.push(parser.parsed()?);
        if parser.peek() != &Kind::End {
            parser.expect(";")?;
        }
    }
}

struct Parser<'a> {
    sql: &'a str,
    tokens: Vec<Token>,
    at: usize,
}

/// Words that end an expression or a list, so that they are not taken as an alias.
const RESERVED: [&str; 17] = [
    "from",
    "where",
    "order",
    "limit",
    "returning",
    "to",
    "into",
    "values",
    "as",
    "set",
    "select",
    "and",
    "or",
    "union",
    "for",
    "with",
    "on",
];

type Res<T> = Result<T, PgError>;

impl Parser<'_> {
    fn peek(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    fn next(&mut self) -> Kind {
        let kind = self.peek().clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        kind
    }

    fn fail<T>(&self) -> Res<T> {
        let token = &self.tokens[self.at];
        Err(PgError::syntax(match token.kind {
            Kind::End => "syntax error at end of input".to_string(),
            _ => format!("syntax error at or near \"{}\"", &self.sql[token.start..token.end]),
        }))
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Kind::Symbol(s) if *s == symbol);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Res<()> {
        if self.eat(symbol) { Ok(()) } else { self.fail() }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(w) if w == word)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.next();
        }
        found
    }

    fn expect_word(&mut self, word: &str) -> Res<()> {
        if self.eat_word(word) { Ok(()) } else { self.fail() }
    }

    fn name(&mut self) -> Res<String> {
        match self.peek() {
            Kind::Word(word) if RESERVED.contains(&word.as_str()) => self.fail(),
            Kind::Word(word) | Kind::Quoted(word) => {
                let word = word.clone();
                self.next();
                Ok(word)
            }
            _ => self.fail(),
        }
    }

    fn table(&mut self) -> Res<Name> {
        let name = self.name()?;
        if self.eat(".") {
            Ok(Name { schema: Some(name), name: self.name()? })
        } else {
            Ok(Name { schema: None, name })
        }
    }

    fn parsed(&mut self) -> Res<Parsed> {
        let start = self.tokens[self.at].start;
        let stmt = self.stmt()?;
        let end = self.tokens[self.at].start;
        Ok(Parsed { stmt, text: self.sql[start..end].trim_end().to_string() })
    }

    fn stmt(&mut self) -> Res<Stmt> {
        let Kind::Word(word) = self.peek().clone() else { return self.fail() };
        let start = self.at;
        self.next();
        match word.as_str() {
            "select" => Ok(Stmt::Select(self.select()?)),
            "insert" => self.insert(),
            "update" => self.update(),
            "delete" => {
                self.expect_word("from")?;
                Ok(Stmt::Delete { table: self.table()?, filter: self.filter()? })
            }
            "truncate" => {
                self.eat_word("table");
                Ok(Stmt::Truncate(self.table()?))
            }
            "create" => self.create(),
            "drop" => self.drop_statement(),
            "copy" => self.copy(),
            "begin" => {
                let _ = self.eat_word("transaction") || self.eat_word("work");
                Ok(Stmt::Begin(self.transaction_modes()?, "BEGIN"))
            }
            "start" => {
                self.expect_word("transaction")?;
                Ok(Stmt::Begin(self.transaction_modes()?, "START TRANSACTION"))
            }
            "commit" | "end" => {
                let _ = self.eat_word("transaction") || self.eat_word("work");
                Ok(Stmt::Commit { chain: self.chain()? })
            }
            "rollback" | "abort" => {
                let _ = self.eat_word("transaction") || self.eat_word("work");
                if self.eat_word("to") {
                    self.eat_word("savepoint");
                    return Ok(Stmt::RollbackTo(self.name()?));
                }
                Ok(Stmt::Rollback { chain: self.chain()? })
            }
            "savepoint" => Ok(Stmt::Savepoint(self.name()?)),
            "release" => {
                self.eat_word("savepoint");
                Ok(Stmt::Release(self.name()?))
            }
            "set" => self.set(),
            "reset" => {
                if self.eat_word("all") {
                    return Ok(Stmt::ResetAll);
                }
                Ok(Stmt::Reset(self.setting()?))
            }
            "show" => Ok(Stmt::Show(self.setting()?)),
            "discard" => Ok(Stmt::Discard(match self.name()?.as_str() {
                "all" => Discard::All,
                "plans" => Discard::Plans,
                "temp" | "temporary" => Discard::Temporary,
                "sequences" => Discard::Sequences,
                _ => return self.fail(),
            })),
            "prepare" => self.prepare(),
            "execute" => {
                let name = self.name()?;
                let arguments = if self.eat("(") { self.arguments()? } else { Vec::new() };
                Ok(Stmt::ExecutePrepared { name, arguments })
            }
            "deallocate" => {
                self.eat_word("prepare");
                let name = self.name()?;
                Ok(Stmt::Deallocate((name != "all").then_some(name)))
            }
            "declare" => {
                let name = self.name()?;
                if self.eat_word("no") {
                    self.expect_word("scroll")?;
                }
                self.expect_word("cursor")?;
                let hold = self.eat_word("with");
                if hold {
                    self.expect_word("hold")?;
                }
                self.expect_word("for")?;
                self.expect_word("select")?;
                Ok(Stmt::Declare { name, hold, select: self.select()? })
            }
            "fetch" | "move" => self.fetch(word == "move"),
            "close" => {
                let name = self.name()?;
                Ok(Stmt::CloseCursor((name != "all").then_some(name)))
            }
            "listen" => Ok(Stmt::Listen(self.name()?)),
            "unlisten" => {
                if self.eat("*") {
                    return Ok(Stmt::Unlisten(None));
                }
                Ok(Stmt::Unlisten(Some(self.name()?)))
            }
            "notify" => {
                let channel = self.name()?;
                let payload = if self.eat(",") { self.text()? } else { String::new() };
                Ok(Stmt::Notify { channel, payload })
            }
            "do" => self.do_block(),
            "vacuum" => Ok(Stmt::Vacuum),
            _ => {
                self.at = start;
                self.fail()
            }
        }
    }

    fn text(&mut self) -> Res<String> {
        match self.peek().clone() {
            Kind::Text(text) => {
                self.next();
                Ok(text)
            }
            _ => self.fail(),
        }
    }

    fn chain(&mut self) -> Res<bool> {
        if !self.eat_word("and") {
            return Ok(false);
        }
        let no = self.eat_word("no");
        self.expect_word("chain")?;
        Ok(!no)
    }

    fn transaction_modes(&mut self) -> Res<Vec<(&'static str, String)>> {
        let mut modes = Vec::new();
        loop {
            if self.eat_word("isolation") {
                self.expect_word("level")?;
                let mut level = self.name()?;
                if level == "read" || level == "repeatable" {
                    level = format!("{level} {}", self.name()?);
                }
                modes.push(("transaction_isolation", level));
            } else if self.eat_word("read") {
                let mode = if self.eat_word("only") { "on" } else { "off" };
                if mode == "off" {
                    self.expect_word("write")?;
                }
                modes.push(("transaction_read_only", mode.to_string()));
            } else {
                return Ok(modes);
            }
            self.eat(",");
        }
    }

    fn insert(&mut self) -> Res<Stmt> {
        self.expect_word("into")?;
        let table = self.table()?;
        let columns = self.column_list()?;
        let mut rows = Vec::new();
        let mut source = None;
        if self.eat_word("select") {
            source = Some(self.select()?);
        } else {
            self.expect_word("values")?;
            loop {
                self.expect("(")?;
                rows.push(self.arguments()?);
                if !self.eat(",") {
                    break;
                }
            }
        }
        let returning = if self.eat_word("returning") { self.targets()? } else { Vec::new() };
        Ok(Stmt::Insert { table, columns, rows, source, returning })
    }

    fn update(&mut self) -> Res<Stmt> {
        let table = self.table()?;
        self.expect_word("set")?;
        let mut set = Vec::new();
        loop {
            let column = self.name()?;
            self.expect("=")?;
            set.push((column, self.expr()?));
            if !self.eat(",") {
                break;
            }
        }
        Ok(Stmt::Update { table, set, filter: self.filter()? })
    }

    fn filter(&mut self) -> Res<Option<Expr>> {
        if self.eat_word("where") { Ok(Some(self.comparison()?)) } else { Ok(None) }
    }

    fn column_list(&mut self) -> Res<Vec<String>> {
        let mut columns = Vec::new();
        if self.eat("(") {
            loop {
                columns.push(self.name()?);
                if !self.eat(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        Ok(columns)
    }

    fn create(&mut self) -> Res<Stmt> {
        if self.eat_word("view") {
            let name = self.table()?;
            self.expect_word("as")?;
            self.expect_word("select")?;
            return Ok(Stmt::CreateView { name, select: self.select()? });
        }
        let temporary = self.eat_word("temp") || self.eat_word("temporary");
        self.expect_word("table")?;
        let if_not_exists = self.eat_word("if");
        if if_not_exists {
            self.expect_word("not")?;
            self.expect_word("exists")?;
        }
        let name = self.table()?;
        self.expect("(")?;
        let mut columns = Vec::new();
        while !self.eat(")") {
            let column = self.name()?;
            let kind = self.type_name()?;
            let key = self.eat_word("primary");
            if key {
                self.expect_word("key")?;
            }
            columns.push(ColumnDef { name: column, kind, key });
            self.eat(",");
        }
        Ok(Stmt::CreateTable { name, temporary, if_not_exists, columns })
    }

    fn drop_statement(&mut self) -> Res<Stmt> {
        let view = self.eat_word("view");
        if !view {
            self.expect_word("table")?;
        }
        let if_exists = self.eat_word("if");
        if if_exists {
            self.expect_word("exists")?;
        }
        Ok(Stmt::Drop { name: self.table()?, view, if_exists })
    }

    fn copy(&mut self) -> Res<Stmt> {
        if self.eat("(") {
            self.expect_word("select")?;
            let select = self.select()?;
            self.expect(")")?;
            self.expect_word("to")?;
            self.expect_word("stdout")?;
            return Ok(Stmt::CopyOut(CopyFrom::Query(Box::new(select))));
        }
        let name = self.table()?;
        let columns = self.column_list()?;
        if self.eat_word("from") {
            self.expect_word("stdin")?;
            return Ok(Stmt::CopyIn { table: name, columns });
        }
        self.expect_word("to")?;
        self.expect_word("stdout")?;
        Ok(Stmt::CopyOut(CopyFrom::Table { name, columns }))
    }

    fn set(&mut self) -> Res<Stmt> {
        let scope = if self.eat_word("local") {
            Scope::Local
        } else {
            self.eat_word("session");
            Scope::Session
        };
        if self.eat_word("transaction") {
            return Ok(Stmt::SetTransaction(self.transaction_modes()?));
        }
        let zone = self.eat_word("time");
        let name = if zone {
            self.expect_word("zone")?;
            "timezone".to_string()
        } else {
            self.setting()?
        };
        if !zone && !self.eat("=") {
            self.expect_word("to")?;
        }
        if self.eat_word("default") || (zone && self.eat_word("local")) {
            return Ok(Stmt::Set { scope, name, how: How::Default });
        }
        let mut value = self.set_value()?;
        while self.eat(",") {
            value = format!("{value}, {}", self.set_value()?);
        }
        Ok(Stmt::Set { scope, name, how: How::Value(value) })
    }

    fn set_value(&mut self) -> Res<String> {
        let negative = self.eat("-");
        let value = match self.peek().clone() {
            Kind::Text(text) | Kind::Word(text) | Kind::Quoted(text) | Kind::Decimal(text) => text,
            Kind::Integer(number) => number.to_string(),
            _ => return self.fail(),
        };
        self.next();
        Ok(if negative { format!("-{value}") } else { value })
    }

    /// The name of a setting as written: `a` or `a.b`.
    fn setting(&mut self) -> Res<String> {
        if self.eat_word("transaction") {
            self.expect_word("isolation")?;
            self.expect_word("level")?;
            return Ok("transaction_isolation".into());
        }
        if self.eat_word("time") {
            self.expect_word("zone")?;
            return Ok("timezone".into());
        }
        let mut name = self.name()?;
        while self.eat(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name)
    }

    fn prepare(&mut self) -> Res<Stmt> {
        let name = self.name()?;
        let mut types = Vec::new();
        if self.eat("(") {
            loop {
                types.push(self.type_name()?);
                if !self.eat(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        self.expect_word("as")?;
        if !["select", "insert", "update", "delete"].iter().any(|word| self.is_word(word)) {
            return self.fail();
        }
        Ok(Stmt::Prepare { name, types, body: Box::new(self.parsed()?) })
    }

    fn fetch(&mut self, moving: bool) -> Res<Stmt> {
        self.eat_word("forward");
        let count = match self.peek().clone() {
            Kind::Word(word) if word == "all" => {
                self.next();
                None
            }
            Kind::Word(word) if word == "next" => {
                self.next();
                Some(1)
            }
            Kind::Integer(count) => {
                self.next();
                Some(count)
            }
            _ => Some(1),
        };
        let _ = self.eat_word("from") || self.eat_word("in");
        Ok(Stmt::Fetch { count, cursor: self.name()?, moving })
    }

    /// Only `begin raise LEVEL 'TEXT'; end` is known.
    fn do_block(&mut self) -> Res<Stmt> {
        let body = self.text()?;
        let mut inner = Parser { sql: &body, tokens: tokens(&body)?, at: 0 };
        inner.expect_word("begin")?;
        inner.expect_word("raise")?;
        let level = inner.name()?;
        let message = inner.text()?;
        inner.expect(";")?;
        inner.expect_word("end")?;
        Ok(Stmt::Do { level, message })
    }

    fn select(&mut self) -> Res<Select> {
        let targets = self.targets()?;
        let from = if self.eat_word("from") { self.from()? } else { From::Nothing };
        let filter = self.filter()?;
        let mut order = None;
        if self.eat_word("order") {
            self.expect_word("by")?;
            let key = self.expr()?;
            let descending = self.eat_word("desc");
            order = Some((key, descending));
        }
        let limit = if self.eat_word("limit") { Some(self.expr()?) } else { None };
        Ok(Select { targets, from, filter, order, limit })
    }

    fn from(&mut self) -> Res<From> {
        if !self.is_word("generate_series") {
            let table = self.table()?;
            if table.name == "pg_listening_channels" {
                self.expect("(")?;
                self.expect(")")?;
            }
            return Ok(From::Table(table));
        }
        self.next();
        self.expect("(")?;
        let first = self.expr()?;
        self.expect(",")?;
        let last = self.expr()?;
        self.expect(")")?;
        self.eat_word("as");
        let alias = match self.peek() {
            Kind::Word(word) if !RESERVED.contains(&word.as_str()) => self.name()?,
            Kind::Quoted(_) => self.name()?,
            _ => "generate_series".into(),
        };
        Ok(From::Series { first, last, alias })
    }

    fn targets(&mut self) -> Res<Vec<Target>> {
        let mut targets = Vec::new();
        if matches!(self.peek(), Kind::End | Kind::Symbol(";" | ")")) || self.is_word("from") {
            return Ok(targets);
        }
        loop {
            if self.eat("*") {
                targets.push(Target::Star);
            } else {
                let expr = self.comparison()?;
                let alias = match self.peek() {
                    Kind::Word(word) if word == "as" => {
                        self.next();
                        Some(self.name()?)
                    }
                    Kind::Word(word) if !RESERVED.contains(&word.as_str()) => Some(self.name()?),
                    Kind::Quoted(_) => Some(self.name()?),
                    _ => None,
                };
                targets.push(Target::Expr { expr, alias });
            }
            if !self.eat(",") {
                return Ok(targets);
            }
        }
    }

    fn arguments(&mut self) -> Res<Vec<Expr>> {
        let mut arguments = Vec::new();
        if self.eat(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.comparison()?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(arguments)
    }

    fn comparison(&mut self) -> Res<Expr> {
        let left = self.expr()?;
        self.binary(left, &["=", "<>", "!=", "<=", ">=", "<", ">"], Parser::expr, false)
    }

    fn expr(&mut self) -> Res<Expr> {
        let left = self.sum()?;
        self.binary(left, &["||"], Parser::sum, true)
    }

    fn sum(&mut self) -> Res<Expr> {
        let left = self.product()?;
        self.binary(left, &["+", "-"], Parser::product, true)
    }

    fn product(&mut self) -> Res<Expr> {
        let left = self.cast()?;
        self.binary(left, &["*", "/"], Parser::cast, true)
    }

    fn binary(
        &mut self,
        mut left: Expr,
        operators: &[&'static str],
        operand: fn(&mut Self) -> Res<Expr>,
        repeated: bool,
    ) -> Res<Expr> {
        while let Some(operator) =
            operators.iter().copied().find(|o| matches!(self.peek(), Kind::Symbol(s) if s == o))
        {
            self.next();
            let right = operand(self)?;
            left = Expr::Binary { operator, left: Box::new(left), right: Box::new(right) };
            if !repeated {
                break;
            }
        }
        Ok(left)
    }

    fn cast(&mut self) -> Res<Expr> {
        let mut expr = self.primary()?;
        while self.eat("::") {
            expr = Expr::Cast { inner: Box::new(expr), to: self.type_name()? };
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Res<Expr> {
        match self.peek().clone() {
            Kind::Text(text) => {
                self.next();
                Ok(Expr::Text(text))
            }
            Kind::Integer(value) => {
                self.next();
                Ok(Expr::Integer(value))
            }
            Kind::Decimal(text) => {
                self.next();
                Ok(Expr::Decimal(text))
            }
            Kind::Parameter(number) => {
                self.next();
                Ok(Expr::Parameter(number))
            }
            Kind::Symbol("(") => {
                self.next();
                if self.is_word("select") {
                    return Ok(self.catalog_query("scalar"));
                }
                let inner = self.comparison()?;
                self.expect(")")?;
                Ok(inner)
            }
            Kind::Symbol("-") => {
                self.next();
                Ok(Expr::Negative(Box::new(self.primary()?)))
            }
            Kind::Word(word) if RESERVED.contains(&word.as_str()) => self.fail(),
            Kind::Word(word) => {
                self.next();
                match word.as_str() {
                    "null" => return Ok(Expr::Null),
                    "true" => return Ok(Expr::Bool(true)),
                    "false" => return Ok(Expr::Bool(false)),
                    "current_user" | "session_user" => {
                        return Ok(Expr::Call { name: word, arguments: Vec::new() });
                    }
                    _ => {}
                }
                if word == "exists" && self.eat("(") {
                    return Ok(self.catalog_query("exists"));
                }
                let word = if word == "pg_catalog" && self.eat(".") { self.name()? } else { word };
                if !self.eat("(") {
                    return Ok(Expr::Column(word));
                }
                if word == "count" && self.eat("*") {
                    self.expect(")")?;
                    return Ok(Expr::CountStar);
                }
                Ok(Expr::Call { name: word, arguments: self.arguments()? })
            }
            Kind::Quoted(word) => {
                self.next();
                Ok(Expr::Column(word))
            }
            _ => self.fail(),
        }
    }

    /// A subquery of a catalog, up to its closing parenthesis. What it asks for is told by the relation that it reads and
    /// by the last constant in it.
    fn catalog_query(&mut self, function: &str) -> Expr {
        let (mut depth, mut relation, mut constant) = (1, String::new(), String::new());
        while depth > 0 && *self.peek() != Kind::End {
            match self.next() {
                Kind::Symbol("(") => depth += 1,
                Kind::Symbol(")") => depth -= 1,
                Kind::Text(text) => constant = text,
                Kind::Word(word) if word == "from" && relation.is_empty() => {
                    relation = self.table().map(|name| name.name).unwrap_or_default();
                }
                _ => {}
            }
        }
        let function = match (function, &*relation) {
            ("scalar", "pg_listening_channels") => "listened_channels",
            ("scalar", _) => "source_is_session",
            (other, _) => other,
        };
        Expr::Call { name: function.to_string(), arguments: vec![Expr::Text(relation), Expr::Text(constant)] }
    }

    fn type_name(&mut self) -> Res<Type> {
        let token = self.at;
        let name = self.name()?;
        Ok(match name.as_str() {
            "int" | "integer" | "int4" => Type::Int4,
            "bigint" | "int8" => Type::Int8,
            "text" => Type::Text,
            "varchar" => Type::Varchar,
            "bool" | "boolean" => Type::Bool,
            "name" => Type::Name,
            "void" => Type::Void,
            "float8" => Type::Float8,
            "double" => {
                self.expect_word("precision")?;
                Type::Float8
            }
            other => {
                let _ = token;
                return Err(PgError::error("42704", format!("type \"{other}\" does not exist")));
            }
        })
    }
}
