//! What a server answers: its frames on their way to the client.
//!
//! Rows go on as they are, as many at a time as have arrived. Only what ends an answer or changes a state is looked at.

use crate::base::limits::HELD_FRAME_BYTES_MAX;
use crate::cluster::settings::{Within, difference, report};
use crate::cluster::statements::NAME_PREFIX;
use crate::config::{ConnectionRecovery, PoolerMode};
use crate::session::cx::{Action, Cx, Discard};
use crate::session::errors::ClientError;
use crate::session::exchange::{Copying, Exchange, Note, Order, OutOfSync, Outcome, What};
use crate::session::inbound::{Next, Passing};
use crate::session::listen::Hold;
use crate::session::login::parameter;
use crate::session::requests::{HOME, Leaving};
use crate::session::server::{Server, Unnamed};
use crate::session::state::signs;
use crate::session::{Session, State, is_over, send_queries, source};
use crate::sql::effects::Effects;
use crate::wire::frame::{Header, run_of};
use crate::wire::{TxStatus, encode, error};

impl<S> Session<S> {
    pub(super) fn on_server_bytes(&mut self, at: usize, cx: &mut Cx<'_, S>) {
        while matches!(self.state, State::Running(_) | State::Login(_) | State::Auth(_)) {
            let Some(link) = self.links.get_mut(at).filter(|link| !link.is_parted) else { return };
            let server = &mut link.server;
            if server.exchanges.forwards_rows() && server.inbound.passing == Passing::Nothing {
                let arrived = server.inbound.relay.unparsed();
                let description = match server.exchanges.forwards_description() {
                    true => run_of(arrived, |tag| tag == b'T'),
                    false => 0,
                };
                let rows = run_of(&arrived[description..], |tag| matches!(tag, b'D' | b'd'));
                let bytes = description + rows;
                if bytes > 0 {
                    let (start, end) = server.inbound.relay.advance(bytes);
                    self.client.outbox.relay(source(at), start, end);
                }
            }
            match server.inbound.step() {
                Ok(Next::Wait) => break,
                Ok(Next::Stretch { start, end }) => {
                    self.client.outbox.relay(source(at), start, end);
                    self.emit_fakes();
                }
                Ok(Next::Frame(header)) => match self.on_answer_frame(at, header, cx) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(fault) => return self.on_out_of_sync(at, fault, cx),
                },
                Err(bad) => {
                    let fault = OutOfSync { tag: bad.tag, expected: None };
                    return self.on_out_of_sync(at, fault, cx);
                }
            }
        }
        // Answers make room for more questions.
        if matches!(self.state, State::Running(_)) {
            self.pump_requests(cx);
        }
    }

    /// One frame, at least its header. False: more of it must arrive first.
    fn on_answer_frame(&mut self, at: usize, header: Header, cx: &mut Cx<'_, S>) -> Result<bool, OutOfSync> {
        if header.tag == b'A'
            && matches!(self.state, State::Running(_))
            && !self.links[at].server.exchanges.is_resetting()
            && self.shares_listening(cx)
        {
            return self.on_server_notification(at, header, cx);
        }
        let server = &mut self.links[at].server;
        match header.tag {
            b'D' | b'd' => {
                let order = server.exchanges.row(header.tag)?;
                match server.exchanges.front_note() {
                    Some(Note::Census(_)) => return self.on_census_row(at, header, cx),
                    Some(Note::Lookup) => return self.on_lookup_row(at, header, cx),
                    _ => {}
                }
                self.pass(at, header, order);
                return Ok(true);
            }
            b'T' | b'n' if matches!(server.exchanges.front_note(), Some(Note::Lookup)) => {
                return self.on_lookup_columns(at, header, cx);
            }
            // These mean something as a whole.
            b'C' | b'Z' | b'E' | b'S' => {
                if header.frame() > HELD_FRAME_BYTES_MAX {
                    return Err(OutOfSync { tag: header.tag, expected: None });
                }
                if !server.inbound.hold(header, cx.chunks) {
                    return Ok(false);
                }
            }
            b'N' | b'A' => {
                let order = server.exchanges.front_order().unwrap_or(Order::Forward);
                let is_returning = matches!(&self.state, State::Running(run) if run.hold == Hold::Returning);
                let order = match header.tag {
                    // It is for those who have logged in.
                    _ if matches!(self.state, State::Auth(_)) => Order::Swallow,
                    // Until it has been reset, the server may tell of what its last client listened to.
                    b'A' if server.exchanges.is_resetting() || is_returning => Order::Swallow,
                    b'A' => Order::Forward,
                    _ => order,
                };
                self.pass(at, header, order);
                return Ok(true);
            }
            _ => {}
        }
        let link = &mut self.links[at];
        let describes = matches!(header.tag, b't' | b'T' | b'n')
            && matches!(link.server.exchanges.front_note(), Some(Note::Settles(_)));
        if describes && !link.read_shape(header, cx)? {
            return Ok(false);
        }
        let server = &mut link.server;
        match header.tag {
            b'S' => self.on_parameter_status(at, header)?,
            b'E' => self.on_error(at, header, cx)?,
            b'Z' => self.on_ready(at, header, cx)?,
            tag => {
                if tag == b'C' {
                    let Completed { signs, deallocates, rolls_back } = server.on_command_complete(header);
                    let link = &mut self.links[at];
                    if signs.any(Effects::DISCARD) {
                        let tag = link.server.inbound.body(header).to_vec();
                        self.on_discard(at, &tag);
                    }
                    let link = &mut self.links[at];
                    match deallocates {
                        Deallocated::Nothing => {}
                        Deallocated::All => self.statements.forget_all(),
                        Deallocated::One => {
                            let gone = link.server.exchanges.deallocated();
                            let gone = gone.or_else(|| link.deallocating.pop_front().flatten());
                            if let Some((name, statement)) = gone {
                                link.server.prepared.remove(statement.id);
                                self.statements.forget(&name);
                            }
                        }
                    }
                    if !signs.is_empty() {
                        link.check_signs(signs);
                        link.touched.has_reset |= signs.any(Effects::SETTING | Effects::DISCARD);
                    } else if rolls_back {
                        link.touched.has_reset = false;
                    }
                }
                // Nothing has been sent behind an Execute at the gate: it is the last that is owed.
                let server = &mut self.links[at].server;
                let about_last = server.exchanges.len() == 1;
                let outcome = server.exchanges.on_reply(tag, None)?;
                if about_last {
                    self.on_gate_answer(tag);
                }
                match outcome {
                    Outcome::Going(order) => self.pass(at, header, order),
                    Outcome::Done(exchange) => {
                        self.pass(at, header, exchange.order);
                        self.on_done(at, exchange, cx);
                    }
                    _ => return Err(OutOfSync { tag, expected: None }),
                }
            }
        }
        if self.links.get(at).is_some_and(|link| link.server.exchanges.front_order() == Some(Order::Fake)) {
            self.emit_fakes();
        }
        self.after_answer(at, cx);
        Ok(true)
    }

    fn on_census_row(&mut self, at: usize, header: Header, cx: &mut Cx<'_, S>) -> Result<bool, OutOfSync> {
        let malformed = OutOfSync { tag: b'D', expected: Some(What::Query) };
        let server = &mut self.links[at].server;
        if header.frame() > HELD_FRAME_BYTES_MAX {
            return Err(malformed);
        }
        if !server.inbound.hold(header, cx.chunks) {
            return Ok(false);
        }
        let row = server.inbound.body(header).to_vec();
        server.inbound.skip(header);
        let Some(Note::Census(census)) = server.exchanges.front_note() else { return Err(malformed) };
        let census = census.clone();
        self.on_census(at, &census, &row, cx).map_err(|_| malformed)?;
        Ok(true)
    }

    /// Lets a frame pass as its order says.
    fn pass(&mut self, at: usize, header: Header, order: Order) {
        let inbound = &mut self.links[at].server.inbound;
        match order {
            Order::Forward => {
                let (start, end) = inbound.send(header);
                self.client.outbox.relay(source(at), start, end);
            }
            Order::Swallow | Order::Fake => inbound.skip(header),
        }
    }

    fn on_done(&mut self, at: usize, exchange: Exchange, cx: &Cx<'_, S>) {
        let link = &mut self.links[at];
        match exchange.note {
            Note::Prepares(statement) => {
                statement.prove();
                link.parsed(statement.id);
                link.has_prepared(statement.id);
            }
            Note::Defines(define) => {
                define.statement.prove();
                link.parsed(define.statement.id);
                link.has_prepared(define.statement.id);
            }
            Note::Unnamed(_) | Note::ForgetsUnnamed => link.unnamed_since = None,
            Note::Closes(id) => link.server.prepared.remove(id),
            Note::Settles(settle) => self.on_described(at, &settle, cx),
            _ => {}
        }
    }

    fn on_parameter_status(&mut self, at: usize, header: Header) -> Result<(), OutOfSync> {
        let server = &mut self.links[at].server;
        let malformed = OutOfSync { tag: b'S', expected: None };
        let (name, value) = parameter(server.inbound.body(header)).map_err(|_| malformed)?;
        let restores = matches!(server.exchanges.front_note(), Some(Note::Restores));
        let ours = server.exchanges.front_order() == Some(Order::Swallow) && !restores;
        report(&mut server.settings, name, value);
        if ours || matches!(self.state, State::Login(_) | State::Auth(_)) {
            server.inbound.skip(header);
        } else {
            report(&mut self.settings, name, value);
            self.pass(at, header, Order::Forward);
        }
        Ok(())
    }

    fn on_error(&mut self, at: usize, header: Header, cx: &mut Cx<'_, S>) -> Result<(), OutOfSync> {
        if matches!(self.state, State::Auth(_)) {
            return self.on_lookup_error(at, header);
        }
        let link = &mut self.links[at];
        let refusal = link.server.exchanges.refusal().cloned();
        let outcome = link.server.exchanges.on_reply(b'E', None)?;
        link.server.tally.errors += 1;
        let (order, dropped) = match outcome {
            Outcome::Failed { order, dropped } => (order, dropped),
            // The server is about to close; it says why.
            _ => (Order::Forward, Vec::new()),
        };
        if order == Order::Swallow && dropped.is_empty() {
            return self.on_own_query_failed(at, header, cx);
        }
        let taken = match dropped.first().map(|first| &first.note) {
            Some(Note::Taken(name)) => Some(name.clone()),
            _ => None,
        };
        let failed = dropped.first().is_some_and(|first| matches!(first.note, Note::Unnamed(_)));
        link.undo(&dropped);
        link.touched.has_reset = false;
        if failed {
            // A failed Parse has closed the unnamed statement that was there before it.
            link.server.unnamed = Unnamed::Nobodys;
        }
        self.statements.undo(&dropped);
        self.on_plan_changed(at, header, &dropped);
        self.who.errors += 1;
        match refusal {
            Some(error) if is_syntax_error(self.links[at].server.inbound.body(header)) => {
                self.links[at].server.inbound.skip(header);
                error.write(&mut self.client.outbox);
            }
            _ => self.forward_error(at, header, taken.as_deref()),
        }
        // Something is still owed: the error was that of an earlier batch, not of the Execute at the gate.
        if self.links[at].server.exchanges.is_empty() {
            // The error of an earlier query leaves the Execute at the gate where it is.
            if !self.links[at].server.exchanges.ends_with_execute() {
                self.on_gate_answer(b'E');
            }
        }
        self.emit_fakes();
        Ok(())
    }

    /// A query of our own has failed: the server is in an unknown state.
    fn on_own_query_failed(
        &mut self,
        at: usize,
        header: Header,
        cx: &mut Cx<'_, S>,
    ) -> Result<(), OutOfSync> {
        let body = self.links[at].server.inbound.body(header).to_vec();
        if let Some(Note::Census(_)) = self.links[at].server.exchanges.front_note() {
            log::warn!("a server does not say what its client has left on it: {}", error::summary(&body));
            self.links[at].server.inbound.skip(header);
            self.on_census_failed(at);
            return Ok(());
        }
        if matches!(self.state, State::Login(_)) {
            self.links[at].server.inbound.skip(header);
            self.on_login_refused(at, &body, cx);
            return Ok(());
        }
        log::error!("a server refused the settings of its session: {}", error::summary(&body));
        Err(OutOfSync { tag: b'E', expected: Some(What::Query) })
    }

    /// Sends an error on. Names that we gave to statements are replaced by the client's; where the client is to be
    /// kept although its server ends, a FATAL error becomes an ordinary one.
    fn forward_error(&mut self, at: usize, header: Header, taken: Option<&[u8]>) {
        let body = self.links[at].server.inbound.body(header);
        let keeps = self.cluster.as_ref().is_some_and(|c| c.client_recovery != ConnectionRecovery::Drop);
        let fatal = error::is_fatal(body);
        let soften = keeps && fatal;
        let names_ours = body.windows(NAME_PREFIX.len()).any(|window| window == NAME_PREFIX.as_bytes());
        let body = (soften || names_ours).then(|| body.to_vec());
        self.links[at].has_said_why |= fatal;
        let Some(body) = body else {
            return self.pass(at, header, Order::Forward);
        };
        self.links[at].server.inbound.skip(header);
        let statements = &self.statements;
        self.client.outbox.own(|buf| {
            encode::message(buf, b'E', |buf| {
                for (code, value) in error::fields(&body) {
                    buf.push(code);
                    match code {
                        b'S' | b'V' if soften => encode::cstr(buf, b"ERROR"),
                        b'M' if names_ours => {
                            encode::cstr(buf, statements.in_its_words(value, taken).as_bytes())
                        }
                        _ => encode::cstr(buf, value),
                    }
                }
                buf.push(0);
            });
        });
    }

    fn on_ready(&mut self, at: usize, header: Header, cx: &mut Cx<'_, S>) -> Result<(), OutOfSync> {
        let server = &mut self.links[at].server;
        let status = TxStatus::of_body(server.inbound.body(header));
        let Outcome::Ready(exchange, status) = server.exchanges.on_reply(b'Z', status)? else {
            return Err(OutOfSync { tag: b'Z', expected: None });
        };
        server.status = status;
        if let Note::ForgetsUnnamed = exchange.note {
            self.links[at].unnamed_since = None;
        }
        let server = &mut self.links[at].server;
        match (&exchange.note, exchange.order) {
            (Note::Settings, _) => {
                server.inbound.skip(header);
                if matches!(self.state, State::Login(_)) {
                    self.on_login_settings(at, cx);
                } else {
                    server.settings = self.settings.clone();
                }
                return Ok(());
            }
            (Note::Lookup, _) => {
                server.inbound.skip(header);
                self.on_lookup_done(at, cx);
                return Ok(());
            }
            (Note::Census(_), _) => {
                server.inbound.skip(header);
                self.links[at].touched.has_restored();
                let server = &mut self.links[at].server;
                if let Some(queries) = difference(&server.settings, &self.settings, Within::Nothing) {
                    send_queries(server, &queries, Note::Restores);
                }
                self.after_channels(cx);
                return Ok(());
            }
            (Note::Restores, _) => {
                server.inbound.skip(header);
                // In a transaction a census will follow.
                if status == TxStatus::Idle {
                    server.settings = self.settings.clone();
                }
                return Ok(());
            }
            (Note::Refuses, _) => {
                server.inbound.skip(header);
                self.client.outbox.own(|buf| encode::ready(buf, status));
                return Ok(());
            }
            (_, Order::Swallow) => {
                server.inbound.skip(header);
                return Ok(());
            }
            _ => {}
        }
        self.count_query(at, cx);
        if status != TxStatus::Idle && self.mode() == PoolerMode::Statement {
            let server = &mut self.links[at].server;
            server.inbound.skip(header);
            if server.exchanges.is_empty() {
                send_queries(server, &["ROLLBACK"], Note::Refuses);
                ClientError::TransactionInStatementMode.write(&mut self.client.outbox);
            } else {
                // What the client has sent behind it would run in the transaction.
                self.fail(ClientError::TransactionInPipeline, cx);
            }
            return Ok(());
        }
        if self.holds_ready(at, cx) {
            self.links[at].server.inbound.skip(header);
            if let State::Running(run) = &mut self.state {
                run.hold = Hold::Asking;
            }
            return Ok(());
        }
        let touched = &mut self.links[at].touched;
        touched.has_listened |= status == TxStatus::Idle && touched.effects.any(Effects::LISTEN);
        self.pass(at, header, Order::Forward);
        self.emit_fakes();
        if status == TxStatus::InTransaction && self.shares_servers() {
            self.restore_startup();
        }
        Ok(())
    }

    fn count_query(&mut self, at: usize, cx: &Cx<'_, S>) {
        let State::Running(run) = &mut self.state else { return };
        let server = &mut self.links[at].server;
        let micros = cx.now.since(run.asked).as_micros() as u64;
        self.who.queries += 1;
        self.who.query_micros += micros;
        server.tally.queries += 1;
        server.tally.query_micros += micros;
        if server.status == TxStatus::Idle {
            let micros = cx.now.since(run.began).as_micros() as u64;
            self.who.transactions += 1;
            self.who.transaction_micros += micros;
            server.tally.transactions += 1;
            server.tally.transaction_micros += micros;
            run.began = cx.now;
        }
        run.asked = cx.now;
    }

    /// The server may have nothing more to do for this client.
    pub(super) fn after_answer(&mut self, at: usize, cx: &mut Cx<'_, S>) {
        let State::Running(run) = &mut self.state else { return };
        let server = &self.links[at].server;
        if run.leaving == Leaving::AfterAnswers && server.exchanges.copying() != Copying::No {
            // A COPY waits for data, and none will come.
            return self.close(cx);
        }
        if !server.exchanges.is_empty() {
            return;
        }
        run.answered = cx.now;
        if run.leaving == Leaving::AfterAnswers {
            return self.close(cx);
        }
        if is_over(server) && at == HOME {
            self.finish_transaction(cx);
        }
    }

    /// Nothing is owed and no transaction is open: in transaction mode the server goes back.
    fn finish_transaction(&mut self, cx: &mut Cx<'_, S>) {
        if self.mode() == PoolerMode::Session && !cx.draining {
            return;
        }
        if matches!(&self.state, State::Running(run) if matches!(run.hold, Hold::Joining(_))) {
            return;
        }
        // What it left behind, if this was its last transaction, is not asked for but undone.
        if self.shares_servers() && !cx.draining && self.takes_census(cx) {
            return;
        }
        // Half a message has gone to the server already: it belongs to what comes next.
        if self.client.inbound.passing != Passing::Nothing || !self.links[HOME].server.is_settled() {
            return self.stays_listening();
        }
        if cx.draining {
            // The server goes back as at the end of any session: in session mode it is reset first.
            return self.fail(ClientError::ShuttingDown, cx);
        }
        if !self.pins.is_empty() {
            return self.tell_notifications(cx);
        }
        if self.returns_listens() {
            return;
        }
        cx.actions.push(Action::Checkin { link: HOME });
        self.state = State::Idle { since: cx.now, peeked: 0 };
        if self.listening.is_some() {
            self.tell_notifications(cx);
        }
        if !self.client.inbound.relay.unparsed().is_empty() {
            self.on_idle_bytes(cx);
        }
    }

    fn on_out_of_sync(&mut self, at: usize, fault: OutOfSync, cx: &mut Cx<'_, S>) {
        let server = &self.links[at].server;
        log::error!(
            "server {} of {}:{} sent {:?} where {:?} was expected; closing it",
            server.number,
            server.pool.config.host,
            server.pool.config.port,
            char::from(fault.tag),
            fault.expected,
        );
        let behind_copy = matches!(fault.expected, Some(What::Query | What::Execute));
        let error = if fault.tag == b'G' && behind_copy {
            ClientError::SyncBehindCopy
        } else {
            ClientError::ServerOutOfSync { fatal: true }
        };
        cx.actions.push(Action::Discard { link: at, why: Discard::OutOfSync });
        self.on_server_gone(at, error, cx);
    }

    /// Whether the client has been sent the beginning of a message and not its end.
    pub(super) fn is_inside_answer(&self) -> bool {
        self.links.iter().any(|link| matches!(link.server.inbound.passing, Passing::Send { .. }))
    }
}

/// What the completion of a command tells.
pub(super) struct Completed {
    signs: Effects,
    deallocates: Deallocated,
    rolls_back: bool,
}

enum Deallocated {
    Nothing,
    One,
    All,
}

impl<S> Server<S> {
    /// A command is complete: counts it, and says what it has changed, if it was the client's. What we do ourselves has
    /// been thought of when it was sent.
    pub(super) fn on_command_complete(&mut self, header: Header) -> Completed {
        let tag = self.inbound.body(header);
        let (rows, signs) = read_tag(tag);
        let theirs = self.exchanges.front_order() == Some(Order::Forward);
        let deallocates = match tag {
            b"DISCARD ALL\0" | b"DEALLOCATE ALL\0" if theirs => Deallocated::All,
            b"DEALLOCATE\0" if theirs => Deallocated::One,
            _ => Deallocated::Nothing,
        };
        rows.count(self);
        let rolls_back = theirs && matches!(rows, Rows::Rolledback);
        if let Deallocated::All = deallocates {
            // Those of the extended protocol too.
            self.prepared.clear();
        }
        Completed { signs: if theirs { signs } else { Effects::NONE }, deallocates, rolls_back }
    }
}

impl super::statements::ClientStatements {
    /// A text of the server with the client's names for its statements.
    /// One statement may have several: then it is `first`, if that is known.
    fn in_its_words(&self, text: &[u8], first: Option<&[u8]>) -> String {
        let mut text = String::from_utf8_lossy(text).into_owned();
        let first = first.and_then(|name| Some((name, self.find(name)?)));
        for (name, statement) in first.into_iter().chain(self.iter()) {
            let ours = format!("\"{}\"", statement.name);
            if text.contains(&ours) {
                text = text.replace(&ours, &format!("\"{}\"", String::from_utf8_lossy(name)));
            }
        }
        text
    }
}

/// Whether this is the error that we have brought about, not one that the transaction or the server met first.
fn is_syntax_error(body: &[u8]) -> bool {
    error::field(body, b'C') == Some(b"42601")
}

/// What a CommandComplete counts for.
enum Rows {
    Inserted(u64),
    Updated(u64),
    Deleted(u64),
    Rolledback,
    Other,
}

impl Rows {
    fn count<S>(&self, server: &mut Server<S>) {
        match self {
            Rows::Inserted(rows) => server.tally.rows_inserted += rows,
            Rows::Updated(rows) => server.tally.rows_updated += rows,
            Rows::Deleted(rows) => server.tally.rows_deleted += rows,
            Rows::Rolledback => server.tally.rollbacks += 1,
            Rows::Other => {}
        }
    }
}

/// Reads a CommandComplete tag: what it counts for, and the effects that it is a sign of.
fn read_tag(body: &[u8]) -> (Rows, Effects) {
    let rows = || {
        let digits = body.strip_suffix(&[0]).unwrap_or(body).rsplit(|&byte| byte == b' ').next();
        digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
    };
    match body {
        [b'S', b'E', b'L', ..] | [b'B', b'E', ..] | [b'C', b'O', ..] => (Rows::Other, Effects::NONE),
        [b'I', b'N', b'S', ..] => (Rows::Inserted(rows()), Effects::NONE),
        [b'U', b'P', ..] => (Rows::Updated(rows()), Effects::NONE),
        [b'D', b'E', b'L', ..] => (Rows::Deleted(rows()), Effects::NONE),
        [b'R', b'O', ..] => (Rows::Rolledback, Effects::NONE),
        _ => (Rows::Other, signs(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert!(matches!(read_tag(b"INSERT 0 17\0"), (Rows::Inserted(17), Effects::NONE)));
        assert!(matches!(read_tag(b"UPDATE 3\0"), (Rows::Updated(3), Effects::NONE)));
        assert!(matches!(read_tag(b"DELETE 0\0"), (Rows::Deleted(0), Effects::NONE)));
        assert!(matches!(read_tag(b"ROLLBACK\0"), (Rows::Rolledback, Effects::NONE)));
        let silent =
            ["SELECT 1", "BEGIN", "COMMIT", "COPY 5", "DROP TABLE", "PREPARE TRANSACTION", "SET CONSTRAINTS"];
        for tag in silent {
            assert!(
                matches!(read_tag(&[tag.as_bytes(), &[0]].concat()), (Rows::Other, Effects::NONE)),
                "{tag}"
            );
        }
        for tag in ["SET", "DO", "DISCARD ALL", "PREPARE", "UNLISTEN", "LOAD", "DEALLOCATE ALL"] {
            let (_, signs) = read_tag(&[tag.as_bytes(), &[0]].concat());
            assert!(!signs.is_empty(), "{tag}");
        }
    }
}
