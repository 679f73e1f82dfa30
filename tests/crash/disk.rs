//! A disk below a recording: what is durable, what a power cut may still take, and the images that it may leave.
//!
//! - A file's change is durable once a sync of the file that began after it has ended, a synchronous write once it has
//!   ended. What is not may be there or not, in any order, torn at 512 bytes, its length with or without its data.
//! - A name is durable once its directory was synced. What is not may be there or not, but a change of a name is only
//!   there if what it changes is: one that renames a file needs the file's name.
//! - A rename is whole or not at all, also between directories; syncing either one makes it durable.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use weir::rt::record::Event;

use crate::random::Random;

pub const SECTOR: usize = 512;
const PAGE: usize = 4096;
const ROOT: usize = 0;

/// A disk's content by path; `None` is a directory.
pub type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What a power cut did to one change that was not durable, by the number of its event.
pub type Choices = BTreeMap<usize, Choice>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub how: How,
    /// It was under way and reached the disk after everything else.
    pub late: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    Skip,
    Whole,
    /// Only these sectors of a write.
    Sectors(Vec<bool>),
    /// A write's length without its data.
    Length,
}

impl Choice {
    pub const WHOLE: Self = Self { how: How::Whole, late: false };
    pub const SKIP: Self = Self { how: How::Skip, late: false };
}

enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Default)]
struct FileNode {
    durable: Vec<u8>,
    /// What a reader saw: every change applied.
    full: Vec<u8>,
    pending: Vec<Change>,
}

struct Change {
    event: usize,
    done: bool,
    what: What,
}

enum What {
    /// Whole sectors from `first` on, as they were after the write; the write itself ended at `end`.
    Write {
        first: usize,
        bytes: Vec<u8>,
        end: usize,
    },
    Length(usize),
    AtLeast(usize),
}

#[derive(Default)]
struct DirNode {
    durable: BTreeMap<String, usize>,
    full: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
}

#[derive(Clone)]
struct NameChange {
    event: usize,
    node: usize,
    /// The directory and name that it leaves and that it gets.
    from: Option<(usize, String)>,
    to: Option<(usize, String)>,
}

struct Syncing {
    node: usize,
    covers: Vec<usize>,
}

pub struct Disk {
    nodes: Vec<Node>,
    handles: HashMap<u64, usize>,
    /// Writes under way: their file and event.
    writes: HashMap<u64, (usize, usize)>,
    syncs: HashMap<u64, Syncing>,
    events: usize,
}

impl Disk {
    /// A disk that durably holds an image.
    pub fn holding(image: &Image) -> Self {
        let mut disk = Self {
            nodes: vec![Node::Dir(DirNode::default())],
            handles: HashMap::new(),
            writes: HashMap::new(),
            syncs: HashMap::new(),
            events: 0,
        };
        for (path, content) in image {
            let node = disk.add(match content {
                None => Node::Dir(DirNode::default()),
                Some(bytes) => {
                    Node::File(FileNode { durable: bytes.clone(), full: bytes.clone(), pending: Vec::new() })
                }
            });
            let (parent, name) = disk.place(path);
            let parent = disk.dir(parent);
            parent.durable.insert(name.clone(), node);
            parent.full.insert(name, node);
        }
        disk
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn dir(&mut self, node: usize) -> &mut DirNode {
        match &mut self.nodes[node] {
            Node::Dir(dir) => dir,
            Node::File(_) => panic!("a file where a directory has to be"),
        }
    }

    fn file(&mut self, node: usize) -> &mut FileNode {
        match &mut self.nodes[node] {
            Node::File(file) => file,
            Node::Dir(_) => panic!("a directory where a file has to be"),
        }
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut at = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let Node::Dir(dir) = &self.nodes[at] else { return None };
            at = *dir.full.get(name.to_str()?)?;
        }
        Some(at)
    }

    /// The directory of a path, and the name in it.
    fn place(&self, path: &Path) -> (usize, String) {
        let parent = self.find(path.parent().expect("not the root")).unwrap_or_else(|| {
            panic!("{} has no directory", path.display());
        });
        (parent, path.file_name().and_then(|n| n.to_str()).expect("a name").to_owned())
    }

    /// Takes the next event of the recording.
    pub fn apply(&mut self, event: &Event) {
        let number = self.events;
        self.events += 1;
        match event {
            Event::Open { handle, path, create, truncate } => {
                self.open(number, *handle, path, *create, *truncate)
            }
            Event::Write { op, handle, at, bytes } => {
                let node = self.handles[handle];
                self.writes.insert(*op, (node, number));
                self.write(number, node, *at as usize, bytes);
            }
            Event::Resize { handle, len } => self.resize(number, self.handles[handle], *len as usize),
            Event::Reserve { handle, len } => self.reserve(number, self.handles[handle], *len as usize),
            Event::Sync { op, handle, with } => {
                let node = self.handles[handle];
                let with = with.and_then(|op| self.writes.get(&op)).map(|(_, event)| *event);
                let covered = |c: &&Change| with.map_or(c.done, |event| c.event == event);
                let covers = self.file(node).pending.iter().filter(covered).map(|c| c.event).collect();
                self.syncs.insert(*op, Syncing { node, covers });
            }
            Event::SyncDir { op, path } => {
                // It may have been renamed between its opening and its sync: then the sync proves nothing here.
                let Some(node) = self.find(path) else { return };
                let covers = self.dir(node).pending.iter().map(|c| c.event).collect();
                self.syncs.insert(*op, Syncing { node, covers });
            }
            Event::Done { op } => self.done(*op),
            Event::MakeDir { path } => {
                if self.find(path).is_none() {
                    let node = self.add(Node::Dir(DirNode::default()));
                    let to = self.place(path);
                    self.rename(NameChange { event: number, node, from: None, to: Some(to) });
                }
            }
            Event::Rename { from, to } => {
                let node = self.find(from).unwrap_or_else(|| panic!("{} was renamed", from.display()));
                let (from, to) = (Some(self.place(from)), Some(self.place(to)));
                self.rename(NameChange { event: number, node, from, to });
            }
            Event::Remove { path } => {
                if let Some(node) = self.find(path) {
                    let from = Some(self.place(path));
                    self.rename(NameChange { event: number, node, from, to: None });
                }
            }
        }
    }

    fn open(&mut self, event: usize, handle: u64, path: &Path, create: bool, truncate: bool) {
        let node = match self.find(path) {
            Some(node) => node,
            None => {
                assert!(create, "{} was opened and is not there", path.display());
                let node = self.add(Node::File(FileNode::default()));
                let to = self.place(path);
                self.rename(NameChange { event, node, from: None, to: Some(to) });
                node
            }
        };
        self.handles.insert(handle, node);
        if truncate && !self.file(node).full.is_empty() {
            self.resize(event, node, 0);
        }
    }

    fn write(&mut self, event: usize, node: usize, at: usize, bytes: &[u8]) {
        let file = self.file(node);
        let end = at + bytes.len();
        if file.full.len() < end {
            file.full.resize(end, 0);
        }
        file.full[at..end].copy_from_slice(bytes);
        let first = at / SECTOR;
        let until = end.next_multiple_of(SECTOR).min(file.full.len());
        let bytes = file.full[first * SECTOR..until].to_vec();
        file.pending.push(Change { event, done: false, what: What::Write { first, bytes, end } });
    }

    fn resize(&mut self, event: usize, node: usize, len: usize) {
        let file = self.file(node);
        file.full.resize(len, 0);
        file.pending.push(Change { event, done: true, what: What::Length(len) });
    }

    fn reserve(&mut self, event: usize, node: usize, len: usize) {
        let file = self.file(node);
        if file.full.len() < len {
            file.full.resize(len, 0);
            file.pending.push(Change { event, done: true, what: What::AtLeast(len) });
        }
    }

    fn rename(&mut self, change: NameChange) {
        if let Some((dir, name)) = &change.from {
            self.dir(*dir).full.remove(name);
        }
        if let Some((dir, name)) = &change.to {
            self.dir(*dir).full.insert(name.clone(), change.node);
        }
        for dir in dirs_of(&change) {
            self.dir(dir).pending.push(change.clone());
        }
    }

    fn done(&mut self, op: u64) {
        if let Some((node, event)) = self.writes.remove(&op) {
            let change = self.file(node).pending.iter_mut().find(|c| c.event == event);
            change.into_iter().for_each(|c| c.done = true);
            return;
        }
        let Some(Syncing { node, covers }) = self.syncs.remove(&op) else { return };
        match &mut self.nodes[node] {
            Node::File(file) => {
                let FileNode { durable, pending, .. } = file;
                pending.retain(|change| {
                    let covered = covers.contains(&change.event);
                    if covered {
                        put(durable, &change.what, &How::Whole);
                    }
                    !covered
                });
            }
            Node::Dir(dir) => {
                let covered: Vec<NameChange> =
                    dir.pending.iter().filter(|c| covers.contains(&c.event)).cloned().collect();
                for change in covered {
                    for dir in dirs_of(&change) {
                        self.dir(dir).pending.retain(|c| c.event != change.event);
                    }
                    if let Some((dir, name)) = &change.from {
                        self.dir(*dir).durable.remove(name);
                    }
                    if let Some((dir, name)) = &change.to {
                        self.dir(*dir).durable.insert(name.clone(), change.node);
                    }
                }
            }
        }
    }

    /// The changes that are not durable: their events, how many sectors each writes, whether it is still under way.
    pub fn pending(&self) -> Vec<(usize, usize, bool)> {
        let mut all = BTreeMap::new();
        for node in &self.nodes {
            match node {
                Node::File(file) => {
                    for change in &file.pending {
                        let sectors = match &change.what {
                            What::Write { bytes, .. } => bytes.len().div_ceil(SECTOR),
                            _ => 0,
                        };
                        all.insert(change.event, (sectors, !change.done));
                    }
                }
                Node::Dir(dir) => dir.pending.iter().for_each(|c| {
                    all.insert(c.event, (0, false));
                }),
            }
        }
        all.into_iter().map(|(event, (sectors, under_way))| (event, sectors, under_way)).collect()
    }

    /// The disk that the choices leave; a change without one is not there.
    pub fn image(&self, choices: &Choices) -> Image {
        let names = self.names(choices);
        let mut image = Image::new();
        let mut todo = vec![(PathBuf::new(), ROOT)];
        while let Some((path, node)) = todo.pop() {
            for (name, child) in names.get(&node).into_iter().flatten() {
                let path = path.join(name);
                match &self.nodes[*child] {
                    Node::Dir(_) => {
                        image.insert(path.clone(), None);
                        todo.push((path, *child));
                    }
                    Node::File(file) => {
                        image.insert(path, Some(file.content(choices)));
                    }
                }
            }
        }
        image
    }

    fn names(&self, choices: &Choices) -> HashMap<usize, BTreeMap<String, usize>> {
        let mut names = HashMap::new();
        let mut changes = BTreeMap::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if let Node::Dir(dir) = node {
                names.insert(number, dir.durable.clone());
                changes.extend(dir.pending.iter().map(|c| (c.event, c)));
            }
        }
        for (event, change) in changes {
            if choices.get(&event).is_none_or(|c| c.how == How::Skip) {
                continue;
            }
            if let Some((dir, name)) = &change.from {
                let dir = names.get_mut(dir).expect("a directory");
                if dir.get(name) != Some(&change.node) {
                    continue;
                }
                dir.remove(name);
            }
            if let Some((dir, name)) = &change.to {
                names.get_mut(dir).expect("a directory").insert(name.clone(), change.node);
            }
        }
        names
    }
}

fn dirs_of(change: &NameChange) -> Vec<usize> {
    let mut dirs: Vec<usize> = [&change.from, &change.to].into_iter().flatten().map(|(d, _)| *d).collect();
    dirs.dedup();
    dirs
}

impl FileNode {
    fn content(&self, choices: &Choices) -> Vec<u8> {
        let mut content = self.durable.clone();
        for late in [false, true] {
            for change in &self.pending {
                if let Some(choice) = choices.get(&change.event).filter(|c| c.late == late) {
                    put(&mut content, &change.what, &choice.how);
                }
            }
        }
        content
    }
}

fn put(content: &mut Vec<u8>, what: &What, how: &How) {
    let grow = |content: &mut Vec<u8>, len: usize| {
        if content.len() < len {
            content.resize(len, 0);
        }
    };
    match (what, how) {
        (_, How::Skip) => {}
        (What::Length(len), _) => content.resize(*len, 0),
        (What::AtLeast(len), _) => grow(content, *len),
        (What::Write { end, .. }, How::Length) => grow(content, *end),
        (What::Write { first, bytes, end }, how) => {
            for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                if matches!(how, How::Sectors(mask) if !mask.get(i).copied().unwrap_or(false)) {
                    continue;
                }
                let at = (first + i) * SECTOR;
                grow(content, (at + sector.len()).min(*end));
                let len = sector.len().min(content.len().saturating_sub(at));
                content[at..at + len].copy_from_slice(&sector[..len]);
            }
        }
    }
}

/// Draws what a power cut left of the pending changes. Most draws are of one mind, because that is what finds things:
/// all but one, only one, the newest only, torn everywhere.
pub fn draw(pending: &[(usize, usize, bool)], random: &mut Random) -> Choices {
    let mood = random.below(8);
    let special = random.below(pending.len().max(1));
    let weight = 1 + random.below(7);
    let mut choices = Choices::new();
    for (i, (event, sectors, under_way)) in pending.iter().enumerate() {
        let how = match mood {
            0 => How::Whole,
            1 => How::Skip,
            2 if i == special => torn(*sectors, random),
            2 => How::Whole,
            3 if i == special => torn(*sectors, random),
            3 => How::Skip,
            4 if i < special => How::Skip,
            4 => How::Whole,
            5 if i > special => How::Skip,
            5 => How::Whole,
            6 if random.below(8) < weight => How::Whole,
            6 => How::Skip,
            _ => torn(*sectors, random),
        };
        let late = *under_way && random.below(4) == 0;
        choices.insert(*event, Choice { how, late });
    }
    choices
}

fn torn(sectors: usize, random: &mut Random) -> How {
    let cut = random.below(sectors.max(1));
    match random.below(if sectors == 0 { 2 } else { 8 }) {
        0 => How::Skip,
        1 => How::Whole,
        2 => How::Length,
        3 => How::Sectors((0..sectors).map(|i| i < cut).collect()),
        4 => How::Sectors((0..sectors).map(|i| i >= cut).collect()),
        5 => How::Sectors((0..sectors).map(|i| i != cut).collect()),
        6 => How::Sectors((0..sectors).map(|i| i == cut).collect()),
        _ => How::Sectors((0..sectors).map(|_| random.below(2) == 0).collect()),
    }
}

/// Writes an image into an empty directory. Pages of zeros become holes, which read the same.
pub fn write_image(image: &Image, dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    for (path, content) in image {
        let path = dir.join(path);
        let Some(bytes) = content else {
            std::fs::create_dir_all(path)?;
            continue;
        };
        let file = std::fs::File::create(&path)?;
        file.set_len(bytes.len() as u64)?;
        for (i, page) in bytes.chunks(PAGE).enumerate() {
            if page.iter().any(|b| *b != 0) {
                file.write_all_at(page, (i * PAGE) as u64)?;
            }
        }
    }
    Ok(())
}
