//! Execution: simple queries of several statements, Execute with a limit, COPY in both directions.

use std::collections::VecDeque;

use pgdog::base::time::Time;

use super::analyze::target_columns;
use super::backend::{Backend, Wait, not_runnable};
use super::copy::{CopyIn, line};
use super::error::{PgError, Severity};
use super::eval::Before;
use super::portal::{Column, Cursor, Portal, Pull, State};
use super::shared::{Executed, Shared};
use super::sql::{CopyFrom, From, Name, Parsed, Select, Stmt, Target};
use super::value::Value;
use crate::frame::{Body, Reader, body};

/// What a backend executes at the moment.
pub struct Task {
    /// Statements of a simple query that are still to come.
    queue: VecDeque<Parsed>,
    simple: bool,
    /// More than one statement: an implicit transaction block.
    many: bool,
    run: Option<Run>,
}

struct Run {
    name: String,
    portal: Portal,
    max: Option<u64>,
    sent: u64,
    stage: Stage,
}

enum Stage {
    Start,
    Begin,
    Rows,
    /// EXECUTE of SQL: rows are computed first, and sent then.
    Fill(Box<Cursor>, VecDeque<Vec<Value>>),
    CopyIn(Box<CopyIn>),
    CopyOut(Box<Cursor>, Vec<Column>),
}

/// What a step of a run came to.
enum Step {
    More,
    Suspended,
    Complete(String),
}

/// The tag of a portal whose rows were computed before counts the rows of this Execute.
fn counted(tag: &str, sent: u64) -> String {
    match tag.rsplit_once(' ') {
        Some((words, number)) if number.bytes().all(|b| b.is_ascii_digit()) => format!("{words} {sent}"),
        _ => tag.to_string(),
    }
}

impl Task {
    pub fn simple(statements: Vec<Parsed>) -> Task {
        let many = statements.len() > 1;
        Task { queue: statements.into(), simple: true, many, run: None }
    }

    pub fn execute(name: String, portal: Portal, max: Option<u64>) -> Task {
        let run = Run { name, portal, max, sent: 0, stage: Stage::Start };
        Task { queue: VecDeque::new(), simple: false, many: false, run: Some(run) }
    }

    /// It waits for messages of a COPY.
    pub fn reads(&self) -> bool {
        matches!(self.run, Some(Run { stage: Stage::CopyIn(_), .. }))
    }
}

impl Backend {
    /// One step; `true` when the task is done.
    pub fn step(&mut self, shared: &mut Shared, task: &mut Task) -> Result<bool, PgError> {
        if task.run.is_none() {
            let Some(parsed) = task.queue.pop_front() else { return Ok(true) };
            task.run = Some(self.next_statement(shared, parsed, task.many)?);
            return Ok(false);
        }
        let Some(run) = &mut task.run else { return Ok(true) };
        match self.run_step(shared, run, task.simple)? {
            Step::More => Ok(false),
            Step::Suspended => {
                if let Some(run) = task.run.take() {
                    self.session().portals.insert(run.name, run.portal);
                }
                self.put(b's', &[]);
                self.statement_deadline = Time::NEVER;
                Ok(true)
            }
            Step::Complete(tag) => {
                let Some(run) = task.run.take() else { return Ok(true) };
                self.complete(shared, task, run, &tag);
                Ok(task.queue.is_empty())
            }
        }
    }

    /// An error ends the task: its portal cannot be run again.
    pub fn drop_task(&mut self, task: Task) {
        if let Some(run) = task.run
            && !task.simple
            && let Some(session) = &mut self.session
        {
            session.portals.insert(run.name, run.portal.spent());
        }
    }

    fn next_statement(&mut self, shared: &mut Shared, parsed: Parsed, many: bool) -> Result<Run, PgError> {
        let session = self.session();
        if session.is_aborted() && !parsed.stmt.is_exit() {
            return Err(PgError::aborted());
        }
        session.start_command();
        if many {
            session.begin_implicit();
        }
        let prepared = session.prepare_now(shared, parsed)?;
        let portal = session.open_portal(shared, prepared, Vec::new())?;
        session.portals.remove("");
        Ok(Run { name: String::new(), portal, max: None, sent: 0, stage: Stage::Start })
    }

    fn complete(&mut self, shared: &mut Shared, task: &Task, run: Run, tag: &str) {
        let transaction = run.portal.prepared.parsed.as_ref().is_some_and(|p| p.stmt.is_transaction());
        let session = self.session();
        if task.simple {
            if task.queue.is_empty() {
                session.end_implicit();
                session.finish_command(shared);
                self.ready = true;
            } else if transaction {
                session.finish_command(shared);
            }
        } else {
            session.portals.insert(run.name, run.portal);
            if transaction || session.txn.immediate {
                session.finish_command(shared);
            } else {
                session.txn.pipelining = true;
            }
        }
        self.statement_deadline = Time::NEVER;
        self.put(b'C', &body().text(tag).0);
    }

    fn run_step(&mut self, shared: &mut Shared, run: &mut Run, simple: bool) -> Result<Step, PgError> {
        match &mut run.stage {
            Stage::Start => {
                self.start(shared, run);
                Ok(Step::More)
            }
            Stage::Begin => self.begin_run(shared, run, simple),
            Stage::Rows => self.rows(shared, run),
            Stage::Fill(cursor, rows) => match cursor.pull(self.session(), shared)? {
                Pull::Row(row) => {
                    rows.push_back(row);
                    Ok(Step::More)
                }
                Pull::Before(before) => {
                    self.before(shared, before);
                    cursor.passed();
                    Ok(Step::More)
                }
                Pull::End => {
                    let rows = std::mem::take(rows);
                    let tag = format!("SELECT {}", rows.len());
                    self.start_rows(run, State::Store(rows, tag), simple);
                    Ok(Step::More)
                }
            },
            Stage::CopyOut(cursor, columns) => match cursor.pull(self.session(), shared)? {
                Pull::Row(row) => {
                    run.sent += 1;
                    let line = line(&row, columns);
                    self.put(b'd', &line);
                    Ok(Step::More)
                }
                Pull::Before(before) => {
                    self.before(shared, before);
                    cursor.passed();
                    Ok(Step::More)
                }
                Pull::End => {
                    self.put(b'c', &[]);
                    Ok(Step::Complete(format!("COPY {}", run.sent)))
                }
            },
            Stage::CopyIn(copy) => self.copy_in(shared, copy),
        }
    }

    fn start(&mut self, shared: &mut Shared, run: &mut Run) {
        run.stage = Stage::Begin;
        self.running = run.portal.prepared.parsed.as_ref().map_or(String::new(), |p| p.text.clone());
        shared.executed.push(Executed { pid: self.pid, at: self.now, text: self.running.clone() });
        self.start_statement_clock();
        if let Some((left, reset)) = self.die_at {
            if left == 0 {
                self.reset = reset;
                self.out.cut_after(0);
                self.out.faults += 1;
                self.out.is_cut = true;
                return;
            }
            self.die_at = Some((left - 1, reset));
        }
        let think = self.think(shared.config.think_max);
        if !think.is_zero() {
            self.wait = Some(Wait::Until(self.now + think));
        }
    }

    fn before(&mut self, shared: &mut Shared, before: Before) {
        match before {
            Before::Sleep(seconds) => {
                let micros = (seconds.max(0.0) * 1e6) as u64;
                self.wait = Some(Wait::Until(self.now + std::time::Duration::from_micros(micros)));
            }
            Before::Lock { key, transaction } => {
                let database = self.session().database.clone();
                if shared.locks.acquire(&database, key, self.pid, transaction, true) {
                    if transaction {
                        self.session().txn.locks.push(key);
                    }
                } else {
                    self.wait = Some(Wait::Lock { key, transaction });
                    let limit = self.session().gucs.milliseconds("lock_timeout");
                    self.lock_deadline = self.now.after(limit.map(std::time::Duration::from_millis));
                }
            }
        }
    }

    fn start_rows(&mut self, run: &mut Run, state: State, simple: bool) {
        run.portal.state = state;
        run.stage = Stage::Rows;
        if simple {
            let portal = run.portal.clone();
            self.put_columns(Some(portal.columns.as_deref().unwrap_or(&[])), &|at| portal.format(at));
        }
    }

    fn begin_run(&mut self, shared: &mut Shared, run: &mut Run, simple: bool) -> Result<Step, PgError> {
        if run.portal.failed {
            return Err(not_runnable(&run.name));
        }
        match std::mem::replace(&mut run.portal.state, State::Done) {
            State::Done => return Err(not_runnable(&run.name)),
            State::Command => {}
            other => {
                self.start_rows(run, other, simple);
                return Ok(Step::More);
            }
        }
        let Some(parsed) = run.portal.prepared.parsed.clone() else {
            return Ok(Step::Complete(String::new()));
        };
        let parameters = run.portal.parameters.clone();
        let outcome = match &parsed.stmt {
            Stmt::CopyIn { table, columns } => return self.start_copy_in(shared, run, table, columns),
            Stmt::CopyOut(from) => return self.start_copy_out(shared, run, from),
            Stmt::ExecutePrepared { name, arguments } => {
                let inner = self.session().execute_prepared(shared, name, arguments)?;
                match inner.state {
                    State::Cursor(cursor) => {
                        run.stage = Stage::Fill(Box::new(cursor), VecDeque::new());
                        return Ok(Step::More);
                    }
                    _ => {
                        let Some(parsed) = inner.prepared.parsed.clone() else {
                            return Ok(Step::Complete(String::new()));
                        };
                        self.session().command(shared, &parsed.stmt, &inner.parameters)?
                    }
                }
            }
            stmt => self.session().command(shared, stmt, &parameters)?,
        };
        match outcome.rows {
            Some(rows) => {
                self.start_rows(run, State::Store(rows.into(), outcome.tag), simple);
                Ok(Step::More)
            }
            None => Ok(Step::Complete(outcome.tag)),
        }
    }

    fn rows(&mut self, shared: &mut Shared, run: &mut Run) -> Result<Step, PgError> {
        if run.max.is_some_and(|max| run.sent >= max) {
            return Ok(Step::Suspended);
        }
        let row = match &mut run.portal.state {
            State::Cursor(cursor) => match cursor.pull(self.session(), shared)? {
                Pull::Row(row) => row,
                Pull::Before(before) => {
                    self.before(shared, before);
                    cursor.passed();
                    return Ok(Step::More);
                }
                Pull::End => return Ok(Step::Complete(format!("SELECT {}", run.sent))),
            },
            State::Store(rows, tag) => match rows.pop_front() {
                Some(row) => row,
                None => return Ok(Step::Complete(counted(tag, run.sent))),
            },
            _ => return Err(not_runnable(&run.name)),
        };
        run.sent += 1;
        let columns = run.portal.columns.as_deref().unwrap_or(&[]);
        let mut message: Body = body().i16(row.len() as i16);
        for (at, value) in row.iter().enumerate() {
            let kind = columns.get(at).map_or(super::value::Type::Text, |column| column.kind);
            message = message.value(value.encode(kind, run.portal.format(at)).as_deref());
        }
        self.put(b'D', &message.0);
        Ok(Step::More)
    }

    fn start_copy_in(
        &mut self,
        shared: &mut Shared,
        run: &mut Run,
        name: &Name,
        columns: &[String],
    ) -> Result<Step, PgError> {
        let session = self.session();
        let (temporary, table) = session.require_table(shared, name)?;
        if !temporary {
            session.writable("COPY FROM")?;
        }
        let places = target_columns(&table, name, columns)?;
        let kinds: Vec<_> =
            places.iter().map(|at| (table.columns[*at].name.clone(), table.columns[*at].kind)).collect();
        self.put_copy(b'G', kinds.len());
        self.out.flush();
        if table.view.is_some() {
            // Found out only after the client was told to send.
            return Err(PgError::error("42809", format!("cannot copy to view \"{}\"", name.name)));
        }
        run.stage = Stage::CopyIn(Box::new(CopyIn::new(name.clone(), temporary, places, kinds)));
        Ok(Step::More)
    }

    fn put_copy(&mut self, tag: u8, columns: usize) {
        let mut message = body().u8(0).i16(columns as i16);
        for _ in 0..columns {
            message = message.i16(0);
        }
        self.put(tag, &message.0);
    }

    fn start_copy_out(
        &mut self,
        shared: &mut Shared,
        run: &mut Run,
        from: &CopyFrom,
    ) -> Result<Step, PgError> {
        let session = self.session();
        let select = match from {
            CopyFrom::Query(select) => (**select).clone(),
            CopyFrom::Table { name, columns } => {
                let (_, table) = session.require_table(shared, name)?;
                if table.view.is_some() {
                    return Err(PgError::error("42809", format!("cannot copy from view \"{}\"", name.name)));
                }
                let places = target_columns(&table, name, columns)?;
                let targets = places
                    .iter()
                    .map(|at| Target::Expr {
                        expr: super::sql::Expr::Column(table.columns[*at].name.clone()),
                        alias: None,
                    })
                    .collect();
                Select { targets, from: From::Table(name.clone()), filter: None, order: None, limit: None }
            }
        };
        let parsed = Parsed { stmt: Stmt::Select(select.clone()), text: String::new() };
        let prepared = session.prepare_now(shared, parsed)?;
        let columns = prepared.columns.clone().unwrap_or_default();
        let cursor = session.open_cursor(shared, &select, std::rc::Rc::default())?;
        self.put_copy(b'H', columns.len());
        run.stage = Stage::CopyOut(Box::new(cursor), columns);
        Ok(Step::More)
    }

    /// `CopyGetData`, one message a step.
    fn copy_in(&mut self, shared: &mut Shared, copy: &mut CopyIn) -> Result<Step, PgError> {
        let Some(tag) = self.peek() else {
            return Err(PgError::fatal(
                "08006",
                "unexpected EOF on client connection with an open transaction",
            ));
        };
        if !matches!(tag, b'd' | b'c' | b'f' | b'H' | b'S') {
            // The message is half read: the stream cannot be followed any more.
            let text = format!("unexpected message type 0x{tag:02X} during COPY from stdin");
            self.put(b'E', &PgError::protocol(text).body());
            return Err(PgError::new(
                Severity::Fatal,
                "08P01",
                "terminating connection because protocol synchronization was lost",
            ));
        }
        let Some(frame) = self.message() else {
            return Err(PgError::fatal(
                "08006",
                "unexpected EOF on client connection with an open transaction",
            ));
        };
        match frame.tag {
            b'd' => {
                copy.feed(&frame.body);
                self.copy_rows(shared, copy, false)?;
                Ok(Step::More)
            }
            b'c' => {
                self.copy_rows(shared, copy, true)?;
                Ok(Step::Complete(format!("COPY {}", copy.rows)))
            }
            b'f' => {
                let reason = Reader(&frame.body).text()?;
                Err(PgError::error("57014", format!("COPY from stdin failed: {reason}")))
            }
            _ => Ok(Step::More),
        }
    }

    fn copy_rows(&mut self, shared: &mut Shared, copy: &mut CopyIn, last: bool) -> Result<(), PgError> {
        while let Some(values) = copy.row(last)? {
            let session = self.session();
            session.insert_row(shared, copy.temporary, &copy.name, &copy.places, values)?;
        }
        Ok(())
    }
}
