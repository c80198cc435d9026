//! What fuzzing runs: one function a target, each of which takes any bytes and asserts what must hold whatever they
//! are. `fuzz/fuzz_targets` gives them to libFuzzer; `tests/fuzz_corpus.rs` replays the committed corpora.
#![allow(dead_code, unreachable_pub)]

pub mod bodies;
pub mod mini;
pub mod sql;
pub mod talk;
pub mod toy;
