//! The shard's event loop: glommio runs the tasks, the pump task feeds them from the shard's ring.
//!
//! The pump is the one that sleeps, on the shard's own ring: one system call that submits, sleeps and collects. It
//! sleeps when a round brought nothing and no task ran: glommio's queue is first in, first out, so when the pump's
//! turn comes without another's before it, nobody is ready. glommio has no reason to park, and its rings stay unused.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};

use super::doorbell::Doorbell;
use super::driver::Driver;
use super::helper::Helper;
use super::timer::Timers;
use super::{stall, ticks};

/// Memory that glommio registers for its own rings.
const IO_MEMORY: usize = 1 << 20;
/// How often glommio would look at its own rings, which have nothing: its timer would only end the pump's sleep.
const NEVER: Duration = Duration::from_secs(1 << 30);
/// The longest that glommio parks all the same: it does so although tasks are ready when something that wakes none, such
/// as the end of its preemption timer, completes between its poll and its look at the tasks.
const PARK: Duration = Duration::from_millis(1);
/// How long a submission waits for the sleep that would carry it, while tasks run.
const PATIENCE: Duration = Duration::from_micros(20);

thread_local! {
    static PUMP: RefCell<Option<Rc<Pump>>> = const { RefCell::new(None) };
    /// Times that a task was polled.
    static POLLS: Cell<u64> = const { Cell::new(0) };
}

struct Pump {
    driver: Rc<Driver>,
    doorbell: Arc<Doorbell>,
    mail: RefCell<Option<Rc<dyn Fn() -> usize>>>,
    helper: Helper,
    codec: Helper,
    /// Nothing that blocks is begun any more.
    ending: Cell<bool>,
}

/// A task on this shard. Dropping the handle lets the task run on.
pub struct Task<T>(glommio::task::JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|out| out.expect("a task of this shard is never cancelled"))
    }
}

pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(counted(future)).detach())
}

/// Lets the pump know of each poll.
async fn counted<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        count_poll();
        future.as_mut().poll(cx)
    })
    .await
}

fn count_poll() {
    POLLS.with(|polls| polls.set(polls.get().wrapping_add(1)));
}

pub async fn yield_now() {
    glommio::executor().yield_now().await;
}

/// Runs a closure that blocks on a helper thread. It runs to its end also where nobody waits for it any more, and the
/// runtime does not end before.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    started_pump().await.helper.run(f).await
}

/// As [`blocking`], for a closure that computes for long: on a thread of its own, so that neither kind waits for the other.
pub async fn compute<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    started_pump().await.codec.run(f).await
}

/// What began something as the runtime ends, ends with it.
async fn started_pump() -> Rc<Pump> {
    let pump = pump();
    if pump.ending.get() {
        std::future::pending::<()>().await;
    }
    pump
}

pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the epoch, the unit of Kafka's timestamps.
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}

/// What the pump calls on each round to take in messages from other threads; returns how many there were.
pub fn on_mail(handler: Rc<dyn Fn() -> usize>) {
    *pump().mail.borrow_mut() = Some(handler);
}

fn pump() -> Rc<Pump> {
    PUMP.with(|p| p.borrow().clone()).expect("rt is used outside of its runtime")
}

/// Starts a shard's thread, pinned to `core` where one is given, and runs `main` on it to its end.
pub fn start<T, F>(
    core: Option<usize>,
    name: &str,
    doorbell: Arc<Doorbell>,
    main: impl FnOnce() -> F + Send + 'static,
) -> io::Result<Shard<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    ticks::calibrate();
    let placement = core.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(IO_MEMORY)
        .ring_depth(64)
        .preempt_timer(NEVER)
        .spawn(move || counted(run(doorbell, main)))
        .map(Shard)
        .map_err(|e| io::Error::other(e.to_string()))
}

/// A running shard thread.
pub struct Shard<T: Send + 'static>(glommio::ExecutorJoinHandle<io::Result<T>>);

impl<T: Send + 'static> Shard<T> {
    pub fn join(self) -> io::Result<T> {
        self.0.join().map_err(|e| io::Error::other(e.to_string()))?
    }
}

/// Runs a future on a fresh, unpinned runtime of its own thread. For tests and offline tools.
pub fn block_on<T, F>(future: F) -> T
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY)
        .ring_depth(64)
        .preempt_timer(NEVER)
        .make()
        .expect("io_uring is available");
    let doorbell = Arc::new(Doorbell::new().expect("an eventfd"));
    let out = executor.run(counted(run(doorbell, || future))).expect("io_uring is available");
    drop(executor);
    PUMP.with(|p| *p.borrow_mut() = None);
    Driver::uninstall();
    out
}

async fn run<T, F: Future<Output = T>>(doorbell: Arc<Doorbell>, main: impl FnOnce() -> F) -> io::Result<T> {
    let driver = Driver::install()?;
    let pump = Rc::new(Pump {
        driver: driver.clone(),
        mail: RefCell::default(),
        helper: Helper::new("helper", doorbell.clone()),
        codec: Helper::new("codec", doorbell.clone()),
        ending: Cell::new(false),
        doorbell,
    });
    PUMP.with(|p| *p.borrow_mut() = Some(pump.clone()));
    let watch = driver.watch(pump.doorbell.descriptor()?);
    let pumping = glommio::spawn_local(pump.clone().pump());
    let rousing = glommio::spawn_local(async {
        loop {
            glommio::timer::Timer::new(PARK).await;
        }
    });
    // Counted by itself as well: the pump has had its first turn by now.
    let out = counted(main()).await;
    pump.ending.set(true);
    while pump.helper.is_busy() || pump.codec.is_busy() {
        super::sleep(Duration::from_millis(1)).await;
    }
    // Nobody waits for it: the pump would not know that somebody does.
    drop(rousing);
    pumping.cancel().await;
    driver.unwatch(&watch);
    driver.turn();
    // Tasks that nobody waits for may still be polled until the executor ends: the runtime stays in place for them.
    Ok(out)
}

impl Pump {
    async fn pump(self: Rc<Self>) {
        let mut entered = Instant::now();
        loop {
            let polls = POLLS.get();
            yield_now().await;
            // The sleep that may soon follow submits as well; only what would wait long gets a system call of its own.
            let started = Instant::now();
            let enter = started - entered >= PATIENCE;
            if enter {
                entered = started;
            }
            let (events, next_timer) = self.round(enter);
            if events == 0 && POLLS.get() == polls {
                self.sleep(next_timer);
                entered = Instant::now();
            }
        }
    }

    fn round(&self, enter: bool) -> (usize, Option<Duration>) {
        stall::awake();
        let completions = if enter { self.driver.turn() } else { self.driver.reap() };
        let (fired, next) = Timers::current().fire();
        (completions + self.take_mail() + fired, next)
    }

    /// Takes in what other threads have sent; returns how much that was.
    fn take_mail(&self) -> usize {
        let handler = self.mail.borrow().clone();
        match handler {
            // What was sent before there is somebody to take it keeps ringing.
            None => self.collect(),
            Some(take) if self.doorbell.answer() => take() + self.collect(),
            Some(_) => 0,
        }
    }

    fn collect(&self) -> usize {
        self.helper.collect() + self.codec.collect()
    }

    /// Sleeps on the ring until something completes, the next timer is due or another thread rings.
    fn sleep(&self, limit: Option<Duration>) {
        self.doorbell.arm();
        // What arrived before the doorbell was armed has not rung it.
        if self.take_mail() == 0 {
            stall::asleep();
            self.driver.wait(limit);
            stall::awake();
        }
        self.doorbell.disarm();
    }
}
