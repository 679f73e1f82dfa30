//! What a log knows of its directory.

use std::cell::{Cell, RefCell};

/// Whether the directory is there, whether it has what the next start will be told, and what is still to go from it.
pub struct Directory {
    made: Cell<bool>,
    in_order: Cell<bool>,
    /// Names of files renamed away that are still to be unlinked.
    dead: RefCell<Vec<String>>,
}

impl Directory {
    pub fn new(made: bool, in_order: bool) -> Self {
        Self { made: Cell::new(made), in_order: Cell::new(in_order), dead: RefCell::default() }
    }

    /// Whether its name is durable.
    pub fn is_made(&self) -> bool {
        self.made.get()
    }

    pub fn set_made(&self) {
        self.made.set(true);
    }

    /// Whether files are exactly as the log lists them, and there are no others: a start need not look.
    pub fn is_in_order(&self) -> bool {
        self.in_order.get()
    }

    pub fn set_in_order(&self, in_order: bool) {
        self.in_order.set(in_order);
    }

    pub fn note_dead(&self, names: Vec<String>) {
        self.dead.borrow_mut().extend(names);
    }

    pub fn dead(&self) -> Vec<String> {
        self.dead.borrow().clone()
    }

    pub fn take_dead(&self) -> Vec<String> {
        self.dead.take()
    }

    /// Of these names, those that nobody has taken since.
    pub fn take_dead_of(&self, due: &[String]) -> Vec<String> {
        self.dead.borrow_mut().extract_if(.., |name| due.contains(name)).collect()
    }
}
