//! The shape of a prepared statement: which parameters a server takes for it, and which columns it returns.
//!
//! Clients remember what they were told of a statement, and read its rows by that. On one connection PostgreSQL holds them
//! to it: once a table has changed, "cached plan must not change result type". Behind a pool the same name is prepared on
//! several servers at different times, so we ask each server what it has read, and compare. A client
//!
//! * that prepares gets what the tables are at its first use of the statement, whatever others had prepared before;
//! * that has used it gets rows of that shape, or the error, once: after that it is as if it had prepared anew.

use sha2::{Digest, Sha256};

use crate::base::bytes::{Bytes, Malformed};
use crate::base::limits::HELD_FRAME_BYTES_MAX;
use crate::session::cx::Cx;
use crate::session::errors::is_plan_changed;
use crate::session::exchange::{Exchange, Note, OutOfSync, Settles, What};
use crate::session::statements::Trust;
use crate::session::{Link, Session};
use crate::wire::frame::Header;

impl<S> Link<S> {
    /// ParameterDescription, RowDescription or NoData for a Describe of ours. False: more of it must arrive first.
    pub(super) fn read_shape(&mut self, header: Header, cx: &mut Cx<'_, S>) -> Result<bool, OutOfSync> {
        let malformed = OutOfSync { tag: header.tag, expected: Some(What::DescribeStatement) };
        if header.frame() > HELD_FRAME_BYTES_MAX {
            return Err(malformed);
        }
        if !self.server.inbound.hold(header, cx.chunks) {
            return Ok(false);
        }
        let body = self.server.inbound.body(header);
        match header.tag {
            b'T' => columns(body, &mut self.described).map_err(|Malformed| malformed)?,
            _ => self.described.extend_from_slice(body),
        }
        self.described.push(header.tag);
        Ok(true)
    }
}

/// What PostgreSQL compares of two descriptions: names, types and their modifiers (equalRowTypes).
fn columns(body: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut body = Bytes::new(body);
    for _ in 0..body.u16()? {
        into.extend_from_slice(body.cstr()?);
        into.push(0);
        // The table and its column.
        body.take(6)?;
        into.extend_from_slice(body.take(4)?);
        body.take(2)?;
        into.extend_from_slice(body.take(4)?);
        body.take(2)?;
    }
    Ok(())
}

impl<S> Session<S> {
    /// A server has said what it has read of a statement.
    pub(super) fn on_described(&mut self, at: usize, settle: &Settles, cx: &Cx<'_, S>) {
        let link = &mut self.links[at];
        let shape = Sha256::digest(&link.described).into();
        link.described.clear();
        let was_checking = std::mem::take(&mut link.is_checking);
        let fits = settle.statement.has_shape(&shape);
        if !fits {
            // Under this name it has another statement now.
            link.server.prepared.doubt(settle.statement.id);
        }
        let Some(named) = self.statements.settling_mut(settle) else { return };
        match named.trust {
            Trust::Settling(_) => {
                if !fits {
                    named.statement = cx.shared.statements().in_shape(&settle.statement, &shape);
                }
                named.trust = Trust::Settled;
            }
            Trust::Settled if was_checking && !fits => named.trust = Trust::Outdated,
            _ => {}
        }
    }

    /// The client is about to be told that a statement has changed: from then on it is as if it had prepared it anew, and
    /// the server reads it again before it runs it. `dropped` begins with what failed, unless that was a query.
    pub(super) fn on_plan_changed(&mut self, at: usize, header: Header, dropped: &[Exchange]) {
        let server = &mut self.links[at].server;
        let failed = dropped.first().map(|first| &first.note);
        let (ids, number) = match failed.or(server.exchanges.front_note()) {
            Some(Note::Uses(id, number)) => (vec![*id], Some(*number)),
            // What it returns describes itself: the client need not be told.
            Some(Note::Names(names)) => (names.uses.clone(), None),
            _ => return,
        };
        if !is_plan_changed(server.inbound.body(header)) {
            return;
        }
        ids.into_iter().for_each(|id| server.prepared.doubt(id));
        if let Some(named) = number.and_then(|number| self.statements.numbered_mut(number)) {
            named.trust = Trust::Unsettled;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_their_tables() {
        let column = |name: &str, table: u32, kind: u32, modifier: i32| {
            let numbers =
                [&table.to_be_bytes()[..], &[0, 1], &kind.to_be_bytes(), &[0, 4], &modifier.to_be_bytes()];
            [name.as_bytes(), &[0], &numbers.concat(), &[0, 0]].concat()
        };
        let read = |column: Vec<u8>| {
            let mut into = Vec::new();
            columns(&[&[0, 1], &column[..]].concat(), &mut into).map(|()| into)
        };
        let one = read(column("a", 5, 23, -1));
        assert!(one.is_ok());
        assert_eq!(read(column("a", 6, 23, -1)), one);
        for other in [column("b", 5, 23, -1), column("a", 5, 20, -1), column("a", 5, 23, 8)] {
            assert_ne!(read(other), one);
        }
        assert_eq!(read(column("a", 5, 23, -1)[..10].to_vec()), Err(Malformed));
    }
}
