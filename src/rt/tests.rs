use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::mesh::{self, Bell, Port};
use super::net::{Listener, Stream};
use super::*;

const DIRECT: OpenOptions = OpenOptions { write: true, create: true, truncate: true, direct: true };

#[test]
fn a_file_returns_what_was_written_at_any_alignment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    block_on(async move {
        let file = File::open(&path, DIRECT).unwrap();
        let mut buf = AlignedBuf::with_capacity(3 * BLOCK);
        let content: Vec<u8> = (0..3 * BLOCK).map(|i| (i * 7 % 251) as u8).collect();
        buf.extend_from_slice(&content);
        file.write_durable(0, buf).await.0.unwrap();
        for (pos, len) in
            [(0, 1), (1, 5000), (4095, 2), (4096, 8192), (0, 99999), (12287, 10), (12288, 10), (99999, 5)]
        {
            let got = file.read(pos as u64, len).await.unwrap();
            let end = (pos + len).min(content.len());
            assert_eq!(&got[..], content.get(pos..end).unwrap_or(&[]), "{pos} {len}");
        }
        file.set_len(5000).await.unwrap();
        assert_eq!(file.read(4096, 4096).await.unwrap().len(), 904);
    });
}

#[test]
fn a_write_does_not_wait_for_a_busy_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    block_on(async move {
        let file = File::open(&path, DIRECT).unwrap();
        let mut buf = AlignedBuf::with_capacity(BLOCK);
        buf.extend_from_slice(&[7; BLOCK]);
        let mut write = Box::pin(file.write_durable(0, buf));
        let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx))).await;
        // The thread never comes to its pump.
        let began = Instant::now();
        while std::fs::read(&path).unwrap() != [7; BLOCK] {
            assert!(began.elapsed() < Duration::from_secs(20), "nobody has told the kernel");
            std::thread::sleep(Duration::from_millis(1));
        }
        write.await.0.unwrap();
    });
}

#[test]
fn an_abandoned_operation_keeps_its_buffer_until_it_completes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    block_on(async move {
        let file = File::open(&path, DIRECT).unwrap();
        for i in 0..50_u8 {
            let mut buf = AlignedBuf::with_capacity(1 << 20);
            buf.extend_from_slice(&vec![i; 1 << 20]);
            let mut write = Box::pin(file.write(u64::from(i) << 20, buf));
            let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx))).await;
            drop(write);
        }
        while file.len().unwrap() < 50 << 20 {
            sleep(Duration::from_millis(1)).await;
        }
        for i in 0..50_u8 {
            let got = file.read(u64::from(i) << 20, 1 << 20).await.unwrap();
            assert!(got.iter().all(|b| *b == i));
        }
    });
}

#[test]
fn a_failed_commit_says_so_and_leaves_the_next_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    block_on(async move {
        let block = || {
            let mut buf = AlignedBuf::with_capacity(BLOCK);
            buf.set_len(BLOCK);
            buf
        };
        let full = File::open("/dev/full", OpenOptions { write: true, ..OpenOptions::default() }).unwrap();
        let good = File::open(&path, DIRECT).unwrap();
        let unwritable = File::open(&path, OpenOptions { direct: true, ..OpenOptions::default() }).unwrap();
        for i in 0..20 {
            let error = full.write_durable(0, block()).await.0.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            let error = unwritable.write_durable(0, block()).await.0.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            good.write_durable(i * BLOCK as u64, block()).await.0.unwrap();
        }
        assert_eq!(good.len().unwrap(), 20 * BLOCK as u64);
    });
}

#[test]
fn a_task_has_its_first_turn_at_once_and_then_each_in_turn() {
    let order = block_on(async {
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..3)
            .map(|task| {
                let order = order.clone();
                spawn(async move {
                    for turn in 0..3 {
                        order.borrow_mut().push((turn, task));
                        yield_now().await;
                    }
                })
            })
            .collect();
        assert_eq!(*order.borrow(), [(0, 0), (0, 1), (0, 2)]);
        for task in tasks {
            task.await;
        }
        order.take()
    });
    let turns: Vec<_> = (0..3).flat_map(|turn| (0..3).map(move |task| (turn, task))).collect();
    assert_eq!(order, turns);
}

#[cfg(feature = "own-executor")]
#[test]
fn another_thread_wakes_a_shard_that_sleeps_and_one_that_works() {
    const WAKES: usize = 10_000;
    for busy in [false, true] {
        let (send, receive) = flume::bounded::<usize>(1);
        let sender = std::thread::spawn(move || (0..WAKES).for_each(|n| send.send(n).unwrap()));
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let shard = start(None, "woken", doorbell, move || async move {
            let working = Rc::new(std::cell::Cell::new(busy));
            let work = working.clone();
            let worker = spawn(async move {
                while work.get() {
                    yield_now().await;
                }
            });
            let mut sum = 0;
            while let Ok(n) = receive.recv_async().await {
                sum += n;
            }
            working.set(false);
            worker.await;
            sum
        });
        assert_eq!(shard.unwrap().join().unwrap(), WAKES * (WAKES - 1) / 2);
        sender.join().unwrap();
    }
}

#[test]
fn timers_fire_in_order_and_not_early() {
    block_on(async {
        let start = Instant::now();
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let tasks: Vec<_> = [30_u64, 5, 60, 1]
            .into_iter()
            .map(|ms| {
                let order = order.clone();
                spawn(async move {
                    sleep(Duration::from_millis(ms)).await;
                    order.borrow_mut().push(ms);
                })
            })
            .collect();
        drop(sleep(Duration::from_secs(3600)));
        for task in tasks {
            task.await;
        }
        assert_eq!(*order.borrow(), [1, 5, 30, 60]);
        assert!(start.elapsed() >= Duration::from_millis(60));
    });
}

#[test]
fn notify_reaches_listeners_from_before_their_first_poll() {
    block_on(async {
        let notify = Notify::new();
        let early = notify.listen();
        notify.notify_all();
        early.await;
        let waiting = spawn({
            let notify = notify.clone();
            async move { notify.notified().await }
        });
        while !notify.is_watched() {
            yield_now().await;
        }
        notify.notify_all();
        waiting.await;
        assert_eq!(blocking(|| 7).await, 7);
    });
}

#[test]
fn a_sleeping_shard_hears_of_blocking_calls() {
    block_on(async {
        for i in 0..300_u64 {
            let call = blocking(move || {
                std::thread::sleep(Duration::from_micros(i % 40 * 10));
                i
            });
            assert_eq!(call.await, i);
        }
        // Nobody waits for some of them.
        let ran = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let ran = ran.clone();
                spawn(blocking(move || ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
            })
            .collect();
        drop(calls);
        let last = ran.clone();
        blocking(move || assert_eq!(last.load(std::sync::atomic::Ordering::Relaxed), 100)).await;
    });
}

#[test]
fn a_runtime_ends_when_its_main_task_does() {
    for i in 0..200 {
        let out = block_on(async move {
            let task = spawn(async move { i });
            let called = if i % 2 == 0 { blocking(|| 1).await } else { 1 };
            task.await + called
        });
        assert_eq!(out, i + 1);
    }
}

#[test]
fn a_shard_sleeps_only_when_no_task_is_ready() {
    block_on(async {
        // Each task wakes the one before it, and nothing else happens meanwhile: no timer, no completion.
        let links: Vec<Notify> = (0..1000).map(|_| Notify::new()).collect();
        let tasks: Vec<_> = links
            .windows(2)
            .map(|pair| {
                let (next, listen) = (pair[0].clone(), pair[1].listen());
                spawn(async move {
                    listen.await;
                    next.notify_all();
                })
            })
            .collect();
        let first = links[0].listen();
        links[999].notify_all();
        first.await;
        for task in tasks {
            task.await;
        }
        for _ in 0..1000 {
            yield_now().await;
        }
    });
}

#[test]
fn sockets_echo_large_and_small() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        for size in [1, 100, 70_000, 3_000_000, 5] {
            let sent: Vec<u8> = (0..size).map(|i| (i % 253) as u8).collect();
            let mut writer = stream.try_clone().unwrap();
            let copy = sent.clone();
            let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
            let mut got = vec![0; size];
            stream.read_exact(&mut got).unwrap();
            writing.join().unwrap();
            assert_eq!(got, sent);
            // Long enough for the shard to sleep.
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    block_on(async move {
        let listener = Listener::new(listener, 0, 0).unwrap();
        let stream = Stream::new(listener.accept().await.unwrap(), false);
        let mut buf = BytesMut::new();
        loop {
            std::future::poll_fn(|cx| stream.poll_readable(cx)).await;
            buf.reserve(64 * 1024);
            match stream.receive(&mut buf, usize::MAX) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(e) => panic!("{e}"),
            }
            let mut echo = buf.split().freeze();
            while !echo.is_empty() {
                match stream.send(std::iter::once(&echo)) {
                    Ok(sent) => echo.advance(sent.bytes),
                    Err(_) => std::future::poll_fn(|cx| stream.poll_writable(cx)).await,
                }
            }
        }
    });
    client.join().unwrap();
}

#[test]
fn a_mesh_call_outlives_full_lanes_and_sleeping_peers() {
    const CALLS: u64 = 20_000;
    let doorbells: Vec<_> = (0..2).map(|_| Arc::new(Doorbell::new().unwrap())).collect();
    let bells: Vec<_> = doorbells.iter().cloned().map(Bell::Shard).collect();
    let mut ends = mesh::build::<u64, u64>(&bells);
    let (server_end, client_end) = (ends.pop().unwrap(), ends.pop().unwrap());
    let server = start(None, "server", doorbells[1].clone(), move || async move {
        let port = Port::new(server_end);
        let mail = port.clone();
        let (expected, end) = (Rc::new(std::cell::Cell::new(0)), Notify::new());
        let ended = end.listen();
        on_mail(Rc::new(move || {
            mail.drain(|from, n| {
                mail.reply(from.of::<u64>(), n * 2);
                if n == u64::MAX / 2 {
                    return end.notify_all();
                }
                assert_eq!(n, expected.replace(n + 1), "requests overtook");
            })
        }));
        ended.await;
    })
    .unwrap();
    let client = start(None, "client", doorbells[0].clone(), move || async move {
        let port = Port::new(client_end);
        let mail = port.clone();
        on_mail(Rc::new(move || mail.drain(|_, _| unreachable!())));
        let calls: Vec<_> = (0..CALLS).map(|n| port.call(1, n)).collect();
        drop(port.call(1, CALLS));
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await, n as u64 * 2);
        }
        // Long enough for both to sleep, again and again: the only thing that can wake them is the doorbell.
        for n in 0..30 {
            sleep(Duration::from_millis(14)).await;
            assert_eq!(port.call(1, CALLS + 1 + n).await, (CALLS + 1 + n) * 2);
        }
        port.call(1, u64::MAX / 2).await;
    })
    .unwrap();
    client.join().unwrap();
    server.join().unwrap();
}

/// Prints the latency of one commit alone. `cargo test --release --lib rt -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_commit() {
    let path = std::path::PathBuf::from("/tmp/weir-commit-probe");
    block_on(async move {
        let file = File::open(&path, DIRECT).unwrap();
        let mut zeros = AlignedBuf::with_capacity(8 << 20);
        zeros.set_len(8 << 20);
        file.write_durable(0, zeros).await.0.unwrap();
        for gap in [0, 1, 15] {
            let mut times = Vec::new();
            for i in 0..1000_u64 {
                let mut buf = AlignedBuf::with_capacity(BLOCK);
                buf.set_len(BLOCK);
                if gap > 0 {
                    sleep(Duration::from_millis(gap)).await;
                }
                let start = Instant::now();
                file.write_durable(i % 2048 * 4096, buf).await.0.unwrap();
                times.push(start.elapsed().as_micros());
            }
            times.sort_unstable();
            println!("gap {gap} ms: p50 {} µs, p99 {} µs", times[500], times[990]);
        }
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn what_computes_and_what_blocks_do_not_wait_for_each_other() {
    block_on(async {
        let (tell, told) = std::sync::mpsc::channel();
        let computing = spawn(compute(move || told.recv()));
        // Behind the other it would never come.
        blocking(move || tell.send(7)).await.unwrap();
        assert_eq!(computing.await, Ok(7));
    });
}
