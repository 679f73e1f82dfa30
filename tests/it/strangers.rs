//! Clients at the wrong port, or with the wrong settings for the right one: the log names each once a minute, with what
//! it speaks and what to do, and the metrics count them all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::broker::{http_get, needs_own_broker};
use crate::support::{Broker, Options, Wire, eventually};

/// Sends bytes and waits for the end of the connection.
fn send(addr: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    // Whoever is not understood may be cut off while it speaks.
    let _ = stream.write_all(bytes);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

fn counted(broker: &Broker, port: &str, speaks: &str) -> u64 {
    let (_, text) = http_get(broker.admin, "/metrics").expect("metrics");
    let name = format!("weir_misdirected_connections_total{{port=\"{port}\",speaks=\"{speaks}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is missing from\n{text}")).parse().expect("a number")
}

#[test]
fn whoever_is_at_the_wrong_port_is_named_and_counted() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start_with(Options { shards: 2, ..Options::default() });
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 512]].concat();
    let handshake = framed(&[0, 17, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 5, b'P', b'L', b'A', b'I', b'N']);
    let api_versions = framed(&[0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    let cases: &[(bool, &str, &[u8], &str)] = &[
        (false, "tls", &hello, "speaks TLS to the Kafka port"),
        (false, "http", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "speaks HTTP to the Kafka port"),
        (false, "sasl", &handshake, "wants to authenticate by SASL"),
        (false, "sasl", &framed(b"\0alice\0secret"), "wants to authenticate by SASL"),
        (false, "ssh", b"SSH-2.0-OpenSSH_9.6\r\n", "speaks SSH to the Kafka port"),
        (false, "proxy_protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "PROXY protocol"),
        (false, "other", &[0xff; 64], "no request of Kafka's protocol"),
        (false, "other", &framed(&[0x55; 64]), "no request of Kafka's protocol"),
        (true, "kafka", &api_versions, "speaks Kafka's protocol to the HTTP port"),
        (true, "tls", &hello, "speaks TLS to the HTTP port"),
        (true, "other", &[0xff; 64], "no HTTP request"),
    ];
    for (http, speaks, bytes, says) in cases {
        let (addr, port) = if *http { (broker.admin, "http") } else { (broker.kafka, "kafka") };
        let before = counted(&broker, port, speaks);
        for _ in 0..3 {
            send(addr, bytes);
        }
        eventually("all three are counted", Duration::from_secs(10), || {
            counted(&broker, port, speaks) == before + 3
        });
        let log = broker.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(says)).collect();
        assert!(lines.len() == 1 && lines[0].contains("127.0.0.1 "), "{says}: {lines:?} in\n{log}");
    }
    // Those who belong there are nobody's concern.
    let known = counted(&broker, "kafka", "other") + counted(&broker, "http", "other");
    Wire::connect(broker.kafka).api_versions();
    drop(TcpStream::connect(broker.admin).expect("a look whether somebody is there"));
    assert_eq!(http_get(broker.admin, "/health/live").expect("an answer").0, 200);
    assert_eq!(counted(&broker, "kafka", "other") + counted(&broker, "http", "other"), known);
    broker.assert_healthy();
}
