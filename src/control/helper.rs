//! The helper thread: whatever takes longer than a worker may be held up.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::worker::mail::{Common, Mail, Order};

/// Works on orders until nobody can send any.
pub fn run<S: Send>(orders: &Receiver<Order>, common: &Arc<Common<S>>) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Resolve { asker, host, port } => {
                let result = (&*host, port).to_socket_addrs();
                let result = result.map(Iterator::collect).map_err(|error| error.to_string());
                common.post(asker.worker, Mail::Resolved { token: asker.token, result });
            }
            Order::Ask { asker, ask } => {
                common.post(asker.worker, Mail::Answer { token: asker.token, answer: ask.run() });
            }
            Order::Control { .. } | Order::Drained => {}
        }
    }
}
