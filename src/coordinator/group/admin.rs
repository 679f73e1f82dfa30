//! Groups as administration sees them, and their end.

use super::state::{Group, Phase};
use super::types::{DescribedMember, Description, GroupError, ListFilter, Listed, Name};
use super::{Groups, Timer, codec, offsets};
use crate::coordinator::Effects;

impl Groups {
    pub fn list(&self, filter: &ListFilter) -> Vec<Listed> {
        let wanted = |group: &&Group| {
            filter.states.is_empty() || filter.states.contains(&group.phase.name().to_ascii_lowercase())
        };
        let listed = self.groups.values().filter(wanted).map(|group| Listed {
            group: group.id.clone(),
            protocol_type: group.protocol_type.clone(),
            state: group.phase.name(),
        });
        listed.collect()
    }

    pub(super) fn delete(&mut self, group: &Name, fx: &mut Effects<Self>) -> Result<(), GroupError> {
        let found = self.groups.get_mut(group).ok_or(GroupError::NotFound)?;
        if found.phase != Phase::Empty {
            return Err(GroupError::NonEmpty);
        }
        fx.write_all(offsets::delete_all(found));
        fx.write(codec::group_tombstone(group));
        self.groups.remove(group);
        Ok(())
    }

    pub(super) fn describe(&self, group: &str) -> Option<Description> {
        let group = self.groups.get(group)?;
        let stable = group.phase == Phase::Stable;
        let protocol = group.protocol.clone().filter(|_| stable);
        let members = group.members.values().map(|member| DescribedMember {
            id: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable { member.metadata(protocol.as_deref()) } else { Default::default() },
            assignment: member.assignment.clone(),
        });
        Some(Description {
            state: group.phase.name(),
            protocol_type: group.protocol_type.clone(),
            members: members.collect(),
            protocol,
        })
    }

    pub(super) fn expire(&mut self, fx: &mut Effects<Self>) {
        let retention = self.settings.offsets_retention_ms;
        let wall = fx.wall;
        self.groups.retain(|name, group| {
            fx.write_all(offsets::expire(group, wall, retention));
            let over = group.is_disposable() && group.pending_join.is_empty();
            if over {
                fx.write(codec::group_tombstone(name));
            }
            !over
        });
        fx.schedule(fx.now + self.settings.retention_check_ms, Timer::Expire);
    }
}
