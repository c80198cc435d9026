//! A client of the console: pauses, resumes, reconnects, reloads and looks around, one command at a time.

use std::io::ErrorKind;
use std::net::SocketAddr;

use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;

use crate::frame::{Reader, password, query, startup, take_frames, terminate};
use crate::net::{SimNet, SimSocket};
use crate::postgres::auth::{ScramClient, md5_answer};

pub const PASSWORD: &str = "root";

pub struct Operator {
    net: SimNet,
    rng: SeededRng,
    socket: Option<SimSocket>,
    scram: Option<ScramClient>,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// Commands still to be sent, with the pause before each in microseconds.
    commands: Vec<(u64, String)>,
    next: Time,
    waiting: bool,
    pub is_in: bool,
    pub answers: u64,
    pub wrong: Option<String>,
}

impl Operator {
    pub fn new(net: &SimNet, address: SocketAddr, seed: u64, commands: Vec<(u64, String)>) -> Operator {
        let unsent = startup(3, 0, &[("user", "admin"), ("database", "admin")]);
        Operator {
            net: net.clone(),
            rng: SeededRng::new(seed ^ 0x4f50),
            socket: Some(net.connect(address)),
            scram: None,
            received: Vec::new(),
            unsent,
            commands: commands.into_iter().rev().collect(),
            next: Time::NEVER,
            waiting: true,
            is_in: false,
            answers: 0,
            wrong: None,
        }
    }

    pub fn is_gone(&self) -> bool {
        self.socket.is_none()
    }

    pub fn next_time(&self) -> Time {
        if self.socket.is_some() && !self.waiting { self.next } else { Time::NEVER }
    }

    pub fn turn(&mut self) -> bool {
        let now = self.net.now();
        let mut moved = false;
        if !self.waiting && self.next <= now && self.socket.is_some() {
            match self.commands.pop() {
                Some((_, command)) => self.unsent.extend(query(&command)),
                None => self.unsent.extend(terminate()),
            }
            self.waiting = true;
            moved = true;
        }
        let Some(socket) = &mut self.socket else { return moved };
        while !self.unsent.is_empty() {
            match socket.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.unsent.clear(),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    self.received.extend(&buffer[..count]);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                _ => {
                    self.socket = None;
                    return true;
                }
            }
        }
        match take_frames(&mut self.received) {
            Ok(frames) => frames.iter().for_each(|frame| self.on_frame(frame.tag, &frame.body, frame)),
            Err(why) => self.wrong = Some(why),
        }
        moved
    }

    fn on_frame(&mut self, tag: u8, body: &[u8], frame: &crate::frame::Frame) {
        let mut reader = Reader(body);
        match tag {
            b'R' => match reader.i32().unwrap_or(-1) {
                0 | 12 => {}
                3 => self.unsent.extend(password(&[PASSWORD.as_bytes(), b"\0"].concat())),
                5 => {
                    let answer = md5_answer("admin", PASSWORD, reader.0);
                    self.unsent.extend(password(&[answer.as_bytes(), b"\0"].concat()));
                }
                10 => {
                    let nonce = format!("{:016x}", self.rng.next_u64());
                    let (scram, first) = ScramClient::start(PASSWORD, &nonce);
                    self.unsent.extend(password(&first));
                    self.scram = Some(scram);
                }
                11 => {
                    let challenge = String::from_utf8_lossy(reader.0).into_owned();
                    if let Some(proof) = self.scram.as_ref().and_then(|scram| scram.proof(&challenge)) {
                        self.unsent.extend(password(&proof));
                    }
                }
                other => self.wrong = Some(format!("authentication {other}")),
            },
            b'Z' => {
                self.is_in = true;
                self.answers += 1;
                self.waiting = false;
                let pause = self.commands.last().map_or(0, |(pause, _)| *pause);
                self.next = self.net.now() + std::time::Duration::from_micros(pause);
            }
            b'E' => self.wrong = Some(frame.print()),
            _ => {}
        }
    }
}
