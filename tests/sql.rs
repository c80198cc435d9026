//! The reading of SQL: any text; and what it costs.

#[path = "fuzz/sql.rs"]
mod sql;

use std::time::Instant;

use pgdog::sql::{Reading, statements};
use proptest::prelude::*;

/// Pieces that make texts which get far into the code.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "SELECT ",
        "WITH ",
        "x",
        " AS ",
        "(",
        ")",
        ",",
        ";",
        "'",
        "\"",
        "$$",
        "$a$",
        "/*",
        "*/",
        "--",
        "\n",
        "\\",
        "E'",
        "U&'",
        "U&\"",
        "b'",
        "1",
        ".",
        "::",
        "+",
        "-",
        "*",
        "@",
        "<",
        "=",
        "set_config",
        "f",
        "INTO ",
        "TEMP ",
        "SET ",
        "LOCAL ",
        "TO ",
        "CREATE ",
        "FUNCTION ",
        "BEGIN ",
        "ATOMIC ",
        "END ",
        "TABLE ",
        "pg_temp.",
        "UPDATE ",
        "true",
        "RECURSIVE ",
        "EXPLAIN ",
        "PREPARE ",
        "EXECUTE ",
        "COPY ",
        "FROM ",
        "STDIN",
        "SESSION ",
        "TIME ZONE ",
        "ä",
        "_",
        "$1",
        "0x",
        "e",
        " ",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..200)) {
        sql::check(&text);
    }

    #[test]
    fn any_pieces(text in pieces()) {
        sql::check(text.as_bytes());
    }
}

/// Prints what reading costs: `cargo test --release --test sql -- --ignored --nocapture speed`.
#[test]
#[ignore = "measures, and asserts nothing"]
fn speed() {
    let insert =
        format!("INSERT INTO t (a, b) VALUES {}(1, 'x')", "(12345, 'some text of a row'), ".repeat(100));
    let list = format!("SELECT a FROM t WHERE id IN ({}1)", "123456, ".repeat(2500));
    let hostile = "SELECT set_config(".repeat(20_000);
    for (what, text) in [
        ("a lookup", "SELECT abalance FROM pgbench_accounts WHERE aid = $1"),
        ("an update", "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2"),
        (
            "a join",
            "SELECT o.id, o.total, c.name, count(i.id) AS items, sum(i.price * i.quantity) FROM orders o \
          JOIN customers c ON c.id = o.customer_id LEFT JOIN order_items i ON i.order_id = o.id \
          WHERE o.created_at > now() - interval '7 days' AND c.country IN ('DE', 'FR') GROUP BY o.id, c.name \
          ORDER BY o.created_at DESC LIMIT 50",
        ),
        ("an insert of 100 rows", &insert),
        ("a list of 2,500 numbers", &list),
        ("nested calls of set_config", &hostile),
        ("20,000 SETs", &"set;".repeat(20_000)),
        ("20,000 WITHs", &"with a as(".repeat(20_000)),
    ] {
        let rounds = (20_000_000 / text.len()).max(1);
        let began = Instant::now();
        let mut found = 0;
        for _ in 0..rounds {
            found += statements(std::hint::black_box(text.as_bytes()), Reading::default()).count();
        }
        let nanos = began.elapsed().as_nanos() as f64 / rounds as f64;
        let rate = text.len() as f64 * 1000.0 / nanos;
        println!(
            "{what}: {} bytes, {nanos:.0} ns, {rate:.0} MB/s, {} statements",
            text.len(),
            found / rounds
        );
    }
}
