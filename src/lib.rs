//! pgdog: connection pooler, load balancer and sharding router for PostgreSQL.
//!
//! The crate is layered; a module uses only modules above it in this list (held by `tests/layers.rs`).
//! What decides (`base` to `session`) contains no sockets, clocks, threads or files: bytes and the current
//! time come in, bytes and actions go out. `io`, `worker` and `control` carry that out and decide nothing.
#![deny(unsafe_code)]

pub mod base;

pub mod stats;
pub mod wire;

pub mod auth;
pub mod config;
pub mod sql;

pub mod cluster;

pub mod admin;

pub mod session;

pub mod control;
pub mod io;
pub mod worker;
