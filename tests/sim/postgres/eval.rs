//! Values of expressions. Functions with effects (settings, locks, notifications, signals) have them here.

use super::analyze::is_immutable;
use super::error::PgError;
use super::session::Session;
use super::shared::{Shared, Signal};
use super::sql::{ColumnDef, Expr};
use super::value::{Type, Value};

/// What an expression may refer to.
#[derive(Clone, Copy, Default)]
pub struct Env<'a> {
    pub parameters: &'a [Value],
    pub columns: &'a [ColumnDef],
    pub row: &'a [Value],
    pub count: Option<i64>,
}

/// Something that has to happen before a row can be computed.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    Sleep(f64),
    Lock { key: i64, transaction: bool },
}

pub fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Text(_)
        | Expr::Integer(_)
        | Expr::Decimal(_)
        | Expr::Bool(_)
        | Expr::Null
        | Expr::Parameter(_) => true,
        Expr::Column(_) | Expr::CountStar => false,
        Expr::Cast { inner, .. } | Expr::Negative(inner) => is_constant(inner),
        Expr::Binary { left, right, .. } => is_constant(left) && is_constant(right),
        Expr::Call { name, arguments } => is_immutable(name) && arguments.iter().all(is_constant),
    }
}

impl Session {
    /// Evaluates the constant parts of `expr` for their errors, as the planner does.
    pub fn fold(&mut self, shared: &mut Shared, expr: &Expr, parameters: &[Value]) -> Result<(), PgError> {
        if is_constant(expr) {
            return self.eval(shared, expr, Env { parameters, ..Env::default() }).map(drop);
        }
        match expr {
            Expr::Cast { inner, .. } | Expr::Negative(inner) => self.fold(shared, inner, parameters),
            Expr::Binary { left, right, .. } => {
                self.fold(shared, left, parameters)?;
                self.fold(shared, right, parameters)
            }
            Expr::Call { arguments, .. } => {
                arguments.iter().try_for_each(|argument| self.fold(shared, argument, parameters))
            }
            _ => Ok(()),
        }
    }

    /// Waits that `expr` asks for, in order.
    pub fn befores(
        &mut self,
        shared: &mut Shared,
        expr: &Expr,
        env: Env<'_>,
        out: &mut Vec<Before>,
    ) -> Result<(), PgError> {
        match expr {
            Expr::Cast { inner, .. } | Expr::Negative(inner) => self.befores(shared, inner, env, out),
            Expr::Binary { left, right, .. } => {
                self.befores(shared, left, env, out)?;
                self.befores(shared, right, env, out)
            }
            Expr::Call { name, arguments } => {
                match name.as_str() {
                    "pg_sleep" => out.push(Before::Sleep(self.eval(shared, &arguments[0], env)?.float())),
                    "pg_advisory_lock" | "pg_advisory_xact_lock" => {
                        let key = self.eval(shared, &arguments[0], env)?.int();
                        out.push(Before::Lock { key, transaction: name == "pg_advisory_xact_lock" });
                    }
                    _ => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub fn eval(&mut self, shared: &mut Shared, expr: &Expr, env: Env<'_>) -> Result<Value, PgError> {
        Ok(match expr {
            Expr::Text(text) => Value::Text(text.clone()),
            Expr::Integer(number) => Value::Int(*number),
            Expr::Decimal(text) => Value::Float(text.parse().unwrap_or(0.0)),
            Expr::Bool(value) => Value::Bool(*value),
            Expr::Null => Value::Null,
            Expr::Parameter(number) => env.parameters.get(number - 1).cloned().unwrap_or(Value::Null),
            Expr::Column(name) => {
                let at = env.columns.iter().position(|column| column.name == *name);
                at.and_then(|at| env.row.get(at)).cloned().unwrap_or(Value::Null)
            }
            Expr::CountStar => Value::Int(env.count.unwrap_or(0)),
            Expr::Cast { inner, to } => cast(self.eval(shared, inner, env)?, *to)?,
            Expr::Negative(inner) => match self.eval(shared, inner, env)? {
                Value::Int(number) => Value::Int(-number),
                Value::Float(number) => Value::Float(-number),
                other => other,
            },
            Expr::Binary { operator, left, right } => {
                let left = self.eval(shared, left, env)?;
                let right = self.eval(shared, right, env)?;
                binary(operator, left, right)?
            }
            Expr::Call { name, arguments } => {
                let mut values = Vec::new();
                for argument in arguments {
                    values.push(self.eval(shared, argument, env)?);
                }
                self.call(shared, name, &values)?
            }
        })
    }

    fn call(&mut self, shared: &mut Shared, name: &str, values: &[Value]) -> Result<Value, PgError> {
        let strict = !matches!(name, "set_config" | "pg_notify");
        if strict && values.contains(&Value::Null) {
            return Ok(Value::Null);
        }
        let database = self.database.clone();
        Ok(match name {
            // The wait itself, and the taking of the lock, have come before the row.
            "pg_sleep" | "pg_advisory_lock" | "pg_advisory_xact_lock" => Value::Void,
            "pg_backend_pid" => Value::Int(i64::from(self.pid)),
            "current_setting" => {
                if values.get(1) == Some(&Value::Bool(true)) && self.gucs.value(&values[0].text()).is_none() {
                    return Ok(Value::Null);
                }
                Value::Text(self.gucs.show(&values[0].text())?.1)
            }
            "set_config" => {
                let local = values[2] == Value::Bool(true);
                if values[1] == Value::Null {
                    self.gucs.reset(&values[0].text(), local)?;
                    Value::Text(self.gucs.show(&values[0].text())?.1)
                } else {
                    Value::Text(self.gucs.set(&values[0].text(), &values[1].text(), local)?)
                }
            }
            "pg_try_advisory_lock" | "pg_try_advisory_xact_lock" => {
                let transaction = name == "pg_try_advisory_xact_lock";
                let key = values[0].int();
                let taken = shared.locks.acquire(&database, key, self.pid, transaction, false);
                if taken && transaction {
                    self.txn.locks.push(key);
                }
                Value::Bool(taken)
            }
            "pg_advisory_unlock" => {
                let key = values[0].int();
                let released = shared.locks.release(&database, key, self.pid);
                if !released {
                    let text = "you don't own a lock of type ExclusiveLock".to_string();
                    self.notices.push(PgError::new(super::error::Severity::Warning, "01000", text));
                }
                Value::Bool(released)
            }
            "pg_advisory_unlock_all" => {
                shared.locks.release_session(self.pid);
                Value::Void
            }
            "pg_notify" => {
                self.notify(values[0].text(), values[1].text())?;
                Value::Void
            }
            "repeat" => Value::Text(values[0].text().repeat(values[1].int().max(0) as usize)),
            "upper" => Value::Text(values[0].text().to_uppercase()),
            "lower" => Value::Text(values[0].text().to_lowercase()),
            "length" => Value::Int(values[0].text().chars().count() as i64),
            "pg_cancel_backend" | "pg_terminate_backend" => {
                let signal = if name == "pg_cancel_backend" { Signal::Cancel } else { Signal::Terminate };
                shared.signals.push((values[0].int() as i32, signal));
                Value::Bool(true)
            }
            "exists" => Value::Bool(match values[0].text().as_str() {
                "pg_depend" => !self.temporary.is_empty(),
                "pg_cursors" => self.portals.values().any(|portal| portal.hold),
                "pg_locks" => shared.locks.is_held_by(self.pid),
                "pg_prepared_statements" => self.statements.values().any(|prepared| prepared.from_sql),
                "pg_listening_channels" => !self.listening.is_empty(),
                other => return Err(PgError::error("42P01", format!("relation \"{other}\" does not exist"))),
            }),
            "ext_echo" | "own_echo" => Value::Text(values[0].text()),
            // Whether all functions of a name are parallel safe members of extensions.
            "source_is_session" if values[0].text() == "pg_depend" => match values[1].text().as_str() {
                "ext_echo" => Value::Bool(true),
                "own_echo" => Value::Bool(false),
                _ => Value::Null,
            },
            "source_is_session" => Value::Bool(self.gucs.is_of_session(&values[1].text())),
            "listened_channels" if self.listening.is_empty() => Value::Null,
            "listened_channels" => {
                let hex = |name: &String| name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
                Value::Text(self.listening.iter().map(hex).collect::<Vec<_>>().join(","))
            }
            "pg_is_in_recovery" => Value::Bool(self.gucs.is_on("in_hot_standby")),
            "current_database" => Value::Text(database),
            "current_user" | "session_user" => Value::Text(self.user.clone()),
            other => return Err(PgError::error("42883", format!("function {other} does not exist"))),
        })
    }
}

/// Brings a value to the type of a column or cast.
pub fn cast(value: Value, to: Type) -> Result<Value, PgError> {
    Ok(match (&value, to) {
        (Value::Null, _) => value,
        (Value::Text(text), _) => to.input(text)?,
        (Value::Bool(flag), Type::Text | Type::Varchar) => Value::Text(flag.to_string()),
        (_, Type::Text | Type::Varchar | Type::Name) => Value::Text(value.text()),
        (Value::Float(number), Type::Int4 | Type::Int8) => Value::Int(number.round_ties_even() as i64),
        (Value::Int(number), Type::Float8) => Value::Float(*number as f64),
        (Value::Int(number), Type::Int4) if i32::try_from(*number).is_err() => {
            return Err(PgError::error("22003", "integer out of range"));
        }
        (Value::Int(number), Type::Bool) => Value::Bool(*number != 0),
        _ => value,
    })
}

fn binary(operator: &str, left: Value, right: Value) -> Result<Value, PgError> {
    if left == Value::Null || right == Value::Null {
        return Ok(Value::Null);
    }
    if operator == "||" {
        return Ok(Value::Text(left.text() + &right.text()));
    }
    let (left, right) = match (&left, &right) {
        (Value::Int(_), Value::Text(text)) => (left.clone(), Type::Int8.input(text)?),
        (Value::Text(text), Value::Int(_)) => (Type::Int8.input(text)?, right.clone()),
        _ => (left, right),
    };
    let range = || PgError::error("22003", "integer out of range");
    let arithmetic = |result: Option<i64>| {
        let number = result.filter(|n| i32::try_from(*n).is_ok()).ok_or_else(range)?;
        Ok(Value::Int(number))
    };
    match operator {
        "+" => arithmetic(left.int().checked_add(right.int())),
        "-" => arithmetic(left.int().checked_sub(right.int())),
        "*" => arithmetic(left.int().checked_mul(right.int())),
        "/" if right.int() == 0 => Err(PgError::error("22012", "division by zero")),
        "/" => arithmetic(left.int().checked_div(right.int())),
        "=" => Ok(Value::Bool(left == right)),
        "<>" | "!=" => Ok(Value::Bool(left != right)),
        "<" => Ok(Value::Bool(left < right)),
        ">" => Ok(Value::Bool(left > right)),
        "<=" => Ok(Value::Bool(left <= right)),
        _ => Ok(Value::Bool(left >= right)),
    }
}
