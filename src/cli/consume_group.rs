//! `weir consume TOPIC --group GROUP`: the topic's partitions are shared with the group's other members, and what was
//! printed is committed, round by round: whoever comes next goes on from there.

use std::time::Duration;

use super::consumer::{ConsumeArgs, Consumer, Cursor};
use super::failure::Failure;
use super::interrupt::Interrupt;
use crate::client::Membership;

/// How long a member without partitions waits before it looks again.
const IDLE: Duration = Duration::from_millis(500);

pub fn run(consumer: &mut Consumer<'_>, args: &ConsumeArgs, group: &str) -> Result<(), Failure> {
    let interrupt = Interrupt::watch()?;
    let mut membership = Membership::join(&mut consumer.client, group, &args.topic)?;
    let outcome = read(consumer, args, group, &mut membership, &interrupt);
    // What ended the reading counts for more than a failure to say goodbye.
    let left = membership.leave(&mut consumer.client);
    outcome.and(left.map_err(Failure::from))
}

fn read(
    consumer: &mut Consumer<'_>,
    args: &ConsumeArgs,
    group: &str,
    membership: &mut Membership,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    loop {
        let mut cursors = cursors(consumer, args, group, &membership.partitions())?;
        let mut committed: Vec<(i32, i64)> = positions(&cursors);
        loop {
            if interrupt.is_asked() || consumer.is_over(&cursors, args.exit_at_end) {
                return Ok(());
            }
            if cursors.iter().all(Cursor::is_done) {
                std::thread::sleep(IDLE);
            } else {
                consumer.round(&mut cursors)?;
                consumer.flush()?;
            }
            let now = positions(&cursors);
            let moved: Vec<(i32, i64)> = now.iter().filter(|at| !committed.contains(at)).copied().collect();
            if !moved.is_empty() {
                match membership.commit(&mut consumer.client, &moved) {
                    Ok(()) => committed = now,
                    Err(error) if error.is_fenced_member() => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if membership.is_rebalancing(&mut consumer.client)? {
                break;
            }
        }
        membership.rejoin(&mut consumer.client)?;
    }
}

fn positions(cursors: &[Cursor]) -> Vec<(i32, i64)> {
    let mut positions: Vec<(i32, i64)> = cursors.iter().map(|c| (c.partition, c.next)).collect();
    positions.sort_unstable();
    positions
}

/// Where this member is to read: from what the group has committed, else from where the user said.
fn cursors(
    consumer: &mut Consumer<'_>,
    args: &ConsumeArgs,
    group: &str,
    partitions: &[i32],
) -> Result<Vec<Cursor>, Failure> {
    let committed = consumer.client.group_offsets(group)?;
    let mut cursors = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let mut cursor = consumer.open(*partition, args)?;
        let found = committed.iter().find(|o| o.at.0 == args.topic && o.at.1 == *partition);
        if let Some(found) = found {
            cursor.next = found.offset;
        }
        cursors.push(cursor);
    }
    Ok(cursors)
}

/// Options that go with partitions of one's own choice only.
pub fn check(args: &ConsumeArgs) -> Result<(), Failure> {
    if args.partitions.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage("--group shares the partitions out by itself: leave --partition away".to_owned()))
}
