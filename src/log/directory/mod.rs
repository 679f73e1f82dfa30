//! Whether a data directory's parts belong together: metadata, journals, topics' directories, of one directory and one time.
//!
//! [`holdings`] reads what is there, [`belongs`] judges it, [`objection`] says in words what does not fit and what helps.
//! [`Topics`] is the metadata's side. Only a start and tools come here.

pub mod belongs;
pub mod holdings;
mod objection;
mod topics;

pub use belongs::Holdings;
pub use holdings::holdings;
pub use objection::Objection;
pub use topics::Topics;
