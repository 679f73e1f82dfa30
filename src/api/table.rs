//! The registry of APIs: what is dispatched, advertised and counted. An API that is not here does not exist.

use super::frames::{decode, malformed};
use super::request::Api;
use super::throttle::Answer;
use super::{
    add_offsets_to_txn, add_partitions_to_txn, add_raft_voter, alter_client_quotas, alter_configs,
    alter_partition_reassignments, alter_replica_log_dirs, api_versions, create_acls, create_partitions,
    create_topics, delete_acls, delete_groups, delete_records, delete_topics, describe_acls,
    describe_client_quotas, describe_cluster, describe_configs, describe_groups, describe_log_dirs,
    describe_producers, describe_quorum, describe_topic_partitions, describe_transactions,
    describe_user_scram_credentials, elect_leaders, end_txn, envelope, fetch, find_coordinator, heartbeat,
    incremental_alter_configs, init_producer_id, join_group, leave_group, list_config_resources, list_groups,
    list_offsets, list_partition_reassignments, list_transactions, metadata, offset_commit, offset_delete,
    offset_fetch, offset_for_leader_epoch, produce, remove_raft_voter, sync_group, txn_offset_commit,
    unregister_broker, update_features, write_txn_markers,
};
use crate::security::{Operation, ResourceType};

use Operation::{
    Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read,
    Write,
};
use ResourceType::{Cluster, Group, Topic, TransactionalId};

/// An API; `forwarded` or `for_brokers` before its key, where that is so; last what its handler has to be given of this table.
macro_rules! api {
    (forwarded $($row:tt)*) => { Api { forwarded: true, ..api!($($row)*) } };
    (for_brokers $($row:tt)*) => { Api { for_brokers: true, ..api!($($row)*) } };
    ($key:literal, $name:literal, $versions:expr, $module:ident, $request:ident, $checks:expr $(, $given:expr)?) => {
        Api {
            key: $key,
            name: $name,
            advertised_min: *$versions.start(),
            min: *$versions.start(),
            max: *$versions.end(),
            checks: &$checks,
            forwarded: false,
            for_brokers: false,
            start: |cx, body| {
                Box::pin(async move {
                    match decode::<kafka_wire::$request>(&cx, body) {
                        Ok(request) => $module::handle(&cx, request $(, $given)?).await.outcome(&cx),
                        Err(e) => malformed($name, &e),
                    }
                })
            },
        }
    };
}

/// Every API, by key, each on a line.
#[rustfmt::skip]
pub const TABLE: &[Api] = &[
    Api { key: 0, name: "Produce", advertised_min: 0, min: 3, max: 13, checks: &[(Write, TransactionalId), (Write, Topic)], forwarded: false, for_brokers: false, start: produce::start },
    Api { key: 1, name: "Fetch", advertised_min: 4, min: 4, max: 18, checks: &[(Read, Topic), (ClusterAction, Cluster)], forwarded: false, for_brokers: false, start: fetch::start },
    api!(2, "ListOffsets", 1..=11, list_offsets, ListOffsetsRequest, [(Describe, Topic)]),
    api!(3, "Metadata", 0..=13, metadata, MetadataRequest, [(Describe, Topic), (Create, Topic), (Create, Cluster), (Describe, Cluster)]),
    api!(8, "OffsetCommit", 2..=10, offset_commit, OffsetCommitRequest, [(Read, Group), (Read, Topic)]),
    api!(9, "OffsetFetch", 1..=10, offset_fetch, OffsetFetchRequest, [(Describe, Group), (Describe, Topic)]),
    api!(10, "FindCoordinator", 0..=6, find_coordinator, FindCoordinatorRequest, [(Describe, Group), (Describe, TransactionalId)]),
    api!(11, "JoinGroup", 0..=9, join_group, JoinGroupRequest, [(Read, Group)]),
    api!(12, "Heartbeat", 0..=4, heartbeat, HeartbeatRequest, [(Read, Group)]),
    api!(13, "LeaveGroup", 0..=5, leave_group, LeaveGroupRequest, [(Read, Group)]),
    api!(14, "SyncGroup", 0..=5, sync_group, SyncGroupRequest, [(Read, Group)]),
    api!(15, "DescribeGroups", 0..=6, describe_groups, DescribeGroupsRequest, [(Describe, Group)]),
    api!(16, "ListGroups", 0..=5, list_groups, ListGroupsRequest, [(Describe, Cluster), (Describe, Group)]),
    api!(18, "ApiVersions", 0..=4, api_versions, ApiVersionsRequest, [], advertised()),
    api!(forwarded 19, "CreateTopics", 2..=7, create_topics, CreateTopicsRequest, [(Create, Cluster), (Create, Topic), (DescribeConfigs, Topic)]),
    api!(forwarded 20, "DeleteTopics", 1..=6, delete_topics, DeleteTopicsRequest, [(Delete, Cluster), (Delete, Topic)]),
    api!(21, "DeleteRecords", 0..=2, delete_records, DeleteRecordsRequest, [(Delete, Topic)]),
    api!(22, "InitProducerId", 0..=5, init_producer_id, InitProducerIdRequest, [(Write, TransactionalId), (IdempotentWrite, Cluster), (Write, Topic)]),
    api!(23, "OffsetForLeaderEpoch", 2..=4, offset_for_leader_epoch, OffsetForLeaderEpochRequest, [(Describe, Topic), (ClusterAction, Cluster)]),
    api!(24, "AddPartitionsToTxn", 0..=5, add_partitions_to_txn, AddPartitionsToTxnRequest, [(Write, TransactionalId), (Write, Topic), (ClusterAction, Cluster)]),
    api!(25, "AddOffsetsToTxn", 0..=4, add_offsets_to_txn, AddOffsetsToTxnRequest, [(Write, TransactionalId), (Read, Group)]),
    api!(26, "EndTxn", 0..=5, end_txn, EndTxnRequest, [(Write, TransactionalId)]),
    api!(27, "WriteTxnMarkers", 1..=2, write_txn_markers, WriteTxnMarkersRequest, [(ClusterAction, Cluster), (Alter, Cluster)]),
    api!(28, "TxnOffsetCommit", 0..=5, txn_offset_commit, TxnOffsetCommitRequest, [(Write, TransactionalId), (Read, Group), (Read, Topic)]),
    api!(29, "DescribeAcls", 1..=3, describe_acls, DescribeAclsRequest, [(Describe, Cluster)]),
    api!(30, "CreateAcls", 1..=3, create_acls, CreateAclsRequest, [(Alter, Cluster)]),
    api!(31, "DeleteAcls", 1..=3, delete_acls, DeleteAclsRequest, [(Alter, Cluster)]),
    api!(32, "DescribeConfigs", 1..=4, describe_configs, DescribeConfigsRequest, [(DescribeConfigs, Topic), (DescribeConfigs, Group), (DescribeConfigs, Cluster)]),
    api!(forwarded 33, "AlterConfigs", 0..=2, alter_configs, AlterConfigsRequest, [(AlterConfigs, Topic), (AlterConfigs, Group), (AlterConfigs, Cluster)]),
    api!(34, "AlterReplicaLogDirs", 1..=2, alter_replica_log_dirs, AlterReplicaLogDirsRequest, [(Alter, Cluster)]),
    api!(35, "DescribeLogDirs", 1..=5, describe_log_dirs, DescribeLogDirsRequest, [(Describe, Cluster)]),
    api!(forwarded 37, "CreatePartitions", 0..=3, create_partitions, CreatePartitionsRequest, [(Alter, Topic)]),
    api!(42, "DeleteGroups", 0..=2, delete_groups, DeleteGroupsRequest, [(Delete, Group)]),
    api!(forwarded 43, "ElectLeaders", 0..=2, elect_leaders, ElectLeadersRequest, [(Alter, Cluster)]),
    api!(forwarded 44, "IncrementalAlterConfigs", 0..=1, incremental_alter_configs, IncrementalAlterConfigsRequest, [(AlterConfigs, Topic), (AlterConfigs, Group), (AlterConfigs, Cluster)]),
    api!(forwarded 45, "AlterPartitionReassignments", 0..=1, alter_partition_reassignments, AlterPartitionReassignmentsRequest, [(Alter, Cluster)]),
    api!(forwarded 46, "ListPartitionReassignments", 0..=0, list_partition_reassignments, ListPartitionReassignmentsRequest, [(Describe, Cluster)]),
    api!(47, "OffsetDelete", 0..=0, offset_delete, OffsetDeleteRequest, [(Delete, Group), (Read, Topic)]),
    api!(48, "DescribeClientQuotas", 0..=1, describe_client_quotas, DescribeClientQuotasRequest, [(DescribeConfigs, Cluster)]),
    api!(forwarded 49, "AlterClientQuotas", 0..=1, alter_client_quotas, AlterClientQuotasRequest, [(AlterConfigs, Cluster)]),
    api!(50, "DescribeUserScramCredentials", 0..=0, describe_user_scram_credentials, DescribeUserScramCredentialsRequest, [(Describe, Cluster)]),
    api!(forwarded 55, "DescribeQuorum", 0..=2, describe_quorum, DescribeQuorumRequest, [(Describe, Cluster)]),
    api!(forwarded 57, "UpdateFeatures", 0..=2, update_features, UpdateFeaturesRequest, [(Alter, Cluster)]),
    api!(for_brokers 58, "Envelope", 0..=0, envelope, EnvelopeRequest, [(ClusterAction, Cluster)], find),
    api!(60, "DescribeCluster", 0..=2, describe_cluster, DescribeClusterRequest, [(Describe, Cluster)]),
    api!(61, "DescribeProducers", 0..=0, describe_producers, DescribeProducersRequest, [(Read, Topic)]),
    api!(forwarded 64, "UnregisterBroker", 0..=0, unregister_broker, UnregisterBrokerRequest, [(Alter, Cluster)]),
    api!(65, "DescribeTransactions", 0..=0, describe_transactions, DescribeTransactionsRequest, [(Describe, TransactionalId), (Describe, Topic)]),
    api!(66, "ListTransactions", 0..=2, list_transactions, ListTransactionsRequest, [(Describe, TransactionalId)]),
    api!(74, "ListConfigResources", 0..=1, list_config_resources, ListConfigResourcesRequest, [(DescribeConfigs, Cluster)]),
    api!(75, "DescribeTopicPartitions", 0..=0, describe_topic_partitions, DescribeTopicPartitionsRequest, [(Describe, Topic)]),
    api!(forwarded 80, "AddRaftVoter", 0..=1, add_raft_voter, AddRaftVoterRequest, [(Alter, Cluster)]),
    api!(forwarded 81, "RemoveRaftVoter", 0..=0, remove_raft_voter, RemoveRaftVoterRequest, [(Alter, Cluster)]),
];

pub fn find(key: i16) -> Option<&'static Api> {
    TABLE.iter().find(|api| api.key == key)
}

/// What ApiVersions advertises: (key, lowest, highest).
pub fn advertised() -> impl Iterator<Item = (i16, i16, i16)> {
    TABLE.iter().filter(|api| !api.for_brokers).map(|api| (api.key, api.advertised_min, api.max))
}
