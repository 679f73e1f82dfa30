use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use kafka_wire::*;
use kafka_wire_core::{ApiVersion, KafkaEncode, StrBytes};

use super::super::common::build;
use super::super::{start, table};
use super::*;
use crate::controller::{ControlError, ControlErrorKind, ControlReply, ControlRequest};
use crate::coordinator::{group, txn};
use crate::metadata::quorum::{Membership, Status, Voter};
use crate::model::internal::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::model::{BrokerId, BrokerSettings};
use crate::peer::{Hello, Lane};
use crate::rt;
use crate::rt::net::Socket;
use crate::security::Access;
use crate::shard::Shard;
use crate::shard::context::{ConnectionContext, Handoff};
use crate::shard::message::{Asked, Control, Port};
use crate::shard::testing::alone;
use crate::wire::frame::RequestHeader;

/// APIs that leave out what their client may not see, or check nothing.
const NOTHING_REFUSED: &[i16] = &[16, 18, 60, 66];

type Asks = BTreeSet<(u8, u8)>;

thread_local! {
    static ASKED: RefCell<Asks> = const { RefCell::new(BTreeSet::new()) };
}

fn note(operation: Operation, resource: &Resource<'_>) {
    ASKED.with_borrow_mut(|asked| asked.insert((operation as u8, resource.kind() as u8)));
}

/// Everybody may do everything; nobody anything; everything but to the cluster.
const POLICIES: [Access; 3] = [
    Access(|_, _, operation, resource| {
        note(operation, resource);
        true
    }),
    Access(|_, _, operation, resource| {
        note(operation, resource);
        false
    }),
    Access(|_, _, operation, resource| {
        note(operation, resource);
        *resource != Resource::Cluster
    }),
];

fn request<R: KafkaEncode + Default>(
    key: i16,
    version: i16,
    fill: impl FnOnce(&mut R),
) -> (i16, i16, BytesMut) {
    let body = build(fill).encode_to_bytes(ApiVersion::new(version)).unwrap();
    (key, version, BytesMut::from(&body[..]))
}

fn t() -> StrBytes {
    "t".into()
}

/// Requests of topics and of what is in them.
fn about_topics() -> Vec<(i16, i16, BytesMut)> {
    let fetch = |replica: i32| {
        request::<FetchRequest>(1, 12, |r| {
            r.replica_id = replica;
            r.session_epoch = -1;
            r.topics = vec![build(|t: &mut fetch_request::FetchTopic| {
                t.topic = self::t();
                t.partitions = vec![Default::default()];
            })];
        })
    };
    let produce = request::<ProduceRequest>(0, 9, |r| {
        (r.acks, r.timeout_ms) = (1, 1000);
        r.transactional_id = Some("x".into());
        r.topic_data = vec![build(|t: &mut produce_request::TopicProduceData| {
            t.name = self::t();
            t.partition_data = vec![Default::default()];
        })];
    });
    vec![
        produce,
        fetch(-1),
        fetch(BROKER),
        request::<ListOffsetsRequest>(2, 7, |r| {
            r.topics = vec![build(|t: &mut list_offsets_request::ListOffsetsTopic| {
                t.name = self::t();
                t.partitions =
                    vec![build(|p: &mut list_offsets_request::ListOffsetsPartition| p.timestamp = -1)];
            })];
        }),
        request::<MetadataRequest>(3, 9, |r| {
            let topic = |name: &str| {
                build(|t: &mut metadata_request::MetadataRequestTopic| t.name = Some(name.into()))
            };
            r.topics = Some(vec![topic("t"), topic("new")]);
            r.allow_auto_topic_creation = true;
            r.include_cluster_authorized_operations = true;
            r.include_topic_authorized_operations = true;
        }),
        request::<CreateTopicsRequest>(19, 7, |r| {
            r.topics = vec![build(|t: &mut create_topics_request::CreatableTopic| t.name = self::t())];
        }),
        request::<DeleteTopicsRequest>(20, 6, |r| {
            r.topics =
                vec![build(|t: &mut delete_topics_request::DeleteTopicState| t.name = Some(self::t()))];
        }),
        request::<DeleteRecordsRequest>(21, 2, |r| {
            r.topics = vec![build(|t: &mut delete_records_request::DeleteRecordsTopic| {
                t.name = self::t();
                t.partitions = vec![Default::default()];
            })];
        }),
        request::<OffsetForLeaderEpochRequest>(23, 4, |r| {
            r.topics = vec![build(|t: &mut offset_for_leader_epoch_request::OffsetForLeaderTopic| {
                t.topic = self::t();
                t.partitions = vec![Default::default()];
            })];
        }),
        request::<CreatePartitionsRequest>(37, 3, |r| {
            r.topics =
                vec![build(|t: &mut create_partitions_request::CreatePartitionsTopic| t.name = self::t())];
        }),
        request::<DescribeProducersRequest>(61, 0, |r| {
            r.topics = vec![build(|t: &mut describe_producers_request::TopicRequest| {
                t.name = self::t();
                t.partition_indexes = vec![0];
            })];
        }),
        request::<DescribeTopicPartitionsRequest>(75, 0, |r| {
            r.topics =
                vec![build(|t: &mut describe_topic_partitions_request::TopicRequest| t.name = self::t())];
        }),
    ]
}

/// Requests of groups.
fn about_groups() -> Vec<(i16, i16, BytesMut)> {
    let g = || StrBytes::from("g");
    vec![
        request::<OffsetCommitRequest>(8, 8, |r| {
            r.group_id = g();
            r.topics = vec![build(|t: &mut offset_commit_request::OffsetCommitRequestTopic| {
                t.name = self::t();
                t.partitions = vec![Default::default()];
            })];
        }),
        request::<OffsetFetchRequest>(9, 7, |r| {
            r.group_id = g();
            r.topics = Some(vec![build(|t: &mut offset_fetch_request::OffsetFetchRequestTopic| {
                t.name = self::t();
                t.partition_indexes = vec![0];
            })]);
        }),
        request::<FindCoordinatorRequest>(10, 4, |r| r.coordinator_keys = vec![g()]),
        request::<JoinGroupRequest>(11, 7, |r| r.group_id = g()),
        request::<HeartbeatRequest>(12, 4, |r| r.group_id = g()),
        request::<LeaveGroupRequest>(13, 4, |r| r.group_id = g()),
        request::<SyncGroupRequest>(14, 3, |r| r.group_id = g()),
        request::<DescribeGroupsRequest>(15, 5, |r| {
            r.groups = vec![g()];
            r.include_authorized_operations = true;
        }),
        request::<ListGroupsRequest>(16, 5, |_| {}),
        request::<DeleteGroupsRequest>(42, 2, |r| r.groups_names = vec!["other".into()]),
        request::<OffsetDeleteRequest>(47, 0, |r| {
            r.group_id = g();
            r.topics = vec![build(|t: &mut offset_delete_request::OffsetDeleteRequestTopic| {
                t.name = self::t();
                t.partitions = vec![Default::default()];
            })];
        }),
    ]
}

/// Requests of transactions.
fn about_transactions() -> Vec<(i16, i16, BytesMut)> {
    let x = || StrBytes::from("x");
    let add = |version: i16| {
        request::<AddPartitionsToTxnRequest>(24, version, |r| {
            let topics = vec![build(|t: &mut add_partitions_to_txn_request::AddPartitionsToTxnTopic| {
                t.name = self::t();
                t.partitions = vec![0];
            })];
            if version < 4 {
                (r.v3_and_below_transactional_id, r.v3_and_below_topics) = (x(), topics);
            } else {
                r.transactions =
                    vec![build(|t: &mut add_partitions_to_txn_request::AddPartitionsToTxnTransaction| {
                        (t.transactional_id, t.topics) = (x(), topics);
                    })];
            }
        })
    };
    vec![
        request::<FindCoordinatorRequest>(10, 4, |r| (r.key_type, r.coordinator_keys) = (1, vec![x()])),
        request::<InitProducerIdRequest>(22, 4, |r| r.transactional_id = Some(x())),
        request::<InitProducerIdRequest>(22, 4, |r| r.transactional_id = None),
        add(3),
        add(4),
        request::<AddOffsetsToTxnRequest>(25, 3, |r| (r.transactional_id, r.group_id) = (x(), "g".into())),
        request::<EndTxnRequest>(26, 3, |r| r.transactional_id = x()),
        request::<WriteTxnMarkersRequest>(27, 1, |r| {
            r.markers = vec![build(|m: &mut write_txn_markers_request::WritableTxnMarker| {
                m.topics = vec![build(|t: &mut write_txn_markers_request::WritableTxnMarkerTopic| {
                    t.name = self::t();
                    t.partition_indexes = vec![0];
                })];
            })];
        }),
        request::<TxnOffsetCommitRequest>(28, 3, |r| {
            (r.transactional_id, r.group_id) = (x(), "g".into());
            r.topics = vec![build(|t: &mut txn_offset_commit_request::TxnOffsetCommitRequestTopic| {
                t.name = self::t();
                t.partitions = vec![Default::default()];
            })];
        }),
        request::<DescribeTransactionsRequest>(65, 0, |r| r.transactional_ids = vec![x()]),
        request::<ListTransactionsRequest>(66, 1, |_| {}),
    ]
}

/// Requests of the cluster, its configs and its brokers.
fn about_the_cluster() -> Vec<(i16, i16, BytesMut)> {
    use alter_configs_request::AlterConfigsResource as Altered;
    use describe_configs_request::DescribeConfigsResource as Described;
    use incremental_alter_configs_request::AlterConfigsResource as Changed;
    const RESOURCES: [(i8, &str); 3] = [(2, "t"), (32, "g"), (4, "")];
    vec![
        request::<ApiVersionsRequest>(18, 0, |_| {}),
        request::<EnvelopeRequest>(58, 0, |_| {}),
        request::<DescribeAclsRequest>(29, 1, |r| {
            (r.resource_type_filter, r.pattern_type_filter, r.operation, r.permission_type) = (1, 1, 1, 1);
        }),
        request::<CreateAclsRequest>(30, 1, |r| {
            r.creations = vec![build(|c: &mut create_acls_request::AclCreation| {
                (c.resource_type, c.resource_pattern_type, c.operation, c.permission_type) = (2, 3, 3, 3);
            })];
        }),
        request::<DeleteAclsRequest>(31, 1, |r| {
            r.filters = vec![build(|f: &mut delete_acls_request::DeleteAclsFilter| {
                (f.resource_type_filter, f.pattern_type_filter, f.operation, f.permission_type) =
                    (1, 1, 1, 1);
            })];
        }),
        request::<DescribeConfigsRequest>(32, 1, |r| {
            let one = |(kind, name): (i8, &str)| {
                build(|c: &mut Described| (c.resource_type, c.resource_name) = (kind, name.into()))
            };
            r.resources = RESOURCES.map(one).into();
        }),
        request::<AlterConfigsRequest>(33, 0, |r| {
            let one = |(kind, name): (i8, &str)| {
                build(|c: &mut Altered| (c.resource_type, c.resource_name) = (kind, name.into()))
            };
            r.resources = RESOURCES.map(one).into();
        }),
        request::<IncrementalAlterConfigsRequest>(44, 0, |r| {
            let one = |(kind, name): (i8, &str)| {
                build(|c: &mut Changed| (c.resource_type, c.resource_name) = (kind, name.into()))
            };
            r.resources = RESOURCES.map(one).into();
        }),
        request::<AlterReplicaLogDirsRequest>(34, 1, |r| {
            r.dirs = vec![build(|d: &mut alter_replica_log_dirs_request::AlterReplicaLogDir| {
                d.topics = vec![build(|t: &mut alter_replica_log_dirs_request::AlterReplicaLogDirTopic| {
                    t.name = self::t();
                    t.partitions = vec![0];
                })];
            })];
        }),
        request::<DescribeLogDirsRequest>(35, 3, |r| r.topics = None),
        request::<ElectLeadersRequest>(43, 1, |r| {
            r.topic_partitions = Some(vec![build(|t: &mut elect_leaders_request::TopicPartitions| {
                t.topic = self::t();
                t.partitions = vec![0];
            })]);
        }),
        request::<AlterPartitionReassignmentsRequest>(45, 0, |_| {}),
        request::<ListPartitionReassignmentsRequest>(46, 0, |_| {}),
        request::<DescribeClientQuotasRequest>(48, 0, |_| {}),
        request::<AlterClientQuotasRequest>(49, 0, |r| r.entries = vec![Default::default()]),
        request::<DescribeUserScramCredentialsRequest>(50, 0, |r| r.users = None),
        request::<DescribeQuorumRequest>(55, 0, |_| {}),
        request::<UpdateFeaturesRequest>(57, 1, |_| {}),
        request::<DescribeClusterRequest>(60, 0, |r| r.include_cluster_authorized_operations = true),
        request::<UnregisterBrokerRequest>(64, 0, |_| {}),
        request::<ListConfigResourcesRequest>(74, 1, |_| {}),
        request::<AddRaftVoterRequest>(80, 0, |r| r.cluster_id = None),
        request::<RemoveRaftVoterRequest>(81, 0, |r| r.cluster_id = None),
    ]
}

fn quorum_of_one() -> Status {
    let me = Voter { node: 1, directory: [1; 16] };
    let (membership, members) = (Membership::of_one(me), Vec::new());
    Status { me, leader: Some(me), epoch: 1, committed: 0, membership, members }
}

/// Answers what the shard asks of the control thread: topics are there already, and nothing else is done.
async fn control(shard: Rc<Shard>, port: Rc<Port>) {
    loop {
        port.drain(|from, request| match Asked::new(from, request) {
            Asked::Control(Control(ControlRequest::CreateTopics { topics, .. }), to) => {
                let image = shard.image();
                let topic = image.topic("t").unwrap();
                port.reply(
                    to,
                    ControlReply::CreateTopics(topics.iter().map(|_| Ok(topic.clone())).collect()),
                );
            }
            Asked::Control(_, to) => {
                let error = ControlError::new(ControlErrorKind::Unavailable, "not here");
                port.reply(to, ControlReply::Failed(error));
            }
            Asked::QuorumStatus(_, to) => port.reply(to, Box::new(quorum_of_one())),
            Asked::ChangeVoters(_, to) => port.reply(to, Ok(())),
            _ => unreachable!("for the control thread"),
        });
        shard.port.drain(|_, _| unreachable!("nobody asks the only shard"));
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// Of a client, or of another broker.
/// Another broker, which asks too.
const BROKER: BrokerId = 2;

fn connection(of_broker: bool) -> Rc<ConnectionContext> {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    let socket = Socket::of(door.accept().unwrap().0).unwrap();
    let mut accepted = Handoff::accepted(socket, BrokerSettings::default().listeners[0].clone());
    accepted.broker = of_broker.then(|| {
        Arc::new(Hello {
            cluster: String::new(),
            to: 1,
            broker: BROKER,
            epoch: 1,
            incarnation: [1; 16],
            directory: [1; 16],
            recovery: [0; 16],
            lane: Lane::Calls,
            shard: 0,
        })
    });
    Rc::new(ConnectionContext::split(accepted).1)
}

/// A shard with a topic, a group that has an offset, and a transaction that has a partition.
async fn inhabited(dir: &std::path::Path) -> Rc<Shard> {
    let me = BrokerSettings::default().broker_id;
    let one = || vec![vec![me]];
    let topics = [("t", one()), (CONSUMER_OFFSETS, one()), (TRANSACTION_STATE, one())];
    let (shard, port) = alone(dir, &topics).await;
    shard.start(|_, _| {});
    rt::spawn(control(shard.clone(), port));
    let topic = shard.image().topic("t").unwrap().id;
    let member = |group: &str| group::Member {
        group: group.into(),
        member: "".into(),
        instance: None,
        generation: -1,
    };
    let partition = group::CommitPartition { index: 0, offset: 0, leader_epoch: -1, metadata: "".into() };
    let offsets = group::Commit {
        from: member("g"),
        retention_ms: -1,
        says_not_found: false,
        topics: vec![group::CommitTopic { name: "t".into(), id: topic, partitions: vec![partition] }],
    };
    shard.group("g", group::ask::commit(offsets)).await.unwrap().unwrap();
    let granted = shard
        .transaction("x", txn::ask::init("x".into(), 60_000, None, Some(crate::model::ProducerId(7))))
        .await;
    let producer = granted.unwrap().unwrap().unwrap();
    let add = txn::ask::add("x".into(), producer, vec![("t".into(), 0)], txn::Version::V2, false);
    shard.transaction("x", add).await.unwrap().unwrap();
    shard
}

/// Waits for an answer, but not for one that takes its time, such as a JoinGroup's.
async fn answer(
    shard: &Rc<Shard>,
    connection: &Rc<ConnectionContext>,
    (api_key, api_version, body): (i16, i16, BytesMut),
) {
    let header = RequestHeader { api_key, api_version, correlation_id: 1, client_id: None };
    let mut pending = start(shard, connection, header, body);
    let mut patience = pin!(rt::sleep(Duration::from_millis(100)));
    std::future::poll_fn(|cx| match pending.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => patience.as_mut().poll(cx),
    })
    .await;
}

/// Who asks for something that his API's row does not say is stopped by an assertion; here every row is held against
/// what its API asks, and nobody is given anything that is denied to him.
#[test]
fn every_api_asks_what_its_row_says() {
    rt::block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let shard = inhabited(dir.path()).await;
        let errors = |key: i16| -> BTreeSet<i16> {
            let snapshot = shard.metrics.snapshot();
            let of = snapshot.apis.iter().filter(|api| api.key == key);
            of.flat_map(|api| api.errors.iter().map(|(code, _)| *code)).collect()
        };
        let requests: Vec<_> =
            [about_topics(), about_groups(), about_transactions(), about_the_cluster()].concat();
        let mut wrong = Vec::new();
        for api in table::TABLE {
            ASKED.take();
            // A broker follows by the API that clients read by.
            let connection = connection(api.for_brokers || api.name == "Fetch");
            let of_api: Vec<_> = requests.iter().filter(|(key, ..)| *key == api.key).collect();
            assert!(!of_api.is_empty(), "{} has no request here", api.name);
            // Denied first: its errors are then those of the denial.
            for (nth, policy) in [POLICIES[1], POLICIES[2], POLICIES[0]].into_iter().enumerate() {
                shard.set_access(policy);
                for request in &of_api {
                    answer(&shard, &connection, (*request).clone()).await;
                }
                if nth == 0 {
                    let (errors, silent) = (errors(api.key), NOTHING_REFUSED.contains(&api.key));
                    let refusals = [29, 30, 31, 53];
                    if errors.is_empty() != silent || !errors.iter().all(|code| refusals.contains(code)) {
                        wrong.push(format!("{} answers {errors:?} where all is denied", api.name));
                    }
                }
            }
            let rows: Asks =
                api.checks.iter().map(|(operation, kind)| (*operation as u8, *kind as u8)).collect();
            let missing: Vec<_> = rows.difference(&ASKED.take()).copied().collect();
            if !missing.is_empty() {
                wrong.push(format!("{} does not ask {missing:?} (operation, resource type)", api.name));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
