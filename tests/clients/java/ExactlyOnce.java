// Exactly once: a consumer-producer loop, and a Kafka Streams application that moves and counts, each in a process of its
// own. Records are fed while the broker is killed again and again, and the application once.

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.Stores;

final class ExactlyOnce {
  /** Every number is counted with those that have its last digit. */
  private static final int KEYS = 10;
  private static final int KILLS = 5;

  private ExactlyOnce() {}

  // --- the applications

  private static void loop(String broker, String name) throws Exception {
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", broker);
    while (true) {
      try (KafkaProducer<String, String> producer = Producers.producer(with(settings, "transactional.id", name));
          KafkaConsumer<String, String> consumer = Producers.consumer(with(settings, "group.id", name,
              "isolation.level", "read_committed", "enable.auto.commit", "false", "auto.offset.reset", "earliest",
              "session.timeout.ms", "6000", "heartbeat.interval.ms", "500"))) {
        producer.initTransactions();
        consumer.subscribe(List.of(name + "-in"));
        while (true) move(name, consumer, producer);
      } catch (KafkaException e) {
        System.out.println("starts over: " + e);
        Thread.sleep(100);
      }
    }
  }

  private static void move(String name, KafkaConsumer<String, String> consumer, KafkaProducer<String, String> producer) {
    var records = consumer.poll(Duration.ofMillis(200));
    if (records.isEmpty()) return;
    producer.beginTransaction();
    Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
    for (ConsumerRecord<String, String> record : records) {
      producer.send(new ProducerRecord<>(name + "-out", record.key(), record.value()));
      next.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
    }
    producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
    producer.commitTransaction();
  }

  private static void streams(String broker, String name) throws Exception {
    Properties settings = new Properties();
    settings.putAll(Map.of("bootstrap.servers", broker, "application.id", name, "processing.guarantee", "exactly_once_v2",
        "num.stream.threads", "2", "state.dir", System.getenv("WORK") + "/" + name, "auto.offset.reset", "earliest",
        StreamsConfig.consumerPrefix("session.timeout.ms"), "6000",
        StreamsConfig.consumerPrefix("heartbeat.interval.ms"), "500",
        StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class,
        StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class));
    StreamsBuilder builder = new StreamsBuilder();
    KStream<String, String> numbers = builder.stream(name + "-in");
    numbers.to(name + "-out");
    numbers.groupBy((key, value) -> value.substring(value.length() - 1))
        .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("counts"))
            .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
        .toStream().mapValues(String::valueOf).to(name + "-counts");
    KafkaStreams app = new KafkaStreams(builder.build(), settings);
    app.setUncaughtExceptionHandler(error -> {
      System.out.println("a thread is replaced: " + error);
      return StreamThreadExceptionResponse.REPLACE_THREAD;
    });
    app.start();
    Thread.currentThread().join();
  }

  // --- feeding, killing, judging

  private static Map<String, Object> with(Map<String, Object> settings, Object... more) {
    Map<String, Object> all = new HashMap<>(settings);
    for (int i = 0; i < more.length; i += 2) all.put((String) more[i], more[i + 1]);
    return all;
  }

  /** Feeds numbers until told to stop; returns how many. */
  private static int feed(String broker, String topic, AtomicBoolean stop) throws Exception {
    List<Future<RecordMetadata>> sent = new ArrayList<>();
    try (KafkaProducer<String, String> producer =
        Producers.producer(Map.of("bootstrap.servers", broker, "enable.idempotence", true, "linger.ms", 5))) {
      for (int n = 0; !stop.get(); n++) {
        sent.add(producer.send(new ProducerRecord<>(topic, "k" + n, "" + n)));
        Thread.sleep(1);
      }
    }
    for (Future<RecordMetadata> one : sent) one.get();
    return sent.size();
  }

  private static void survives(String kind) throws Exception {
    String name = Suite.RUN + "-" + kind;
    List<String> said = Collections.synchronizedList(new ArrayList<>());
    try (Broker broker = new Broker()) {
      try (Admin admin = Admin.create(Suite.settings(Map.of("bootstrap.servers", broker.address)))) {
        admin.createTopics(List.of(new NewTopic(name + "-in", 2, (short) 1), new NewTopic(name + "-out", 3, (short) 1),
            new NewTopic(name + "-counts", 2, (short) 1))).all().get();
      }
      AtomicBoolean stop = new AtomicBoolean();
      Future<Integer> feeding = Suite.THREADS.submit(() -> feed(broker.address, name + "-in", stop));
      Process app = Suite.process(said::add, "ExactlyOnce", kind, broker.address, name);
      try {
        for (int kill = 1; kill <= KILLS; kill++) {
          Thread.sleep(ThreadLocalRandom.current().nextInt(1000, 2500));
          broker.killAndStart();
          if (kill == 3) {
            app.destroyForcibly().waitFor();
            app = Suite.process(said::add, "ExactlyOnce", kind, broker.address, name);
          }
        }
        stop.set(true);
        int fed = feeding.get();
        Suite.eventually("all of " + fed + " are moved", 60, () -> moved(broker, name) >= fed && counted(kind, broker, name) == fed);
        app.destroyForcibly().waitFor();
        var out = Transactions.read(broker.address, name + "-out", "read_committed");
        Suite.same(IntStream.range(0, fed).boxed().toList(), out.stream().map(r -> Integer.valueOf(r.value())).sorted().toList());
        if (kind.equals("streams")) Suite.same((long) fed, counted(kind, broker, name));
      } catch (AssertionError e) {
        throw new AssertionError(e.getMessage() + "; the application said: " + said, e);
      } finally {
        stop.set(true);
        app.destroyForcibly().waitFor();
      }
    }
  }

  private static int moved(Broker broker, String name) {
    return Transactions.read(broker.address, name + "-out", "read_committed").size();
  }

  /** The sum of the last counts; a count that does not grow is one that was taken back or told twice. */
  private static long counted(String kind, Broker broker, String name) {
    if (!kind.equals("streams")) return moved(broker, name);
    Map<String, Long> counts = new HashMap<>();
    for (ConsumerRecord<String, String> record : Transactions.read(broker.address, name + "-counts", "read_committed")) {
      Long before = counts.put(record.key(), Long.valueOf(record.value()));
      Suite.require(before == null || before < Long.parseLong(record.value()), record.key() + ": " + before + ", then " + record.value());
    }
    Suite.require(counts.size() <= KEYS, "" + counts);
    return counts.values().stream().mapToLong(Long::longValue).sum();
  }

  static void run() {
    String killed = Broker.mortal() ? " while the broker is killed" : "";
    Suite.check("exactly once" + killed + ": consume, transform, produce", 150, () -> survives("loop"));
    Suite.check("exactly once" + killed + ": Kafka Streams", 150, () -> survives("streams"));
  }

  public static void main(String[] args) throws Exception {
    if (args[0].equals("loop")) loop(args[1], args[2]);
    else streams(args[1], args[2]);
  }
}
