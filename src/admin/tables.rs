//! The console's tables.

use crate::admin::command::Show;
use crate::cluster::listeners;
use crate::stats::Tally;
use crate::wire::encode::{self, Column, ColumnType};

#[derive(Clone, Debug, Default)]
pub struct ClientRow {
    pub id: u64,
    pub user: String,
    pub database: String,
    pub addr: String,
    pub port: u16,
    pub state: &'static str,
    /// Microseconds ago.
    pub connected_micros: u64,
    pub last_request_micros: u64,
    pub queries: u64,
    pub transactions: u64,
    pub wait_micros: u64,
    pub query_micros: u64,
    pub transaction_micros: u64,
    pub received: u64,
    pub sent: u64,
    pub replication: &'static str,
    pub errors: u64,
    pub application_name: String,
    pub locked: bool,
    pub prepared_statements: usize,
}

#[derive(Clone, Debug, Default)]
pub struct ServerRow {
    pub pool_id: u64,
    pub number: u64,
    pub database: String,
    pub user: String,
    pub addr: String,
    pub port: u16,
    pub state: &'static str,
    pub connected_micros: u64,
    pub request_micros: u64,
    pub remote_pid: u32,
    pub client_id: Option<u64>,
    pub tally: Tally,
    pub prepared_statements: usize,
    pub application_name: String,
}

#[derive(Clone, Debug, Default)]
pub struct PoolRow {
    pub id: u64,
    pub database: String,
    pub user: String,
    pub addr: String,
    pub port: u16,
    pub shard: usize,
    pub role: &'static str,
    pub waiting: usize,
    pub idle: usize,
    /// Servers in the hands of clients or of a worker.
    pub active: usize,
    pub total: usize,
    pub size: usize,
    pub reserve: usize,
    pub max_wait_micros: u64,
    pub mode: &'static str,
    pub paused: bool,
    pub healthy: bool,
    pub online: bool,
    pub tally: Tally,
    /// Of the period before this one: averages are taken over a whole one.
    pub last_period: Tally,
    pub period_seconds: f64,
}

/// What was found when the question was asked.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub clients: Vec<ClientRow>,
    pub servers: Vec<ServerRow>,
    pub pools: Vec<PoolRow>,
    pub config: Vec<(String, String)>,
    pub listeners: Vec<listeners::Row>,
    /// Wall-clock seconds since 1970, for columns that show a time of day.
    pub now_unix: u64,
}

/// The messages that answer SHOW, up to and with CommandComplete. `Err` names a column that the table lacks.
pub fn render(show: Show, only: &[String], snapshot: &Snapshot) -> Result<Vec<u8>, String> {
    let (columns, rows) = match show {
        Show::Clients => clients(snapshot),
        Show::Servers => servers(snapshot),
        Show::Pools => pools(snapshot),
        Show::Stats => stats(snapshot),
        Show::Config => config(snapshot),
        Show::Listeners => listeners(snapshot),
        Show::Version => version(),
    };
    let mut picked: Vec<usize> = (0..columns.len()).collect();
    if !only.is_empty() {
        picked.clear();
        for name in only {
            let at = columns.iter().position(|column| column.name == name);
            picked.push(at.ok_or_else(|| format!("column \"{name}\" does not exist"))?);
        }
    }
    let columns: Vec<_> = picked.iter().map(|&at| columns[at]).collect();
    let mut buf = Vec::new();
    encode::row_description(&mut buf, &columns);
    for row in &rows {
        let values: Vec<_> = picked.iter().map(|&at| row[at].as_deref().map(str::as_bytes)).collect();
        encode::data_row(&mut buf, values.into_iter());
    }
    encode::command_complete(&mut buf, "SHOW");
    Ok(buf)
}

/// The answer to a command without a table.
pub fn complete(tag: &str) -> Vec<u8> {
    let mut buf = Vec::new();
    encode::command_complete(&mut buf, tag);
    buf
}

type Row = Vec<Option<String>>;
type Table = (Vec<Column>, Vec<Row>);

macro_rules! table {
    ($rows:expr, $row:ident => { $($name:literal $kind:ident: $value:expr,)* }) => {{
        let columns = vec![$(Column { name: $name, kind: ColumnType::$kind },)*];
        let rows = $rows.map(|$row| vec![$(Cell::cell(&$value),)*]).collect();
        (columns, rows)
    }};
}

trait Cell {
    fn cell(&self) -> Option<String>;
}

macro_rules! cells {
    ($($of:ty)*) => { $(impl Cell for $of {
        fn cell(&self) -> Option<String> {
            Some(self.to_string())
        }
    })* };
}

cells!(String &str u64 u32 u16 usize f64);

impl Cell for bool {
    fn cell(&self) -> Option<String> {
        Some(if *self { "t" } else { "f" }.to_owned())
    }
}

impl<T: Cell> Cell for Option<T> {
    fn cell(&self) -> Option<String> {
        self.as_ref().and_then(Cell::cell)
    }
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn clients(snapshot: &Snapshot) -> Table {
    let clock = |ago: u64| clock(snapshot.now_unix, ago);
    table!(snapshot.clients.iter(), row => {
        "id" Int8: row.id,
        "user" Text: row.user,
        "database" Text: row.database,
        "addr" Text: row.addr,
        "port" Int8: row.port,
        "state" Text: row.state,
        "replication" Text: row.replication,
        "connect_time" Text: clock(row.connected_micros),
        "last_request" Text: clock(row.last_request_micros),
        "queries" Int8: row.queries,
        "transactions" Int8: row.transactions,
        "transactions_2pc" Int8: 0u64,
        "wait_time" Numeric: millis(row.wait_micros),
        "query_time" Numeric: millis(row.query_micros),
        "transaction_time" Numeric: millis(row.transaction_micros),
        "bytes_received" Int8: row.received,
        "bytes_sent" Int8: row.sent,
        "errors" Int8: row.errors,
        "application_name" Text: row.application_name,
        "locked" Bool: row.locked,
        "prepared_statements" Int8: row.prepared_statements,
    })
}

fn servers(snapshot: &Snapshot) -> Table {
    let at = |ago: u64| clock(snapshot.now_unix, ago);
    table!(snapshot.servers.iter(), row => {
        "pool_id" Int8: row.pool_id,
        "database" Text: row.database,
        "user" Text: row.user,
        "addr" Text: row.addr,
        "port" Int8: row.port,
        "state" Text: row.state,
        "connect_time" Text: at(row.connected_micros),
        "request_time" Text: at(row.request_micros),
        "remote_pid" Int8: row.remote_pid,
        "client_id" Int8: row.client_id,
        "transactions" Int8: row.tally.transactions,
        "queries" Int8: row.tally.queries,
        "rollbacks" Int8: row.tally.rollbacks,
        "prepared_statements" Int8: row.prepared_statements,
        "healthchecks" Int8: 0u64,
        "errors" Int8: row.tally.errors,
        "bytes_received" Int8: row.tally.received,
        "bytes_sent" Int8: row.tally.sent,
        "last_sent" Text: at(row.request_micros),
        "last_received" Text: at(row.request_micros),
        "age" Int8: row.connected_micros / 1000,
        "application_name" Text: row.application_name,
    })
}

fn pools(snapshot: &Snapshot) -> Table {
    let in_transaction = |pool: &PoolRow| {
        let idle = |row: &&ServerRow| row.pool_id == pool.id && row.state == "idle in transaction";
        snapshot.servers.iter().filter(idle).count()
    };
    table!(snapshot.pools.iter(), row => {
        "id" Int8: row.id,
        "database" Text: row.database,
        "user" Text: row.user,
        "addr" Text: row.addr,
        "port" Int8: row.port,
        "shard" Int8: row.shard,
        "role" Text: row.role,
        "cl_waiting" Int8: row.waiting,
        "sv_idle" Int8: row.idle,
        "sv_active" Int8: row.active.saturating_sub(in_transaction(row)),
        "sv_idle_xact" Int8: in_transaction(row),
        "sv_total" Int8: row.total,
        "maxwait" Int8: row.max_wait_micros / 1_000_000,
        "maxwait_us" Int8: row.max_wait_micros % 1_000_000,
        "pool_mode" Text: row.mode,
        "paused" Bool: row.paused,
        "banned" Bool: false,
        "healthy" Bool: row.healthy,
        "errors" Int8: row.tally.errors,
        "re_synced" Int8: row.tally.re_synced,
        "out_of_sync" Int8: row.tally.out_of_sync,
        "force_closed" Int8: row.tally.force_closed,
        "online" Bool: row.online,
        "schema_admin" Bool: false,
        "pool_size" Int8: row.size,
        "reserve_pool_size" Int8: row.reserve,
        "sv_reserve" Int8: row.total.saturating_sub(row.size),
    })
}

/// A figure of SHOW STATS: the names of its total and its average, what it is, and what its average is over.
type StatsField = (&'static str, &'static str, fn(&Tally) -> u64, Per);

#[derive(Clone, Copy)]
enum Per {
    Second,
    /// A time in microseconds, shown in milliseconds per transaction, query, wait or connection.
    Event(fn(&Tally) -> u64),
}

fn stats(snapshot: &Snapshot) -> Table {
    const TRANSACTION: Per = Per::Event(|t| t.transactions);
    let fields: [StatsField; 24] = [
        ("total_xact_count", "avg_xact_count", |t| t.transactions, Per::Second),
        ("total_xact_2pc_count", "avg_xact_2pc_count", |_| 0, Per::Second),
        ("total_query_count", "avg_query_count", |t| t.queries, Per::Second),
        ("total_server_assignment_count", "avg_server_assignment_count", |t| t.assignments, Per::Second),
        ("total_received", "avg_received", |t| t.received, Per::Second),
        ("total_sent", "avg_sent", |t| t.sent, Per::Second),
        ("total_xact_time", "avg_xact_time", |t| t.transaction_micros, TRANSACTION),
        ("total_idle_xact_time", "avg_idle_xact_time", |t| t.idle_in_transaction_micros, TRANSACTION),
        ("total_query_time", "avg_query_time", |t| t.query_micros, Per::Event(|t| t.queries)),
        ("total_wait_time", "avg_wait_time", |t| t.wait_micros, Per::Event(|t| t.assignments)),
        ("total_server_parse_count", "avg_server_parse_count", |t| t.parses, Per::Second),
        ("total_bind_count", "avg_bind_count", |t| t.binds, Per::Second),
        ("total_close_count", "avg_close_count", |t| t.closes, Per::Second),
        ("total_errors", "avg_errors", |t| t.errors, Per::Second),
        ("total_cleaned", "avg_cleaned", |t| t.cleaned, Per::Second),
        ("total_rollbacks", "avg_rollbacks", |t| t.rollbacks, Per::Second),
        ("total_connect_time", "avg_connect_time", |t| t.connect_micros, Per::Event(|t| t.connects)),
        ("total_connect_count", "avg_connect_count", |t| t.connects, Per::Second),
        ("total_reads", "avg_reads", |t| t.reads, Per::Second),
        ("total_writes", "avg_writes", |t| t.writes, Per::Second),
        ("total_auth_attempts", "avg_auth_attempts", |t| t.auth_attempts, Per::Second),
        ("total_rows_inserted", "avg_rows_inserted", |t| t.rows_inserted, Per::Second),
        ("total_rows_updated", "avg_rows_updated", |t| t.rows_updated, Per::Second),
        ("total_rows_deleted", "avg_rows_deleted", |t| t.rows_deleted, Per::Second),
    ];
    let text = |name| Column { name, kind: ColumnType::Text };
    let number = |name| Column { name, kind: ColumnType::Int8 };
    let mut columns =
        vec![text("database"), text("user"), text("addr"), number("port"), number("shard"), text("role")];
    columns.extend(fields.iter().map(|(total, ..)| Column { name: total, kind: ColumnType::Numeric }));
    columns.extend(fields.iter().map(|(_, average, ..)| Column { name: average, kind: ColumnType::Numeric }));
    let row = |pool: &PoolRow| {
        let mut row: Row = vec![
            pool.database.cell(),
            pool.user.cell(),
            pool.addr.cell(),
            pool.port.cell(),
            pool.shard.cell(),
            pool.role.cell(),
        ];
        row.extend(fields.iter().map(|(.., of, per)| {
            let total = of(&pool.tally);
            Some(if let Per::Event(_) = per { millis(total) } else { total.to_string() })
        }));
        row.extend(fields.iter().map(|(.., of, per)| Some(average(*of, *per, pool))));
        row
    };
    (columns, snapshot.pools.iter().map(row).collect())
}

fn average(of: fn(&Tally) -> u64, per: Per, pool: &PoolRow) -> String {
    let value = of(&pool.last_period) as f64;
    let average = match per {
        Per::Second => value / pool.period_seconds.max(0.001),
        Per::Event(count) => value / 1000.0 / (count(&pool.last_period).max(1) as f64),
    };
    format!("{average:.3}")
}

fn config(snapshot: &Snapshot) -> Table {
    table!(snapshot.config.iter(), row => {
        "name" Text: row.0,
        "value" Text: row.1,
    })
}

fn listeners(snapshot: &Snapshot) -> Table {
    table!(snapshot.listeners.iter(), row => {
        "database" Text: row.database,
        "user" Text: row.user,
        "shard" Int8: row.shard,
        "channel" Text: row.channel,
        "listeners" Int8: row.listeners,
        "received" Int8: row.received,
        "dropped" Int8: row.dropped,
    })
}

fn version() -> Table {
    let version = format!("PgDog v{}", env!("CARGO_PKG_VERSION"));
    table!([version].into_iter(), row => { "version" Text: row, })
}

/// The time of day `ago` microseconds before `now`, in UTC: `2026-11-21 16:04:54`.
fn clock(now: u64, ago: u64) -> String {
    let seconds = now.saturating_sub(ago / 1_000_000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = crate::base::time::civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        assert_eq!(clock(1_795_277_094, 4_000_000), "2026-11-21 16:04:50");
    }

    #[test]
    fn columns_can_be_picked() {
        let snapshot =
            Snapshot { clients: vec![ClientRow { id: 7, ..ClientRow::default() }], ..Snapshot::default() };
        let bytes = render(Show::Clients, &["id".into()], &snapshot).unwrap();
        assert_eq!(&bytes[5..7], [0, 1]);
        assert_eq!(
            render(Show::Clients, &["nope".into()], &snapshot),
            Err("column \"nope\" does not exist".into())
        );
        let all = [Show::Clients, Show::Config, Show::Listeners, Show::Pools, Show::Servers, Show::Stats];
        for show in all.into_iter().chain([Show::Version]) {
            assert!(render(show, &[], &snapshot).is_ok());
        }
    }
}
