//! What calls of functions do to a session, by their names.
//!
//! A name is not a function: users may make functions of the same name as PostgreSQL's own, and with closer argument types
//! theirs is called.

mod builtin;
#[cfg(test)]
mod tests;

use crate::sql::effects::Effects;
use crate::sql::word::RESTRICTED;

/// The effects of a call by a name in lower case, qualified by pg_catalog or not at all. None: PostgreSQL has no such
/// function.
pub fn find(name: &[u8]) -> Option<Effects> {
    // They set what the next command of pg_upgrade takes; a server outside an upgrade refuses them.
    if name.starts_with(b"binary_upgrade_") {
        return Some(Effects::LASTING);
    }
    let mut at = hash(name);
    loop {
        match TABLE[at % TABLE.len()] {
            0 => return None,
            entry => {
                let (of, effects) = ENTRIES[usize::from(entry) - 1];
                if of.as_bytes() == name {
                    return Some(effects);
                }
            }
        }
        at += 1;
    }
}

/// FNV-1a, folded: a table of fixed words need not fear floods.
const fn hash(name: &[u8]) -> usize {
    let (mut hash, mut at) = (0x811c_9dc5_u32, 0);
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize
}

const LISTS: [&[&str]; 3] = [builtin::NAMES, RESTRICTED, SYNTAX];
const COUNT: usize = SPECIAL.len() + LISTS[0].len() + LISTS[1].len() + LISTS[2].len();

/// All that is known, what is special first.
static ENTRIES: [(&str, Effects); COUNT] = {
    let mut entries = [("", Effects::NONE); COUNT];
    let mut count = 0;
    while count < SPECIAL.len() {
        entries[count] = SPECIAL[count];
        count += 1;
    }
    let mut list = 0;
    while list < LISTS.len() {
        let mut at = 0;
        while at < LISTS[list].len() {
            entries[count] = (LISTS[list][at], Effects::NONE);
            count += 1;
            at += 1;
        }
        list += 1;
    }
    entries
};

/// Where in `ENTRIES` a name stands, plus one, by its hash; the first free place behind it. Of two entries with one name
/// the first is found.
static TABLE: [u16; 8192] = {
    let mut table = [0; 8192];
    let mut entry = 0;
    while entry < COUNT {
        let name = if entry < SPECIAL.len() {
            SPECIAL[entry].0
        } else if entry < SPECIAL.len() + LISTS[0].len() {
            LISTS[0][entry - SPECIAL.len()]
        } else if entry < SPECIAL.len() + LISTS[0].len() + LISTS[1].len() {
            LISTS[1][entry - SPECIAL.len() - LISTS[0].len()]
        } else {
            LISTS[2][entry - SPECIAL.len() - LISTS[0].len() - LISTS[1].len()]
        };
        let mut at = hash(name.as_bytes()) % table.len();
        while table[at] != 0 {
            at = (at + 1) % table.len();
        }
        entry += 1;
        table[at] = entry as u16;
    }
    table
};

/// The unreserved keywords that the grammar puts before a parenthesis. Others than these cannot be names of functions
/// without quotes, or are functions of PostgreSQL's own.
#[rustfmt::skip]
const SYNTAX: &[&str] = &[
    "also", "by", "cache", "columns", "conflict", "copy", "cube", "escape", "explain", "filter", "first", "groups", "identity", "include",
    "inherits", "insert", "instead", "key", "keys", "materialized", "next", "options", "over", "passing", "range",
    "recursive", "reindex", "repeatable", "reset", "restart", "return", "rollup", "rows", "set", "sets", "storage",
    "to", "vacuum", "value", "within", "zone",
];

/// Those of PostgreSQL's own functions that have effects, and such of its extensions as leave more behind than a reset
/// undoes.
///
/// Not here, though volatile: what changes the database or the whole server and nothing of the session (large
/// objects, statistics, signals, WAL), and what ends with the transaction (`pg_advisory_xact_lock`, `pg_export_snapshot`,
/// `pg_replication_origin_xact_setup`, descriptors of large objects).
#[rustfmt::skip]
const SPECIAL: &[(&str, Effects)] = &[
    ("currval", Effects::SEQUENCE_READ),
    ("cursor_to_xml", Effects::CURSOR),
    ("cursor_to_xmlschema", Effects::CURSOR),
    ("database_to_xml", Effects::UNKNOWN_FUNCTION),
    ("database_to_xml_and_xmlschema", Effects::UNKNOWN_FUNCTION),
    ("dblink_connect", Effects::LASTING),
    ("dblink_connect_u", Effects::LASTING),
    ("lastval", Effects::SEQUENCE_READ),
    ("nextval", Effects::SEQUENCE),
    ("pg_advisory_lock", Effects::SESSION_LOCK),
    ("pg_advisory_lock_shared", Effects::SESSION_LOCK),
    ("pg_advisory_unlock", Effects::SESSION_UNLOCK),
    ("pg_advisory_unlock_all", Effects::SESSION_UNLOCK),
    ("pg_advisory_unlock_shared", Effects::SESSION_UNLOCK),
    ("pg_backup_start", Effects::LASTING),
    ("pg_backup_stop", Effects::LASTING),
    ("pg_copy_logical_replication_slot", Effects::LASTING),
    ("pg_copy_physical_replication_slot", Effects::LASTING),
    ("pg_create_logical_replication_slot", Effects::LASTING),
    ("pg_create_physical_replication_slot", Effects::LASTING),
    ("pg_notify", Effects::NOTIFY),
    ("pg_replication_origin_session_reset", Effects::LASTING),
    ("pg_replication_origin_session_setup", Effects::LASTING),
    ("pg_start_backup", Effects::LASTING),
    ("pg_stop_backup", Effects::LASTING),
    ("pg_stop_making_pinned_objects", Effects::LASTING),
    ("pg_try_advisory_lock", Effects::SESSION_LOCK),
    ("pg_try_advisory_lock_shared", Effects::SESSION_LOCK),
    ("plpgsql_call_handler", Effects::UNKNOWN_FUNCTION),
    ("plpgsql_inline_handler", Effects::UNKNOWN_FUNCTION),
    ("query_to_xml", Effects::UNKNOWN_FUNCTION),
    ("query_to_xml_and_xmlschema", Effects::UNKNOWN_FUNCTION),
    ("query_to_xmlschema", Effects::UNKNOWN_FUNCTION),
    ("schema_to_xml", Effects::UNKNOWN_FUNCTION),
    ("schema_to_xml_and_xmlschema", Effects::UNKNOWN_FUNCTION),
    ("set_config", Effects::SETTING),
    ("setseed", Effects::SEED),
    ("setval", Effects::SEQUENCE),
    ("table_to_xml", Effects::UNKNOWN_FUNCTION),
    ("table_to_xml_and_xmlschema", Effects::UNKNOWN_FUNCTION),
    // `TREAT(x AS name)` is a call of the function of that name.
    ("treat", Effects::UNKNOWN_FUNCTION),
    ("ts_rewrite", Effects::UNKNOWN_FUNCTION),
    ("ts_stat", Effects::UNKNOWN_FUNCTION),
];
