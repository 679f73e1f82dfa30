//! How values are written in the metadata log: integers as varints, lists and texts behind their length. What is read back
//! is bounded by the bytes there are.

use crate::model::TopicId;
use crate::security::quota::{Entity, Name};

use super::owner::Owner;

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed")]
pub struct Malformed;

pub trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A count of things of which each takes a byte at least.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(u64::take(self)?).map_err(|_| Malformed)?;
        if count <= self.0.len() { Ok(count) } else { Err(Malformed) }
    }
}

impl Field for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = from.bytes(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

impl Field for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        ((self << 1) ^ (self >> 63)).cast_unsigned().put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let value = u64::take(from)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

macro_rules! narrow {
    ($($narrow:ty as $wide:ty),*) => {$(
        impl Field for $narrow {
            fn put(&self, out: &mut Vec<u8>) {
                <$wide>::from(*self).put(out);
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                <$narrow>::try_from(<$wide>::take(from)?).map_err(|_| Malformed)
            }
        }
    )*};
}

narrow!(u8 as u64, u16 as u64, u32 as u64, i16 as i64, i32 as i64);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.bytes(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

impl Field for [u8; 16] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.bytes(16)?.try_into().map_err(|_| Malformed)
    }
}

impl Field for TopicId {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Field::take(from).map(Self)
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let len = from.count()?;
        std::str::from_utf8(from.bytes(len)?).map(str::to_owned).map_err(|_| Malformed)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if bool::take(from)? { T::take(from).map(Some) } else { Ok(None) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = from.count()?;
        // What they take in memory is not known from their bytes: the list grows as they come.
        let mut items = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(T::take(from)?);
        }
        Ok(items)
    }
}

/// Implements [`Field`] for a struct: its fields in this order.
macro_rules! fields {
    ($name:ident { $($field:ident),* }) => {
        impl $crate::metadata::codec::Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $( self.$field.put(out); )*
            }

            fn take(
                from: &mut $crate::metadata::codec::Reader<'_>,
            ) -> Result<Self, $crate::metadata::codec::Malformed> {
                Ok(Self { $( $field: $crate::metadata::codec::Field::take(from)? ),* })
            }
        }
    };
}
pub(super) use fields;

fields!(Entity { user, client_id });

impl Field for Name {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Name::Default => out.push(0),
            Name::Named(name) => {
                out.push(1);
                name.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if bool::take(from)? { String::take(from).map(Name::Named) } else { Ok(Name::Default) }
    }
}

impl Field for Owner {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Owner::Topic(id) => {
                out.push(0);
                id.put(out);
            }
            Owner::Broker(id) => {
                out.push(1);
                id.put(out);
            }
            Owner::EveryBroker => out.push(2),
            Owner::Group(name) => {
                out.push(3);
                name.put(out);
            }
            Owner::ClientMetrics(name) => {
                out.push(4);
                name.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.bytes(1)?[0] {
            0 => Owner::Topic(Field::take(from)?),
            1 => Owner::Broker(Field::take(from)?),
            2 => Owner::EveryBroker,
            3 => Owner::Group(Field::take(from)?),
            4 => Owner::ClientMetrics(Field::take(from)?),
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back<T: Field + PartialEq + std::fmt::Debug>(value: T) {
        let mut bytes = Vec::new();
        value.put(&mut bytes);
        let mut reader = Reader(&bytes);
        assert_eq!(T::take(&mut reader), Ok(value));
        assert!(reader.is_empty());
        for cut in 0..bytes.len() {
            assert_eq!(T::take(&mut Reader(&bytes[..cut])), Err(Malformed), "cut at {cut}");
        }
    }

    #[test]
    fn what_was_put_is_taken_back_whole_or_not_at_all() {
        [0, 1, 127, 128, 300, u64::MAX].into_iter().for_each(back);
        [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX].into_iter().for_each(back);
        [i32::MIN, -1, 0, i32::MAX].into_iter().for_each(back);
        back(vec![Some(String::from("a")), None, Some("ä".into())]);
        back(Entity { user: Some(Name::Named("u".into())), client_id: Some(Name::Default) });
        back(TopicId([7; 16]));
        for owner in
            [Owner::Broker(-3), Owner::EveryBroker, Owner::Group("g".into()), Owner::Topic(TopicId([1; 16]))]
        {
            back(owner);
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let mut huge = Vec::new();
        u64::MAX.put(&mut huge);
        assert_eq!(String::take(&mut Reader(&huge)), Err(Malformed));
        assert_eq!(Vec::<u8>::take(&mut Reader(&huge)), Err(Malformed));
        assert_eq!(u64::take(&mut Reader(&[0xff; 10])), Err(Malformed));
        assert_eq!(u8::take(&mut Reader(&[0x80, 2])), Err(Malformed), "256");
    }
}
