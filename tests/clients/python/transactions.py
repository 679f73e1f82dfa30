"""Transactions with confluent-kafka, kafka-python and aiokafka: what is committed and what is not, offsets in a
transaction, a producer that was replaced. `suite.py` runs these and lends its helpers."""

import time

from clients import Aiokafka, Confluent, KafkaPython, for_each

suite = None


def cases(module):
    """The checks, given the suite's own module for its helpers."""
    global suite
    suite = module
    return for_each([Confluent, KafkaPython, Aiokafka], [commits_and_aborts, offsets, zombie])


def read(client, topic, isolation, until):
    """The values of two partitions up to these last ones, and what else comes within half a second."""
    reader = client(topic, isolation=isolation)
    found, deadline = [[], []], time.time() + 20
    while [values[-1:] for values in found] != [[last] for last in until]:
        assert time.time() < deadline, f"{isolation} got {str(found)[:300]}, not {until}"
        for partition, _, value in reader.poll():
            found[partition].append(value)
    end = time.time() + 0.5
    while time.time() < end:
        for partition, _, value in reader.poll(0.2):
            found[partition].append(value)
    reader.close()
    return found


def commits_and_aborts(client):
    """transactions, read_committed sees what was committed in order, read_uncommitted all"""
    topic = suite.make(f"committed-{client.__name__}", 2)
    producer = client.Transactional(topic)
    committed, everything = [[], []], [[], []]
    for turn in range(9):
        producer.begin()
        for partition in (0, 1):
            values = [f"{turn}-{n}".encode() for n in range(10)]
            producer.send(topic, partition, values)
            everything[partition] += values
            committed[partition] += values if turn % 3 != 1 else []
        producer.abort() if turn % 3 == 1 else producer.commit()
    producer.begin()
    for partition in (0, 1):
        producer.send(topic, partition, [b"open"])
        everything[partition].append(b"open")
    suite.same(read(client, topic, "read_committed", [values[-1] for values in committed]), committed)
    suite.same(read(client, topic, "read_uncommitted", [b"open", b"open"]), everything)
    producer.abort()
    producer.begin()
    producer.commit()
    producer.close()


def take(member, count):
    found, deadline = [], time.time() + 30
    while len(found) < count and time.time() < deadline:
        found += member.poll(most=count - len(found))
    suite.same(len(found), count)
    return found


def offsets(client):
    """transactions, offsets sent in one are there once it is committed, not when it is aborted"""
    source, target = suite.make(f"source-{client.__name__}", 2), suite.make(f"target-{client.__name__}", 2)
    suite.send(source, [str(n).encode() for n in range(40)], partition=0)
    producer = client.Transactional(source)
    for commits in (False, True):
        member = client(source, source)
        values = [value for _, _, value in take(member, 20)]
        suite.same(values, [str(n).encode() for n in range(20)])
        producer.begin()
        producer.send(target, 0, values)
        producer.send_offsets(member, source, source, {0: 20})
        producer.commit() if commits else producer.abort()
        deadline = time.time() + 10
        # A commit is answered before its markers are written.
        while commits and member.committed(source, 0) is None and time.time() < deadline:
            time.sleep(0.05)
        suite.same(member.committed(source, 0), 20 if commits else None)
        member.close()
    member = client(source, source)
    suite.same([value for _, _, value in take(member, 20)], [str(n).encode() for n in range(20, 40)])
    member.close()
    producer.close()
    suite.send(target, [b"end"], partition=1)
    values = [str(n).encode() for n in range(20)]
    reader = client(target, isolation="read_committed")
    suite.same([v for p, _, v in take(reader, 21) if p == 0], values)
    reader.close()


def zombie(client):
    """transactions, a zombie is fenced"""
    topic = suite.make(f"zombie-{client.__name__}", 2)
    old = client.Transactional(topic)
    old.begin()
    old.send(topic, 0, [b"zombie"])
    young = client.Transactional(topic)
    try:
        old.commit()
        raise AssertionError("the zombie committed")
    except Exception as error:
        if not old.fenced(error):
            raise
    young.begin()
    for partition in (0, 1):
        young.send(topic, partition, [b"young"])
    young.commit()
    suite.same(read(client, topic, "read_committed", [b"young", b"young"]), [[b"young"], [b"young"]])
    young.close()
    old.close()
