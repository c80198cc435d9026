//! The fixed script on which the simulated and a real PostgreSQL have to agree.

use crate::frame::{
    bind, bind_formats, body, close, copy_data, copy_done, copy_fail, describe, execute, flush,
    function_call, parse, password, query, ssl_request, startup, sync, terminate,
};

pub enum Until {
    /// This many ReadyForQuery.
    Ready(usize),
    Tag(u8),
    Closed,
    /// What comes within a short time.
    Quiet,
}

/// One thing to do; connections have numbers.
pub enum Step {
    Open(usize),
    Send(usize, Vec<u8>),
    Expect(usize, Until),
    /// Bytes that are not a message.
    Raw(usize, usize),
    /// A cancel request for what the connection runs.
    Cancel(usize),
    Close(usize),
    /// Milliseconds.
    Pause(u64),
    Md5(usize, &'static str, &'static str),
    Scram(usize, &'static str),
}

impl Step {
    pub fn print(&self) -> String {
        match self {
            Step::Open(at) => format!("{at} open"),
            Step::Send(at, bytes) => {
                let shown: String =
                    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).escape_debug().collect();
                format!("{at} send {}", shown.replace("\\0", "·"))
            }
            Step::Expect(at, Until::Ready(count)) => format!("{at} expect {count} ready"),
            Step::Expect(at, Until::Tag(tag)) => format!("{at} expect {}", *tag as char),
            Step::Expect(at, Until::Closed) => format!("{at} expect close"),
            Step::Expect(at, Until::Quiet) => format!("{at} listen"),
            Step::Raw(at, count) => format!("{at} raw {count}"),
            Step::Cancel(at) => format!("{at} cancel"),
            Step::Close(at) => format!("{at} close"),
            Step::Pause(millis) => format!("pause {millis}"),
            Step::Md5(at, ..) => format!("{at} md5"),
            Step::Scram(at, _) => format!("{at} scram"),
        }
    }
}

#[derive(Default)]
struct Script(Vec<Step>);

impl Script {
    fn open(&mut self, at: usize, parameters: &[(&str, &str)]) {
        self.0.push(Step::Open(at));
        self.send(at, &[startup(3, 0, parameters)]);
    }

    fn login(&mut self, at: usize) {
        self.open(at, &[("user", "postgres")]);
        self.ready(at, 1);
    }

    fn send(&mut self, at: usize, messages: &[Vec<u8>]) {
        self.0.push(Step::Send(at, messages.concat()));
    }

    fn ready(&mut self, at: usize, count: usize) {
        self.0.push(Step::Expect(at, Until::Ready(count)));
    }

    fn tag(&mut self, at: usize, tag: u8) {
        self.0.push(Step::Expect(at, Until::Tag(tag)));
    }

    fn quiet(&mut self, at: usize) {
        self.0.push(Step::Expect(at, Until::Quiet));
    }

    fn closed(&mut self, at: usize) {
        self.0.push(Step::Expect(at, Until::Closed));
    }

    fn pause(&mut self, millis: u64) {
        self.0.push(Step::Pause(millis));
    }

    /// Simple queries, one after the other, on connection 0.
    fn queries(&mut self, texts: &[&str]) {
        for text in texts {
            self.query(0, text);
        }
    }

    fn query(&mut self, at: usize, text: &str) {
        self.send(at, &[query(text)]);
        self.ready(at, 1);
    }

    /// Messages and a Sync on connection 0.
    fn batch(&mut self, messages: &[Vec<u8>]) {
        let mut all = messages.concat();
        all.extend(sync());
        self.0.push(Step::Send(0, all));
        self.ready(0, 1);
    }

    /// Parse, Bind, Describe, Execute of the unnamed statement and portal, without Sync.
    fn whole(text: &str) -> Vec<u8> {
        [parse("", text, &[]), bind("", "", &[], &[]), describe(b'P', ""), execute("", 0)].concat()
    }
}

pub fn script() -> Vec<Step> {
    let mut s = Script::default();
    logins(&mut s);
    s.login(0);
    simple(&mut s);
    transactions(&mut s);
    settings(&mut s);
    extended(&mut s);
    portals(&mut s);
    extended_errors(&mut s);
    pipelines(&mut s);
    buffering(&mut s);
    copies(&mut s);
    copy_errors(&mut s);
    sql_prepared(&mut s);
    cursors(&mut s);
    temporary(&mut s);
    functions(&mut s);
    notifications(&mut s);
    locks(&mut s);
    cancels(&mut s);
    timeouts(&mut s);
    discard(&mut s);
    broken(&mut s);
    s.send(0, &[terminate()]);
    s.closed(0);
    s.0
}

fn logins(s: &mut Script) {
    // Encryption is refused. (GSSENCRequest is answered G by a server built with GSSAPI: not compared.)
    s.0.push(Step::Open(0));
    s.send(0, &[ssl_request()]);
    s.0.push(Step::Raw(0, 1));
    s.send(0, &[startup(3, 0, &[("user", "postgres"), ("database", "postgres")])]);
    s.ready(0, 1);
    s.send(0, &[terminate()]);
    s.closed(0);
    // A newer protocol and unknown options of it.
    s.0.push(Step::Open(0));
    s.send(0, &[startup(3, 2, &[("user", "postgres"), ("_pq_.sim", "1"), ("_pq_.other", "2")])]);
    s.ready(0, 1);
    s.send(0, &[terminate()]);
    s.closed(0);
    s.0.push(Step::Open(0));
    s.send(0, &[startup(3, 0, &[("user", "postgres"), ("_pq_.sim", "1")])]);
    s.ready(0, 1);
    s.0.push(Step::Close(0));
    for (major, minor) in [(2, 0), (4, 0), (3, 9999)] {
        s.0.push(Step::Open(0));
        s.send(0, &[startup(major, minor, &[("user", "postgres")])]);
        if major == 2 {
            s.0.push(Step::Raw(0, 70));
        } else {
            s.0.push(Step::Expect(0, Until::Tag(if major == 4 { b'E' } else { b'Z' })));
        }
        s.0.push(Step::Close(0));
    }
    // Parameters, options, and what is wrong with them.
    let good: [&[(&str, &str)]; 6] = [
        &[("user", "postgres"), ("application_name", "sim ä"), ("client_encoding", "latin1")],
        &[("user", "postgres"), ("options", "-c timezone=Asia/Tokyo --DateStyle=german -c work_mem=8MB")],
        &[("user", "postgres"), ("options", "-c application_name=a\\ b"), ("TimeZone", "europe/berlin")],
        &[("user", "postgres"), ("options", "-c TimeZone=GMT"), ("timezone", "UTC")],
        &[("user", "postgres"), ("sim.custom", "x"), ("default_transaction_read_only", "true")],
        &[("user", "postgres"), ("statement_timeout", "5s")],
    ];
    for parameters in good {
        s.open(0, parameters);
        s.ready(0, 1);
        for name in ["application_name", "timezone", "work_mem", "statement_timeout"] {
            s.query(0, &format!("show {name}"));
        }
        s.query(0, "set timezone to 'Asia/Tokyo'; set statement_timeout to 0");
        s.query(0, "reset all");
        s.query(0, "show statement_timeout");
        s.send(0, &[terminate()]);
        s.closed(0);
    }
    let bad: [&[(&str, &str)]; 10] = [
        &[("user", "postgres"), ("nonsense", "1")],
        &[("user", "postgres"), ("options", "-c nonsense=1")],
        &[("user", "postgres"), ("options", "-z")],
        &[("user", "postgres"), ("timezone", "Nowhere")],
        &[("user", "postgres"), ("client_encoding", "nonsense")],
        &[("user", "postgres"), ("max_connections", "3")],
        &[("user", "postgres"), ("server_version", "3")],
        &[("user", "postgres"), ("database", "missing")],
        &[("user", "nobody")],
        &[("database", "postgres")],
    ];
    for parameters in bad {
        s.open(0, parameters);
        s.closed(0);
    }
    s.0.push(Step::Open(0));
    s.send(0, &[body().i32(3 << 16).text("user").bytes(b"postgres").untagged()]);
    s.closed(0);
    s.0.push(Step::Open(0));
    s.send(0, &[vec![0, 0, 0, 3, 0, 0, 0, 0]]);
    s.closed(0);
    s.0.push(Step::Open(0));
    s.send(0, &[vec![0, 1, 0, 0, 0, 3, 0, 0]]);
    s.closed(0);
    passwords(s);
}

fn passwords(s: &mut Script) {
    for (user, right) in [("plainer", true), ("plainer", false)] {
        s.open(0, &[("user", user), ("database", "postgres")]);
        s.tag(0, b'R');
        s.send(0, &[password(if right { b"geheim\0" } else { b"wrong\0" })]);
        s.0.push(Step::Expect(0, if right { Until::Ready(1) } else { Until::Closed }));
        s.0.push(Step::Close(0));
    }
    s.open(0, &[("user", "plainer"), ("database", "postgres")]);
    s.tag(0, b'R');
    s.send(0, &[password(b"\0")]);
    s.closed(0);
    s.open(0, &[("user", "plainer"), ("database", "postgres")]);
    s.tag(0, b'R');
    s.send(0, &[query("select 1")]);
    s.closed(0);
    for right in [true, false] {
        s.open(0, &[("user", "md5er"), ("database", "postgres")]);
        s.tag(0, b'R');
        s.0.push(Step::Md5(0, "md5er", if right { "geheim" } else { "wrong" }));
        s.0.push(Step::Expect(0, if right { Until::Ready(1) } else { Until::Closed }));
        s.0.push(Step::Close(0));
    }
    for right in [true, false] {
        s.open(0, &[("user", "scrammer"), ("database", "postgres")]);
        s.tag(0, b'R');
        s.0.push(Step::Scram(0, if right { "geheim" } else { "wrong" }));
        s.0.push(Step::Expect(0, if right { Until::Ready(1) } else { Until::Closed }));
        s.0.push(Step::Close(0));
    }
    s.open(0, &[("user", "scrammer"), ("database", "postgres")]);
    s.tag(0, b'R');
    s.send(0, &[password(&body().text("SCRAM-SHA-999").value(Some(b"n,,n=,r=abc")).0)]);
    s.closed(0);
    // All slots taken.
    s.pause(100);
    for at in 0..12 {
        s.login(20 + at);
    }
    s.open(0, &[("user", "postgres")]);
    s.closed(0);
    for at in 0..12 {
        s.send(20 + at, &[terminate()]);
        s.closed(20 + at);
    }
}

fn simple(s: &mut Script) {
    s.queries(&[
        "select 'q1'",
        "select 'q2', 2, null, true, 'x'::text, 3::bigint, -4",
        "select 'q3' as a, g from generate_series(1, 3) g",
        "select 'q4' from generate_series(1,50)",
        "",
        " ; ;",
        "-- nothing",
        "/* a /* nested */ comment */ select 'q5'",
        "select",
        "select 'q6'; select 'q7'; select 'q8'",
        "select 'q9';;",
        "select 1/0",
        "select 'q10'; select 1/0; select 'q11'",
        "selec 'q12'",
        "select 'q13'; selec 1",
        "select 'unterminated",
        "select foo",
        "select * from missing",
        "select missing('q', 1)",
        "select 'x'::int",
        "select 99999999999::int",
        "select $1",
        "select 1/(g-2) from generate_series(1,3) g",
        "select 1+1, 2*3-4, 7/2, 'a' || 'b', length('abc'), upper('abc'), repeat('ab', 2)",
        "select 1 = 1, 'a' < 'b', 2 >= 3",
        "select count(*) from generate_series(1, 10)",
        "select g from generate_series(1, 10) g where g > 7 limit 2",
        "select current_database(), current_user",
        "select pg_is_in_recovery()",
        "create table t (id int primary key, v text)",
        "insert into t values (1, 'q14'), (2, 'q15')",
        "insert into t values (1, 'q16')",
        "insert into t (v) values ('q17')",
        "insert into t (id) values (3)",
        "insert into t (nope) values (3)",
        "insert into t values (1, 2, 3)",
        "insert into t values ('x', 'y')",
        "insert into t values (4, 'q18') returning id, v, 'q19'",
        "insert into t select g, 'q20' from generate_series(10, 12) g",
        "select * from t order by id",
        "select v, id from t where id = 2",
        "select count(*) from t where v = 'q20'",
        "update t set v = 'q21' where id > 9",
        "update t set id = id + 100 where id = 12",
        "delete from t where id > 9",
        "select id, v from t order by id desc",
        "create table t (id int)",
        "create table if not exists t (id int)",
        "drop table missing",
        "drop table if exists missing",
        "create view v as select id, v from t",
        "select * from v where id = 1",
        "do $$ begin raise notice 'q22'; end $$",
        "do $$ begin raise warning 'q23'; end $$",
        "do $$ begin raise exception 'q24'; end $$",
        "select 'q25'; do $$ begin raise notice 'q26'; end $$; select 'q27'",
        "vacuum",
        "select 'q28'; vacuum",
        "truncate t",
        "select count(*) from t",
    ]);
    // Pipelined simple queries.
    s.send(0, &[query("select 'q30'"), query("select 1/0"), query(""), query("select 'q31'")]);
    s.ready(0, 4);
    s.send(0, &[query("insert into t values (1, 'a'); select 1/0"), query("select count(*) from t")]);
    s.ready(0, 2);
}

fn transactions(s: &mut Script) {
    s.queries(&[
        "begin",
        "begin",
        "select 'q40'",
        "commit",
        "commit",
        "rollback",
        "start transaction",
        "select 1/0",
        "select 'q41'",
        "selec",
        "",
        "begin",
        "commit",
        "select 'q42'",
        "begin; insert into t values (1, 'x'); rollback",
        "select count(*) from t",
        "begin; select 1/0; commit",
        "select 'q43'; rollback",
        "rollback; select 'q44'",
        "begin; select 'q45'; commit; select 'q46'",
        "insert into t values (5, 'a'); begin; insert into t values (6, 'b'); rollback; select count(*) from t",
        "select count(*) from t",
        "insert into t values (7, 'a'); commit; select 1/0",
        "select id from t order by id",
        "truncate t",
        "begin; select 1/0",
        "rollback; select 'q47'",
        "savepoint a",
        "select 'q48'; savepoint a",
        "release a",
        "rollback to a",
        "begin",
        "savepoint a",
        "insert into t values (1, 'q49')",
        "savepoint b",
        "insert into t values (2, 'q50')",
        "rollback to b",
        "select id from t order by id",
        "release savepoint a",
        "rollback to savepoint a",
        "rollback to b",
        "rollback",
        "begin",
        "savepoint a",
        "select 1/0",
        "savepoint c",
        "release a",
        "rollback to nope",
        "rollback to a",
        "select 'q51'",
        "commit",
        "begin",
        "insert into t values (1, 'q52')",
        "commit and chain",
        "select count(*) from t",
        "rollback and chain",
        "select 1/0",
        "rollback and chain",
        "commit",
        "commit and chain",
        "rollback and chain",
        "begin read only",
        "insert into t values (2, 'q53')",
        "rollback",
        "begin isolation level serializable, read only",
        "show transaction_isolation",
        "show transaction_read_only",
        "end",
        "show transaction isolation level",
        "set transaction isolation level serializable",
        "begin; set transaction isolation level repeatable read; show transaction_isolation; commit",
        "abort",
        "truncate t",
    ]);
}

fn settings(s: &mut Script) {
    s.queries(&[
        "show timezone",
        "set timezone to 'Europe/Berlin'",
        "set timezone to 'Europe/Berlin'",
        "set timezone = 'europe/paris'",
        "set time zone 'UTC'",
        "set application_name to sim",
        "set application_name = 'ä b'",
        "set datestyle to german",
        "set datestyle to 'iso, ymd'",
        "set datestyle = sql, dmy",
        "set datestyle to nonsense",
        "set intervalstyle to iso_8601",
        "set standard_conforming_strings to off; set standard_conforming_strings to on",
        "set client_encoding to 'sql_ascii'",
        "set client_encoding to utf8",
        "set default_transaction_read_only to on",
        "insert into t values (1, 'x')",
        "set default_transaction_read_only to off",
        "set statement_timeout to '2min'",
        "show statement_timeout",
        "set statement_timeout to 1500",
        "show statement_timeout",
        "set statement_timeout to default",
        "show statement_timeout",
        "set work_mem to '64MB'",
        "show work_mem",
        "set work_mem to '1000kB'",
        "show work_mem",
        "set work_mem to 'much'",
        "set enable_seqscan to maybe",
        "set enable_seqscan to off",
        "show enable_seqscan",
        "set nonsense to 1",
        "show nonsense",
        "reset nonsense",
        "set server_version to 1",
        "set max_connections to 1",
        "set sim.custom to 'x'",
        "show sim.custom",
        "reset sim.custom",
        "show sim.custom",
        "show sim.unknown",
        "set local timezone to 'Asia/Tokyo'",
        "select current_setting('timezone')",
        "select current_setting('nonsense')",
        "select current_setting('nonsense', true)",
        "select set_config('timezone', 'Asia/Tokyo', false)",
        "select set_config('timezone', 'GMT', true)",
        "show timezone",
        "reset timezone",
        "reset all",
        "begin",
        "set timezone to 'Europe/Berlin'",
        "set local application_name to 'local'",
        "rollback",
        "begin; set timezone to 'Europe/Berlin'; set local application_name to 'local'; commit",
        "show timezone",
        "show application_name",
        "begin",
        "set timezone to 'Asia/Tokyo'",
        "savepoint a",
        "set timezone to 'GMT'",
        "select 1/0",
        "rollback to a",
        "show timezone",
        "commit",
        "begin",
        "set local timezone to 'Europe/Paris'",
        "set timezone to 'Europe/Berlin'",
        "commit",
        "begin",
        "set timezone to 'Europe/Paris'",
        "set local timezone to 'GMT'",
        "show timezone",
        "commit",
        "begin; set sim.rolled to 'x'; rollback; show sim.rolled",
        "show sim.rolled",
        "set timezone to 'GMT'; select 1/0",
        "show timezone",
        "set timezone to 'GMT'; set timezone to 'Europe/Paris'",
        "begin; set timezone to 'GMT'; rollback; select 'q60'",
        "set client_min_messages to error",
        "drop table if exists missing",
        "set client_min_messages to nonsense",
        "reset client_min_messages",
        "reset all",
        "set search_path to pg_catalog, public",
        "show search_path",
        "set search_path to default",
    ]);
}

fn extended(s: &mut Script) {
    let whole = Script::whole;
    s.batch(&[whole("select 'q100'")]);
    s.batch(&[whole("select 'q101'"), whole("select 'q102'")]);
    s.batch(&[]);
    s.batch(&[whole("")]);
    s.batch(&[whole("-- comment")]);
    s.batch(&[
        parse("s1", "select $1::text, 'q103'", &[]),
        describe(b'S', "s1"),
        bind("", "s1", &[Some("a")], &[]),
        execute("", 0),
    ]);
    s.batch(&[bind("", "s1", &[None], &[]), describe(b'P', ""), execute("", 0)]);
    s.batch(&[
        parse("", "select $1, $2 + 1, $3::bigint, 'x' || $4", &[]),
        describe(b'S', ""),
        bind("", "", &[Some("a"), Some("41"), Some("7"), Some("y")], &[]),
        execute("", 0),
    ]);
    s.batch(&[
        parse("", "select $1", &[23]),
        describe(b'S', ""),
        bind("", "", &[Some("5")], &[1]),
        execute("", 0),
    ]);
    s.batch(&[parse("", "select $1::int", &[1043]), describe(b'S', "")]);
    s.batch(&[
        parse("", "select 1::int, 2::bigint, true, 'abc'::text, null::int", &[]),
        bind("", "", &[], &[1]),
        describe(b'P', ""),
        execute("", 0),
    ]);
    s.batch(&[
        parse("", "select 1, 'a'", &[]),
        bind("", "", &[], &[1, 0]),
        describe(b'P', ""),
        execute("", 0),
    ]);
    s.batch(&[
        parse("", "select $1::int + $2::int", &[]),
        bind_formats("", "", &[1, 0], &[Some(&[0, 0, 0, 5]), Some(b"6")], &[]),
        execute("", 0),
    ]);
    s.batch(&[
        parse("", "select $1::bool, $2::bigint", &[]),
        bind_formats("", "", &[1], &[Some(&[1]), Some(&[0, 0, 0, 0, 0, 0, 0, 9])], &[]),
        execute("", 0),
    ]);
    s.batch(&[
        parse("ins", "insert into t values ($1, $2)", &[]),
        describe(b'S', "ins"),
        bind("", "ins", &[Some("1"), Some("q104")], &[]),
        describe(b'P', ""),
        execute("", 0),
        bind("", "ins", &[Some("2"), None], &[]),
        execute("", 0),
    ]);
    s.batch(&[whole("select id, v from t order by id")]);
    s.batch(&[
        parse("", "select * from t where id = $1", &[]),
        describe(b'S', ""),
        bind("", "", &[Some("1")], &[]),
        execute("", 0),
    ]);
    s.batch(&[whole("insert into t values (3, 'q105') returning id")]);
    s.batch(&[whole("show timezone")]);
    s.batch(&[whole("set timezone to 'GMT'"), whole("set timezone to 'Europe/Berlin'")]);
    s.batch(&[whole("reset timezone"), flush()]);
    s.batch(&[close(b'S', "s1"), close(b'S', "nope"), close(b'P', "nope"), close(b'S', ""), close(b'P', "")]);
    s.batch(&[bind("", "s1", &[Some("a")], &[])]);
    s.batch(&[parse("", "select 'q106'", &[])]);
    s.batch(&[bind("", "", &[], &[]), execute("", 0)]);
    // A simple query drops the unnamed statement.
    s.batch(&[parse("", "select 'q107'", &[])]);
    s.query(0, "select 'q108'");
    s.batch(&[bind("", "", &[], &[]), execute("", 0)]);
    // So does a Parse that fails.
    s.batch(&[parse("", "select 'q109'", &[])]);
    s.batch(&[parse("", "selec", &[])]);
    s.batch(&[bind("", "", &[], &[])]);
    // A simple query in the middle of a batch.
    s.send(0, &[whole("insert into t values (50, 'x')"), query("select 1/0"), sync()]);
    s.ready(0, 2);
    s.query(0, "select count(*) from t where id = 50");
    s.send(0, &[whole("insert into t values (51, 'x')"), query("select 'q110'"), sync()]);
    s.ready(0, 2);
    s.batch(&[whole("begin"), whole("select 'q111'")]);
    s.batch(&[whole("select 1/0")]);
    s.batch(&[whole("select 'q112'")]);
    s.batch(&[bind("", "ins", &[Some("60"), None], &[])]);
    s.batch(&[describe(b'S', "ins")]);
    s.batch(&[parse("rb", "rollback", &[]), bind("", "rb", &[], &[]), execute("", 0)]);
    s.batch(&[whole("begin; select 1")]);
    s.query(0, "truncate t");
    // A statement whose answer has changed its shape.
    s.queries(&["create table w (a int)", "insert into w values (1)"]);
    s.batch(&[parse("star", "select * from w", &[]), bind("", "star", &[], &[]), execute("", 0)]);
    s.queries(&["drop table w", "create table w (a int, b text)"]);
    s.batch(&[bind("", "star", &[], &[]), execute("", 0)]);
    s.batch(&[close(b'S', "star")]);
    s.query(0, "drop table w");
}

fn portals(s: &mut Script) {
    let series = "select 'q200', g from generate_series(1, 5) g";
    s.batch(&[parse("p", series, &[])]);
    s.batch(&[bind("", "p", &[], &[]), execute("", 2), execute("", 2), execute("", 2), execute("", 2)]);
    s.batch(&[bind("", "p", &[], &[]), execute("", 5), execute("", 5), execute("", 5)]);
    s.batch(&[bind("", "p", &[], &[]), execute("", -1)]);
    s.batch(&[
        bind("a", "p", &[], &[]),
        bind("b", "p", &[], &[]),
        execute("a", 1),
        execute("b", 3),
        execute("a", 1),
    ]);
    s.batch(&[execute("a", 1)]);
    s.batch(&[bind("a", "p", &[], &[]), bind("a", "p", &[], &[])]);
    s.query(0, "begin");
    s.batch(&[bind("a", "p", &[], &[]), bind("", "p", &[], &[]), execute("a", 1), execute("", 1)]);
    s.batch(&[execute("a", 1), describe(b'P', "a")]);
    s.batch(&[execute("", 1)]);
    s.query(0, "select 'q201'");
    s.batch(&[execute("a", 1)]);
    s.batch(&[execute("", 1)]);
    s.batch(&[describe(b'P', "a")]);
    s.batch(&[close(b'P', "a")]);
    s.query(0, "rollback");
    s.query(0, "begin");
    s.batch(&[bind("a", "p", &[], &[]), execute("a", 1)]);
    s.query(0, "savepoint x");
    s.batch(&[bind("b", "p", &[], &[]), execute("b", 1), execute("a", 1)]);
    s.query(0, "rollback to x");
    s.batch(&[execute("a", 1)]);
    s.batch(&[execute("b", 1)]);
    s.query(0, "commit");
    s.batch(&[describe(b'P', "a")]);
    // Commands run once.
    s.batch(&[
        parse("", "insert into t values (1, 'q202')", &[]),
        bind("", "", &[], &[]),
        execute("", 0),
        execute("", 0),
    ]);
    s.batch(&[parse("", "select 'q203'", &[]), bind("", "", &[], &[]), execute("", 0), execute("", 0)]);
    s.batch(&[
        parse("", "insert into t values (2, 'a'), (3, 'b'), (4, 'c') returning id", &[]),
        bind("", "", &[], &[]),
        execute("", 2),
        execute("", 2),
        execute("", 2),
    ]);
    s.batch(&[parse("", "show timezone", &[]), bind("", "", &[], &[]), execute("", 1), execute("", 1)]);
    s.query(0, "truncate t");
}

fn extended_errors(s: &mut Script) {
    let whole = Script::whole;
    s.batch(&[whole("select 1/0"), whole("select 'skipped'")]);
    s.batch(&[parse("", "select 1/0", &[]), describe(b'S', ""), bind("", "", &[], &[]), execute("", 0)]);
    s.batch(&[parse("", "select 1/$1::int", &[]), bind("", "", &[Some("0")], &[]), execute("", 0)]);
    s.batch(&[
        parse("", "select 1/(g-2) from generate_series(1,3) g", &[]),
        bind("", "", &[], &[]),
        execute("", 0),
    ]);
    s.batch(&[parse("dup", "select 'q210'", &[]), parse("dup", "select 'q211'", &[])]);
    s.batch(&[parse("dup", "selec", &[])]);
    s.batch(&[parse("dup", "select 'q212'", &[])]);
    s.batch(&[bind("", "dup", &[], &[]), execute("", 0), close(b'S', "dup")]);
    s.batch(&[bind("", "missing", &[], &[])]);
    s.batch(&[bind("", "", &[], &[])]);
    s.batch(&[execute("missing", 0)]);
    s.batch(&[describe(b'S', "missing")]);
    s.batch(&[describe(b'S', "")]);
    s.batch(&[describe(b'P', "missing")]);
    s.batch(&[describe(b'X', "")]);
    s.batch(&[close(b'X', "")]);
    s.batch(&[parse("", "select 1; select 2", &[])]);
    s.batch(&[parse("", "select $2::int", &[])]);
    s.batch(&[parse("", "select $0", &[])]);
    s.batch(&[parse("", "select 'x'::int", &[])]);
    s.batch(&[parse("", "select * from missing", &[])]);
    s.batch(&[parse("", "select $1::int", &[]), bind("", "", &[], &[])]);
    s.batch(&[parse("n", "select $1::int", &[]), bind("", "n", &[Some("1"), Some("2")], &[])]);
    s.batch(&[bind("", "n", &[Some("x")], &[])]);
    s.batch(&[bind_formats("", "n", &[0, 0], &[Some(b"1")], &[])]);
    s.batch(&[bind("", "n", &[Some("1")], &[0, 0])]);
    s.batch(&[bind_formats("", "n", &[1], &[Some(&[0, 1])], &[])]);
    s.batch(&[bind_formats("", "n", &[1], &[Some(&[0, 0, 0, 0, 1])], &[])]);
    s.batch(&[close(b'S', "n")]);
    s.batch(&[body().text("").tagged(b'B')]);
    s.batch(&[body().bytes(b"unterminated").tagged(b'P')]);
    s.batch(&[body().text("").i32(0).u8(9).tagged(b'E')]);
    s.batch(&[body().tagged(b'D')]);
    s.send(0, &[body().bytes(b"unterminated").tagged(b'Q')]);
    s.ready(0, 1);
    s.send(0, &[body().text("select 1").u8(7).tagged(b'Q')]);
    s.ready(0, 1);
    // While skipping, a Query is skipped too; CopyData and CopyDone as well.
    s.send(0, &[parse("", "selec", &[]), query("select 'skipped'"), copy_data(b"x"), copy_done(), flush()]);
    s.quiet(0);
    s.send(0, &[whole("select 'skipped'"), sync(), whole("select 'q213'"), sync()]);
    s.ready(0, 2);
    // Stray messages of a COPY are nothing.
    s.send(0, &[copy_data(b"stray"), copy_fail("stray"), query("select 'q214'"), copy_done(), sync()]);
    s.ready(0, 2);
    s.send(0, &[sync(), sync(), flush(), sync()]);
    s.ready(0, 3);
}

fn pipelines(s: &mut Script) {
    let whole = Script::whole;
    // Everything since the last Sync is one transaction.
    s.batch(&[whole("insert into t values (1, 'a')"), whole("select 1/0")]);
    s.query(0, "select count(*) from t");
    s.batch(&[whole("insert into t values (1, 'a')"), whole("commit"), whole("select 1/0")]);
    s.query(0, "select count(*) from t");
    s.batch(&[whole("insert into t values (2, 'a')"), whole("rollback"), whole("select count(*) from t")]);
    s.batch(&[
        whole("insert into t values (3, 'a')"),
        whole("begin"),
        whole("insert into t values (4, 'a')"),
    ]);
    s.query(0, "rollback");
    s.query(0, "select count(*) from t");
    s.batch(&[
        whole("begin"),
        whole("insert into t values (5, 'a')"),
        whole("commit"),
        whole("select count(*) from t"),
    ]);
    s.batch(&[whole("savepoint a")]);
    s.batch(&[whole("select 'q220'"), whole("savepoint a")]);
    s.batch(&[
        whole("begin"),
        whole("savepoint a"),
        whole("select 'q221'"),
        whole("rollback to a"),
        whole("commit"),
    ]);
    s.batch(&[whole("vacuum")]);
    s.batch(&[whole("select 'q222'"), whole("vacuum")]);
    s.batch(&[whole("vacuum"), whole("select 'q223'")]);
    s.batch(&[whole("set local timezone to 'GMT'"), whole("show timezone")]);
    s.batch(&[whole("select 'q224'"), whole("set local timezone to 'GMT'"), whole("show timezone")]);
    s.batch(&[whole("lock_nothing")]);
    // Several Syncs at once; an error only hits its own part.
    s.send(
        0,
        &[
            whole("select 'q225'"),
            sync(),
            whole("select 1/0"),
            whole("select 'skipped'"),
            sync(),
            whole("select 'q226'"),
            sync(),
            query("select 'q227'"),
        ],
    );
    s.ready(0, 4);
    s.query(0, "truncate t");
}

fn buffering(s: &mut Script) {
    let whole = Script::whole;
    // Nothing is sent before Sync or Flush …
    s.send(0, &[whole("select 'q300'")]);
    s.quiet(0);
    s.send(0, &[flush()]);
    s.quiet(0);
    s.send(0, &[whole("select 'q301'"), sync()]);
    s.ready(0, 1);
    // … except when 8 KiB have come together: then the first 8192 bytes go, wherever that cuts.
    s.send(0, &[whole("select repeat('x', 100), g from generate_series(1, 100) g")]);
    s.quiet(0);
    s.send(0, &[sync()]);
    s.ready(0, 1);
    // An error and a notice flush what was held.
    s.send(0, &[whole("select 'q302'"), whole("select 1/0")]);
    s.quiet(0);
    s.send(0, &[sync()]);
    s.ready(0, 1);
    s.send(0, &[whole("select 'q303'"), whole("do $$ begin raise notice 'q304'; end $$")]);
    s.quiet(0);
    s.send(0, &[sync()]);
    s.ready(0, 1);
    // A statement that waits holds back what was computed before.
    s.send(0, &[query("select 'q305'; select pg_sleep(0.2), 'q306'")]);
    s.quiet(0);
    s.ready(0, 1);
    s.send(0, &[query("select g, pg_sleep(0.1), 'q307' from generate_series(1, 2) g")]);
    s.quiet(0);
    s.ready(0, 1);
    // Large messages in both directions.
    s.query(0, "select repeat('y', 20000)");
    s.query(0, &format!("select length('{}')", "z".repeat(50_000)));
}

fn copies(s: &mut Script) {
    let whole = Script::whole;
    s.send(0, &[query("copy t from stdin")]);
    s.tag(0, b'G');
    s.send(
        0,
        &[
            copy_data(b"1\tq400\n2\t"),
            copy_data(b"q401\n3\t\\N\n"),
            flush(),
            sync(),
            copy_data(b"4\ta\\tb\\\\\n"),
            copy_done(),
        ],
    );
    s.ready(0, 1);
    s.quiet(0);
    s.query(0, "copy t to stdout");
    s.query(0, "copy t (v) to stdout");
    s.query(0, "copy (select id, 'q402' from t where id > 2) to stdout");
    s.query(0, "copy (select 1/0) to stdout");
    s.query(0, "copy (select 1/(g-3) from generate_series(1,3) g) to stdout");
    s.query(0, "copy (select g, repeat('w', 100) from generate_series(1, 200) g) to stdout");
    s.send(
        0,
        &[
            query("truncate t; copy t (id) from stdin; select 'q403'"),
            copy_data(b"7\n8\n\\.\n"),
            copy_data(b"ignored"),
            copy_done(),
        ],
    );
    s.ready(0, 1);
    s.query(0, "select * from t order by id");
    // Without a final newline, and empty.
    s.send(
        0,
        &[
            query("copy t from stdin"),
            copy_data(b"9\tlast"),
            copy_done(),
            query("copy t from stdin"),
            copy_done(),
        ],
    );
    s.ready(0, 2);
    // In a transaction.
    s.query(0, "begin");
    s.send(0, &[query("copy t from stdin"), copy_data(b"20\tx\n"), copy_done()]);
    s.ready(0, 1);
    s.query(0, "rollback");
    s.query(0, "select count(*) from t");
    // Extended: the Sync behind Execute is eaten by the COPY.
    s.send(
        0,
        &[
            parse("", "copy t from stdin", &[]),
            describe(b'S', ""),
            bind("", "", &[], &[]),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ],
    );
    s.tag(0, b'G');
    s.quiet(0);
    s.send(0, &[copy_data(b"30\tq404\n"), copy_done()]);
    s.quiet(0);
    s.send(0, &[sync()]);
    s.ready(0, 1);
    s.send(
        0,
        &[whole("copy t from stdin"), copy_data(b"31\tq405\n"), copy_done(), whole("select 'q406'"), sync()],
    );
    s.ready(0, 1);
    s.batch(&[whole("copy t to stdout"), whole("select 'q407'")]);
    s.query(0, "truncate t");
}

fn copy_errors(s: &mut Script) {
    let whole = Script::whole;
    s.query(0, "copy missing from stdin");
    s.query(0, "copy t (nope) from stdin");
    s.query(0, "copy missing to stdout");
    s.query(0, "copy v to stdout");
    // A view is refused only after CopyInResponse.
    s.send(0, &[query("copy v from stdin")]);
    s.ready(0, 1);
    s.send(0, &[query("copy v from stdin"), copy_data(b"1\tx\n"), copy_done(), query("select 'q410'")]);
    s.ready(0, 2);
    // CopyFail.
    s.send(0, &[query("copy t from stdin"), copy_data(b"1\tx\n"), copy_fail("sim says no")]);
    s.ready(0, 1);
    // A bad row: what still comes of the COPY is ignored.
    for bad in ["x\ty\n", "1\n", "1\ta\tb\n"] {
        s.send(0, &[query("copy t from stdin"), copy_data(b"5\tok\n"), copy_data(bad.as_bytes())]);
        s.ready(0, 1);
        s.send(0, &[copy_data(b"6\tlate\n"), copy_done(), query("select count(*) from t")]);
        s.ready(0, 1);
    }
    // In the extended protocol everything up to the next Sync is skipped.
    s.send(0, &[whole("copy t from stdin"), copy_data(b"bad\n"), copy_done(), whole("select 'skipped'")]);
    s.quiet(0);
    s.send(0, &[sync(), query("select 'q411'")]);
    s.ready(0, 2);
    s.send(
        0,
        &[whole("copy t from stdin"), sync(), copy_data(b"bad\n"), copy_done(), query("select 'skipped'")],
    );
    s.quiet(0);
    s.send(0, &[sync()]);
    s.ready(0, 1);
    s.send(0, &[whole("copy v from stdin"), sync(), copy_data(b"1\tx\n"), copy_done(), sync()]);
    s.ready(0, 2);
    s.quiet(0);
    s.send(
        0,
        &[
            query("begin"),
            query("copy t from stdin"),
            copy_fail("no"),
            query("copy t from stdin"),
            query("rollback"),
        ],
    );
    s.ready(0, 4);
    // Another message in a COPY ends the connection.
    s.login(1);
    s.send(1, &[query("copy t from stdin"), query("select 'q412'")]);
    s.closed(1);
    s.login(1);
    s.send(1, &[whole("copy t from stdin"), whole("select 'q413'"), sync()]);
    s.closed(1);
    s.login(1);
    s.send(1, &[query("copy t from stdin"), terminate()]);
    s.closed(1);
    s.query(0, "select count(*) from t");
}

fn sql_prepared(s: &mut Script) {
    s.queries(&[
        "prepare a as select 'q500'",
        "prepare a as select 'q501'",
        "execute a",
        "prepare b (int, text) as select $1 + 1, $2, 'q502'",
        "execute b (1, 'x')",
        "execute b (1)",
        "execute b ('nan', 'x')",
        "execute nope",
        "select name from pg_prepared_statements order by name",
        "prepare c as insert into t values ($1, 'q503')",
        "execute c (1)",
        "execute c (1)",
        "prepare d as select 1/(g-2) from generate_series(1,3) g",
        "execute d",
        "prepare e as set timezone to 'GMT'",
        "prepare f as select $1",
        "execute f ('q504')",
    ]);
    // One name space with the extended protocol.
    s.batch(&[bind("", "a", &[], &[]), describe(b'P', ""), execute("", 0), describe(b'S', "b")]);
    s.batch(&[parse("g", "select 'q505', $1::int", &[])]);
    s.query(0, "execute g (6)");
    s.batch(&[parse("a", "select 'q506'", &[])]);
    s.batch(&[
        parse("", "execute b (4, 'y')", &[]),
        describe(b'S', ""),
        bind("", "", &[], &[]),
        execute("", 0),
    ]);
    s.batch(&[Script::whole("prepare h as select 'q507'"), Script::whole("execute h")]);
    s.queries(&[
        "begin; prepare i as select 'q508'; rollback",
        "execute i",
        "deallocate a",
        "deallocate a",
        "deallocate prepare b",
        "execute b (1, 'x')",
        "deallocate all",
        "select count(*) from pg_prepared_statements",
        "truncate t",
    ]);
}

fn cursors(s: &mut Script) {
    s.queries(&[
        "declare c cursor for select 'q600'",
        "begin",
        "declare c cursor for select 'q601', g from generate_series(1, 6) g",
        "fetch c",
        "fetch 2 from c",
        "fetch forward 1 in c",
        "move 1 from c",
        "fetch all from c",
        "fetch c",
        "declare c cursor for select 'q602'",
        "rollback",
        "fetch c",
        "begin",
        "declare c cursor for select 'q603'",
        "close c",
        "close c",
        "rollback",
        "declare h cursor with hold for select 'q604', g from generate_series(1, 4) g",
        "fetch h",
        "begin",
        "fetch h",
        "rollback",
        "fetch h",
        "select name from pg_cursors",
        "begin; declare r cursor with hold for select 'q605'; rollback",
        "fetch r",
        "select 1/0",
        "fetch h",
        "close all",
        "fetch h",
        "close h",
    ]);
    s.query(0, "begin");
    s.query(0, "declare c cursor for select 'q606', g from generate_series(1, 6) g");
    s.batch(&[execute("c", 2), describe(b'P', "c"), Script::whole("fetch 1 from c")]);
    s.batch(&[Script::whole("fetch all from c"), close(b'P', "c")]);
    s.query(0, "fetch c");
    s.query(0, "rollback");
}

fn temporary(s: &mut Script) {
    s.login(1);
    s.queries(&["create temp table tt (a int)", "insert into tt values (1), (2)", "select count(*) from tt"]);
    s.query(1, "select count(*) from tt");
    s.queries(&[
        "create temp table t (z text)",
        "insert into t values ('q700')",
        "select * from t",
        "select * from public.t",
        "select * from pg_temp.t",
        "drop table t",
        "select * from t",
        "begin; create temp table t2 (a int); rollback",
        "select * from t2",
        "begin",
        "insert into tt values (3)",
        "drop table tt",
        "rollback",
        "select count(*) from tt",
        "discard temp",
        "select count(*) from tt",
    ]);
    s.send(1, &[terminate()]);
    s.closed(1);
}

fn functions(s: &mut Script) {
    s.send(0, &[function_call(177, &[Some("2"), Some("3")])]);
    s.ready(0, 1);
    s.send(0, &[function_call(1317, &[Some("q710")])]);
    s.ready(0, 1);
    s.send(0, &[function_call(999_999, &[])]);
    s.ready(0, 1);
    s.send(0, &[function_call(177, &[Some("2")])]);
    s.ready(0, 1);
    s.send(
        0,
        &[
            query("begin"),
            query("select 1/0"),
            function_call(177, &[Some("2"), Some("3")]),
            query("rollback"),
        ],
    );
    s.ready(0, 4);
}

fn notifications(s: &mut Script) {
    s.login(1);
    s.queries(&[
        "listen c",
        "notify c, 'q720'",
        "notify c",
        "notify other, 'q721'",
        "select pg_notify('c', 'q722')",
    ]);
    s.query(1, "notify c, 'q723'");
    s.quiet(0);
    s.queries(&["begin"]);
    s.query(1, "notify c, 'q724'");
    s.quiet(0);
    s.queries(&["select 'q725'", "commit"]);
    s.query(1, "begin; notify c, 'q726'; notify c, 'q726'; notify c, 'q727'; rollback");
    s.query(
        1,
        "begin; notify c, 'q728'; notify c, 'q728'; savepoint a; notify c, 'q729'; rollback to a; commit",
    );
    s.quiet(0);
    // Between Parse and Sync the backend is in a transaction.
    s.send(0, &[parse("", "select 'q730'", &[]), flush()]);
    s.quiet(0);
    s.query(1, "notify c, 'q731'");
    s.quiet(0);
    s.send(0, &[sync()]);
    s.ready(0, 1);
    // While it skips to the next Sync it is not.
    s.send(0, &[parse("", "selec", &[])]);
    s.quiet(0);
    s.query(1, "notify c, 'q732'");
    s.quiet(0);
    s.send(0, &[sync()]);
    s.ready(0, 1);
    // After a COMMIT in a pipeline it is not, either.
    s.send(0, &[Script::whole("begin"), Script::whole("commit"), flush()]);
    s.quiet(0);
    s.query(1, "notify c, 'q733'");
    s.quiet(0);
    s.send(0, &[sync()]);
    s.ready(0, 1);
    s.queries(&["begin; listen d; rollback", "notify d", "begin", "listen d", "notify d, 'q734'", "commit"]);
    s.queries(&[
        "select * from pg_listening_channels()",
        "unlisten c",
        "notify c",
        "unlisten *",
        "notify d",
        "unlisten nothing",
        "set timezone to 'GMT'; listen e; notify e, 'q735'",
        "unlisten *; reset timezone",
    ]);
    s.send(1, &[terminate()]);
    s.closed(1);
}

fn locks(s: &mut Script) {
    s.login(1);
    s.queries(&["select pg_advisory_lock(5), 'q740'", "select pg_advisory_lock(5)"]);
    s.query(1, "select pg_try_advisory_lock(5)");
    s.send(1, &[query("select pg_advisory_lock(5), 'q741'")]);
    s.quiet(1);
    s.queries(&["select pg_advisory_unlock(5)"]);
    s.quiet(1);
    s.queries(&["select pg_advisory_unlock(5)"]);
    s.ready(1, 1);
    s.queries(&["select pg_advisory_unlock(5)"]);
    s.query(1, "select pg_advisory_unlock_all()");
    s.queries(&["begin", "select pg_advisory_xact_lock(6)"]);
    s.send(1, &[query("select pg_advisory_xact_lock(6), 'q742'")]);
    s.quiet(1);
    s.queries(&["select 1/0"]);
    s.ready(1, 1);
    s.queries(&["rollback", "begin", "select pg_advisory_lock(7)", "rollback"]);
    s.query(1, "select pg_try_advisory_lock(7), pg_try_advisory_xact_lock(8)");
    s.query(1, "set lock_timeout to 30");
    s.send(1, &[query("select pg_advisory_lock(7)")]);
    s.ready(1, 1);
    s.queries(&["select pg_advisory_unlock_all()"]);
    s.query(1, "select pg_advisory_lock(7)");
    s.send(1, &[terminate()]);
    s.closed(1);
    s.pause(50);
    s.queries(&["select pg_try_advisory_lock(7)", "select pg_advisory_unlock_all()"]);
}

fn cancels(s: &mut Script) {
    s.login(1);
    // Idle: nothing happens, now or later.
    s.0.push(Step::Cancel(0));
    s.pause(30);
    s.quiet(0);
    s.query(0, "select 'q750'");
    s.send(0, &[query("select pg_sleep(10), 'q751'")]);
    s.pause(50);
    s.0.push(Step::Cancel(0));
    s.ready(0, 1);
    s.send(0, &[Script::whole("select pg_sleep(10), 'q752'"), Script::whole("select 'skipped'"), sync()]);
    s.pause(50);
    s.0.push(Step::Cancel(0));
    s.ready(0, 1);
    s.queries(&["begin"]);
    s.0.push(Step::Cancel(0));
    s.pause(30);
    s.queries(&["select 'q753'"]);
    s.send(0, &[query("select pg_sleep(10)")]);
    s.pause(50);
    s.0.push(Step::Cancel(0));
    s.ready(0, 1);
    s.queries(&["rollback"]);
    // Between the messages of a batch: nothing.
    s.send(0, &[parse("", "select 'q754'", &[]), flush()]);
    s.quiet(0);
    s.0.push(Step::Cancel(0));
    s.pause(30);
    s.send(0, &[bind("", "", &[], &[]), execute("", 0), sync()]);
    s.ready(0, 1);
    // A COPY that waits for data is not woken; its next message ends it.
    s.send(0, &[query("copy t from stdin")]);
    s.tag(0, b'G');
    s.0.push(Step::Cancel(0));
    s.pause(30);
    s.quiet(0);
    s.send(0, &[copy_data(b"1\tx\n")]);
    s.quiet(0);
    s.send(0, &[copy_done()]);
    s.quiet(0);
    s.query(0, "select 'q755'");
    s.query(0, "select count(*) from t");
    // A wrong secret does nothing. SQL can cancel and terminate too.
    s.send(0, &[query("select pg_sleep(0.15), 'q756'")]);
    s.pause(30);
    s.0.push(Step::Open(998));
    s.send(998, &[crate::frame::cancel_request(1, b"abcd")]);
    s.closed(998);
    s.ready(0, 1);
    s.send(0, &[query("select pg_sleep(10)")]);
    s.pause(50);
    s.query(1, "select pg_cancel_backend(PID0   )");
    s.ready(0, 1);
    s.query(0, "select pg_terminate_backend(PID1   )");
    s.closed(1);
    s.login(1);
    s.send(1, &[query("begin; select pg_sleep(10)")]);
    s.pause(50);
    s.query(0, "select pg_terminate_backend(PID1   )");
    s.closed(1);
    s.login(1);
    s.send(1, &[query("copy t from stdin")]);
    s.tag(1, b'G');
    s.query(0, "select pg_terminate_backend(PID1   )");
    s.closed(1);
    s.queries(&["truncate t"]);
}

fn timeouts(s: &mut Script) {
    s.queries(&[
        "set statement_timeout to 50",
        "select pg_sleep(5), 'q760'",
        "select 'q761'; select pg_sleep(5)",
    ]);
    s.batch(&[Script::whole("select pg_sleep(5)")]);
    s.queries(&["set statement_timeout to 0"]);
    s.login(1);
    s.query(1, "set idle_in_transaction_session_timeout to 50");
    s.query(1, "begin");
    s.closed(1);
    s.login(1);
    s.query(1, "set idle_session_timeout to 50");
    s.closed(1);
}

fn discard(s: &mut Script) {
    s.batch(&[parse("d1", "select 'q770'", &[]), parse("", "select 'q771'", &[])]);
    s.queries(&[
        "set timezone to 'Asia/Tokyo'",
        "set application_name to 'x'",
        "listen c",
        "create temp table tt (a int)",
        "select pg_advisory_lock(9)",
        "declare h cursor with hold for select 'q772'",
        "begin; discard all",
        "rollback",
        "select 'q773'; discard all",
        "discard all",
        "notify c",
        "select * from tt",
        "select name from pg_prepared_statements",
        "fetch h",
        "discard plans",
        "discard sequences",
    ]);
    s.batch(&[Script::whole("select 'q774'"), Script::whole("discard all")]);
    // The unnamed statement survives it.
    s.batch(&[
        parse("", "select 'q775'", &[]),
        parse("dd", "discard all", &[]),
        bind("", "dd", &[], &[]),
        execute("", 0),
    ]);
    s.batch(&[bind("", "", &[], &[]), execute("", 0)]);
    s.batch(&[bind("", "dd", &[], &[])]);
    s.batch(&[Script::whole("discard all"), Script::whole("select 'q776'")]);
}

fn broken(s: &mut Script) {
    // What ends a connection, with and without a word.
    let endings: [Vec<u8>; 7] = [
        vec![b'Q', 0, 0, 0, 3],
        vec![b'Q', 0xff, 0xff, 0xff, 0xff],
        vec![b'E', 0, 0, 0x40, 0],
        vec![b'?', 0, 0, 0, 4],
        vec![b'p', 0, 0, 0, 4],
        vec![0, 0, 0, 8, 4],
        [parse("", "selec", &[]), terminate()].concat(),
    ];
    for ending in endings {
        s.login(1);
        s.send(1, &[ending]);
        s.closed(1);
    }
    s.login(1);
    s.send(1, &[query("begin"), query("insert into t values (77, 'x')"), terminate()]);
    s.closed(1);
    s.query(0, "select count(*) from t where id = 77");
}
