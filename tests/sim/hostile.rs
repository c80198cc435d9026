//! Clients that do what no client may: half-sent messages, garbage, pipelines that are never read.

use pgdog::base::rng::{Rng, SeededRng};

use crate::frame::{bind, body, copy_data, execute, parse, query, startup};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Connects and says nothing.
    Mute,
    /// Half of a startup packet, then nothing.
    HalfStartup,
    /// A startup packet that announces more than is allowed.
    HugeStartup,
    /// Random bytes from the first one on.
    NoiseFirst,
    /// Random bytes after the login.
    Noise,
    /// Half of a message, then nothing.
    HalfMessage,
    /// The same with a message that is held until it is whole.
    HalfLarge,
    /// A message that announces a gigabyte.
    HugeMessage,
    /// Parse after Parse, never a Sync, nothing read.
    EndlessParse,
    /// The same with other names each.
    EndlessNames,
    /// Large answers asked for again and again, nothing read.
    NeverReads,
    /// CopyData without a COPY.
    CopyFlood,
    /// One very large Bind.
    LargeBind,
}

pub const HARMS: [Harm; 12] = [
    Harm::Mute,
    Harm::HalfStartup,
    Harm::HugeStartup,
    Harm::NoiseFirst,
    Harm::Noise,
    Harm::HalfMessage,
    Harm::HugeMessage,
    Harm::EndlessParse,
    Harm::EndlessNames,
    Harm::NeverReads,
    Harm::CopyFlood,
    Harm::LargeBind,
];

pub struct Hostile {
    pub harm: Harm,
    rng: SeededRng,
    user: String,
    database: String,
    started: bool,
    count: u64,
    /// Bytes it may still send.
    pub budget: usize,
}

impl Hostile {
    pub fn new(harm: Harm, seed: u64, user: &str, database: &str, budget: usize) -> Hostile {
        Hostile {
            harm,
            rng: SeededRng::new(seed ^ 0x4841),
            user: user.into(),
            database: database.into(),
            started: false,
            count: 0,
            budget,
        }
    }

    /// Whether the host should read from its socket. It never looks at what comes.
    pub fn reads(&self) -> bool {
        matches!(self.harm, Harm::Noise | Harm::CopyFlood | Harm::HugeMessage | Harm::HalfMessage)
    }

    /// What to send next; empty when it has no more to say. It does not wait for the login.
    pub fn send(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.budget == 0 {
            return out;
        }
        if !self.started {
            self.started = true;
            let packet = startup(3, 0, &[("user", &self.user), ("database", &self.database)]);
            match self.harm {
                Harm::Mute => self.budget = 0,
                Harm::HalfStartup => {
                    let part = 1 + self.rng.below(packet.len() as u64 - 1) as usize;
                    out.extend(&packet[..part]);
                    self.budget = out.len();
                }
                Harm::HugeStartup => out.extend([0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
                Harm::NoiseFirst => {}
                _ => out.extend(packet),
            }
        } else {
            self.count += 1;
            let count = self.count;
            out = match self.harm {
                Harm::Noise | Harm::NoiseFirst => {
                    let mut bytes = vec![0; 1 + self.rng.below(300) as usize];
                    self.rng.fill(&mut bytes);
                    bytes
                }
                Harm::HugeStartup => vec![b'x'; 1000],
                Harm::HalfMessage if count == 1 => {
                    let message = query("select 'half of a message'");
                    let part = 1 + self.rng.below(message.len() as u64 - 1) as usize;
                    message[..part].to_vec()
                }
                Harm::HalfLarge if count == 1 => {
                    let message = parse("", &"l".repeat(60_000), &[]);
                    message[..message.len() - 1].to_vec()
                }
                Harm::HugeMessage if count == 1 => [b"Q".as_slice(), &[0x3f, 0xff, 0xff, 0xff]].concat(),
                Harm::HugeMessage => vec![b' '; 4000],
                Harm::EndlessParse => parse("", "select 'never answered'", &[]),
                Harm::EndlessNames => parse(&format!("name_{count}"), &format!("select {count}"), &[]),
                Harm::NeverReads => query("select repeat('n', 1000) from generate_series(1,1000)"),
                Harm::CopyFlood => copy_data(&[b'f'; 2000]),
                Harm::LargeBind if count == 1 => parse("", "select $1::text", &[]),
                Harm::LargeBind => {
                    let large = "b".repeat(200_000);
                    [bind("", "", &[Some(&large)], &[]), execute("", 0), body().tagged(b'S')].concat()
                }
                _ => Vec::new(),
            };
        }
        out.truncate(self.budget);
        self.budget -= out.len();
        out
    }
}
