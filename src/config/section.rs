//! One list per section of the files, from which everything else about it follows.
//!
//! A key would otherwise have to be written six times (field, default, reading, showing, documentation, comparison)
//! and the six would drift apart; this is the one place where a macro is worth its price.

use super::problem::nearest;
use super::value::{Fault, Raw, Read, Shown};

/// What is known about one key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) alias: &'static [&'static str],
    pub(crate) doc: &'static [&'static str],
    /// All values, where they can be listed.
    pub(crate) choices: &'static [&'static str],
}

/// A table of a file.
pub(crate) trait Section {
    fn about(&self) -> &'static [&'static str];

    fn keys(&self) -> &'static [Key];

    /// Sets one key, by its name or alias.
    fn set(&mut self, key: &str, raw: Raw<'_>) -> Read<()>;

    /// One key as it is shown; `Unset` for unknown keys.
    fn shown(&self, key: &str) -> Shown;

    /// The keys that differ from their default.
    fn non_default(&self) -> Vec<&'static str>;

    /// The keys that differ from those of `other`.
    fn differing(&self, other: &Self) -> Vec<&'static str>
    where
        Self: Sized;

    /// The name under which a key is listed, if it is one.
    fn canonical(&self, key: &str) -> Option<&'static str> {
        self.keys()
            .iter()
            .find(|known| known.name == key || known.alias.contains(&key))
            .map(|known| known.name)
    }
}

/// The refusal of a key that the section does not have.
pub(crate) fn unknown_key(keys: &[Key]) -> impl Fn(&str) -> Vec<Fault> {
    |key| {
        let text = match nearest(key, keys.iter().map(|known| known.name)) {
            Some(near) => format!("is not a known key; did you mean `{near}`?"),
            None => "is not a known key".to_owned(),
        };
        vec![Fault { offset: None, text }]
    }
}

/// Declares a section: `"group" { /// sentence  key ("alias"): Type = default; … }`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $($group:literal {
                $($(#[doc = $doc:literal])+ $key:ident $(($alias:literal))? : $kind:ty = $default:expr;)+
            })+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($($(#[doc = $doc])+ pub $key: $kind,)+)+
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($($key: $default,)+)+ }
            }
        }

        impl $crate::config::section::Section for $name {
            fn about(&self) -> &'static [&'static str] {
                &[$($about),+]
            }

            fn keys(&self) -> &'static [$crate::config::section::Key] {
                const KEYS: &[$crate::config::section::Key] = &[$($($crate::config::section::Key {
                    group: $group,
                    name: stringify!($key),
                    alias: &[$($alias)?],
                    doc: &[$($doc),+],
                    choices: <$kind as $crate::config::value::Setting>::CHOICES,
                },)+)+];
                KEYS
            }

            fn set(
                &mut self,
                key: &str,
                raw: $crate::config::value::Raw<'_>,
            ) -> $crate::config::value::Read<()> {
                match key {
                    $($(stringify!($key) $(| $alias)? => {
                        self.$key = $crate::config::value::Setting::read(raw)?;
                    })+)+
                    _ => return Err($crate::config::section::unknown_key(self.keys())(key)),
                }
                Ok(())
            }

            fn shown(&self, key: &str) -> $crate::config::value::Shown {
                match key {
                    $($(stringify!($key) => $crate::config::value::Setting::shown(&self.$key),)+)+
                    _ => $crate::config::value::Shown::Unset,
                }
            }

            fn non_default(&self) -> Vec<&'static str> {
                self.differing(&$name::default())
            }

            fn differing(&self, other: &$name) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $($(if self.$key != other.$key {
                    keys.push(stringify!($key));
                })+)+
                keys
            }
        }
    };
}
pub(crate) use section;

/// Lets a section be the value of a key: a table inside a list.
macro_rules! nested_section {
    ($name:ident) => {
        impl $crate::config::value::Setting for $name {
            fn read(raw: $crate::config::value::Raw<'_>) -> $crate::config::value::Read<$name> {
                $crate::config::section::read_nested(raw)
            }

            fn shown(&self) -> $crate::config::value::Shown {
                $crate::config::section::show_nested(self)
            }
        }
    };
}
pub(crate) use nested_section;

pub(crate) fn read_nested<S: Section + Default>(raw: Raw<'_>) -> Read<S> {
    let Some(table) = raw.table() else {
        return raw.refuse("a table such as { key = value }");
    };
    let mut section = S::default();
    let mut faults = Vec::new();
    for (key, value) in table.iter() {
        if let Err(more) = section.set(key.get_ref(), Raw::Toml(value)) {
            faults.extend(more.into_iter().map(|fault| Fault {
                offset: fault.offset.or(Some(key.span().start)),
                text: format!("`{}` {}", key.get_ref(), fault.text),
            }));
        }
    }
    if faults.is_empty() { Ok(section) } else { Err(faults) }
}

pub(crate) fn show_nested(section: &dyn Section) -> Shown {
    let pairs: Vec<String> = section
        .keys()
        .iter()
        .filter_map(|key| Some(format!("{} = {}", key.name, section.shown(key.name).toml()?)))
        .collect();
    Shown::Plain(format!("{{ {} }}", pairs.join(", ")))
}

/// Declares the values that an enumerated key can have.
macro_rules! choice {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident {
            $($(#[doc = $doc:literal])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $doc])* $variant,)+
        }

        impl $name {
            /// As it is written in the files.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }
        }

        impl $crate::config::value::Setting for $name {
            const CHOICES: &'static [&'static str] = &[$($text),+];

            fn read(raw: $crate::config::value::Raw<'_>) -> $crate::config::value::Read<$name> {
                match raw.string()? {
                    $($text => Ok($name::$variant),)+
                    other => Err(vec![$crate::config::section::unknown_value(raw, other, Self::CHOICES)]),
                }
            }

            fn shown(&self) -> $crate::config::value::Shown {
                $crate::config::value::Shown::Text(self.as_str().to_owned())
            }
        }
    };
}
pub(crate) use choice;

pub(crate) fn unknown_value(raw: Raw<'_>, found: &str, allowed: &[&str]) -> Fault {
    let found: String = found.chars().take(64).collect();
    raw.fault(format!("must be one of {}, not {found:?}", allowed.join(", ")))
}
