"""Consumer groups with confluent-kafka, kafka-python and aiokafka: three members that join, leave and die, commits,
static members, the cooperative protocol, administration. `suite.py` runs these and lends its helpers."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import aiokafka
import kafka
from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

PARTITIONS = 6
suite = None


def cases(module):
    """The checks, given the suite's own module for its helpers."""
    global suite
    suite = module
    return [confluent_three_range, confluent_three_cooperative, confluent_resume, confluent_static, confluent_admin,
            kafka_python_three, kafka_python_resume, aiokafka_three, aiokafka_resume]


def fill(name, each=20):
    topic = suite.make(name, PARTITIONS)
    suite.send(topic, [str(i).encode() for i in range(PARTITIONS * each)])
    return topic


def confluent(group, topic, **settings):
    consumer = Consumer({"bootstrap.servers": suite.BROKER, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
                         **settings})
    consumer.subscribe([topic])
    return consumer


def settle(consumers, seen, seconds=40):
    """Polls until the partitions are shared out, each to one member."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        for consumer in consumers:
            for message in consumer.consume(100, 0.05):
                if not message.error():
                    seen.append(message.value())
        shares = [{p.partition for p in c.assignment()} for c in consumers]
        if all(shares) and sorted(p for share in shares for p in share) == list(range(PARTITIONS)):
            return shares
    raise AssertionError(f"not settled: {shares}")


def three(strategy):
    topic = fill(f"group-{strategy}")
    group, seen = topic, []
    settings = {"partition.assignment.strategy": strategy}
    a = confluent(group, topic, **settings)
    settle([a], seen)
    b, c = (confluent(group, topic, **settings) for _ in range(2))
    settle([a, b, c], seen)
    c.close()
    settle([a, b], seen)
    # One that dies is noticed when its session ends. librdkafka's destructor would say goodbye, so it is muted.
    dead = confluent(group, topic, **settings, **{"max.poll.interval.ms": 6000})
    settle([a, b, dead], seen)
    settle([a, b], seen)
    deadline = time.time() + 20
    while len(set(seen)) < PARTITIONS * 20 and time.time() < deadline:
        settle([a, b], seen)
    suite.same(len(set(seen)), PARTITIONS * 20)
    a.close()
    b.close()
    dead.close()


def confluent_three_range():
    """confluent-kafka: three members share, one leaves, one stops polling (range)"""
    three("range")


def confluent_three_cooperative():
    """confluent-kafka: three members share, one leaves, one stops polling (cooperative-sticky)"""
    three("cooperative-sticky")


def confluent_resume():
    """confluent-kafka: commits, and the next member goes on from there"""
    topic = fill("group-resume")
    consumer = confluent(topic, topic)
    seen = []
    settle([consumer], seen)
    while len(seen) < 60:
        seen += [m.value() for m in consumer.consume(60 - len(seen), 1.0)]
    positions = consumer.position(consumer.assignment())
    consumer.commit(offsets=positions, asynchronous=False)
    committed = consumer.committed(consumer.assignment(), 10)
    suite.same({p.partition: p.offset for p in committed if p.offset >= 0},
               {p.partition: p.offset for p in positions if p.offset >= 0})
    consumer.close()
    again = confluent(topic, topic)
    deadline = time.time() + 30
    while len(seen) < PARTITIONS * 20 and time.time() < deadline:
        seen += [m.value() for m in again.consume(100, 0.5)]
    suite.same(sorted(seen, key=int), [str(i).encode() for i in range(PARTITIONS * 20)])
    again.close()


def confluent_static():
    """confluent-kafka: a static member comes back without a rebalance"""
    topic = fill("group-static")
    members = [confluent(topic, topic, **{"group.instance.id": f"member-{i}", "session.timeout.ms": 20000})
               for i in range(2)]
    before = settle(members, [])
    members[1].close()
    members[1] = confluent(topic, topic, **{"group.instance.id": "member-1", "session.timeout.ms": 20000})
    suite.same(settle(members, []), before)
    for member in members:
        member.close()


def confluent_admin():
    """confluent-kafka: groups are listed, described, altered and deleted"""
    topic = fill("group-admin")
    admin = AdminClient({"bootstrap.servers": suite.BROKER})
    consumer = confluent(topic, topic)
    seen = []
    settle([consumer], seen)
    consumer.commit(asynchronous=False) if seen else None
    described = admin.describe_consumer_groups([topic])[topic].result(20)
    suite.same((described.state, len(described.members)), (ConsumerGroupState.STABLE, 1))
    suite.same(len(described.members[0].assignment.topic_partitions), PARTITIONS)
    listed = admin.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(20).valid
    assert topic in {g.group_id for g in listed}
    consumer.close()
    wanted = [TopicPartition(topic, p, 7) for p in range(PARTITIONS)]
    altered = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(topic, wanted)])[topic].result(20)
    assert all(not p.error for p in altered.topic_partitions), altered.topic_partitions
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(topic)])[topic].result(20)
    suite.same({p.partition: p.offset for p in found.topic_partitions}, {p: 7 for p in range(PARTITIONS)})
    admin.delete_consumer_groups([topic])[topic].result(20)
    listed = admin.list_consumer_groups().result(20).valid
    assert topic not in {g.group_id for g in listed}


def python_consumer(group, topic):
    return kafka.KafkaConsumer(topic, bootstrap_servers=suite.BROKER, group_id=group, auto_offset_reset="earliest",
                               enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=500)


def kafka_python_settle(consumers, seen):
    # Members are polled at once and for longer than a heartbeat's interval: one that is answered while nobody polls it
    # forgets the answer and joins again, so that members polled in turn may rebalance for ever, on any broker.
    deadline = time.time() + 60
    while time.time() < deadline:
        with ThreadPoolExecutor(len(consumers)) as pool:
            for polled in pool.map(lambda consumer: consumer.poll(timeout_ms=1000), consumers):
                seen += [m.value for batch in polled.values() for m in batch]
        shares = [{p.partition for p in c.assignment()} for c in consumers]
        if all(shares) and sorted(p for share in shares for p in share) == list(range(PARTITIONS)):
            return
    raise AssertionError(f"not settled: {shares}")


def kafka_python_three():
    """kafka-python: three members share, one leaves"""
    topic = fill("kafka-python-three")
    seen = []
    consumers = [python_consumer(topic, topic)]
    kafka_python_settle(consumers, seen)
    consumers += [python_consumer(topic, topic) for _ in range(2)]
    kafka_python_settle(consumers, seen)
    consumers.pop().close()
    kafka_python_settle(consumers, seen)
    deadline = time.time() + 20
    while len(set(seen)) < PARTITIONS * 20 and time.time() < deadline:
        kafka_python_settle(consumers, seen)
    suite.same(len(set(seen)), PARTITIONS * 20)
    for consumer in consumers:
        consumer.close()


def kafka_python_resume():
    """kafka-python: commits, and the next member goes on from there"""
    topic = fill("kafka-python-resume")
    seen = []
    for want in (60, PARTITIONS * 20):
        consumer = python_consumer(topic, topic)
        deadline = time.time() + 30
        while len(seen) < want and time.time() < deadline:
            for batch in consumer.poll(timeout_ms=500, max_records=want - len(seen)).values():
                seen += [m.value for m in batch]
        consumer.commit()
        consumer.close(autocommit=False)
    suite.same(sorted(seen, key=int), [str(i).encode() for i in range(PARTITIONS * 20)])


def aio_consumer(group, topic):
    return aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=suite.BROKER, group_id=group,
                                     auto_offset_reset="earliest", enable_auto_commit=False,
                                     session_timeout_ms=6000, heartbeat_interval_ms=500)


async def aio_settle(consumers, seen):
    deadline = time.time() + 50
    while time.time() < deadline:
        for consumer in consumers:
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                seen += [m.value for m in batch]
        shares = [{p.partition for p in c.assignment()} for c in consumers]
        if all(shares) and sorted(p for share in shares for p in share) == list(range(PARTITIONS)):
            return
    raise AssertionError(f"not settled: {shares}")


async def aiokafka_three():
    """aiokafka: three members share, one leaves"""
    topic = fill("aiokafka-three")
    seen, consumers = [], []
    try:
        for count in (1, 3):
            more = [aio_consumer(topic, topic) for _ in range(count - len(consumers))]
            await asyncio.gather(*(c.start() for c in more))
            consumers += more
            await aio_settle(consumers, seen)
        await consumers.pop().stop()
        await aio_settle(consumers, seen)
        deadline = time.time() + 20
        while len(set(seen)) < PARTITIONS * 20 and time.time() < deadline:
            await aio_settle(consumers, seen)
        suite.same(len(set(seen)), PARTITIONS * 20)
    finally:
        for consumer in consumers:
            await consumer.stop()


async def aiokafka_resume():
    """aiokafka: commits, and the next member goes on from there"""
    topic = fill("aiokafka-resume")
    seen = []
    for want in (60, PARTITIONS * 20):
        consumer = aio_consumer(topic, topic)
        await consumer.start()
        try:
            deadline = time.time() + 25
            while len(seen) < want and time.time() < deadline:
                for batch in (await consumer.getmany(timeout_ms=500, max_records=want - len(seen))).values():
                    seen += [m.value for m in batch]
            await consumer.commit()
        finally:
            await consumer.stop()
    suite.same(sorted(seen, key=int), [str(i).encode() for i in range(PARTITIONS * 20)])
