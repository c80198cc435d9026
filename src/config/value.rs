//! How one value is read, from a file or as text (environment, URL, console), and how it is shown.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::secret::Secret;
use crate::base::address::Network;

/// A value before it has a type.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// From the environment, a URL or the console.
    Text(&'a str),
    /// From a file.
    Toml(&'a Spanned<DeValue<'a>>),
}

/// Why a value was not accepted. Reads as the rest of a sentence that began with the key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Byte offset in the file, where it differs from that of the key's value.
    pub(crate) offset: Option<usize>,
    pub(crate) text: String,
}

pub(crate) type Read<T> = Result<T, Vec<Fault>>;

/// A value as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    Unset,
    /// Written alike in TOML and elsewhere.
    Plain(String),
    /// Quoted in TOML.
    Text(String),
    Masked,
}

impl Shown {
    /// As the console shows it.
    pub(crate) fn text(self) -> String {
        match self {
            Shown::Unset => String::new(),
            Shown::Plain(text) | Shown::Text(text) => text,
            Shown::Masked => "***".to_owned(),
        }
    }

    /// As a file writes it; `None` for what a file leaves out.
    pub(crate) fn toml(self) -> Option<String> {
        match self {
            Shown::Unset | Shown::Masked => None,
            Shown::Plain(text) => Some(text),
            Shown::Text(text) => Some(format!("{text:?}")),
        }
    }
}

/// A type that a key can have.
pub(crate) trait Setting: Sized {
    /// All values, where they can be listed.
    const CHOICES: &'static [&'static str] = &[];

    fn read(raw: Raw<'_>) -> Read<Self>;
    fn shown(&self) -> Shown;
}

impl<'a> Raw<'a> {
    /// Refuses the value, saying what would have been accepted. The value itself is not repeated: where it is of the
    /// wrong type nobody knows what it is.
    pub(crate) fn refuse<T>(self, expected: &str) -> Read<T> {
        let found = match self {
            Raw::Text(_) => "this text",
            Raw::Toml(value) => match value.get_ref() {
                DeValue::String(_) => "a string",
                DeValue::Integer(_) => "a number",
                DeValue::Float(_) => "a fraction",
                DeValue::Boolean(_) => "true or false",
                DeValue::Datetime(_) => "a date",
                DeValue::Array(_) => "a list",
                DeValue::Table(_) => "a table",
            },
        };
        Err(vec![self.fault(format!("must be {expected}, not {found}"))])
    }

    pub(crate) fn fault(self, text: String) -> Fault {
        let offset = match self {
            Raw::Text(_) => None,
            Raw::Toml(value) => Some(value.span().start),
        };
        Fault { offset, text }
    }

    pub(crate) fn string(self) -> Read<&'a str> {
        let text = match self {
            Raw::Text(text) => text,
            Raw::Toml(value) => match value.get_ref() {
                DeValue::String(text) => text.as_ref(),
                _ => return self.refuse("a string in quotes"),
            },
        };
        // PostgreSQL's protocol ends its strings with a NUL: one inside would change the meaning of what follows.
        if text.contains('\0') {
            return Err(vec![self.fault("must not contain a NUL character".to_owned())]);
        }
        Ok(text)
    }

    fn integer(self) -> Option<i128> {
        match self {
            Raw::Text(text) => text.trim().parse().ok(),
            Raw::Toml(value) => match value.get_ref() {
                DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
                _ => None,
            },
        }
    }

    fn float(self) -> Option<f64> {
        match self {
            Raw::Text(text) => text.trim().parse().ok(),
            Raw::Toml(value) => match value.get_ref() {
                DeValue::Float(number) => number.as_str().parse().ok(),
                _ => self.integer().map(|number| number as f64),
            },
        }
    }

    pub(crate) fn table(self) -> Option<&'a DeTable<'a>> {
        match self {
            Raw::Toml(value) => value.get_ref().as_table(),
            Raw::Text(_) => None,
        }
    }
}

impl Setting for bool {
    fn read(raw: Raw<'_>) -> Read<bool> {
        match raw {
            Raw::Toml(value) => match value.get_ref().as_bool() {
                Some(value) => Ok(value),
                None => raw.refuse("true or false (without quotes)"),
            },
            Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => Ok(true),
                "false" | "0" | "off" | "no" => Ok(false),
                _ => raw.refuse("true or false"),
            },
        }
    }

    fn shown(&self) -> Shown {
        Shown::Plain(self.to_string())
    }
}

macro_rules! whole_numbers {
    ($($kind:ty),+) => { $(
        impl Setting for $kind {
            fn read(raw: Raw<'_>) -> Read<$kind> {
                // A TOML integer ends where i64 does, and the text must not promise more.
                let most = i128::try_from(<$kind>::MAX).unwrap_or(i128::MAX).min(i128::from(i64::MAX));
                let expected = format!("a whole number from {} to {most}", <$kind>::MIN);
                match raw.integer() {
                    Some(number) => <$kind>::try_from(number)
                        .map_err(|_| vec![raw.fault(format!("must be {expected}, not {number}"))]),
                    None => raw.refuse(&expected),
                }
            }

            fn shown(&self) -> Shown {
                Shown::Plain(self.to_string())
            }
        }
    )+ };
}

whole_numbers!(u8, u16, u32, u64, usize, i64);

/// Permissions of a file, written as octal digits in quotes: a TOML number would be taken for a decimal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Setting for FileMode {
    fn read(raw: Raw<'_>) -> Read<FileMode> {
        let text = raw.string()?;
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(FileMode(mode)),
            _ => raw.refuse("octal digits in quotes, up to \"0777\""),
        }
    }

    fn shown(&self) -> Shown {
        Shown::Text(format!("{:04o}", self.0))
    }
}

impl Setting for Network {
    fn read(raw: Raw<'_>) -> Read<Network> {
        match Network::parse(raw.string()?) {
            Some(network) => Ok(network),
            None => raw.refuse(
                "an address, one with the number of its first bits such as \"10.0.0.0/8\", or \"unix\"",
            ),
        }
    }

    fn shown(&self) -> Shown {
        Shown::Text(self.to_string())
    }
}

/// A number of which 0 means that there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(usize);

impl Limit {
    pub const NONE: Limit = Limit(0);

    pub fn get(self) -> Option<usize> {
        (self.0 > 0).then_some(self.0)
    }
}

impl Setting for Limit {
    fn read(raw: Raw<'_>) -> Read<Limit> {
        usize::read(raw).map(Limit)
    }

    fn shown(&self) -> Shown {
        self.0.shown()
    }
}

impl Setting for f32 {
    fn read(raw: Raw<'_>) -> Read<f32> {
        match raw.float().filter(|number| number.is_finite()) {
            Some(number) => Ok(number as f32),
            None => raw.refuse("a number"),
        }
    }

    fn shown(&self) -> Shown {
        Shown::Plain(format!("{self:?}"))
    }
}

impl Setting for String {
    fn read(raw: Raw<'_>) -> Read<String> {
        raw.string().map(str::to_owned)
    }

    fn shown(&self) -> Shown {
        Shown::Text(self.clone())
    }
}

impl Setting for Secret {
    fn read(raw: Raw<'_>) -> Read<Secret> {
        raw.string().map(Secret::new)
    }

    fn shown(&self) -> Shown {
        Shown::Masked
    }
}

impl Setting for PathBuf {
    fn read(raw: Raw<'_>) -> Read<PathBuf> {
        match raw.string()? {
            "" => Err(vec![raw.fault("must not be empty".to_owned())]),
            path => Ok(PathBuf::from(path)),
        }
    }

    fn shown(&self) -> Shown {
        Shown::Text(self.display().to_string())
    }
}

impl Setting for Ipv4Addr {
    fn read(raw: Raw<'_>) -> Read<Ipv4Addr> {
        match raw.string()?.parse() {
            Ok(address) => Ok(address),
            Err(_) => raw.refuse("an IPv4 address such as \"224.0.0.1\""),
        }
    }

    fn shown(&self) -> Shown {
        Shown::Text(self.to_string())
    }
}

/// Milliseconds.
impl Setting for Duration {
    fn read(raw: Raw<'_>) -> Read<Duration> {
        const EXPECTED: &str = "a number of milliseconds, 0 or more, without a unit";
        match raw.integer() {
            Some(number) => u64::try_from(number)
                .map(Duration::from_millis)
                .map_err(|_| vec![raw.fault(format!("must be {EXPECTED}, not {number}"))]),
            None => raw.refuse(EXPECTED),
        }
    }

    fn shown(&self) -> Shown {
        Shown::Plain(self.as_millis().to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    const CHOICES: &'static [&'static str] = T::CHOICES;

    fn read(raw: Raw<'_>) -> Read<Option<T>> {
        T::read(raw).map(Some)
    }

    fn shown(&self) -> Shown {
        self.as_ref().map_or(Shown::Unset, T::shown)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(raw: Raw<'_>) -> Read<Vec<T>> {
        let items = match raw {
            Raw::Toml(value) => match value.get_ref().as_array() {
                Some(items) => items,
                None => return raw.refuse("a list in square brackets"),
            },
            Raw::Text(text) => {
                return text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| T::read(Raw::Text(item)))
                    .collect();
            }
        };
        let mut read = Vec::with_capacity(items.len());
        let mut faults = Vec::new();
        for item in items.iter() {
            match T::read(Raw::Toml(item)) {
                Ok(item) => read.push(item),
                Err(more) => faults.extend(more.into_iter().map(|fault| Fault {
                    text: format!("(an entry of this list) {}", fault.text),
                    offset: fault.offset,
                })),
            }
        }
        if faults.is_empty() { Ok(read) } else { Err(faults) }
    }

    fn shown(&self) -> Shown {
        if self.iter().any(|item| item.shown() == Shown::Masked) {
            return Shown::Masked;
        }
        let items: Vec<String> = self.iter().filter_map(|item| item.shown().toml()).collect();
        Shown::Plain(format!("[{}]", items.join(", ")))
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn read(raw: Raw<'_>) -> Read<BTreeMap<String, T>> {
        let Some(table) = raw.table() else {
            return raw.refuse("a table such as { name = \"value\" }");
        };
        let mut read = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, value) in table.iter() {
            match T::read(Raw::Toml(value)) {
                Ok(value) => _ = read.insert(name.get_ref().to_string(), value),
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(read) } else { Err(faults) }
    }

    fn shown(&self) -> Shown {
        if self.values().any(|value| value.shown() == Shown::Masked) {
            return Shown::Masked;
        }
        let pairs: Vec<String> = self
            .iter()
            .filter_map(|(name, value)| Some(format!("{name:?} = {}", value.shown().toml()?)))
            .collect();
        Shown::Plain(if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml<T: Setting>(text: &str) -> Result<T, String> {
        let source = format!("key = {text}");
        let table = DeTable::parse(&source).map_err(|error| error.message().to_owned())?;
        let value = table.get_ref().get("key").ok_or("no key")?;
        T::read(Raw::Toml(value)).map_err(|faults| faults[0].text.clone())
    }

    fn text<T: Setting>(text: &str) -> Result<T, String> {
        T::read(Raw::Text(text)).map_err(|faults| faults[0].text.clone())
    }

    #[test]
    fn accepted() {
        assert_eq!(toml("0x10"), Ok(16_u16));
        assert_eq!(toml("1_000"), Ok(1000_usize));
        assert_eq!(toml("1"), Ok(1.0_f32));
        assert_eq!(toml("0.5"), Ok(0.5_f32));
        assert_eq!(toml("250"), Ok(Duration::from_millis(250)));
        assert_eq!(toml("[\"a\", 'b']"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(toml("{ a = \"b\" }"), Ok(BTreeMap::from([("a".to_owned(), "b".to_owned())])));
        assert_eq!(text("on"), Ok(true));
        assert_eq!(text("No"), Ok(false));
        assert_eq!(text(" 7 "), Ok(7_u64));
        assert_eq!(text("a, b"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(text("10.0.0.1"), Ok(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn refused() {
        let cases = [
            (toml::<u16>("65536").err(), "must be a whole number from 0 to 65535, not 65536"),
            (toml::<u16>("\"1\"").err(), "must be a whole number from 0 to 65535, not a string"),
            (toml::<u64>("-1").err(), "from 0 to 9223372036854775807, not -1"),
            (toml::<bool>("1").err(), "must be true or false (without quotes)"),
            (toml::<Duration>("\"5s\"").err(), "must be a number of milliseconds, 0 or more, without a unit"),
            (toml::<Duration>("1.5").err(), "not a fraction"),
            (toml::<String>("5").err(), "must be a string in quotes"),
            (toml::<String>("\"a\\u0000b\"").err(), "must not contain a NUL character"),
            (toml::<Secret>("[]").err(), "must be a string in quotes, not a list"),
            (toml::<Ipv4Addr>("\"::1\"").err(), "must be an IPv4 address"),
            (toml::<f32>("inf").err(), "must be a number"),
            (
                toml::<Vec<u8>>("[1, 300]").err(),
                "(an entry of this list) must be a whole number from 0 to 255",
            ),
            (toml::<Vec<u8>>("1").err(), "must be a list"),
            (toml::<PathBuf>("\"\"").err(), "must not be empty"),
            (text::<bool>("maybe").err(), "must be true or false, not this text"),
        ];
        for (found, expected) in cases {
            let found = found.unwrap_or_default();
            assert!(found.contains(expected), "{found:?} should contain {expected:?}");
        }
    }

    #[test]
    fn shown() {
        assert_eq!(Secret::new("x").shown().text(), "***");
        assert_eq!(vec![Secret::new("x")].shown().text(), "***");
        assert_eq!(None::<u8>.shown().text(), "");
        assert_eq!(vec!["a".to_owned()].shown().toml().as_deref(), Some("[\"a\"]"));
        assert_eq!(1.0_f32.shown().text(), "1.0");
        assert_eq!(Duration::from_secs(1).shown().text(), "1000");
    }
}
