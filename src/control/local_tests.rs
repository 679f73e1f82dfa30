use std::sync::Arc;

use super::*;
use crate::metadata::Image;
use crate::metadata::quorum::Commit;
use crate::metadata::records::Record;
use crate::rt::fault::{self, Fault, Op};

fn ids(next: i64) -> Vec<Record> {
    vec![Record::ProducerIds { next }]
}

/// Decides changes one on another, from what is committed on.
struct Decides(Arc<Image>);

impl Decides {
    fn ids(&mut self, next: i64) -> Decided {
        let records = ids(next);
        self.0 = Arc::new(self.0.with(&records).unwrap().0);
        Decided { records, image: self.0.clone() }
    }
}

/// The quorum of a directory, who decides on what it has, its epoch and its last offset.
fn start(dir: &std::path::Path) -> (Local, Decides, i32, u64) {
    let store = Store::open(dir, 1).unwrap();
    let decides = Decides(Arc::new(store.image().clone()));
    let local = Local::start(store).unwrap();
    let status = local.status();
    (local, decides, status.epoch, status.committed)
}

/// The offsets of an event's changes, each of which says that it was proposed in this epoch.
fn committed(event: &Event, epoch: i32) -> Vec<u64> {
    let Event::Committed(commits) = event else { return Vec::new() };
    assert!(commits.iter().all(|commit| commit.epoch == epoch && commit.records.len() == 1));
    commits.iter().map(|commit| commit.offset).collect()
}

/// The next events, until one satisfies.
fn wait(local: &Local, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut events = Vec::new();
        loop {
            events.push(local.next().await);
            if is_last(events.last().unwrap()) {
                return events;
            }
        }
    })
}

#[test]
fn what_is_proposed_is_committed_in_order_and_in_groups() {
    let dir = tempfile::tempdir().unwrap();
    let (local, mut decides, epoch, first) = start(dir.path());
    for n in 1..=500 {
        assert_eq!(local.propose(epoch, decides.ids(n)), Ok(first + n as u64));
    }
    assert_eq!(local.propose(epoch + 1, decides.ids(9)), Err(NotLeading), "of another epoch");
    let last = first + 500;
    let events = wait(&local, |event| committed(event, epoch).last() == Some(&last));
    assert!(events.len() < 500, "one sync for several: {events:?}");
    let offsets: Vec<u64> = events.iter().flat_map(|event| committed(event, epoch)).collect();
    assert_eq!(offsets, (first + 1..=last).collect::<Vec<_>>());
    drop(local);
    let store = Store::open(dir.path(), 1).unwrap();
    assert_eq!((store.image().version, store.image().next_producer_id), (last, 500));
}

#[test]
fn what_was_proposed_is_committed_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (local, mut decides, epoch, _) = start(dir.path());
    (1..=50).for_each(|n| assert!(local.propose(epoch, decides.ids(n)).is_ok()));
    drop(local);
    assert_eq!(Store::open(dir.path(), 1).unwrap().image().next_producer_id, 50);
}

#[test]
fn after_a_failed_write_decisions_start_from_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (local, mut decides, epoch, first) = start(dir.path());
    let committed = decides.0.clone();
    // Nothing of the first, or of what was decided on it, counts.
    let failing = fault::inject(dir.path(), "metadata-", Op::Write, Fault::Error(libc::EIO), 1);
    (6..=8).for_each(|n| assert!(local.propose(epoch, decides.ids(n)).is_ok()));
    let events = wait(&local, |event| matches!(event, Event::Lost { .. }));
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(failing.met(), 1);
    assert_eq!(local.propose(epoch, Decides(committed).ids(9)), Ok(first + 1));
    let events = wait(&local, |event| matches!(event, Event::Committed(_)));
    let whole = Commit { offset: first + 1, epoch, records: ids(9) };
    assert!(matches!(&events[..], [Event::Committed(commits)] if *commits == [whole]), "{events:?}");
    drop(local);
    assert_eq!(Store::open(dir.path(), 1).unwrap().image().next_producer_id, 9);
}
