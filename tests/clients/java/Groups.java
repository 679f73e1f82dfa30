// A group of three whose members join, leave and die; commit and resume; what admin says of groups.

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.WakeupException;

final class Groups {
  private static final int PARTITIONS = 6;
  private static final String EAGER = "org.apache.kafka.clients.consumer.RangeAssignor";
  private static final String COOPERATIVE = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";

  private Groups() {}

  /** A member: what it owns, what it got. Runs here, or in a process of its own that tells by lines. */
  static final class Member {
    private int owned = 0;
    private final Set<String> got = new HashSet<>();
    private int count = 0;
    private Process process;
    private Thread thread;
    private KafkaConsumer<String, String> consumer;

    synchronized int owned() {
      return owned;
    }

    synchronized int count() {
      return count;
    }

    synchronized void addTo(Set<String> all) {
      all.addAll(got);
    }

    synchronized void hear(String line) {
      if (line.startsWith("owns ")) owned = Integer.parseInt(line.substring(5));
      if (line.startsWith("got ")) {
        got.add(line.substring(4));
        count++;
      }
    }

    void leave() throws InterruptedException {
      consumer.wakeup();
      thread.join(20_000);
    }

    static Member here(String topic, String group, String assignor) {
      Member member = new Member();
      member.consumer = Groups.consumer(group, assignor);
      member.thread = new Thread(() -> follow(member.consumer, topic, member::hear));
      member.thread.setDaemon(true);
      member.thread.start();
      return member;
    }

    static Member apart(String topic, String group, String assignor) throws Exception {
      Member member = new Member();
      member.process = Suite.process(member::hear, "Groups", topic, group, assignor);
      return member;
    }
  }

  private static KafkaConsumer<String, String> consumer(String group, String assignor) {
    return Producers.consumer(Map.of(
        "group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false",
        "session.timeout.ms", "6000", "heartbeat.interval.ms", "500", "max.poll.interval.ms", "15000",
        "partition.assignment.strategy", assignor));
  }

  private static void follow(KafkaConsumer<String, String> consumer, String topic, java.util.function.Consumer<String> say) {
    try (consumer) {
      consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
        private void tell() {
          say.accept("owns " + consumer.assignment().size());
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
          tell();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
          say.accept("owns " + (consumer.assignment().size() - partitions.size()));
        }
      });
      while (true) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
          say.accept("got " + record.value());
          var next = new OffsetAndMetadata(record.offset() + 1);
          consumer.commitSync(Map.of(new TopicPartition(topic, record.partition()), next));
        }
      }
    } catch (WakeupException e) {
      // Asked to leave.
    } catch (RuntimeException e) {
      say.accept("error " + e);
    }
  }

  private static int all(Member... members) {
    Set<String> all = new HashSet<>();
    for (Member member : members) member.addTo(all);
    return all.size();
  }

  private static void one(String name, String assignor) {
    String group = Suite.RUN + "-" + name;
    Map<String, Member> members = new HashMap<>();
    Suite.check(name + ": a group of three shares six partitions", () -> {
      String topic = Suite.create(name, PARTITIONS, Map.of());
      Member first = Member.here(topic, group, assignor);
      Member second = Member.here(topic, group, assignor);
      Member third = Member.apart(topic, group, assignor);
      members.putAll(Map.of("first", first, "second", second, "third", third));
      Suite.eventually("two partitions each", 30,
          () -> first.owned() == 2 && second.owned() == 2 && third.owned() == 2);
      Producers.produce(topic, PARTITIONS, 0, 300, Map.of());
      Suite.eventually("300 records", 20, () -> all(first, second, third) == 300);
    });
    if (members.isEmpty()) return;
    String topic = Suite.RUN + "-" + name;
    Member first = members.get("first");
    Member second = members.get("second");
    Member third = members.get("third");
    Suite.check(name + ": a member that dies is replaced", () -> {
      third.process.destroyForcibly().waitFor();
      Suite.eventually("three partitions each", 30, () -> first.owned() == 3 && second.owned() == 3);
      Producers.produce(topic, PARTITIONS, 300, 300, Map.of());
      Suite.eventually("600 records", 20, () -> all(first, second, third) == 600);
    });
    Suite.check(name + ": a member that leaves is replaced at once", () -> {
      second.leave();
      Suite.eventually("six partitions", 5, () -> first.owned() == PARTITIONS);
    });
    Suite.check(name + ": the group resumes where it committed", () -> {
      first.leave();
      Producers.produce(topic, PARTITIONS, 600, 100, Map.of());
      Member again = Member.here(topic, group, assignor);
      Suite.eventually("100 records", 20, () -> again.count() >= 100);
      Thread.sleep(300);
      Suite.same(100, again.count());
      again.leave();
    });
    Suite.check(name + ": admin lists, describes, resets and deletes it", () -> administer(topic, group));
  }

  private static void administer(String topic, String group) throws Exception {
    try (Admin admin = Suite.admin()) {
      Suite.require(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), "not listed");
      var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
      Suite.same(GroupState.EMPTY, described.groupState());
      var offsets = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
      Suite.same(700L, offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum());
      var place = new TopicPartition(topic, 0);
      admin.alterConsumerGroupOffsets(group, Map.of(place, new OffsetAndMetadata(3, "moved"))).all().get();
      var moved = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(place);
      Suite.same(new OffsetAndMetadata(3, "moved").toString(), new OffsetAndMetadata(moved.offset(), moved.metadata()).toString());
      admin.deleteConsumerGroupOffsets(group, Set.of(place)).all().get();
      Suite.require(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(place) == null, "still there");
      admin.deleteConsumerGroups(List.of(group)).all().get();
      try {
        admin.describeConsumerGroups(List.of(group)).all().get();
        Suite.require(false, "it can still be described");
      } catch (java.util.concurrent.ExecutionException e) {
        Suite.require(e.getCause() instanceof GroupIdNotFoundException, "" + e.getCause());
      }
    }
  }

  static void run() {
    one("eager", EAGER);
    one("cooperative", COOPERATIVE);
  }

  public static void main(String[] args) {
    follow(consumer(args[1], args[2]), args[0], System.out::println);
  }
}
