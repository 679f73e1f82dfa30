//! The frame of small files beside segments.

/// Bytes of the frame in front of the body.
const FRAME: usize = 16;

/// One kind of file: `magic, 8 bytes | version u32 | crc u32 of the body | body`, little-endian.
pub struct Framed {
    pub magic: &'static [u8; 8],
    pub version: u32,
}

impl Framed {
    pub fn encode(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(FRAME + body.len());
        out.extend_from_slice(self.magic);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
        out.extend_from_slice(body);
        out
    }

    /// The checksum of the body in what [`encode`](Self::encode) made.
    pub fn crc(bytes: &[u8]) -> u32 {
        crc32fast::hash(&bytes[FRAME..])
    }

    /// The body and its checksum, which holds.
    pub fn decode<'a>(&self, bytes: &'a [u8]) -> Result<(&'a [u8], u32), Unsound> {
        let (frame, body) = bytes.split_first_chunk::<FRAME>().ok_or(Unsound::Damaged)?;
        let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        if &frame[..8] != self.magic || crc32fast::hash(body) != word(12) {
            return Err(Unsound::Damaged);
        }
        if word(8) == self.version { Ok((body, word(12))) } else { Err(Unsound::Version(word(8))) }
    }
}

/// Why a file cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// Cut short, another kind of file, or the checksum does not hold.
    Damaged,
    /// Whole, and of this version.
    Version(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_returns_and_every_changed_byte_is_noticed() {
        let framed = Framed { magic: b"WEIRTEST", version: 3 };
        let bytes = framed.encode(b"body");
        assert_eq!(&bytes[..12], b"WEIRTEST\x03\0\0\0");
        assert_eq!(framed.decode(&bytes), Ok((&b"body"[..], Framed::crc(&bytes))));
        for at in (0..bytes.len()).filter(|at| !(8..12).contains(at)) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(framed.decode(&bad), Err(Unsound::Damaged), "byte {at}");
            assert_eq!(framed.decode(&bytes[..at]), Err(Unsound::Damaged), "cut at {at}");
        }
        let newer = Framed { magic: b"WEIRTEST", version: 4 }.encode(b"body");
        assert_eq!(framed.decode(&newer), Err(Unsound::Version(4)));
    }
}
