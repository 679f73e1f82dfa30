"""Consumer groups with confluent-kafka, kafka-python and aiokafka: three members that join, leave and die, commits,
static members, the cooperative protocol, administration. `suite.py` runs these and lends its helpers."""

import time
from concurrent.futures import ThreadPoolExecutor

from clients import Aiokafka, Apart, Confluent, Cooperative, KafkaPython, for_each
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

PARTITIONS = 6
RECORDS = PARTITIONS * 20
suite = None


def cases(module):
    """The checks, given the suite's own module for its helpers."""
    global suite
    suite = module
    return [*for_each([Confluent, Cooperative, KafkaPython, Aiokafka], [three]),
            *for_each([Confluent, KafkaPython, Aiokafka], [resume]),
            confluent_stalled, confluent_static, confluent_admin]


def fill(name):
    topic = suite.make(name, PARTITIONS)
    suite.send(topic, [str(i).encode() for i in range(RECORDS)])
    return topic


def settle(members, seen, seconds=40):
    """Polls all members at once until the partitions are shared out, each to one member."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        with ThreadPoolExecutor(len(members)) as pool:
            for found in pool.map(lambda member: member.poll(), members):
                seen += [value for _, _, value in found]
        shares = [member.owned() for member in members]
        if all(shares) and sorted(p for share in shares for p in share) == list(range(PARTITIONS)):
            return shares
    raise AssertionError(f"not settled: {shares}")


def three(client):
    """a group of three, one leaves, one dies"""
    topic = fill(f"three-{client.__name__}")
    seen = []
    members = [client(topic, topic)]
    settle(members, seen)
    members += [client(topic, topic), Apart(client, topic, topic)]
    settle(members, seen)
    members.pop().kill()
    settle(members, seen)
    members.pop().close()
    settle(members, seen)
    deadline = time.time() + 20
    while len(set(seen)) < RECORDS and time.time() < deadline:
        settle(members, seen)
    suite.same(len(set(seen)), RECORDS)
    members.pop().close()


def resume(client):
    """commits, and the next member goes on from there"""
    topic = fill(f"resume-{client.__name__}")
    seen = []
    for want in (RECORDS // 2, RECORDS):
        member, ends = client(topic, topic), {}
        deadline = time.time() + 30
        while len(seen) < want and time.time() < deadline:
            for partition, offset, value in member.poll(most=want - len(seen)):
                seen.append(value)
                ends[partition] = offset + 1
        member.commit(topic, ends)
        suite.same({p: member.committed(topic, p) for p in ends}, ends)
        member.close()
    suite.same(sorted(seen, key=int), [str(i).encode() for i in range(RECORDS)])


def confluent_stalled():
    """confluent-kafka: a member that is not polled leaves by itself"""
    topic = fill("stalled")
    members = [Confluent(topic, topic), Confluent(topic, topic, **{"max.poll.interval.ms": 6000})]
    settle(members, [])
    settle(members[:1], [])
    for member in members:
        member.close()


def confluent_static():
    """confluent-kafka: a static member comes back without a rebalance"""
    topic = fill("static")
    members = [static(topic, i) for i in range(2)]
    before = settle(members, [])
    members[1].close()
    members[1] = static(topic, 1)
    suite.same(settle(members, []), before)
    for member in members:
        member.close()


def static(topic, i):
    return Confluent(topic, topic, **{"group.instance.id": f"member-{i}", "session.timeout.ms": 20000})


def confluent_admin():
    """confluent-kafka: groups are listed, described, altered and deleted"""
    topic = fill("group-admin")
    admin = AdminClient({"bootstrap.servers": suite.BROKER})
    member = Confluent(topic, topic)
    settle([member], [])
    described = admin.describe_consumer_groups([topic])[topic].result(20)
    suite.same((described.state, len(described.members)), (ConsumerGroupState.STABLE, 1))
    suite.same(len(described.members[0].assignment.topic_partitions), PARTITIONS)
    listed = admin.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(20).valid
    assert topic in {g.group_id for g in listed}
    member.close()
    wanted = [TopicPartition(topic, p, 7) for p in range(PARTITIONS)]
    altered = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(topic, wanted)])[topic].result(20)
    assert all(not p.error for p in altered.topic_partitions), altered.topic_partitions
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(topic)])[topic].result(20)
    suite.same({p.partition: p.offset for p in found.topic_partitions}, {p: 7 for p in range(PARTITIONS)})
    admin.delete_consumer_groups([topic])[topic].result(20)
    listed = admin.list_consumer_groups().result(20).valid
    assert topic not in {g.group_id for g in listed}
