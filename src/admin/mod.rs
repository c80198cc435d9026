//! The console: the database `admin`, in which the process tells about itself and takes orders.
//!
//! Pure: parses commands, renders tables of rows that the workers bring. Names and columns are those that users of
//! PgDog know.

mod command;
mod tables;

pub use command::{Command, Fault, Scope, Show, parse};
pub use tables::{ClientRow, PoolRow, ServerRow, Snapshot, complete, render};
