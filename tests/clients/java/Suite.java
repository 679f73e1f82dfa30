// Kafka's Java clients against BROKER. A check has a minute, if not told otherwise; the last line counts them.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.ServerSocket;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

public final class Suite {
  static final String BROKER = System.getenv("BROKER");
  static final String RUN = "java-" + ProcessHandle.current().pid();
  static final ExecutorService THREADS = Executors.newCachedThreadPool(body -> {
    Thread thread = new Thread(body);
    thread.setDaemon(true);
    return thread;
  });
  private static int passed = 0;
  private static int failed = 0;

  private Suite() {}

  interface Body {
    void run() throws Exception;
  }

  static void check(String what, Body body) {
    check(what, 60, body);
  }

  static void check(String what, int seconds, Body body) {
    Callable<Void> call = () -> {
      body.run();
      return null;
    };
    try {
      THREADS.submit(call).get(seconds, TimeUnit.SECONDS);
      passed++;
      System.out.println("  ok: " + what);
    } catch (Exception e) {
      Throwable cause = e.getCause() == null ? e : e.getCause();
      failed++;
      System.out.println("  FAILED: " + what + "\n      " + cause);
      for (StackTraceElement place : cause.getStackTrace()) {
        if (place.getModuleName() == null && place.getClassName().indexOf('.') < 0) {
          System.out.println("      at " + place);
        }
      }
    }
  }

  static void require(boolean holds, String otherwise) {
    if (!holds) throw new AssertionError(otherwise);
  }

  static void same(Object wanted, Object got) {
    require(wanted.equals(got), "wanted " + wanted + ", got " + got);
  }

  static void eventually(String what, int seconds, BooleanSupplier holds) throws InterruptedException {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
    while (!holds.getAsBoolean()) {
      require(System.nanoTime() < end, what + ": not within " + seconds + " s");
      Thread.sleep(50);
    }
  }

  static int freePort() throws Exception {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  static Properties settings(Map<String, ?> more) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", BROKER);
    settings.put("client.id", RUN);
    settings.putAll(more);
    return settings;
  }

  static Admin admin() {
    return Admin.create(settings(Map.of()));
  }

  static String create(String name, int partitions, Map<String, String> configs) throws Exception {
    String topic = RUN + "-" + name;
    try (Admin admin = admin()) {
      admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
      eventually(topic + " appears", 10, () -> {
        try {
          return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == partitions;
        } catch (Exception e) {
          return false;
        }
      });
    }
    return topic;
  }

  /** Starts this suite's code in a process of its own, which can be killed; its lines go to `line`. */
  static Process process(java.util.function.Consumer<String> line, String... command) throws Exception {
    List<String> all = new ArrayList<>(
        List.of("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"));
    all.addAll(List.of(command));
    Process process = new ProcessBuilder(all).redirectErrorStream(true).start();
    Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
    THREADS.submit(() -> {
      try (BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
        for (String text = lines.readLine(); text != null; text = lines.readLine()) line.accept(text);
      }
      return null;
    });
    return process;
  }

  /** Runs the parts that are named, or all. */
  public static void main(String[] args) throws Exception {
    Map<String, Runnable> parts = new LinkedHashMap<>();
    parts.put("Producers", Producers::run);
    parts.put("Groups", Groups::run);
    parts.put("Administration", Administration::run);
    parts.put("Transactions", Transactions::run);
    parts.put("ExactlyOnce", ExactlyOnce::run);
    parts.put("Connect", Connect::run);
    if (args.length > 0) parts.keySet().retainAll(List.of(args));
    parts.values().forEach(Runnable::run);
    System.out.println(passed + " passed, " + failed + " failed");
    System.exit(failed > 0 ? 1 : 0);
  }
}
