//! What is remembered of a prepared statement's text.

use crate::base::limits::GATE_BYTES_MAX;
use crate::sql::command::Command;
use crate::sql::effects::Effects;
use crate::sql::{Reading, statements};

/// What a text does, so that it need not be read again each time it is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub effects: Effects,
    /// The effects are not all there is to know.
    pub looks_again: bool,
}

impl Outline {
    /// Of a text that nobody can look at.
    pub const UNKNOWN: Outline = Outline { effects: Effects::UNREADABLE, looks_again: false };

    pub fn of(text: &[u8], reading: Reading<'_>) -> Outline {
        const DETAILED: Effects =
            Effects::SETTING.union(Effects::DISCARD).union(Effects::PREPARED).union(Effects::EXECUTE);
        let mut statements = statements(text, reading);
        let mut outline = statements.by_ref().fold(Outline::default(), |all, statement| Outline {
            effects: all.effects | statement.effects,
            looks_again: all.looks_again
                || statement.effects.any(DETAILED)
                || matches!(statement.command, Command::Drop | Command::CreateAs)
                || is_definition(statement.text),
        });
        // How it is read may be about to change.
        outline.looks_again |= statements.setting_matters();
        outline
    }

    /// Of a text that without being taken apart can be seen to have no effects, however it is read: one statement that
    /// begins with SELECT, UPDATE or DELETE, and has no parenthesis, nowhere `into` or `pg_s` (the rule of pg_settings), and
    /// nothing that could write those in another way. Most short statements are so. None of all others.
    pub fn of_plain(text: &[u8]) -> Option<Outline> {
        let text = text.trim_ascii();
        let text = text.strip_suffix(b";").unwrap_or(text);
        let verb = text.first_chunk::<7>()?.map(|byte| byte.to_ascii_lowercase());
        if !matches!(&verb, b"select " | b"update " | b"delete ") || text.len() > GATE_BYTES_MAX {
            return None;
        }
        // In blocks, which the compiler looks at as a whole. Behind the end of the text lies space.
        for at in (0..text.len()).step_by(PLAIN_BLOCK) {
            let is_telling = match text[at..].first_chunk() {
                Some(block) => is_telling(block),
                None => {
                    let mut last = [b' '; PLAIN_BLOCK + 3];
                    last[..text.len() - at].copy_from_slice(&text[at..]);
                    is_telling(&last)
                }
            };
            if is_telling {
                return None;
            }
        }
        Some(Outline::default())
    }
}

/// Bytes of which [`is_telling`] looks at each one and the three behind it.
const PLAIN_BLOCK: usize = 32;

/// Whether bytes that make a statement more than plain begin in the first [`PLAIN_BLOCK`] ones. Without branches.
fn is_telling(bytes: &[u8; PLAIN_BLOCK + 3]) -> bool {
    let mut found = [false; PLAIN_BLOCK];
    for (at, found) in found.iter_mut().enumerate() {
        let [a, b, c, d] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let alone = (a == b'(') | (a == b';') | (a == b'&') | (a == b'\\') | (a >= 0x80);
        let [e, f, g, h] = [a | 0x20, b | 0x20, c | 0x20, d | 0x20];
        let into = (e == b'i') & (f == b'n') & (g == b't') & (h == b'o');
        let settings = (e == b'p') & (f == b'g') & (c == b'_') & (h == b's');
        *found = alone | into | settings;
    }
    found.contains(&true)
}

/// Whether a statement is a CREATE: with pg_temp in search_path, what it makes may be temporary.
pub fn is_create(text: &[u8]) -> bool {
    begins(text, b"create")
}

/// Whether a statement may make a function, or make one anew. Some that cannot are among them.
pub fn is_definition(text: &[u8]) -> bool {
    is_create(text) || begins(text, b"alter")
}

fn begins(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_statements_have_nothing_that_tells_anywhere() {
        for length in 0..100 {
            let plain = |tail: &str| format!("SELECT {}{tail}", "x".repeat(length));
            assert_eq!(
                Outline::of_plain(plain("").as_bytes()),
                (length > 0).then(Outline::default),
                "{length}"
            );
            assert_eq!(
                Outline::of_plain(plain(" int pg_catalog in to;\n").as_bytes()),
                Some(Outline::default())
            );
            for telling in ["(", ";;", "; x", "&", "\\", "é", " into", "INTO t", " Pg_Settings"] {
                assert_eq!(Outline::of_plain(plain(telling).as_bytes()), None, "{length} {telling:?}");
            }
        }
        for other in ["", ";", "select", "insert into t values", "selects x", "/**/ select x", "begin"] {
            assert_eq!(Outline::of_plain(other.as_bytes()), None, "{other:?}");
        }
        for plain in ["update t set a = 1", "DELETE FROM t", " \n select 1 ; "] {
            assert_eq!(Outline::of_plain(plain.as_bytes()), Some(Outline::default()), "{plain:?}");
        }
    }
}
