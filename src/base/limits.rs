//! Every bound that is not a configuration key, in one place, with its unit last in its name.

use std::time::Duration;

/// A chunk for a socket whose traffic is small; most queries and answers fit.
pub const CHUNK_SMALL_BYTES: usize = 1024;
/// What a socket reads into at first.
pub const CHUNK_STANDARD_BYTES: usize = 16 * 1024;
/// What a socket reads into once a read has filled a standard chunk: a stream.
pub const CHUNK_LARGE_BYTES: usize = 128 * 1024;
/// Chunks of each class that a worker keeps for reuse.
pub const CHUNKS_KEPT_MAX: [usize; 3] = [256, 64, 8];

/// A startup packet, as PostgreSQL's MAX_STARTUP_PACKET_LENGTH.
pub const STARTUP_PACKET_BYTES_MAX: usize = 10_000;
/// A header of the PROXY protocol, with everything that may follow the addresses in it.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;
/// A password or SASL message, as PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH (65,535) less what nobody needs.
pub const AUTH_MESSAGE_BYTES_MAX: usize = 4096;
/// Client messages that PostgreSQL bounds by PQ_SMALL_MESSAGE_LIMIT: Close, Describe, Execute, Flush, Sync …
pub const SMALL_MESSAGE_BYTES_MAX: usize = 10_000;
/// Any message, as PostgreSQL's PQ_LARGE_MESSAGE_LIMIT (MaxAllocSize - 1).
pub const MESSAGE_BYTES_MAX: usize = 0x3fff_fffe;
/// A frame that must be held whole (a named Parse, an error that is rewritten): 54000 beyond it.
pub const HELD_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The text of an unnamed statement that is remembered for a change of server.
pub const UNNAMED_STATEMENT_BYTES_MAX: usize = 1024 * 1024;
/// Memory of all frames that clients without a server have sent in part, per worker.
pub const INCOMPLETE_FRAMES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The same from which on clients that have not logged in have to go: before others suffer.
pub const INCOMPLETE_LOGINS_BYTES_MAX: usize = INCOMPLETE_FRAMES_BYTES_MAX / 2;

/// Expected answers of one server before its client is no longer read.
pub const EXCHANGES_MAX: usize = 1024;
/// Memory for bytes of our own making that an idle client keeps: enough for the answers to Parse and Close.
pub const SMALL_OUTBOX_BYTES: usize = 64;
/// Bytes of our own making that wait for one socket before its session stops working for it.
pub const OWN_BYTES_MAX: usize = 256 * 1024;
/// Reads of one socket in one turn before the others get theirs.
pub const READS_PER_TURN_MAX: usize = 8;
/// How often the oldest waiter of a pool may be overtaken by waiters of the worker that frees a server.
pub const OVERTAKEN_MAX: u32 = 16;
/// How long the clients of one pool wait while a limit over several pools is used up by another pool whose clients came
/// later, before that one gives a server up.
pub const STARVING_MAX: Duration = Duration::from_millis(500);
/// Transactions in one pipeline after which a client gives its server up at a Sync while others wait.
pub const PIPELINED_TRANSACTIONS_MAX: u32 = 64;

/// What a peer may send before its TLS handshake is over: certificate chains are the largest part of it.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Reads of clients in a TLS handshake for one turn of a worker: with an RSA key of 2048 bits each may take a millisecond.
pub const HANDSHAKES_PER_TURN_MAX: usize = 4;
/// Records of one connection that are opened before others get their turn: as many as fill a large chunk.
pub const RECORDS_PER_READ_MAX: usize = 16;
/// Reads of a socket for one read of its records, while those bring no data.
pub const SOCKET_READS_PER_READ_MAX: usize = 4;

/// Startup parameters of one client.
pub const STARTUP_PARAMETERS_MAX: usize = 128;
/// Sets of client parameters that a cluster remembers as accepted by its server.
pub const KNOWN_SETTINGS_MAX: usize = 1024;
/// Parameters that a server reports (ParameterStatus).
pub const REPORTED_PARAMETERS_MAX: usize = 128;
/// A reported parameter's name and value.
pub const REPORTED_PARAMETER_BYTES_MAX: usize = 64 * 1024;

/// Passwords of one user at a time: each proof is checked against so many, whether they exist or not.
pub const USER_PASSWORDS_MAX: usize = 8;
/// Logins to servers at one time that only show whether a client's password is right.
pub const TRIALS_MAX: usize = 8;
/// How long a client waits before it looks again whether there is room for its trial.
pub const TRIAL_RETRY: Duration = Duration::from_millis(50);
/// Users looked up on servers that are remembered, found or not.
pub const LOOKUPS_KEPT_MAX: usize = 10_000;
/// Rows and bytes of the answer to a lookup: a name and a verifier.
pub const LOOKUP_BYTES_MAX: usize = 8 * 1024;

/// Named statements of one client: 53400 (configuration_limit_exceeded) beyond it.
pub const CLIENT_STATEMENTS_MAX: usize = 100_000;

/// How long a server may take to close after Terminate before we close it ourselves.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take to read the last words before its socket is closed.
pub const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a cancel connection may take, and with it the quarantine of its server.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// Clients accepted in a row before the control thread looks at its mail again.
pub const ACCEPTS_PER_TURN_MAX: usize = 256;
/// Clients are given to the first worker that is busy for less than this part of the time, in percent: they cost less on one
/// thread, where more of them are served per wake-up and no server changes hands between threads.
pub const PACKED_BUSY_PERCENT_MAX: u32 = 50;
/// From here on a worker's clients move to others that have more time.
pub const MOVE_BUSY_PERCENT_MIN: u32 = 70;
/// How often workers say how busy they are.
pub const BUSY_INTERVAL: Duration = Duration::from_millis(200);
/// A wait after accept failed for lack of files.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A text of SQL that is looked at for what it does to its session; beyond it anything is assumed. About 2 ms.
pub const GATE_BYTES_MAX: usize = 1024 * 1024;
/// Functions of which a database is asked at the end of one transaction whether they are harmless, those of which that is
/// remembered, and for how long: a function of the same name may be made over a connection that is not ours.
pub const ASKED_FUNCTIONS_MAX: usize = 16;
pub const KNOWN_FUNCTIONS_MAX: usize = 1000;
pub const KNOWN_FUNCTIONS_TTL: Duration = Duration::from_secs(60);

/// Parameters that one transaction sets; beyond it the server is reset.
pub const TOUCHED_SETTINGS_MAX: usize = 256;
/// Channels of one client that the listening connection of its database listens to; with more it keeps its server.
pub const LISTENS_MAX: usize = 1000;
/// Own notifications that a client has been told of and that the listening connection has not brought yet.
pub const ECHOES_MAX: usize = 1000;
/// PostgreSQL's payloads are shorter than 8000 bytes, and names than 64.
pub const NOTIFICATION_BYTES_MAX: usize = 16 * 1024;
/// Notifications on their way to the sessions of a worker; beyond them the connections that listen are not read for a moment.
pub const NOTIFICATIONS_UNDERWAY_MAX: usize = 100_000;
pub const NOTIFICATIONS_PAUSE: Duration = Duration::from_millis(1);
