//! The broker and its client on two machines: network namespaces with a wire between them.

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::Duration;

use crate::support::batch::encoded;
use crate::support::broker::{end_with_this_thread, http_get, metric_total, needs_own_broker, serve};
use crate::support::calls::{create, produce, read_from};
use crate::support::{Wire, eventually};

const BROKER: &str = "10.77.0.1";
const CLIENT: &str = "10.77.0.2";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gives this thread, and the processes and threads it starts, a network of its own; it goes with the last of them.
fn leave_the_network() -> std::io::Result<()> {
    // SAFETY: a plain system call that concerns the calling thread only.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Runs `ip`; what it says, where it cannot do it or is not there.
fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|e| format!("ip: {e}"))?;
    let says = || format!("ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(says()) }
}

/// Brings this machine's end of the wire up.
fn plug_in(address: &str) {
    let address = format!("{address}/24");
    // What a machine sends to its own address goes by way of `lo`.
    ip(&["link", "set", "lo", "up"]).expect("loopback");
    ip(&["address", "add", &address, "dev", "wire"]).expect("an address");
    ip(&["link", "set", "wire", "up"]).expect("a link");
}

/// Runs `broker` on a machine, and `client` on another while what `broker` gave lives. Neither, loudly, where this
/// process cannot make networks.
fn on_two_machines<T>(broker: impl FnOnce() -> T + Send, client: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            if let Err(e) = leave_the_network() {
                eprintln!("skipped: no network of its own for this test: {e}");
                return;
            }
            let (to_one, from_two) = std::sync::mpsc::channel();
            let (to_two, from_one) = std::sync::mpsc::channel::<()>();
            let two = scope.spawn(move || {
                leave_the_network().expect("another one");
                // SAFETY: a plain system call without arguments.
                to_one.send(unsafe { libc::gettid() }).expect("the other thread");
                if from_one.recv().is_ok() {
                    plug_in(CLIENT);
                    client();
                }
            });
            let other = from_two.recv().expect("the client's thread").to_string();
            let wire = ["link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", &other];
            if let Err(e) = ip(&wire) {
                eprintln!("skipped: no wire between two machines: {e}");
                return;
            }
            plug_in(BROKER);
            let running = broker();
            to_two.send(()).expect("the client's thread");
            two.join().expect("the client");
            drop(running);
        });
        one.join().expect("the broker's thread");
    });
}

#[test]
fn large_responses_reach_another_machine_without_a_copy_and_whole() {
    if needs_own_broker() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |port| -> SocketAddr { format!("{BROKER}:{port}").parse().expect("an address") };
    let (kafka, admin) = (at(9092), at(9644));
    let broker = || {
        let mut command = serve(dir.path(), kafka, admin, 2);
        command.args(["--send-zerocopy", "true"]);
        let broker = Killed(end_with_this_thread(&mut command).spawn().expect("weir serve"));
        let ready = || http_get(admin, "/health/ready").is_ok_and(|(status, _)| status == 200);
        eventually("the broker is ready", Duration::from_secs(30), ready);
        broker
    };
    let client = || {
        let mut wire = Wire::connect(kafka);
        let topic = create(&mut wire, "far", 1, &[]);
        let values: Vec<Vec<u8>> =
            (0..40_u32).map(|i| (0..100_000_u32).map(|at| (at * 7 + i) as u8).collect()).collect();
        for five in values.chunks(5) {
            produce(&mut wire, &topic, encoded(five));
        }
        for _ in 0..3 {
            let rows = read_from(&mut wire, &topic, 0, 0);
            assert!(rows.iter().map(|(_, value)| &value[..]).eq(values.iter().map(|value| &value[..])));
        }
        assert!(metric_total(admin, "weir_zerocopy_bytes_total").expect("metrics") > 0.0);
    };
    on_two_machines(broker, client);
}
