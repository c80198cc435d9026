//! Words: keywords and identifiers without quotes.

/// A word in lower case, at most as long as PostgreSQL's names are. Only ASCII: no keyword and no function of PostgreSQL's
/// own has other letters.
#[derive(Clone, Copy, Debug)]
pub struct Folded {
    bytes: [u8; Folded::BYTES_MAX],
    len: u8,
}

impl Folded {
    pub const BYTES_MAX: usize = 63;

    pub fn of(text: &[u8]) -> Option<Folded> {
        let mut bytes = [0; Folded::BYTES_MAX];
        let into = bytes.get_mut(..text.len())?;
        let mut all = 0;
        for (into, &byte) in into.iter_mut().zip(text) {
            *into = byte.to_ascii_lowercase();
            all |= byte;
        }
        all.is_ascii().then_some(Folded { bytes, len: text.len() as u8 })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Whether a word is this one, given in lower case.
pub fn is_word(text: &[u8], word: &str) -> bool {
    text.eq_ignore_ascii_case(word.as_bytes())
}

/// Whether PostgreSQL writes a name without quotes (`quote_identifier`).
pub fn is_plain_identifier(name: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_';
    name.first().is_some_and(plain)
        && name.iter().all(|byte| plain(byte) || byte.is_ascii_digit())
        && !is_restricted(name)
}

/// Whether it is a keyword that is not free for every use as a name, in lower case.
pub fn is_restricted(word: &[u8]) -> bool {
    RESTRICTED.binary_search_by(|keyword| keyword.as_bytes().cmp(word)).is_ok()
}

/// The keywords that `pg_get_keywords()` of PostgreSQL 14 to 18 calls other than unreserved.
#[rustfmt::skip]
pub const RESTRICTED: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization",
    "between", "bigint", "binary", "bit", "boolean", "both", "case", "cast", "char", "character", "check",
    "coalesce", "collate", "collation", "column", "concurrently", "constraint", "create", "cross",
    "current_catalog", "current_date", "current_role", "current_schema", "current_time",
    "current_timestamp", "current_user", "dec", "decimal", "default", "deferrable", "desc", "distinct",
    "do", "else", "end", "except", "exists", "extract", "false", "fetch", "float", "for", "foreign",
    "freeze", "from", "full", "grant", "greatest", "group", "grouping", "having", "ilike", "in",
    "initially", "inner", "inout", "int", "integer", "intersect", "interval", "into", "is", "isnull",
    "join", "json", "json_array", "json_arrayagg", "json_exists", "json_object", "json_objectagg",
    "json_query", "json_scalar", "json_serialize", "json_table", "json_value", "lateral", "leading",
    "least", "left", "like", "limit", "localtime", "localtimestamp", "merge_action", "national", "natural",
    "nchar", "none", "normalize", "not", "notnull", "null", "nullif", "numeric", "offset", "on", "only",
    "or", "order", "out", "outer", "overlaps", "overlay", "placing", "position", "precision", "primary",
    "real", "references", "returning", "right", "row", "select", "session_user", "setof", "similar",
    "smallint", "some", "substring", "symmetric", "system_user", "table", "tablesample", "then", "time",
    "timestamp", "to", "trailing", "treat", "trim", "true", "union", "unique", "user", "using", "values",
    "varchar", "variadic", "verbose", "when", "where", "window", "with", "xmlattributes", "xmlconcat",
    "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot",
    "xmlserialize", "xmltable",
];
