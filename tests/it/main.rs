//! The broker as a client sees it: one binary, so that it links once. `support` says how tests get their broker.

#![allow(clippy::field_reassign_with_default)]

mod support;

mod admin;
mod answers;
mod cli;
mod clients;
mod cluster;
mod compaction;
mod configs;
mod coordinators;
mod crash;
mod directory;
mod endurance;
mod failover;
mod fetch;
mod fills;
mod group_speed;
mod groups;
mod growth;
mod hostile;
mod limits;
mod memory;
mod network;
mod offsets;
mod operate;
mod perf;
mod process;
mod produce;
mod quotas;
mod records;
mod recover;
mod refusals;
mod repair;
mod restart;
mod retention;
mod small_disks;
mod steady;
mod storage;
mod strangers;
mod transactions;
mod voters;
