//! What a shard has on disk beside batches and the journal's own frames: encoded and decoded here, read and written elsewhere.
//!
//! ```text
//! checkpoint    one shard's partitions and their files, kept twice        listed: one partition's files
//! placement, cut    bodies of journal entries: segments written directly, segments that a truncation left
//! ```
//! Bodies are bincode of the types here, so their fields' order and types are the format. [`Framed`] is the frame of
//! the small files beside segments.

pub mod checkpoint;
pub mod cut;
mod framed;
mod listed;
pub mod placement;

use serde::Serialize;

pub use framed::{Framed, Unsound};
pub use listed::PartitionCheckpoint;

/// Decodes a body; fails on trailing bytes.
pub fn read_body<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match bincode::serde::decode_from_slice(body, bincode::config::standard()) {
        Ok((whole, used)) if used == body.len() => Ok(whole),
        Ok(_) => Err("has bytes to spare".into()),
        Err(e) => Err(format!("cannot be decoded: {e}")),
    }
}

/// Encodes a body.
pub fn write_body(body: &impl Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(body, bincode::config::standard()).expect("memory is writable")
}

/// Encodes a body behind one byte, its version.
pub fn write_versioned(version: u8, body: &impl Serialize) -> Vec<u8> {
    let mut out = vec![version];
    bincode::serde::encode_into_std_write(body, &mut out, bincode::config::standard())
        .expect("memory is writable");
    out
}

/// Decodes what [`write_versioned`] wrote; fails on another version.
pub fn read_versioned<T: serde::de::DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, String> {
    let (its, body) = bytes.split_first().ok_or("it is empty")?;
    if *its != version {
        return Err(format!("its version is {its}, not {version}"));
    }
    read_body(body).map_err(|what| format!("it {what}"))
}
