//! The simulator: a simulated network, clock and PostgreSQL, and seeded clients, for the production code to run in.
#![allow(dead_code, unreachable_pub)]

mod client;
mod direct;
mod frame;
mod guest;
mod host;
mod hostile;
mod model;
mod net;
mod postgres;
mod proxy;
mod real;
mod records;
mod script;
mod transcript;
