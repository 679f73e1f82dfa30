// Connect, standalone: a file is read into a topic by one connector and written to another file by the next.

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

final class Connect {
  private Connect() {}

  private static Path write(Path dir, String name, Map<String, ?> settings) throws Exception {
    List<String> lines = new ArrayList<>();
    settings.forEach((key, value) -> lines.add(key + "=" + value));
    return Files.write(dir.resolve(name), lines);
  }

  static void run() {
    Suite.check("Connect: file source to topic to file sink", () -> {
      Path dir = Files.createTempDirectory(Path.of(System.getenv("WORK")), "connect");
      String topic = Suite.create("connect", 1, Map.of());
      Path from = dir.resolve("from");
      Path to = dir.resolve("to");
      List<String> wanted = IntStream.range(0, 500).mapToObj(n -> "line " + n).collect(Collectors.toList());
      Files.write(from, wanted.subList(0, 250));
      String converter = "org.apache.kafka.connect.storage.StringConverter";
      Path worker = write(dir, "worker", Map.of(
          "bootstrap.servers", Suite.BROKER, "key.converter", converter, "value.converter", converter,
          "offset.storage.file.filename", dir.resolve("offsets"), "offset.flush.interval.ms", "500",
          "listeners", "http://127.0.0.1:0", "plugin.discovery", "only_scan"));
      Path source = write(dir, "source", Map.of(
          "name", Suite.RUN + "-source", "connector.class", "FileStreamSource", "tasks.max", "1",
          "file", from, "topic", topic));
      Path sink = write(dir, "sink", Map.of(
          "name", Suite.RUN + "-sink", "connector.class", "FileStreamSink", "tasks.max", "1",
          "file", to, "topics", topic));
      List<String> said = java.util.Collections.synchronizedList(new ArrayList<>());
      Process process = Suite.process(said::add, "org.apache.kafka.connect.cli.ConnectStandalone",
          worker.toString(), source.toString(), sink.toString());
      try {
        Suite.eventually("half of the lines in the file", 50, () -> lines(to) >= 250);
        Files.write(from, wanted.subList(250, 500), java.nio.file.StandardOpenOption.APPEND);
        Suite.eventually("all of the lines in the file", 20, () -> lines(to) >= 500);
        Suite.same(wanted, Files.readAllLines(to));
      } catch (AssertionError e) {
        throw new AssertionError(e.getMessage() + "; Connect said: " + said, e);
      } finally {
        process.destroy();
        process.waitFor();
      }
    });
  }

  private static int lines(Path file) {
    try {
      return Files.exists(file) ? Files.readAllLines(file).size() : 0;
    } catch (java.io.IOException e) {
      return 0;
    }
  }
}
