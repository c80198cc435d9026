//! Commands of the console: what one worker can do itself, and questions to all of them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::admin::{ClientRow, Command, PoolRow, Scope, ServerRow, Show, Snapshot, complete, render};
use crate::cluster::world::Pool;
use crate::io::net::Net;
use crate::session::errors::ClientError;
use crate::session::server::ServerPool;
use crate::worker::mail::{Asker, Mail, Order};
use crate::worker::{Entry, Line, Worker};

/// A console that waits for the answers of all workers.
pub(crate) struct Census {
    token: u64,
    show: Show,
    columns: Vec<String>,
    missing: usize,
    snapshot: Snapshot,
}

impl<N: Net> Worker<N> {
    pub(super) fn run_command(&mut self, token: u64, command: Command) {
        let asker = Asker { worker: self.id, token };
        let answer = match command {
            Command::Show(show, columns) => {
                let missing = self.common.peers.len();
                let snapshot = self.snapshot();
                self.censuses.retain(|census| census.token != token);
                self.censuses.push(Census { token, show, columns, missing, snapshot });
                for worker in 0..missing {
                    self.common.post(worker as u16, Mail::Census { asker });
                }
                return;
            }
            Command::ShowParameter(name) => Ok(parameter(&name)),
            Command::Pause(scope) => {
                self.for_pools(&scope, |_, pool| pool.lock().state.pause()).map(|()| complete("PAUSE"))
            }
            Command::Resume(scope) => self.for_pools(&scope, Worker::resume).map(|()| complete("RESUME")),
            Command::Reconnect => {
                self.for_pools(&Scope::default(), Worker::reconnect).map(|()| complete("RECONNECT"))
            }
            command @ (Command::Reload | Command::Shutdown) => {
                return self.common.orders.send(Order::Control { asker, command });
            }
        };
        self.common.post(self.id, Mail::Console { token, answer });
    }

    fn for_pools(
        &mut self,
        scope: &Scope,
        f: impl Fn(&mut Self, &std::sync::Arc<ServerPool<Line<N>>>),
    ) -> Result<(), ClientError> {
        let world = self.world.clone();
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let mut any = false;
        for pool in &world.pools() {
            let name = &pool.config.name;
            if is(&scope.user, &name.user) && is(&scope.database, &name.database) {
                any = true;
                f(self, pool);
            }
        }
        // Where all are meant there may be none: those on demand have yet to be made.
        if any || (scope.user.is_none() && scope.database.is_none()) {
            return Ok(());
        }
        let database = scope.database.clone().unwrap_or_default();
        let text = format!("no pool of database \"{database}\" is configured for that");
        Err(ClientError::Console { state: "3D000", text })
    }

    fn resume(&mut self, pool: &std::sync::Arc<ServerPool<Line<N>>>) {
        let (grants, open) = pool.lock().state.resume();
        for (ticket, server) in grants {
            self.common.post(ticket.worker, Mail::Grant { ticket, server });
        }
        for _ in 0..open {
            self.open(pool.clone(), 1);
        }
        if open == 0 && pool.config.listens {
            self.give_up_listening(pool);
        }
    }

    fn reconnect(&mut self, pool: &std::sync::Arc<ServerPool<Line<N>>>) {
        let servers = {
            let mut shelf = pool.lock();
            shelf.not_before = self.now;
            shelf.state.expire(crate::base::time::Time::ZERO, usize::MAX, |_| true)
        };
        for server in servers {
            self.common.post(server.home.worker, Mail::Close { server });
        }
    }

    pub(super) fn answer_census(&mut self, asker: Asker) {
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for token in self.table.tokens() {
            match self.table.get(token) {
                Some(Entry::Session(session)) => {
                    clients.push(session.row(self.now));
                    let rows = session.links.iter().map(|link| link.server.row(Some(session.id), self.now));
                    servers.extend(rows);
                }
                Some(Entry::Server(server)) => servers.push(server.row(None, self.now)),
                Some(Entry::Parked { pool, id }) => {
                    servers.extend(pool.lock().state.parked(*id).map(|server| server.row(None, self.now)));
                }
                _ => {}
            }
        }
        self.common.post(asker.worker, Mail::Counted { token: asker.token, clients, servers });
    }

    pub(super) fn on_counted(&mut self, token: u64, clients: Vec<ClientRow>, servers: Vec<ServerRow>) {
        let Some(at) = self.censuses.iter().position(|census| census.token == token) else { return };
        let census = &mut self.censuses[at];
        census.snapshot.clients.extend(clients);
        census.snapshot.servers.extend(servers);
        census.missing -= 1;
        if census.missing > 0 {
            return;
        }
        let Census { show, columns, mut snapshot, .. } = self.censuses.swap_remove(at);
        snapshot.clients.sort_by_key(|row| row.id);
        snapshot.servers.sort_by_key(|row| row.number);
        let answer =
            render(show, &columns, &snapshot).map_err(|text| ClientError::Console { state: "42703", text });
        self.with_session(token, |session, cx| session.on_console(answer, cx));
    }

    fn snapshot(&self) -> Snapshot {
        let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Snapshot {
            clients: Vec::new(),
            servers: Vec::new(),
            pools: self.world.pools().iter().map(|pool| self.pool_row(pool)).collect(),
            config: self.world.config.show().collect(),
            listeners: self.world.listeners.rows(),
            now_unix,
        }
    }

    fn pool_row(&self, pool: &Pool<Box<crate::session::server::Server<Line<N>>>>) -> PoolRow {
        let shelf = pool.lock();
        let (counts, config) = (shelf.state.counts(), &pool.config);
        PoolRow {
            id: pool.id,
            database: config.name.database.to_string(),
            user: config.name.user.to_string(),
            addr: config.host.to_string(),
            port: config.port,
            shard: config.shard,
            role: config.role.as_str(),
            waiting: counts.waiting,
            idle: counts.idle,
            active: counts.busy,
            total: counts.total(),
            size: config.size,
            reserve: config.reserve.size,
            max_wait_micros: shelf
                .state
                .waiting_since()
                .map_or(0, |since| self.now.since(since).as_micros() as u64),
            mode: config.mode.as_str(),
            paused: shelf.state.is_paused(),
            healthy: shelf.last_failure.is_none(),
            online: !shelf.state.is_retired(),
            tally: shelf.tally,
            last_period: shelf.last_period,
            period_seconds: self.world.config.general.stats_period.as_secs_f64(),
        }
    }
}

/// What drivers ask a connection at its beginning.
fn parameter(name: &str) -> Vec<u8> {
    use crate::wire::encode::{Column, ColumnType, data_row, row_description};
    let parameters = crate::session::CONSOLE_PARAMETERS;
    let value =
        parameters.iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value);
    let mut buf = Vec::new();
    row_description(&mut buf, &[Column { name: "setting", kind: ColumnType::Text }]);
    data_row(&mut buf, [Some(value.as_bytes())].into_iter());
    buf.extend_from_slice(&complete("SHOW"));
    buf
}
