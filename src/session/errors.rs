//! Every error of our own that a client can see: its severity, SQLSTATE and text. Nothing else writes any.
//!
//! SQLSTATEs as in the manual's appendix "PostgreSQL Error Codes"; where PostgreSQL has the same error, its text.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::outbox::Outbox;
use crate::cluster::clients::Full;
use crate::cluster::world::{Name, OpenFailure};
use crate::wire::error::{self, Severity, SqlState};
use crate::wire::proxy::ProxyFault;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The startup packet makes no sense.
    BadStartup(String),
    /// What a load balancer has to send first is not there, or makes no sense.
    BadProxyHeader(ProxyFault),
    UnsupportedVersion(u32),
    /// Something came behind an SSLRequest before the answer to it.
    DataBeforeHandshake,
    /// `tls_client_required`.
    EncryptionRequired,
    /// The user must show a certificate, and has not.
    CertificateRequired,
    /// Its certificate is for somebody else, and there is no other way.
    CertificateRejected {
        user: String,
    },
    NoUser,
    /// The startup parameter `replication` has no such value.
    BadReplication(String),
    /// A startup parameter that only PostgreSQL itself could serve.
    Unsupported(&'static str),
    BadOption(String),
    /// Whatever is wrong with the user, database or password: the text does not tell which.
    PasswordRejected {
        user: String,
    },
    NoDatabase {
        database: String,
    },
    /// A limit of clients is reached.
    TooManyClients {
        full: Full,
        user: String,
        database: String,
    },
    /// A user could not be looked up on a server (`auth_query`), whoever that is.
    LookupFailed,
    /// Of this user, from this address.
    TooManyAttempts {
        user: String,
    },
    /// `dynamic_pools_max`.
    TooManyPools,
    /// By the rules of `[[hba]]`: one of them says so, or none lets the client in.
    RuleRejects {
        explicitly: bool,
        /// None: over a Unix socket.
        host: Option<IpAddr>,
        is_encrypted: bool,
        name: Arc<Name>,
    },
    /// The answer to the request for a password is not one.
    BadPasswordMessage(String),
    LoginTimeout,
    /// No server could be opened for the login or the statement.
    ServerUnavailable {
        failure: Option<OpenFailure>,
        fatal: bool,
    },
    CheckoutTimeout {
        fatal: bool,
    },
    /// The server closed the connection, or it had to be closed.
    ServerLost {
        fatal: bool,
    },
    /// What the server sent could not be understood.
    ServerOutOfSync {
        fatal: bool,
    },
    QueryTimeout {
        fatal: bool,
    },
    IdleTimeout,
    IdleInTransactionTimeout,
    /// Cancelled while waiting for a server.
    Cancelled,
    ShuttingDown,
    /// The user or database is gone from the configuration.
    Unconfigured,
    /// The connection that listened for it has gone.
    ListensLost,
    /// A length that cannot be.
    BadMessageLength {
        tag: u8,
    },
    UnknownMessage {
        tag: u8,
    },
    MalformedMessage {
        tag: u8,
    },
    FrameTooLong {
        tag: u8,
        limit: usize,
    },
    /// `query_size_limit`.
    QueryTooLong {
        limit: u64,
    },
    TooManyStatements(usize),
    UnnamedStatementLost,
    TransactionInStatementMode,
    TransactionInPipeline,
    SyncBehindCopy,
    OutOfMemory,
    /// A statement that the console does not know.
    Console {
        state: SqlState,
        text: String,
    },
    Internal,
}

use ClientError::*;
use Severity::{Error, Fatal};

impl ClientError {
    pub fn severity(&self) -> Severity {
        match self {
            ServerUnavailable { fatal, .. }
            | CheckoutTimeout { fatal }
            | ServerLost { fatal }
            | ServerOutOfSync { fatal }
            | QueryTimeout { fatal } => {
                if *fatal {
                    Fatal
                } else {
                    Error
                }
            }
            Cancelled
            | TransactionInStatementMode
            | QueryTooLong { .. }
            | TooManyStatements(_)
            | UnnamedStatementLost
            | Console { .. } => Error,
            _ => Fatal,
        }
    }

    pub fn state(&self) -> SqlState {
        match self {
            BadStartup(_)
            | BadProxyHeader(_)
            | BadPasswordMessage(_)
            | DataBeforeHandshake
            | BadMessageLength { .. }
            | UnknownMessage { .. }
            | MalformedMessage { .. } => "08P01",
            UnsupportedVersion(_)
            | Unsupported(_)
            | TransactionInStatementMode
            | TransactionInPipeline
            | SyncBehindCopy => "0A000",
            NoUser | CertificateRequired | CertificateRejected { .. } => "28000",
            EncryptionRequired => "08004",
            BadOption(_) => "42601",
            PasswordRejected { .. } => "28P01",
            NoDatabase { .. } => "3D000",
            LookupFailed => "58000",
            TooManyAttempts { .. } | RuleRejects { .. } => "28000",
            TooManyPools => "53300",
            LoginTimeout => "57014",
            ServerUnavailable { failure, .. } => match failure {
                Some(OpenFailure::Refused(_)) => "08004",
                _ => "08006",
            },
            BadReplication(_) => "22023",
            CheckoutTimeout { .. } | TooManyClients { .. } => "53300",
            ServerLost { .. } | ServerOutOfSync { .. } => "08006",
            QueryTimeout { .. } | Cancelled => "57014",
            IdleTimeout => "57P05",
            IdleInTransactionTimeout => "25P03",
            ShuttingDown | Unconfigured | ListensLost => "57P01",
            FrameTooLong { .. } | QueryTooLong { .. } => "54000",
            TooManyStatements(_) => "53400",
            UnnamedStatementLost => "26000",
            OutOfMemory => "53200",
            Console { state, .. } => state,
            Internal => "XX000",
        }
    }

    pub fn text(&self) -> String {
        match self {
            BadStartup(text) => format!("invalid startup packet: {text}"),
            BadProxyHeader(fault) => match fault {
                ProxyFault::NoHeader => {
                    "this address has to send a header of the PROXY protocol, version 2, first".into()
                }
                fault => format!("invalid header of the PROXY protocol: {fault:?}"),
            },
            UnsupportedVersion(version) => {
                format!(
                    "unsupported frontend protocol {}.{}: server supports 3.0 to 3.2",
                    version >> 16,
                    version & 0xffff
                )
            }
            DataBeforeHandshake => "received unencrypted data after SSL request".into(),
            EncryptionRequired => "connection requires TLS".into(),
            CertificateRequired => "connection requires a valid client certificate".into(),
            CertificateRejected { user } => format!("certificate authentication failed for user \"{user}\""),
            NoUser => "no PostgreSQL user name specified in startup packet".into(),
            BadReplication(value) => {
                format!("invalid value for parameter \"replication\": \"{value}\"")
            }
            Unsupported(what) => format!("{what} is not supported by pgdog"),
            BadOption(option) => format!("invalid command-line argument for server process: {option}"),
            PasswordRejected { user } => format!("password authentication failed for user \"{user}\""),
            NoDatabase { database } => format!("database \"{database}\" does not exist"),
            TooManyClients { full: Full::Process, .. } => "sorry, too many clients already".into(),
            TooManyClients { full: Full::User, user, .. } => {
                format!("too many connections for role \"{user}\"")
            }
            TooManyClients { full: Full::Database, database, .. } => {
                format!("too many connections for database \"{database}\"")
            }
            LookupFailed => "the user could not be looked up on the server; the log says why".into(),
            TooManyAttempts { user } => {
                format!("too many failed logins of user \"{user}\" from this address; try again later")
            }
            RuleRejects { explicitly, host, is_encrypted, name } => {
                let what = if *explicitly {
                    "a rule of [[hba]] rejects the connection"
                } else {
                    "no rule of [[hba]]"
                };
                let encryption = if *is_encrypted { "SSL encryption" } else { "no encryption" };
                let Name { database, user } = &**name;
                let host = host.map_or_else(|| "[local]".to_owned(), |host| host.to_string());
                format!("{what} for host \"{host}\", user \"{user}\", database \"{database}\", {encryption}")
            }
            TooManyPools => "there are as many pools as dynamic_pools_max allows, and all are in use".into(),
            BadPasswordMessage(text) => text.clone(),
            LoginTimeout => "canceling authentication due to timeout".into(),
            ServerUnavailable { failure, .. } => {
                format!("could not open a connection to the server: {}", unavailable(failure))
            }
            CheckoutTimeout { .. } => {
                "timed out waiting for a server connection: all that the limits allow are in use".into()
            }
            ServerLost { .. } => "the server closed the connection unexpectedly".into(),
            ServerOutOfSync { .. } => {
                "the server sent something that was not expected; its connection has been closed".into()
            }
            QueryTimeout { .. } => {
                "canceling statement due to query_timeout; its server connection has been closed".into()
            }
            IdleTimeout => "terminating connection due to client_idle_timeout".into(),
            IdleInTransactionTimeout => {
                "terminating connection due to client_idle_in_transaction_timeout".into()
            }
            Cancelled => "canceling statement due to user request".into(),
            ShuttingDown => "terminating connection because pgdog is shutting down".into(),
            ListensLost => {
                "terminating connection because notifications for it may have been lost with a server connection"
                    .into()
            }
            Unconfigured => {
                "terminating connection because its user or database is no longer configured".into()
            }
            BadMessageLength { tag } => format!("invalid length of message {:?}", char::from(*tag)),
            UnknownMessage { tag } => format!("invalid frontend message type {tag}"),
            MalformedMessage { tag } => format!("malformed message {:?}", char::from(*tag)),
            FrameTooLong { tag, limit } => {
                format!(
                    "message {:?} is longer than the {limit} bytes that pgdog holds in one piece",
                    char::from(*tag)
                )
            }
            QueryTooLong { limit } => format!("statement is longer than query_size_limit ({limit} bytes)"),
            TooManyStatements(limit) => format!("more than {limit} prepared statements in one session"),
            UnnamedStatementLost => {
                "the unnamed prepared statement was too long to be kept for another server connection".into()
            }
            TransactionInStatementMode | TransactionInPipeline => {
                "transaction blocks are not allowed in statement pooling mode".into()
            }
            SyncBehindCopy => "Sync sent behind a simple query that begins a COPY from the client".into(),
            OutOfMemory => "too many clients have sent incomplete messages".into(),
            Console { text, .. } => text.clone(),
            Internal => "internal error; this connection has been closed".into(),
        }
    }

    fn detail(&self) -> Option<&'static str> {
        match self {
            ServerUnavailable { failure: Some(OpenFailure::Refused(_)), .. } => {
                Some("This is the server's own answer to the login of pgdog.")
            }
            _ => None,
        }
    }

    pub fn write(&self, outbox: &mut Outbox) {
        outbox.own(|buf| error::write(buf, self.severity(), self.state(), &self.text(), self.detail(), None));
    }
}

/// For the log and for clients. What a server says about its own login goes to clients too: it names users and
/// databases, never passwords.
pub fn unavailable(failure: &Option<OpenFailure>) -> String {
    match failure {
        None => "none became free in time".into(),
        Some(OpenFailure::Unresolved(text)) => format!("its host name has no address: {text}"),
        Some(OpenFailure::Connect(text)) => text.clone(),
        Some(OpenFailure::Timeout) => "connect_timeout expired".into(),
        Some(OpenFailure::Refused(body)) => error::summary(body),
        Some(OpenFailure::Login(text)) => text.clone(),
        Some(OpenFailure::Closed) => "the server closed the connection during login".into(),
    }
}
