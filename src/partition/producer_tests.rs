use super::*;

const NOW: WallMs = WallMs(5);

fn epoch(epoch: i16) -> ProducerEpoch {
    ProducerEpoch(epoch)
}

fn batch(producer: i64, epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset: offset,
        producer_id: producer,
        producer_epoch: epoch,
        base_sequence: sequence,
        last_offset_delta: count - 1,
        record_count: count,
        max_timestamp: 1000 + offset,
        base_timestamp: 1000 + offset,
        batch_length: 100,
        leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
    }
}

fn append(state: &mut Producers, b: BatchHeader) -> Result<Verdict, ProducerError> {
    let verdict = state.check(&b, Origin::Client)?;
    if verdict == Verdict::Append {
        state.record(&b, NOW);
    }
    Ok(verdict)
}

#[test]
fn the_last_five_batches_are_recognised_with_their_offsets() {
    let mut state = Producers::default();
    for i in 0..8 {
        assert_eq!(append(&mut state, batch(1, 0, i * 3, 3, i64::from(i) * 10)), Ok(Verdict::Append));
    }
    for i in 3..8 {
        let (base_offset, timestamp) = (Offset(i64::from(i) * 10), 1000 + i64::from(i) * 10);
        let retry = batch(1, 0, i * 3, 3, 999);
        assert_eq!(state.check(&retry, Origin::Client), Ok(Verdict::Duplicate { base_offset, timestamp }));
    }
    assert_eq!(
        state.check(&batch(1, 0, 6, 3, 0), Origin::Client),
        Err(ProducerError::OutOfOrder { got: 6, last: 23 })
    );
    assert_eq!(
        state.check(&batch(1, 0, 27, 1, 0), Origin::Client),
        Err(ProducerError::OutOfOrder { got: 27, last: 23 })
    );
    assert_eq!(state.check(&batch(1, 0, 24, 1, 0), Origin::Client), Ok(Verdict::Append));
}

#[test]
fn epochs_fence_and_restart_at_zero() {
    let mut state = Producers::default();
    append(&mut state, batch(1, 3, 17, 1, 0)).unwrap();
    assert_eq!(
        state.check(&batch(1, 2, 18, 1, 0), Origin::Client),
        Err(ProducerError::StaleEpoch { got: epoch(2), current: epoch(3) })
    );
    assert_eq!(
        state.check(&batch(1, 4, 18, 1, 0), Origin::Client),
        Err(ProducerError::OutOfOrder { got: 18, last: -1 })
    );
    assert_eq!(append(&mut state, batch(1, 4, 0, 1, 1)), Ok(Verdict::Append));
    assert_eq!(state.check(&batch(1, 4, 1, 1, 0), Origin::Client), Ok(Verdict::Append));
    assert_eq!(state.check(&batch(2, 0, 77, 1, 0), Origin::Client), Ok(Verdict::Append));
}

#[test]
fn sequences_wrap() {
    let mut state = Producers::default();
    append(&mut state, batch(1, 0, i32::MAX - 1, 4, 100)).unwrap();
    assert_eq!(state.check(&batch(1, 0, 2, 1, 0), Origin::Client), Ok(Verdict::Append));
    let duplicate = state.check(&batch(1, 0, i32::MAX - 1, 4, 0), Origin::Client);
    assert_eq!(duplicate, Ok(Verdict::Duplicate { base_offset: Offset(100), timestamp: 1100 }));
}

#[test]
fn snapshots_return_and_truncated_ones_are_refused() {
    let mut state = Producers::default();
    for i in 0..20 {
        append(&mut state, batch(i % 4, 0, (i / 4) as i32, 1, i)).unwrap();
    }
    let bytes = state.snapshot();
    assert_eq!(Producers::restore(&bytes), Some(state.clone()));
    for cut in 0..bytes.len() {
        assert_eq!(Producers::restore(&bytes[..cut]), None, "cut at {cut}");
    }
    state.expire(WallMs(6));
    assert!(state.is_empty());
}

/// A batch of an open transaction.
fn transactional(producer: i64, epoch: i16, sequence: i32, offset: i64) -> BatchHeader {
    BatchHeader { attributes: 0x10, ..batch(producer, epoch, sequence, 1, offset) }
}

fn end(state: &mut Producers, producer: i64, epoch: i16, offset: i64, commit: bool) {
    let header = BatchHeader { base_sequence: -1, ..transactional(producer, epoch, 0, offset) };
    state.record_end(&header, EndMarker { commit, coordinator_epoch: 0 }, NOW);
}

#[test]
fn a_transaction_is_open_until_its_end_is_durable() {
    let mut state = Producers::default();
    append(&mut state, transactional(1, 0, 0, 10)).unwrap();
    append(&mut state, transactional(1, 0, 1, 11)).unwrap();
    append(&mut state, transactional(2, 0, 0, 12)).unwrap();
    assert_eq!(state.transactions().first_unstable(), Some(Offset(10)));
    let plain = batch(1, 0, 2, 1, 13);
    assert_eq!(state.check(&plain, Origin::Client), Err(ProducerError::NotOfTransaction(ProducerId(1))));
    end(&mut state, 1, 1, 13, false);
    assert_eq!(state.transactions().first_unstable(), Some(Offset(10)), "a crash could take the marker back");
    state.settle(Offset(14));
    assert_eq!(state.transactions().first_unstable(), Some(Offset(12)));
    assert_eq!(state.transactions().aborted_in(Offset(0), Offset(12)), [(ProducerId(1), Offset(10))]);
    assert_eq!(
        state.check(&transactional(1, 0, 2, 14), Origin::Client).unwrap_err().to_string(),
        "producer epoch 0 is older than 1"
    );
    assert_eq!(
        state.check(&transactional(1, 1, 3, 14), Origin::Client),
        Err(ProducerError::OutOfOrder { got: 3, last: -1 })
    );
    assert_eq!(append(&mut state, transactional(1, 1, 0, 14)), Ok(Verdict::Append));
    state.expire(WallMs(6));
    assert_eq!(state.views().count(), 2, "who has a transaction open is not forgotten");
    assert_eq!(Producers::restore(&state.snapshot()), Some(state.clone()));
}

#[test]
fn ends_are_fenced_and_may_be_repeated() {
    let marker = |coordinator_epoch| EndMarker { commit: true, coordinator_epoch };
    let mut state = Producers::default();
    assert_eq!(state.check_end(Producer::new(1, 0), marker(0), 2), Ok(()), "nothing was written here");
    append(&mut state, transactional(1, 4, 0, 10)).unwrap();
    let stale = |got| Err(ProducerError::StaleEpoch { got: epoch(got), current: epoch(4) });
    assert_eq!(state.check_end(Producer::new(1, 3), marker(0), 0), stale(3));
    assert_eq!(state.check_end(Producer::new(1, 4), marker(0), 0), Ok(()));
    assert_eq!(
        state.check_end(Producer::new(1, 4), marker(0), 2),
        stale(4),
        "a delayed end of the transaction before"
    );
    assert_eq!(state.check_end(Producer::new(1, 5), marker(0), 2), Ok(()));
    let header = BatchHeader { base_sequence: -1, ..transactional(1, 5, 0, 11) };
    state.record_end(&header, marker(3), NOW);
    assert_eq!(state.check_end(Producer::new(1, 5), marker(3), 2), Ok(()), "repeated after a crash");
    let fenced = Err(ProducerError::StaleCoordinator { got: 2, current: LeaderEpoch(3) });
    assert_eq!(state.check_end(Producer::new(1, 5), marker(2), 2), fenced);
    assert!(!state.is_open(Producer::new(1, 5)));
}

#[test]
fn coordinators_write_without_sequences() {
    let mut state = Producers::default();
    for offset in 0..9 {
        let b = BatchHeader { base_sequence: -1, ..transactional(7, 2, 0, offset) };
        assert_eq!(state.check(&b, Origin::Coordinator), Ok(Verdict::Append));
        state.record(&b, NOW);
    }
    assert_eq!(state.transactions().first_unstable(), Some(Offset(0)));
    let stale = BatchHeader { base_sequence: -1, ..transactional(7, 1, 0, 9) };
    assert!(state.check(&stale, Origin::Coordinator).is_err());
    assert_eq!(Producers::restore(&state.snapshot()), Some(state));
}

/// What was stored before there were transactions is still read.
#[test]
fn the_first_version_is_read() {
    let mut bytes = vec![1, 0, 0, 0, 1];
    bytes.extend(9_i64.to_be_bytes());
    bytes.extend(3_i16.to_be_bytes());
    bytes.extend(77_i64.to_be_bytes());
    bytes.push(1);
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 5]);
    bytes.extend(21_i64.to_be_bytes());
    bytes.extend(1021_i64.to_be_bytes());
    let state = Producers::restore(&bytes).unwrap();
    let duplicate = state.check(&batch(9, 3, 4, 2, 0), Origin::Client);
    assert_eq!(duplicate, Ok(Verdict::Duplicate { base_offset: Offset(20), timestamp: 1021 }));
    assert!(state.transactions().is_empty());
}

/// Rebuilding from a snapshot at any point, and the batches after it, gives the state that never stopped.
#[test]
fn a_rebuilt_state_is_the_state() {
    for seed in 0..40_u64 {
        let mut random = seed * 2 + 1;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % below
        };
        let mut state = Producers::default();
        let mut history = Vec::new();
        let cut = next(200) as usize;
        let mut snapshot = None;
        let mut sequences = std::collections::HashMap::new();
        for offset in 0..200_i64 {
            if offset as usize == cut {
                snapshot = Some(state.snapshot());
            }
            let producer = next(5) as i64;
            let (epoch, sequence) = *sequences.entry(producer).or_insert((0_i16, 0_i32));
            let (header, marker) = if state.is_open(Producer::new(producer, epoch)) && next(3) == 0 {
                sequences.insert(producer, (epoch + 1, 0));
                let header =
                    BatchHeader { base_sequence: -1, ..transactional(producer, epoch + 1, 0, offset) };
                (header, Some(EndMarker { commit: next(2) == 0, coordinator_epoch: 0 }))
            } else {
                sequences.insert(producer, (epoch, sequence + 1));
                (transactional(producer, epoch, sequence, offset), None)
            };
            match marker {
                Some(marker) => state.record_end(&header, marker, NOW),
                None => {
                    assert_eq!(state.check(&header, Origin::Client), Ok(Verdict::Append));
                    state.record(&header, NOW);
                }
            }
            history.push((header, marker));
        }
        let mut rebuilt = Producers::rebuild(snapshot.as_deref(), &history[cut..], NOW);
        for state in [&mut rebuilt, &mut state] {
            state.settle(Offset(200));
        }
        assert_eq!(rebuilt, state, "seed {seed}");
    }
}

#[test]
fn the_same_producers_are_kept_and_told_alike_in_whichever_order_they_came() {
    let of = |ids: &[i64]| {
        let mut state = Producers::default();
        for id in ids {
            append(&mut state, batch(*id, 0, 0, 1, *id)).unwrap();
        }
        state
    };
    let (up, down): (Vec<i64>, Vec<i64>) = ((0..50).collect(), (0..50).rev().collect());
    let (a, b) = (of(&up), of(&down));
    assert_eq!(a.snapshot(), b.snapshot());
    assert!(b.views().map(|view| view.producer.id.0).eq(up));
}
