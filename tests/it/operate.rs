//! `weir cluster`, on clusters of three real processes, and what a planned stop costs them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::support::broker::{end_with_this_thread, needs_own_broker, weir};
use crate::support::cluster::three;
use crate::support::{Broker, eventually};

/// Far beyond what anything here takes on a starved machine.
const LONG: Duration = Duration::from_secs(90);

fn cluster(broker: &Broker, args: &[&str]) -> (bool, String) {
    let mut command = weir();
    command.arg("cluster").args(args).args(["--broker", &broker.kafka.to_string()]);
    let output = command.output().expect("the weir binary starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Nothing while a command does not succeed.
fn status(broker: &Broker) -> Value {
    let (done, said) = cluster(broker, &["status", "--json"]);
    if done { serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}")) } else { Value::Null }
}

fn each<'a>(status: &'a Value, field: &str) -> Vec<&'a str> {
    status["brokers"].as_array().into_iter().flatten().map(|b| b[field].as_str().unwrap_or("")).collect()
}

/// The index of the broker that is the controller, as another one says.
fn controller(asked: &Broker) -> Option<usize> {
    usize::try_from(status(asked)["controller"].as_i64()?).ok()?.checked_sub(1)
}

/// A `weir cluster watch` of which each line is taken as it comes.
struct Watcher {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<Value>,
}

impl Watcher {
    fn of(broker: &Broker) -> Self {
        let mut command = weir();
        command.args(["cluster", "watch", "--json", "--broker", &broker.kafka.to_string()]);
        command.stdout(Stdio::piped());
        let mut child = end_with_this_thread(&mut command).spawn().expect("the weir binary starts");
        let (give, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| give.send(line)));
        Self { child, lines, seen: Vec::new() }
    }

    fn take(&mut self) {
        let lines: Vec<String> = self.lines.try_iter().collect();
        self.seen.extend(lines.iter().map(|line| serde_json::from_str(line).expect("a JSON line")));
    }

    fn wait_for(&mut self, what: &str, found: impl Fn(&Value) -> bool) {
        eventually(what, LONG, || {
            self.take();
            self.seen.iter().any(&found)
        });
    }

    /// Waits for a change of a kind that is of a broker.
    fn wait(&mut self, change: &str, broker: i32) {
        self.wait_for(change, |one| one["change"] == change && one["broker"] == broker);
    }

    fn stop(mut self) {
        // SAFETY: plain kill(2) on a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        assert!(self.child.wait().expect("wait").success(), "asked to end, it ends well");
    }
}

#[test]
fn the_status_of_a_cluster_is_the_same_at_each_of_its_brokers() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    for broker in &all {
        eventually("all serve and vote", LONG, || {
            let status = status(broker);
            let quorum = each(&status, "quorum");
            let voters = quorum.iter().filter(|role| ["voter", "controller"].contains(role)).count();
            each(&status, "state") == ["serving"; 3] && voters == 3 && quorum.contains(&"controller")
        });
        let (done, text) = cluster(broker, &["status"]);
        let says = ["is the controller", "BROKER", "serving", &broker.kafka.to_string()];
        assert!(done && says.iter().all(|said| text.contains(said)), "{text}");
    }
    all[2].kill();
    eventually("one is gone, and said to be", LONG, || each(&status(&all[0]), "state")[2..] == ["fenced"]);
    let (done, text) = cluster(&all[1], &["status"]);
    assert!(done && text.contains("fenced"), "{text}");
    all[2].restart();
    eventually("it is back", LONG, || each(&status(&all[2]), "state") == ["serving"; 3]);
}

#[test]
fn who_watches_a_cluster_sees_what_becomes_of_it_change_by_change() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let mut watcher = Watcher::of(&all[0]);
    // It is heard of from the moment at which it asks.
    let mut made = 0;
    eventually("topics that are made are seen", LONG, || {
        made += 1;
        let name = format!("seen-{made}");
        weir()
            .args(["topic", "create", &name, "-r", "3", "--broker", &all[1].kafka.to_string()])
            .output()
            .is_ok_and(|output| output.status.success())
            && {
                watcher.take();
                watcher.seen.iter().any(|one| one["change"] == "topic_created")
            }
    });
    all[2].kill();
    watcher.wait("fenced", 3);
    let has = |of: &Value| of.as_array().is_some_and(|ids| ids.contains(&3.into()));
    watcher.wait_for("it is out of sync", |one| {
        one["change"] == "in_sync" && has(&one["was"]) && !has(&one["isr"])
    });
    all[2].restart();
    watcher.wait("registered", 3);
    watcher.wait("unfenced", 3);
    all[2].stop();
    watcher.wait("stopping", 3);
    let numbers: Vec<u64> = watcher.seen.iter().filter_map(|one| one["number"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "each once, in order: {numbers:?}");
    watcher.stop();
}

#[test]
fn a_controller_that_is_stopped_hands_over_first() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let mut stopped = None;
    eventually("there is a controller", LONG, || {
        stopped = controller(&all[0]);
        stopped.is_some()
    });
    let stopped = stopped.expect("it is known");
    assert!(all[stopped].stop().success());
    let log = all[stopped].log();
    assert!(log.contains("is the controller from now on"), "{log}");
    let other = &all[(stopped + 1) % 3];
    eventually("another is the controller", LONG, || controller(other).is_some_and(|now| now != stopped));
}

#[test]
fn a_broker_is_drained_and_removed_and_what_that_costs_is_said_before() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let asked = all[0].kafka.to_string();
    let make = |name: &str, replicas: &str| {
        let args = ["topic", "create", name, "-p", "6", "-r", replicas, "--broker", &asked];
        let made = || weir().args(args).output().is_ok_and(|output| output.status.success());
        eventually("the topic is made", LONG, made);
    };
    make("narrow", "1");
    make("wide", "3");
    let (done, said) = cluster(&all[1], &["drain", "3"]);
    assert!(!done && said.contains("--fewer") && said.contains("wide (6)"), "{said}");
    let (done, said) = cluster(&all[1], &["drain", "3", "--dry-run"]);
    assert!(done && said.contains("6 have fewer replicas after it"), "{said}");
    assert_eq!(each(&status(&all[0]), "state"), ["serving"; 3], "nothing was done");
    let (done, said) = cluster(&all[0], &["drain", "3", "--fewer"]);
    assert!(done && said.contains("0 partitions left on broker 3"), "{said}");
    let now = status(&all[0]);
    assert_eq!((each(&now, "state")[2], now["brokers"][2]["holds"].as_u64()), ("draining", Some(0)));
    let (done, said) = cluster(&all[0], &["remove", "3"]);
    assert!(!done && said.contains("broker 3 runs"), "{said}");
    all[2].stop();
    eventually("it is taken out", LONG, || cluster(&all[0], &["remove", "3"]).0);
    eventually("two are left, and one of them decides", LONG, || {
        let now = status(&all[1]);
        each(&now, "state") == ["serving"; 2] && !each(&now, "quorum").contains(&"voter")
    });
    make("after", "2");
}
