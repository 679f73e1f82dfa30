//! A reader over a frame that owns its bytes: what is read is split off the front, so that a payload comes
//! out as its own buffer without being copied.

use bytes::{Buf, Bytes, BytesMut};
use kafka_wire_core::StrBytes;

/// Why bytes from a peer are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the frame ends inside {0}")]
    Truncated(&'static str),
    #[error("{0} has an impossible length")]
    Length(&'static str),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("the frame names more than {0} partitions")]
    TooMany(usize),
    #[error("version {0} is not served")]
    Version(i16),
}

/// Kafka's strings never exceed a signed 16-bit length, compact or not.
pub const MAX_STRING: usize = i16::MAX as usize;
/// Unknown tagged fields in one section; newer clients send a handful.
const MAX_TAGS: u32 = 1024;

pub struct Reader {
    frame: BytesMut,
}

impl Reader {
    pub fn new(frame: BytesMut) -> Self {
        Self { frame }
    }

    pub fn remaining(&self) -> usize {
        self.frame.len()
    }

    pub fn into_rest(self) -> BytesMut {
        self.frame
    }

    fn need(&self, len: usize, what: &'static str) -> Result<(), WireError> {
        if self.frame.len() < len { Err(WireError::Truncated(what)) } else { Ok(()) }
    }

    pub fn i16(&mut self, what: &'static str) -> Result<i16, WireError> {
        self.need(2, what)?;
        Ok(self.frame.get_i16())
    }

    pub fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.need(4, what)?;
        Ok(self.frame.get_i32())
    }

    pub fn uuid(&mut self, what: &'static str) -> Result<[u8; 16], WireError> {
        self.need(16, what)?;
        let mut id = [0; 16];
        self.frame.copy_to_slice(&mut id);
        Ok(id)
    }

    pub fn uvarint(&mut self, what: &'static str) -> Result<u32, WireError> {
        let mut value = 0u32;
        for (i, &byte) in self.frame.iter().take(5).enumerate() {
            if i == 4 && byte > 0x0f {
                return Err(WireError::Length(what));
            }
            value |= u32::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.frame.advance(i + 1);
                return Ok(value);
            }
        }
        if self.frame.len() < 5 { Err(WireError::Truncated(what)) } else { Err(WireError::Length(what)) }
    }

    /// The length of a nullable field: `None` for null.
    fn len32(&mut self, flexible: bool, what: &'static str) -> Result<Option<usize>, WireError> {
        if flexible {
            return Ok(self.uvarint(what)?.checked_sub(1).map(|len| len as usize));
        }
        match self.i32(what)? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| WireError::Length(what)),
        }
    }

    pub fn array_len(&mut self, flexible: bool, what: &'static str) -> Result<usize, WireError> {
        self.len32(flexible, what)?.ok_or(WireError::Length(what))
    }

    /// A nullable byte field, split off the frame.
    pub fn bytes(&mut self, flexible: bool, what: &'static str) -> Result<Option<BytesMut>, WireError> {
        let Some(len) = self.len32(flexible, what)? else { return Ok(None) };
        self.need(len, what)?;
        Ok(Some(self.frame.split_to(len)))
    }

    pub fn nullable_string(
        &mut self,
        flexible: bool,
        what: &'static str,
    ) -> Result<Option<StrBytes>, WireError> {
        let len = if flexible {
            self.uvarint(what)?.checked_sub(1).map(|len| len as usize)
        } else {
            match self.i16(what)? {
                -1 => None,
                len => Some(usize::try_from(len).map_err(|_| WireError::Length(what))?),
            }
        };
        let Some(len) = len else { return Ok(None) };
        if len > MAX_STRING {
            return Err(WireError::Length(what));
        }
        self.need(len, what)?;
        let bytes = if len == 0 { Bytes::new() } else { self.frame.split_to(len).freeze() };
        StrBytes::try_from(bytes).map(Some).map_err(|_| WireError::NotUtf8(what))
    }

    pub fn string(&mut self, flexible: bool, what: &'static str) -> Result<StrBytes, WireError> {
        self.nullable_string(flexible, what)?.ok_or(WireError::Length(what))
    }

    pub fn skip_tags(&mut self, what: &'static str) -> Result<(), WireError> {
        let count = self.uvarint(what)?;
        if count > MAX_TAGS {
            return Err(WireError::Length(what));
        }
        for _ in 0..count {
            self.uvarint(what)?;
            let len = self.uvarint(what)? as usize;
            self.need(len, what)?;
            self.frame.advance(len);
        }
        Ok(())
    }
}
