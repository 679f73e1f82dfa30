// Transactions: committed and aborted data, fencing, what admin says of them.

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;

final class Transactions {
  private Transactions() {}

  private static KafkaProducer<String, String> producer(String id) {
    KafkaProducer<String, String> producer =
        Producers.producer(Map.of("transactional.id", Suite.RUN + id, "transaction.timeout.ms", "15000"));
    producer.initTransactions();
    return producer;
  }

  /** Everything up to the ends of a topic's partitions, as a reader of this isolation sees them. */
  static List<ConsumerRecord<String, String>> read(String broker, String topic, String isolation) {
    Map<String, Object> settings = Map.of("bootstrap.servers", broker, "isolation.level", isolation);
    List<ConsumerRecord<String, String>> records = new ArrayList<>();
    try (KafkaConsumer<String, String> consumer = Producers.consumer(settings)) {
      List<TopicPartition> all = new ArrayList<>();
      for (var info : consumer.partitionsFor(topic)) all.add(new TopicPartition(topic, info.partition()));
      consumer.assign(all);
      consumer.seekToBeginning(all);
      Map<TopicPartition, Long> ends = consumer.endOffsets(all);
      while (all.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
        consumer.poll(Duration.ofMillis(200)).forEach(records::add);
      }
    }
    return records;
  }

  private static List<String> values(String topic, String isolation) {
    return read(Suite.BROKER, topic, isolation).stream().map(ConsumerRecord::value).toList();
  }

  private static void commitsAndAborts(String topic) throws Exception {
    Set<String> expected = new TreeSet<>();
    try (KafkaProducer<String, String> producer = producer("-id")) {
      for (int round = 0; round < 30; round++) {
        boolean aborts = round % 3 == 1;
        producer.beginTransaction();
        for (int i = 0; i < 20; i++) {
          producer.send(new ProducerRecord<>(topic, i % 3, null, round + "-" + i));
          if (!aborts) expected.add(round + "-" + i);
        }
        if (aborts) producer.abortTransaction(); else producer.commitTransaction();
      }
      // A commit is answered before its markers are written.
      Suite.eventually("all is committed", 10, () -> values(topic, "read_committed").size() >= expected.size());
      List<String> committed = values(topic, "read_committed");
      Suite.same(expected.size(), committed.size());
      Suite.same(expected, new TreeSet<>(committed));
      producer.beginTransaction();
      producer.send(new ProducerRecord<>(topic, 0, null, "open")).get();
      Suite.require(!values(topic, "read_committed").contains("open"), "an open transaction was read");
      Suite.require(values(topic, "read_uncommitted").contains("open"), "read_uncommitted does not see it");
      producer.abortTransaction();
      producer.beginTransaction();
      producer.commitTransaction();
    }
  }

  private static void fences(String topic) throws Exception {
    try (KafkaProducer<String, String> old = producer("-fence")) {
      old.beginTransaction();
      old.send(new ProducerRecord<>(topic, 0, null, "zombie")).get();
      try (KafkaProducer<String, String> young = producer("-fence")) {
        try {
          old.commitTransaction();
          Suite.require(false, "the zombie committed");
        } catch (ProducerFencedException | InvalidProducerEpochException e) {
          // As it should be.
        }
        young.beginTransaction();
        young.send(new ProducerRecord<>(topic, 0, null, "young"));
        young.commitTransaction();
      }
    }
    Suite.eventually("the young one's record", 10, () -> values(topic, "read_committed").contains("young"));
    Suite.require(!values(topic, "read_committed").contains("zombie"), "a zombie's record was committed");
  }

  private static void administration(String topic) throws Exception {
    String id = Suite.RUN + "-admin";
    try (Admin admin = Suite.admin(); KafkaProducer<String, String> producer = producer("-admin")) {
      var feature = admin.describeFeatures().featureMetadata().get().finalizedFeatures().get("transaction.version");
      Suite.same((short) 2, feature.maxVersionLevel());
      producer.beginTransaction();
      producer.send(new ProducerRecord<>(topic, 1, null, "open")).get();
      var ongoing = new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING));
      var listed = admin.listTransactions(ongoing).all().get();
      Suite.require(listed.stream().anyMatch(t -> t.transactionalId().equals(id)), "" + listed);
      var described = admin.describeTransactions(List.of(id)).description(id).get();
      Suite.same(TransactionState.ONGOING, described.state());
      Suite.same(Set.of(new TopicPartition(topic, 1)), described.topicPartitions());
      admin.fenceProducers(List.of(id)).all().get();
      try {
        producer.commitTransaction();
        Suite.require(false, "it committed");
      } catch (KafkaException e) {
        // As it should be.
      }
    }
  }

  static void run() {
    Map<String, String> made = new HashMap<>();
    Suite.check("transactions: what is committed is read once, and nothing else", () -> {
      made.put("topic", Suite.create("transactions", 3, Map.of()));
      commitsAndAborts(made.get("topic"));
    });
    Suite.check("transactions: a zombie is fenced", () -> fences(made.get("topic")));
    Suite.check("transactions: admin lists, describes and fences them", () -> administration(made.get("topic")));
  }
}
