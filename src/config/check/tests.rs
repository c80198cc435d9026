//! Every check with the line that it names.

use super::*;
use crate::config::load::{Sources, Text, build};

fn problems(config: &str, users: &str) -> Vec<String> {
    let sources = Sources {
        config: Some(Text { file: "c", text: config }),
        users: Some(Text { file: "u", text: users }),
        ..Sources::default()
    };
    build(&sources).problems.iter().map(Problem::to_string).collect()
}

/// A good configuration of seven lines; what is tested comes after it.
const GOOD: &str = "[general]\nhost = '::'\n\n[[databases]]\nname = 'd'\nhost = 'h'\n\n";
const USER: &str = "[[users]]\nname = 'u'\ndatabase = 'd'\npassword = 'p'\n";

#[test]
fn good() {
    assert_eq!(problems(GOOD, USER), Vec::<String>::new());
    let verifier = "[[users]]\nname = 'u'\nall_databases = true\nserver_password = 'x'\n\
                    password_hash = 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy'\n";
    assert_eq!(problems(GOOD, verifier), Vec::<String>::new());
}

/// Each text replaces the values of `[general]` in a good configuration; the problem is in line 2.
#[test]
fn general() {
    let cases = [
        ("host = ''", "error: host is empty"),
        ("workers = 5000", "error: workers must be at most 1024"),
        ("default_pool_size = 0", "error: default_pool_size must be at least 1"),
        ("min_pool_size = 50", "warning: min_pool_size is above default_pool_size"),
        ("prepared_statements_limit = 0", "error: prepared_statements_limit must be at least 1"),
        ("connect_attempts = 0", "error: connect_attempts must be at least 1"),
        (
            "log_level = 'loud'",
            "error: log_level must be off, error, warn, info, debug or trace, not \"loud\"",
        ),
        (
            "log_level = 'info,x=y'",
            "error: log_level must be off, error, warn, info, debug or trace, not \"y\"",
        ),
        ("query_timeout = 0", "error: query_timeout must be above 0; leave it out for no limit"),
        ("client_idle_timeout = 0", "error: client_idle_timeout must be above 0"),
        ("connect_timeout = 0", "error: connect_timeout must be above 0"),
        ("server_lifetime = 0", "error: server_lifetime must be above 0"),
        ("stats_period = 0", "error: stats_period must be above 0"),
        ("tls_certificate = 'x'", "error: tls_certificate needs tls_private_key"),
        ("tls_server_private_key = 'x'", "error: tls_server_private_key needs tls_server_certificate"),
        ("tls_client_required = true", "error: tls_client_required needs tls_certificate"),
        ("tls_client_ca_certificate = 'x'", "error: tls_client_ca_certificate needs tls_certificate"),
        (
            "passthrough_auth = 'enabled'",
            "error: passthrough_auth = \"enabled\" takes passwords with TLS only",
        ),
        ("prepared_statements = 'full'", "warning: prepared_statements = \"full\" works like \"extended\""),
    ];
    for (line, expected) in cases {
        let found = problems(&GOOD.replace("host = '::'", line), USER);
        assert!(found.iter().any(|text| text.starts_with(&format!("c:2: {expected}"))), "{line}: {found:?}");
        let idle = found.iter().filter(|text| text.contains("not in use")).count();
        assert_eq!(found.len() - idle, 1, "{line}: {found:?}");
    }
    for (line, expected) in [
        ("mirror_exposure = 2", "error: mirror_exposure must be from 0.0 to 1.0"),
        (
            "idle_healthcheck_interval = 300000",
            "warning: idle_healthcheck_interval should be below ban_timeout",
        ),
        ("read_write_split = 'exclude_primary'", "warning: read_write_split = \"exclude_primary\" without"),
        ("lsn_check_delay = 0", "warning: lsn_check_delay is set, but there are no replicas"),
    ] {
        let found = problems(&GOOD.replace("host = '::'", line), USER);
        assert!(found[0].starts_with(&format!("c:2: {expected}")), "{line}: {found:?}");
        let key = line.split(' ').next().unwrap_or_default();
        assert_eq!(found[1], format!("configuration: warning: accepted, not in use: {key}"));
        assert_eq!(found.len(), 2);
    }
}

/// Each text follows a good configuration and begins in line 8.
#[test]
fn databases_and_others() {
    let cases: [(&str, &[&str]); 24] = [
        (
            "[[databases]]\nname = 'd'\nhost = 'h'",
            &[
                "c:8: error: shard 0 of database \"d\" has a second primary",
                "c:9: error: database \"d\" is there twice with the same host, port and shard (first in line 4)",
                "c:9: error: database \"d\" has more than one host",
            ],
        ),
        ("[[databases]]\nhost = 'h'", &["c:8: error: a database needs a name"]),
        ("[[databases]]\nname = 'e'", &["c:8: error: database \"e\" needs a host"]),
        ("[[databases]]\nname = 'e'\nhost = 5", &["c:10: error: [databases]: `host` must be a string"]),
        (
            "[[databases]]\nname = 'e'\nhost = 'h'\nport = 0",
            &["c:11: error: database \"e\": port must be above 0"],
        ),
        (
            "[[databases]]\nname = 'admin'\nhost = 'h'",
            &["c:9: error: database \"admin\" has the name of the console"],
        ),
        ("[[databases]]\nname = 'e'\nhost = '/tmp'", &[]),
        (
            "[[databases]]\nname = 'e'\nhost = 'h'\nmax_pool_size = 0",
            &["c:11: error: database \"e\": pool_size must be at least 1"],
        ),
        (
            "[[databases]]\nname = 'e'\nhost = 'h'\nmin_pool_size = 11",
            &["c:11: warning: database \"e\": min_pool_size is above"],
        ),
        (
            "[[databases]]\nname = 'e'\nhost = 'h'\nserver_lifetime = 0",
            &["c:11: error: database \"e\": server_lifetime"],
        ),
        (
            "[[databases]]\nname = 'e'\nhost = 'h'\nrole = 'replica'",
            &["c:11: error: database \"e\" has only a replica"],
        ),
        (
            "[[databases]]\nname = 'e'\nhost = 'h'\nrole = 'auto'",
            &["c:11: warning: database \"e\": role = \"auto\" is not"],
        ),
        (
            "[[databases]]\nname = 'd'\nhost = 'i'\nrole = 'auto'",
            &[
                "c:9: error: database \"d\" has more than one host",
                "c:11: error: shard 0 of database \"d\" has both role = \"auto\" and fixed roles",
            ],
        ),
        (
            "[[databases]]\nname = 'd'\nhost = 'i'\nshard = 2",
            &[
                "c:11: error: database \"d\" has a shard 2 but no shard 1",
                "c:11: error: database \"d\" has shards: this version serves one shard",
            ],
        ),
        ("[multi_tenant]\ncolumn = 't'", &["c:9: error: [multi_tenant] is not in this version"]),
        ("[tcp]\ntime = 5", &["c:9: error: time must be from 1000 to 32767000"]),
        ("[tcp]\nretries = 128", &["c:9: error: retries must be from 1 to 127"]),
        ("[admin]\nuser = ''", &["c:9: error: [admin]: user is empty"]),
        ("[admin]\npassword = ''", &["c:9: error: [admin]: the password is empty"]),
        (
            "[[mirroring]]\nexposure = 1.5",
            &["c:8: error: [[mirroring]] is not", "c:9: error: exposure must be from"],
        ),
        ("[[sharded_schemas]]\ndatabase = 'd'", &["c:8: error: [[sharded_schemas]] is not in this version"]),
        (
            "[[omnisharded_tables]]\ndatabase = 'd'",
            &["c:8: error: [[omnisharded_tables]] is not in this version"],
        ),
        (
            "[[sharded_mappings]]\ndatabase = 'd'",
            &["c:8: error: [[sharded_mappings]] is not in this version"],
        ),
        (
            "[rewrite]\nenabled = true",
            &[
                "c:9: warning: [rewrite]: rewritten statements",
                "configuration: warning: accepted, not in use: rewrite.enabled",
            ],
        ),
    ];
    for (text, expected) in cases {
        let found = problems(&format!("{GOOD}{text}\n"), USER);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found:?} should begin with {expected:?}");
        }
    }
}

#[test]
fn mappings() {
    let cases = [
        ("{ shard = 0, values = [1] }, { shard = 0 }", None),
        ("{ shard = 0, start = 1, end = 5 }, { shard = 0, start = 5 }", None),
        ("{ shard = 1, values = [1] }", Some("a mapping names shard 1, but the last one is 0")),
        ("{ shard = 0, values = ['x'] }", Some("is not of the type bigint")),
        ("{ shard = 0, values = [1], start = 7 }", Some("a mapping has either values or a range")),
        ("{ shard = 0, values = [1] }, { shard = 0, values = [1] }", Some("two mappings claim")),
        ("{ shard = 0, values = [3] }, { shard = 0, start = 1, end = 5 }", Some("two mappings claim")),
        ("{ shard = 0, end = 5 }, { shard = 0, start = 4 }", Some("two mappings claim")),
    ];
    for (mapping, expected) in cases {
        let text = format!("{GOOD}[[sharded_tables]]\ndatabase = 'd'\ncolumn = 'c'\nmapping = [{mapping}]\n");
        let found = problems(&text, USER);
        assert!(found[0].starts_with("c:8: error: [[sharded_tables]] is not in this version"));
        assert_eq!(found.len(), 1 + usize::from(expected.is_some()), "{mapping}: {found:?}");
        if let Some(expected) = expected {
            assert!(found[1].starts_with("c:11: error: ") && found[1].contains(expected), "{found:?}");
        }
    }
    let text = format!("{GOOD}[[sharded_tables]]\ndatabase = 'x'\n");
    let found = problems(&text, USER);
    assert!(found.iter().any(|text| text == "c:8: error: a sharded table needs a column"), "{found:?}");
    assert!(found.iter().any(|text| text.starts_with("c:9: error: a sharded table names the unknown")));
}

#[test]
fn users() {
    let hash = "password_hash = 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy'";
    let cases: [(&str, &str, &[&str]); 30] = [
        ("", "[[users]]\ndatabase = 'd'", &["u:1: error: a user needs a name"]),
        (
            "",
            "[[users]]\nname = 'u'\npassword = 'p'",
            &["u:2: error: user \"u\" needs database, databases or"],
        ),
        (
            "",
            "[[users]]\nname = 'u'\npassword = 'p'\ndatabases = ['d', 'e']",
            &["u:4: error: user \"u\" names the unknown database \"e\"; did you mean \"d\"?"],
        ),
        ("", "[[users]]\nname = 'u'\ndatabase = 'd'", &["u:2: warning: user \"u\" has no password"]),
        ("auth_type = 'trust'", "[[users]]\nname = 'u'\ndatabase = 'd'", &[]),
        (
            "",
            "[[users]]\nname = 'u'\ndatabase = 'd'\npassword = ''",
            &["u:4: error: user \"u\" has an empty password"],
        ),
        ("", "[[users]]\nname = 'u'\ndatabase = 'd'\npassword = 'p'\ndatabases = ['d']", &[]),
        (
            "",
            "[[users]]\nname = 'u'\ndatabase = 'd'\npassword = 'p'\n\
             [[users]]\nname = 'u'\npassword = 'q'\ndatabases = ['d']",
            &["u:6: error: user \"u\" of database \"d\" is there twice"],
        ),
        (
            "",
            "[[users]]\nname = 'u'\npassword = 'p'\nall_databases = true\n\
             [[users]]\nname = 'u'\npassword = 'p'\nall_databases = true",
            &["u:6: error: user \"u\" of all databases is there twice"],
        ),
        (
            "",
            "[[users]]\nname = 'u'\ndatabase = 'd'\npassword_hash = 'md5abc'",
            &["u:4: error: user \"u\": password_hash must have the form"],
        ),
        ("", &format!("[[users]]\nname = 'u'\ndatabase = 'd'\n{hash}"), &[]),
        (
            "",
            "[[users]]\nname = 'u'\ndatabase = 'd'\npassword_hash = 'md54a0a68b43b6cd5cf266fa02f196e2371'",
            &["u:4: warning: user \"u\" cannot log in: auth_type = \"scram\""],
        ),
        (
            "",
            "[[users]]\nname = 'u'\ndatabase = 'd'\npassword = 'p'\npasswords = ['1','2','3','4','5','6','7','8']",
            &["u:5: error: user \"u\" has 9 passwords, at most 8"],
        ),
        ("auth_user = 'u'", USER, &[]),
        ("auth_user = 'u'", &format!("{USER}[[users]]\nname = 'v'\ndatabase = 'd'"), &[]),
        ("auth_user = 'v'", USER, &["c:2: error: auth_user \"v\" of database \"d\" must be a user of"]),
        (
            "auth_user = 'u'\nauth_dbname = 'e'",
            USER,
            &["c:2: error: auth_user \"u\" of database \"d\": its auth_dbname \"e\" is unknown"],
        ),
        (
            "auth_user = 'u'",
            &format!("[[users]]\nname = 'u'\ndatabase = 'd'\n{hash}"),
            &["c:2: error: auth_user \"u\" of database \"d\" has no password"],
        ),
        ("auth_user = 'u'\nauth_query = 'SELECT 1'", USER, &["c:3: error: auth_query must contain $1"]),
        ("auth_query = 'SELECT $1'", USER, &["c:2: warning: auth_query is of no use without auth_user"]),
        (
            "[[hba]]\ntype = 'hostssl'\nmethod = 'cert'\nuser = ['+staff']",
            USER,
            &[
                "c:3: warning: [[hba]]: without tls_certificate",
                "c:4: error: [[hba]]: method = \"cert\" needs tls_client_ca_certificate",
                "c:5: error: [[hba]]: user \"+staff\": groups",
            ],
        ),
        (
            "[[hba]]\ntype = 'local'\naddress = ['::1']\nmethod = 'trust'",
            USER,
            &["c:4: error: [[hba]]: a Unix socket"],
        ),
        (
            "[[hba]]\naddress = ['localhost']\nmethod = 'trust'",
            USER,
            &["c:3: error: [hba]: `address` (an entry of this list) must be"],
        ),
        ("dynamic_pools_max = 0", USER, &["c:2: error: dynamic_pools_max must be at least 1"]),
        ("", &format!("{USER}pool_size = 0"), &["u:5: error: user \"u\": pool_size must be at least 1"]),
        (
            "",
            &format!("{USER}pool_size = 1\nmin_pool_size = 2"),
            &["u:6: warning: user \"u\": min_pool_size is above"],
        ),
        (
            "",
            &format!("{USER}server_auth = 'rds_iam'"),
            &["u:5: error: user \"u\": server_auth = \"rds_iam\""],
        ),
        (
            "",
            &format!("{USER}vault_path = 'x'"),
            &["u:5: error: user \"u\": vault_path is not in this version"],
        ),
        (
            "",
            &format!("{USER}tls_client_certificate_required = true"),
            &["u:5: error: user \"u\": tls_client_certificate_required needs tls_client_ca"],
        ),
        (
            "tls_verify = 'disabled'",
            &format!("{USER}identity = 'x'\nvault_refresh_percent = 81"),
            &[
                "u:5: error: user \"u\": identity needs a tls_verify",
                "u:5: warning: user \"u\": without tls_client_ca_certificate, identity is of no use",
                "u:6: error: user \"u\": vault_refresh_percent must be from 1 to 80",
                "configuration: warning: accepted, not in use: users.vault_refresh_percent",
            ],
        ),
    ];
    for (general, text, expected) in cases {
        let found = problems(&GOOD.replace("host = '::'", general), text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found:?} should begin with {expected:?}");
        }
    }
}

#[test]
fn verifiers() {
    assert!(is_verifier("SCRAM-SHA-256$4096:YQ==$YQ==:YQ=="));
    for text in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:a$b:c", "SCRAM-SHA-256$1:$b:c", "SCRAM-SHA-256$1:a$b"]
    {
        assert!(!is_verifier(text), "{text}");
    }
}
