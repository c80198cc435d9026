//! LISTEN without a server of one's own (`pub_sub_channel_size`): one connection listens for all clients of a database.
//!
//! What a client listens to is state of its session, as its settings are: wherever it is served, the server is told to
//! LISTEN first, so that LISTEN, UNLISTEN, DISCARD, savepoints and `pg_listening_channels()` mean there what they always
//! mean. At the end of a transaction with LISTEN or UNLISTEN the server says what has come of it (the census), and the
//! client is told that its transaction is over once the listening connection has that, too:
//!
//! ```text
//!  LISTEN c ──► server: CommandComplete ──► client
//!               server: ReadyForQuery, kept back ──► census ──► listening connection: LISTEN c
//!                                                    answered ──► ReadyForQuery to the client; UNLISTEN * to the server
//! ```
//!
//! Where that cannot be done the client keeps its server, as without all this: what LISTEN in a pipeline, DO or a function
//! has done, channels beyond [`LISTENS_MAX`], other encodings than UTF8, no connection to be had.
//!
//! Notifications come between transactions. Of those that a client sends itself its server tells it before the end of its
//! transaction, as PostgreSQL does; they are not told a second time. A client that is too slow loses what comes while
//! `pub_sub_channel_size` others wait, and is warned of that in their place.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::base::bytes::{Bytes, Malformed};
use crate::base::limits::{ECHOES_MAX, LISTENS_MAX, NOTIFICATION_BYTES_MAX, SMALL_OUTBOX_BYTES};
use crate::base::sabotage::{self, Bug};
use crate::base::time::Time;
use crate::cluster::listeners::{Channel, Channels, statement};
use crate::session::cx::{Action, Cx};
use crate::session::errors::ClientError;
use crate::session::exchange::{Note, OutOfSync};
use crate::session::inbound::Passing;
use crate::session::requests::HOME;
use crate::session::server::{Phase, Server};
use crate::session::{Session, State, is_over, send_queries};
use crate::sql::effects::Effects;
use crate::wire::error::{self, Severity};
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::{TxStatus, encode};

/// What a session hears from the listening connection.
#[derive(Debug, Default)]
pub(super) struct Listening {
    channels: Channels,
    /// What it has asked to listen to.
    wanted: Channels,
    /// What its server has said that it listens to.
    found: Option<Channels>,
    /// Whole messages for the client.
    waiting: VecDeque<Arc<[u8]>>,
    /// Missed since the last that waits.
    missed: u64,
    /// Of what its server has told it, by hash: they will come again.
    echoes: VecDeque<u64>,
    /// There is no listening connection any more.
    is_lost: bool,
    /// How often it has asked for something.
    asked: u32,
}

/// Why what follows an answer has to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    #[default]
    No,
    /// The client has not been told that its transaction is over: its server is asked what it listens to.
    Asking,
    /// The same: the listening connection is asked to listen, until that time.
    Joining(Time),
    /// The server forgets what it listened to.
    Returning,
}

/// A NotificationResponse.
struct Notification<'m> {
    pid: u32,
    channel: &'m [u8],
    payload: &'m [u8],
}

impl<'m> Notification<'m> {
    /// Of the whole message.
    fn read(message: &'m [u8]) -> Result<Notification<'m>, Malformed> {
        let mut bytes = Bytes::new(message.get(HEADER_BYTES..).ok_or(Malformed)?);
        Ok(Notification { pid: bytes.u32()?, channel: bytes.cstr()?, payload: bytes.cstr()? })
    }

    /// The same for both ways on which a session hears of it. In another encoding than UTF8 it may be written in two.
    fn hash(&self, is_utf8: bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        let legible = |text: &'m [u8]| if is_utf8 || text.is_ascii() { text } else { &[] };
        (self.pid, legible(self.channel), legible(self.payload)).hash(&mut hasher);
        hasher.finish()
    }
}

/// The channel of a NotificationResponse, whole.
pub fn channel_of(message: &[u8]) -> Option<&[u8]> {
    Notification::read(message).ok().map(|notification| notification.channel)
}

impl Listening {
    fn ask<S>(&mut self, channels: Channels) -> Action<S> {
        self.asked = self.asked.wrapping_add(1).max(1);
        Action::Listen { channels, number: self.asked }
    }

    /// Nobody would notice if it were not there.
    fn is_empty(&self) -> bool {
        self.channels.is_empty()
            && self.waiting.is_empty()
            && self.missed == 0
            && !self.is_lost
            && self.asked == 0
            && self.echoes.is_empty()
    }

    /// From now on these channels count; what waits of others will not be told.
    fn hear_only(&mut self, channels: Channels) {
        self.channels = channels;
        if self.channels.is_empty() {
            self.missed = 0;
        }
        let channels = &self.channels;
        self.waiting.retain(|message| channel_of(message).is_some_and(|channel| channels.contains(channel)));
    }
}

impl<S> Session<S> {
    /// Whether notifications of this session come from the listening connection.
    pub(super) fn shares_listening(&self, cx: &Cx<'_, S>) -> bool {
        self.listening.is_some()
            || (cx.world.config.general.pub_sub_channel_size > 0 && self.shares_servers())
    }

    /// A server that has been handed over listens to what this client does.
    pub(super) fn bring_listens(&mut self, link: usize) {
        let Some(listening) = self.listening.as_ref().filter(|of| !of.channels.is_empty()) else { return };
        let mut query = Vec::new();
        listening.channels.iter().for_each(|channel| statement(&mut query, "LISTEN", channel));
        let server = &mut self.links[link].server;
        server.listens = true;
        send_queries(server, &[query], Note::Listens);
    }

    /// A transaction with LISTEN or UNLISTEN in it is over: whether its end is to be kept from the client for now.
    pub(super) fn holds_ready(&self, at: usize, cx: &Cx<'_, S>) -> bool {
        let link = &self.links[at];
        link.touched.effects.any(Effects::LISTEN)
            && !link.touched.has_listened
            && self.client.inbound.passing == Passing::Nothing
            && at == HOME
            && is_over(&link.server)
            && !cx.draining
            && self.shares_listening(cx)
            && !self.pins.any(Effects::LISTEN)
            && matches!(&self.state, State::Running(run) if run.hold == Hold::No && !run.is_leaving())
            && self.reads_utf8()
    }

    fn reads_utf8(&self) -> bool {
        self.settings.reported("client_encoding") == Some(b"UTF8")
    }

    /// What a census says about the channels that the server listens to; what of them only the server has is returned.
    pub(super) fn on_channels(&mut self, at: usize, found: Channels, cx: &mut Cx<'_, S>) -> Effects {
        let asks = matches!(&self.state, State::Running(run) if run.hold == Hold::Asking);
        self.links[at].server.listens |= !found.is_empty();
        if self.listening.is_none() && (found.is_empty() || !asks) {
            return if found.is_empty() { Effects::NONE } else { Effects::LISTEN };
        }
        let listening = self.listening.get_or_insert_default();
        let fits = asks && found.len() <= LISTENS_MAX;
        let has_more = !found.is_subset(&listening.channels);
        if fits && has_more {
            listening.found = Some(found);
            return Effects::NONE;
        }
        if !listening.channels.is_subset(&found) {
            let left = listening.channels.intersection(&found).cloned().collect();
            listening.hear_only(left);
            cx.actions.push(listening.ask(listening.channels.clone()));
        }
        if has_more { Effects::LISTEN } else { Effects::NONE }
    }

    /// The census of a transaction whose end is kept from the client has come.
    pub(super) fn after_channels(&mut self, cx: &mut Cx<'_, S>) {
        let State::Running(run) = &mut self.state else { return };
        if run.hold != Hold::Asking {
            return;
        }
        let found = self.listening.as_mut().and_then(|listening| listening.found.take());
        let Some(found) = found else {
            // Many say UNLISTEN who never listened.
            self.listening.take_if(|listening| listening.is_empty());
            return self.release();
        };
        let timeout =
            self.cluster.as_ref().map_or_else(Default::default, |cluster| cluster.timeouts.checkout);
        run.hold = Hold::Joining(cx.now + timeout);
        if let Some(listening) = &mut self.listening {
            listening.wanted = found.clone();
            cx.actions.push(listening.ask(found));
        }
    }

    /// The listening connection listens to what this session has asked for, or cannot.
    pub fn on_listening(&mut self, number: u32, works: bool, cx: &mut Cx<'_, S>) {
        let State::Running(run) = &self.state else { return };
        let Some(listening) = self.listening.as_mut().filter(|_| matches!(run.hold, Hold::Joining(_))) else {
            return;
        };
        // An answer to what it has asked before means nothing now.
        if number != listening.asked {
            return;
        }
        if !works {
            return self.on_listens_refused(cx);
        }
        let wanted = std::mem::take(&mut listening.wanted);
        listening.hear_only(wanted);
        self.go_on(cx);
    }

    /// Its server listens for it, as without all this.
    fn on_listens_refused(&mut self, cx: &mut Cx<'_, S>) {
        if !matches!(&self.state, State::Running(run) if matches!(run.hold, Hold::Joining(_))) {
            return;
        }
        log::warn!("a client keeps its server: no connection listens for it");
        self.pins |= Effects::LISTEN;
        self.go_on(cx);
    }

    fn go_on(&mut self, cx: &mut Cx<'_, S>) {
        self.release();
        self.after_answer(HOME, cx);
        if matches!(self.state, State::Running(_)) {
            self.pump_requests(cx);
        }
    }

    /// It took too long.
    pub(super) fn on_listening_time(&mut self, cx: &mut Cx<'_, S>) {
        if let Some(listening) = &mut self.listening {
            cx.actions.push(listening.ask(listening.channels.clone()));
        }
        self.on_listens_refused(cx);
    }

    /// The client hears that its transaction is over.
    fn release(&mut self) {
        let State::Running(run) = &mut self.state else { return };
        run.hold = Hold::No;
        self.client.outbox.own(|buf| encode::ready(buf, TxStatus::Idle));
    }

    /// The server must not tell its next client of what this one listens to. False if there is nothing to forget.
    pub(super) fn returns_listens(&mut self) -> bool {
        let State::Running(run) = &mut self.state else { return false };
        let server = &mut self.links[HOME].server;
        if !server.listens || sabotage::is_on(Bug::KeptListens) {
            server.listens = false;
            return false;
        }
        if server.cancels > 0 {
            // It would hit the query. See `on_cancel_ended`.
            return true;
        }
        server.listens = false;
        run.hold = Hold::Returning;
        send_queries(server, &["UNLISTEN *"], Note::Listens);
        true
    }

    /// Whether something is to be done once no cancel request can hit it.
    pub(super) fn awaits_return(&self) -> bool {
        let State::Running(run) = &self.state else { return false };
        run.hold == Hold::Returning || self.links[HOME].server.listens
    }

    /// The server stays after all, though it has forgotten.
    pub(super) fn stays_listening(&mut self) {
        if let State::Running(run) = &mut self.state
            && run.hold == Hold::Returning
            && self.links[HOME].server.cancels == 0
        {
            run.hold = Hold::No;
            self.bring_listens(HOME);
        }
    }

    /// A notification of a server that serves this session. False: more of it must arrive first.
    pub(super) fn on_server_notification(
        &mut self,
        at: usize,
        header: Header,
        cx: &mut Cx<'_, S>,
    ) -> Result<bool, OutOfSync> {
        let inbound = &mut self.links[at].server.inbound;
        if header.frame() > NOTIFICATION_BYTES_MAX {
            return Err(OutOfSync { tag: b'A', expected: None });
        }
        if !inbound.hold(header, cx.chunks) {
            return Ok(false);
        }
        let message = inbound.frame(header).to_vec();
        inbound.skip(header);
        let notification =
            Notification::read(&message).map_err(|_| OutOfSync { tag: b'A', expected: None })?;
        let hold = if let State::Running(run) = &self.state { run.hold } else { Hold::Returning };
        let is_utf8 = self.reads_utf8();
        let link = &self.links[at];
        let is_own = notification.pid == link.server.key.pid;
        // Until the client knows that it listens, what others say might as well have come before that.
        let is_untold = link.touched.effects.any(Effects::LISTEN)
            && !link.touched.has_listened
            && !self.pins.any(Effects::LISTEN);
        let mut none = Listening::default();
        let listening = self.listening.as_deref_mut().unwrap_or(&mut none);
        let is_shared = listening.channels.contains(notification.channel);
        match hold {
            Hold::No if is_shared || is_own || !is_untold => {}
            Hold::Asking if is_own && !is_shared => {}
            _ => return Ok(true),
        }
        // It comes from the listening connection, too. The client's own are told in time.
        if is_shared && (!is_own || listening.missed > 0 || listening.echoes.len() >= ECHOES_MAX) {
            return Ok(true);
        }
        let place = listening.waiting.iter().position(|other| is_shared && **other == *message);
        // What waits before it is older. Of a channel that is not shared it is not known: what waits may be newer, and be
        // the client's own, of which this server has yet to tell.
        let older = if is_shared { place.unwrap_or(listening.waiting.len()) } else { 0 };
        for message in listening.waiting.drain(..older) {
            self.client.outbox.own(|buf| buf.extend_from_slice(&message));
        }
        if place.is_some() {
            listening.waiting.pop_front();
        } else if is_shared {
            listening.echoes.push_back(notification.hash(is_utf8));
        }
        if !is_own {
            self.client.outbox.own(|buf| buf.extend_from_slice(&message));
        } else {
            let pid = self.key.pid;
            self.client.outbox.own(|buf| {
                encode::message(buf, b'A', |buf| {
                    buf.extend_from_slice(&pid.to_be_bytes());
                    buf.extend_from_slice(&message[HEADER_BYTES + 4..]);
                });
            });
        }
        Ok(true)
    }

    /// A notification of the listening connection, whole. False if it is lost.
    pub fn on_notification(&mut self, message: &Arc<[u8]>, cx: &mut Cx<'_, S>) -> bool {
        let Ok(notification) = Notification::read(message) else { return true };
        let is_utf8 = self.reads_utf8();
        let Some(listening) = &mut self.listening else { return true };
        if !listening.channels.contains(notification.channel) {
            return true;
        }
        if !listening.echoes.is_empty() && !sabotage::is_on(Bug::RepeatedNotification) {
            let hash = notification.hash(is_utf8);
            if let Some(at) = listening.echoes.iter().position(|echo| *echo == hash) {
                listening.echoes.remove(at);
                return true;
            }
        }
        let room = cx.world.config.general.pub_sub_channel_size;
        let is_readable = is_utf8 || message[HEADER_BYTES + 4..].is_ascii();
        // Once one is missed, all are, until the client has been told where.
        let keeps = listening.missed == 0 && listening.waiting.len() < room.max(1) && is_readable;
        if keeps {
            listening.waiting.push_back(message.clone());
        } else {
            listening.missed += 1;
        }
        self.tell_notifications(cx);
        keeps
    }

    /// The listening connection has gone: what has happened since nobody knows.
    pub fn on_listening_lost(&mut self, cx: &mut Cx<'_, S>) {
        if let Some(listening) = &mut self.listening {
            listening.is_lost = true;
        }
        // A wish that was under way is lost, too.
        self.on_listens_refused(cx);
        self.tell_notifications(cx);
    }

    /// Between transactions the client hears what waits for it, as much as it takes.
    pub(super) fn tell_notifications(&mut self, cx: &mut Cx<'_, S>) {
        let Some(listening) = &mut self.listening else { return };
        let is_between = match &self.state {
            State::Idle { .. } => true,
            State::Running(run) => {
                let server = &self.links[HOME].server;
                run.hold == Hold::No && is_over(server) && !server.inbound.is_inside_frame()
            }
            _ => false,
        };
        if !is_between {
            return;
        }
        if listening.is_lost {
            return self.fail(ClientError::ListensLost, cx);
        }
        let outbox = &mut self.client.outbox;
        while outbox.own_bytes() < SMALL_OUTBOX_BYTES {
            let Some(message) = listening.waiting.pop_front() else {
                if listening.missed > 0 {
                    let missed = std::mem::take(&mut listening.missed);
                    let text = format!(
                        "{missed} notifications have been lost: they came faster than they were read"
                    );
                    outbox.own(|buf| error::write(buf, Severity::Warning, "01000", &text, [None; 3]));
                }
                return;
            };
            outbox.own(|buf| buf.extend_from_slice(&message));
        }
    }

    /// Whether the worker has to be told when this session ends.
    pub fn listens(&self) -> bool {
        self.listening.as_ref().is_some_and(|listening| listening.asked > 0)
    }
}

/// The connection that listens.
#[derive(Debug, Default)]
pub struct Ear {
    /// What it was asked has to be answered by then.
    pub until: Option<Time>,
    /// It is not read before that time: there is more than its listeners can take.
    pub paused: Option<Time>,
    pub heard: Vec<Arc<[u8]>>,
}

impl<S> Server<S> {
    /// Whatever comes from now on is for those who listen.
    pub fn listen(&mut self) {
        self.phase = Phase::Listening(Box::default());
    }

    pub fn is_listening(&self) -> bool {
        matches!(self.phase, Phase::Listening(_))
    }

    pub fn pause_listening(&mut self, until: Option<Time>) {
        if let Phase::Listening(ear) = &mut self.phase {
            ear.paused = until;
        }
    }

    /// Whether it has to wait before more of it is read.
    pub fn is_paused(&self) -> bool {
        matches!(&self.phase, Phase::Listening(ear) if ear.paused.is_some())
    }

    /// What it has heard since it was asked last.
    pub fn take_heard(&mut self) -> Vec<Arc<[u8]>> {
        match &mut self.phase {
            Phase::Listening(ear) => std::mem::take(&mut ear.heard),
            _ => Vec::new(),
        }
    }

    /// Sends it LISTENs and UNLISTENs.
    pub fn ask_to_listen(&mut self, query: &[u8], until: Time) {
        if let Phase::Listening(ear) = &mut self.phase {
            ear.until = Some(until);
        }
        send_queries(self, &[query], Note::Listens);
    }

    /// It has answered what it was asked, and rests.
    pub fn has_answered(&mut self) -> bool {
        let rests = self.is_settled();
        match &mut self.phase {
            Phase::Listening(ear) => rests && ear.until.take().is_some(),
            _ => false,
        }
    }

    /// A notification that lies whole in its inbound.
    pub(super) fn on_heard(&mut self, header: Header) {
        if let Phase::Listening(ear) = &mut self.phase {
            ear.heard.push(self.inbound.frame(header).into());
        }
    }
}

/// Reads what a census says of channels: in hex, with commas between.
pub(super) fn read_channels(text: Option<&[u8]>) -> Result<Channels, Malformed> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8).ok_or(Malformed);
    let channel = |hex: &[u8]| -> Result<Channel, Malformed> {
        let pairs = hex.chunks(2).map(|pair| match pair {
            [high, low] => Ok(digit(*high)? << 4 | digit(*low)?),
            _ => Err(Malformed),
        });
        pairs.collect()
    };
    text.filter(|text| !text.is_empty())
        .map_or_else(|| Ok(Channels::new()), |text| text.split(|byte| *byte == b',').map(channel).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_a_census() {
        assert_eq!(read_channels(None), Ok(Channels::new()));
        assert_eq!(read_channels(Some(b"")), Ok(Channels::new()));
        let expected: Channels = [Channel::from(&b"a,b"[..]), Channel::from("\u{e4}".as_bytes())].into();
        assert_eq!(read_channels(Some(b"612c62,c3a4")), Ok(expected));
        assert_eq!(read_channels(Some(b"6")), Err(Malformed));
        assert_eq!(read_channels(Some(b"6x")), Err(Malformed));
    }

    #[test]
    fn notifications() {
        let mut message = Vec::new();
        encode::message(&mut message, b'A', |buf| buf.extend_from_slice(b"\0\0\0\x07c\0it's\0"));
        let read = Notification::read(&message).unwrap();
        assert_eq!((read.pid, read.channel, read.payload), (7, &b"c"[..], &b"it's"[..]));
        assert_eq!(channel_of(&message), Some(&b"c"[..]));
        for cut in 0..message.len() {
            assert!(Notification::read(&message[..cut]).is_err());
        }
    }
}
