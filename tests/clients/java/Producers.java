// Producers with every codec, idempotent and not, and what they wrote read back.

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

final class Producers {
  private Producers() {}

  static KafkaProducer<String, String> producer(Map<String, ?> settings) {
    return new KafkaProducer<>(Suite.settings(settings), new StringSerializer(), new StringSerializer());
  }

  static KafkaConsumer<String, String> consumer(Map<String, ?> settings) {
    return new KafkaConsumer<>(Suite.settings(settings), new StringDeserializer(), new StringDeserializer());
  }

  /** Sends the numbers from first on, round robin over the partitions. */
  static void produce(String topic, int partitions, int first, int count, Map<String, ?> settings) throws Exception {
    List<Future<RecordMetadata>> sent = new ArrayList<>();
    try (KafkaProducer<String, String> producer = producer(settings)) {
      for (int n = first; n < first + count; n++) {
        var header = new RecordHeader("h", new byte[] {(byte) n});
        sent.add(producer.send(new ProducerRecord<>(topic, n % partitions, "k" + n, "" + n, List.of(header))));
      }
    }
    for (Future<RecordMetadata> one : sent) one.get();
  }

  private static void readBack(String topic, int partitions, int count) {
    try (KafkaConsumer<String, String> consumer = consumer(Map.of())) {
      List<TopicPartition> all = new ArrayList<>();
      for (int p = 0; p < partitions; p++) all.add(new TopicPartition(topic, p));
      consumer.assign(all);
      consumer.seekToBeginning(all);
      for (int got = 0; got < count; ) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(20))) {
          String wanted = "" + (record.offset() * partitions + record.partition());
          Suite.same(wanted, record.value());
          Suite.same("k" + wanted, record.key());
          Suite.same(1, record.headers().toArray().length);
          got++;
        }
      }
      for (long end : consumer.endOffsets(all).values()) Suite.same((long) count / partitions, end);
    }
  }

  static void run() {
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      for (boolean idempotent : new boolean[] {true, false}) {
        String name = codec + (idempotent ? "-idempotent" : "-plain");
        Suite.check("codec " + name, () -> {
          String topic = Suite.create(name, 2, Map.of());
          produce(topic, 2, 0, 1000, Map.of("compression.type", codec, "enable.idempotence", idempotent));
          readBack(topic, 2, 1000);
        });
      }
    }
    for (String acks : List.of("0", "1")) {
      Suite.check("acks " + acks, () -> {
        String topic = Suite.create("acks-" + acks, 1, Map.of());
        produce(topic, 1, 0, 500, Map.of("acks", acks, "enable.idempotence", false));
        readBack(topic, 1, 500);
      });
    }
    Suite.check("a record too large is refused", () -> {
      String topic = Suite.create("small", 1, Map.of("max.message.bytes", "1000"));
      try (KafkaProducer<String, String> producer = producer(Map.of())) {
        try {
          producer.send(new ProducerRecord<>(topic, "x".repeat(5000))).get();
          Suite.require(false, "it was taken");
        } catch (java.util.concurrent.ExecutionException e) {
          Suite.require(e.getCause() instanceof RecordTooLargeException, "" + e.getCause());
        }
      }
    });
  }
}
