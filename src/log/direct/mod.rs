//! Direct writes: batches that go to their segment first and to the journal only by a short entry, the *placement*.
//!
//! A partition whose appends outrun the journal's disk would write everything twice. Its batches are *promised* an lsn
//! instead ([`promised`]); lanes write and sync its segment ([`lanes`]), and the placement (`formats::placement`) that
//! then goes into the journal makes them durable.

pub mod lanes;
pub mod promised;
