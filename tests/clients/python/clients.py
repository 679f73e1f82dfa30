"""The three clients seen alike: members of a group, transactional producers, readers of committed records, so that
`groups.py` and `transactions.py` say once what is expected of each."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import aiokafka
import kafka
from aiokafka.errors import ProducerFenced
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from kafka.errors import InvalidProducerEpochError, ProducerFencedError

BROKER = os.environ["BROKER"]


class Confluent:
    """A member of a group, or a reader of its own (group None), with confluent-kafka."""

    name = "confluent-kafka"

    def __init__(self, topic, group=None, isolation="read_uncommitted", **settings):
        self.consumer = Consumer({
            "bootstrap.servers": BROKER, "group.id": group or "unused", "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
            "isolation.level": isolation, "partition.assignment.strategy": "range", **settings})
        if group:
            self.consumer.subscribe([topic])
        else:
            self.consumer.assign([TopicPartition(topic, p, 0) for p in (0, 1)])

    def poll(self, seconds=0.1, most=500):
        """What there is, as (partition, offset, value)."""
        found = self.consumer.consume(most, seconds)
        return [(m.partition(), m.offset(), m.value()) for m in found if not m.error()]

    def owned(self):
        return {p.partition for p in self.consumer.assignment()}

    def commit(self, topic, ends):
        self.consumer.commit(offsets=[TopicPartition(topic, p, end) for p, end in ends.items()], asynchronous=False)

    def committed(self, topic, partition):
        offset = self.consumer.committed([TopicPartition(topic, partition)], 10)[0].offset
        return offset if offset >= 0 else None

    def close(self):
        self.consumer.close()

    class Transactional:
        """A transactional producer."""

        def __init__(self, name):
            self.producer = Producer({"bootstrap.servers": BROKER, "transactional.id": name})
            self.producer.init_transactions(30)
            self.begin, self.abort = self.producer.begin_transaction, self.producer.abort_transaction
            self.commit = self.producer.commit_transaction

        def send(self, topic, partition, values):
            for value in values:
                self.producer.produce(topic, value, partition=partition)
            self.producer.flush(30)

        def send_offsets(self, member, group, topic, ends):
            offsets = [TopicPartition(topic, p, end) for p, end in ends.items()]
            self.producer.send_offsets_to_transaction(offsets, member.consumer.consumer_group_metadata())

        @staticmethod
        def fenced(error):
            return isinstance(error, KafkaException) and error.args[0].code() == KafkaError._FENCED

        def close(self):
            pass


class Cooperative(Confluent):
    """A member that hands over partitions while it keeps the others."""

    name = "confluent-kafka, cooperative"

    def __init__(self, topic, group):
        super().__init__(topic, group, **{"partition.assignment.strategy": "cooperative-sticky"})


class KafkaPython:
    """The same with kafka-python."""

    name = "kafka-python"

    def __init__(self, topic, group=None, isolation="read_uncommitted"):
        self.consumer = kafka.KafkaConsumer(
            bootstrap_servers=BROKER, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
            session_timeout_ms=6000, heartbeat_interval_ms=500, isolation_level=isolation)
        if group:
            self.consumer.subscribe([topic])
        else:
            self.consumer.assign([kafka.TopicPartition(topic, p) for p in (0, 1)])

    # One that is answered while nobody polls it forgets the answer and joins again, so it wants to be polled for longer
    # than a heartbeat's interval, or members polled in turn rebalance for ever, on any broker.
    def poll(self, seconds=1.0, most=500):
        found = self.consumer.poll(timeout_ms=int(seconds * 1000), max_records=most)
        return [(m.partition, m.offset, m.value) for batch in found.values() for m in batch]

    def owned(self):
        return {p.partition for p in self.consumer.assignment()}

    @staticmethod
    def ends(topic, ends):
        return {kafka.TopicPartition(topic, p): kafka.OffsetAndMetadata(end, "", -1) for p, end in ends.items()}

    def commit(self, topic, ends):
        self.consumer.commit(self.ends(topic, ends))

    def committed(self, topic, partition):
        return self.consumer.committed(kafka.TopicPartition(topic, partition))

    def close(self):
        self.consumer.close()

    class Transactional:
        def __init__(self, name):
            self.producer = kafka.KafkaProducer(bootstrap_servers=BROKER, transactional_id=name)
            self.producer.init_transactions()
            self.begin, self.abort = self.producer.begin_transaction, self.producer.abort_transaction
            self.commit = self.producer.commit_transaction

        def send(self, topic, partition, values):
            for value in values:
                self.producer.send(topic, value, partition=partition)
            self.producer.flush(30)

        def send_offsets(self, member, group, topic, ends):
            self.producer.send_offsets_to_transaction(KafkaPython.ends(topic, ends), member.consumer.group_metadata())

        @staticmethod
        def fenced(error):
            return isinstance(error, (ProducerFencedError, InvalidProducerEpochError))

        def close(self):
            self.producer.close(timeout=5)


loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine):
    """Runs aiokafka's calls in the loop that its background tasks need."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)


class Aiokafka:
    """The same with aiokafka."""

    name = "aiokafka"

    def __init__(self, topic, group=None, isolation="read_uncommitted"):
        wait(self.start(topic, group, isolation))

    async def start(self, topic, group, isolation):
        self.consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=BROKER, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
            session_timeout_ms=6000, heartbeat_interval_ms=500, isolation_level=isolation)
        await self.consumer.start()
        if group:
            self.consumer.subscribe([topic])
        else:
            self.consumer.assign([aiokafka.TopicPartition(topic, p) for p in (0, 1)])

    def poll(self, seconds=0.1, most=500):
        found = wait(self.consumer.getmany(timeout_ms=int(seconds * 1000), max_records=most))
        return [(m.partition, m.offset, m.value) for batch in found.values() for m in batch]

    def owned(self):
        return {p.partition for p in self.consumer.assignment()}

    def commit(self, topic, ends):
        wait(self.consumer.commit({aiokafka.TopicPartition(topic, p): end for p, end in ends.items()}))

    def committed(self, topic, partition):
        return wait(self.consumer.committed(aiokafka.TopicPartition(topic, partition)))

    def close(self):
        wait(self.consumer.stop())

    class Transactional:
        def __init__(self, name):
            wait(self.start(name))

        async def start(self, name):
            self.producer = aiokafka.AIOKafkaProducer(bootstrap_servers=BROKER, transactional_id=name)
            await self.producer.start()

        def begin(self):
            wait(self.producer.begin_transaction())

        def send(self, topic, partition, values):
            async def all_of_them():
                await asyncio.gather(*[await self.producer.send(topic, v, partition=partition) for v in values])
            wait(all_of_them())

        def send_offsets(self, member, group, topic, ends):
            offsets = {aiokafka.TopicPartition(topic, p): end for p, end in ends.items()}
            wait(self.producer.send_offsets_to_transaction(offsets, group))

        def commit(self):
            wait(self.producer.commit_transaction())

        def abort(self):
            wait(self.producer.abort_transaction())

        @staticmethod
        def fenced(error):
            return isinstance(error, ProducerFenced)

        def close(self):
            wait(self.producer.stop())


class Apart:
    """A member in a process of its own, which can be killed."""

    def __init__(self, client, topic, group):
        self.found, self.partitions = [], set()
        command = [sys.executable, os.path.abspath(__file__), client.__name__, topic, group]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.process.stdout:
            what, *words = line.split()
            if what == "owns":
                self.partitions = {int(word) for word in words}
            else:
                self.found.append((int(words[0]), int(words[1]), words[2].encode()))

    def poll(self, seconds=0.1):
        time.sleep(seconds)
        found, self.found = self.found, []
        return found

    def owned(self):
        return self.partitions

    def kill(self):
        self.process.kill()
        self.process.wait()


def for_each(clients, checks):
    """Each check with each client."""
    def case(client, check):
        def run():
            check(client)
        run.__doc__ = f"{client.name}: {check.__doc__}"
        return run
    return [case(client, check) for client in clients for check in checks]


def as_member(client, topic, group):
    """A process that is a member and tells of it until it is killed."""
    member, said = client(topic, group), None
    while True:
        for partition, offset, value in member.poll():
            print("got", partition, offset, value.decode(), flush=True)
        if member.owned() != said:
            said = member.owned()
            print("owns", *said, flush=True)


if __name__ == "__main__":
    as_member(globals()[sys.argv[1]], *sys.argv[2:])
