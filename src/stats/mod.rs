//! Counters: plain numbers where they arise, added up where somebody asks.

use std::ops::AddAssign;

/// What servers of one pool did. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub transactions: u64,
    pub queries: u64,
    /// Servers handed to a client.
    pub assignments: u64,
    /// Bytes from servers.
    pub received: u64,
    /// Bytes to servers.
    pub sent: u64,
    pub transaction_micros: u64,
    pub idle_in_transaction_micros: u64,
    pub query_micros: u64,
    /// What clients waited for a server.
    pub wait_micros: u64,
    pub parses: u64,
    pub binds: u64,
    pub closes: u64,
    pub errors: u64,
    /// Servers that were cleaned after a client left them in disorder.
    pub cleaned: u64,
    pub rollbacks: u64,
    pub connect_micros: u64,
    pub connects: u64,
    pub reads: u64,
    pub writes: u64,
    pub auth_attempts: u64,
    pub rows_inserted: u64,
    pub rows_updated: u64,
    pub rows_deleted: u64,
    /// Servers closed because their answers made no sense.
    pub out_of_sync: u64,
    /// Servers closed by us although nothing was wrong with them.
    pub force_closed: u64,
    /// Servers brought back into order after their client left.
    pub re_synced: u64,
}

macro_rules! each_field {
    ($do:ident) => {
        $do!(transactions queries assignments received sent transaction_micros idle_in_transaction_micros
             query_micros wait_micros parses binds closes errors cleaned rollbacks connect_micros connects
             reads writes auth_attempts rows_inserted rows_updated rows_deleted out_of_sync force_closed
             re_synced)
    };
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        macro_rules! add {
            ($($field:ident)*) => { $(self.$field += other.$field;)* };
        }
        each_field!(add);
    }
}

impl Tally {
    /// What has been added since `earlier`.
    pub fn since(&self, earlier: &Tally) -> Tally {
        macro_rules! subtract {
            ($($field:ident)*) => { Tally { $($field: self.$field.saturating_sub(earlier.$field),)* } };
        }
        each_field!(subtract)
    }
}
