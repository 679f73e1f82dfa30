//! The shard's event loop: a round of the tasks that are ready, a round of what the shard's ring has to say, sleep.
//!
//! It sleeps on the shard's own ring: one system call that submits, sleeps and collects. It does so when no task is
//! ready and a look at ring, mail and timers brought nothing.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use super::aligned::{AlignedBuf, MAX_SPARE_BYTES};
use super::budget::Charge;
use super::doorbell::Doorbell;
use super::driver::Driver;
use super::executor::{self, Executor, spawn};
use super::helper::Helper;
use super::refused::Refused;
use super::timer::Timers;
use super::watch::Watch;
use super::{stall, ticks};
use crate::model::WallMs;

/// How long a submission waits for the sleep that would carry it, while tasks run.
const PATIENCE: Duration = Duration::from_micros(20);

thread_local! {
    static PUMP: RefCell<Option<Rc<Pump>>> = const { RefCell::new(None) };
}

struct Pump {
    driver: Rc<Driver>,
    doorbell: Arc<Doorbell>,
    mail: RefCell<Option<Rc<dyn Fn() -> usize>>>,
    helper: Helper,
    codec: Helper,
    bell: Rc<Watch>,
    /// Nothing that blocks is begun any more.
    ending: Cell<bool>,
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

/// As [`blocking`], in memory that was taken before: it is given back no sooner than the closure has ended, also where
/// nobody waits for that any more.
pub async fn blocking_within<T: Send + 'static>(
    memory: Charge,
    f: impl FnOnce() -> T + Send + 'static,
) -> (T, Charge) {
    spawn(async move { (blocking(f).await, memory) }).await
}

pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the epoch, the unit of Kafka's timestamps.
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}

/// The wall clock. For what is stored and told; never for deciding when something is due.
pub fn wall() -> WallMs {
    WallMs(unix_ms())
}

/// What the pump calls on each round to take in messages from other threads; returns how many there were.
pub fn on_mail(handler: Rc<dyn Fn() -> usize>) {
    *pump().mail.borrow_mut() = Some(handler);
}

fn pump() -> Rc<Pump> {
    PUMP.with(|p| p.borrow().clone()).expect("rt is used outside of its runtime")
}

/// Starts a thread, pinned to `core` where one is given, and runs `main` on it to its end. Returns once the thread has
/// everything that it needs of the kernel.
pub fn start<T, F>(
    core: Option<usize>,
    name: &str,
    doorbell: Arc<Doorbell>,
    main: impl FnOnce() -> F + Send + 'static,
) -> Result<Shard<T>, Refused>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    ticks::calibrate();
    let (tell, told) = sync_channel(1);
    let body = move || {
        if let Some(core) = core {
            pin(core);
        }
        let made = Pump::install(doorbell).and_then(|(pump, executor)| {
            for helper in [&pump.helper, &pump.codec] {
                helper.start().map_err(Refused::named("a thread"))?;
            }
            Ok((pump, executor))
        });
        match made {
            Ok((pump, executor)) => {
                drop(tell.send(Ok(())));
                let out = executor.run(pump.run(main));
                #[cfg(feature = "task-times")]
                log::info!("{}", executor::report());
                Some(out)
            }
            Err(refused) => {
                drop(tell.send(Err(refused)));
                None
            }
        }
    };
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    let thread = spawned.map_err(Refused::named("a thread"))?;
    told.recv().unwrap_or_else(|_| Err(Refused::named("a thread")(io::ErrorKind::BrokenPipe.into())))?;
    Ok(Shard(thread))
}

/// Keeps this thread on one core.
fn pin(core: usize) {
    // SAFETY: a zeroed set is valid, the index is below its size, and the call reads no more than that.
    let pinned = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if pinned != 0 {
        let error = io::Error::last_os_error();
        log::warn!("this shard is not bound to core {core}, and may be moved about: {error}");
    }
}

/// A running shard thread.
pub struct Shard<T: Send + 'static>(thread::JoinHandle<Option<T>>);

impl<T: Send + 'static> Shard<T> {
    pub fn join(self) -> io::Result<T> {
        self.0.join().ok().flatten().ok_or_else(|| io::Error::other("its thread panicked"))
    }
}

/// Runs a future on a fresh, unpinned runtime of its own, on this thread. For start-up and offline tools.
pub fn try_block_on<T, F>(future: F) -> Result<T, Refused>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let doorbell = Arc::new(Doorbell::new().map_err(Refused::named("eventfd"))?);
    let (pump, executor) = Pump::install(doorbell)?;
    let out = executor.run(pump.run(|| future));
    PUMP.set(None);
    Driver::uninstall();
    Ok(out)
}

/// As [`try_block_on`], for tests and benchmarks.
pub fn block_on<T, F>(future: F) -> T
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    try_block_on(future).expect("the kernel gives this process a ring")
}

impl Pump {
    /// Makes this thread's runtime.
    fn install(doorbell: Arc<Doorbell>) -> Result<(Rc<Self>, Executor), Refused> {
        let driver = Driver::install()?;
        AlignedBuf::keep_at_most(MAX_SPARE_BYTES);
        let bell = driver.watch(doorbell.descriptor().map_err(Refused::named("fcntl"))?);
        let executor = Executor::new(&doorbell)?;
        let pump = Rc::new(Pump {
            driver,
            mail: RefCell::default(),
            helper: Helper::new("helper", doorbell.clone()),
            codec: Helper::new("codec", doorbell.clone()),
            bell,
            ending: Cell::new(false),
            doorbell,
        });
        PUMP.set(Some(pump.clone()));
        Ok((pump, executor))
    }

    /// The event loop: runs `main`, and whatever it spawns meanwhile, until `main` has ended.
    async fn run<T: 'static, F: Future<Output = T> + 'static>(self: Rc<Self>, main: impl FnOnce() -> F) -> T {
        let mut entered = Instant::now();
        let (out, main) = (Rc::new(OnceCell::new()), main());
        let ended = out.clone();
        spawn(async move { ended.set(main.await).map_err(drop).expect("it ends once") });
        self.turn_until(|_| out.get().is_some(), &mut entered).await;
        self.ending.set(true);
        self.turn_until(|pump| !pump.helper.is_busy() && !pump.codec.is_busy(), &mut entered).await;
        self.driver.unwatch(&self.bell);
        self.driver.turn();
        // Its task has let go of it by now.
        Rc::into_inner(out).and_then(OnceCell::into_inner).expect("`main` has ended")
    }

    async fn turn_until(&self, is_over: impl Fn(&Self) -> bool, entered: &mut Instant) {
        loop {
            executor::turn().await;
            if is_over(self) {
                return;
            }
            self.look_up(entered);
        }
    }

    /// What has come meanwhile, or sleep until something does.
    fn look_up(&self, entered: &mut Instant) {
        // The sleep that may soon follow submits as well; only what would wait long gets a system call of its own.
        let started = Instant::now();
        let enter = started - *entered >= PATIENCE;
        if enter {
            *entered = started;
        }
        let (events, next_timer) = self.round(enter);
        if events == 0 && executor::is_idle() {
            self.sleep(next_timer);
            *entered = Instant::now();
        }
    }

    fn round(&self, enter: bool) -> (usize, Option<Duration>) {
        stall::awake();
        let completions = if enter { self.driver.turn() } else { self.driver.reap() };
        let (fired, next) = Timers::current().fire();
        (completions + executor::collect() + self.take_mail() + fired, next)
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
        if self.take_mail() + executor::collect() == 0 {
            stall::asleep();
            self.driver.wait(limit);
            stall::awake();
        }
        self.doorbell.disarm();
    }
}
