//! Which functions a statement calls, by PostgreSQL's own parse tree of it.
//!
//! The tree's types can be serialized, so a serializer that keeps only what it looks for sees every node there is. Nothing is
//! missed because somebody forgot a kind of node.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// The name that a call has in the text, without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub schema: Option<Box<str>>,
    pub name: Box<str>,
}

/// Every call below a node.
pub fn calls(node: &impl Serialize) -> Vec<Name> {
    let mut walk = Walk::default();
    // It has no way to fail.
    let _ = node.serialize(&mut walk);
    walk.calls
}

#[derive(Default)]
struct Walk {
    calls: Vec<Name>,
    /// Every text that comes, while somebody gathers them.
    words: Option<Vec<Box<str>>>,
}

/// A node whose fields are being walked over.
struct Fields<'w> {
    walk: &'w mut Walk,
    node: &'static str,
}

#[derive(Debug)]
struct Never;

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: fmt::Display>(_: T) -> Never {
        Never
    }
}

impl Walk {
    fn words(&mut self, of: &(impl Serialize + ?Sized)) -> Result<Vec<Box<str>>, Never> {
        let outer = self.words.replace(Vec::new());
        let done = of.serialize(&mut *self);
        let words = std::mem::replace(&mut self.words, outer).unwrap_or_default();
        done.map(|()| words)
    }
}

impl ser::SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Never;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
        match (self.node, key) {
            ("FuncCall", "funcname") => {}
            // What looks like a call there is refused before anything runs: modifiers are constants.
            ("TypeName", "typmods") => return Ok(()),
            _ => return value.serialize(&mut *self.walk),
        }
        let mut words = self.walk.words(value)?;
        if let Some(name) = words.pop() {
            self.walk.calls.push(Name { schema: words.pop(), name });
        }
        Ok(())
    }

    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl<'w> Serializer for &'w mut Walk {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'w>;
    type SerializeStructVariant = Fields<'w>;

    fn serialize_struct(self, node: &'static str, _: usize) -> Result<Fields<'w>, Never> {
        Ok(Fields { walk: self, node })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        node: &'static str,
        len: usize,
    ) -> Result<Fields<'w>, Never> {
        self.serialize_struct(node, len)
    }

    fn serialize_str(self, text: &str) -> Result<(), Never> {
        if let Some(words) = &mut self.words {
            words.push(text.into());
        }
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Never> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_bool(self, _: bool) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_i8(self, _: i8) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_i16(self, _: i16) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_i32(self, _: i32) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_i64(self, _: i64) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_u8(self, _: u8) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_u16(self, _: u16) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_u32(self, _: u32) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_u64(self, _: u64) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_f64(self, _: f64) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_char(self, _: char) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Never> {
        Ok(())
    }
}

/// The kinds of sequences, which differ in nothing here.
macro_rules! elements {
    ($($kind:ident $method:ident),*) => {$(
        impl ser::$kind for &mut Walk {
            type Ok = ();
            type Error = Never;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Never> {
                Ok(())
            }
        }
    )*};
}

elements!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

impl ser::SerializeMap for &mut Walk {
    type Ok = ();
    type Error = Never;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Fields<'_> {
    type Ok = ();
    type Error = Never;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
        ser::SerializeStruct::serialize_field(self, key, value)
    }

    fn end(self) -> Result<(), Never> {
        ser::SerializeStruct::end(self)
    }
}
