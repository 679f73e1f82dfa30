"""Compaction, seen from outside: which records of a compacted topic stay, at which offsets, in which order.

The broker has to compact within a minute. Weir: --compaction-interval 500ms; Kafka: log.cleaner.backoff.ms=500.
"""

import os
import random
import sys
import threading
import time
import traceback

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

BROKER = os.environ["BROKER"]
RUN = f"compaction-{os.getpid()}"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
SEGMENT_MS = 1500
PATIENCE = float(os.environ.get("COMPACTION_PATIENCE", "60"))
admin = AdminClient({"bootstrap.servers": BROKER})
passed = failed = 0
counting = threading.Lock()


def case(function):
    global passed, failed
    try:
        function()
        problem = None
    except Exception:
        problem = traceback.format_exc(limit=4)
    with counting:
        passed, failed = passed + (problem is None), failed + (problem is not None)
        print(f"  {'ok' if problem is None else 'FAILED'}: {function.__doc__}", flush=True)
        print(end=problem or "", flush=True)


def make(name, **config):
    topic = f"{RUN}-{name}"
    settings = {
        "cleanup.policy": "compact",
        "segment.ms": str(SEGMENT_MS),
        "min.cleanable.dirty.ratio": "0.01",
        "file.delete.delay.ms": "100",
    }
    settings.update({k.replace("_", "."): str(v) for k, v in config.items()})
    admin.create_topics([NewTopic(topic, 1, 1, config=settings)])[topic].result(20)
    for _ in range(100):
        if not admin.list_topics(topic, timeout=10).topics[topic].error:
            return topic
        time.sleep(0.1)
    raise AssertionError(f"{topic} does not serve")


def produce(topic, records, codec="none", **config):
    """Sends (key, value) pairs; returns them with the offsets they got."""
    sent = []

    def delivered(error, message):
        assert error is None, error
        sent.append((message.offset(), message.key(), message.value()))

    settings = {"bootstrap.servers": BROKER, "compression.codec": codec, "linger.ms": 20, **config}
    producer = Producer(settings)
    for key, value in records:
        producer.produce(topic, key=key, value=value, partition=0, on_delivery=delivered)
        producer.poll(0)
    producer.flush(30)
    assert len(sent) == len(records), f"{len(sent)} of {len(records)} delivered"
    return sorted(sent)


def close_segment(topic):
    """A record that comes late begins a new segment, so that everything before it can be compacted."""
    time.sleep(SEGMENT_MS / 1000 + 0.3)
    return produce(topic, [(b"end", b"%d" % time.time_ns())])


def read(topic, isolation="read_uncommitted"):
    settings = {
        "bootstrap.servers": BROKER,
        "group.id": RUN,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": isolation,
    }
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, 0)])
    found, until = [], time.time() + 30
    while time.time() < until:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            consumer.close()
            return found
        found.append((message.offset(), message.key(), message.value()))
    raise AssertionError("the end was not reached")


def last_of_each_key(records):
    newest = {key: offset for offset, key, _ in records}
    return [record for record in records if newest[record[1]] == record[0]]


def settles(topic, expected, **how):
    """Waits until the topic holds what is expected."""
    until = time.time() + PATIENCE
    while True:
        found = read(topic, **how)
        if found == expected:
            return
        if time.time() > until:
            missing = [r[:2] for r in expected if r not in found][:5]
            surplus = [r[:2] for r in found if r not in expected][:5]
            raise AssertionError(
                f"{len(found)} records where {len(expected)} should be; missing {missing}, too many {surplus}"
            )
        time.sleep(0.5)


def some(count, keys, seed, tombstones=0.0):
    rng = random.Random(seed)
    value = lambda: None if rng.random() < tombstones else bytes(rng.randrange(97, 123) for _ in range(rng.randrange(200)))
    return [(b"key %d" % rng.randrange(keys), value()) for _ in range(count)]


def codecs():
    """of every key the last record stays, at its offset, whatever the codec"""
    topics = {}
    for codec in CODECS:
        topics[codec] = topic = make(f"codec-{codec}")
        produce(topic, some(3000, 50, codec), codec)
    everything = {codec: read(topic) for codec, topic in topics.items()}
    time.sleep(SEGMENT_MS / 1000 + 0.3)
    for codec, topic in topics.items():
        more = produce(topic, some(2000, 70, codec + "again"), codec)
        everything[codec] += more
    for codec, topic in topics.items():
        end = close_segment(topic) if codec == CODECS[0] else produce(topic, [(b"end", b"")])
        settles(topic, last_of_each_key(everything[codec]) + end)


def tombstones_stay():
    """a tombstone stays as its key's last record while delete.retention.ms lasts"""
    topic = make("tombstones")
    sent = produce(topic, some(2000, 100, 1, tombstones=0.4))
    end = close_segment(topic)
    settles(topic, last_of_each_key(sent) + end)
    assert any(value is None for _, _, value in read(topic))


def tombstones_go():
    """a tombstone goes when delete.retention.ms is over"""
    topic = make("tombstones-gone", delete_retention_ms=100)
    sent = produce(topic, some(1000, 100, 2, tombstones=0.5))
    sent += close_segment(topic)
    # Each further segment makes the log dirty again; the second compaction finds the horizons passed.
    for _ in range(3):
        sent += close_segment(topic)
        time.sleep(2)
    sent += close_segment(topic)
    compacted, newest = sent[:-1], sent[-1:]
    settles(topic, [r for r in last_of_each_key(compacted) if r[2] is not None] + newest)


def young_records_stay():
    """min.compaction.lag.ms keeps what is younger"""
    topic = make("young", min_compaction_lag_ms=3_600_000)
    sent = produce(topic, some(500, 10, 3))
    sent += close_segment(topic)
    sent += close_segment(topic)
    time.sleep(5)
    assert read(topic) == sent, "nothing may be gone"


def idempotent_producers():
    """an idempotent producer goes on after its records were compacted away"""
    topic = make("idempotent")
    sent = []

    def delivered(error, message):
        assert error is None, error
        sent.append((message.offset(), message.key(), message.value()))

    producer = Producer({"bootstrap.servers": BROKER, "enable.idempotence": True, "linger.ms": 5})
    for i in range(200):
        producer.produce(topic, key=b"same", value=b"%d" % i, partition=0, on_delivery=delivered)
    producer.flush(30)
    sent += close_segment(topic)
    sent += close_segment(topic)
    settles(topic, last_of_each_key(sorted(sent)[:-1]) + sent[-1:])
    for i in range(200, 210):
        producer.produce(topic, key=b"same", value=b"%d" % i, partition=0, on_delivery=delivered)
    producer.flush(30)
    assert len(sent) == 212, len(sent)
    offsets = [offset for offset, _, _ in sorted(sent)]
    assert offsets == list(range(212)), "no offset twice, none left out"


def times():
    """lookups by time and of the earliest and latest offset find what is left"""
    topic = make("times", message_timestamp_before_max_ms=9223372036854775807)
    now = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": BROKER, "linger.ms": 20})
    for i in range(300):
        producer.produce(topic, key=b"%d" % (i % 30), value=b"v", partition=0, timestamp=now - 300_000 + i * 1000)
    producer.flush(30)
    # So late that it begins a segment, however the others were batched.
    producer.produce(topic, key=b"end", value=b"", partition=0, timestamp=now + 2 * SEGMENT_MS)
    producer.flush(30)
    expected = list(range(270, 301))
    until = time.time() + PATIENCE
    while [offset for offset, _, _ in read(topic)] != expected:
        assert time.time() < until, [offset for offset, _, _ in read(topic)][:40]
        time.sleep(0.5)

    def offset(spec):
        partition = TopicPartition(topic, 0)
        return list(admin.list_offsets({partition: spec}).values())[0].result(20).offset

    assert offset(OffsetSpec.earliest()) == 0
    assert offset(OffsetSpec.latest()) == 301
    assert offset(OffsetSpec.for_timestamp(now - 300_000)) == 270, offset(OffsetSpec.for_timestamp(now - 300_000))
    assert offset(OffsetSpec.for_timestamp(now - 300_000 + 280_500)) == 281
    assert offset(OffsetSpec.max_timestamp()) == 300


def transactions():
    """aborted records go, committed ones are compacted, and readers of committed data see the same"""
    topic = make("transactions")
    sent = []

    def delivered(error, message):
        assert error is None, error
        sent.append((message.offset(), message.key(), message.value()))

    producer = Producer({"bootstrap.servers": BROKER, "transactional.id": f"{RUN}-txn", "linger.ms": 5})
    producer.init_transactions(30)
    committed = []
    for round in range(6):
        producer.begin_transaction()
        del sent[:]
        for i in range(40):
            producer.produce(topic, key=b"%d" % (i % 10), value=b"%d %d" % (round, i), partition=0, on_delivery=delivered)
        producer.flush(30)
        if round % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            committed += sorted(sent)
    end = close_segment(topic)
    settles(topic, last_of_each_key(committed) + end)
    settles(topic, last_of_each_key(committed) + end, isolation="read_committed")


def interleaved_transactions():
    """transactions of two producers, interleaved, in every codec, with tombstones: what was committed stays, by offset"""
    topic = make("interleaved", delete_retention_ms=100)
    sent, committed = [], []

    def delivered(error, message):
        assert error is None, error
        sent.append((message.offset(), message.key(), message.value()))

    def producer(name, codec):
        settings = {"bootstrap.servers": BROKER, "transactional.id": f"{RUN}-{name}", "linger.ms": 5}
        one = Producer({**settings, "compression.codec": codec})
        one.init_transactions(30)
        return one

    for round, codec in enumerate(CODECS):
        # The same two transactional ids every time: what one of them aborted lies before what it commits later.
        pair = [producer("one", codec), producer("two", codec)]
        of = [[], []]
        for one in pair:
            one.begin_transaction()
        for part in range(3):
            for which, one in enumerate(pair):
                del sent[:]
                for i in range(15):
                    key = b"%d" % ((round * 7 + part * 11 + i * (which + 1)) % 40)
                    value = None if i % 5 == 4 and round < 3 else b"%d %d %d %d" % (round, which, part, i) * 5
                    one.produce(topic, key=key, value=value, partition=0, on_delivery=delivered)
                one.flush(30)
                of[which] += sorted(sent)
        pair[(round + 1) % 2].abort_transaction(30)
        pair[round % 2].commit_transaction(30)
        committed += of[round % 2]
        # Twice: the second pass finds the aborted transactions gone and may take their markers.
        for _ in range(2):
            committed += close_segment(topic)
    # Tombstones go with the passes that come late enough; the newest segment is never compacted.
    for _ in range(2):
        committed += close_segment(topic)
    compacted, newest = committed[:-1], committed[-1:]
    expected = [r for r in last_of_each_key(compacted) if r[2] is not None] + newest
    settles(topic, expected)
    settles(topic, expected, isolation="read_committed")


checks = [codecs, tombstones_stay, tombstones_go, young_records_stay, idempotent_producers, times]
if os.environ.get("TRANSACTIONS", "1") == "1":
    checks += [transactions, interleaved_transactions]
# Each has topics of its own, and most of its time is waiting.
threads = [threading.Thread(target=case, args=(check,)) for check in checks]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
