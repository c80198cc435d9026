//! The simulator: a simulated network, clock and PostgreSQL, and seeded clients, for the production code to run in.
#![allow(dead_code, unreachable_pub)]

mod frame;
mod host;
mod net;
mod postgres;
mod real;
mod script;
mod transcript;
