//! What happens in the simulated world, and what has to hold after each of it.

use super::*;

impl World {
    fn send(&mut self, from: usize, to: usize, message: Message) {
        let fresh = &mut self.connected;
        let connection = *self.connections.entry((from, to)).or_insert_with(|| {
            *fresh += 1;
            *fresh
        });
        self.wire.push(Sent { connection, to, message });
    }

    /// What was sent is lost, or comes after what is sent from now on.
    fn disconnect(&mut self) {
        let (from, to) = (self.random.below(self.nodes.len()), self.random.below(self.nodes.len()));
        if let Some(connection) = self.connections.remove(&(from, to))
            && self.random.one_in(2)
        {
            self.wire.retain(|sent| sent.connection != connection);
        }
    }

    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let connection = self.wire[self.random.below(self.wire.len())].connection;
        let at = self.wire.iter().position(|sent| sent.connection == connection).expect("it was just there");
        let Sent { to, message, .. } = self.wire.remove(at);
        match message {
            Message::Fetch { asked, from, life } => self.serve(to, asked, (from, life)),
            Message::Batches { asked, base, records, high_watermark, log_start } => {
                let seen = records.iter().zip(base.0..).map(|(record, offset)| BatchSeen {
                    base: Offset(offset),
                    next: Offset(offset + 1),
                    epoch: record.epoch,
                    sound: true,
                });
                let seen: Vec<BatchSeen> = seen.collect();
                let answer = Answer::Batches { batches: &seen, high_watermark, log_start };
                self.take(to, &asked, &answer, &records);
            }
            Message::Other(asked, answer) => self.take(to, &asked, &answer, &[]),
        }
    }

    fn fetch(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Part::Follower(follower) = &node.part else { return };
        if let Some(asked) = follower.next_fetch(&node.store.log, &node.offsets, self.now) {
            let life = node.life;
            self.send(at, (asked.leader - 1) as usize, Message::Fetch { asked, from: at, life });
        }
    }

    fn serve(&mut self, at: usize, asked: Asked, (from, life): (usize, BrokerEpoch)) {
        let (now, most) = (self.now, self.random.below(4));
        let node = &mut self.nodes[at];
        let Part::Leader(leader) = &mut node.part else {
            return self.send(at, from, Message::Other(asked, Answer::NotNow));
        };
        if asked.epoch != leader.epoch() {
            let fenced = asked.epoch < leader.epoch();
            let answer = if fenced { Answer::Fenced } else { Answer::NotNow };
            return self.send(at, from, Message::Other(asked, answer));
        }
        let report = Report {
            from: from as BrokerId + 1,
            broker_epoch: life,
            leader_epoch: asked.epoch,
            offset: asked.offset,
            last_epoch: asked.last_epoch,
            durable: asked.durable,
        };
        let (heard, fx) = leader.on_fetch(&report, &node.store.log, &mut node.offsets, now);
        let message = match heard {
            Heard::Ignored => Message::Other(asked, Answer::NotNow),
            Heard::Diverging(epoch, end) => Message::Other(asked, Answer::Diverging(epoch, end)),
            Heard::OutOfRange => {
                let (log_start, end) = (node.offsets.log_start(), node.offsets.end());
                Message::Other(asked, Answer::OutOfRange { log_start, end })
            }
            Heard::Counted => {
                let records =
                    (asked.offset.0..).map_while(|offset| node.store.log.at(offset)).take(most).collect();
                let (high_watermark, log_start) = (node.offsets.high_watermark(), node.offsets.log_start());
                Message::Batches { asked, base: asked.offset, records, high_watermark, log_start }
            }
        };
        self.send(at, from, message);
        self.carry_out(at, fx);
    }

    fn take(&mut self, at: usize, asked: &Asked, answer: &Answer<'_>, records: &[Record]) {
        let node = &mut self.nodes[at];
        let Part::Follower(follower) = &mut node.part else { return };
        match follower.on_answer(asked, answer, &node.store.log, &mut node.offsets, self.now) {
            Take::Nothing => {}
            Take::Append(count) => {
                records[..count].iter().for_each(|record| node.store.write(Entry::Append(*record)));
                node.offsets.append(node.store.log.end());
            }
            Take::Truncate { to, below_high_watermark } => {
                assert!(!below_high_watermark, "seed {}: cuts what is committed", self.seed);
                node.store.write(Entry::Truncate(to));
                node.offsets.truncate(to);
            }
            Take::Reset { at } => {
                node.store.write(Entry::Reset(at));
                node.offsets.restart(at);
            }
        }
    }

    /// Some of what the journal gathered is on disk.
    fn sync(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let left = node.store.unsynced.len();
        node.store.sync((1 + self.random.below(left)).min(left));
        node.offsets.make_durable(node.store.durable_end());
        if let Part::Follower(follower) = &mut node.part
            && node.store.unsynced.is_empty()
        {
            follower.on_cut();
        }
        self.follow_local(at);
    }

    pub(super) fn follow_local(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let advanced = match &mut node.part {
            Part::Leader(leader) => leader.on_local(&mut node.offsets, self.now),
            Part::Follower(follower) => follower.on_local(&mut node.offsets),
            Part::None => false,
        };
        self.carry_out(at, Effects { advanced, ..Effects::default() });
    }

    fn carry_out(&mut self, at: usize, fx: Effects) {
        let node = &mut self.nodes[at];
        if let Some(proposal) = fx.propose {
            self.proposals.push((at, node.life, proposal));
        }
        if let Part::Leader(leader) = &node.part {
            let committed = node.offsets.high_watermark().0;
            for (offset, record) in node.pending.extract_if(.., |(offset, _)| *offset < committed) {
                if leader.has_enough() {
                    self.acked.insert(offset, record);
                }
            }
        }
    }

    fn produce(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Part::Leader(leader) = &node.part else { return };
        // Others write without waiting for anybody.
        let waits = self.random.one_in(2);
        if waits && !leader.has_enough() {
            return;
        }
        self.values += 1;
        let record = Record { epoch: leader.epoch(), value: self.values };
        if waits {
            node.pending.push((node.store.log.end().0, record));
        }
        node.store.write(Entry::Append(record));
        node.offsets.append(node.store.log.end());
    }

    /// The controller takes up a proposal, whose answer may get lost.
    fn decide(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        let (at, life, proposal) = self.proposals.remove(self.random.below(self.proposals.len()));
        let Metadata { assignment, brokers } = self.newest();
        let current = proposal.leader_epoch == assignment.leader_epoch
            && proposal.partition_epoch == assignment.partition_epoch
            && brokers[at].epoch == life;
        let able = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            brokers.contains(&PeerState { id: *id, epoch: *epoch, eligible: true })
        };
        let mut verdict = match current {
            false => Verdict::Outdated,
            true if !proposal.isr.iter().all(able) => Verdict::Refused,
            true => {
                let mut next = self.newest().clone();
                next.assignment.isr = proposal.isr.iter().map(|(id, _)| *id).collect();
                self.publish(next);
                let Assignment { partition_epoch, isr, .. } = &self.newest().assignment;
                Verdict::Committed(*partition_epoch, isr.clone())
            }
        };
        if self.faulty && self.random.one_in(4) {
            verdict = Verdict::Unknown;
        }
        let node = &mut self.nodes[at];
        if let Part::Leader(leader) = &mut node.part
            && (node.life, leader.epoch()) == (life, proposal.leader_epoch)
        {
            let fx = leader.on_answer(proposal.number, verdict, &mut node.offsets, self.now);
            self.carry_out(at, fx);
        }
    }

    fn tick(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if let Part::Leader(leader) = &mut node.part {
            let propose = leader.on_tick(&node.offsets, self.now);
            self.carry_out(at, Effects { propose, ..Effects::default() });
        }
    }

    /// Retention, and the checkpoint.
    fn housekeep(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let committed = node.offsets.high_watermark();
        if matches!(node.part, Part::Leader(_)) && self.random.one_in(4) {
            let start = node.offsets.log_start().0;
            let to = start + self.random.below((committed.0 - start + 1) as usize) as i64;
            node.offsets.start_at(Offset(to));
        }
        // A checkpoint says nothing that is not on disk.
        if node.store.unsynced.is_empty() {
            node.stored = (committed, node.offsets.log_start());
        }
    }

    pub(super) fn step(&mut self) {
        self.now.0 += self.random.below(12) as i64;
        let at = self.random.below(self.nodes.len());
        if !self.nodes[at].up {
            match self.random.below(24) {
                0 if self.faulty => self.fence(at, false),
                1 => self.start(at),
                _ => self.deliver(),
            }
            return;
        }
        match self.random.below(64) {
            0 if self.faulty => self.crash(at),
            1 if self.faulty => self.fence(at, false),
            2 | 3 => self.fence(at, true),
            4 | 5 if self.faulty => self.disconnect(),
            6..12 => self.learn(at),
            12..22 => self.fetch(at),
            22..28 => self.sync(at),
            28..32 => self.decide(),
            32..36 => self.tick(at),
            36..38 => self.housekeep(at),
            38..44 if self.faulty => self.produce(at),
            _ => self.deliver(),
        }
    }

    pub(super) fn check(&mut self) {
        let (seed, newest) = (self.seed, self.metadata.last().expect("there is a first"));
        for node in self.nodes.iter().filter(|node| node.up) {
            let (offsets, log) = (node.offsets, &node.store.log);
            assert_eq!(offsets.end(), log.end(), "seed {seed}");
            // Nothing that anybody could have read ever changes, on whichever replica.
            for offset in offsets.log_start().0.max(log.base)..offsets.high_watermark().0 {
                let (here, at) = (log.at(offset).expect("what is committed is there"), offset as usize);
                self.committed.resize(self.committed.len().max(at + 1), None);
                let known = self.committed[at].get_or_insert(here);
                assert_eq!(*known, here, "seed {seed}: broker {} at {offset}", node.id);
            }
            if let Part::Leader(leader) = &node.part
                && leader.epoch() == newest.assignment.leader_epoch
            {
                let counts = |id: &BrokerId| leader.is_in_maximal_isr(*id);
                assert!(
                    newest.assignment.isr.iter().all(counts),
                    "seed {seed}: the controller may elect others"
                );
            }
        }
        for id in &newest.assignment.isr {
            let node = &self.nodes[(id - 1) as usize];
            let (start, disk) = (node.offsets.log_start().0.max(node.store.disk.base), &node.store.disk);
            for (offset, record) in (0..).zip(&self.committed).skip(start as usize) {
                let has = record.is_none() || disk.at(offset) == *record;
                assert!(has, "seed {seed}: broker {id} may lead without {offset}");
            }
        }
        let kept = |(offset, record): (&i64, &Record)| self.committed[*offset as usize] == Some(*record);
        assert!(self.acked.iter().all(kept), "seed {seed}: what was acknowledged is not committed");
    }

    /// Without faults everybody gets to the same end.
    pub(super) fn converge(&mut self) {
        self.faulty = false;
        for at in 0..self.nodes.len() {
            if !self.nodes[at].up {
                self.start(at);
            }
            self.fence(at, true);
        }
        let everybody = self.nodes.len();
        for _ in 0..20_000 {
            self.step();
            self.check();
            let newest = self.newest();
            let ends: Vec<_> = self.nodes.iter().map(|node| node.offsets.end()).collect();
            let done = newest.assignment.isr.len() == everybody
                && self
                    .nodes
                    .iter()
                    .all(|node| node.offsets.high_watermark() == ends[0] && node.store.log.end() == ends[0])
                && self.nodes.iter().all(|node| node.applied == self.metadata.len());
            if done {
                return;
            }
        }
        let states: Vec<_> = self.nodes.iter().map(|node| (node.offsets, state(&node.part))).collect();
        panic!("seed {}: no end in sight: {:?} {states:?}", self.seed, self.newest().assignment);
    }
}

fn state(part: &Part) -> Option<State> {
    match part {
        Part::Follower(follower) => Some(follower.state()),
        _ => None,
    }
}

#[test]
fn what_is_committed_stays_whatever_breaks() {
    let first = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = std::env::var("WEIR_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(3_000);
    let first = first.unwrap_or(0);
    let (mut acked, mut elections) = (0, 0);
    for seed in first..first + seeds {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
            world.check();
        }
        world.converge();
        acked += world.acked.len();
        elections += world.newest().assignment.leader_epoch.0;
    }
    // Or there was nothing to see.
    assert!(acked > seeds as usize && elections > seeds as i32, "{acked} {elections}");
}
