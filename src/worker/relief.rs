//! Pools that starve under a limit over several pools (`cluster::quota`): slots that have become free go to them, the
//! longest waiting first, and servers that rest in other pools are closed for them.

use std::sync::Arc;

use crate::cluster::pool::WorkerId;
use crate::cluster::quota::Group;
use crate::session::server::{ServerPool, ServerWorld};
use crate::worker::mail::{Common, Mail};

/// To be called, outside the locks of pools, whenever a pool has begun to starve or a slot has become free, if
/// `Quotas::is_pressed` says so. New servers are opened by `worker`.
pub fn relieve<S>(world: &ServerWorld<S>, common: &Common<S>, worker: WorkerId) {
    let pools = world.pools();
    for id in world.quotas.starving() {
        // A pool of a former world starves no longer: nobody waits there.
        let Some(pool) = pools.iter().find(|pool| pool.id == id) else { continue };
        let open = pool.lock().state.relieve();
        for _ in 0..open {
            common.post(worker, Mail::Open { pool: pool.clone() });
        }
    }
    for (group, lack) in world.quotas.lacking() {
        for _ in 0..lack {
            if !evict(&pools, common, &group) {
                break;
            }
        }
    }
}

/// Closes the server that has rested longest in a pool of `group`. False if none rests.
fn evict<S>(pools: &[Arc<ServerPool<S>>], common: &Common<S>, group: &Group) -> bool {
    loop {
        let resting = |pool: &Arc<ServerPool<S>>| {
            let shelf = pool.lock();
            let shares = shelf.state.share().is_some_and(|share| share.groups().contains(group));
            shelf.state.resting_since().filter(|_| shares)
        };
        let oldest = pools.iter().filter_map(|pool| Some((resting(pool)?, pool)));
        let Some((_, pool)) = oldest.min_by_key(|(since, _)| *since) else { return false };
        // Somebody may have taken it meanwhile.
        let evicted = pool.lock().state.evict();
        if let Some(server) = evicted {
            common.post(server.home.worker, Mail::Close { server });
            return true;
        }
    }
}
