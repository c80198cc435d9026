//! Portals and the cursors inside them: rows are computed one by one, on demand.

use std::collections::VecDeque;
use std::rc::Rc;

use super::analyze::{Parameters, missing_relation};
use super::error::PgError;
use super::eval::{Before, Env};
use super::session::{Prepared, Session};
use super::shared::Shared;
use super::sql::{ColumnDef, Expr, From, Select, Stmt, Target};
use super::value::{Type, Value};

/// A column of an answer. `table` is its number in a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub kind: Type,
    pub table: Option<i16>,
}

impl Column {
    pub fn new(name: String, kind: Type) -> Column {
        Column { name, kind, table: None }
    }
}

#[derive(Clone, Debug)]
enum Source {
    One(bool),
    Series { next: i64, last: i64 },
    Rows(VecDeque<Vec<Value>>),
}

impl Source {
    fn advance(&mut self) -> Option<Vec<Value>> {
        match self {
            Source::One(done) => (!std::mem::replace(done, true)).then(Vec::new),
            Source::Series { next, last } => {
                *next += 1;
                (*next - 1 <= *last).then(|| vec![Value::Int(*next - 1)])
            }
            Source::Rows(rows) => rows.pop_front(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Cursor {
    targets: Rc<Vec<Target>>,
    columns: Rc<Vec<ColumnDef>>,
    filter: Option<Expr>,
    source: Source,
    parameters: Rc<Vec<Value>>,
    left: Option<i64>,
    count: Option<i64>,
    /// The row to be computed next, and what has to happen before.
    current: Option<(Vec<Value>, VecDeque<Before>)>,
}

pub enum Pull {
    Row(Vec<Value>),
    /// Wait or lock, then [`Cursor::passed`] and pull again.
    Before(Before),
    End,
}

impl Cursor {
    pub fn pull(&mut self, session: &mut Session, shared: &mut Shared) -> Result<Pull, PgError> {
        let (parameters, columns, targets) =
            (self.parameters.clone(), self.columns.clone(), self.targets.clone());
        let count = self.count;
        let base = Env { parameters: &parameters, columns: &columns, row: &[], count };
        while self.current.is_none() {
            if self.left == Some(0) {
                return Ok(Pull::End);
            }
            let Some(row) = self.source.advance() else { return Ok(Pull::End) };
            if let Some(filter) = &self.filter
                && session.eval(shared, filter, Env { row: &row, ..base })? != Value::Bool(true)
            {
                continue;
            }
            let mut befores = Vec::new();
            for target in targets.iter() {
                if let Target::Expr { expr, .. } = target {
                    session.befores(shared, expr, Env { row: &row, ..base }, &mut befores)?;
                }
            }
            self.current = Some((row, befores.into()));
        }
        if let Some((_, befores)) = &self.current
            && let Some(before) = befores.front()
        {
            return Ok(Pull::Before(before.clone()));
        }
        let Some((row, _)) = self.current.take() else { return Ok(Pull::End) };
        let mut values = Vec::new();
        for target in targets.iter() {
            match target {
                Target::Star => values.extend(row.iter().cloned()),
                Target::Expr { expr, .. } => {
                    values.push(session.eval(shared, expr, Env { row: &row, ..base })?)
                }
            }
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Ok(Pull::Row(values))
    }

    pub fn passed(&mut self) {
        if let Some((_, befores)) = &mut self.current {
            befores.pop_front();
        }
    }

    /// Up to `count` rows at once; waits are skipped.
    pub fn pull_many(
        &mut self,
        count: Option<i64>,
        session: &mut Session,
        shared: &mut Shared,
    ) -> Result<Vec<Vec<Value>>, PgError> {
        let mut rows = Vec::new();
        while count.is_none_or(|count| (rows.len() as i64) < count) {
            match self.pull(session, shared)? {
                Pull::Row(row) => rows.push(row),
                Pull::Before(_) => self.passed(),
                Pull::End => break,
            }
        }
        Ok(rows)
    }
}

#[derive(Clone, Debug)]
pub enum State {
    /// Not run yet; runs once.
    Command,
    Cursor(Cursor),
    /// Rows computed before; the tag to end with.
    Store(VecDeque<Vec<Value>>, String),
    Done,
}

#[derive(Clone, Debug)]
pub struct Portal {
    pub prepared: Rc<Prepared>,
    pub parameters: Rc<Vec<Value>>,
    pub columns: Option<Vec<Column>>,
    pub formats: Vec<i16>,
    pub state: State,
    /// A cursor WITH HOLD, and whether its transaction has committed.
    pub hold: bool,
    pub held: bool,
    pub failed: bool,
    /// Savepoints around it.
    pub depth: usize,
}

impl Portal {
    pub fn format(&self, at: usize) -> i16 {
        match self.formats.as_slice() {
            [] => 0,
            [one] => *one,
            many => many.get(at).copied().unwrap_or(0),
        }
    }
}

impl Session {
    /// Plans and starts: errors of constant expressions come here.
    pub fn open_portal(
        &mut self,
        shared: &mut Shared,
        prepared: Rc<Prepared>,
        parameters: Vec<Value>,
    ) -> Result<Portal, PgError> {
        let parameters = Rc::new(parameters);
        let mut state = State::Command;
        match prepared.parsed.as_ref().map(|parsed| &parsed.stmt) {
            Some(Stmt::Select(select)) => {
                state = State::Cursor(self.open_cursor(shared, select, parameters.clone())?);
            }
            Some(Stmt::Insert { rows, .. }) => {
                for expr in rows.iter().flatten() {
                    self.fold(shared, expr, &parameters)?;
                }
            }
            Some(Stmt::Update { set, filter, .. }) => {
                for expr in set.iter().map(|(_, expr)| expr).chain(filter) {
                    self.fold(shared, expr, &parameters)?;
                }
            }
            Some(Stmt::Delete { filter: Some(filter), .. }) => self.fold(shared, filter, &parameters)?,
            _ => {}
        }
        let columns = prepared.columns.clone();
        let depth = self.depth();
        Ok(Portal {
            prepared,
            parameters,
            columns,
            formats: Vec::new(),
            state,
            hold: false,
            held: false,
            failed: false,
            depth,
        })
    }

    pub fn open_cursor(
        &mut self,
        shared: &mut Shared,
        select: &Select,
        parameters: Rc<Vec<Value>>,
    ) -> Result<Cursor, PgError> {
        for target in &select.targets {
            if let Target::Expr { expr, .. } = target {
                self.fold(shared, expr, &parameters)?;
            }
        }
        if let Some(filter) = &select.filter {
            self.fold(shared, filter, &parameters)?;
        }
        let columns = Rc::new(self.scope(shared, &select.from)?.columns);
        let mut source = self.source(shared, &select.from, &parameters)?;
        if let (Some((key, descending)), Source::Rows(rows)) = (&select.order, &mut source) {
            let mut keyed = Vec::new();
            for row in rows.drain(..) {
                let key = match key {
                    Expr::Integer(place) => match select.targets.get((*place - 1).max(0) as usize) {
                        Some(Target::Expr { expr, .. }) => expr.clone(),
                        _ => Expr::Column(
                            columns.get((*place - 1) as usize).map_or(String::new(), |c| c.name.clone()),
                        ),
                    },
                    other => other.clone(),
                };
                let env = Env { parameters: &parameters, columns: &columns, row: &row, count: None };
                keyed.push((self.eval(shared, &key, env)?, row));
            }
            keyed.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
            if *descending {
                keyed.reverse();
            }
            *rows = keyed.into_iter().map(|(_, row)| row).collect();
        }
        let env = Env { parameters: &parameters, ..Env::default() };
        let left = match &select.limit {
            Some(limit) => match self.eval(shared, limit, env)? {
                Value::Null => None,
                value => Some(super::eval::cast(value, Type::Int8)?.int()),
            },
            None => None,
        };
        let mut cursor = Cursor {
            targets: Rc::new(select.targets.clone()),
            columns,
            filter: select.filter.clone(),
            source,
            parameters,
            left,
            count: None,
            current: None,
        };
        if select.targets.iter().any(|t| matches!(t, Target::Expr { expr, .. } if counts(expr))) {
            cursor.count(self, shared)?;
        }
        Ok(cursor)
    }

    fn source(
        &mut self,
        shared: &mut Shared,
        from: &From,
        parameters: &Rc<Vec<Value>>,
    ) -> Result<Source, PgError> {
        let name = match from {
            From::Nothing => return Ok(Source::One(false)),
            From::Series { first, last, .. } => {
                let env = Env { parameters, ..Env::default() };
                let next = super::eval::cast(self.eval(shared, first, env)?, Type::Int4)?.int();
                let last = super::eval::cast(self.eval(shared, last, env)?, Type::Int4)?.int();
                return Ok(Source::Series { next, last });
            }
            From::Table(name) => name,
        };
        let texts = |names: Vec<String>| {
            Source::Rows(names.into_iter().map(|name| vec![Value::Text(name)]).collect())
        };
        match name.name.as_str() {
            "pg_prepared_statements" => return Ok(texts(self.statements.keys().cloned().collect())),
            "pg_cursors" => return Ok(texts(self.portals.keys().cloned().collect())),
            "pg_listening_channels" => return Ok(texts(self.listening.iter().cloned().collect())),
            _ => {}
        }
        let (_, table) = self.table(shared, name).ok_or_else(|| missing_relation(name))?;
        if let Some(view) = &table.view {
            let mut cursor = self.open_cursor(shared, view, Rc::default())?;
            return Ok(Source::Rows(cursor.pull_many(None, self, shared)?.into()));
        }
        Ok(Source::Rows(table.rows.iter().map(|(_, row)| row.clone()).collect()))
    }

    /// At COMMIT: cursors WITH HOLD keep their remaining rows.
    pub fn hold_cursors(&mut self, shared: &mut Shared) {
        let names: Vec<_> =
            self.portals.iter().filter(|(_, p)| p.hold && !p.held).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(mut portal) = self.portals.remove(&name) else { continue };
            if let State::Cursor(cursor) = &mut portal.state
                && let Ok(rows) = cursor.pull_many(None, self, shared)
            {
                cursor.keep(rows);
            }
            portal.held = true;
            portal.depth = 0;
            self.portals.insert(name, portal);
        }
    }

    /// A statement analysed for running at once, without parameters of its own.
    pub fn prepare_now(
        &mut self,
        shared: &mut Shared,
        parsed: super::sql::Parsed,
    ) -> Result<Rc<Prepared>, PgError> {
        let columns = self.analyze(shared, &parsed.stmt, &mut Parameters::none())?;
        Ok(Rc::new(Prepared { parsed: Some(parsed), parameters: Vec::new(), columns, from_sql: false }))
    }
}

impl Cursor {
    fn count(&mut self, session: &mut Session, shared: &mut Shared) -> Result<(), PgError> {
        let mut count = 0;
        if let (Source::Series { next, last }, None) = (&self.source, &self.filter) {
            count = (last - next + 1).max(0);
        } else {
            while let Some(row) = self.source.advance() {
                let env =
                    Env { parameters: &self.parameters, columns: &self.columns, row: &row, count: None };
                let passes = match &self.filter {
                    Some(filter) => session.eval(shared, filter, env)? == Value::Bool(true),
                    None => true,
                };
                count += i64::from(passes);
            }
        }
        self.filter = None;
        self.source = Source::One(false);
        self.count = Some(count);
        Ok(())
    }

    /// Replaces what is left by rows computed already.
    fn keep(&mut self, rows: Vec<Vec<Value>>) {
        self.targets = Rc::new(vec![Target::Star]);
        self.filter = None;
        self.left = None;
        self.current = None;
        self.source = Source::Rows(rows.into());
    }
}

fn counts(expr: &Expr) -> bool {
    match expr {
        Expr::CountStar => true,
        Expr::Cast { inner, .. } | Expr::Negative(inner) => counts(inner),
        Expr::Binary { left, right, .. } => counts(left) || counts(right),
        Expr::Call { arguments, .. } => arguments.iter().any(counts),
        _ => false,
    }
}
