//! The bodies, compiled once for all targets. They live with the tests, which replay the corpora without a fuzzer.

#[path = "../../tests/fuzz/mod.rs"]
mod fuzz;

pub use fuzz::bodies;
