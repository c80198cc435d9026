//! How everything ends, from SHUTDOWN or a signal on; carried out by the control thread.
//!
//! ```text
//!  Running ─ begin ─► Draining ─ shutdown_timeout ─► (Cancelling ─ shutdown_termination_timeout ─►) Terminating
//!                        └── every client has gone ──► Parting: servers are said goodbye to ──► the end
//! ```

use std::time::Duration;

use crate::base::limits::{CLOSE_TIMEOUT, FAREWELL_TIMEOUT};
use crate::base::time::Time;
use crate::session::server::ServerWorld;
use crate::worker::mail::{Common, Mail};

/// How often it is looked whether the servers have gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub struct Shutdown {
    stage: Stage,
    /// Workers that have no client any more.
    drained: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Running,
    Draining {
        until: Time,
    },
    Cancelling {
        until: Time,
    },
    Terminating {
        until: Time,
    },
    Parting {
        until: Time,
        look: Time,
    },
    Ended,
}

impl Shutdown {
    /// Clients outside transactions are sent away, the others when their transaction ends. New ones must not come.
    pub fn begin<S>(&mut self, world: &ServerWorld<S>, common: &Common<S>, now: Time) {
        if self.has_begun() {
            return;
        }
        log::info!("shutting down: no new clients and transactions");
        self.stage = Stage::Draining { until: now + world.config.general.shutdown_timeout };
        common.post_all(|| Mail::Drain);
    }

    /// A worker has no client any more.
    pub fn on_drained(&mut self) {
        self.drained += 1;
    }

    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Running
    }

    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Clients may still need servers.
    pub fn is_serving(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Draining { .. } | Stage::Cancelling { .. })
    }

    /// When `advance` has something to do at the latest.
    pub fn next_time(&self) -> Time {
        match self.stage {
            Stage::Running | Stage::Ended => Time::NEVER,
            Stage::Draining { until } | Stage::Cancelling { until } | Stage::Terminating { until } => until,
            Stage::Parting { until, look } => until.min(look),
        }
    }

    /// Goes on to the next stage when the present one is over.
    pub fn advance<S>(&mut self, world: &ServerWorld<S>, common: &Common<S>, now: Time) {
        let everybody_gone = self.drained >= common.peers.len();
        match self.stage {
            Stage::Draining { .. } | Stage::Cancelling { .. } | Stage::Terminating { .. }
                if everybody_gone =>
            {
                for pool in world.pools() {
                    let (servers, _) = pool.lock().state.retire();
                    for server in servers {
                        common.post(server.home.worker, Mail::Close { server });
                    }
                }
                self.stage = Stage::Parting { until: now + CLOSE_TIMEOUT, look: now };
            }
            Stage::Draining { until } if now >= until => {
                log::warn!("shutdown_timeout is over; clients with open transactions are disconnected");
                match world.config.general.shutdown_termination_timeout {
                    Some(limit) => {
                        common.post_all(|| Mail::Terminate { cancel: true });
                        self.stage = Stage::Cancelling { until: now + limit };
                    }
                    None => self.terminate(common, now),
                }
            }
            Stage::Cancelling { until } if now >= until => self.terminate(common, now),
            Stage::Terminating { until } | Stage::Parting { until, .. } if now >= until => {
                self.stage = Stage::Ended;
            }
            Stage::Parting { until, .. } => {
                let left: usize = world.pools().iter().map(|pool| pool.lock().state.counts().total()).sum();
                self.stage = match left {
                    0 => Stage::Ended,
                    _ => Stage::Parting { until, look: now + LOOK_INTERVAL },
                };
            }
            _ => {}
        }
    }

    fn terminate<S>(&mut self, common: &Common<S>, now: Time) {
        common.post_all(|| Mail::Terminate { cancel: false });
        self.stage = Stage::Terminating { until: now + FAREWELL_TIMEOUT };
    }
}
