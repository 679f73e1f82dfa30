// librdkafka from C, against BROKER: every codec with idempotence on and off, transactions, admin. `suite member GROUP
// TOPIC` is a member of a group, for ../lib.sh's group of three; `suite send TOPIC FIRST LAST` sends it numbers;
// `suite create TOPIC` makes it.
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PARTITIONS 6
#define CALL 20000

static char why[2048];
static int failures;
static int tells;
static volatile sig_atomic_t asked_to_stop;

#define REQUIRE(holds, ...) do { if (!(holds)) { snprintf(why, sizeof why, __VA_ARGS__); return 0; } } while (0)
#define FINE(call) do { if (!fine(call)) return 0; } while (0)
#define SAME(got, wanted) REQUIRE((long long)(got) == (long long)(wanted), "%s is %lld, not %lld", #got, (long long)(got), (long long)(wanted))

static int fine(rd_kafka_error_t *error) {
  if (!error) return 1;
  snprintf(why, sizeof why, "%s", rd_kafka_error_string(error));
  rd_kafka_error_destroy(error);
  return 0;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
  (void)rk, (void)opaque;
  if (m->err) failures++;
}

static void rebalanced(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *parts, void *opaque) {
  (void)opaque;
  int gets = err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
  if (tells) printf("%s:", gets ? "assigned" : "revoked");
  for (int i = 0; tells && i < parts->cnt; i++) printf(" %s [%d]", parts->elems[i].topic, parts->elems[i].partition);
  if (tells) printf("\n");
  rd_kafka_assign(rk, gets ? parts : NULL);
}

// A client with these settings: names and values, then NULL.
static rd_kafka_t *client(rd_kafka_type_t type, ...) {
  char said[512];
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  const char *name, *value = getenv("BROKER");
  va_list more;
  va_start(more, type);
  for (name = "bootstrap.servers"; name; name = va_arg(more, const char *), value = name ? va_arg(more, const char *) : NULL)
    if (rd_kafka_conf_set(conf, name, value, said, sizeof said)) fprintf(stderr, "%s\n", said), exit(1);
  va_end(more);
  if (type == RD_KAFKA_PRODUCER) rd_kafka_conf_set_dr_msg_cb(conf, delivered);
  else rd_kafka_conf_set_rebalance_cb(conf, rebalanced);
  rd_kafka_t *rk = rd_kafka_new(type, conf, said, sizeof said);
  if (!rk) fprintf(stderr, "%s\n", said), exit(1);
  if (type == RD_KAFKA_CONSUMER) rd_kafka_poll_set_consumer(rk);
  return rk;
}

static rd_kafka_t *consumer(const char *group, const char *isolation) {
  return client(RD_KAFKA_CONSUMER, "group.id", group, "isolation.level", isolation, "auto.offset.reset", "earliest",
                "enable.auto.commit", "false", "session.timeout.ms", "6000", "heartbeat.interval.ms", "500", NULL);
}

static void end(rd_kafka_t *rk) {
  if (rd_kafka_type(rk) == RD_KAFKA_CONSUMER) rd_kafka_consumer_close(rk);
  rd_kafka_destroy(rk);
}

// What Admin is asked, and its answer.
static rd_kafka_t *admin;
static rd_kafka_queue_t *queue;

static rd_kafka_event_t *answer(void) {
  static rd_kafka_event_t *last;
  if (last) rd_kafka_event_destroy(last);
  last = rd_kafka_queue_poll(queue, CALL);
  if (last && rd_kafka_event_error(last)) snprintf(why, sizeof why, "%s", rd_kafka_event_error_string(last));
  return last && !rd_kafka_event_error(last) ? last : NULL;
}

static rd_kafka_resp_err_t create(const char *topic, int partitions) {
  size_t count;
  rd_kafka_NewTopic_t *made = rd_kafka_NewTopic_new(topic, partitions, 1, NULL, 0);
  rd_kafka_NewTopic_set_config(made, "retention.ms", "100000");
  rd_kafka_CreateTopics(admin, &made, 1, NULL, queue);
  rd_kafka_NewTopic_destroy(made);
  rd_kafka_event_t *event = answer();
  if (!event) return RD_KAFKA_RESP_ERR__TIMED_OUT;
  return rd_kafka_topic_result_error(rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count)[0]);
}

static const char *named(const char *name) {
  static char names[8][128];
  static int at;
  at = (at + 1) % 8;
  snprintf(names[at], sizeof names[at], "librdkafka-%d-%s", getpid(), name);
  return names[at];
}

// Appends to what is wanted of a topic of two partitions.
static void want(char *all, const char *turn, int count) {
  for (int n = 0; n < count; n++) sprintf(all + strlen(all), "%s%d ", turn, n);
}

// Sends turn0, turn1, … to a partition and waits until the broker has them.
static int send_to(rd_kafka_t *rk, const char *topic, int partition, const char *turn, int count) {
  char value[64];
  failures = 0;
  for (int n = 0; n < count; n++) {
    int length = sprintf(value, "%s%d", turn, n);
    rd_kafka_resp_err_t err = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
        RD_KAFKA_V_KEY("k", 1), RD_KAFKA_V_VALUE(value, length), RD_KAFKA_V_HEADER("h", "v", 1),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    REQUIRE(!err, "%s", rd_kafka_err2str(err));
  }
  rd_kafka_flush(rk, CALL);
  REQUIRE(!failures, "%d not delivered", failures);
  return 1;
}

// Expects these values of a topic's two partitions, in this order, and nothing more for so many seconds.
static int reads(const char *topic, const char *isolation, char wanted[2][20000], double more) {
  static char found[2][20000];
  double last = 0, deadline = now() + 20;
  rd_kafka_t *rk = consumer("unused", isolation);
  rd_kafka_topic_partition_list_t *both = rd_kafka_topic_partition_list_new(2);
  for (int p = 0; p < 2; p++) found[p][0] = 0, rd_kafka_topic_partition_list_add(both, topic, p)->offset = 0;
  rd_kafka_assign(rk, both);
  rd_kafka_topic_partition_list_destroy(both);
  while (now() < (last ? last : deadline)) {
    rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);
    if (m && !m->err && strlen(found[m->partition]) < 19000)
      sprintf(found[m->partition] + strlen(found[m->partition]), "%.*s ", (int)m->len, (char *)m->payload);
    if (m) rd_kafka_message_destroy(m);
    if (!last && strlen(found[0]) >= strlen(wanted[0]) && strlen(found[1]) >= strlen(wanted[1])) last = now() + more;
  }
  end(rk);
  for (int p = 0; p < 2; p++)
    REQUIRE(!strcmp(found[p], wanted[p]), "%s, partition %d: %.500s; wanted %.500s", isolation, p, found[p], wanted[p]);
  return 1;
}

static int codec(const char *name, const char *idempotent) {
  static char wanted[2][20000];
  char topic[128];
  snprintf(topic, sizeof topic, "%s-%s", named(name), idempotent);
  SAME(create(topic, 2), 0);
  // A retry may overtake what was sent after it, but for an idempotent producer's.
  rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, "compression.type", name, "enable.idempotence", idempotent, "linger.ms", "5",
                          "max.in.flight", strcmp(idempotent, "true") ? "1" : "5", NULL);
  for (int p = 0; p < 2; p++) {
    if (!send_to(rk, topic, p, "a value ", 1000)) return 0;
    wanted[p][0] = 0, want(wanted[p], "a value ", 1000);
  }
  end(rk);
  return reads(topic, "read_uncommitted", wanted, 0);
}

static rd_kafka_t *transactional(const char *id) {
  rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, "transactional.id", id, NULL);
  return fine(rd_kafka_init_transactions(rk, CALL)) ? rk : NULL;
}

static int commits_and_aborts(void) {
  static char committed[2][20000], all[2][20000];
  const char *topic = named("committed");
  SAME(create(topic, 2), 0);
  rd_kafka_t *rk = transactional(topic);
  if (!rk) return 0;
  for (int turn = 0; turn < 10; turn++) {
    char say[16];
    int aborts = turn % 3 == 1, open = turn == 9;
    sprintf(say, "%d-", turn);
    FINE(rd_kafka_begin_transaction(rk));
    for (int p = 0; p < 2; p++) {
      if (!send_to(rk, topic, p, say, 10)) return 0;
      want(all[p], say, 10);
      if (!aborts && !open) want(committed[p], say, 10);
    }
    if (!open) FINE(aborts ? rd_kafka_abort_transaction(rk, CALL) : rd_kafka_commit_transaction(rk, CALL));
  }
  if (!reads(topic, "read_committed", committed, 0.5) || !reads(topic, "read_uncommitted", all, 0.5)) return 0;
  FINE(rd_kafka_abort_transaction(rk, CALL));
  end(rk);
  return 1;
}

// Reads records of a group and sends them, with their offset, in one transaction.
static int moves(const char *from, const char *to, int first, int commit, long long after) {
  rd_kafka_t *rk = transactional(from), *member = consumer(from, "read_committed");
  if (!rk) return 0;
  rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(one, from, RD_KAFKA_PARTITION_UA);
  rd_kafka_subscribe(member, one);
  FINE(rd_kafka_begin_transaction(rk));
  double deadline = now() + 30;
  for (int got = 0; got < 20;) {
    char wanted[16];
    rd_kafka_message_t *m = rd_kafka_consumer_poll(member, 100);
    REQUIRE(now() < deadline, "%d records", got);
    if (!m) continue;
    REQUIRE(!m->err, "%s", rd_kafka_message_errstr(m));
    sprintf(wanted, "%d", first + got++);
    REQUIRE(m->len == strlen(wanted) && !memcmp(m->payload, wanted, m->len), "%.*s, not %s", (int)m->len, (char *)m->payload, wanted);
    rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(to), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_VALUE(m->payload, m->len),
                      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    rd_kafka_message_destroy(m);
  }
  one->elems[0].partition = 0, one->elems[0].offset = first + 20;
  rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata(member);
  FINE(rd_kafka_send_offsets_to_transaction(rk, one, group, CALL));
  rd_kafka_consumer_group_metadata_destroy(group);
  FINE(commit ? rd_kafka_commit_transaction(rk, CALL) : rd_kafka_abort_transaction(rk, CALL));
  // A commit is answered before its markers are written.
  do rd_kafka_committed(member, one, CALL); while (one->elems[0].offset != after && now() < deadline);
  SAME(one->elems[0].offset, after);
  rd_kafka_topic_partition_list_destroy(one);
  end(member), end(rk);
  return 1;
}

static int offsets(void) {
  static char moved[2][20000];
  const char *from = named("from"), *to = named("to");
  SAME(create(from, 2), 0);
  SAME(create(to, 2), 0);
  rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL);
  if (!send_to(rk, from, 0, "", 40)) return 0;
  end(rk);
  if (!moves(from, to, 0, 0, RD_KAFKA_OFFSET_INVALID) || !moves(from, to, 0, 1, 20) || !moves(from, to, 20, 1, 40)) return 0;
  want(moved[0], "", 40);
  return reads(to, "read_committed", moved, 0.5);
}

static int zombie(void) {
  static char wanted[2][20000];
  const char *topic = named("zombie");
  SAME(create(topic, 2), 0);
  rd_kafka_t *old = transactional(topic);
  if (!old) return 0;
  FINE(rd_kafka_begin_transaction(old));
  if (!send_to(old, topic, 0, "zombie", 1)) return 0;
  rd_kafka_t *young = transactional(topic);
  if (!young) return 0;
  rd_kafka_error_t *error = rd_kafka_commit_transaction(old, CALL);
  SAME(rd_kafka_error_code(error), RD_KAFKA_RESP_ERR__FENCED);
  REQUIRE(rd_kafka_error_is_fatal(error), "being fenced is not fatal");
  rd_kafka_error_destroy(error);
  FINE(rd_kafka_begin_transaction(young));
  if (!send_to(young, topic, 0, "young", 1)) return 0;
  FINE(rd_kafka_commit_transaction(young, CALL));
  want(wanted[0], "young", 1);
  if (!reads(topic, "read_committed", wanted, 0.5)) return 0;
  end(young), end(old);
  return 1;
}

static int partitions_of(const char *topic) {
  const struct rd_kafka_metadata *found;
  rd_kafka_topic_t *rkt = rd_kafka_topic_new(admin, topic, NULL);
  int count = rd_kafka_metadata(admin, 0, rkt, &found, CALL) ? -1 : found->topics[0].err ? 0 : found->topics[0].partition_cnt;
  rd_kafka_topic_destroy(rkt);
  return count;
}

// A topic's retention.ms, as it is told.
static const char *retention(const char *topic) {
  size_t count;
  rd_kafka_ConfigResource_t *asked = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
  rd_kafka_DescribeConfigs(admin, &asked, 1, NULL, queue);
  rd_kafka_ConfigResource_destroy(asked);
  rd_kafka_event_t *event = answer();
  if (!event) return "";
  const rd_kafka_ConfigResource_t *found = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count)[0];
  const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(found, &count);
  for (size_t i = 0; i < count; i++)
    if (!strcmp(rd_kafka_ConfigEntry_name(entries[i]), "retention.ms")) return rd_kafka_ConfigEntry_value(entries[i]);
  return "";
}

static int topics(void) {
  const char *topic = named("admin");
  SAME(create(topic, 2), 0);
  SAME(create(topic, 2), RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS);
  rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(topic, 4, why, sizeof why);
  rd_kafka_CreatePartitions(admin, &more, 1, NULL, queue);
  rd_kafka_NewPartitions_destroy(more);
  if (!answer()) return 0;
  double deadline = now() + 10;
  while (partitions_of(topic) != 4) REQUIRE(now() < deadline, "not four partitions");
  rd_kafka_ConfigResource_t *change = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
  rd_kafka_ConfigResource_set_config(change, "retention.ms", "200000");
  rd_kafka_AlterConfigs(admin, &change, 1, NULL, queue);
  rd_kafka_ConfigResource_destroy(change);
  if (!answer()) return 0;
  while (strcmp(retention(topic), "200000")) REQUIRE(now() < deadline, "retention.ms is %s", retention(topic));
  rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL);
  if (!send_to(rk, topic, 0, "", 20)) return 0;
  rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(before, topic, 0)->offset = 5;
  rd_kafka_DeleteRecords_t *deletion = rd_kafka_DeleteRecords_new(before);
  rd_kafka_DeleteRecords(admin, &deletion, 1, NULL, queue);
  rd_kafka_DeleteRecords_destroy(deletion);
  rd_kafka_topic_partition_list_destroy(before);
  if (!answer()) return 0;
  int64_t low, high;
  SAME(rd_kafka_query_watermark_offsets(rk, topic, 0, &low, &high, CALL), 0);
  SAME(low, 5);
  SAME(high, 20);
  end(rk);
  rd_kafka_DeleteTopic_t *deleted = rd_kafka_DeleteTopic_new(topic);
  rd_kafka_DeleteTopics(admin, &deleted, 1, NULL, queue);
  rd_kafka_DeleteTopic_destroy(deleted);
  if (!answer()) return 0;
  while (partitions_of(topic)) REQUIRE(now() < deadline, "the topic stays");
  return 1;
}

// The group's offset of partition 0, as Admin tells it.
static long long group_offset(const char *group) {
  size_t count;
  rd_kafka_ListConsumerGroupOffsets_t *asked = rd_kafka_ListConsumerGroupOffsets_new(group, NULL);
  rd_kafka_ListConsumerGroupOffsets(admin, &asked, 1, NULL, queue);
  rd_kafka_ListConsumerGroupOffsets_destroy(asked);
  rd_kafka_event_t *event = answer();
  if (!event) return -2;
  const rd_kafka_group_result_t *found = rd_kafka_ListConsumerGroupOffsets_result_groups(rd_kafka_event_ListConsumerGroupOffsets_result(event), &count)[0];
  const rd_kafka_topic_partition_list_t *parts = rd_kafka_group_result_partitions(found);
  return parts && parts->cnt == 1 ? parts->elems[0].offset : -1;
}

static int groups(void) {
  size_t count;
  const char *topic = named("groups");
  SAME(create(topic, 1), 0);
  rd_kafka_t *member = consumer(topic, "read_committed");
  rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(one, topic, 0)->offset = 7;
  SAME(rd_kafka_commit(member, one, 0), 0);
  end(member);
  SAME(group_offset(topic), 7);
  one->elems[0].offset = 9;
  rd_kafka_AlterConsumerGroupOffsets_t *change = rd_kafka_AlterConsumerGroupOffsets_new(topic, one);
  rd_kafka_AlterConsumerGroupOffsets(admin, &change, 1, NULL, queue);
  rd_kafka_AlterConsumerGroupOffsets_destroy(change);
  if (!answer()) return 0;
  SAME(group_offset(topic), 9);
  rd_kafka_DescribeConsumerGroups(admin, &topic, 1, NULL, queue);
  rd_kafka_event_t *event = answer();
  if (!event) return 0;
  const rd_kafka_ConsumerGroupDescription_t *found = rd_kafka_DescribeConsumerGroups_result_groups(rd_kafka_event_DescribeConsumerGroups_result(event), &count)[0];
  SAME(rd_kafka_ConsumerGroupDescription_state(found), RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY);
  rd_kafka_DeleteGroup_t *deleted = rd_kafka_DeleteGroup_new(topic);
  rd_kafka_DeleteGroups(admin, &deleted, 1, NULL, queue);
  rd_kafka_DeleteGroup_destroy(deleted);
  if (!answer()) return 0;
  SAME(group_offset(topic), -1);
  rd_kafka_topic_partition_list_destroy(one);
  return 1;
}

static void stop(int signal) { (void)signal, asked_to_stop = 1; }

// Commits what it prints, until it is asked to stop.
static int member(const char *group, const char *topic) {
  signal(SIGTERM, stop);
  setvbuf(stdout, NULL, _IOLBF, 0);
  tells = 1;
  rd_kafka_t *rk = consumer(group, "read_committed");
  rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(one, topic, RD_KAFKA_PARTITION_UA);
  rd_kafka_subscribe(rk, one);
  while (!asked_to_stop) {
    rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);
    if (m && !m->err) printf("got %.*s\n", (int)m->len, (char *)m->payload), rd_kafka_commit_message(rk, m, 0);
    if (m) rd_kafka_message_destroy(m);
  }
  end(rk);
  return 0;
}

static void check(const char *what, int held) {
  static int passed, failed;
  if (what) held ? passed++ : failed++, printf("  %s: %s%s%s\n", held ? "ok" : "FAILED", what, held ? "" : "\n      ", held ? "" : why);
  else printf("%d passed, %d failed\n", passed, failed);
  fflush(stdout);
}

int main(int count, char **words) {
  // A consumer, since a producer that asks for a topic makes it.
  admin = client(RD_KAFKA_CONSUMER, "group.id", "unused", NULL);
  queue = rd_kafka_queue_new(admin);
  if (count == 4 && !strcmp(words[1], "member")) return member(words[2], words[3]);
  if (count == 3 && !strcmp(words[1], "create")) return create(words[2], PARTITIONS) != 0;
  if (count == 5 && !strcmp(words[1], "send")) {
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL);
    for (int n = atoi(words[3]); n <= atoi(words[4]); n++) {
      char value[16];
      int length = sprintf(value, "%d", n);
      rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(words[2]), RD_KAFKA_V_PARTITION(n % PARTITIONS), RD_KAFKA_V_VALUE(value, length),
                        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    }
    return rd_kafka_flush(rk, CALL) || failures;
  }
  printf("librdkafka %s\n", rd_kafka_version_str());
  for (const char **name = (const char *[]){"none", "gzip", "snappy", "lz4", "zstd", NULL}; *name; name++)
    for (int idempotent = 0; idempotent < 2; idempotent++) {
      char what[64];
      sprintf(what, "codec %s, idempotent %s", *name, idempotent ? "true" : "false");
      check(what, codec(*name, idempotent ? "true" : "false"));
    }
  check("transactions: read_committed sees what was committed in order, read_uncommitted all", commits_and_aborts());
  check("transactions: offsets sent in one are there once it is committed, not when it is aborted", offsets());
  check("transactions: a zombie is fenced", zombie());
  check("admin: topics, partitions, configs, records", topics());
  check("admin: groups and their offsets", groups());
  check(NULL, 0);
}
