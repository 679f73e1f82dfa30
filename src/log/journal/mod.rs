//! Reading and writing a shard's journal.
mod format;
mod gather;
mod scan;
#[cfg(test)]
mod tests;
