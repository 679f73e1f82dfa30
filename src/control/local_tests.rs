use super::*;
use crate::metadata::quorum::Commit;

fn ids(next: i64) -> Vec<Record> {
    vec![Record::ProducerIds { next }]
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
    let local = Local::start(Store::open(dir.path(), 1).unwrap()).unwrap();
    let (epoch, first) = (local.status().epoch, local.status().committed);
    for n in 1..=500 {
        assert_eq!(local.propose(epoch, ids(n)), Ok(first + n as u64));
    }
    assert_eq!(local.propose(epoch + 1, ids(9)), Err(NotLeading), "of another epoch");
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
    let local = Local::start(Store::open(dir.path(), 1).unwrap()).unwrap();
    let epoch = local.status().epoch;
    (1..=50).for_each(|n| assert!(local.propose(epoch, ids(n)).is_ok()));
    drop(local);
    assert_eq!(Store::open(dir.path(), 1).unwrap().image().next_producer_id, 50);
}

#[test]
fn after_a_failed_write_decisions_start_from_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::start(Store::open(dir.path(), 1).unwrap()).unwrap();
    let (epoch, first) = (local.status().epoch, local.status().committed);
    let topic = crate::model::TopicId([9; 16]);
    // Contradicts what there is: nothing of it, or of what was decided on it, counts.
    local.propose(epoch, vec![Record::TopicDeleted { id: topic }]).unwrap();
    local.propose(epoch, ids(7)).unwrap();
    local.propose(epoch, ids(8)).unwrap();
    let events = wait(&local, |event| matches!(event, Event::Lost { .. }));
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(local.propose(epoch, ids(9)), Ok(first + 1));
    let events = wait(&local, |event| matches!(event, Event::Committed(_)));
    let whole = Commit { offset: first + 1, epoch, records: ids(9) };
    assert!(matches!(&events[..], [Event::Committed(commits)] if *commits == [whole]), "{events:?}");
    drop(local);
    assert_eq!(Store::open(dir.path(), 1).unwrap().image().next_producer_id, 9);
}
