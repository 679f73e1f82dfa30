//! `weir consume TOPIC`: prints records, partition by partition as they come; with `--group`, as a member of a group.

use super::consume_group;
pub use super::consumer::ConsumeArgs;
use super::consumer::Consumer;
use super::failure::Failure;

pub fn run(args: &ConsumeArgs) -> Result<(), Failure> {
    let mut consumer = Consumer::connect(args)?;
    if let Some(group) = &args.group {
        consume_group::check(args)?;
        return consume_group::run(&mut consumer, args, group);
    }
    let wanted = match args.partitions.is_empty() {
        true => consumer.partitions(),
        false => args.partitions.clone(),
    };
    let mut cursors = Vec::new();
    for partition in wanted {
        cursors.push(consumer.open(partition, args)?);
    }
    consumer.run(cursors)
}
