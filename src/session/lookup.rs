//! `auth_query`: a server is asked what a user has to prove, over a connection of the pool of `auth_user`.
//!
//! The session borrows that connection as it would for a statement of its client, and gives it back with the answer:
//! lookups never take more connections than that pool has, and wait in its queue. What goes wrong ends the login and says
//! nothing of the user: whoever is not configured gets the same error.

use crate::base::bytes::{Bytes, Malformed};
use crate::base::limits::LOOKUP_BYTES_MAX;
use crate::base::time::Time;
use crate::cluster::lookups::Found;
use crate::cluster::settings::{Within, difference};
use crate::cluster::world::{Name, OpenFailure, Passwords};
use crate::config::Secret;
use crate::session::auth::Step;
use crate::session::cx::{Action, Cx};
use crate::session::errors::{ClientError, unavailable};
use crate::session::exchange::{Exchange, Note, Order, OutOfSync, Outcome, What};
use crate::session::server::Unnamed;
use crate::session::{Session, State, discard_all, send_queries};
use crate::wire::frame::Header;
use crate::wire::{encode, error};

/// A lookup under way.
pub struct Looking {
    pub until: Time,
    query: Box<str>,
    answer: Reply,
}

/// What has come of it so far.
enum Reply {
    NoRow,
    /// One row: there is such a user, with this secret or none.
    Row(Option<Secret>),
    /// It cannot be understood, or is an error.
    Bad,
}

impl<S> Session<S> {
    /// Asks for a server of the user who may look others up. Also after that pool has been replaced.
    pub(super) fn look_up(&mut self, cx: &mut Cx<'_, S>) {
        let Some(name) = &self.who.name else { return };
        let lookup = cx.world.config.lookup(&name.database);
        let finder = lookup.and_then(|lookup| {
            let cluster = cx.world.configured(&Name::new(lookup.database, lookup.user))?;
            Some((cluster.clone(), cluster.pools.first()?.clone(), Box::from(lookup.query)))
        });
        let Some((cluster, pool, query)) = finder else {
            return self.fail_lookup("auth_user has no pool for auth_dbname", cx);
        };
        let until = cx.now + cluster.timeouts.checkout;
        self.set_step(Step::Looking(Looking { until, query, answer: Reply::NoRow }));
        self.epoch = cx.world.epoch;
        self.cluster = Some(cluster);
        self.checkout += 1;
        cx.actions.push(Action::Checkout { pool, number: self.checkout });
    }

    /// A server is here: the question goes behind whatever brings it to the settings of its login.
    pub(super) fn on_lookup_server(&mut self, link: usize) {
        let State::Auth(auth) = &mut self.state else { return };
        let Step::Looking(looking) = &mut auth.step else { return };
        let Some(name) = &self.who.name else { return };
        let server = &mut self.links[link].server;
        if server.tainted_by.is_some() {
            discard_all(server);
        }
        self.settings = server.base.clone();
        match difference(&server.settings, &server.base, Within::Nothing) {
            None => server.settings = server.base.clone(),
            Some(queries) => send_queries(server, &queries, Note::Settings),
        }
        server.outbox.own(|buf| {
            let mut text = Vec::with_capacity(looking.query.len() + 3);
            encode::cstr(&mut text, looking.query.as_bytes());
            text.extend_from_slice(&[0, 0]);
            encode::parse(buf, b"", &text);
            encode::bind_text(buf, &[name.user.as_bytes()]);
            encode::describe(buf, b'P', b"");
            // A second row would be one too many.
            encode::execute(buf, 2);
            // Nobody must meet our statement.
            encode::close(buf, b'S', b"");
            buf.extend_from_slice(encode::SYNC);
        });
        for what in [What::Parse, What::Bind, What::DescribePortal, What::Execute, What::Close, What::Sync] {
            server.exchanges.push(Exchange::noting(what, Order::Swallow, Note::Lookup));
        }
        server.unnamed = Unnamed::Nobodys;
    }

    /// The answer must have a name and a password whoever is asked for: a query that could tell only of those who exist
    /// would say who does.
    pub(super) fn on_lookup_columns(
        &mut self,
        at: usize,
        header: Header,
        cx: &mut Cx<'_, S>,
    ) -> Result<bool, OutOfSync> {
        let server = &mut self.links[at].server;
        if header.frame() > LOOKUP_BYTES_MAX {
            return Err(OutOfSync { tag: header.tag, expected: Some(What::DescribePortal) });
        }
        if !server.inbound.hold(header, cx.chunks) {
            return Ok(false);
        }
        let columns = Bytes::new(server.inbound.body(header)).u16().unwrap_or(0);
        server.inbound.skip(header);
        server.exchanges.on_reply(header.tag, None)?;
        if let State::Auth(auth) = &mut self.state
            && let Step::Looking(looking) = &mut auth.step
            && (header.tag != b'T' || columns < 2)
        {
            looking.answer = Reply::Bad;
        }
        Ok(true)
    }

    pub(super) fn on_lookup_row(
        &mut self,
        at: usize,
        header: Header,
        cx: &mut Cx<'_, S>,
    ) -> Result<bool, OutOfSync> {
        let server = &mut self.links[at].server;
        if header.frame() > LOOKUP_BYTES_MAX {
            return Err(OutOfSync { tag: b'D', expected: Some(What::Execute) });
        }
        if !server.inbound.hold(header, cx.chunks) {
            return Ok(false);
        }
        if let State::Auth(auth) = &mut self.state
            && let Step::Looking(looking) = &mut auth.step
        {
            let user = self.who.name.as_ref().map_or("", |name| &name.user);
            let row = read_row(server.inbound.body(header));
            looking.answer = match (&looking.answer, row) {
                (Reply::NoRow, Ok((name, secret))) if name == Some(user.as_bytes()) => Reply::Row(secret),
                _ => Reply::Bad,
            };
        }
        server.inbound.skip(header);
        Ok(true)
    }

    /// An error while a server is asked, or while it is brought to its settings.
    pub(super) fn on_lookup_error(&mut self, at: usize, header: Header) -> Result<(), OutOfSync> {
        let server = &mut self.links[at].server;
        let text = error::summary(server.inbound.body(header));
        let own_query = server.exchanges.iter().next().is_some_and(|first| first.what == What::Query);
        server.inbound.skip(header);
        server.tally.errors += 1;
        log::error!("auth_query failed: {text}");
        if let State::Auth(auth) = &mut self.state
            && let Step::Looking(looking) = &mut auth.step
        {
            looking.answer = Reply::Bad;
        }
        let server = &mut self.links[at].server;
        match server.exchanges.on_reply(b'E', None)? {
            // Settings of ours: nobody knows now which ones it has.
            _ if own_query => Err(OutOfSync { tag: b'E', expected: Some(What::Query) }),
            Outcome::Failed { .. } => {
                // Whether our statement is still there depends on what failed.
                server.unnamed = Unnamed::Of { session: 0, version: 0 };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The server has said all.
    pub(super) fn on_lookup_done(&mut self, at: usize, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        let Step::Looking(looking) = std::mem::replace(&mut auth.step, Step::Begun) else { return };
        self.part_with(at, cx);
        self.cluster = None;
        self.settings = Default::default();
        let Some(name) = self.who.name.clone() else { return };
        if self.epoch != cx.world.epoch {
            // What counted when the question was asked does not count any more.
            return self.look_up(cx);
        }
        let general = &cx.world.config.general;
        let user = cx.world.config.user(&name.user, &name.database);
        let found = match looking.answer {
            Reply::Bad => return self.fail_lookup("its answer is not a name and a password", cx),
            Reply::Row(Some(secret)) => Found::Passwords(Passwords::found(secret, general, user)),
            Reply::Row(None) | Reply::NoRow => Found::Nobody,
        };
        let ttl = match found {
            Found::Passwords(_) => general.auth_query_ttl,
            Found::Nobody => general.auth_query_negative_ttl,
        };
        cx.world.lookups().insert(&name, found.clone(), cx.now, ttl);
        self.on_found(found, cx);
    }

    /// No server could be opened for the question.
    pub(super) fn on_lookup_refused(&mut self, failure: Option<OpenFailure>, cx: &mut Cx<'_, S>) {
        self.fail_lookup(&unavailable(&failure), cx);
    }

    /// It has taken too long.
    pub(super) fn on_lookup_time(&mut self, cx: &mut Cx<'_, S>) {
        let why =
            if self.links.is_empty() { "no connection became free in time" } else { "no answer in time" };
        self.fail_lookup(why, cx);
    }

    /// The client is told that something failed, not what: it has proved nothing yet.
    pub(super) fn fail_lookup(&mut self, why: &str, cx: &mut Cx<'_, S>) {
        log::error!("cannot look user {:?} of database {:?} up: {why}", self.who.user(), self.who.database());
        self.fail(ClientError::LookupFailed, cx);
    }
}

/// A user's name and stored password, the first two columns of a row.
fn read_row(body: &[u8]) -> Result<(Option<&[u8]>, Option<Secret>), Malformed> {
    let mut bytes = Bytes::new(body);
    if bytes.u16()? < 2 {
        return Err(Malformed);
    }
    let mut value = || match bytes.u32()? {
        u32::MAX => Ok(None),
        length => bytes.take(length as usize).map(Some),
    };
    let (name, secret) = (value()?, value()?);
    let secret = secret.filter(|secret| !secret.is_empty());
    let secret = secret.map(|secret| std::str::from_utf8(secret).map(Secret::new)).transpose();
    Ok((name, secret.map_err(|_| Malformed)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut buf = Vec::new();
        encode::data_row(&mut buf, values.iter().copied());
        buf.split_off(5)
    }

    #[test]
    fn rows() {
        let good = row(&[Some(b"a"), Some(b"secret"), Some(b"more")]);
        let (name, secret) = read_row(&good).unwrap();
        assert_eq!((name, secret), (Some(&b"a"[..]), Some(Secret::new("secret"))));
        assert_eq!(read_row(&row(&[Some(b"a"), None])).unwrap().1, None);
        assert_eq!(read_row(&row(&[Some(b"a"), Some(b"")])).unwrap().1, None, "an empty one proves nothing");
        for bad in
            [&row(&[Some(b"a")])[..], &row(&[Some(b"a"), Some(b"\xff")]), &good[..good.len() - 12], &[]]
        {
            assert!(read_row(bad).is_err(), "{bad:?}");
        }
    }
}
