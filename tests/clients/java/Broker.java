// A broker of the suite's own, which can be killed. Where there is none to start (WEIR is empty), the one that is
// tested stands in for it and lives on.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;

final class Broker implements AutoCloseable {
  private static final String WEIR = System.getenv("WEIR");
  final String address;
  private final String admin;
  private final Path dir;
  private Process process;

  Broker() throws Exception {
    address = mortal() ? "127.0.0.1:" + Suite.freePort() : Suite.BROKER;
    admin = "127.0.0.1:" + Suite.freePort();
    dir = Files.createTempDirectory(Path.of(System.getenv("WORK")), "killed");
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      if (process != null) process.destroyForcibly();
    }));
    start();
  }

  static boolean mortal() {
    return WEIR != null && !WEIR.isEmpty();
  }

  private boolean ready() {
    try {
      var request = HttpRequest.newBuilder(URI.create("http://" + admin + "/health/ready")).build();
      return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.discarding()).statusCode() == 200;
    } catch (Exception e) {
      return false;
    }
  }

  private void start() throws Exception {
    if (!mortal()) return;
    process = new ProcessBuilder(WEIR, "serve", "--data-dir", dir.resolve("data").toString(), "--listen", address,
        "--admin", admin, "--shards", "2", "--group-initial-rebalance-delay", "0ms")
        .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(dir.resolve("log").toFile())).start();
    Suite.eventually("the broker is ready", 30, this::ready);
  }

  void killAndStart() throws Exception {
    if (!mortal()) return;
    process.destroyForcibly().waitFor();
    start();
  }

  /** Asks it to stop, which it does in order. */
  @Override
  public void close() {
    if (process == null) return;
    process.destroy();
    Suite.same(0, process.onExit().join().exitValue());
  }
}
