//! tokio-postgres through pgdog: statements prepared on one server and used on another, pipelining, COPY, cancel.
//!
//! Runs against the address in PGDOG_TEST_URL (the Python harness sets it and makes noise beside it); skipped
//! without one.

mod tls;

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use tls::Tls;

/// Runs `work` with the URL to connect to, with a time limit; says so where there is none.
fn with_target<F: Future<Output = ()>>(name: &str, work: impl FnOnce(String) -> F) {
    let Ok(url) = std::env::var("PGDOG_TEST_URL") else {
        println!("{name}: skipped, PGDOG_TEST_URL is not set");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), work(url)).await.expect("a time limit of one minute");
    });
}

fn pooled() -> bool {
    std::env::var("PGDOG_TEST_TARGET").map_or(true, |kind| kind != "direct")
}

/// With TLS where the harness names the certificate authority.
fn tls() -> Option<Tls> {
    std::env::var("PGDOG_TEST_CA").ok().map(|path| Tls::new(&path))
}

async fn connect(url: &str) -> Client {
    match tls() {
        Some(tls) => {
            let (client, connection) = tokio_postgres::connect(url, tls).await.unwrap();
            tokio::spawn(connection);
            client
        }
        None => {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        }
    }
}

#[test]
fn a_prepared_statement_follows_its_client() {
    with_target("prepared", |url| async move {
        let client = connect(&url).await;
        let statement = client.prepare("SELECT $1::int4 * 2, pg_backend_pid()").await.unwrap();
        let mut pids = HashSet::new();
        for n in 0..200_i32 {
            let row = client.query_one(&statement, &[&n]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), n * 2);
            pids.insert(row.get::<_, i32>(1));
        }
        assert!(!pooled() || pids.len() > 1, "the servers did not change: this test tests nothing");
    });
}

#[test]
fn statements_are_prepared_and_closed_all_the_time() {
    with_target("closed", |url| async move {
        let client = connect(&url).await;
        for n in 0..100_i32 {
            let text = format!("SELECT {} + $1::int4", n % 7);
            let row = client.query_one(text.as_str(), &[&n]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), n % 7 + n);
        }
    });
}

#[test]
fn queries_in_flight_keep_their_order() {
    with_target("pipelined", |url| async move {
        let client = connect(&url).await;
        let statement = client.prepare("SELECT $1::int4, repeat('x', $1)").await.unwrap();
        let parameters: Vec<i32> = (0..200).collect();
        let mut pending = Vec::new();
        for n in &parameters {
            pending.push(Box::pin(async { client.query_one(&statement, &[n]).await.unwrap() }));
        }
        // Polled once each, in order, all requests are in flight before the first answer is looked at.
        let mut answers = Vec::new();
        for future in &mut pending {
            let mut future = future.as_mut();
            let first = poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
            answers.push(match first {
                std::task::Poll::Ready(row) => Some(row),
                std::task::Poll::Pending => None,
            });
        }
        for ((n, future), answer) in parameters.iter().zip(pending).zip(answers) {
            let row = match answer {
                Some(row) => row,
                None => future.await,
            };
            assert_eq!(row.get::<_, i32>(0), *n);
            assert_eq!(row.get::<_, &str>(1).len(), *n as usize);
        }
    });
}

#[test]
fn errors_leave_statements_usable() {
    with_target("errors", |url| async move {
        let client = connect(&url).await;
        let divide = client.prepare("SELECT 6 / $1::int4").await.unwrap();
        for _ in 0..50 {
            let error = client.query_one(&divide, &[&0_i32]).await.unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
            assert_eq!(client.query_one(&divide, &[&3_i32]).await.unwrap().get::<_, i32>(0), 2);
            let error = client.prepare("SELEKT").await.unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::SYNTAX_ERROR));
        }
    });
}

#[test]
fn transactions_and_portals() {
    with_target("transactions", |url| async move {
        let mut client = connect(&url).await;
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS tokio_t (id int PRIMARY KEY); TRUNCATE tokio_t")
            .await
            .unwrap();
        for n in 0..20_i32 {
            let transaction = client.transaction().await.unwrap();
            transaction.execute("INSERT INTO tokio_t VALUES ($1)", &[&n]).await.unwrap();
            let statement = transaction.prepare("SELECT generate_series(1, 10)").await.unwrap();
            let portal = transaction.bind(&statement, &[]).await.unwrap();
            let mut rows = 0;
            loop {
                let part = transaction.query_portal(&portal, 3).await.unwrap();
                if part.is_empty() {
                    break;
                }
                rows += part.len();
            }
            assert_eq!(rows, 10);
            if n % 2 == 0 {
                transaction.commit().await.unwrap();
            } else {
                transaction.rollback().await.unwrap();
            }
        }
        let count: i64 = client.query_one("SELECT count(*) FROM tokio_t", &[]).await.unwrap().get(0);
        assert_eq!(count, 10);
    });
}

#[test]
fn simple_queries_and_notices() {
    with_target("simple", |url| async move {
        if tls().is_some() {
            // Its connection has another type; the others show what TLS changes.
            return;
        }
        let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let (sender, mut notices) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message {
                    sender.send(notice.message().to_owned()).ok();
                }
            }
        });
        for n in 0..20 {
            let text = format!("DO $$ BEGIN RAISE NOTICE 'n{n}'; END $$; SELECT {n}; SELECT 'b'");
            let messages = client.simple_query(&text).await.unwrap();
            let values: Vec<_> = messages
                .iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
                .collect();
            assert_eq!(values, [n.to_string(), "b".to_owned()]);
            assert_eq!(notices.recv().await.unwrap(), format!("n{n}"));
        }
    });
}

#[test]
fn notifications() {
    with_target("notifications", |url| async move {
        if tls().is_some() {
            // As above.
            return;
        }
        let (listener, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(one) = message {
                    sender.send((one.channel().to_owned(), one.payload().to_owned())).ok();
                }
            }
        });
        listener.batch_execute("LISTEN tokio_news").await.unwrap();
        let other = connect(&url).await;
        let notify = other.prepare("SELECT pg_notify('tokio_news', $1)").await.unwrap();
        for n in 0..20 {
            other.execute(&notify, &[&n.to_string()]).await.unwrap();
            let next = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await.unwrap();
            assert_eq!(next, Some(("tokio_news".to_owned(), n.to_string())));
        }
        listener.batch_execute("UNLISTEN tokio_news").await.unwrap();
        other.execute(&notify, &[&"late"]).await.unwrap();
        listener.batch_execute("SELECT 1").await.unwrap();
        assert!(heard.try_recv().is_err());
    });
}

#[test]
fn copy_both_ways() {
    with_target("copy", |url| async move {
        let client = connect(&url).await;
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS tokio_copy (id int, v text); TRUNCATE tokio_copy")
            .await
            .unwrap();
        let mut sink = pin!(client.copy_in("COPY tokio_copy FROM STDIN").await.unwrap());
        for part in 0..100 {
            let lines: String = (0..100).map(|n| format!("{}\tline {n}\n", part * 100 + n)).collect();
            sink.send(Bytes::from(lines)).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), 10_000);
        let mut stream = pin!(client.copy_out("COPY tokio_copy TO STDOUT").await.unwrap());
        let mut lines = 0;
        while let Some(part) = stream.next().await {
            lines += part.unwrap().iter().filter(|byte| **byte == b'\n').count();
        }
        assert_eq!(lines, 10_000);
        let error = client.copy_in::<_, Bytes>("COPY nowhere FROM STDIN").await.err().unwrap();
        assert_eq!(error.code(), Some(&SqlState::UNDEFINED_TABLE));
    });
}

#[test]
fn a_query_is_cancelled() {
    with_target("cancel", |url| async move {
        let client = connect(&url).await;
        let token = client.cancel_token();
        let began = Instant::now();
        let mut sleep = pin!(client.batch_execute("SELECT pg_sleep(30)"));
        let early = tokio::time::timeout(Duration::from_millis(300), sleep.as_mut()).await;
        assert!(early.is_err(), "the query ended by itself");
        match tls() {
            Some(tls) => token.cancel_query(tls).await.unwrap(),
            None => token.cancel_query(NoTls).await.unwrap(),
        }
        let error = sleep.await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
        assert!(began.elapsed() < Duration::from_secs(5));
        client.batch_execute("SELECT 1").await.unwrap();
    });
}
