//! The shard's event loop: glommio runs the tasks, the pump task feeds them from the shard's ring.
//!
//! While traffic flows the pump is the one that sleeps, on the shard's own ring: one system call that submits, sleeps
//! and collects. After a quiet spell it hands sleeping over to glommio's park (which waits for the ring's eventfd),
//! so that an idle shard costs nothing.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use io_uring::types::Timespec;

use super::doorbell::{Doorbell, Sleep};
use super::driver::Driver;
use super::notify::Notify;
use super::timer::Timers;
use super::{stall, ticks};

/// Memory that glommio registers for its own rings, which only its park uses here.
const IO_MEMORY: usize = 1 << 20;
/// Rounds in which nothing arrived before the pump believes that every woken task has run.
const QUIET_ROUNDS: u32 = 6;
/// How long after the last event the pump keeps sleeping on the ring itself.
const HOT: Duration = Duration::from_millis(10);
/// The longest such sleep; bounds how late a glommio event can be noticed.
const NAP: Duration = Duration::from_millis(1);

/// The longest that glommio sleeps. It parks although tasks are ready when its preemption timer, or anything else that
/// wakes no task, completes between its poll and its look at the tasks: on a busy machine this happens, and without an
/// end to the park the shard would sleep for ever.
const PARK: Duration = Duration::from_millis(100);

/// How long a submission waits for the sleep that would carry it, while tasks run.
const PATIENCE: Duration = Duration::from_micros(20);

thread_local! {
    static PUMP: RefCell<Option<Rc<Pump>>> = const { RefCell::new(None) };
}

struct Pump {
    driver: Rc<Driver>,
    doorbell: Arc<Doorbell>,
    mail: RefCell<Option<Rc<dyn Fn() -> usize>>>,
    idle: Cell<bool>,
    roused: Notify,
    alarm: Cell<Option<Instant>>,
    bell_armed: Cell<bool>,
    blocking: Cell<usize>,
    /// Nothing that blocks is begun any more.
    ending: Cell<bool>,
    /// Signalled by the ring's completions and by the doorbell; glommio waits for it.
    bell: glommio::io::BufferedFile,
}

/// A task on this shard. Dropping the handle lets the task run on.
pub struct Task<T>(glommio::task::JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|out| out.expect("a task of this shard is never cancelled"))
    }
}

pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(future).detach())
}

pub async fn yield_now() {
    glommio::executor().yield_now().await;
}

/// Runs a closure that blocks on a helper thread. It runs to its end also where nobody waits for it any more, and the
/// runtime does not end before.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let pump = pump();
    if pump.ending.get() {
        // What began it ends with the runtime.
        std::future::pending::<()>().await;
    }
    pump.blocking.set(pump.blocking.get() + 1);
    let call = glommio::spawn_local(async move {
        let out = glommio::executor().spawn_blocking(f).await;
        pump.blocking.set(pump.blocking.get() - 1);
        out
    });
    call.detach().await.expect("nobody cancels it")
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

/// Something was queued while the shard may be idle: let the pump look.
pub(super) fn rouse() {
    PUMP.with(|p| {
        if let Some(pump) = &*p.borrow()
            && pump.idle.replace(false)
        {
            pump.roused.notify_all();
        }
    });
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
        .spawn(move || run(doorbell, main))
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
        .make()
        .expect("io_uring is available");
    let doorbell = Arc::new(Doorbell::new().expect("an eventfd"));
    let out = executor.run(run(doorbell, || future)).expect("io_uring is available");
    drop(executor);
    PUMP.with(|p| *p.borrow_mut() = None);
    Driver::uninstall();
    out
}

async fn run<T, F: Future<Output = T>>(doorbell: Arc<Doorbell>, main: impl FnOnce() -> F) -> io::Result<T> {
    let bell = doorbell.bell_descriptor()?;
    let driver = Driver::install(&bell)?;
    // SAFETY: the descriptor was duplicated for this and is owned by nobody else.
    let bell = unsafe { glommio::io::BufferedFile::from_raw_fd(bell.into_raw_fd()) };
    let pump = Rc::new(Pump {
        driver: driver.clone(),
        doorbell: doorbell.clone(),
        mail: RefCell::default(),
        idle: Cell::new(false),
        roused: Notify::new(),
        alarm: Cell::new(None),
        bell_armed: Cell::new(false),
        blocking: Cell::new(0),
        ending: Cell::new(false),
        bell,
    });
    PUMP.with(|p| *p.borrow_mut() = Some(pump.clone()));
    let watch = driver.watch(doorbell.ring_descriptor()?);
    let pumping = glommio::spawn_local(pump.clone().pump());
    let rousing = glommio::spawn_local(async {
        loop {
            glommio::timer::Timer::new(PARK).await;
        }
    });
    let out = main().await;
    pump.ending.set(true);
    while pump.blocking.get() > 0 {
        // The helper thread panics when there is nobody to answer to.
        super::sleep(Duration::from_millis(1)).await;
    }
    rousing.cancel().await;
    pumping.cancel().await;
    driver.unwatch(&watch);
    driver.turn();
    // Tasks that nobody waits for may still be polled until the executor ends: the runtime stays in place for them.
    Ok(out)
}

impl Pump {
    async fn pump(self: Rc<Self>) {
        let mut quiet = 0;
        let mut last_event = Instant::now();
        let mut entered = last_event;
        loop {
            // The sleep that may soon follow submits as well; only what would wait long gets a system call of its own.
            let started = Instant::now();
            let enter = started - entered >= PATIENCE;
            if enter {
                entered = started;
            }
            let (events, next_timer) = self.round(enter);
            if events > 0 {
                quiet = 0;
                yield_now().await;
                continue;
            }
            quiet += 1;
            if quiet < QUIET_ROUNDS {
                yield_now().await;
                continue;
            }
            if quiet == QUIET_ROUNDS {
                last_event = started;
            }
            if started - last_event < HOT && self.blocking.get() == 0 {
                // What the sleep brought starts a new round of tasks, each of which may wake others.
                if self.nap(next_timer.unwrap_or(NAP).min(NAP)) > 0 {
                    quiet = 0;
                }
                entered = Instant::now();
                yield_now().await;
            } else {
                self.idle(next_timer).await;
                quiet = 0;
            }
        }
    }

    fn round(&self, enter: bool) -> (usize, Option<Duration>) {
        stall::awake();
        let completions = if enter { self.driver.turn() } else { self.driver.reap() };
        let mail = self.mail.borrow().clone().map_or(0, |handler| handler());
        let (fired, next) = Timers::current().fire();
        (completions + mail + fired, next)
    }

    /// Sleeps on the ring, unless a message came just before the doorbell was armed. Returns the events handled.
    fn nap(&self, limit: Duration) -> usize {
        self.doorbell.arm(Sleep::OnRing);
        let mail = self.mail.borrow().clone().map_or(0, |handler| handler());
        let completions = if mail == 0 { self.sleep(limit) } else { 0 };
        self.doorbell.disarm();
        mail + completions
    }

    fn sleep(&self, limit: Duration) -> usize {
        stall::asleep();
        let completions = self.driver.wait(limit);
        stall::awake();
        completions
    }

    /// Lets glommio park this thread until the ring, a timer, another thread or a task has something.
    async fn idle(self: &Rc<Self>, next_timer: Option<Duration>) {
        if let Some(delay) = next_timer {
            self.set_alarm(delay);
        }
        let roused = self.roused.listen();
        self.idle.set(true);
        self.arm_bell();
        self.doorbell.arm(Sleep::Parked);
        // What completed or arrived before the bells were armed would ring none.
        let (events, _) = self.round(true);
        if events == 0 {
            stall::asleep();
            roused.await;
            stall::awake();
        }
        self.doorbell.disarm();
        self.idle.set(false);
    }

    fn set_alarm(&self, delay: Duration) {
        let at = Instant::now() + delay;
        if self.alarm.get().is_none_or(|set| set > at || set < Instant::now()) {
            self.alarm.set(Some(at));
            self.driver.alarm(&Timespec::from(delay));
        }
    }

    /// Has glommio wait for the ring's eventfd.
    fn arm_bell(self: &Rc<Self>) {
        if self.bell_armed.replace(true) {
            return;
        }
        let pump = self.clone();
        glommio::spawn_local(async move {
            // An error is as good as a ring: the pump looks, and arms the bell again.
            let _ = pump.bell.read_at(0, 8).await;
            pump.bell_armed.set(false);
            if pump.idle.replace(false) {
                pump.roused.notify_all();
            }
        })
        .detach();
    }
}
