//! A scripted peer on the other end of a real socket: what a hostile or broken broker can send.

use std::net::TcpListener;
use std::thread;

use super::*;

/// Answers each frame that it reads with the next of `answers`, its correlation id put in front.
fn peer(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for answer in answers {
            let mut prefix = [0; 4];
            stream.read_exact(&mut prefix).unwrap();
            let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
            stream.read_exact(&mut frame).unwrap();
            let mut out = (answer.len() as u32 + 4).to_be_bytes().to_vec();
            out.extend_from_slice(&frame[4..8]);
            out.extend_from_slice(&answer);
            stream.write_all(&out).unwrap();
        }
    });
    address
}

fn versions_v0(error: i16, keys: &[(i16, i16, i16)]) -> Vec<u8> {
    let mut out = error.to_be_bytes().to_vec();
    out.extend_from_slice(&(keys.len() as i32).to_be_bytes());
    for (key, least, most) in keys {
        for n in [key, least, most] {
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
    out
}

fn quick() -> Options {
    Options { request_timeout: Duration::from_millis(300), ..Options::default() }
}

#[test]
fn an_old_broker_is_asked_again_in_version_0() {
    let address = peer(vec![versions_v0(35, &[(18, 0, 0)]), versions_v0(0, &[(3, 0, 5), (18, 0, 0)])]);
    let connection = Connection::connect(&address, &quick()).unwrap();
    assert_eq!(connection.version_of::<kafka_wire::MetadataRequest>().unwrap(), 5);
    let error = connection.version_of::<kafka_wire::FetchRequest>().unwrap_err().to_string();
    assert!(error.contains("does not serve Fetch"), "{error}");
}

#[test]
fn garbage_silence_and_hang_ups_are_named() {
    let cases: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (vec![], "closed the connection instead of answering ApiVersions"),
        (vec![vec![]], "not Kafka's protocol"),
        (vec![vec![0, 0, 0xff, 0xff, 0xff, 0xff, 0xff]], "not Kafka's protocol"),
        (vec![versions_v0(41, &[])], "not Kafka's protocol"),
    ];
    for (answers, expected) in cases {
        let address = peer(answers.clone());
        let error = Connection::connect(&address, &quick()).err().unwrap().to_string();
        assert!(error.contains(expected), "{answers:?}: {error}");
    }
}

#[test]
fn a_huge_length_is_refused_and_silence_times_out() {
    for (bytes, expected) in [(&[0x7f, 0xff, 0xff, 0xff][..], "a length of"), (&[][..], "did not answer")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(bytes).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let error = Connection::connect(&address, &quick()).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn nobody_listening_names_the_address() {
    let error = Connection::connect("127.0.0.1:1", &quick()).err().unwrap().to_string();
    assert!(error.starts_with("cannot connect to 127.0.0.1:1: "), "{error}");
}
