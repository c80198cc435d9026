//! Statements that run in one step: changes of tables, settings, cursors, notifications, transactions.

use std::rc::Rc;

use super::analyze::{Parameters, missing_relation, target_columns};
use super::error::{PgError, Severity};
use super::eval::{Env, cast};
use super::portal::{Portal, State};
use super::session::{Listen, Prepared, Session, outside};
use super::shared::Shared;
use super::sql::{Discard, Expr, How, Name, Parsed, Scope, Stmt, Target};
use super::store::{Change, Table};
use super::value::{Type, Value};

/// The tag of CommandComplete, and the rows before it.
pub struct Outcome {
    pub tag: String,
    pub rows: Option<Vec<Vec<Value>>>,
}

fn tag(tag: impl Into<String>) -> Outcome {
    Outcome { tag: tag.into(), rows: None }
}

impl Session {
    pub fn command(
        &mut self,
        shared: &mut Shared,
        stmt: &Stmt,
        parameters: &[Value],
    ) -> Result<Outcome, PgError> {
        Ok(match stmt {
            Stmt::Insert { table, columns, rows, source, returning } => {
                self.writable("INSERT")?;
                self.insert(shared, table, columns, rows, source.as_ref(), returning, parameters)?
            }
            Stmt::Update { table, set, filter } => {
                self.writable("UPDATE")?;
                self.update(shared, table, set, filter.as_ref(), parameters)?
            }
            Stmt::Delete { table, filter } => {
                self.writable("DELETE")?;
                self.delete(shared, table, filter.as_ref(), parameters)?
            }
            Stmt::Truncate(name) => {
                self.writable("TRUNCATE TABLE")?;
                let (temporary, _) = self.require_table(shared, name)?;
                self.change(temporary, &name.name, Change::Truncate);
                tag("TRUNCATE TABLE")
            }
            Stmt::CreateTable { .. } | Stmt::CreateView { .. } | Stmt::Drop { .. } => {
                self.definition(shared, stmt)?
            }
            Stmt::Begin(modes, name) => {
                self.begin(modes)?;
                tag(*name)
            }
            Stmt::Commit { chain } => tag(self.commit_block(*chain)?),
            Stmt::Rollback { chain } => {
                self.rollback_block(*chain)?;
                tag("ROLLBACK")
            }
            Stmt::Savepoint(name) => {
                self.savepoint(name.clone())?;
                tag("SAVEPOINT")
            }
            Stmt::RollbackTo(name) => {
                self.rollback_to(name, shared)?;
                tag("ROLLBACK")
            }
            Stmt::Release(name) => {
                self.release(name)?;
                tag("RELEASE")
            }
            Stmt::Set { scope, name, how } => {
                let local = matches!(scope, Scope::Local);
                if local && !self.in_block() {
                    self.warning("25P01", "SET LOCAL can only be used in transaction blocks");
                }
                match how {
                    How::Value(value) => drop(self.gucs.set(name, value, local)?),
                    How::Default => self.gucs.reset(name, local)?,
                }
                tag("SET")
            }
            Stmt::SetTransaction(modes) => {
                if !self.in_block() {
                    self.warning("25P01", "SET TRANSACTION can only be used in transaction blocks");
                }
                for (name, value) in modes {
                    self.gucs.set(name, value, true)?;
                }
                tag("SET")
            }
            Stmt::Reset(name) => {
                self.gucs.reset(name, false)?;
                tag("RESET")
            }
            Stmt::ResetAll => {
                self.gucs.reset_all();
                tag("RESET")
            }
            Stmt::Show(name) => {
                let (_, value) = self.gucs.show(name)?;
                Outcome { tag: "SHOW".into(), rows: Some(vec![vec![Value::Text(value)]]) }
            }
            Stmt::Discard(what) => self.discard(shared, what)?,
            Stmt::Prepare { name, types, body } => self.prepare(shared, name, types, body)?,
            Stmt::Deallocate(Some(name)) => {
                self.statements.remove(name).ok_or_else(|| missing_statement(name))?;
                tag("DEALLOCATE")
            }
            Stmt::Deallocate(None) => {
                self.statements.clear();
                tag("DEALLOCATE ALL")
            }
            Stmt::Declare { name, hold, select } => {
                if !hold && !self.in_block() {
                    return Err(outside("DECLARE CURSOR"));
                }
                if self.portals.contains_key(name) {
                    return Err(PgError::error("42P03", format!("cursor \"{name}\" already exists")));
                }
                let parsed = Parsed { stmt: Stmt::Select(select.clone()), text: String::new() };
                let prepared = self.prepare_now(shared, parsed)?;
                let mut portal = self.open_portal(shared, prepared, parameters.to_vec())?;
                portal.hold = *hold;
                self.portals.insert(name.clone(), portal);
                tag("DECLARE CURSOR")
            }
            Stmt::Fetch { count, cursor, moving } => self.fetch(shared, *count, cursor, *moving)?,
            Stmt::CloseCursor(Some(name)) => {
                self.portals.remove(name).ok_or_else(|| missing_cursor(name))?;
                tag("CLOSE CURSOR")
            }
            Stmt::CloseCursor(None) => {
                self.portals.clear();
                tag("CLOSE CURSOR ALL")
            }
            Stmt::Listen(channel) => {
                self.txn.listens.push(Listen::Add(channel.clone()));
                tag("LISTEN")
            }
            Stmt::Unlisten(Some(channel)) => {
                self.txn.listens.push(Listen::Remove(channel.clone()));
                tag("UNLISTEN")
            }
            Stmt::Unlisten(None) => {
                self.txn.listens.push(Listen::RemoveAll);
                tag("UNLISTEN")
            }
            Stmt::Notify { channel, payload } => {
                self.notify(channel.clone(), payload.clone())?;
                tag("NOTIFY")
            }
            Stmt::Do { level, message } => {
                match level.as_str() {
                    "exception" => return Err(PgError::error("P0001", message.clone())),
                    "warning" => self.warning("01000", message),
                    _ => self.notice("00000", message.clone()),
                }
                tag("DO")
            }
            Stmt::Vacuum => {
                self.alone("VACUUM")?;
                tag("VACUUM")
            }
            Stmt::Select(_) | Stmt::ExecutePrepared { .. } | Stmt::CopyIn { .. } | Stmt::CopyOut(_) => {
                return Err(PgError::error("XX000", "not a command of one step"));
            }
        })
    }

    pub fn writable(&self, what: &str) -> Result<(), PgError> {
        if self.gucs.is_on("transaction_read_only") {
            let text = format!("cannot execute {what} in a read-only transaction");
            return Err(PgError::error("25006", text));
        }
        Ok(())
    }

    fn warning(&mut self, code: &'static str, text: &str) {
        let shown = self.gucs.value("client_min_messages") != Some("error");
        if shown {
            self.notices.push(PgError::new(Severity::Warning, code, text));
        }
    }

    fn notice(&mut self, code: &'static str, text: String) {
        let shown = !matches!(self.gucs.value("client_min_messages"), Some("error" | "warning"));
        if shown {
            self.notices.push(PgError::new(Severity::Notice, code, text));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn insert(
        &mut self,
        shared: &mut Shared,
        name: &Name,
        columns: &[String],
        rows: &[Vec<Expr>],
        source: Option<&super::sql::Select>,
        returning: &[Target],
        parameters: &[Value],
    ) -> Result<Outcome, PgError> {
        let (temporary, table) = self.require_table(shared, name)?;
        let places = target_columns(&table, name, columns)?;
        let mut values = Vec::new();
        if let Some(select) = source {
            let mut cursor = self.open_cursor(shared, select, Rc::new(parameters.to_vec()))?;
            values = cursor.pull_many(None, self, shared)?;
        }
        for row in rows {
            let mut evaluated = Vec::new();
            for expr in row {
                evaluated.push(self.eval(shared, expr, Env { parameters, ..Env::default() })?);
            }
            values.push(evaluated);
        }
        let mut returned = Vec::new();
        let count = values.len();
        for value in values {
            let row = self.insert_row(shared, temporary, name, &places, value)?;
            if !returning.is_empty() {
                let mut answer = Vec::new();
                for target in returning {
                    match target {
                        Target::Star => answer.extend(row.iter().cloned()),
                        Target::Expr { expr, .. } => {
                            let env = Env { parameters, columns: &table.columns, row: &row, count: None };
                            answer.push(self.eval(shared, expr, env)?);
                        }
                    }
                }
                returned.push(answer);
            }
        }
        Ok(Outcome { tag: format!("INSERT 0 {count}"), rows: (!returning.is_empty()).then_some(returned) })
    }

    /// Checks and inserts one row; `values` belong to the columns at `places`.
    pub fn insert_row(
        &mut self,
        shared: &mut Shared,
        temporary: bool,
        name: &Name,
        places: &[usize],
        values: Vec<Value>,
    ) -> Result<Vec<Value>, PgError> {
        let (_, table) = self.require_table(shared, name)?;
        let mut row = vec![Value::Null; table.columns.len()];
        for (value, place) in values.into_iter().zip(places) {
            row[*place] = cast(value, table.columns[*place].kind)?;
        }
        check_row(&table, &name.name, &row, None)?;
        let id = shared.row_id();
        self.change(temporary, &name.name, Change::Insert(id, row.clone()));
        Ok(row)
    }

    fn update(
        &mut self,
        shared: &mut Shared,
        name: &Name,
        set: &[(String, Expr)],
        filter: Option<&Expr>,
        parameters: &[Value],
    ) -> Result<Outcome, PgError> {
        let (temporary, table) = self.require_table(shared, name)?;
        let mut count = 0;
        for (id, row) in &table.rows {
            let env = Env { parameters, columns: &table.columns, row, count: None };
            if !self.matches(shared, filter, env)? {
                continue;
            }
            let mut changed = row.clone();
            for (column, expr) in set {
                let place = target_columns(&table, name, std::slice::from_ref(column))?[0];
                changed[place] = cast(self.eval(shared, expr, env)?, table.columns[place].kind)?;
            }
            check_row(&table, &name.name, &changed, Some(*id))?;
            self.change(temporary, &name.name, Change::Update(*id, changed));
            count += 1;
        }
        Ok(tag(format!("UPDATE {count}")))
    }

    fn delete(
        &mut self,
        shared: &mut Shared,
        name: &Name,
        filter: Option<&Expr>,
        parameters: &[Value],
    ) -> Result<Outcome, PgError> {
        let (temporary, table) = self.require_table(shared, name)?;
        let mut count = 0;
        for (id, row) in &table.rows {
            let env = Env { parameters, columns: &table.columns, row, count: None };
            if self.matches(shared, filter, env)? {
                self.change(temporary, &name.name, Change::Delete(*id));
                count += 1;
            }
        }
        Ok(tag(format!("DELETE {count}")))
    }

    fn matches(&mut self, shared: &mut Shared, filter: Option<&Expr>, env: Env<'_>) -> Result<bool, PgError> {
        match filter {
            Some(filter) => Ok(self.eval(shared, filter, env)? == Value::Bool(true)),
            None => Ok(true),
        }
    }

    fn definition(&mut self, shared: &mut Shared, stmt: &Stmt) -> Result<Outcome, PgError> {
        match stmt {
            Stmt::CreateTable { name, temporary, if_not_exists, columns } => {
                if !temporary {
                    self.writable("CREATE TABLE")?;
                }
                let schema = temporary.then(|| "pg_temp".to_string()).unwrap_or("public".into());
                let place = Name { schema: Some(schema), name: name.name.clone() };
                if self.table(shared, &place).is_some() {
                    let text = format!("relation \"{}\" already exists", name.name);
                    if *if_not_exists {
                        self.notice("42P07", format!("{text}, skipping"));
                        return Ok(tag("CREATE TABLE"));
                    }
                    return Err(PgError::error("42P07", text));
                }
                let table =
                    Table { oid: shared.oid(), columns: columns.clone(), rows: Vec::new(), view: None };
                self.change(*temporary, &name.name, Change::Create(Rc::new(table)));
                Ok(tag("CREATE TABLE"))
            }
            Stmt::CreateView { name, select } => {
                self.writable("CREATE VIEW")?;
                if self.table(shared, name).is_some() {
                    let text = format!("relation \"{}\" already exists", name.name);
                    return Err(PgError::error("42P07", text));
                }
                let parsed = Parsed { stmt: Stmt::Select(select.clone()), text: String::new() };
                let prepared = self.prepare_now(shared, parsed)?;
                let columns = prepared.columns.iter().flatten();
                let columns =
                    columns.map(|c| super::sql::ColumnDef { name: c.name.clone(), kind: c.kind, key: false });
                let table = Table {
                    oid: shared.oid(),
                    columns: columns.collect(),
                    rows: Vec::new(),
                    view: Some(select.clone()),
                };
                self.change(false, &name.name, Change::Create(Rc::new(table)));
                Ok(tag("CREATE VIEW"))
            }
            Stmt::Drop { name, view, if_exists } => {
                let kind = if *view { "VIEW" } else { "TABLE" };
                let lower = kind.to_ascii_lowercase();
                match self.table(shared, name) {
                    Some((temporary, table)) => {
                        if table.view.is_some() != *view {
                            let text = format!("\"{}\" is not a {lower}", name.name);
                            return Err(PgError::error("42809", text));
                        }
                        if !temporary {
                            self.writable(&format!("DROP {kind}"))?;
                        }
                        self.change(temporary, &name.name, Change::Drop);
                    }
                    None if *if_exists => {
                        self.notice("00000", format!("{lower} \"{}\" does not exist, skipping", name.name));
                    }
                    None => {
                        let text = format!("{lower} \"{}\" does not exist", name.name);
                        return Err(PgError::error("42P01", text));
                    }
                }
                Ok(tag(format!("DROP {kind}")))
            }
            _ => Err(missing_relation(&Name { schema: None, name: String::new() })),
        }
    }

    fn discard(&mut self, shared: &mut Shared, what: &Discard) -> Result<Outcome, PgError> {
        let temporary: Vec<_> = self.temporary.keys().cloned().collect();
        Ok(match what {
            Discard::All => {
                self.alone("DISCARD ALL")?;
                self.portals.clear();
                self.gucs.reset_all();
                self.statements.clear();
                self.txn.listens.push(Listen::RemoveAll);
                shared.locks.release_session(self.pid);
                for name in temporary {
                    self.change(true, &name, Change::Drop);
                }
                tag("DISCARD ALL")
            }
            Discard::Plans => tag("DISCARD PLANS"),
            Discard::Sequences => tag("DISCARD SEQUENCES"),
            Discard::Temporary => {
                for name in temporary {
                    self.change(true, &name, Change::Drop);
                }
                tag("DISCARD TEMP")
            }
        })
    }

    fn prepare(
        &mut self,
        shared: &mut Shared,
        name: &str,
        types: &[Type],
        body: &Parsed,
    ) -> Result<Outcome, PgError> {
        let mut parameters = Parameters { types: types.iter().map(|kind| Some(*kind)).collect(), open: true };
        let columns = self.analyze(shared, &body.stmt, &mut parameters)?;
        let parameters = known_types(&parameters)?;
        if self.statements.contains_key(name) {
            return Err(duplicate_statement(name));
        }
        let prepared = Prepared { parsed: Some(body.clone()), parameters, columns, from_sql: true };
        self.statements.insert(name.to_string(), Rc::new(prepared));
        Ok(tag("PREPARE"))
    }

    /// SQL's EXECUTE: the portal of the statement behind it.
    pub fn execute_prepared(
        &mut self,
        shared: &mut Shared,
        name: &str,
        arguments: &[Expr],
    ) -> Result<Portal, PgError> {
        let prepared = self.statements.get(name).cloned().ok_or_else(|| missing_statement(name))?;
        if arguments.len() != prepared.parameters.len() {
            let text = format!("wrong number of parameters for prepared statement \"{name}\"");
            return Err(PgError::error("42601", text));
        }
        self.same_columns(shared, &prepared)?;
        let mut values = Vec::new();
        for (argument, kind) in arguments.iter().zip(&prepared.parameters) {
            values.push(cast(self.eval(shared, argument, Env::default())?, *kind)?);
        }
        self.open_portal(shared, prepared, values)
    }

    /// A cached plan must not change its result.
    pub fn same_columns(&self, shared: &mut Shared, prepared: &Prepared) -> Result<(), PgError> {
        let Some(parsed) = &prepared.parsed else { return Ok(()) };
        if !matches!(
            parsed.stmt,
            Stmt::Select(_) | Stmt::Insert { .. } | Stmt::Update { .. } | Stmt::Delete { .. }
        ) {
            return Ok(());
        }
        let types = prepared.parameters.iter().map(|kind| Some(*kind)).collect();
        let columns = self.analyze(shared, &parsed.stmt, &mut Parameters { types, open: true })?;
        if columns != prepared.columns {
            return Err(PgError::error("0A000", "cached plan must not change result type"));
        }
        Ok(())
    }

    fn fetch(
        &mut self,
        shared: &mut Shared,
        count: Option<i64>,
        cursor: &str,
        moving: bool,
    ) -> Result<Outcome, PgError> {
        let mut portal = self.portals.remove(cursor).ok_or_else(|| missing_cursor(cursor))?;
        let rows = match &mut portal.state {
            State::Cursor(inner) => inner.pull_many(count, self, shared),
            _ => Ok(Vec::new()),
        };
        portal.failed |= rows.is_err();
        self.portals.insert(cursor.to_string(), portal);
        let rows = rows?;
        let word = if moving { "MOVE" } else { "FETCH" };
        Ok(Outcome { tag: format!("{word} {}", rows.len()), rows: (!moving).then_some(rows) })
    }
}

fn check_row(table: &Table, name: &str, row: &[Value], except: Option<u64>) -> Result<(), PgError> {
    for (place, column) in table.columns.iter().enumerate().filter(|(_, column)| column.key) {
        if row[place] == Value::Null {
            let text = format!(
                "null value in column \"{}\" of relation \"{name}\" violates not-null constraint",
                column.name
            );
            return Err(PgError::error("23502", text));
        }
        if table.rows.iter().any(|(id, other)| Some(*id) != except && other[place] == row[place]) {
            let text = format!("duplicate key value violates unique constraint \"{name}_pkey\"");
            return Err(PgError::error("23505", text));
        }
    }
    Ok(())
}

/// The types of all parameters; text where nothing says otherwise is up to the caller.
///
/// # Errors
/// 42P18
pub fn known_types(parameters: &Parameters) -> Result<Vec<Type>, PgError> {
    let each = parameters.types.iter().enumerate();
    each.map(|(at, kind)| {
        kind.ok_or_else(|| {
            PgError::error("42P18", format!("could not determine data type of parameter ${}", at + 1))
        })
    })
    .collect()
}

pub fn missing_statement(name: &str) -> PgError {
    PgError::error("26000", format!("prepared statement \"{name}\" does not exist"))
}

pub fn duplicate_statement(name: &str) -> PgError {
    PgError::error("42P05", format!("prepared statement \"{name}\" already exists"))
}

fn missing_cursor(name: &str) -> PgError {
    PgError::error("34000", format!("cursor \"{name}\" does not exist"))
}
