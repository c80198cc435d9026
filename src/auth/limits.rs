//! Every bound of the `auth` layer.

/// Longest message of any SCRAM exchange, in bytes. PostgreSQL takes 65,535; real ones stay below 300.
pub const MESSAGE_LEN_MAX: usize = 1024;

/// Longest nonce of a peer, in bytes. libpq and PostgreSQL each send 24. Three of them and everything else that is
/// bounded fit into [`MESSAGE_LEN_MAX`], so that no answer of ours is longer than what we would accept.
pub const NONCE_LEN_MAX: usize = 256;

/// Random bytes in a nonce of ours, before base64 (`SCRAM_RAW_NONCE_LEN` in PostgreSQL's scram-common.h).
pub const NONCE_RAW_LEN: usize = 18;

/// Longest salt, in bytes.
pub const SALT_LEN_MAX: usize = 128;

/// Length of the salts that we choose, in bytes (`SCRAM_DEFAULT_SALT_LEN` in PostgreSQL's scram-common.h).
pub const SALT_LEN_DEFAULT: usize = 16;

/// Most PBKDF2 iterations that a server may ask of us or a verifier may have: about 0.12 s of one core. More is a
/// fault, or a hostile server could keep the helper thread busy for minutes.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// PostgreSQL's default of `scram_iterations`, and the least that RFC 7677 recommends.
pub const ITERATIONS_DEFAULT: u32 = 4096;

/// Most passwords that one user may have at a time (rotation). Each proof is checked against this many, existing
/// or not, so that time does not tell how many there are.
pub const CANDIDATES_MAX: usize = crate::base::limits::USER_PASSWORDS_MAX;

/// Longest channel-binding digest, in bytes: SHA-512.
pub const END_POINT_LEN_MAX: usize = 64;

/// Longest password that a client may send in clear, in bytes.
pub const PASSWORD_LEN_MAX: usize = 1024;

/// Longest text of a server's `e=` attribute that is kept for the log, in bytes.
pub const SERVER_ERROR_LEN_MAX: usize = 64;
