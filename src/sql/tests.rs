//! Tables of statements.

use super::command::{Command, Copy, Discard, Isolation, Scope, Set, Tags, TransactionModes, Value};
use super::effects::Effects;
use super::lexer::{Kind, Lexer};
use super::value::{Name, Parameter};
use super::{Encoding, Reading, Statement, statements};

fn all(text: &str) -> Vec<Statement<'_>> {
    statements(text.as_bytes(), Reading::default()).collect()
}

fn one(text: &str) -> Statement<'_> {
    let all = all(text);
    assert_eq!(all.len(), 1, "{text}");
    all[0]
}

fn effects(text: &str) -> String {
    format!("{:?}", one(text).effects)
}

// ---- what has no effects, and must not seem to have some

#[test]
fn nothing_to_remember() {
    let mut wrong = Vec::new();
    for text in [
        "SELECT 1",
        "select * from pgbench_accounts where aid = $1",
        "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP)",
        "INSERT INTO s.t(a) VALUES (1), (2) ON CONFLICT (a) DO UPDATE SET a = excluded.a RETURNING (a)",
        "INSERT INTO \"T\" (\"A\") SELECT count(*) FROM x",
        "INSERT INTO t AS target (a) VALUES (now())",
        "DELETE FROM t WHERE a IN (1, 2) AND (b OR NOT (c)) AND EXISTS (SELECT 1)",
        "MERGE INTO t USING s ON (t.a = s.a) WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
        "SELECT count(*) FILTER (WHERE a > 0) OVER (PARTITION BY b ORDER BY c) FROM t",
        "SELECT PG_CATALOG.lower(a), pg_catalog.\"upper\"(b) FROM t",
        "WITH a (x, y) AS (SELECT 1, 2), b(z) AS NOT MATERIALIZED (SELECT 3) SELECT * FROM a, b",
        "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT sum(n) FROM t",
        "SELECT * FROM (VALUES (1, 2)) v (a, b) JOIN LATERAL (SELECT 1) AS w(c) ON (true)",
        "SELECT a::numeric(10, 2), CAST(b AS varchar(3)), c::geometry(Point, 4326) FROM t",
        "SELECT * FROM unnest($1::int[]) WITH ORDINALITY u(a, b)",
        "SELECT coalesce(a, b), nullif(a, b), greatest(1, 2), extract(year from c), substring(d from 2) FROM t",
        "SELECT array(SELECT 1), row(1, 2), (a, b) = ANY (SELECT 1, 2), x IS DISTINCT FROM (1)",
        "SELECT 'set_config(1,2,false)', $$pg_advisory_lock(1)$$, \"pg_notify\" /* setseed(1) */ FROM t -- nextval('a')",
        "SELECT GROUPING(a) FROM t GROUP BY GROUPING SETS ((a), ()), ROLLUP (a), CUBE (a)",
        "SELECT a FROM t TABLESAMPLE system (10) REPEATABLE (3) FETCH FIRST (3) ROWS ONLY",
        "SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1, 2)",
        "SELECT ARRAY(SELECT 1), ts AT TIME ZONE ('UTC') FROM t ORDER BY (a), (b) LIMIT (1) OFFSET (2)",
        "SELECT json_agg(row_to_json(x)), json_build_object('a', 1), jsonb_path_query(a, '$') FROM x",
        "VALUES (1, 2), (3, 4)",
        "TABLE t",
        "((SELECT 1) UNION (SELECT 2))",
        "COPY t (a, b) FROM STDIN WITH (FORMAT csv, FORCE_NOT_NULL (a))",
        "COPY (SELECT a FROM t) TO STDOUT",
        "SHOW search_path",
        "SHOW ALL",
        "LOCK TABLE t IN ACCESS EXCLUSIVE MODE",
        "CREATE TABLE t (a int PRIMARY KEY, b varchar(3) REFERENCES u (c), UNIQUE (b), CHECK (a > 0))",
        "CREATE TABLE IF NOT EXISTS s.t (a int)",
        "CREATE INDEX CONCURRENTLY i ON s.t USING gist (a, lower(b)) INCLUDE (c) WHERE (a > 0)",
        "CREATE FUNCTION f(a int) RETURNS TABLE (b int) LANGUAGE sql AS $$ SELECT set_config('a', 'b', false) $$",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT g(1); SELECT 2 AS end; END",
        "CREATE OR REPLACE VIEW v (a) AS SELECT g(1)",
        "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1",
        "CREATE TEMPORARY TABLE t (a int) ON COMMIT DROP",
        "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE t ADD COLUMN c numeric(3, 2) DEFAULT round(1.5)",
        "ALTER ROLE r SET search_path = pg_temp",
        "DROP TABLE IF EXISTS t",
        "GRANT EXECUTE ON FUNCTION f(int) TO r",
        "VACUUM (ANALYZE) t (a, b)",
        "EXPLAIN (COSTS off) SELECT count(*) FROM t",
        "EXPLAIN CREATE TEMP TABLE t AS SELECT 1",
        "SET CONSTRAINTS ALL DEFERRED",
    ] {
        wrong.extend((effects(text) != "NONE").then(|| (text, effects(text))));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// ---- what has effects

#[test]
fn effects_of_statements() {
    let mut wrong = Vec::new();
    for (text, wanted) in [
        ("BEGIN", "TRANSACTION"),
        ("SET work_mem = '1MB'", "SETTING"),
        ("SET LOCAL work_mem TO 1000", "LOCAL_SETTING"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "LOCAL_SETTING"),
        ("SET transaction_read_only = on", "LOCAL_SETTING"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SETTING"),
        ("SET LOCAL SESSION AUTHORIZATION r", "LOCAL_SETTING"),
        ("RESET ALL", "SETTING"),
        ("DISCARD ALL", "DISCARD"),
        ("PREPARE p (int, numeric(1, 2)) AS SELECT set_config('a', f($1), false)", "PREPARED"),
        ("EXECUTE p (1, 2)", "EXECUTE"),
        ("EXECUTE p (f(1))", "EXECUTE | UNKNOWN_FUNCTION"),
        ("CREATE TABLE t AS EXECUTE p(1)", "EXECUTE"),
        ("CREATE TEMP TABLE commit AS EXECUTE p", "EXECUTE | TEMPORARY"),
        ("EXPLAIN ANALYZE EXECUTE p(1)", "EXECUTE"),
        ("DEALLOCATE ALL", "PREPARED"),
        ("LISTEN c", "LISTEN"),
        ("UNLISTEN *", "LISTEN"),
        ("NOTIFY c, 'x'", "NOTIFY"),
        ("SELECT pg_notify('c', 'x')", "NOTIFY"),
        ("DECLARE c CURSOR FOR SELECT 1", "CURSOR"),
        ("DECLARE c INSENSITIVE SCROLL CURSOR WITH HOLD FOR WITH x AS (SELECT 1) SELECT 1", "HELD_CURSOR"),
        ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT f(1)", "CURSOR | UNKNOWN_FUNCTION"),
        ("EXPLAIN DECLARE c CURSOR WITH HOLD FOR SELECT 1", "NONE"),
        ("FETCH ALL FROM c", "CURSOR"),
        ("CLOSE c", "CURSOR"),
        ("CREATE TEMP TABLE t (a int)", "TEMPORARY"),
        ("CREATE LOCAL TEMPORARY TABLE t (a int) ON COMMIT DELETE ROWS", "TEMPORARY"),
        ("CREATE TABLE pg_temp.t (a int)", "TEMPORARY"),
        ("CREATE TABLE IF NOT EXISTS \"pg_temp\".t AS SELECT 1", "TEMPORARY"),
        ("CREATE TABLE PG_TEMP_3 . t (a int)", "TEMPORARY"),
        ("CREATE TEMP SEQUENCE s", "TEMPORARY"),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT f(1)", "TEMPORARY"),
        ("CREATE TEMP RECURSIVE VIEW v (a) AS SELECT 1", "TEMPORARY"),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "TEMPORARY"),
        ("CREATE TYPE pg_temp.e AS ENUM ('a')", "TEMPORARY"),
        ("SELECT 1 AS a INTO TEMP t", "TEMPORARY"),
        ("SELECT 1 AS a INTO TEMPORARY TABLE t FROM x", "TEMPORARY"),
        ("SELECT 1 AS a INTO pg_temp.t", "TEMPORARY"),
        ("(SELECT 1 AS a INTO LOCAL TEMP t)", "TEMPORARY"),
        ("WITH x AS (SELECT 1) SELECT * INTO TEMP t FROM x", "TEMPORARY"),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", "TEMPORARY"),
        ("EXPLAIN (ANALYZE, COSTS off) SELECT 1 INTO TEMP t", "TEMPORARY"),
        ("SELECT 1 INTO t", "NONE"),
        ("SELECT 1 INTO TABLE pg_temp.t", "TEMPORARY"),
        ("SELECT 1 INTO UNLOGGED TABLE d.pg_temp.t", "TEMPORARY"),
        ("SELECT 1 AS insert INTO TEMP t", "TEMPORARY"),
        ("WITH x AS (SELECT 1) INSERT INTO temp VALUES (1)", "NONE"),
        ("CREATE TABLE d.pg_temp.t (a int)", "TEMPORARY"),
        ("CREATE TABLE if.pg_temp.t (a int)", "TEMPORARY"),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS pg_temp.v AS SELECT 1", "TEMPORARY"),
        ("CREATE LANGUAGE plperl", "CODE"),
        ("SELECT TREAT(1 AS f)", "UNKNOWN_FUNCTION"),
        ("SELECT a.with, a.update, pg_settings FROM t a", "NONE"),
        ("SELECT pg_advisory_lock(1)", "SESSION_LOCK"),
        ("SELECT pg_try_advisory_lock_shared(1, 2)", "SESSION_LOCK"),
        ("SELECT pg_advisory_unlock(1)", "SESSION_UNLOCK"),
        ("SELECT pg_advisory_unlock_all()", "SESSION_UNLOCK"),
        ("SELECT nextval('s')", "SEQUENCE"),
        ("INSERT INTO t VALUES (nextval('s')) RETURNING currval('s')", "SEQUENCE | SEQUENCE_READ"),
        ("SELECT setseed(0.5)", "SEED"),
        ("LOAD 'auto_explain'", "LASTING"),
        ("SELECT pg_create_logical_replication_slot('a', 'b', true)", "LASTING"),
        ("DO $$ BEGIN END $$", "CODE"),
        ("CALL p(1)", "CODE | UNKNOWN_FUNCTION"),
        ("CREATE EXTENSION postgis", "CODE"),
        ("ALTER EXTENSION postgis UPDATE", "CODE"),
        ("UPDATE pg_settings SET setting = 'off' WHERE name = 'jit'", "SETTING"),
        ("UPDATE ONLY pg_catalog . pg_settings SET setting = 'off'", "SETTING"),
        ("WITH x AS (SELECT 1) UPDATE \"pg_settings\" SET setting = 'off'", "SETTING"),
        ("SELECT set_config('a.b', 'c', false)", "SETTING"),
        ("SELECT set_config('a.b', $1, $2)", "SETTING"),
        ("SELECT set_config('a.b', 'c', true)", "LOCAL_SETTING"),
        ("SELECT pg_catalog.SET_CONFIG /* x */ ('a.b', lower('c'), TRUE )", "LOCAL_SETTING"),
        ("SELECT \"set_config\"('a.b', 'c', not true)", "SETTING"),
        ("SELECT set_config('a', 'b', true), set_config('a', 'b', false)", "SETTING | LOCAL_SETTING"),
        ("WITH x AS (SELECT set_config('a', 'b', false)) SELECT * FROM x", "SETTING"),
        ("EXPLAIN ANALYZE SELECT set_config('a', 'b', false)", "SETTING"),
        ("COPY (SELECT set_config('a', 'b', false)) TO STDOUT", "SETTING"),
        ("COPY t FROM STDIN WITH (FORMAT csv) WHERE f(a)", "UNKNOWN_FUNCTION"),
        ("CREATE TABLE t AS SELECT set_config('a', 'b', false)", "SETTING"),
        ("SELECT query_to_xml('SELECT set_config(…)', true, true, '')", "UNKNOWN_FUNCTION"),
    ] {
        wrong.extend((effects(text) != wanted).then(|| (text, effects(text))));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Each calls `f`, which nobody knows.
#[test]
fn calls_of_unknown_functions() {
    for text in [
        "SELECT f(1)",
        "SELECT F (1)",
        "SELECT f/**/(1)",
        "SELECT f -- x\n (1)",
        "SELECT \"f\"(1)",
        "SELECT U&\"f\"(1)",
        "SELECT s.f(1)",
        "SELECT d . s . f (1)",
        "SELECT public.lower(a) FROM t",
        "SELECT \"LOWER\"(a) FROM t",
        "SELECT * FROM f(1)",
        "SELECT * FROM a, f(1) AS x(y)",
        "SELECT DISTINCT ON (a) f(1) FROM t",
        "SELECT 1 OPERATOR(pg_catalog.+) f(1)",
        "INSERT INTO t (a) VALUES (1) RETURNING WITH (OLD AS o) f(1)",
        "WITH a AS (SELECT f(1)) SELECT 1",
        "WITH a AS (SELECT 1) SELECT f(1)",
        "WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY delete SET recursive SELECT 1 WHERE f(1)",
        "WITH RECURSIVE a AS (SELECT 1) CYCLE b SET by USING set SELECT 1 WHERE f(1)",
        "WITH a AS (SELECT 1) (SELECT f(1))",
        "INSERT INTO t WITH a(b) AS (SELECT 1) SELECT f(1)",
        "SELECT a IS JSON WITH UNIQUE AS x, f(1) FROM t",
        "SELECT a FROM g() WITH ORDINALITY AS materialized(a, b), f(1)",
        "COPY t FROM STDIN WITH DELIMITER AS ',' WHERE f(a)",
        "SELECT CASE WHEN a THEN f(1) END",
        "SELECT 1 WHERE (a) AND f(1)",
        "SELECT 1WHERE f(1)",
        "SELECT 'a' 'b', f(1)",
        "SELECT a[f(1)]",
        "SELECT x FROM t GROUP BY f(1)",
        "UPDATE t SET (a, b) = (f(1), 2)",
        "DELETE FROM t USING f(1)",
        "CREATE TABLE t (a int DEFAULT f(1))",
        "CREATE INDEX ON t (f(a))",
        "ALTER TABLE t ALTER a TYPE int USING f(a)",
        "CREATE MATERIALIZED VIEW v (a) AS SELECT f(1)",
        "SELECT left(f(1), 1)",
        "SELECT ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((f(1) \
         ))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))",
    ] {
        let effects = one(text).effects;
        assert!(effects.any(Effects::UNKNOWN_FUNCTION), "{text}: {effects:?}");
    }
}

fn name(text: &str) -> Option<Name<'_>> {
    let token = Lexer::new(text.as_bytes(), true).next_token().unwrap();
    Some(Name::of(text.as_bytes(), token))
}

#[test]
fn commands() {
    let modes = TransactionModes::default();
    let read_only = TransactionModes { read_only: Some(true), ..modes };
    let wild = TransactionModes {
        read_only: Some(false),
        deferrable: Some(false),
        isolation: Some(Isolation::RepeatableRead),
        snapshot: false,
    };
    for (text, wanted) in [
        ("BEGIN", Command::Begin(modes)),
        ("BEGIN WORK READ ONLY", Command::Begin(read_only)),
        (
            "START TRANSACTION READ WRITE, NOT DEFERRABLE ISOLATION LEVEL REPEATABLE READ",
            Command::Begin(wild),
        ),
        ("COMMIT", Command::Commit { chain: false }),
        ("END TRANSACTION AND CHAIN", Command::Commit { chain: true }),
        ("COMMIT AND NO CHAIN", Command::Commit { chain: false }),
        ("ROLLBACK WORK AND CHAIN", Command::Rollback { chain: true }),
        ("ABORT", Command::Rollback { chain: false }),
        ("SAVEPOINT a", Command::Savepoint(name("a"))),
        ("RELEASE SAVEPOINT A", Command::Release(name("A"))),
        ("RELEASE savepoint", Command::Release(name("savepoint"))),
        ("ROLLBACK TO \"x y\"", Command::RollbackTo(name("\"x y\""))),
        ("ROLLBACK TRANSACTION TO SAVEPOINT b", Command::RollbackTo(name("b"))),
        ("PREPARE TRANSACTION 'x'", Command::PrepareTransaction),
        (
            "PREPARE transaction AS SELECT 1",
            Command::Prepare { name: name("transaction"), body: b"SELECT 1" },
        ),
        (
            "PREPARE p (int) AS INSERT INTO t VALUES ($1)",
            Command::Prepare { name: name("p"), body: b"INSERT INTO t VALUES ($1)" },
        ),
        ("COMMIT PREPARED 'x'", Command::FinishPrepared),
        ("ROLLBACK PREPARED 'x'", Command::FinishPrepared),
        ("SET TRANSACTION READ ONLY", Command::SetTransaction(read_only)),
        ("SET LOCAL TRANSACTION READ ONLY", Command::SetTransaction(read_only)),
        (
            "SET TRANSACTION SNAPSHOT 'x'",
            Command::SetTransaction(TransactionModes { snapshot: true, ..modes }),
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            Command::SetCharacteristics(Scope::Session, read_only),
        ),
        (
            "SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            Command::SetCharacteristics(Scope::Local, read_only),
        ),
        ("SET CONSTRAINTS a DEFERRED", Command::SetConstraints),
        ("RESET work_mem", Command::Reset(Parameter::Written(b"work_mem"))),
        ("RESET a . b", Command::Reset(Parameter::Written(b"a . b"))),
        ("RESET TIME ZONE", Command::Reset(Parameter::Known("timezone"))),
        ("RESET SESSION AUTHORIZATION", Command::Reset(Parameter::Known("session_authorization"))),
        ("RESET ALL", Command::ResetAll),
        ("SHOW time zone", Command::Show(Some(Parameter::Known("timezone")))),
        ("SHOW pgdog.shards", Command::Show(Some(Parameter::Written(b"pgdog.shards")))),
        ("DISCARD TEMPORARY", Command::Discard(Discard::Temporary)),
        ("DISCARD sequences", Command::Discard(Discard::Sequences)),
        ("EXECUTE \"P\" (1)", Command::Execute(name("\"P\""))),
        ("DEALLOCATE PREPARE ALL", Command::Deallocate(None)),
        ("DEALLOCATE prepare", Command::Deallocate(name("prepare"))),
        ("DEALLOCATE PREPARE \"all\"", Command::Deallocate(name("\"all\""))),
        ("LISTEN c", Command::Listen(name("c"))),
        ("UNLISTEN *", Command::Unlisten(None)),
        ("UNLISTEN c", Command::Unlisten(name("c"))),
        ("NOTIFY c, 'd'", Command::Notify(name("c"))),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Command::Declare { name: name("c"), hold: true }),
        ("CLOSE ALL", Command::Close(None)),
        ("CLOSE c", Command::Close(name("c"))),
        ("MOVE 3 FROM c", Command::Move),
        ("COPY t FROM STDIN", Command::Copy(Copy::In)),
        ("COPY t (a) TO STDOUT (FORMAT csv)", Command::Copy(Copy::Out)),
        ("COPY t FROM PROGRAM 'x'", Command::Copy(Copy::Server)),
        ("COPY (DELETE FROM t RETURNING a) TO STDOUT", Command::Copy(Copy::Out)),
        ("COPY BINARY t FROM STDOUT", Command::Copy(Copy::In)),
        ("WITH x AS (INSERT INTO t VALUES (1)) SELECT 1", Command::Select),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT 1", Command::Insert),
        ("WITH update AS (SELECT 1), merge (a) AS (SELECT 1) DELETE FROM t", Command::Delete),
        (
            "WITH RECURSIVE x AS (SELECT 1) CYCLE a SET b USING c MERGE INTO t USING x ON a WHEN MATCHED THEN DELETE",
            Command::Merge,
        ),
        ("WITH x AS (SELECT 1) (VALUES (1))", Command::Select),
        ("WITH x AS (SELECT 1) SEARCH DEPTH FIRST BY delete SET update SELECT 1", Command::Select),
        ("CREATE TABLE t AS SELECT 1", Command::CreateAs),
        ("CREATE TABLE t (a) WITH (fillfactor = 10) AS VALUES (1)", Command::CreateAs),
        ("CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)", Command::Other),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", Command::CreateAs),
        ("EXPLAIN ANALYZE VERBOSE SELECT 1", Command::Explain { analyze: true }),
        ("EXPLAIN (BUFFERS) (SELECT 1)", Command::Explain { analyze: false }),
        ("DROP TABLE t", Command::Drop),
        ("SHOW \"all\"", Command::Show(None)),
        ("COPY s.from FROM STDIN", Command::Copy(Copy::In)),
        ("COPY s.to TO '/x'", Command::Copy(Copy::Server)),
        ("TRUNCATE t", Command::Other),
        ("banana", Command::Other),
    ] {
        assert_eq!(one(text).command, wanted, "{text}");
    }
}

fn flattened(text: &str) -> (Scope, String, Option<String>) {
    let Command::Set(Set { scope, parameter, value }) = one(text).command else { panic!("{text}") };
    let value = match value {
        Value::Default => Some("DEFAULT".to_owned()),
        Value::List(values) => {
            values.flatten(parameter.is_quoted_list()).map(|value| String::from_utf8(value).unwrap())
        }
        Value::Unknown => None,
    };
    (scope, String::from_utf8(parameter.value().unwrap().into_owned()).unwrap(), value)
}

/// What SHOW says behind these on a real server; `tests/real/test_sql.py` asks one.
#[test]
fn values_of_settings() {
    let values = include_str!("../../tests/real/sql_values.tsv");
    let mut count = 0;
    for line in values.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split('\t').collect();
        let [text, parameter, value] = fields[..] else { panic!("{line}") };
        let (_, name, flat) = flattened(text);
        assert_eq!((&*name, flat.as_deref()), (parameter, Some(value)), "{text}");
        count += 1;
    }
    assert!(count > 20);
}

#[test]
fn forms_of_set() {
    for (text, scope, parameter, value) in [
        ("SET TimeZone TO DEFAULT", Scope::Session, "timezone", Some("DEFAULT")),
        ("SET SESSION work_mem = 1", Scope::Session, "work_mem", Some("1")),
        ("SET LOCAL time zone LOCAL", Scope::Local, "timezone", Some("DEFAULT")),
        ("SET TIME ZONE INTERVAL '1' HOUR", Scope::Session, "timezone", None),
        ("SET TIME ZONE -7.5", Scope::Session, "timezone", Some("-7.5")),
        ("SET NAMES 'latin1'", Scope::Session, "client_encoding", Some("latin1")),
        ("SET NAMES", Scope::Session, "client_encoding", Some("DEFAULT")),
        ("SET SCHEMA 'a,b'", Scope::Session, "search_path", Some("\"a,b\"")),
        ("SET ROLE NONE", Scope::Session, "role", Some("none")),
        ("SET role = 'X'", Scope::Session, "role", Some("X")),
        ("SET LOCAL ROLE \"X\"", Scope::Local, "role", Some("X")),
        ("SET SESSION AUTHORIZATION DEFAULT", Scope::Session, "session_authorization", Some("DEFAULT")),
        ("SET SESSION SESSION AUTHORIZATION x", Scope::Session, "session_authorization", Some("x")),
        ("SET XML OPTION DOCUMENT", Scope::Session, "xmloption", Some("document")),
        ("SET session.x = 1", Scope::Session, "session.x", Some("1")),
        ("SET SESSION characteristics = 1", Scope::Session, "characteristics", Some("1")),
        ("SET local TO 1", Scope::Session, "local", Some("1")),
        ("SET LOCAL local.y TO 1", Scope::Local, "local.y", Some("1")),
        ("SET x FROM CURRENT", Scope::Session, "x", None),
        ("SET x = U&'a'", Scope::Session, "x", None),
        ("SET x = E'\\303\\244'", Scope::Session, "x", None),
        ("SET constraints.x = 1", Scope::Session, "constraints.x", Some("1")),
    ] {
        let wanted = (scope, parameter.to_owned(), value.map(str::to_owned));
        assert_eq!(flattened(text), wanted, "{text}");
    }
}

#[test]
fn names() {
    let long = "a".repeat(70);
    let cut = "a".repeat(63);
    for (text, wanted) in [
        ("Ab", Some("ab")),
        ("\"A\"\"b\"", Some("A\"b")),
        ("\"ä\"", Some("ä")),
        ("ä", None),
        ("U&\"a\"", None),
        ("'It''s'", Some("It's")),
        ("E'a\\'\\x41\\n\\102'", Some("a'A\nB")),
        ("$x$a$$b$x$", Some("a$$b")),
        ("'a' -- x\n 'b'", Some("ab")),
        (&long, Some(&*cut)),
    ] {
        let value = name(text).unwrap().value();
        assert_eq!(value.as_deref(), wanted.map(str::as_bytes), "{text}");
    }
}

// ---- tags

#[test]
fn tags() {
    let predicts = |text: &str, tag: &str| one(text).command.tags().predict(tag.as_bytes());
    for (text, tag) in [
        ("SELECT 1", "SELECT 1"),
        ("INSERT INTO t VALUES (1)", "INSERT 0 5"),
        ("COMMIT", "ROLLBACK"),
        ("BEGIN", "BEGIN"),
        ("DROP TABLE t", "DROP TABLE"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r", "ALTER DEFAULT PRIVILEGES"),
        ("EXECUTE p", "UPDATE 3"),
        ("CREATE TABLE t AS SELECT 1", "SELECT 1"),
        ("UNLISTEN *", "UNLISTEN"),
        ("SET CONSTRAINTS ALL DEFERRED", "SET CONSTRAINTS"),
    ] {
        assert!(predicts(text, tag), "{text} gets {tag}");
    }
    for (text, tag) in [
        ("SELECT 1", "SET"),
        ("SELECT 1", "DO"),
        ("banana", "SET"),
        ("banana", "DECLARE CURSOR"),
        ("banana", "DISCARD ALL"),
        ("DEALLOCATE p", "DEALLOCATE ALL"),
        ("ROLLBACK TO a", "COMMIT"),
    ] {
        assert!(!predicts(text, tag), "{text} does not get {tag}");
    }
    assert!(Tags::Stateless.predict(b"DOMAIN"));
    let mut count = 0;
    for line in include_str!("../../tests/real/sql_tags.tsv").lines().filter(|line| !line.starts_with('#')) {
        let (text, tag) = line.split_once('\t').unwrap();
        assert!(predicts(text, tag), "{text} gets {tag}");
        count += 1;
    }
    assert!(count > 50);
}

// ---- where statements end

#[test]
fn splitting() {
    for (text, wanted) in [
        ("", &[][..]),
        (" ; ;; -- x\n", &[]),
        ("SELECT 1", &["SELECT 1"]),
        ("SELECT 1; SELECT 2 ;", &["SELECT 1", "SELECT 2"]),
        (
            "SELECT ';' , $$;$$, \";\" /* ; */ -- ;\n, 2; x",
            &["SELECT ';' , $$;$$, \";\" /* ; */ -- ;\n, 2", "x"],
        ),
        (
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); x",
            &["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "x"],
        ),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN b END end; END; SET a = 1",
            &[
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN b END end; END",
                "SET a = 1",
            ],
        ),
        (
            "CREATE OR REPLACE PROCEDURE f() BEGIN ATOMIC END; SET a = 1",
            &["CREATE OR REPLACE PROCEDURE f() BEGIN ATOMIC END", "SET a = 1"],
        ),
        // A column `begin` under the name `atomic`.
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT begin atomic; END; SET a = 1",
            &["CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT begin atomic; END", "SET a = 1"],
        ),
        ("SELECT begin atomic; SET a = 1", &["SELECT begin atomic", "SET a = 1"]),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; END; END; x",
            &[
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; END; END",
                "x",
            ],
        ),
        ("BEGIN; SELECT 1; END", &["BEGIN", "SELECT 1", "END"]),
    ] {
        let found = all(text);
        let texts: Vec<_> =
            found.iter().map(|statement| std::str::from_utf8(statement.text).unwrap()).collect();
        assert_eq!(texts, wanted, "{text}");
        for statement in found {
            assert_eq!(&text.as_bytes()[statement.start..][..statement.text.len()], statement.text);
        }
    }
}

#[test]
fn strings_as_the_setting_says() {
    let text = br"SELECT '\'; SET a = 1; --'";
    let read = |conforming_strings| {
        let mut found = statements(text, Reading { conforming_strings, ..Reading::default() });
        let count = found.by_ref().count();
        (count, found.setting_matters())
    };
    assert_eq!(read(true), (2, true));
    assert_eq!(read(false), (1, true));
    let mut plain = statements(br"SELECT 'a', E'\''", Reading::default());
    assert_eq!(plain.by_ref().count(), 1);
    assert!(!plain.setting_matters());
}

#[test]
fn encodings() {
    for safe in
        ["UTF8", "SQL_ASCII", "LATIN9", "WIN1252", "ISO_8859_5", "KOI8R", "EUC_JIS_2004", "MULE_INTERNAL"]
    {
        assert_eq!(Encoding::of(safe.as_bytes()), Encoding::Safe, "{safe}");
    }
    for other in ["SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004", "", "UTF7"] {
        assert_eq!(Encoding::of(other.as_bytes()), Encoding::Unsafe, "{other}");
    }
    let reading = Reading { encoding: Encoding::Unsafe, ..Reading::default() };
    let found: Vec<_> = statements(b"SELECT '\x95\x5c'", reading).collect();
    assert_eq!((found.len(), found[0].effects), (1, Effects::UNREADABLE));
    assert!(statements(b"SELECT 1", reading).next().unwrap().effects.is_empty());
}

#[test]
fn texts_beyond_the_limit() {
    let text = "x".repeat(crate::base::limits::GATE_BYTES_MAX + 1);
    assert_eq!(one(&text).effects, Effects::UNREADABLE);
    assert!(one(&text[1..]).effects.is_empty());
}

// ---- tokens

fn kinds(text: &str) -> Vec<(Kind, &str)> {
    let mut lexer = Lexer::new(text.as_bytes(), true);
    std::iter::from_fn(|| lexer.next_token())
        .map(|token| (token.kind, &text[token.start..token.end]))
        .collect()
}

#[test]
fn tokens() {
    use Kind::*;
    for (text, wanted) in [
        ("a$1 _b ä", &[(Word, "a$1"), (Word, "_b"), (Word, "ä")][..]),
        ("$1$2a", &[(Parameter, "$1"), (Parameter, "$2"), (Word, "a")]),
        ("$a$ $b$a$ $$ $$", &[(DollarString, "$a$ $b$a$"), (DollarString, "$$ $$")]),
        ("a$$b", &[(Word, "a$$b")]),
        ("$a b", &[(Other, "$"), (Word, "a"), (Word, "b")]),
        (
            "1.5e-3 .5 1. 1..2 0x1F 0b2 1_000 1e 0o17",
            &[
                (Number, "1.5e-3"),
                (Number, ".5"),
                (Number, "1."),
                (Number, "1"),
                (Punctuation, ".."),
                (Number, "2"),
                (Number, "0x1F"),
                (Number, "0"),
                (Word, "b2"),
                (Number, "1_000"),
                (Number, "1"),
                (Word, "e"),
                (Number, "0o17"),
            ],
        ),
        ("1e'\\''", &[(Number, "1"), (EscapeString, "e'\\''")]),
        ("'a''b' 'c'", &[(String, "'a''b'"), (String, "'c'")]),
        ("'a' --x\n--y\n 'b'", &[(String, "'a' --x\n--y\n 'b'")]),
        ("'a'\r'b' /**/ 'c'", &[(String, "'a'\r'b'"), (Comment, "/**/"), (String, "'c'")]),
        ("E'\\'' e'a'\n'\\''", &[(EscapeString, "E'\\''"), (EscapeString, "e'a'\n'\\''")]),
        (
            "b'01''10' X'1F' n'a'",
            &[(BitString, "b'01'"), (String, "'10'"), (BitString, "X'1F'"), (Word, "n"), (String, "'a'")],
        ),
        (
            "U&'a' u&\"b\"\"c\" u & 'd'",
            &[
                (UnicodeString, "U&'a'"),
                (UnicodeQuoted, "u&\"b\"\"c\""),
                (Word, "u"),
                (Operator, "&"),
                (String, "'d'"),
            ],
        ),
        (
            "a::b:=c:[1:2]..",
            &[
                (Word, "a"),
                (Typecast, "::"),
                (Word, "b"),
                (Punctuation, ":="),
                (Word, "c"),
                (Punctuation, ":"),
                (Punctuation, "["),
                (Number, "1"),
                (Punctuation, ":"),
                (Number, "2"),
                (Punctuation, "]"),
                (Punctuation, ".."),
            ],
        ),
        ("a--b\rc", &[(Word, "a"), (Comment, "--b"), (Word, "c")]),
        ("/*/* */*/ a */", &[(Comment, "/*/* */*/"), (Word, "a"), (Operator, "*/")]),
        (
            "*-1 ||-2 =-3 @-4 <+-- x",
            &[
                (Operator, "*"),
                (Operator, "-"),
                (Number, "1"),
                (Operator, "||-"),
                (Number, "2"),
                (Operator, "="),
                (Operator, "-"),
                (Number, "3"),
                (Operator, "@-"),
                (Number, "4"),
                (Operator, "<"),
                (Operator, "+"),
                (Comment, "-- x"),
            ],
        ),
        ("+/*x*/-", &[(Operator, "+"), (Comment, "/*x*/"), (Operator, "-")]),
        ("<=/**/=>", &[(Operator, "<="), (Comment, "/**/"), (Operator, "=>")]),
        ("'a", &[(Unterminated, "'a")]),
        ("E'\\", &[(Unterminated, "E'\\")]),
        ("/* /* */", &[(Unterminated, "/* /* */")]),
        ("$a$ $b$", &[(Unterminated, "$a$ $b$")]),
        ("\\ {\0", &[(Other, "\\"), (Other, "{"), (Other, "\0")]),
    ] {
        assert_eq!(kinds(text), wanted, "{text}");
    }
}

#[test]
fn shapes() {
    let shape = |text: &str| {
        let mut lexer = Lexer::new(text.as_bytes(), true);
        while lexer.next_token().is_some() {}
        (lexer.shape().operator_run, lexer.shape().comment_depth)
    };
    assert_eq!(shape("SELECT 1 + 2"), (1, 0));
    assert_eq!(shape("/* /* /* */ */ */ <<=>> +-+-+-+"), (7, 3));
}
