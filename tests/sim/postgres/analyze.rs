//! Names and types: the columns of a statement's answer and the types of its parameters, as parse analysis finds them.

use std::rc::Rc;

use super::error::PgError;
use super::portal::Column;
use super::session::Session;
use super::shared::Shared;
use super::sql::{ColumnDef, Expr, From, Name, Select, Stmt, Target};
use super::store::Table;
use super::value::Type;

/// Types of `$1`, `$2` …; `None` while not known.
pub struct Parameters {
    pub types: Vec<Option<Type>>,
    /// Types may be found out, as in Parse; a simple query has no parameters at all.
    pub open: bool,
}

impl Parameters {
    pub fn none() -> Parameters {
        Parameters { types: Vec::new(), open: false }
    }
}

/// The columns that expressions may name.
#[derive(Clone, Default)]
pub struct Scope {
    pub columns: Vec<ColumnDef>,
    table: bool,
}

/// Functions that are known: arguments and result.
fn signature(name: &str, count: usize) -> Option<(&'static [Type], Type)> {
    use Type::{Bool, Float8, Int4, Int8, Name, Text, Void};
    Some(match (name, count) {
        ("pg_sleep", 1) => (&[Float8], Void),
        ("pg_backend_pid", 0) => (&[], Int4),
        ("current_setting", 1) => (&[Text], Text),
        ("current_setting", 2) => (&[Text, Bool], Text),
        ("set_config", 3) => (&[Text, Text, Bool], Text),
        ("pg_advisory_lock" | "pg_advisory_xact_lock", 1) => (&[Int8], Void),
        ("pg_try_advisory_lock" | "pg_try_advisory_xact_lock" | "pg_advisory_unlock", 1) => (&[Int8], Bool),
        ("pg_advisory_unlock_all", 0) => (&[], Void),
        ("pg_notify", 2) => (&[Text, Text], Void),
        ("repeat", 2) => (&[Text, Int4], Text),
        ("upper" | "lower", 1) => (&[Text], Text),
        ("length", 1) => (&[Text], Int4),
        // A member of an extension, and a user's own.
        ("ext_echo" | "own_echo", 1) => (&[Text], Text),
        ("pg_cancel_backend" | "pg_terminate_backend", 1) => (&[Int4], Bool),
        ("exists" | "source_is_session", 2) => (&[Text, Text], Bool),
        ("listened_channels", 2) => (&[Text, Text], Text),
        ("pg_is_in_recovery", 0) => (&[], Bool),
        ("current_database" | "current_user" | "session_user", 0) => (&[], Name),
        _ => return None,
    })
}

/// Not folded at planning.
pub fn is_immutable(name: &str) -> bool {
    matches!(name, "repeat" | "upper" | "lower" | "length")
}

pub fn missing_relation(name: &Name) -> PgError {
    let written = name.schema.as_ref().map_or(name.name.clone(), |schema| format!("{schema}.{}", name.name));
    PgError::error("42P01", format!("relation \"{written}\" does not exist"))
}

/// Views of the system that can be read; each has one column of text.
fn system_view(name: &str) -> Option<&'static str> {
    match name {
        "pg_prepared_statements" | "pg_cursors" => Some("name"),
        "pg_listening_channels" => Some("pg_listening_channels"),
        _ => None,
    }
}

impl Session {
    pub fn require_table(&self, shared: &mut Shared, name: &Name) -> Result<(bool, Rc<Table>), PgError> {
        self.table(shared, name).ok_or_else(|| missing_relation(name))
    }

    pub fn scope(&self, shared: &mut Shared, from: &From) -> Result<Scope, PgError> {
        Ok(match from {
            From::Nothing => Scope::default(),
            From::Series { alias, .. } => Scope {
                columns: vec![ColumnDef { name: alias.clone(), kind: Type::Int4, key: false }],
                table: false,
            },
            From::Table(name) => {
                if let Some(column) = system_view(&name.name) {
                    let column = ColumnDef { name: column.into(), kind: Type::Text, key: false };
                    return Ok(Scope { columns: vec![column], table: name.name != "pg_listening_channels" });
                }
                let (_, table) = self.require_table(shared, name)?;
                Scope { columns: table.columns.clone(), table: true }
            }
        })
    }

    /// Analyses `stmt`: fills in the parameters' types and answers the columns, or `None` if it returns no rows.
    pub fn analyze(
        &self,
        shared: &mut Shared,
        stmt: &Stmt,
        parameters: &mut Parameters,
    ) -> Result<Option<Vec<Column>>, PgError> {
        Ok(match stmt {
            Stmt::Select(select) => Some(self.select_columns(shared, select, parameters)?),
            Stmt::Declare { select, .. } => {
                self.select_columns(shared, select, parameters)?;
                None
            }
            Stmt::Insert { table, columns, rows, source, returning } => {
                let (_, found) = self.require_table(shared, table)?;
                let targets = target_columns(&found, table, columns)?;
                if let Some(select) = source {
                    self.select_columns(shared, select, parameters)?;
                }
                for row in rows {
                    if row.len() > targets.len() {
                        return Err(PgError::syntax("INSERT has more expressions than target columns"));
                    }
                    if row.len() < targets.len() && !columns.is_empty() {
                        return Err(PgError::syntax("INSERT has more target columns than expressions"));
                    }
                    for (expr, at) in row.iter().zip(&targets) {
                        let column = &found.columns[*at];
                        assigned(infer(expr, &Scope::default(), parameters, Some(column.kind))?, column)?;
                    }
                }
                let scope = Scope { columns: found.columns.clone(), table: true };
                let returned = targets_columns(returning, &scope, parameters)?;
                (!returning.is_empty()).then_some(returned)
            }
            Stmt::Update { table, set, filter } => {
                let (_, found) = self.require_table(shared, table)?;
                let scope = Scope { columns: found.columns.clone(), table: true };
                for (name, expr) in set {
                    let at = target_columns(&found, table, std::slice::from_ref(name))?[0];
                    assigned(
                        infer(expr, &scope, parameters, Some(found.columns[at].kind))?,
                        &found.columns[at],
                    )?;
                }
                filter_type(filter, &scope, parameters)?;
                None
            }
            Stmt::Delete { table, filter } => {
                let (_, found) = self.require_table(shared, table)?;
                filter_type(filter, &Scope { columns: found.columns.clone(), table: true }, parameters)?;
                None
            }
            Stmt::Show(name) => {
                let (name, _) = self.gucs.show(name)?;
                Some(vec![Column::new(name, Type::Text)])
            }
            Stmt::Fetch { cursor, moving: false, .. } => {
                self.portals.get(cursor).and_then(|portal| portal.columns.clone())
            }
            Stmt::ExecutePrepared { name, .. } => {
                self.statements.get(name).and_then(|prepared| prepared.columns.clone())
            }
            _ => None,
        })
    }

    fn select_columns(
        &self,
        shared: &mut Shared,
        select: &Select,
        parameters: &mut Parameters,
    ) -> Result<Vec<Column>, PgError> {
        let scope = self.scope(shared, &select.from)?;
        if let From::Series { first, last, .. } = &select.from {
            infer(first, &Scope::default(), parameters, Some(Type::Int4))?;
            infer(last, &Scope::default(), parameters, Some(Type::Int4))?;
        }
        let columns = targets_columns(&select.targets, &scope, parameters)?;
        filter_type(&select.filter, &scope, parameters)?;
        if let Some(limit) = &select.limit {
            infer(limit, &Scope::default(), parameters, Some(Type::Int8))?;
        }
        Ok(columns)
    }
}

/// The places of `columns` in `table`; all of them when none is named.
pub fn target_columns(table: &Table, name: &Name, columns: &[String]) -> Result<Vec<usize>, PgError> {
    if columns.is_empty() {
        return Ok((0..table.columns.len()).collect());
    }
    columns
        .iter()
        .map(|column| {
            table.columns.iter().position(|found| found.name == *column).ok_or_else(|| {
                let text = format!("column \"{column}\" of relation \"{}\" does not exist", name.name);
                PgError::error("42703", text)
            })
        })
        .collect()
}

fn assigned(found: Type, column: &ColumnDef) -> Result<(), PgError> {
    let fits = match column.kind {
        Type::Int4 | Type::Int8 => matches!(found, Type::Int4 | Type::Int8 | Type::Unknown | Type::Numeric),
        Type::Bool => matches!(found, Type::Bool | Type::Unknown),
        _ => true,
    };
    if fits {
        return Ok(());
    }
    let text = format!(
        "column \"{}\" is of type {} but expression is of type {}",
        column.name,
        column.kind.display(),
        found.display()
    );
    Err(PgError::error("42804", text))
}

fn filter_type(filter: &Option<Expr>, scope: &Scope, parameters: &mut Parameters) -> Result<(), PgError> {
    if let Some(filter) = filter {
        let kind = infer(filter, scope, parameters, Some(Type::Bool))?;
        if kind != Type::Bool {
            let text = format!("argument of WHERE must be type boolean, not type {}", kind.display());
            return Err(PgError::error("42804", text));
        }
    }
    Ok(())
}

fn targets_columns(
    targets: &[Target],
    scope: &Scope,
    parameters: &mut Parameters,
) -> Result<Vec<Column>, PgError> {
    let mut columns = Vec::new();
    for target in targets {
        match target {
            Target::Star => {
                if scope.columns.is_empty() {
                    return Err(PgError::syntax("SELECT * with no tables specified is not valid"));
                }
                columns.extend((0..scope.columns.len()).map(|at| scope_column(scope, at, None)));
            }
            Target::Expr { expr: Expr::Column(name), alias } => {
                infer(&Expr::Column(name.clone()), scope, parameters, None)?;
                let at = scope.columns.iter().position(|column| column.name == *name).unwrap_or(0);
                columns.push(scope_column(scope, at, alias.clone()));
            }
            Target::Expr { expr, alias } => {
                let mut kind = infer(expr, scope, parameters, None)?;
                if kind == Type::Unknown {
                    kind = infer(expr, scope, parameters, Some(Type::Text))?;
                }
                columns.push(Column::new(alias.clone().unwrap_or_else(|| default_name(expr)), kind));
            }
        }
    }
    Ok(columns)
}

fn scope_column(scope: &Scope, at: usize, alias: Option<String>) -> Column {
    let found = &scope.columns[at];
    let mut column = Column::new(alias.unwrap_or_else(|| found.name.clone()), found.kind);
    if scope.table {
        column.table = Some(at as i16 + 1);
    }
    column
}

/// `FigureColname`
fn default_name(expr: &Expr) -> String {
    match expr {
        Expr::Call { name, .. } => name.clone(),
        Expr::CountStar => "count".into(),
        Expr::Column(name) => name.clone(),
        Expr::Cast { inner, to } => match default_name(inner) {
            name if name == "?column?" => to.column_name().into(),
            name => name,
        },
        _ => "?column?".into(),
    }
}

fn infer(
    expr: &Expr,
    scope: &Scope,
    parameters: &mut Parameters,
    expected: Option<Type>,
) -> Result<Type, PgError> {
    Ok(match expr {
        Expr::Text(text) => match expected {
            Some(kind) => {
                kind.input(text)?;
                kind
            }
            None => Type::Unknown,
        },
        Expr::Integer(number) if i32::try_from(*number).is_err() => Type::Int8,
        Expr::Integer(_) => Type::Int4,
        Expr::Decimal(_) => Type::Numeric,
        Expr::Bool(_) => Type::Bool,
        Expr::Null => expected.unwrap_or(Type::Unknown),
        Expr::Parameter(number) => parameter(*number, parameters, expected)?,
        Expr::Column(name) => {
            let found = scope.columns.iter().find(|column| column.name == *name);
            found.ok_or_else(|| PgError::error("42703", format!("column \"{name}\" does not exist")))?.kind
        }
        Expr::CountStar => Type::Int8,
        Expr::Cast { inner, to } => {
            infer(inner, scope, parameters, Some(*to))?;
            *to
        }
        Expr::Negative(inner) => infer(inner, scope, parameters, expected)?,
        Expr::Call { name, arguments } => call_type(name, arguments, scope, parameters)?,
        Expr::Binary { operator, left, right } => {
            let text = *operator == "||";
            let mut left_type = infer(left, scope, parameters, text.then_some(Type::Text))?;
            let mut right_type = infer(right, scope, parameters, text.then_some(Type::Text))?;
            if left_type == Type::Unknown {
                left_type = infer(left, scope, parameters, Some(right_type))?;
            } else if right_type == Type::Unknown {
                right_type = infer(right, scope, parameters, Some(left_type))?;
            }
            match *operator {
                "||" => Type::Text,
                "+" | "-" | "*" | "/" => {
                    let number =
                        |kind| matches!(kind, Type::Int4 | Type::Int8 | Type::Float8 | Type::Numeric);
                    if !number(left_type) || !number(right_type) {
                        return Err(no_operator(left_type, operator, right_type));
                    }
                    if left_type == Type::Int8 { left_type } else { right_type }
                }
                _ => {
                    let text = |kind| matches!(kind, Type::Text | Type::Varchar | Type::Name);
                    if text(left_type) != text(right_type) {
                        return Err(no_operator(left_type, operator, right_type));
                    }
                    Type::Bool
                }
            }
        }
    })
}

fn no_operator(left: Type, operator: &str, right: Type) -> PgError {
    let text = format!("operator does not exist: {} {operator} {}", left.display(), right.display());
    PgError::error("42883", text)
}

fn parameter(number: usize, parameters: &mut Parameters, expected: Option<Type>) -> Result<Type, PgError> {
    if number == 0 || number > 65_535 || (!parameters.open && number > parameters.types.len()) {
        return Err(PgError::error("42P02", format!("there is no parameter ${number}")));
    }
    if parameters.types.len() < number {
        parameters.types.resize(number, None);
    }
    let known = &mut parameters.types[number - 1];
    if known.is_none() {
        *known = expected.filter(|kind| *kind != Type::Unknown);
    }
    Ok(known.unwrap_or(Type::Unknown))
}

fn call_type(
    name: &str,
    arguments: &[Expr],
    scope: &Scope,
    parameters: &mut Parameters,
) -> Result<Type, PgError> {
    let Some((expected, result)) = signature(name, arguments.len()) else {
        let mut types = Vec::new();
        for argument in arguments {
            types.push(infer(argument, scope, parameters, None)?.display());
        }
        let text = format!("function {name}({}) does not exist", types.join(", "));
        return Err(PgError::error("42883", text));
    };
    for (argument, kind) in arguments.iter().zip(expected) {
        infer(argument, scope, parameters, Some(*kind))?;
    }
    Ok(result)
}
