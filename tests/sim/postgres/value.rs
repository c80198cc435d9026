//! Types and values: OIDs, text and binary forms, input errors.

use super::error::PgError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Unknown,
    Text,
    Varchar,
    Name,
    Int4,
    Int8,
    Bool,
    Void,
    Float8,
    Numeric,
}

impl Type {
    pub fn oid(self) -> i32 {
        match self {
            Type::Unknown => 705,
            Type::Text => 25,
            Type::Varchar => 1043,
            Type::Name => 19,
            Type::Int4 => 23,
            Type::Int8 => 20,
            Type::Bool => 16,
            Type::Void => 2278,
            Type::Float8 => 701,
            Type::Numeric => 1700,
        }
    }

    pub fn from_oid(oid: i32) -> Option<Type> {
        let all = [
            Type::Text,
            Type::Varchar,
            Type::Name,
            Type::Int4,
            Type::Int8,
            Type::Bool,
            Type::Float8,
            Type::Unknown,
        ];
        all.into_iter().find(|kind| kind.oid() == oid)
    }

    pub fn length(self) -> i16 {
        match self {
            Type::Text | Type::Varchar | Type::Numeric => -1,
            Type::Unknown => -2,
            Type::Name => 64,
            Type::Int4 | Type::Void => 4,
            Type::Int8 | Type::Float8 => 8,
            Type::Bool => 1,
        }
    }

    /// As error messages write it.
    pub fn display(self) -> &'static str {
        match self {
            Type::Unknown => "unknown",
            Type::Text => "text",
            Type::Varchar => "character varying",
            Type::Name => "name",
            Type::Int4 => "integer",
            Type::Int8 => "bigint",
            Type::Bool => "boolean",
            Type::Void => "void",
            Type::Float8 => "double precision",
            Type::Numeric => "numeric",
        }
    }

    /// The name a column gets from a cast.
    pub fn column_name(self) -> &'static str {
        match self {
            Type::Int4 => "int4",
            Type::Int8 => "int8",
            Type::Bool => "bool",
            Type::Float8 => "float8",
            Type::Varchar => "varchar",
            other => other.display(),
        }
    }

    /// Reads a value in text form.
    ///
    /// # Errors
    /// 22P02 or 22003 with PostgreSQL's text.
    pub fn input(self, text: &str) -> Result<Value, PgError> {
        let invalid = || {
            PgError::error("22P02", format!("invalid input syntax for type {}: \"{text}\"", self.display()))
        };
        Ok(match self {
            Type::Int4 | Type::Int8 => {
                let number: i128 = text.trim().parse().map_err(|_| invalid())?;
                let fits = match self {
                    Type::Int4 => i32::try_from(number).is_ok(),
                    _ => i64::try_from(number).is_ok(),
                };
                if !fits {
                    return Err(PgError::error(
                        "22003",
                        format!("value \"{text}\" is out of range for type {}", self.display()),
                    ));
                }
                Value::Int(number as i64)
            }
            Type::Bool => match text.trim().to_ascii_lowercase().as_str() {
                "t" | "true" | "on" | "yes" | "1" => Value::Bool(true),
                "f" | "false" | "off" | "no" | "0" => Value::Bool(false),
                _ => return Err(invalid()),
            },
            Type::Float8 | Type::Numeric => Value::Float(text.trim().parse().map_err(|_| invalid())?),
            Type::Void => Value::Void,
            Type::Text | Type::Varchar | Type::Name | Type::Unknown => Value::Text(text.to_string()),
        })
    }

    /// Reads a value in binary form.
    pub fn input_binary(self, bytes: &[u8]) -> Result<Value, PgError> {
        let wrong = || PgError::error("22P03", "incorrect binary data format in bind parameter 1");
        let short = || PgError::protocol("insufficient data left in message");
        Ok(match self {
            Type::Int4 if bytes.len() < 4 => return Err(short()),
            Type::Int8 | Type::Float8 if bytes.len() < 8 => return Err(short()),
            Type::Int4 => Value::Int(i64::from(i32::from_be_bytes(bytes.try_into().map_err(|_| wrong())?))),
            Type::Int8 => Value::Int(i64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
            Type::Float8 => Value::Float(f64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
            Type::Bool => Value::Bool(*bytes.first().ok_or_else(short)? != 0),
            _ => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        })
    }
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum Value {
    Null,
    Text(String),
    Int(i64),
    Bool(bool),
    Float(f64),
    Void,
}

impl Value {
    /// The text form; `None` for NULL.
    pub fn output(&self) -> Option<String> {
        Some(match self {
            Value::Null => return None,
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Bool(true) => "t".into(),
            Value::Bool(false) => "f".into(),
            Value::Float(number) => number.to_string(),
            Value::Void => String::new(),
        })
    }

    /// The form of `format` (0 text, 1 binary) as `kind`.
    pub fn encode(&self, kind: Type, format: i16) -> Option<Vec<u8>> {
        if format == 0 || *self == Value::Null {
            return self.output().map(String::into_bytes);
        }
        Some(match (self, kind) {
            (Value::Int(number), Type::Int4) => (*number as i32).to_be_bytes().to_vec(),
            (Value::Int(number), _) => number.to_be_bytes().to_vec(),
            (Value::Bool(value), _) => vec![u8::from(*value)],
            (Value::Float(value), _) => value.to_be_bytes().to_vec(),
            _ => return self.output().map(String::into_bytes),
        })
    }

    pub fn text(&self) -> String {
        self.output().unwrap_or_default()
    }

    pub fn int(&self) -> i64 {
        match self {
            Value::Int(number) => *number,
            Value::Float(number) => *number as i64,
            Value::Text(text) => text.parse().unwrap_or(0),
            _ => 0,
        }
    }

    pub fn float(&self) -> f64 {
        match self {
            Value::Int(number) => *number as f64,
            Value::Float(number) => *number,
            Value::Text(text) => text.parse().unwrap_or(0.0),
            _ => 0.0,
        }
    }
}
