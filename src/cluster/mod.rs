//! What all workers share: pools, the databases and users they serve, prepared statements' names.
//!
//! Pure values; a lock is held only around them, and no foreign code runs under it.

pub mod clients;
pub mod demand;
pub mod functions;
pub mod listeners;
pub mod lookups;
pub mod pool;
pub mod quota;
pub mod settings;
pub mod shared;
pub mod statements;
pub mod world;
