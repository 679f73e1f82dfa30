// Connect: a file is read into a topic by one connector and written to another file by the next, in a standalone worker
// and in a distributed one, which keeps all it knows in topics of its own.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.config.ConfigResource;

final class Connect {
  private Connect() {}

  private static Path write(Path dir, String name, Map<String, ?> settings) throws Exception {
    List<String> lines = new ArrayList<>();
    settings.forEach((key, value) -> lines.add(key + "=" + value));
    return Files.write(dir.resolve(name), lines);
  }

  private static final String CONVERTER = "org.apache.kafka.connect.storage.StringConverter";

  private static Map<String, Object> source(String topic, Path file) {
    return Map.of("connector.class", "FileStreamSource", "tasks.max", "1", "file", file, "topic", topic);
  }

  private static Map<String, Object> sink(String topic, Path file) {
    return Map.of("connector.class", "FileStreamSink", "tasks.max", "1", "file", file, "topics", topic);
  }

  private static Map<String, Object> and(Map<String, ?> some, Map<String, ?> more) {
    Map<String, Object> all = new HashMap<>(some);
    all.putAll(more);
    return all;
  }

  private static List<String> text(int from, int to) {
    return IntStream.range(from, to).mapToObj(n -> "line " + n).toList();
  }

  private static void standalone() throws Exception {
    Path dir = Files.createTempDirectory(Path.of(System.getenv("WORK")), "connect");
    String topic = Suite.create("connect", 1, Map.of());
    Path from = dir.resolve("from");
    Path to = dir.resolve("to");
    Files.write(from, text(0, 250));
    Path worker = write(dir, "worker", Map.of(
        "bootstrap.servers", Suite.BROKER, "key.converter", CONVERTER, "value.converter", CONVERTER,
        "offset.storage.file.filename", dir.resolve("offsets"), "offset.flush.interval.ms", "500",
        "listeners", "http://127.0.0.1:0", "plugin.discovery", "only_scan"));
    Path source = write(dir, "source", and(source(topic, from), Map.of("name", Suite.RUN + "-source")));
    Path sink = write(dir, "sink", and(sink(topic, to), Map.of("name", Suite.RUN + "-sink")));
    List<String> said = Collections.synchronizedList(new ArrayList<>());
    Process process = Suite.process(said::add, "org.apache.kafka.connect.cli.ConnectStandalone",
        worker.toString(), source.toString(), sink.toString());
    try {
      Suite.eventually("half of the lines in the file", 50, () -> lines(to) >= 250);
      Files.write(from, text(250, 500), StandardOpenOption.APPEND);
      Suite.eventually("all of the lines in the file", 20, () -> lines(to) >= 500);
      Suite.same(text(0, 500), Files.readAllLines(to));
    } catch (AssertionError e) {
      throw new AssertionError(e.getMessage() + "; Connect said: " + said, e);
    } finally {
      process.destroy();
      process.waitFor();
    }
  }

  /** A distributed worker, which makes its topics by itself and is asked by HTTP. */
  private static final class Worker {
    private final Path settings;
    private final String rest;
    private final List<String> said = Collections.synchronizedList(new ArrayList<>());
    private Process process;

    Worker(Path dir, String name) throws Exception {
      rest = "http://127.0.0.1:" + Suite.freePort();
      Map<String, Object> all = new HashMap<>(Map.of(
          "bootstrap.servers", Suite.BROKER, "group.id", name, "key.converter", CONVERTER, "value.converter", CONVERTER,
          "config.storage.topic", name + "-configs", "offset.storage.topic", name + "-offsets",
          "status.storage.topic", name + "-status", "listeners", rest, "plugin.discovery", "only_scan"));
      for (String topic : List.of("config", "offset", "status")) all.put(topic + ".storage.replication.factor", 1);
      all.putAll(Map.of("offset.flush.interval.ms", 500, "session.timeout.ms", 6000, "heartbeat.interval.ms", 500,
          "scheduled.rebalance.max.delay.ms", 0, "consumer.session.timeout.ms", 6000));
      settings = write(dir, name, all);
      start();
    }

    void start() throws Exception {
      process = Suite.process(said::add, "org.apache.kafka.connect.cli.ConnectDistributed", settings.toString());
    }

    void kill() throws Exception {
      process.destroyForcibly().waitFor();
    }

    /** The status of what it is asked, 0 when nobody answers, and what it says. */
    Map.Entry<Integer, String> ask(String method, String path, String body) {
      try {
        var request = HttpRequest.newBuilder(URI.create(rest + path)).header("Content-Type", "application/json")
            .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body)).build();
        var reply = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
        return Map.entry(reply.statusCode(), reply.body());
      } catch (Exception e) {
        return Map.entry(0, "" + e);
      }
    }

    /** Asks until it is done: a worker that still joins its group refuses for a while. */
    void tell(String method, String path, String body, int status) throws Exception {
      Suite.eventually(method + " " + path, 30, () -> ask(method, path, body).getKey() == status);
    }

    void create(String name, Map<String, Object> settings) throws Exception {
      String json = settings.entrySet().stream().map(e -> "\"" + e.getKey() + "\": \"" + e.getValue() + "\"")
          .collect(Collectors.joining(", ", "{", "}"));
      tell("PUT", "/connectors/" + name + "/config", json, 201);
      running(name);
    }

    /** Waits until the connector's offsets say so. */
    void knows(String name, String offset) throws Exception {
      Suite.eventually(name + ": " + offset, 20, () -> ask("GET", "/connectors/" + name + "/offsets", null).getValue().contains(offset));
    }

    /** Waits until a connector and its one task run. */
    void running(String name) throws Exception {
      Suite.eventually(name + " runs", 30, () -> ask("GET", "/connectors/" + name + "/status", null).getValue().split("RUNNING").length == 3);
    }
  }

  private static void distributed() throws Exception {
    Path dir = Files.createTempDirectory(Path.of(System.getenv("WORK")), "distributed");
    String name = Suite.RUN + "-distributed";
    String topic = Suite.create("distributed", 1, Map.of());
    Path from = dir.resolve("from");
    Path to = dir.resolve("to");
    Files.write(from, text(0, 250));
    Worker worker = new Worker(dir, name);
    try {
      worker.create("source", source(topic, from));
      worker.create("sink", sink(topic, to));
      Suite.eventually("half of the lines in the file", 30, () -> lines(to) >= 250);
      compacted(name);
      // What was not committed would be done again, as it should; so that this tells what was lost, all is committed.
      worker.knows("source", "\"position\":" + Files.size(from));
      worker.knows("sink", "\"kafka_offset\":250");
      worker.kill();
      Files.write(from, text(250, 500), StandardOpenOption.APPEND);
      worker.start();
      Suite.eventually("all of the lines in the file", 50, () -> lines(to) >= 500);
      Suite.same(text(0, 500), Files.readAllLines(to));
      worker.running("source");
      for (String connector : List.of("source", "sink")) worker.tell("DELETE", "/connectors/" + connector, null, 204);
      Suite.eventually("no connectors", 20, () -> worker.ask("GET", "/connectors", null).getValue().equals("[]"));
    } catch (AssertionError e) {
      var last = worker.said.subList(Math.max(0, worker.said.size() - 20), worker.said.size());
      throw new AssertionError(e.getMessage() + "; Connect said: " + last, e);
    } finally {
      worker.kill();
    }
  }

  /** The worker's own topics are as it asked for them. */
  private static void compacted(String name) throws Exception {
    try (Admin admin = Suite.admin()) {
      for (String of : List.of("-configs", "-offsets", "-status")) {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name + of);
        Suite.same("compact", admin.describeConfigs(List.of(resource)).all().get().get(resource).get("cleanup.policy").value());
      }
    }
  }

  static void run() {
    Suite.check("Connect, standalone: file source to topic to file sink", Connect::standalone);
    Suite.check("Connect, distributed: the same, through kill -9 of the worker", 120, Connect::distributed);
  }

  private static int lines(Path file) {
    try {
      return Files.exists(file) ? Files.readAllLines(file).size() : 0;
    } catch (java.io.IOException e) {
      return 0;
    }
  }
}
