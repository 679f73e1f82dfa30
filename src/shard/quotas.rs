//! Counting what clients use against their quotas.
//!
//! A client's connections are spread over the shards, and they share one limit without sharing memory: each shard keeps
//! the whole window of everybody it serves. What it counts itself is in it at once; every 100 ms (`quota_use`) the shards tell
//! each other what they counted since. A client can thus exceed its limit by what it manages on the other shards within
//! that time, once; the window then knows and makes it wait. Where no quota is set nothing is counted and nobody wakes.
//!
//! A made-up client id costs a window until it is over. There are at most [`MAX_WINDOWS`]; who would need one more
//! meanwhile is let through.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rt::{self, Listen, Notify};
use crate::security::Principal;
use crate::security::quota::{Holder, Kind, Table, Window};

const MAX_WINDOWS: usize = 10_000;
/// Clients whose limits are remembered, so that they are not looked up for every request.
const MAX_RESOLVED: usize = 10_000;
/// Of one client id, which several principals may use.
const MAX_PRINCIPALS: usize = 16;
/// A wait for using too much time is never longer: it was measured over a moment.
const LONGEST_TIME_WAIT: Duration = Duration::from_secs(1);

type Limits = [Option<(Arc<Holder>, f64)>; Kind::ALL.len()];

/// Whose quota applies.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub principal: &'a Principal,
    pub client_id: &'a str,
}

/// What a shard knows of quotas and of their use.
pub struct Quotas {
    table: RefCell<Arc<Table>>,
    kinds: Cell<[bool; Kind::ALL.len()]>,
    /// By client id, so that a request of a known one looks up once.
    resolved: RefCell<HashMap<String, Vec<(Principal, Limits)>>>,
    windows: RefCell<HashMap<Arc<Holder>, Window>>,
    /// Counted here and not told to the other shards yet.
    untold: RefCell<HashMap<Arc<Holder>, f64>>,
    counted: Notify,
    began: Instant,
    alone: bool,
}

impl Quotas {
    pub fn new(table: Arc<Table>, alone: bool) -> Self {
        let quotas = Self {
            table: RefCell::default(),
            kinds: Cell::default(),
            resolved: RefCell::default(),
            windows: RefCell::default(),
            untold: RefCell::default(),
            counted: Notify::new(),
            began: rt::now(),
            alone,
        };
        quotas.set_table(table);
        quotas
    }

    /// Takes effect on the next request; what was used stays counted.
    pub fn set_table(&self, table: Arc<Table>) {
        if Arc::ptr_eq(&self.table.borrow(), &table) {
            return;
        }
        self.kinds.set(Kind::ALL.map(|kind| table.has(kind)));
        self.resolved.borrow_mut().clear();
        self.table.replace(table);
    }

    /// Whether anybody has a quota of this kind.
    pub fn is_limited(&self, kind: Kind) -> bool {
        self.kinds.get()[kind as usize]
    }

    fn now(&self) -> Duration {
        rt::now().saturating_duration_since(self.began)
    }

    fn limit(&self, kind: Kind, who: Who<'_>) -> Option<(Arc<Holder>, f64)> {
        if !self.is_limited(kind) {
            return None;
        }
        let known = |(principal, _): &&(Principal, Limits)| principal == who.principal;
        if let Some((_, limits)) =
            self.resolved.borrow().get(who.client_id).and_then(|users| users.iter().find(known))
        {
            return limits[kind as usize].clone();
        }
        let table = self.table.borrow();
        let (user, client_id) = (who.principal.name(), who.client_id);
        let limits = Kind::ALL
            .map(|kind| table.limit(kind, user, client_id).map(|(holder, limit)| (Arc::new(holder), limit)));
        let mut resolved = self.resolved.borrow_mut();
        if resolved.len() >= MAX_RESOLVED {
            resolved.clear();
        }
        let found = limits[kind as usize].clone();
        let users = resolved.entry(client_id.to_owned()).or_default();
        if users.len() >= MAX_PRINCIPALS {
            users.clear();
        }
        users.push((who.principal.clone(), limits));
        found
    }

    /// Counts what a client used, and says how long it has to wait for that.
    pub fn charge(&self, kind: Kind, who: Who<'_>, amount: f64) -> Duration {
        let Some((holder, limit)) = self.limit(kind, who) else { return Duration::ZERO };
        let now = self.now();
        if amount != 0.0 {
            if !self.count(&holder, now, amount) {
                return Duration::ZERO;
            }
            if !self.alone {
                let mut untold = self.untold.borrow_mut();
                *untold.entry(holder.clone()).or_default() += amount;
                self.counted.notify_all();
            }
        }
        let mut windows = self.windows.borrow_mut();
        let wait = windows.get_mut(&holder).map_or(Duration::ZERO, |window| window.wait(now, limit));
        if kind == Kind::Request { wait.min(LONGEST_TIME_WAIT) } else { wait }
    }

    /// How much a client may use at once before it has to wait.
    pub fn burst(&self, kind: Kind, who: Who<'_>) -> Option<f64> {
        self.limit(kind, who).map(|(_, limit)| Window::burst(limit))
    }

    /// Counts time spent on a request: it bears on the client's next one.
    pub fn spent(&self, who: Who<'_>, time: Duration) {
        self.charge(Kind::Request, who, time.as_secs_f64() * 100.0);
    }

    fn count(&self, holder: &Arc<Holder>, now: Duration, amount: f64) -> bool {
        let mut windows = self.windows.borrow_mut();
        if windows.len() >= MAX_WINDOWS && !windows.contains_key(holder) {
            windows.retain(|_, window| !window.is_over(now));
            if windows.len() >= MAX_WINDOWS {
                return false;
            }
        }
        windows.entry(holder.clone()).or_default().add(now, amount);
        true
    }

    /// Resolves once something is counted that the other shards are to hear; `None` where something is by now.
    pub(super) fn counted(&self) -> Option<Listen> {
        let counted = self.counted.listen();
        self.untold.borrow().is_empty().then_some(counted)
    }

    /// What the other shards are to hear, in an order that is the same for the same use: where windows run out, it decides
    /// whose is counted.
    pub(super) fn take_untold(&self) -> Arc<[(Arc<Holder>, f64)]> {
        let mut used: Vec<_> = self.untold.take().into_iter().collect();
        used.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        used.into()
    }

    /// What another shard counted.
    pub fn hear(&self, used: &[(Arc<Holder>, f64)]) {
        let now = self.now();
        for (holder, amount) in used {
            self.count(holder, now, *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::quota::{Entity, Name, PRODUCER_BYTE_RATE};

    fn table(limit: f64) -> Arc<Table> {
        let mut table = Table::default();
        let entity = Entity { user: None, client_id: Some(Name::Default) };
        table.set(&entity, PRODUCER_BYTE_RATE, Some(limit));
        Arc::new(table)
    }

    fn anonymous(client_id: &str) -> Who<'_> {
        Who { principal: &Principal::Anonymous, client_id }
    }

    #[test]
    fn principals_that_use_one_client_id_are_counted_apart() {
        let mut table = Table::default();
        let user = |name: &str| Entity { user: Some(Name::Named(name.into())), client_id: None };
        table.set(&user("user-0"), PRODUCER_BYTE_RATE, Some(100.0));
        table.set(&user("ANONYMOUS"), PRODUCER_BYTE_RATE, Some(1e9));
        let quotas = Quotas::new(Arc::new(table), true);
        // More than are remembered, and each still has what is his.
        for _ in 0..2 {
            for n in 0..MAX_PRINCIPALS + 3 {
                let principal = Principal::User(format!("user-{n}").into());
                let who = Who { principal: &principal, client_id: "shared" };
                assert_eq!(quotas.burst(Kind::Produce, who).is_some(), n == 0, "{principal}");
            }
        }
        assert!(quotas.resolved.borrow()["shared"].len() <= MAX_PRINCIPALS);
        let principal = Principal::User("user-0".into());
        let who = Who { principal: &principal, client_id: "shared" };
        quotas.charge(Kind::Produce, who, 1e4);
        assert!(quotas.charge(Kind::Produce, who, 0.0) > Duration::from_secs(5));
        assert_eq!(quotas.charge(Kind::Produce, anonymous("shared"), 1e4), Duration::ZERO);
    }

    #[test]
    fn nothing_is_counted_without_a_quota() {
        let quotas = Quotas::new(Arc::default(), false);
        assert_eq!(quotas.charge(Kind::Produce, anonymous("a"), 1e12), Duration::ZERO);
        assert!(quotas.windows.borrow().is_empty() && quotas.untold.borrow().is_empty());
    }

    #[test]
    fn each_client_has_its_own_window_and_what_others_count_is_in_it() {
        let quotas = Quotas::new(table(100.0), false);
        assert_eq!(quotas.charge(Kind::Produce, anonymous("a"), 900.0), Duration::ZERO);
        assert!(quotas.charge(Kind::Produce, anonymous("a"), 900.0) > Duration::from_secs(5));
        assert_eq!(quotas.charge(Kind::Produce, anonymous("b"), 900.0), Duration::ZERO);
        assert_eq!(quotas.charge(Kind::Fetch, anonymous("a"), 1e9), Duration::ZERO);
        let told = quotas.take_untold();
        assert!(told.is_sorted_by_key(|(holder, _)| holder.client_id.clone()), "{told:?}");
        assert_eq!(told.iter().map(|(_, amount)| amount).sum::<f64>(), 2700.0);
        let other = Quotas::new(table(100.0), false);
        other.hear(&told);
        assert!(other.untold.borrow().is_empty(), "what was heard is not told again");
        assert!(other.charge(Kind::Produce, anonymous("a"), 1.0) > Duration::from_secs(5));
        other.set_table(table(1e6));
        assert_eq!(other.charge(Kind::Produce, anonymous("a"), 1.0), Duration::ZERO);
        other.set_table(Arc::default());
        assert!(!other.is_limited(Kind::Produce));
    }

    #[test]
    fn made_up_clients_do_not_cost_more_than_the_bound() {
        let quotas = Quotas::new(table(1.0), true);
        for i in 0..MAX_WINDOWS + 500 {
            quotas.charge(Kind::Produce, anonymous(&format!("client-{i}")), 1e6);
        }
        assert_eq!(quotas.windows.borrow().len(), MAX_WINDOWS);
        assert!(quotas.untold.borrow().is_empty(), "there is nobody to tell");
    }
}
