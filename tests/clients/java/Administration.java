// Everything that Kafka's Admin asks of one broker: what it answers, and with which error it refuses.

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.BrokerIdNotRegisteredException;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidUpdateVersionException;
import org.apache.kafka.common.errors.LogDirNotFoundException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

final class Administration {
  private static final ConfigResource BROKER = new ConfigResource(ConfigResource.Type.BROKER, "1");
  private static final ConfigResource ALL_BROKERS = new ConfigResource(ConfigResource.Type.BROKER, "");

  private Administration() {}

  static void refused(Class<? extends Throwable> with, String says, KafkaFuture<?> future) throws Exception {
    try {
      future.get();
    } catch (ExecutionException e) {
      Suite.require(with.isInstance(e.getCause()), "refused with " + e.getCause());
      String message = "" + e.getCause().getMessage();
      Suite.require(message.contains(says), "refused with: " + message);
      return;
    }
    throw new AssertionError("not refused");
  }

  private static KafkaFuture<Void> alter(Admin admin, ConfigResource resource, OpType op, String name, String value) {
    AlterConfigOp change = new AlterConfigOp(new ConfigEntry(name, value), op);
    return admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all();
  }

  private static Config describe(Admin admin, ConfigResource resource) throws Exception {
    var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
    return admin.describeConfigs(List.of(resource), options).all().get().get(resource);
  }

  private static void becomes(Admin admin, ConfigResource resource, String name, String value, ConfigSource source) throws Exception {
    Suite.eventually(name + " = " + value + " from " + source, 10, () -> {
      try {
        ConfigEntry entry = describe(admin, resource).get(name);
        return entry != null && value.equals(entry.value()) && entry.source() == source;
      } catch (Exception e) {
        return false;
      }
    });
  }

  private static void topics(Admin admin) throws Exception {
    String topic = Suite.create("admin", 2, Map.of("retention.ms", "100000"));
    refused(TopicExistsException.class, "already exists", admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
    refused(InvalidPartitionsException.class, "", admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(1))).all());
    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
    Suite.eventually("three partitions", 10, () -> {
      try {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 3;
      } catch (Exception e) {
        return false;
      }
    });
    Producers.produce(topic, 1, 0, 100, Map.of());
    TopicPartition first = new TopicPartition(topic, 0);
    Suite.same(40L, admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(40))).lowWatermarks().get(first).get().lowWatermark());
    Suite.same(40L, admin.listOffsets(Map.of(first, OffsetSpec.earliest())).all().get().get(first).offset());
    Suite.same(100L, admin.listOffsets(Map.of(first, OffsetSpec.latest())).all().get().get(first).offset());
    admin.deleteTopics(List.of(topic)).all().get();
    refused(UnknownTopicOrPartitionException.class, "", admin.deleteTopics(List.of(topic)).all());
  }

  private static void topicConfigs(Admin admin) throws Exception {
    String topic = Suite.create("configs", 1, Map.of("retention.ms", "100000"));
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    ConfigEntry retention = describe(admin, resource).get("retention.ms");
    Suite.same(ConfigSource.DYNAMIC_TOPIC_CONFIG, retention.source());
    Suite.same(ConfigEntry.ConfigType.LONG, retention.type());
    Suite.require(!retention.documentation().isEmpty(), "no documentation");
    alter(admin, resource, OpType.APPEND, "cleanup.policy", "compact").get();
    becomes(admin, resource, "cleanup.policy", "delete,compact", ConfigSource.DYNAMIC_TOPIC_CONFIG);
    alter(admin, resource, OpType.SUBTRACT, "cleanup.policy", "delete").get();
    becomes(admin, resource, "cleanup.policy", "compact", ConfigSource.DYNAMIC_TOPIC_CONFIG);
    alter(admin, resource, OpType.DELETE, "cleanup.policy", "").get();
    becomes(admin, resource, "cleanup.policy", "delete", ConfigSource.DEFAULT_CONFIG);
    refused(InvalidConfigurationException.class, "retention.ms", alter(admin, resource, OpType.SET, "retention.ms", "soon"));
    refused(InvalidConfigurationException.class, "Unknown topic config name", alter(admin, resource, OpType.SET, "retention", "1"));
    refused(InvalidConfigurationException.class, "its type is not LIST", alter(admin, resource, OpType.APPEND, "retention.ms", "1"));
    ConfigResource nowhere = new ConfigResource(ConfigResource.Type.TOPIC, topic + "-not");
    refused(UnknownTopicOrPartitionException.class, "does not exist", alter(admin, nowhere, OpType.SET, "retention.ms", "1"));
    refused(InvalidRequestException.class, "Default topic resources are not allowed",
        alter(admin, new ConfigResource(ConfigResource.Type.TOPIC, ""), OpType.SET, "retention.ms", "1"));
  }

  private static void brokerConfigs(Admin admin) throws Exception {
    String topic = Suite.create("inherits", 1, Map.of());
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    String name = "log.message.timestamp.after.max.ms";
    try {
      alter(admin, ALL_BROKERS, OpType.SET, name, "3600001").get();
      becomes(admin, ALL_BROKERS, name, "3600001", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
      becomes(admin, BROKER, name, "3600001", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
      becomes(admin, resource, "message.timestamp.after.max.ms", "3600001", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
      alter(admin, BROKER, OpType.SET, name, "3600002").get();
      becomes(admin, BROKER, name, "3600002", ConfigSource.DYNAMIC_BROKER_CONFIG);
      becomes(admin, resource, "message.timestamp.after.max.ms", "3600002", ConfigSource.DYNAMIC_BROKER_CONFIG);
      var synonyms = describe(admin, BROKER).get(name).synonyms().stream().map(s -> s.source() + " " + s.value()).toList();
      Suite.same(List.of("DYNAMIC_BROKER_CONFIG 3600002", "DYNAMIC_DEFAULT_BROKER_CONFIG 3600001", "DEFAULT_CONFIG 3600000"), synonyms);
    } finally {
      alter(admin, BROKER, OpType.DELETE, name, "").get();
      alter(admin, ALL_BROKERS, OpType.DELETE, name, "").get();
    }
    becomes(admin, BROKER, name, "3600000", ConfigSource.DEFAULT_CONFIG);
    Suite.require(describe(admin, BROKER).get("node.id").isReadOnly(), "node.id can be written");
    Suite.require(!describe(admin, BROKER).get("log.retention.ms").isReadOnly(), "log.retention.ms cannot be written");
    refused(InvalidRequestException.class, "Cannot update these configs dynamically: [num.partitions]",
        alter(admin, BROKER, OpType.SET, "num.partitions", "5"));
  }

  private static void otherConfigs(Admin admin) throws Exception {
    ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, Suite.RUN + "-group");
    alter(admin, group, OpType.SET, "consumer.session.timeout.ms", "50000").get();
    becomes(admin, group, "consumer.session.timeout.ms", "50000", ConfigSource.DYNAMIC_GROUP_CONFIG);
    becomes(admin, group, "share.auto.offset.reset", "latest", ConfigSource.DEFAULT_CONFIG);
    refused(InvalidConfigurationException.class, "must be greater than or equal to group.consumer.min.session.timeout.ms",
        alter(admin, group, OpType.SET, "consumer.session.timeout.ms", "5"));
    refused(InvalidConfigurationException.class, "Unknown group config name: session.timeout.ms",
        alter(admin, group, OpType.SET, "session.timeout.ms", "5"));
    ConfigResource metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, Suite.RUN + "-metrics");
    alter(admin, metrics, OpType.SET, "interval.ms", "60000").get();
    becomes(admin, metrics, "interval.ms", "60000", ConfigSource.DYNAMIC_CLIENT_METRICS_CONFIG);
    refused(InvalidRequestException.class, "interval must be between 100 and 3600000",
        alter(admin, metrics, OpType.SET, "interval.ms", "5"));
    var names = admin.listConfigResources(Set.of(), new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get();
    Suite.require(names.contains(group) && names.contains(metrics) && names.contains(BROKER), "listed: " + names);
    alter(admin, group, OpType.DELETE, "consumer.session.timeout.ms", "").get();
    alter(admin, metrics, OpType.DELETE, "interval.ms", "").get();
  }

  private static void directories(Admin admin) throws Exception {
    String topic = Suite.create("placed", 2, Map.of());
    Producers.produce(topic, 2, 0, 100, Map.of());
    var dirs = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1);
    Suite.same(1, dirs.size());
    String dir = dirs.keySet().iterator().next();
    var described = dirs.get(dir);
    Suite.require(described.error() == null, "" + described.error());
    Suite.require(described.totalBytes().getAsLong() > described.usableBytes().getAsLong(), "" + described);
    var replica = described.replicaInfos().get(new TopicPartition(topic, 1));
    Suite.require(replica.size() > 500 && replica.offsetLag() == 0 && !replica.isFuture(), "" + replica);
    var place = new TopicPartitionReplica(topic, 0, 1);
    Suite.same(dir, admin.describeReplicaLogDirs(List.of(place)).all().get().get(place).getCurrentReplicaLogDir());
    admin.alterReplicaLogDirs(Map.of(place, dir)).all().get();
    refused(LogDirNotFoundException.class, "", admin.alterReplicaLogDirs(Map.of(place, "/nowhere")).all());
  }

  private static void producers(Admin admin) throws Exception {
    String topic = Suite.create("remembers", 1, Map.of());
    Producers.produce(topic, 1, 0, 10, Map.of());
    TopicPartition partition = new TopicPartition(topic, 0);
    var found = admin.describeProducers(List.of(partition)).all().get().get(partition).activeProducers();
    Suite.same(1, found.size());
    Suite.same(9, found.get(0).lastSequence());
    Suite.same(0, found.get(0).producerEpoch());
    Suite.require(found.get(0).currentTransactionStartOffset().isEmpty(), "a transaction");
    Suite.require(Math.abs(found.get(0).lastTimestamp() - System.currentTimeMillis()) < 60_000, "" + found);
  }

  private static void placement(Admin admin) throws Exception {
    String topic = Suite.create("stays", 1, Map.of());
    TopicPartition partition = new TopicPartition(topic, 0);
    TopicPartition nowhere = new TopicPartition(topic, 9);
    for (ElectionType type : ElectionType.values()) {
      var results = admin.electLeaders(type, Set.of(partition, nowhere)).partitions().get();
      Suite.require(results.get(partition).get() instanceof ElectionNotNeededException, "" + results);
      Suite.require(results.get(nowhere).get() instanceof UnknownTopicOrPartitionException, "" + results);
    }
    Suite.same(Map.of(), admin.listPartitionReassignments().reassignments().get());
    admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(1))))).all().get();
    refused(NoReassignmentInProgressException.class, "", admin.alterPartitionReassignments(Map.of(partition, Optional.empty())).all());
    refused(InvalidReplicaAssignmentException.class, "broker 2, but no such broker is registered",
        admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(1, 2))))).all());
    refused(UnknownTopicOrPartitionException.class, "Unable to find partition",
        admin.alterPartitionReassignments(Map.of(nowhere, Optional.of(new NewPartitionReassignment(List.of(1))))).all());
  }

  private static void cluster(Admin admin) throws Exception {
    Suite.same(1, admin.describeCluster().nodes().get().size());
    var quorum = admin.describeMetadataQuorum().quorumInfo().get();
    Suite.same(1, quorum.leaderId());
    Suite.same(List.of(1), quorum.voters().stream().map(v -> v.replicaId()).toList());
    Suite.require(quorum.highWatermark() > 0 && quorum.observers().isEmpty(), "" + quorum);
    Suite.same(1, quorum.nodes().size());
    refused(BrokerIdNotRegisteredException.class, "Broker ID 77 is not currently registered", admin.unregisterBroker(77).all());
    var unknown = Map.of("no.such.version", new FeatureUpdate((short) 3, FeatureUpdate.UpgradeType.UPGRADE));
    refused(InvalidUpdateVersionException.class, "does not support this feature", admin.updateFeatures(unknown, new UpdateFeaturesOptions()).all());
    admin.describeFeatures().featureMetadata().get();
  }

  private static ClientQuotaEntity entity(String user, String client) {
    Map<String, String> names = new HashMap<>();
    if (user != null) names.put(ClientQuotaEntity.USER, user.equals("*") ? null : user);
    if (client != null) names.put(ClientQuotaEntity.CLIENT_ID, client.equals("*") ? null : client);
    return new ClientQuotaEntity(names);
  }

  private static KafkaFuture<Void> quota(Admin admin, ClientQuotaEntity entity, String key, Double value) {
    return admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, List.of(new ClientQuotaAlteration.Op(key, value))))).all();
  }

  private static void quotas(Admin admin) throws Exception {
    String client = Suite.RUN + "-quotas";
    List<ClientQuotaEntity> all = List.of(entity(client, null), entity(client, client), entity(null, client), entity(client, "*"));
    for (ClientQuotaEntity one : all) quota(admin, one, "producer_byte_rate", 1e9).get();
    quota(admin, all.get(1), "request_percentage", 99.5).get();
    var user = ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.USER, client);
    Map<Collection<ClientQuotaFilterComponent>, Integer> filters = Map.of(
        List.of(user), 3,
        List.of(user, ClientQuotaFilterComponent.ofDefaultEntity(ClientQuotaEntity.CLIENT_ID)), 1,
        List.of(user, ClientQuotaFilterComponent.ofEntityType(ClientQuotaEntity.CLIENT_ID)), 2);
    for (var filter : filters.entrySet()) {
      Suite.eventually(filter.getValue() + " entities for " + filter.getKey(), 10, () -> {
        try {
          return admin.describeClientQuotas(ClientQuotaFilter.contains(filter.getKey())).entities().get().size() == filter.getValue();
        } catch (Exception e) {
          return false;
        }
      });
    }
    var strict = admin.describeClientQuotas(ClientQuotaFilter.containsOnly(List.of(user))).entities().get();
    Suite.same(Map.of(all.get(0), Map.of("producer_byte_rate", 1e9)), strict);
    refused(InvalidRequestException.class, "Invalid configuration key", quota(admin, all.get(0), "bytes", 1.0));
    refused(InvalidRequestException.class, "must be greater than 0", quota(admin, all.get(0), "producer_byte_rate", 0.0));
    refused(InvalidRequestException.class, "cannot be a fractional value", quota(admin, all.get(0), "consumer_byte_rate", 1.5));
    for (ClientQuotaEntity one : all) quota(admin, one, "producer_byte_rate", null).get();
    quota(admin, all.get(1), "request_percentage", null).get();
  }

  /** A producer over its rate is slowed down to it: what goes over ten seconds' worth takes its time. */
  private static void throttling(Admin admin) throws Exception {
    String topic = Suite.create("throttled", 1, Map.of());
    ClientQuotaEntity client = entity(null, Suite.RUN + "-slow");
    quota(admin, client, "producer_byte_rate", 100_000.0).get();
    quota(admin, client, "consumer_byte_rate", 100_000.0).get();
    Thread.sleep(500);
    Map<String, Object> settings = Map.of("client.id", Suite.RUN + "-slow", "batch.size", "20000", "compression.type", "none");
    long began = System.nanoTime();
    double waited = 0;
    try (var producer = Producers.producer(settings)) {
      for (int i = 0; i < 130; i++) {
        producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, "x".repeat(10_000))).get();
      }
      for (var metric : producer.metrics().values()) {
        if (metric.metricName().name().equals("produce-throttle-time-max")) waited = (double) metric.metricValue();
      }
    }
    double seconds = (System.nanoTime() - began) / 1e9;
    Suite.require(waited > 0, "nobody was told to wait");
    Suite.require(seconds > 1.5 && seconds < 15, "1.3 MB at 100 kB/s, 1 MB of them at once, took " + seconds + " s");
    quota(admin, client, "producer_byte_rate", null).get();
    quota(admin, client, "consumer_byte_rate", null).get();
  }

  static void run() {
    try (Admin admin = Suite.admin()) {
      Suite.check("admin: topics, partitions, records", () -> topics(admin));
      Suite.check("admin: configs of topics", () -> topicConfigs(admin));
      Suite.check("admin: configs of brokers, inherited by topics", () -> brokerConfigs(admin));
      Suite.check("admin: configs of groups and client metrics", () -> otherConfigs(admin));
      Suite.check("admin: log directories", () -> directories(admin));
      Suite.check("admin: producers", () -> producers(admin));
      Suite.check("admin: elections and reassignments", () -> placement(admin));
      Suite.check("admin: quorum, features, brokers", () -> cluster(admin));
      Suite.check("admin: quotas", () -> quotas(admin));
      Suite.check("a client over its quota is slowed down", () -> throttling(admin));
    }
  }
}
