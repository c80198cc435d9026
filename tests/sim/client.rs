//! Seeded clients, without I/O: valid behaviour chosen at random, and a strict check of every message that comes back.
//!
//! A client keeps a model of what a server of its own would say (`model.rs`), so what it must get, in which order,
//! is known before it sends. Every statement carries an id that no other statement of the run has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;

use crate::frame::{
    Frame, Reader, bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, function_call,
    parse, password, query, startup, sync, take_frames, terminate,
};
use crate::model::{Do, Expect, Fails, Model, Portal, REPORTED, SETTINGS, Settings};
use crate::postgres::auth::{ScramClient, md5_answer};

static SHOWN: OnceLock<Option<u32>> = OnceLock::new();

/// Begins the text of notices that no statement has asked for.
pub const ASIDE: &str = "aside";

const PLAN_CHANGED: Expect = Expect::Error("0A000");

/// A table of one row whose columns change while clients read it.
pub const SHAPED: &str = "shaped";

/// What a client is like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub user: String,
    pub password: String,
    pub database: String,
    /// Its own table, with columns `id int, v text`, empty at the start.
    pub table: String,
    /// Units of work before it leaves; a unit is one to a few statements.
    pub units: u32,
    /// It cancels some of its statements.
    pub cancels: bool,
    /// It may leave at any point, in the middle of a message too.
    pub vanishes: bool,
    /// What it does with settings that no ParameterStatus shows.
    pub unreported: Unreported,
    /// It resets what its startup packet has set. With a pooler that resets to what the pooler's own has.
    pub resets: bool,
    /// It uses LISTEN, on a channel of its own.
    pub session_state: bool,
    /// It speaks and listens on a channel that all have.
    pub talks: bool,
    /// The server may fail: an end of the connection is no error of the proxy's.
    pub tolerant: bool,
    /// Few notifications wait for it, and what comes meanwhile is lost: its own, too.
    pub misses: bool,
    /// Its statements may be cancelled by others: at a shutdown.
    pub is_cancelled: bool,
    /// Longest pause between units.
    pub think_max: Duration,
    /// Units sent without waiting for answers.
    pub pipeline_max: u64,
    /// Rows of the largest answers.
    pub rows_max: u64,
}

/// A pooler cannot carry from server to server what no server reports: with one, a client only sets such settings, or
/// only reads them, and must find them as they are at login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreported {
    SetAndRead,
    Set,
    Read,
}

impl Plan {
    pub fn new(number: u32, units: u32) -> Plan {
        Plan {
            user: "postgres".into(),
            password: String::new(),
            database: "postgres".into(),
            table: format!("t{number}"),
            units,
            cancels: true,
            vanishes: false,
            unreported: Unreported::SetAndRead,
            resets: true,
            session_state: false,
            talks: false,
            tolerant: false,
            misses: false,
            is_cancelled: false,
            think_max: Duration::from_millis(5),
            pipeline_max: 4,
            rows_max: 300,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Running,
    /// All answers were right, and the client has left.
    Done,
    /// It left on its own, in the middle of something.
    Vanished,
    /// The server or the connection failed, and the plan allows that.
    Failed(String),
    /// A wrong answer.
    Wrong(String),
}

/// What the host has to do for the client.
#[derive(Debug, Default)]
pub struct Turn {
    pub send: Vec<u8>,
    /// Close the connection once `send` is sent.
    pub close: bool,
    /// Send a cancel request on a connection of its own; report its end with [`SimClient::cancel_done`].
    pub cancel: Option<(i32, Vec<u8>)>,
}

/// The statement with which a client reads [`SHAPED`].
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    is_prepared: bool,
    columns: Option<[u8; 2]>,
}

/// Bytes to send at once, and what they must bring.
#[derive(Debug, Default)]
struct Stage {
    send: Vec<u8>,
    expects: Vec<Expect>,
    /// Only when everything before has been answered.
    waits: bool,
    /// Pause before it.
    pause: Duration,
    /// Cancel it this long after sending.
    cancel: Option<Duration>,
    /// Nothing else ends it: ask again until it has ended.
    insists: bool,
}

enum Phase {
    Start,
    Login(Option<ScramClient>),
    Running,
    Leaving,
}

/// How long it waits before it asks again.
const INSISTING: Duration = Duration::from_millis(5);

pub struct SimClient {
    pub number: u32,
    plan: Plan,
    rng: SeededRng,
    phase: Phase,
    verdict: Verdict,
    received: Vec<u8>,
    stages: VecDeque<Stage>,
    expects: VecDeque<Expect>,
    model: Model,
    /// What ParameterStatus has said last.
    told: BTreeMap<String, String>,
    /// What it has prepared of the table that changes, and the columns that it was told of.
    reader: Reading,
    key: (i32, Vec<u8>),
    units_left: u32,
    unit: u32,
    next_send: Time,
    cancel_at: Time,
    /// It asks for the cancel again and again.
    insists: bool,
    /// A cancel request is under way.
    cancelling: bool,
    /// A cancel was asked for: 57014 is a right answer.
    cancelled: bool,
    vanish_at: Option<u32>,
    /// What it has heard last on the channel that all have, by sender; none if it does not listen there.
    heard: Option<BTreeMap<u32, u64>>,
    /// An UNLISTEN is under way.
    ends_listening: bool,
    /// How often it has spoken there.
    said: u64,
    pub answers: u64,
    /// The last messages received, for reports.
    recent: VecDeque<String>,
}

impl SimClient {
    pub fn new(number: u32, seed: u64, plan: Plan) -> SimClient {
        let mut rng = SeededRng::new(seed ^ (u64::from(number) << 32) ^ 0x434c);
        let defaults: Settings = [
            ("application_name", format!("c{number}")),
            ("TimeZone", "UTC".to_string()),
            ("DateStyle", "ISO, MDY".to_string()),
            ("statement_timeout", "0".to_string()),
        ]
        .into();
        let vanish_at = plan.vanishes.then(|| rng.below(u64::from(plan.units) + 1) as u32);
        SimClient {
            number,
            units_left: plan.units,
            plan,
            rng,
            phase: Phase::Start,
            verdict: Verdict::Running,
            received: Vec::new(),
            stages: VecDeque::new(),
            expects: VecDeque::new(),
            model: Model::new(defaults),
            told: BTreeMap::new(),
            reader: Reading::default(),
            key: (0, Vec::new()),
            unit: 0,
            next_send: Time::ZERO,
            cancel_at: Time::NEVER,
            insists: false,
            cancelling: false,
            cancelled: false,
            vanish_at,
            heard: None,
            ends_listening: false,
            said: 0,
            answers: 0,
            recent: VecDeque::new(),
        }
    }

    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    pub fn is_over(&self) -> bool {
        self.verdict != Verdict::Running
    }

    /// When [`SimClient::step`] has something to do without new bytes.
    pub fn next_time(&self) -> Time {
        if self.is_over() {
            return Time::NEVER;
        }
        let send = match (&self.phase, self.stages.front()) {
            (Phase::Start, _) => Time::ZERO,
            (Phase::Running, Some(stage)) if !stage.waits || self.is_answered() => self.next_send,
            (Phase::Running, None) if self.is_answered() => self.next_send,
            _ => Time::NEVER,
        };
        send.min(self.cancel_at)
    }

    /// Everything sent has been answered, and no cancel is under way.
    fn is_answered(&self) -> bool {
        self.expects.is_empty() && !self.cancelling && self.cancel_at == Time::NEVER
    }

    /// What it is waiting for, for reports.
    pub fn waiting_for(&self) -> String {
        let recent: Vec<_> = self.recent.iter().cloned().collect();
        format!(
            "client {} in unit {}: {} expected, first {:?}; last received: {}",
            self.number,
            self.unit,
            self.expects.len(),
            self.expects.front(),
            recent.join(" | ")
        )
    }

    pub fn cancel_done(&mut self) {
        self.cancelling = false;
    }

    /// The connection has ended. `why` is for the report.
    pub fn on_closed(&mut self, why: &str) {
        if self.is_over() {
            return;
        }
        if matches!(self.phase, Phase::Leaving) && self.expects.is_empty() {
            self.verdict = Verdict::Done;
        } else if self.plan.tolerant {
            self.verdict = Verdict::Failed(why.to_string());
        } else {
            self.wrong(format!("the connection ended: {why}"));
        }
    }

    pub fn wrong(&mut self, why: String) {
        if !self.is_over() {
            self.verdict = Verdict::Wrong(format!("{why}\n  {}", self.waiting_for()));
        }
    }

    /// Takes what has arrived and says what to do. Call it again when it says something.
    pub fn step(&mut self, now: Time, bytes: &[u8]) -> Turn {
        let mut turn = Turn::default();
        self.received.extend(bytes);
        let frames = take_frames(&mut self.received);
        match frames {
            Ok(frames) => {
                for frame in frames {
                    if self.is_over() {
                        break;
                    }
                    self.frame(&frame, &mut turn.send);
                }
            }
            Err(why) => self.wrong(why),
        }
        if self.is_over() {
            turn.close = true;
            return turn;
        }
        if self.cancel_at <= now {
            self.cancel_at = Time::NEVER;
            if !self.expects.is_empty() {
                self.cancelling = true;
                turn.cancel = Some(self.key.clone());
            }
        }
        self.insists &= !self.expects.is_empty();
        if self.insists && !self.cancelling && self.cancel_at == Time::NEVER {
            self.cancel_at = now + INSISTING;
        }
        match self.phase {
            Phase::Start => {
                let name = format!("c{}", self.number);
                let parameters = [
                    ("user", &*self.plan.user),
                    ("database", &self.plan.database),
                    ("application_name", &name),
                ];
                turn.send.extend(startup(3, 0, &parameters));
                self.phase = Phase::Login(None);
            }
            Phase::Running => self.go_on(now, &mut turn),
            _ => {}
        }
        turn
    }

    /// Sends the next stages, and makes new ones.
    fn go_on(&mut self, now: Time, turn: &mut Turn) {
        loop {
            if self.stages.is_empty() {
                if self.units_left == 0 {
                    if self.is_answered() {
                        turn.send.extend(terminate());
                        self.phase = Phase::Leaving;
                    }
                    return;
                }
                if !self.is_answered() {
                    return;
                }
                let count = 1 + self.rng.below(self.plan.pipeline_max);
                for _ in 0..count.min(u64::from(self.units_left)) {
                    if !self.make_unit() {
                        break;
                    }
                }
                continue;
            }
            let Some(stage) = self.stages.front() else { return };
            if (stage.waits || self.insists) && !self.is_answered() {
                return;
            }
            if !stage.pause.is_zero() {
                self.next_send = now + stage.pause;
                if let Some(stage) = self.stages.front_mut() {
                    stage.pause = Duration::ZERO;
                }
            }
            if now < self.next_send {
                return;
            }
            let Some(stage) = self.stages.pop_front() else { return };
            if let Some(after) = stage.cancel {
                self.cancel_at = now + after;
                self.cancelled = true;
                self.insists = stage.insists;
            }
            if self.vanish_at == Some(self.unit) {
                let part = self.rng.below(stage.send.len() as u64 + 1) as usize;
                turn.send.extend(&stage.send[..part]);
                turn.close = true;
                self.verdict = Verdict::Vanished;
                return;
            }
            self.tell(|| format!("> {}", String::from_utf8_lossy(&stage.send).replace('\0', "~")));
            turn.send.extend(stage.send);
            self.expects.extend(stage.expects);
        }
    }

    // ---------------------------------------------------------------------------------------- checks

    fn frame(&mut self, frame: &Frame, send: &mut Vec<u8>) {
        self.answers += 1;
        self.tell(|| format!("< {}", frame.print()));
        if self.recent.len() == 12 {
            self.recent.pop_front();
        }
        self.recent.push_back(frame.print().chars().take(120).collect());
        if let Phase::Login(_) = self.phase {
            self.login(frame, send);
            return;
        }
        match frame.tag {
            b'S' => self.note_parameter(frame),
            b'N' if frame.field(b'M').is_some_and(|text| text.starts_with(ASIDE)) => {}
            b'A' if self.hears(frame) => {}
            // Some were lost: it begins anew.
            b'N' if self.heard.is_some() && frame.field(b'C').as_deref() == Some("01000") => {
                self.heard = Some(BTreeMap::new());
            }
            b'A' if !self.model.listening => self.wrong("a notification without LISTEN".into()),
            _ => self.check(frame),
        }
    }

    /// `SIM_CLIENT=7` shows what client 7 sends and gets.
    fn tell(&self, line: impl FnOnce() -> String) {
        if SHOWN.get_or_init(|| std::env::var("SIM_CLIENT").ok()?.parse().ok()) == &Some(self.number) {
            println!("{}", line());
        }
    }

    fn note_parameter(&mut self, frame: &Frame) {
        let mut reader = Reader(&frame.body);
        match (reader.text(), reader.text()) {
            (Ok(name), Ok(value)) => {
                self.told.insert(name, value);
            }
            _ => self.wrong("a malformed ParameterStatus".into()),
        }
    }

    fn login(&mut self, frame: &Frame, send: &mut Vec<u8>) {
        let mut reader = Reader(&frame.body);
        match frame.tag {
            b'R' => {
                let code = reader.i32().unwrap_or(-1);
                let plan = &self.plan;
                match code {
                    0 | 12 => {}
                    3 => send.extend(password(&[plan.password.as_bytes(), b"\0"].concat())),
                    5 => {
                        let answer = md5_answer(&plan.user, &plan.password, reader.0);
                        send.extend(password(&[answer.as_bytes(), b"\0"].concat()));
                    }
                    10 => {
                        let nonce = format!("{:016x}", self.rng.next_u64());
                        let (client, first) = ScramClient::start(&self.plan.password, &nonce);
                        send.extend(password(&first));
                        self.phase = Phase::Login(Some(client));
                    }
                    11 => {
                        let challenge = String::from_utf8_lossy(reader.0).into_owned();
                        let proof = match &self.phase {
                            Phase::Login(Some(client)) => client.proof(&challenge),
                            _ => None,
                        };
                        match proof {
                            Some(proof) => send.extend(password(&proof)),
                            None => self.wrong("a SCRAM challenge out of order".into()),
                        }
                    }
                    other => self.wrong(format!("authentication {other}")),
                }
            }
            b'S' => self.note_parameter(frame),
            b'K' => self.key = (reader.i32().unwrap_or(0), reader.0.to_vec()),
            b'Z' => {
                self.phase = Phase::Running;
                if let Expect::Ready { told, .. } = self.model.ready() {
                    self.check_told(&told);
                }
            }
            b'N' => {}
            b'E' if self.plan.tolerant => {
                self.verdict = Verdict::Failed(frame.print());
            }
            _ => self.wrong(format!("at login: {}", frame.print())),
        }
    }

    /// At ReadyForQuery the client knows every reported setting.
    fn check_told(&mut self, values: &[String]) {
        for (name, value) in REPORTED.iter().zip(values) {
            if self.told.get(*name) != Some(value) {
                let told = self.told.get(*name).cloned();
                self.wrong(format!("{name} is {value:?}, the client was told {told:?}"));
            }
        }
    }

    fn check(&mut self, frame: &Frame) {
        let is_cancel = self.plan.is_cancelled && frame.field(b'C').as_deref() == Some("57014");
        if frame.tag == b'E' && self.plan.tolerant && (is_cancel || is_failure(frame)) {
            self.verdict = Verdict::Failed(frame.print());
            return;
        }
        let Some(mut expected) = self.expects.pop_front() else {
            // A notice may come at any time, and says nothing.
            if frame.tag != b'N' {
                self.wrong(format!("out of the blue: {}", frame.print()));
            }
            return;
        };
        while let Expect::Either(usual, other) = expected {
            let takes_other = other.first().is_some_and(|first| matches(first, frame).is_ok());
            let mut chosen = if takes_other { other } else { usual };
            if takes_other {
                if chosen.first() == Some(&PLAN_CHANGED) {
                    // Outside of transactions: there is nothing to undo.
                    self.reader.columns = None;
                } else {
                    self.model.fail();
                }
                // The status behind a cancelled statement follows from the model.
                for expect in &mut chosen {
                    if let Expect::Ready { .. } = expect {
                        *expect = self.model.ready();
                    }
                }
            }
            for expect in chosen.into_iter().rev() {
                self.expects.push_front(expect);
            }
            expected = match self.expects.pop_front() {
                Some(first) => first,
                None => return,
            };
        }
        if let Expect::Shape(tag) = expected {
            let columns = frame.body.first_chunk().copied();
            let told = *self.reader.columns.get_or_insert(columns.unwrap_or_default());
            if frame.tag != tag || columns != Some(told) {
                self.wrong(format!("told of {told:?} columns, got {}", frame.print()));
            }
            return;
        }
        if let Err(why) = matches(&expected, frame) {
            self.wrong(format!("expected {expected:?}, got {} ({why})", frame.print()));
            return;
        }
        if let Expect::Ready { told, .. } = &expected {
            self.check_told(told);
        }
    }

    // ----------------------------------------------------------------------------------------- units

    fn id(&mut self) -> String {
        format!("c{}u{}n{}", self.number, self.unit, self.rng.below(1_000_000))
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len() as u64) as usize]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    fn statement(&mut self) -> Do {
        let id = self.id();
        let (name, values) = self.pick(&SETTINGS);
        let (reported, reported_values) = self.pick(&SETTINGS[..REPORTED.len()]);
        let read = if self.plan.unreported == Unreported::Set { reported } else { name };
        let (name, values) = match self.plan.unreported {
            Unreported::Read => (reported, reported_values),
            _ => (name, values),
        };
        match self.rng.below(100) {
            0..26 => Do::Row(id),
            26..28 => Do::Call("ext_echo", id),
            28..30 => Do::Call("own_echo", id),
            30..42 => Do::Rows(id, 1 + self.rng.below(20) as i64),
            42..46 => Do::Rows(id, 1 + self.rng.below(self.plan.rows_max) as i64),
            46..49 => Do::Wide(id, 1 + self.rng.below(5) as i64, self.rng.below(20_000) as usize),
            49..51 => Do::Nothing,
            51..55 => Do::Divide,
            55..57 => Do::Missing,
            57..60 => Do::Notice(id),
            60..70 => {
                let local = self.model.status == b'T' && self.chance(40);
                Do::Set { name, value: self.pick(values), local }
            }
            70..73 if !self.plan.resets && name == "application_name" => Do::Row(id),
            70..73 => Do::Reset(name),
            73..80 => Do::Show(read),
            80..85 => Do::Current(read, id),
            85..93 => Do::Insert(id),
            _ => Do::Count(id),
        }
    }

    /// Makes one unit; `false` if the next one may only be made when this one is answered.
    fn make_unit(&mut self) -> bool {
        self.unit += 1;
        self.units_left -= 1;
        if std::mem::take(&mut self.ends_listening) {
            self.heard = None;
            self.model.listening = false;
        }
        let first = self.stages.len();
        let mut goes_on = true;
        match self.rng.below(100) {
            _ if self.units_left == 0 && self.model.status != b'I' => self.transaction(),
            10..32 if self.plan.talks && self.model.status == b'I' => goes_on = self.talk(),
            0..25 => self.simple(1),
            25..32 => {
                let count = 2 + self.rng.below(3);
                self.simple(count);
            }
            32..57 => self.batch(),
            57..62 if self.model.status == b'I' => {
                self.read_shaped();
                goes_on = false;
            }
            57..62 => self.batch(),
            62..80 => self.transaction(),
            80..85 => self.portal(),
            85..90 => {
                self.copy_in();
                goes_on = false;
            }
            90..93 => self.copy_out(),
            93..95 => self.function(),
            95..97 if self.plan.cancels => {
                self.cancelled_sleep();
                goes_on = false;
            }
            97..99 if self.plan.session_state => self.notify(),
            _ => self.simple(1),
        }
        let pause = Duration::from_micros(self.rng.below(self.plan.think_max.as_micros() as u64 + 1));
        if let Some(stage) = self.stages.get_mut(first) {
            stage.pause = pause;
        }
        goes_on
    }

    fn stage(&mut self, send: Vec<u8>, expects: Vec<Expect>) {
        self.stages.push_back(Stage { send, expects, ..Stage::default() });
    }

    fn waiting_stage(&mut self, send: Vec<u8>, expects: Vec<Expect>) {
        self.stages.push_back(Stage { send, expects, waits: true, ..Stage::default() });
    }

    /// A query of `count` statements: more than one make a transaction.
    fn simple(&mut self, count: u64) {
        let mut texts = Vec::new();
        let mut expects = Vec::new();
        let mut failed = None;
        let explicit = self.model.status != b'I';
        if !explicit {
            self.model.start();
        }
        for _ in 0..count {
            let mut statement = self.statement();
            if count > 1 && matches!(statement, Do::Nothing) {
                statement = Do::Row(self.id());
            }
            texts.push(statement.sql(&self.plan.table));
            if failed.is_some() {
                continue;
            }
            if self.model.status == b'E' && !matches!(statement, Do::Nothing) {
                failed = Some("25P02");
            } else if let Some(Fails::AtParse(code) | Fails::AtBind(code)) = statement.fails() {
                failed = Some(code);
            } else {
                expects.extend(statement.columns().map(Expect::Columns));
                expects.extend(self.model.run(&statement));
            }
        }
        match failed {
            Some(code) => {
                expects.push(Expect::Error(code));
                self.model.fail();
            }
            None if !explicit => drop(self.model.commit()),
            None => {}
        }
        expects.push(self.model.ready());
        self.stage(query(&texts.join("; ")), expects);
    }

    /// Parse, Bind, Describe, Execute of some statements, and a Sync.
    fn batch(&mut self) {
        let mut send = Vec::new();
        let mut expects = Vec::new();
        let explicit = self.model.status != b'I';
        if !explicit {
            self.model.start();
        }
        let mut failed = false;
        for _ in 0..1 + self.rng.below(3) {
            let answer = self.batch_item(&mut send);
            if !failed {
                failed = matches!(answer.last(), Some(Expect::Error(_)));
                self.apply_names(&answer);
                expects.extend(answer.into_iter().filter(|e| !matches!(e, Expect::Either(..))));
            }
            if failed {
                break;
            }
        }
        if failed {
            if self.chance(50) {
                // What is skipped has no effect and no answer.
                let id = self.id();
                send.extend(parse("skipped", &format!("select '{id}'"), &[]));
                send.extend(bind("", "skipped", &[], &[]));
                send.extend(execute("", 0));
            }
            self.model.fail();
        } else if !explicit {
            self.model.commit();
        }
        let ready = self.model.ready();
        if !failed && self.chance(15) {
            send.extend(flush());
            self.stage(send, expects);
            self.waiting_stage(sync(), vec![ready]);
            return;
        }
        send.extend(sync());
        expects.push(ready);
        self.stage(send, expects);
    }

    /// Nothing to do: names are noted when the messages are made.
    fn apply_names(&mut self, _answer: &[Expect]) {}

    /// One statement of a batch; an answer that ends with an error is the last.
    fn batch_item(&mut self, send: &mut Vec<u8>) -> Vec<Expect> {
        let aborted = self.model.status == b'E';
        match self.rng.below(100) {
            0..35 => self.named(send, aborted),
            35..40 => {
                let name = format!("s{}", self.rng.below(4));
                self.model.statements.remove(&name);
                send.extend(close(b'S', &name));
                vec![Expect::Tag(b'3')]
            }
            40..42 if !aborted => {
                send.extend(bind("", "never_made", &[], &[]));
                vec![Expect::Error("26000")]
            }
            _ => self.unnamed(send, aborted),
        }
    }

    fn unnamed(&mut self, send: &mut Vec<u8>, aborted: bool) -> Vec<Expect> {
        let statement = self.statement();
        let text = statement.sql(&self.plan.table);
        send.extend(parse("", &text, &[]));
        send.extend(bind("", "", &[], &[]));
        let described = self.chance(50);
        if described {
            send.extend(describe(b'P', ""));
        }
        send.extend(execute("", 0));
        let empty = matches!(statement, Do::Nothing);
        if aborted && !empty {
            return vec![Expect::Error("25P02")];
        }
        if aborted {
            // An empty statement may be parsed, but not bound.
            return vec![Expect::Tag(b'1'), Expect::Error("25P02")];
        }
        match statement.fails() {
            Some(Fails::AtParse(code)) => return vec![Expect::Error(code)],
            Some(Fails::AtBind(code)) => return vec![Expect::Tag(b'1'), Expect::Error(code)],
            None => {}
        }
        let mut expects = vec![Expect::Tag(b'1'), Expect::Tag(b'2')];
        if described {
            expects.push(statement.columns().map_or(Expect::Tag(b'n'), Expect::Columns));
        }
        expects.extend(self.model.run(&statement));
        expects
    }

    /// A prepared statement with a parameter: made, or used again, or made twice.
    fn named(&mut self, send: &mut Vec<u8>, aborted: bool) -> Vec<Expect> {
        let name = format!("s{}", self.rng.below(4));
        let mut expects = Vec::new();
        let known = self.model.statements.get(&name).cloned();
        let again = known.is_some() && self.chance(5);
        let id = match known.clone() {
            Some(id) if !again => id,
            _ => self.id(),
        };
        if known.is_none() || again {
            send.extend(parse(&name, &format!("select '{id}', $1::text"), &[]));
            if aborted {
                expects.push(Expect::Error("25P02"));
            } else if again {
                expects.push(Expect::Error("42P05"));
            } else {
                self.model.statements.insert(name.clone(), id.clone());
                expects.push(Expect::Tag(b'1'));
            }
        }
        let value = self.id();
        let described = self.chance(30);
        if described {
            send.extend(describe(b'S', &name));
        }
        send.extend(bind("", &name, &[Some(&value)], &[]));
        send.extend(execute("", 0));
        if matches!(expects.last(), Some(Expect::Error(_))) {
            return expects;
        }
        if aborted {
            expects.push(Expect::Error("25P02"));
            return expects;
        }
        if described {
            expects.push(Expect::Tag(b't'));
            expects.push(Expect::Columns(vec!["?column?".into(), "text".into()]));
        }
        expects.push(Expect::Tag(b'2'));
        expects.push(Expect::Row(vec![Some(id), Some(value)]));
        expects.push(Expect::Complete("SELECT 1".into()));
        expects
    }

    /// Reads the table that changes, by a statement that it prepared once: rows as it was told of, or the error.
    fn read_shaped(&mut self) {
        if !self.reader.is_prepared {
            self.reader = Reading { is_prepared: true, columns: None };
            let text = format!("select * from {SHAPED}");
            self.waiting_stage(
                [parse("shape", &text, &[]), sync()].concat(),
                vec![Expect::Tag(b'1'), self.model.ready()],
            );
        }
        for _ in 0..1 + self.rng.below(3) {
            let (send, mut expects) = match self.chance(30) {
                true => (describe(b'S', "shape"), vec![Expect::Tag(b't'), Expect::Shape(b'T')]),
                false => (
                    [bind("", "shape", &[], &[]), execute("", 0)].concat(),
                    vec![Expect::Tag(b'2'), Expect::Shape(b'D'), Expect::Complete("SELECT 1".into())],
                ),
            };
            expects.push(self.model.ready());
            let refused = vec![PLAN_CHANGED, self.model.ready()];
            self.waiting_stage([send, sync()].concat(), vec![Expect::Either(expects, refused)]);
        }
        if self.chance(20) {
            self.reader.is_prepared = false;
            let send = [close(b'S', "shape"), sync()].concat();
            self.waiting_stage(send, vec![Expect::Tag(b'3'), self.model.ready()]);
        }
    }

    fn transaction(&mut self) {
        let (text, tag) = match (self.model.status, self.rng.below(10)) {
            (b'I', _) => {
                self.model.begin();
                ("begin", "BEGIN")
            }
            (b'T', 0..3) if self.model.portal.is_none() && self.units_left > 0 => {
                self.model.savepoint();
                ("savepoint a", "SAVEPOINT")
            }
            (_, 0..5) if self.model.has_savepoint() && self.units_left > 0 => {
                self.model.rollback_to();
                ("rollback to a", "ROLLBACK")
            }
            (_, 0..7) => ("commit", self.model.commit()),
            _ => ("rollback", self.model.rollback()),
        };
        let ready = self.model.ready();
        if self.chance(30) {
            let send = [parse("", text, &[]), bind("", "", &[], &[]), execute("", 0), sync()].concat();
            self.stage(send, vec![Expect::Tag(b'1'), Expect::Tag(b'2'), Expect::Complete(tag.into()), ready]);
        } else {
            self.stage(query(text), vec![Expect::Complete(tag.into()), ready]);
        }
    }

    /// A portal fetched in parts: in one batch, or in a transaction over several.
    fn portal(&mut self) {
        if self.model.status == b'E' {
            return self.simple(1);
        }
        let mut send = Vec::new();
        let mut expects = Vec::new();
        let in_transaction = self.model.status == b'T' && !self.model.has_savepoint();
        let mut portal = match self.model.portal.clone() {
            Some(portal) => portal,
            None => {
                let portal = Portal { id: self.id(), next: 1, last: self.rng.below(12) as i64 };
                let text = format!("select '{}', g from generate_series(1,{}) g", portal.id, portal.last);
                send.extend(parse("", &text, &[]));
                send.extend(bind("p", "", &[], &[]));
                expects.extend([Expect::Tag(b'1'), Expect::Tag(b'2')]);
                portal
            }
        };
        for _ in 0..1 + self.rng.below(3) {
            let limit = 1 + self.rng.below(5) as i64;
            send.extend(execute("p", limit as i32));
            let count = limit.min(portal.last - portal.next + 1);
            for g in portal.next..portal.next + count {
                expects.push(Expect::Row(vec![Some(portal.id.clone()), Some(g.to_string())]));
            }
            portal.next += count;
            expects.push(match count < limit {
                true => Expect::Complete(format!("SELECT {count}")),
                false => Expect::Tag(b's'),
            });
        }
        if in_transaction && self.chance(70) {
            self.model.portal = Some(portal);
        } else {
            send.extend(close(b'P', "p"));
            expects.push(Expect::Tag(b'3'));
            self.model.portal = None;
        }
        send.extend(sync());
        expects.push(self.model.ready());
        self.stage(send, expects);
    }

    fn copy_in(&mut self) {
        let text = format!("copy {} from stdin", self.plan.table);
        let extended = self.chance(40);
        let early_sync = self.chance(50);
        let mut send = if extended {
            [parse("", &text, &[]), bind("", "", &[], &[]), execute("", 0)].concat()
        } else {
            query(&text)
        };
        if self.model.status == b'E' {
            if extended {
                send.extend(sync());
            }
            self.stage(send, vec![Expect::Error("25P02"), self.model.ready()]);
            return;
        }
        if extended && early_sync {
            // The COPY eats it.
            send.extend(sync());
        }
        let mut expects = if extended { vec![Expect::Tag(b'1'), Expect::Tag(b'2')] } else { Vec::new() };
        expects.push(Expect::Tag(b'G'));
        self.stage(send, expects);

        let mut data = Vec::new();
        let rows = self.rng.below(30) as i64;
        for _ in 0..rows {
            let id = self.id();
            data.extend(format!("1\t{id}\n").bytes());
        }
        let outcome = self.rng.below(10);
        let mut send = Vec::new();
        if outcome == 0 {
            data.extend(b"not a number\tx\n1\tlate\n");
        }
        let size = 1 + self.rng.below(200) as usize;
        for piece in data.chunks(size) {
            send.extend(copy_data(piece));
        }
        send.extend(if outcome == 1 { copy_fail("no more") } else { copy_done() });
        let explicit = self.model.status == b'T';
        let answer = match outcome {
            0 | 1 => {
                if !explicit {
                    self.model.start();
                }
                self.model.fail();
                Expect::Error(if outcome == 0 { "22P02" } else { "57014" })
            }
            _ => {
                self.model.rows += rows;
                Expect::Complete(format!("COPY {rows}"))
            }
        };
        if extended {
            send.extend(sync());
        }
        let ready = self.model.ready();
        self.waiting_stage(send, vec![answer, ready]);
    }

    fn copy_out(&mut self) {
        let (id, count) = (self.id(), self.rng.below(self.plan.rows_max));
        let text = format!("copy (select g, '{id}' from generate_series(1,{count}) g) to stdout");
        let mut expects = Vec::new();
        if self.model.status == b'E' {
            expects.push(Expect::Error("25P02"));
        } else {
            expects.push(Expect::Tag(b'H'));
            expects.extend((1..=count).map(|g| Expect::CopyLine(format!("{g}\t{id}\n"))));
            expects.push(Expect::Tag(b'c'));
            expects.push(Expect::Complete(format!("COPY {count}")));
        }
        expects.push(self.model.ready());
        self.stage(query(&text), expects);
    }

    fn function(&mut self) {
        let answer = if self.model.status == b'E' { Expect::Error("25P02") } else { Expect::Tag(b'V') };
        self.stage(function_call(177, &[Some("20"), Some("22")]), vec![answer, self.model.ready()]);
    }

    fn cancelled_sleep(&mut self) {
        if self.model.status == b'E' {
            return self.simple(1);
        }
        let id = self.id();
        let millis = 1 + self.rng.below(20);
        // Through a proxy a request may come before the statement has begun. Who may go keeps no server that long.
        let insists = self.rng.below(4) == 0 && !self.plan.tolerant && !self.plan.vanishes;
        let seconds = if insists { 100_000.0 } else { millis as f64 / 1000.0 };
        let text = format!("select pg_sleep({seconds}), '{id}'");
        let status = self.model.status;
        if status == b'I' {
            self.model.start();
        }
        let end = vec![
            Expect::Row(vec![Some(String::new()), Some(id)]),
            Expect::Complete("SELECT 1".into()),
            self.model.ready(),
        ];
        let cancelled = vec![Expect::Error("57014"), self.model.ready()];
        let columns = Expect::Columns(vec!["pg_sleep".into(), "?column?".into()]);
        let usual = vec![columns, Expect::Either(end, cancelled.clone())];
        let cancel = Some(Duration::from_micros(self.rng.below(millis * 1500)));
        self.stages.push_back(Stage {
            send: query(&text),
            expects: vec![Expect::Either(usual, cancelled)],
            waits: true,
            cancel,
            insists,
            ..Stage::default()
        });
    }

    /// LISTEN on a channel of its own, and a message to itself.
    fn notify(&mut self) {
        if self.model.status != b'I' {
            return self.simple(1);
        }
        let channel = format!("ch{}", self.number);
        if !self.model.listening {
            self.model.listening = true;
            self.stage(
                query(&format!("listen {channel}")),
                vec![Expect::Complete("LISTEN".into()), self.model.ready()],
            );
        }
        let id = self.id();
        let told = vec![Expect::Notification(channel.clone(), id.clone()), self.model.ready()];
        let expects = if self.plan.misses {
            vec![Expect::Complete("NOTIFY".into()), Expect::Either(told, vec![self.model.ready()])]
        } else {
            std::iter::once(Expect::Complete("NOTIFY".into())).chain(told).collect()
        };
        self.stage(query(&format!("notify {channel}, '{id}'")), expects);
    }
}

/// Where clients talk to each other.
const EVERYBODY: &str = "everybody";

impl SimClient {
    /// LISTEN, UNLISTEN or NOTIFY on the channel that all have; sometimes what is rolled back. False as `make_unit`.
    fn talk(&mut self) -> bool {
        let complete =
            |tags: &[&str]| tags.iter().map(|tag| Expect::Complete(tag.to_string())).collect::<Vec<_>>();
        let id = format!("{}:{}", self.number, self.said + 1);
        let (text, tags, ends) = match self.rng.below(8) {
            0 => (format!("listen {EVERYBODY}"), &["LISTEN"][..], false),
            1 => (format!("begin; listen {EVERYBODY}; commit"), &["BEGIN", "LISTEN", "COMMIT"][..], false),
            2 => (
                format!("begin; notify {EVERYBODY}, '{id}'; rollback"),
                &["BEGIN", "NOTIFY", "ROLLBACK"][..],
                true,
            ),
            3 => ("begin; unlisten *; rollback".into(), &["BEGIN", "UNLISTEN", "ROLLBACK"][..], true),
            4 if self.heard.is_some() => {
                self.ends_listening = true;
                self.waiting_stage(
                    query("unlisten *"),
                    vec![Expect::Complete("UNLISTEN".into()), self.model.ready()],
                );
                return false;
            }
            _ => {
                self.said += 1;
                (format!("notify {EVERYBODY}, '{id}'"), &["NOTIFY"][..], true)
            }
        };
        if !ends && self.heard.is_none() {
            self.heard = Some(BTreeMap::new());
        }
        let mut expects = complete(tags);
        expects.push(self.model.ready());
        self.stage(query(&text), expects);
        true
    }

    /// Whether this is a notification of the channel that all have: from each sender each comes once, in order.
    fn hears(&mut self, frame: &Frame) -> bool {
        let mut reader = Reader(&frame.body);
        let (_, channel, payload) = (reader.i32(), reader.text(), reader.text());
        let Some(heard) = self.heard.as_mut().filter(|_| channel.as_deref() == Ok(EVERYBODY)) else {
            return false;
        };
        let said = payload.ok().and_then(|payload| {
            let (sender, number) = payload.split_once(':')?;
            Some((sender.parse::<u32>().ok()?, number.parse::<u64>().ok()?))
        });
        let Some((sender, number)) = said else {
            self.wrong(format!("a notification that nobody sent: {}", frame.print()));
            return true;
        };
        let last = heard.insert(sender, number);
        // What is not committed is not said, and a failure may be to blame for that.
        let follows = |last| if self.plan.tolerant { number > last } else { number == last + 1 };
        if !last.is_none_or(follows) {
            self.wrong(format!("{sender} said {last:?}, then {number}: {}", frame.print()));
        }
        true
    }
}

/// An error that tells of a failed server or connection, not of the statement.
fn is_failure(frame: &Frame) -> bool {
    let code = frame.field(b'C').unwrap_or_default();
    if frame.field(b'V').as_deref() == Some("FATAL") && matches!(&*code, "57014" | "25P03" | "54000") {
        return true;
    }
    code.starts_with("57P") || code.starts_with("08") || code.starts_with("53") || code.starts_with("58")
}

fn matches(expected: &Expect, frame: &Frame) -> Result<(), String> {
    let tag = |tag: u8| if frame.tag == tag { Ok(()) } else { Err(format!("tag {:?}", frame.tag as char)) };
    let same = |equal: bool| if equal { Ok(()) } else { Err("contents".to_string()) };
    match expected {
        Expect::Tag(wanted) => tag(*wanted),
        Expect::Shape(wanted) => tag(*wanted),
        Expect::Row(values) => {
            tag(b'D')?;
            same(frame.row()? == *values)
        }
        Expect::Columns(names) => {
            tag(b'T')?;
            let mut reader = Reader(&frame.body);
            let mut found = Vec::new();
            for _ in 0..reader.i16()? {
                found.push(reader.text()?);
                reader.take(18)?;
            }
            same(found == *names && reader.0.is_empty())
        }
        Expect::Complete(text) => {
            tag(b'C')?;
            same(frame.tag_text()? == *text)
        }
        Expect::Ready { status, .. } => {
            tag(b'Z')?;
            same(frame.body == [*status])
        }
        Expect::Error(code) => {
            tag(b'E')?;
            same(frame.field(b'C').as_deref() == Some(*code))
        }
        Expect::Notice(text) => {
            tag(b'N')?;
            same(frame.field(b'M').as_ref() == Some(text))
        }
        Expect::Notification(channel, payload) => {
            tag(b'A')?;
            let mut reader = Reader(&frame.body);
            reader.i32()?;
            same(reader.text()? == *channel && reader.text()? == *payload)
        }
        Expect::CopyLine(line) => {
            tag(b'd')?;
            same(frame.body == line.as_bytes())
        }
        Expect::Either(usual, other) => {
            let first = |list: &[Expect]| list.first().map_or(Ok(()), |expect| matches(expect, frame));
            first(other).or_else(|_| first(usual))
        }
    }
}
