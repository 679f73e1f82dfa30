"""confluent-kafka, kafka-python and aiokafka against BROKER: producers of every kind, consumers by assignment and in
groups (`groups.py`), transactions (`transactions.py`), admin (`administration.py`)."""

import asyncio
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from threading import Lock

BROKER = os.environ["BROKER"]
RUN = f"py-{os.getpid()}"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
IDEMPOTENT = [False, True]
passed = failed = 0
counting = Lock()


def case(function):
    """Runs one check and counts it."""
    global passed, failed
    try:
        result = function()
        if asyncio.iscoroutine(result):
            asyncio.run(asyncio.wait_for(result, 120))
    except Exception:
        with counting:
            failed += 1
            print(f"  FAILED: {function.__doc__}", flush=True)
            traceback.print_exc(limit=4, file=sys.stdout)
    else:
        with counting:
            passed += 1
            print(f"  ok: {function.__doc__}", flush=True)


def same(got, expected):
    assert got == expected, f"expected {str(expected)[:300]}, got {str(got)[:300]}"


# --- confluent-kafka -------------------------------------------------------------------------------------------

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import (  # noqa: E402
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

admin = AdminClient({"bootstrap.servers": BROKER})


def make(name, partitions=1, config=None):
    """Creates a topic and waits until it serves."""
    topic = f"{RUN}-{name}"
    admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(20)
    for _ in range(100):
        found = admin.list_topics(topic, timeout=10).topics[topic]
        if not found.error and len(found.partitions) == partitions:
            return topic
        time.sleep(0.05)
    raise AssertionError(f"{topic} did not appear")


def send(topic, values, partition=-1, **settings):
    errors = []
    producer = Producer({"bootstrap.servers": BROKER, "linger.ms": 5, **settings})
    for value in values:
        producer.produce(topic, value, partition=partition,
                         on_delivery=lambda error, _: error and errors.append(error))
        producer.poll(0)
    same(producer.flush(30), 0)
    same(errors, [])


def read(topic, count, partitions=1):
    consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    got, deadline = [], time.time() + 30
    while len(got) < count and time.time() < deadline:
        for message in consumer.consume(1000, 0.5):
            if message.error():
                raise KafkaException(message.error())
            got.append(message)
    consumer.close()
    return got


def confluent_codecs():
    """confluent-kafka: every codec, idempotent and not, both ways"""
    for codec, idempotent in product(CODECS, IDEMPOTENT):
        topic = make(f"confluent-{codec}-{idempotent}")
        values = [f"{codec} {i}".encode() for i in range(2000)]
        send(topic, values, **{"compression.type": codec, "enable.idempotence": idempotent})
        same([m.value() for m in read(topic, 2000)], values)


def confluent_acks():
    """confluent-kafka: acks 0, 1, all"""
    for acks in [0, 1, "all"]:
        topic = make(f"confluent-acks-{acks}")
        values = [str(i).encode() for i in range(3000)]
        send(topic, values, acks=acks)
        same([m.value() for m in read(topic, 3000)], values)


def confluent_fields():
    """confluent-kafka: keys, headers, timestamps, null values, partitions"""
    topic = make("confluent-fields", 3)
    producer = Producer({"bootstrap.servers": BROKER})
    now = int(time.time() * 1000)
    for i in range(30):
        producer.produce(topic, None if i % 5 == 0 else f"v{i}", key=f"k{i}", partition=i % 3,
                         timestamp=now + i, headers=[("h", str(i)), ("none", None)])
    same(producer.flush(30), 0)
    got = sorted(read(topic, 30, 3), key=lambda m: m.timestamp()[1])
    for i, message in enumerate(got):
        same(message.key(), f"k{i}".encode())
        same(message.value(), None if i % 5 == 0 else f"v{i}".encode())
        same((message.partition(), message.timestamp()[1]), (i % 3, now + i))
        same(message.headers(), [("h", str(i).encode()), ("none", None)])


def confluent_offsets():
    """confluent-kafka: watermarks, offsets for times, seek"""
    topic = make("confluent-offsets")
    producer = Producer({"bootstrap.servers": BROKER})
    base = int(time.time() * 1000) - 60_000
    for i in range(100):
        producer.produce(topic, str(i), timestamp=base + i * 10)
    same(producer.flush(30), 0)
    consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "unused", "enable.auto.commit": False})
    partition = TopicPartition(topic, 0)
    same(consumer.get_watermark_offsets(partition, 10), (0, 100))
    same(consumer.offsets_for_times([TopicPartition(topic, 0, base + 455)], 10)[0].offset, 46)
    consumer.assign([TopicPartition(topic, 0, 90)])
    same(consumer.poll(20).value(), b"90")
    consumer.seek(TopicPartition(topic, 0, 42))
    same(consumer.poll(20).value(), b"42")
    consumer.close()
    latest = admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(10)
    same(latest.offset, 100)
    newest = admin.list_offsets({partition: OffsetSpec.max_timestamp()})[partition].result(10)
    same((newest.offset, newest.timestamp), (99, base + 990))


def confluent_admin():
    """confluent-kafka: topics, partitions, configs, records, cluster"""
    topic = make("confluent-admin", 2, {"retention.ms": "5000000"})
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(10)
    for _ in range(50):
        if len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 4:
            break
        time.sleep(0.1)
    same(len(admin.list_topics(topic, timeout=10).topics[topic].partitions), 4)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    same(list(admin.describe_configs([resource]).values())[0].result(10)["retention.ms"].value, "5000000")
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", "6000000", incremental_operation=AlterConfigOpType.SET)])
    list(admin.incremental_alter_configs([change]).values())[0].result(10)
    for _ in range(50):
        described = list(admin.describe_configs([resource]).values())[0].result(10)
        if described["retention.ms"].value == "6000000":
            break
        time.sleep(0.1)
    same(described["retention.ms"].value, "6000000")
    assert admin.describe_cluster().result(10).cluster_id
    described = list(admin.describe_topics(__import__("confluent_kafka").TopicCollection([topic])).values())[0].result(10)
    same((described.name, len(described.partitions)), (topic, 4))
    send(topic, [b"x"] * 10, **{"partitioner": "consistent"})
    admin.delete_topics([topic])[topic].result(10)
    for _ in range(50):
        if topic not in admin.list_topics(timeout=10).topics:
            return
        time.sleep(0.1)
    raise AssertionError("still listed")


def confluent_refusals():
    """confluent-kafka: refusals come as the right errors"""
    topic = make("confluent-refused", 1, {"max.message.bytes": "1000"})
    errors = []
    producer = Producer({"bootstrap.servers": BROKER})
    producer.produce(topic, b"x" * 5000, on_delivery=lambda error, _: errors.append(error.code()))
    producer.flush(30)
    same(errors, [KafkaError.MSG_SIZE_TOO_LARGE])
    try:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
        raise AssertionError("created twice")
    except KafkaException as error:
        same(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS)


def confluent_bulk():
    """confluent-kafka: 300,000 records over 6 partitions, in order per partition"""
    topic = make("confluent-bulk", 6)
    producer = Producer({"bootstrap.servers": BROKER, "enable.idempotence": True, "linger.ms": 5,
                         "queue.buffering.max.messages": 1_000_000})
    for i in range(300_000):
        producer.produce(topic, str(i), partition=i % 6)
        if i % 1000 == 0:
            producer.poll(0)
    same(producer.flush(60), 0)
    last, total = {}, 0
    for message in read(topic, 300_000, 6):
        value = int(message.value())
        same(value, last.get(message.partition(), message.partition() - 6) + 6)
        last[message.partition()] = value
        total += 1
    same(total, 300_000)


# --- kafka-python ----------------------------------------------------------------------------------------------

import kafka  # noqa: E402
from kafka.structs import TopicPartition as KTopicPartition  # noqa: E402


def kafka_python_codecs():
    """kafka-python: every codec, idempotent and not, both ways"""
    for codec, idempotent in product(CODECS, IDEMPOTENT):
        topic = make(f"kafka-python-{codec}-{idempotent}")
        producer = kafka.KafkaProducer(bootstrap_servers=BROKER, linger_ms=5, enable_idempotence=idempotent,
                                       compression_type=None if codec == "none" else codec)
        values = [f"{codec} {i}".encode() for i in range(1000)]
        for value in values:
            producer.send(topic, value, key=b"k", headers=[("h", b"v")])
        producer.flush(30)
        producer.close()
        consumer = kafka.KafkaConsumer(bootstrap_servers=BROKER, group_id=None, enable_auto_commit=False,
                                       consumer_timeout_ms=20_000)
        partition = KTopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        got = []
        for message in consumer:
            got.append(message.value)
            same((message.key, list(message.headers)), (b"k", [("h", b"v")]))
            if len(got) == len(values):
                break
        same(got, values)
        same(consumer.end_offsets([partition])[partition], 1000)
        same(consumer.beginning_offsets([partition])[partition], 0)
        consumer.close()


def kafka_python_acks():
    """kafka-python: acks 0, 1, all"""
    for acks in [0, 1, "all"]:
        topic = make(f"kafka-python-acks-{acks}")
        producer = kafka.KafkaProducer(bootstrap_servers=BROKER, acks=acks, enable_idempotence=False)
        for n in range(500):
            producer.send(topic, str(n).encode())
        producer.flush(30)
        producer.close()
        same([m.value() for m in read(topic, 500)], [str(n).encode() for n in range(500)])


def kafka_python_times():
    """kafka-python: offsets for times"""
    topic = make("kafka-python-times")
    producer = kafka.KafkaProducer(bootstrap_servers=BROKER)
    base = int(time.time() * 1000) - 60_000
    for i in range(10):
        producer.send(topic, b"x", timestamp_ms=base + i * 100)
    producer.flush(30)
    producer.close()
    consumer = kafka.KafkaConsumer(bootstrap_servers=BROKER, group_id=None)
    partition = KTopicPartition(topic, 0)
    same(consumer.offsets_for_times({partition: base + 250})[partition].offset, 3)
    consumer.close()


# --- aiokafka --------------------------------------------------------------------------------------------------

import aiokafka  # noqa: E402


async def aiokafka_round_trip(topic, values, **settings):
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=BROKER, **settings)
    await producer.start()
    try:
        sent = [await producer.send(topic, value, key=b"k") for value in values]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=BROKER, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = aiokafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        got = [(await consumer.getone()).value for _ in values]
        same(got, values)
        same((await consumer.end_offsets([partition]))[partition], len(values))
    finally:
        await consumer.stop()


async def aiokafka_codecs():
    """aiokafka: every codec, idempotent and not, both ways"""
    for codec, idempotent in product(CODECS, IDEMPOTENT):
        values = [f"{codec} {i}".encode() for i in range(500)]
        await aiokafka_round_trip(make(f"aiokafka-{codec}-{idempotent}"), values, enable_idempotence=idempotent,
                                  compression_type=None if codec == "none" else codec)


async def aiokafka_acks():
    """aiokafka: acks 0, 1, all"""
    for acks in [0, 1, "all"]:
        await aiokafka_round_trip(make(f"aiokafka-acks-{acks}"), [str(i).encode() for i in range(500)], acks=acks)


async def aiokafka_long_poll():
    """aiokafka: a waiting consumer gets a record as it comes"""
    topic = make("aiokafka-poll")
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=BROKER, group_id=None, fetch_max_wait_ms=10_000)
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=BROKER)
    await consumer.start()
    await producer.start()
    try:
        partition = aiokafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        waiting = asyncio.create_task(consumer.getone())
        await asyncio.sleep(1)
        sent = time.time()
        await producer.send_and_wait(topic, b"now")
        same((await waiting).value, b"now")
        assert time.time() - sent < 5, "waited for the timeout"
    finally:
        await producer.stop()
        await consumer.stop()


import administration  # noqa: E402
import groups  # noqa: E402
import transactions  # noqa: E402

own = sys.modules[__name__]


def chosen(cases):
    """The cases that PYTHON_CHECKS, a part of what they say, leaves."""
    return [check for check in cases if os.environ.get("PYTHON_CHECKS", "") in check.__doc__]


for check in chosen([confluent_codecs, confluent_acks, confluent_fields, confluent_offsets, confluent_admin,
                     confluent_refusals, confluent_bulk, kafka_python_codecs, kafka_python_acks, kafka_python_times,
                     aiokafka_codecs, aiokafka_acks, aiokafka_long_poll, *administration.cases(own)]):
    case(check)
# Groups mostly wait for sessions to end, and brokers for producers.
with ThreadPoolExecutor(3) as pool:
    list(pool.map(case, chosen([*groups.cases(own), *transactions.cases(own)])))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
