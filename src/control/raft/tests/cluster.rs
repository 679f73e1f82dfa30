//! Several nodes in one thread, over links that can be cut: each does what the control thread does, and remembers what it was told.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::control::quorum::{Event, Quorum};
use crate::control::raft::{Carrier, CarryError, Raft, Timers, VoterChange};
use crate::metadata::quorum::{Commit, Decided, Member, Voter};
use crate::metadata::records::Record;
use crate::metadata::{Image, Store};

pub const MS: fn(u64) -> Duration = Duration::from_millis;
/// Far beyond what anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// The links, each in one direction.
#[derive(Default)]
pub struct Links {
    nodes: RefCell<BTreeMap<Voter, Rc<Raft>>>,
    cut: RefCell<BTreeSet<(i32, i32)>>,
    pub delay: Cell<u64>,
    pub snapshots: Cell<usize>,
}

struct Wire {
    from: Voter,
    links: Rc<Links>,
}

impl Carrier for Wire {
    async fn carry(&self, to: &Member, what: u8, body: Bytes, _: Duration) -> Result<Bytes, CarryError> {
        let (from, to) = (self.from, to.voter);
        let cut = |a: i32, b: i32| self.links.cut.borrow().contains(&(a, b));
        let gone = || CarryError::Unreachable(to.node);
        let delay = self.links.delay.get();
        if delay > 0 {
            tokio::time::sleep(MS(crate::rt::random() as u64 % delay)).await;
        }
        if cut(from.node, to.node) {
            return Err(gone());
        }
        let node = self.links.nodes.borrow().get(&to).cloned().ok_or_else(gone)?;
        if what == crate::control::raft::wire::SNAPSHOT {
            self.links.snapshots.set(self.links.snapshots.get() + 1);
        }
        let answer = node.receive(from, what, body).await;
        // It may have arrived, and the answer not.
        if cut(to.node, from.node) { Err(gone()) } else { answer }
    }
}

/// What a node was told, over all of its lives.
#[derive(Default)]
pub struct Heard {
    pub commits: BTreeMap<u64, Commit>,
    /// Epochs in which it led.
    pub led: BTreeSet<i32>,
    pub leads: Option<i32>,
    pub deposed: usize,
    /// Offsets that it proposed in the epoch that it leads in, and what.
    pub pending: BTreeMap<u64, Commit>,
    pub ended: Option<String>,
    /// The image as the events make it.
    pub image: Option<Image>,
}

pub struct Node {
    pub me: Voter,
    pub dir: TempDir,
    pub raft: Option<Rc<Raft>>,
    pub heard: Rc<RefCell<Heard>>,
    follows: Option<JoinHandle<()>>,
}

pub struct Cluster {
    pub links: Rc<Links>,
    pub nodes: Vec<Node>,
    pub next_id: i64,
    pub proposed: usize,
}

pub fn ids(next: i64) -> Vec<Record> {
    vec![Record::ProducerIds { next }]
}

/// Within what Raft needs of a runtime.
pub fn run<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, body)
}

impl Cluster {
    /// One node that is alone, and others that are to be given its metadata.
    pub async fn new(size: usize) -> Self {
        let mut cluster = Self { links: Rc::default(), nodes: Vec::new(), next_id: 1, proposed: 0 };
        for index in 0..size {
            cluster.add(index == 0).await;
        }
        cluster
    }

    /// As [`Self::new`], with every node a voter.
    pub async fn voting(size: usize) -> Self {
        let cluster = Self::new(size).await;
        cluster.learn(&(1..size).collect::<Vec<_>>()).await;
        let voters = cluster.nodes.iter().map(|node| node.me).collect();
        cluster.change(VoterChange::Voters(voters)).await;
        cluster
    }

    pub async fn add(&mut self, alone: bool) -> usize {
        let index = self.nodes.len();
        let dir = tempfile::tempdir().unwrap();
        let id = index as i32 + 1;
        let store = if alone { Store::open(dir.path(), id) } else { Store::join(dir.path(), id) };
        let me = store.unwrap().me();
        self.nodes.push(Node { me, dir, raft: None, heard: Rc::default(), follows: None });
        self.start(index).await;
        index
    }

    pub async fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let store = Store::join(node.dir.path(), node.me.node).unwrap();
        let image = store.image().clone();
        let wire = Rc::new(Wire { from: node.me, links: self.links.clone() });
        let raft = Raft::start(store, node.dir.path(), Timers::default(), wire).await.unwrap();
        let raft = Rc::new(raft);
        {
            let heard = &mut *node.heard.borrow_mut();
            heard.image = Some(image);
            heard.pending.clear();
            heard.leads = None;
        }
        self.links.nodes.borrow_mut().insert(node.me, raft.clone());
        node.follows = Some(tokio::task::spawn_local(follow(raft.clone(), node.heard.clone())));
        node.raft = Some(raft);
    }

    /// What it had in memory is lost.
    pub async fn stop(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        self.links.nodes.borrow_mut().remove(&node.me);
        node.follows.take().inspect(JoinHandle::abort);
        if let Some(raft) = node.raft.take() {
            raft.stop().await;
        }
        node.heard.borrow_mut().leads = None;
    }

    pub fn cut(&self, a: usize, b: usize) {
        let (a, b) = (self.nodes[a].me.node, self.nodes[b].me.node);
        self.links.cut.borrow_mut().extend([(a, b), (b, a)]);
    }

    /// One direction only.
    pub fn cut_from(&self, a: usize, b: usize) {
        self.links.cut.borrow_mut().insert((self.nodes[a].me.node, self.nodes[b].me.node));
    }

    pub fn isolate(&self, index: usize) {
        (0..self.nodes.len()).filter(|other| *other != index).for_each(|other| self.cut(index, other));
    }

    pub fn heal(&self) {
        self.links.cut.borrow_mut().clear();
        self.links.delay.set(0);
    }

    pub fn leaders(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].heard.borrow().leads.is_some()).collect()
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waits = async {
            while !holds(self) {
                tokio::time::sleep(MS(5)).await;
            }
        };
        let told = || self.nodes.iter().map(|node| self.describe(node)).collect::<Vec<_>>().join("\n");
        assert!(tokio::time::timeout(LONG, waits).await.is_ok(), "waited for {what}:\n{}", told());
    }

    fn describe(&self, node: &Node) -> String {
        let heard = node.heard.borrow();
        let status = node.raft.as_ref().map(|raft| raft.status());
        format!("{}: leads {:?}, {} commits, {status:?}", node.me, heard.leads, heard.commits.len())
    }

    pub async fn leader(&self) -> usize {
        self.until("a leader", |cluster| !cluster.leaders().is_empty()).await;
        let heard = |index: &usize| self.nodes[*index].heard.borrow().leads;
        self.leaders().into_iter().max_by_key(heard).unwrap()
    }

    /// Proposes to a node that believes itself the leader; its offset.
    pub fn propose(&mut self, index: usize) -> Option<u64> {
        let node = &self.nodes[index];
        let raft = node.raft.as_ref()?;
        let epoch = raft.leads()?;
        let records = ids(self.next_id);
        let change = Decided { records: records.clone(), image: Arc::new(Image::empty()) };
        let offset = raft.propose(epoch, change).ok()?;
        self.next_id += 1;
        self.proposed += 1;
        node.heard.borrow_mut().pending.insert(offset, Commit { offset, epoch, records });
        Some(offset)
    }

    /// Until this many more changes are committed at the leader.
    pub async fn commit(&mut self, count: usize) -> u64 {
        let mut last = 0;
        for _ in 0..count {
            last = loop {
                let leader = self.leader().await;
                match self.propose(leader) {
                    Some(offset) => break offset,
                    None => tokio::time::sleep(MS(5)).await,
                }
            };
        }
        loop {
            for _ in 0..300 {
                if self.nodes.iter().any(|node| node.heard.borrow().commits.contains_key(&last)) {
                    return last;
                }
                tokio::time::sleep(MS(5)).await;
            }
            // It was lost with its leader.
            let leader = self.leader().await;
            last = self.propose(leader).unwrap_or(last);
        }
    }

    pub async fn change(&self, change: VoterChange) {
        let waits = async {
            loop {
                let leader = self.leader().await;
                let raft = self.nodes[leader].raft.clone().unwrap();
                match raft.change_voters(change.clone()).await {
                    Ok(()) => return,
                    Err(_) => tokio::time::sleep(MS(20)).await,
                }
            }
        };
        assert!(tokio::time::timeout(LONG, waits).await.is_ok(), "{change:?}");
    }

    pub async fn learn(&self, which: &[usize]) {
        for index in which {
            let member = Member { voter: self.nodes[*index].me, endpoints: Vec::new() };
            self.change(VoterChange::Learner(member)).await;
        }
        self.level(which).await;
    }

    /// Until these nodes have heard of all that any node has heard of.
    pub async fn level(&self, which: &[usize]) {
        self.until("all to know the same", |cluster| {
            let version = |node: &Node| node.heard.borrow().image.as_ref().map_or(0, |image| image.version);
            let most = cluster.nodes.iter().map(version).max().unwrap();
            which.iter().all(|index| version(&cluster.nodes[*index]) == most)
        })
        .await;
    }

    /// What is committed is the same everywhere, and was never taken back; one node led in an epoch.
    pub fn check(&self) {
        let mut all: BTreeMap<u64, Commit> = BTreeMap::new();
        let mut led: BTreeMap<i32, Voter> = BTreeMap::new();
        for node in &self.nodes {
            let heard = node.heard.borrow();
            assert_eq!(heard.ended, None, "{}", node.me);
            for (offset, commit) in &heard.commits {
                let first = all.entry(*offset).or_insert_with(|| commit.clone());
                assert_eq!(first, commit, "{} at {offset}", node.me);
            }
            for epoch in &heard.led {
                let first = *led.entry(*epoch).or_insert(node.me);
                assert_eq!(first, node.me, "two lead in epoch {epoch}");
            }
        }
    }
}

async fn follow(raft: Rc<Raft>, heard: Rc<RefCell<Heard>>) {
    loop {
        let event = raft.next().await;
        let heard = &mut *heard.borrow_mut();
        match event {
            Event::Committed(commits) => commits.into_iter().for_each(|commit| heard.take(commit)),
            Event::Snapshot { image } => {
                let before = heard.image.as_ref().map_or(0, |image| image.version);
                assert!(image.version > before, "a snapshot takes nothing back");
                heard.image = Some((*image).clone());
            }
            Event::Leader { epoch, mine, .. } => {
                heard.pending.clear();
                heard.deposed += usize::from(heard.leads.is_some() && !mine);
                heard.leads = mine.then_some(epoch);
                heard.led.extend(heard.leads);
            }
            Event::Lost { why } => panic!("{why}"),
            Event::Ended { why } => heard.ended = Some(why),
        }
    }
}

impl Heard {
    fn take(&mut self, commit: Commit) {
        let image = self.image.as_mut().unwrap();
        assert_eq!(commit.offset, image.version + 1, "none is left out, and none told twice");
        image.apply(&commit.records).unwrap();
        // What is recognised as one's own is what was proposed.
        if let Some(own) = self.pending.remove(&commit.offset) {
            assert_eq!(own, commit);
        }
        if let Some(before) = self.commits.insert(commit.offset, commit.clone()) {
            assert_eq!(before, commit, "told otherwise in a life before");
        }
    }
}
