"""Admin with kafka-python and aiokafka: topics, partitions, configs, records, groups and their offsets. `suite.py` runs
these and lends its helpers."""

import time

import aiokafka.admin
import kafka.admin
from aiokafka.admin.config_resource import ConfigResource as AioConfigResource
from clients import Aiokafka, KafkaPython
from kafka import TopicPartition

suite = None


def cases(module):
    """The checks, given the suite's own module for its helpers."""
    global suite
    suite = module
    return [kafka_python_admin, aiokafka_admin]


def eventually(what, holds):
    deadline = time.time() + 10
    while not holds():
        assert time.time() < deadline, what
        time.sleep(0.05)


def commits(client, topic):
    """Has a group of the topic's name commit 7 of partition 0."""
    member = client(topic, topic)
    eventually("it has its partitions", lambda: member.poll() is not None and len(member.owned()) == 4)
    member.commit(topic, {0: 7})
    member.close()


def kafka_python_admin():
    """kafka-python: topics, partitions, configs, records, groups"""
    admin = kafka.admin.KafkaAdminClient(bootstrap_servers=suite.BROKER)
    topic = f"{suite.RUN}-kafka-python-admin"
    made = {topic: {"num_partitions": 2, "replication_factor": 1, "configs": {"retention.ms": "100000"}}}
    admin.create_topics(made, wait_for_metadata=True)
    try:
        admin.create_topics(made)
        raise AssertionError("created twice")
    except kafka.errors.TopicAlreadyExistsError:
        pass
    admin.create_partitions({topic: 4})
    eventually("four partitions", lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 4)
    suite.send(topic, [b"x"] * 20, partition=0)
    resource = kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, topic)
    change = kafka.admin.ConfigResource(resource.resource_type, topic, configs={"retention.ms": "200000"})
    admin.alter_configs([change])
    eventually("the config is told", lambda: "200000" in str(admin.describe_configs([resource])))
    first = TopicPartition(topic, 0)
    admin.delete_records({first: 5})
    found = admin.list_partition_offsets({first: kafka.admin.OffsetSpec.EARLIEST})
    suite.same(found[first].offset, 5)
    commits(KafkaPython, topic)
    assert topic in {group["group_id"] for group in admin.list_groups()}
    suite.same(admin.describe_groups([topic])[topic]["group_state"], "Empty")
    suite.same(admin.list_group_offsets({topic: [first]})[topic][first].offset, 7)
    admin.delete_groups([topic])
    assert topic not in {group["group_id"] for group in admin.list_groups()}
    admin.delete_topics([topic])
    eventually("the topic is gone", lambda: topic not in {t if isinstance(t, str) else t["name"] for t in admin.list_topics()})
    admin.close()


async def aiokafka_admin():
    """aiokafka: topics, partitions, configs, records, groups"""
    admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=suite.BROKER)
    await admin.start()
    try:
        await aiokafka_round(admin, f"{suite.RUN}-aiokafka-admin")
    finally:
        await admin.close()


async def aiokafka_round(admin, topic):
    made = aiokafka.admin.NewTopic(topic, 2, 1, topic_configs={"retention.ms": "100000"})
    suite.same((await admin.create_topics([made])).topic_errors[0][1], 0)
    suite.same((await admin.create_topics([made])).topic_errors[0][1], 36)
    await admin.create_partitions({topic: aiokafka.admin.NewPartitions(4)})
    eventually("four partitions", lambda: len(suite.admin.list_topics(topic, timeout=10).topics[topic].partitions) == 4)
    suite.same(len((await admin.describe_topics([topic]))[0]["partitions"]), 4)
    suite.send(topic, [b"x"] * 20, partition=0)
    await admin.alter_configs([AioConfigResource("topic", topic, {"retention.ms": "200000"})])
    [described] = await admin.describe_configs([AioConfigResource("topic", topic, {"retention.ms": None})])
    suite.same(described.resources[0][4][0][:2], ("retention.ms", "200000"))
    first = aiokafka.TopicPartition(topic, 0)
    suite.same(await admin.delete_records({first: aiokafka.admin.RecordsToDelete(5)}), {first: 5})
    commits(Aiokafka, topic)
    assert topic in {group[0] for group in await admin.list_consumer_groups()}
    [described] = await admin.describe_consumer_groups([topic])
    suite.same(described.groups[0][2], "Empty")
    suite.same((await admin.list_consumer_group_offsets(topic))[first].offset, 7)
    await admin.delete_topics([topic])
    eventually("the topic is gone", lambda: topic not in suite.admin.list_topics(timeout=10).topics)
