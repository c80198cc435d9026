//! Authentication: SCRAM-SHA-256 in both roles, MD5, secrets.
