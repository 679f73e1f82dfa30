//! One broker from its prepared machine to its last checkpoint: shards on their threads, the control thread (this one)
//! with metadata, HTTP and signals.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::directory::{belongs, cannot_recover, log_error};
use super::errors::{Failure, StartError};
use super::ground::Ground;
use super::layout::{follow_recovery, relayout};
use super::logger;
use super::membership::{Member, settle};
use super::preflight::Prepared;
use super::serving::{cores, run_until_stopped};
use super::signals::{Reload, Signals};
use crate::admin::Door;
use crate::config::Config;
use crate::control::{Control, Courier, Links, Me, Node};
use crate::controller::Registration;
use crate::log as storage;
use crate::metadata::{Image, recover};
use crate::model::{BrokerEpoch, BrokerSettings};
use crate::rt::mesh::{self, Bell};
use crate::rt::net::Listener;
use crate::rt::{self, Doorbell, Refused};
use crate::server;
use crate::shard::Shard;
use crate::shard::connections::Connections;
use crate::shard::message::End;
use crate::shard::serve::Start;

/// How long a broker that has come waits to hear that it may lead.
const UNFENCED: Duration = Duration::from_secs(10);

/// What a shard's thread needs besides its start: the sockets are the first shard's.
struct Launch {
    start: Start,
    /// One for each listener of the settings.
    sockets: Vec<TcpListener>,
    ready: flume::Sender<Result<(), StartError>>,
    grace: Duration,
}

/// Shard threads that have what they need of the kernel, and wait to be told what to do.
struct Crew {
    doorbells: Vec<Arc<Doorbell>>,
    work: Vec<flume::Sender<Launch>>,
    threads: Vec<rt::Shard<Result<(), String>>>,
}

impl Crew {
    fn hire(shards: usize) -> Result<Self, Refused> {
        let cores = cores();
        let mut crew = Self { doorbells: Vec::new(), work: Vec::new(), threads: Vec::new() };
        for index in 0..shards {
            let doorbell = Arc::new(Doorbell::new().map_err(Refused::named("eventfd"))?);
            let (work, told) = flume::bounded::<Launch>(1);
            // More shards than cores are for tests; pinning two to one core would only make one wait for the other.
            let core = (shards <= cores.len()).then(|| cores[index]);
            // The shard has nothing else to do yet: its thread may wait.
            let body = async move || match told.recv() {
                Ok(launch) => run_shard(launch).await,
                Err(_) => Ok(()),
            };
            crew.threads.push(rt::start(core, &format!("shard-{index}"), doorbell.clone(), body)?);
            crew.doorbells.push(doorbell);
            crew.work.push(work);
        }
        Ok(crew)
    }
}

struct Sockets {
    kafka: TcpListener,
    cluster: TcpListener,
    admin: Option<TcpListener>,
}

/// Runs until a signal has stopped the broker.
pub fn run(config: &Config, prepared: Prepared, reload: Reload) -> Result<(), Failure> {
    let began = Instant::now();
    let Prepared { lock, journals, kafka, cluster, admin, needs, limits, share } = prepared;
    let ground = Ground { config, needs, limits, share, journals };
    let crew = Crew::hire(config.shards).map_err(|refused| ground.refused(refused))?;
    let runtime =
        ground.named("epoll", tokio::runtime::Builder::new_current_thread().enable_all().build())?;
    let sockets = Sockets { kafka, cluster, admin };
    // What was proposed is written before the directory is another process's: when this returns. On an error the other shards
    // wait for a start that will not come; nothing of theirs needs saving.
    let served = LocalSet::new().block_on(&runtime, serve(&ground, sockets, crew, began, &reload));
    let Served { threads, ended } = served?;
    let mut failures = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => failures.push(reason),
            Err(e) => failures.push(e.to_string()),
        }
    }
    drop(lock);
    match (ended, failures.into_iter().next()) {
        (Some(why), _) => Err(Failure::Metadata(why)),
        (None, None) => Ok(()),
        (None, Some(reason)) => Err(Failure::Stop(reason)),
    }
}

/// A broker that was stopped.
struct Served {
    threads: Vec<rt::Shard<Result<(), String>>>,
    /// Why it stopped by itself.
    ended: Option<String>,
}

/// From the metadata to the last request: metadata first, then shards on an image that has everything that theirs rest on.
async fn serve(
    ground: &Ground<'_>,
    sockets: Sockets,
    crew: Crew,
    began: Instant,
    reload: &Reload,
) -> Result<Served, Failure> {
    let Ground { config, .. } = *ground;
    let address = sockets.kafka.local_addr().unwrap_or(config.listen);
    let cluster_address = ground.named("getsockname", sockets.cluster.local_addr())?;
    let admin_address = sockets.admin.as_ref().and_then(|l| l.local_addr().ok());
    let mut settings = broker_settings(ground, address, &sockets.cluster)?;
    let member = settle(config, &mut settings).await?;
    settings.recovery = member.store.recovery();
    settings.follows = recover::has_followed(&config.data_dir.join("meta"));
    let settings = Arc::new(settings);

    let (token, tokens) = flume::bounded(1);
    let mut bells: Vec<Bell> = crew.doorbells.iter().cloned().map(Bell::Shard).collect();
    bells.push(Bell::Control(token));
    let mut ends = mesh::build(&bells);
    let control_end = ends.pop().expect("an end for each bell");
    let connections = Connections::new(config.shards);
    let Member { store, registration, epoch, told } = member;
    let (alone, image) = (store.is_alone(), Arc::new(store.image().clone()));
    let (me, links) = (me(&settings, &registration), Rc::new(Links::default()));
    let courier = Rc::new(Courier { links: links.clone(), hello: me.hello() });
    let quorum = ground.named("clone", Node::start(store, config.data_dir.join("meta"), courier).await)?;
    let control = Control::new(control_end, me, connections.clone(), links, quorum, image, &settings);
    let control = Rc::new(control.knowing(told));
    control.clone().start(tokens);
    let cluster = sockets.cluster.set_nonblocking(true).and_then(|()| sockets.cluster.try_into());
    tokio::task::spawn_local(control.clone().accept(ground.named("epoll_ctl", cluster)?));

    come(&control, epoch, registration).await?;
    if !alone {
        tokio::task::spawn_local(control.clone().live());
        follow_recovery(ground, &settings, control.image()).await?;
        belongs(&config.data_dir, &settings, Some(&control.image()))?;
    }
    let strays = relayout(ground, &settings, control.image()).await?;
    let launches =
        Launches { config, settings: &settings, image: control.begin_to_tell(), connections, strays };
    launches.send(ends, crew.work, sockets.kafka).await?;
    control.serve();
    if alone {
        // It leads already, by its own word.
        tokio::task::spawn_local(control.clone().live());
    } else if !control.unfenced(UNFENCED).await {
        log::warn!("the controller does not say yet that this broker may lead");
    }
    let signals = ground.named("sigaction", Signals::heed())?;
    let door = ground.named("epoll_ctl", sockets.admin.map(Door::new).transpose())?;
    announce(ground, &settings, [address, cluster_address], admin_address, began);
    let ended =
        run_until_stopped(&control, config.shards, door, signals, reload, config.shutdown_timeout).await;
    control.stop().await;
    Ok(Served { threads: crew.threads, ended })
}

/// Returns once this life of the broker is registered, and the metadata here says so.
async fn come(
    control: &Control,
    epoch: Option<BrokerEpoch>,
    registration: Registration,
) -> Result<(), Failure> {
    let registered = async {
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => control.register(registration).await.map_err(|why| not_taken(&why))?,
        };
        control.follow_to(epoch).await;
        Ok(())
    };
    tokio::select! {
        registered = registered => registered,
        why = control.ended() => Err(Failure::Metadata(why)),
    }
}

/// Says where it serves.
fn announce(
    ground: &Ground<'_>,
    settings: &BrokerSettings,
    [kafka, cluster]: [SocketAddr; 2],
    admin: Option<SocketAddr>,
    began: Instant,
) {
    let config = ground.config;
    if settings.connections_possible < config.max_connections {
        log::info!(
            "max_connections is {}, not {}: there are {} descriptors (ulimit -n), and journals, segments and health keep \
             theirs",
            settings.connections_possible,
            config.max_connections,
            ground.limits.descriptors,
        );
    }
    let http = admin.map_or("off".to_owned(), |a| a.to_string());
    logger::say(&format!(
        "weir {} serves Kafka on {kafka}, brokers on {cluster}, HTTP on {http}; data in {}, {} shards, recovered in {} ms\n",
        env!("CARGO_PKG_VERSION"),
        config.data_dir.display(),
        config.shards,
        began.elapsed().as_millis(),
    ));
}

/// What every shard starts from.
struct Launches<'a> {
    config: &'a Config,
    settings: &'a Arc<BrokerSettings>,
    image: Arc<Image>,
    connections: Connections,
    strays: usize,
}

impl Launches<'_> {
    /// Returns once every shard serves, or the first one cannot.
    async fn send(
        self,
        ends: Vec<End>,
        work: Vec<flume::Sender<Launch>>,
        kafka: TcpListener,
    ) -> Result<(), StartError> {
        let Self { config, settings, image, connections, strays } = self;
        let seed = rt::unix_ms() as u32 ^ std::process::id();
        let (ready, started) = flume::unbounded();
        let mut kafka = vec![kafka];
        for ((index, end), work) in ends.into_iter().enumerate().zip(work) {
            let start = Start {
                index,
                count: config.shards,
                end,
                data_dir: config.data_dir.clone(),
                settings: settings.clone(),
                image: image.clone(),
                connections: connections.clone(),
                session_seed: seed,
                strays: if index == 0 { strays } else { 0 },
            };
            let launch = Launch {
                start,
                sockets: std::mem::take(&mut kafka),
                ready: ready.clone(),
                grace: config.shutdown_timeout / 2,
            };
            // A shard that has ended says so by not being ready.
            drop(work.send(launch));
        }
        drop(ready);
        for _ in 0..config.shards {
            match started.recv_async().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(cannot_recover(&"a shard ended", "the log", None)),
            }
        }
        Ok(())
    }
}

async fn run_shard(launch: Launch) -> Result<(), String> {
    let shard = match Shard::open(launch.start).await {
        Ok(shard) => shard,
        Err(e) => {
            let _ = launch.ready.send(Err(log_error(&e)));
            return Ok(());
        }
    };
    shard.start(server::serve);
    let stop = shard.stopped();
    let settings = shard.settings();
    for (socket, door) in launch.sockets.into_iter().zip(&settings.listeners) {
        match Listener::new(socket, settings.send_buffer_bytes, settings.receive_buffer_bytes) {
            Ok(socket) => drop(rt::spawn(server::accept(shard.clone(), socket, door.clone()))),
            Err(e) => {
                let problem = format!("the listening socket cannot be used: {e}");
                let error = StartError::new(problem, "`weir doctor` examines this machine.");
                let _ = launch.ready.send(Err(error));
                return Ok(());
            }
        }
    }
    let _ = launch.ready.send(Ok(()));
    drop(launch.ready);
    stop.await;
    shard.close(launch.grace).await.map_err(|e| e.to_string())
}

fn not_taken(why: &str) -> StartError {
    StartError::new(
        format!("the cluster does not take this broker: {why}"),
        "Nothing was changed in the cluster.",
    )
}

/// Who this process is.
fn me(settings: &BrokerSettings, registration: &Registration) -> Me {
    Me {
        id: settings.broker_id,
        cluster: registration.cluster.clone(),
        incarnation: registration.incarnation,
        directory: registration.directory,
        recovery: settings.recovery,
        listener: settings.cluster_listener.clone().expect("it is bound"),
    }
}

/// With the directories as tools are told them, and what this machine grants.
fn broker_settings(
    ground: &Ground<'_>,
    bound: SocketAddr,
    cluster: &TcpListener,
) -> Result<BrokerSettings, StartError> {
    let Ground { config, share, journals, .. } = *ground;
    let cluster = ground.named("getsockname", cluster.local_addr())?;
    let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir).display().to_string();
    Ok(BrokerSettings {
        cluster_listener: Some(Arc::new(config.cluster_listener(bound, cluster))),
        log_dir: absolute(storage::topics_dir(&config.data_dir)),
        meta_dir: absolute(config.data_dir.join("meta")),
        connections_possible: share.connections,
        open_segments: share.segments,
        journal_file_bytes: journals.file_bytes as usize,
        journal_max_files: journals.max_files,
        ..config.broker_settings(bound)
    })
}
