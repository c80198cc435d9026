//! The single tables of pgdog.toml beside `[general]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::choices::*;
use super::secret::Secret;
use super::section::section;
use crate::base::rng::Rng;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

section! {
    /// The console: a database of its own, for operators.
    pub struct Admin {
        "" {
            /// Name of the console's database.
            name: String = "admin".to_owned();
            /// The one user who may connect to it.
            user: String = "admin".to_owned();
            /// The password; made up at each start unless one of the files or PGDOG_ADMIN_PASSWORD sets it.
            password: Option<Secret> = None;
        }
    }
}

impl Admin {
    /// Makes up a password for a console that has none: 16 letters and digits, 80 bits.
    pub fn generate_password(&mut self, rng: &mut dyn Rng) {
        // 32 characters, so that a byte's low bits choose without bias; those that look alike are left out.
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut random = [0; 16];
        rng.fill(&mut random);
        let text: String = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
        self.password = Some(Secret::new(text));
    }
}

section! {
    /// Options of the TCP sockets of clients and servers.
    pub struct Tcp {
        "" {
            /// Whether the operating system looks for peers that have vanished.
            keepalive: bool = true;
            /// How long a connection is silent before it looks; unset is the system's value.
            time: Option<Duration> = None;
            /// Time between two looks.
            interval: Option<Duration> = None;
            /// Looks without an answer after which the connection is broken.
            retries: Option<u32> = None;
            /// How long sent data may stay without confirmation before the connection is broken (Linux).
            user_timeout: Option<Duration> = None;
            /// Name of the congestion control (Linux).
            congestion_control: Option<String> = None;
        }
    }
}

section! {
    /// Sizes of buffers.
    pub struct Memory {
        "" {
            /// Bytes of a network buffer at its start.
            net_buffer: usize = 4_096;
            /// Bytes of a message buffer at its start.
            message_buffer: usize = 4_096;
            /// Bytes of a thread's stack.
            stack_size: usize = 2 * 1_024 * 1_024;
        }
    }
}

section! {
    /// What to do with statements that only work on shards after they were rewritten.
    pub struct Rewrite {
        "" {
            /// Whether statements may be rewritten.
            enabled: bool = false;
            /// UPDATE of a sharding key.
            shard_key: RewriteMode = RewriteMode::Error;
            /// INSERT of rows that belong to different shards.
            split_inserts: RewriteMode = RewriteMode::Error;
            /// INSERT without a value for a bigint primary key.
            primary_key: RewriteMode = RewriteMode::Ignore;
        }
    }
}

section! {
    /// One schema for many tenants.
    pub struct MultiTenant {
        "" {
            /// Column that every statement has to compare with the tenant's id.
            column: Option<String> = None;
        }
    }
}

section! {
    /// Kept for older files: ban_replica_lag took its place.
    pub struct ReplicaLag {
        "" {
            /// How often lag was measured.
            check_interval: Duration = ms(1_000);
            /// Lag from which a replica was not used.
            max_age: Duration = ms(25);
        }
    }
}

section! {
    /// Logical replication for resharding.
    pub struct Replication {
        "" {
            /// The pg_dump program that reads the schema.
            pg_dump_path: PathBuf = PathBuf::from("pg_dump");
        }
    }
}

section! {
    /// Metrics sent with the OpenTelemetry protocol.
    pub struct Otel {
        "" {
            /// Where to; its variable is OTEL_EXPORTER_OTLP_ENDPOINT.
            endpoint: Option<String> = None;
            /// Prefix of the metrics' names; pgdog unless set.
            namespace: Option<String> = None;
            /// Headers of each request.
            headers: BTreeMap<String, Secret> = BTreeMap::new();
            /// Key for Datadog.
            datadog_api_key: Option<Secret> = None;
            /// How often metrics are sent.
            push_interval: Duration = ms(10_000);
        }
    }
}

section! {
    /// HashiCorp Vault, as a source of credentials.
    pub struct Vault {
        "" {
            /// Its address.
            url: Option<String> = None;
            /// Its namespace.
            namespace: Option<String> = None;
            /// How to log in to it.
            auth_method: Option<VaultAuthMethod> = None;
            /// Path where that method is mounted.
            auth_mount: Option<String> = None;
            /// Role, with kubernetes.
            kubernetes_role: Option<String> = None;
            /// File with the token, with kubernetes.
            kubernetes_jwt_path: Option<PathBuf> = None;
            /// Id of the role, with approle.
            approle_role_id: Option<String> = None;
            /// File with the secret, with approle; its variable is VAULT_SECRET_ID.
            approle_secret_id_file: Option<PathBuf> = None;
            /// How long a token is used when Vault does not say; 60 s unless set.
            client_token_ttl: Option<Duration> = None;
        }
    }
}

section! {
    /// Quality of service; part of another edition, kept so that its files are read.
    pub struct Qos {
        "" {
            /// Whether it is on.
            enabled: bool = false;
            /// Most statements that are told apart.
            max_entries: Option<usize> = None;
        }
    }
}

section! {
    /// Control plane; part of another edition, kept so that its files are read.
    pub struct Control {
        "" {
            /// Its address.
            endpoint: Option<String> = None;
            /// Token to log in with.
            token: Option<Secret> = None;
            /// How often metrics are sent.
            metrics_interval: Duration = ms(1_000);
            /// How often statistics are sent.
            stats_interval: Duration = ms(5_000);
            /// How often running statements are sent.
            active_queries_interval: Duration = ms(5_000);
            /// How long a request may take.
            request_timeout: Duration = ms(1_000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    #[test]
    fn generated_password() {
        let mut admin = Admin::default();
        admin.generate_password(&mut SeededRng::new(1));
        let first = admin.password.clone();
        admin.generate_password(&mut SeededRng::new(2));
        assert_ne!(first, admin.password);
        assert_eq!(first.map(|password| password.as_bytes().len()), Some(16));
    }
}
