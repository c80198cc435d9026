//! A worker and where it is in its turn: production code, run one step at a time.

use std::collections::{BTreeMap, VecDeque};

use pgdog::base::rng::Rng;
use pgdog::base::time::Time;
use pgdog::cluster::pool::Ticket;
use pgdog::io::net::Event;
use pgdog::worker::Worker;
use pgdog::worker::mail::Mail;

use super::bug::SimBug;
use super::wire::{Line, Shared, WorkerNet};
use crate::net::{PollId, SimNet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asleep,
    Mail,
    Letters,
    Events,
    Serving,
    Timers,
    End,
}

pub struct Driver {
    pub worker: Worker<WorkerNet>,
    net: SimNet,
    poll: PollId,
    shared: Shared,
    stage: Stage,
    letters: VecDeque<Mail<Line>>,
    events: VecDeque<Event>,
    left: usize,
    last_grant: Option<Ticket>,
    /// It says now and then that it works this part of its time, or less.
    busy_percent: u64,
    /// It does not run before that.
    pub held_until: Time,
    /// How often in a row it has served something and nothing came of it.
    pub idle_serves: u32,
    /// Races that only the letters show.
    pub marks: BTreeMap<&'static str, u64>,
}

impl Driver {
    pub fn new(
        worker: Worker<WorkerNet>,
        net: &SimNet,
        poll: PollId,
        shared: &Shared,
        busy_percent: u64,
    ) -> Driver {
        Driver {
            worker,
            net: net.clone(),
            poll,
            shared: shared.clone(),
            stage: Stage::Asleep,
            letters: VecDeque::new(),
            events: VecDeque::new(),
            left: 0,
            last_grant: None,
            busy_percent,
            held_until: Time::ZERO,
            idle_serves: 0,
            marks: BTreeMap::new(),
        }
    }

    /// It sleeps until something wakes it, as the thread of a worker does.
    pub fn is_asleep(&self) -> bool {
        self.stage == Stage::Asleep
            && !self.net.has_events(self.poll)
            && self.worker.wait_until() > self.net.now()
    }

    pub fn describe(&self) -> String {
        let Driver { stage, left, worker, .. } = self;
        let (ready, until) = (worker.ready_count(), worker.wait_until());
        let what = worker.describe_ready();
        format!(
            "{stage:?}, {left} left, {ready} ready {what:?}, asleep until {until:?}, now {:?}",
            self.net.now()
        )
    }

    /// When it wakes by itself.
    pub fn next_time(&self) -> Time {
        self.worker.wait_until()
    }

    pub fn step(&mut self, rng: &mut dyn Rng) {
        match self.stage {
            Stage::Asleep => {
                let (events, _) = self.net.poll(self.poll, 1 + rng.below(32) as usize);
                for event in events {
                    let event = self.event(event);
                    self.events.push_back(event);
                }
                self.worker.begin_turn();
                self.stage = Stage::Mail;
            }
            Stage::Mail => {
                self.worker.take_mail(&mut self.letters);
                self.stage = Stage::Letters;
            }
            Stage::Letters => match self.letters.pop_front() {
                Some(letter) => {
                    if let Some(letter) = self.letter(letter) {
                        self.worker.on_mail(letter);
                    }
                }
                None => self.stage = Stage::Events,
            },
            Stage::Events => match self.events.pop_front() {
                Some(event) => self.worker.on_event(event),
                None => {
                    self.left = self.worker.ready_count();
                    self.stage = Stage::Serving;
                }
            },
            Stage::Serving if self.left > 0 => {
                self.left -= 1;
                let before = self.net.trace_hash();
                self.worker.serve_next();
                self.idle_serves = if self.net.trace_hash() == before { self.idle_serves + 1 } else { 0 };
            }
            Stage::Serving => self.stage = Stage::Timers,
            Stage::Timers => {
                self.worker.run_timers();
                self.stage = Stage::End;
            }
            Stage::End => {
                self.worker.end_turn();
                if self.busy_percent > 0 && rng.below(16) == 0 {
                    self.worker.tell_busy(rng.below(self.busy_percent) as u32);
                }
                self.stage = Stage::Asleep;
            }
        }
    }

    fn event(&self, event: crate::net::Event) -> Event {
        let closing = event.read_closed || event.write_closed || event.error;
        let dropped = event.readable && self.shared.lock().has(SimBug::DroppedClose);
        Event {
            token: event.token,
            readable: event.readable,
            writable: event.writable,
            closing: closing && !dropped,
        }
    }

    fn letter(&mut self, letter: Mail<Line>) -> Option<Mail<Line>> {
        match letter {
            Mail::Grant { mut ticket, server } => {
                if server.pool.lock().state.is_retired() {
                    *self.marks.entry("a pool is replaced while a server travels").or_default() += 1;
                }
                let other = self.last_grant.replace(ticket).filter(|other| other.session != ticket.session);
                if let Some(other) = other
                    && self.shared.lock().has(SimBug::SwappedGrant)
                {
                    ticket.session = other.session;
                }
                Some(Mail::Grant { ticket, server })
            }
            Mail::Forget { .. } if self.shared.lock().has(SimBug::LostLetter) => None,
            Mail::Left { .. } if self.shared.lock().has(SimBug::KeptPlace) => None,
            letter => Some(letter),
        }
    }
}
