//! Brokers that come, live, stop and die, and what becomes of their partitions meanwhile (rules C1 to C6).

use std::collections::BTreeSet;

use super::brackets::commits;
use super::brokers::{AlterPartitions, Heard, Heartbeat, Registration};
use super::decide::membership;
use super::decide::view::View;
use super::decide::{Decision, Outcome, check_epoch, drain, elections, factor, isr, reassign};
use super::request::{ControlError, ControlErrorKind as Kind, ControlRequest};
use super::{Controller, MAX_RECORDS};
use crate::metadata::records::Record;
use crate::metadata::{Broker, Image};
use crate::model::{BrokerEpoch, BrokerId, MonoMs};

/// Whether a request concerns brokers and replicas.
pub fn is_of_brokers(request: &ControlRequest) -> bool {
    use ControlRequest::*;
    matches!(
        request,
        Register(_)
            | Heartbeat(_)
            | Gone { .. }
            | AlterPartitions(_)
            | Unregister { .. }
            | ElectLeaders { .. }
            | Reassign { .. }
            | ListReassignments { .. }
            | Drain(_)
    )
}

impl<To> Controller<To> {
    fn view(&self) -> View<'_> {
        View { image: &self.proposed, index: self.index.as_ref().expect("only the controller decides") }
    }

    /// Decides requests for which [`is_of_brokers`].
    pub(super) fn of_brokers(&mut self, request: &ControlRequest, now: MonoMs) -> Decision {
        match request {
            ControlRequest::Register(registration) => {
                self.register(registration, now).unwrap_or_else(Decision::failed)
            }
            ControlRequest::Heartbeat(beat) => self.heartbeat(beat, now).unwrap_or_else(Decision::failed),
            ControlRequest::Gone { id, epoch } => self.gone(*id, *epoch),
            ControlRequest::AlterPartitions(asked) => {
                self.alter_partitions(asked).unwrap_or_else(Decision::failed)
            }
            ControlRequest::Unregister { id } => self.unregister(*id, now).unwrap_or_else(Decision::failed),
            ControlRequest::ElectLeaders { partitions, unclean } => {
                let (records, results) = elections::elect(&self.view(), partitions.as_deref(), *unclean);
                Decision::new(records, Outcome::Elected(results))
            }
            ControlRequest::Reassign { partitions, factor_may_change } => {
                let (records, results) = reassign::reassign(&self.view(), partitions, *factor_may_change);
                self.balance.note_by_hand(&self.proposed, partitions, now);
                Decision::new(records, Outcome::Reassigned(results))
            }
            ControlRequest::ListReassignments { partitions } => {
                let moving = reassign::list(&self.view(), partitions.as_deref());
                Decision::new(Vec::new(), Outcome::Reassignments(moving))
            }
            ControlRequest::Drain(wanted) => match drain::drain(&self.view(), wanted) {
                Ok((records, drained)) => {
                    self.balance.note_own(&records);
                    Decision::new(records, Outcome::Drained(drained))
                }
                Err(error) => Decision::failed(error),
            },
            _ => unreachable!("of topics, configurations and the like"),
        }
    }

    fn register(&mut self, registration: &Registration, now: MonoMs) -> Result<Decision, ControlError> {
        let image = self.proposed.clone();
        let id = self.identify(registration)?;
        let known = image.broker(id);
        let same_life = known.filter(|broker| broker.incarnation == registration.incarnation);
        if same_life.is_none() && self.sessions.is_live(id, now) {
            let why = "Another broker is registered with that broker id. If the broker was recently restarted this \
                       resolves itself once its session is over.";
            return Err(ControlError::new(Kind::DuplicateRegistration, why));
        }
        check_features(&image, registration)?;
        if let Some(broker) = same_life {
            // It says something else of itself, or has not heard the answer.
            let mut records = vec![membership::registered(id, broker.epoch, registration)];
            records.push(as_before(broker));
            if is_told_alike(broker, registration) {
                records.clear();
            }
            self.sessions.hear(id, broker.epoch, 0, now);
            return Ok(Decision::new(records, Outcome::Registered(id, broker.epoch)));
        }
        let (epoch, records) =
            membership::come(&self.view(), id, registration, false, |records| self.lands_at(records));
        self.sessions.begin(id, epoch, now);
        Ok(Decision::new(records, Outcome::Registered(id, epoch)))
    }

    /// Who registers: by the id that it says, by its directory, or somebody new.
    fn identify(&self, registration: &Registration) -> Result<BrokerId, ControlError> {
        let image = &self.proposed;
        if registration.cluster != *image.cluster_id {
            let (ours, theirs) = (&image.cluster_id, &registration.cluster);
            let why = format!("Expected cluster ID {ours}, but got cluster ID {theirs}");
            return Err(ControlError::new(Kind::InconsistentClusterId, why));
        }
        let invalid = |why: String| Err(ControlError::new(Kind::InvalidRegistration, why));
        if registration.endpoints.is_empty() {
            return invalid("No listener is specified in the registration".into());
        }
        let same_disk = image.brokers().find(|broker| broker.directory == registration.directory);
        match (registration.id, same_disk) {
            (Some(id), _) if id < 0 => invalid(format!("{id} is no broker id")),
            (Some(id), Some(other)) if other.id != id => invalid(format!(
                "Broker {} is already registered with this data directory: it was copied, or has another id now",
                other.id
            )),
            (Some(id), _) => Ok(id),
            (None, Some(same)) => Ok(same.id),
            (None, None) => {
                let highest = self.index.as_ref().and_then(super::index::Index::highest);
                let free = membership::free_id(image, highest);
                free.map_or_else(|| invalid("There is no broker id left".into()), Ok)
            }
        }
    }

    /// The offset of the last commit of a change of so many records.
    fn lands_at(&self, records: usize) -> u64 {
        self.proposed.version + commits(records, MAX_RECORDS, self.proposed.is_bracketed()) as u64
    }

    fn heartbeat(&mut self, beat: &Heartbeat, now: MonoMs) -> Result<Decision, ControlError> {
        check_epoch(&self.proposed, beat.id, beat.epoch)?;
        self.check_knows(beat.applied)?;
        let image = self.proposed.clone();
        let Some(broker) = image.broker(beat.id) else { return Ok(Decision::new(Vec::new(), Outcome::Gone)) };
        let stops_at = self.sessions.hear(beat.id, beat.epoch, beat.applied, now).stops_at;
        if let Some(load) = &beat.load {
            self.balance.loads.hear(beat.id, beat.epoch, load);
        }
        let caught_up = beat.applied >= beat.epoch.0 as u64;
        let heard = |fenced, may_stop| Outcome::Heard(Heard { caught_up, fenced, may_stop });
        // Heartbeats overtake each other: who has asked to stop stops, whatever it says after, until it comes in another life.
        let stops = beat.wants_shutdown || broker.shutting_down;
        // Nobody takes over from the only broker there is, so that it neither needs to hand over nor is helped by being fenced.
        if image.brokers().len() == 1 && !broker.fenced {
            return Ok(Decision::new(Vec::new(), heard(false, stops)));
        }
        let view = self.view();
        if broker.fenced {
            // What is damaged is not led first: one thing after the other.
            let mut records = membership::damaged(&view, beat.id, &beat.needs_repair);
            let comes = !stops && !beat.wants_fence && caught_up && records.is_empty();
            if comes {
                records = membership::unfence(&view, broker);
                let at = self.lands_at(records.len());
                self.sessions.hear(beat.id, beat.epoch, 0, now).unfenced_at = at;
            } else if stops && !broker.shutting_down {
                records.push(membership::shutting_down(broker));
            }
            return Ok(Decision::new(records, heard(!comes, stops)));
        }
        if beat.wants_fence {
            let mut records = membership::fence(&view, &BTreeSet::from([beat.id]));
            if stops && !broker.shutting_down {
                records.push(membership::shutting_down(broker));
            }
            return Ok(Decision::new(records, heard(true, stops)));
        }
        if stops {
            let (records, may_stop) = self.stop(broker, stops_at);
            return Ok(Decision::new(records, heard(may_stop, may_stop)));
        }
        let records = membership::damaged(&view, beat.id, &beat.needs_repair);
        Ok(Decision::new(records, heard(false, false)))
    }

    /// A broker would stop. It may once others lead what they can, and all who live know it.
    fn stop(&mut self, broker: &Broker, stops_at: Option<u64>) -> (Vec<Record>, bool) {
        let view = self.view();
        let mut records = membership::hand_over(&view, broker.id);
        let leads = membership::leads_for_others(&view, broker.id);
        let known = |at: u64| {
            let others =
                view.image.brokers().filter(|other| other.id != broker.id && view.is_active(other.id));
            let mut applied = others.map(|other| self.sessions.get(other.id).map_or(0, |s| s.applied));
            applied.all(|applied| applied >= at)
        };
        let may = match stops_at {
            Some(at) => records.is_empty() && known(at),
            // After another controller it is not known who knows what.
            None => !leads && !broker.shutting_down,
        };
        if may {
            records = membership::fence(&view, &BTreeSet::from([broker.id]));
        }
        if !broker.shutting_down {
            records.push(membership::shutting_down(broker));
        }
        if may {
            return (records, true);
        }
        let at = if records.is_empty() { self.proposed.version } else { self.lands_at(records.len()) };
        let session = self.sessions.hear(broker.id, broker.epoch, 0, MonoMs::ZERO);
        if session.stops_at.is_none() || !records.is_empty() {
            session.stops_at = Some(at);
        }
        (records, false)
    }

    /// A broker's process has ended: there is no need to wait for its session to.
    fn gone(&mut self, id: BrokerId, epoch: BrokerEpoch) -> Decision {
        let image = self.proposed.clone();
        let Some(broker) = image.broker(id).filter(|broker| broker.epoch == epoch) else {
            return Decision::new(Vec::new(), Outcome::Gone);
        };
        self.sessions.end(id);
        let records = match broker.fenced {
            true => Vec::new(),
            false => membership::fence(&self.view(), &BTreeSet::from([id])),
        };
        Decision::new(records, Outcome::Gone)
    }

    fn alter_partitions(&self, asked: &AlterPartitions) -> Result<Decision, ControlError> {
        check_epoch(&self.proposed, asked.broker, asked.epoch)?;
        self.check_knows(asked.applied)?;
        let unfenced_at = |id| self.sessions.get(id).map_or(0, |session| session.unfenced_at);
        let knows = |id| asked.applied >= self.terms_since.max(unfenced_at(id));
        let (records, results) = isr::alter(&self.view(), asked.broker, &knows, &asked.changes);
        Ok(Decision::new(records, Outcome::Altered(results)))
    }

    fn unregister(&mut self, id: BrokerId, now: MonoMs) -> Result<Decision, ControlError> {
        let image = self.proposed.clone();
        let Some(broker) = image.broker(id) else {
            let why = format!("Broker ID {id} is not currently registered");
            return Err(ControlError::new(Kind::BrokerNotRegistered, why));
        };
        if image.brokers().len() == 1 {
            let why = format!("Broker {id} is the only broker and serves this request");
            return Err(ControlError::new(Kind::InvalidRequest, why));
        }
        if !broker.fenced || self.sessions.is_live(id, now) {
            let why = format!("Broker {id} is running: it has to stop before it can be unregistered");
            return Err(ControlError::new(Kind::InvalidRequest, why));
        }
        let records = membership::unregister(&self.view(), broker);
        self.sessions.end(id);
        Ok(Decision::new(records, Outcome::Unregistered))
    }

    /// Whether this controller knows what a broker knows: one that does not is a controller of former times.
    fn check_knows(&self, applied: u64) -> Result<(), ControlError> {
        if applied <= self.committed.version {
            return Ok(());
        }
        let why = format!("The controller is at offset {}, behind {applied}.", self.committed.version);
        Err(ControlError::new(Kind::NotController, why))
    }

    /// Fences who is silent for too long; now and then returns leaders, elects some where nobody leads, raises
    /// factors and balances.
    pub(super) fn look_over(&mut self, now: MonoMs) -> Decision {
        self.sessions.pass(now);
        let silent = |broker: &&Broker| !broker.fenced && !self.sessions.is_live(broker.id, now);
        let silent: BTreeSet<BrokerId> =
            self.proposed.brokers().filter(silent).map(|broker| broker.id).collect();
        // The only broker there is runs this very code.
        if !silent.is_empty() && self.proposed.brokers().len() > 1 {
            let records = membership::fence(&self.view(), &silent);
            return Decision::new(records, Outcome::Nothing);
        }
        if now.since(self.balance.looked) >= self.rules.balance_ms {
            self.balance.looked = now;
            let records = self.return_and_raise(now);
            if !records.is_empty() {
                self.balance.note_own(&records);
                return Decision::new(records, Outcome::Nothing);
            }
        }
        Decision::new(self.rebalance(now), Outcome::Nothing)
    }

    fn return_and_raise(&self, now: MonoMs) -> Vec<Record> {
        let view = self.view();
        let mut records = elections::revive(&view);
        if records.is_empty() {
            records = elections::rebalance(&view, MonoMs(now.0 - self.rules.settled_ms));
        }
        if records.is_empty() {
            records = drain::go_on(&view);
        }
        if records.is_empty() {
            records = factor::raise(&view, self.rules.default_replication_factor);
        }
        records
    }
}

/// What became of a broker since it registered, said again of its registration.
fn as_before(broker: &Broker) -> Record {
    let mut record = membership::changed(broker);
    if let Record::BrokerChanged { fenced, draining, shutting_down, .. } = &mut record {
        *fenced = Some(broker.fenced);
        *draining = Some(broker.draining);
        *shutting_down = Some(broker.shutting_down);
    }
    record
}

fn is_told_alike(broker: &Broker, registration: &Registration) -> bool {
    broker.endpoints == registration.endpoints
        && broker.rack == registration.rack
        && broker.directory == registration.directory
        && broker.shards == registration.shards
        && broker.features == registration.features
        && broker.build == registration.build
}

/// Whether a broker can run at every level that the cluster runs at.
fn check_features(image: &Image, registration: &Registration) -> Result<(), ControlError> {
    for (name, level) in image.features.iter().filter(|(_, level)| **level != 0) {
        let range = registration.features.iter().find(|range| range.name == *name);
        let (min, max) = range.map_or((0, 0), |range| (range.min, range.max));
        if !(min..=max).contains(level) {
            let why = format!(
                "Unable to register because the broker does not support level {level} of {name}, at which the cluster \
                 runs: it supports {min} to {max}. Start a version of Weir that does."
            );
            return Err(ControlError::new(Kind::UnsupportedVersion, why));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
