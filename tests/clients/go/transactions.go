// Transactions with franz-go: its transactional client, and the session that moves records from topic to topic.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"weir/tests/clients/gosuite"
)

func record(topic string, partition int32, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}
}

func open(ctx context.Context, id string) (*gosuite.Producer, error) {
	c := client(kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	// A producer takes its epoch, and fences who has its id, with its first request.
	if _, _, err := c.ProducerID(ctx); err != nil {
		return nil, err
	}
	return &gosuite.Producer{
		Begin:  c.BeginTransaction,
		Commit: func() error { return c.EndTransaction(ctx, kgo.TryCommit) },
		Abort:  func() error { return c.EndTransaction(ctx, kgo.TryAbort) },
		Send: func(ctx context.Context, topic string, partition int32, values ...string) error {
			var records []*kgo.Record
			for _, value := range values {
				records = append(records, record(topic, partition, value))
			}
			return c.ProduceSync(ctx, records...).FirstErr()
		},
		Close: c.Close,
	}, nil
}

func follow(ctx context.Context, topic string, committed bool, each func(int32, string)) error {
	isolation := kgo.ReadUncommitted()
	if committed {
		isolation = kgo.ReadCommitted()
	}
	c := client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(isolation), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	for ctx.Err() == nil {
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) { each(r.Partition, string(r.Value)) })
	}
	return nil
}

func move(ctx context.Context, group, from, to string, count int, commit bool) ([]string, error) {
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(gosuite.Broker), kgo.TransactionalID(group), kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.Begin(); err != nil {
		return nil, err
	}
	var moved []string
	for len(moved) < count {
		fetches := s.PollRecords(ctx, count-len(moved))
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for _, r := range fetches.Records() {
			moved = append(moved, string(r.Value))
			if err := s.ProduceSync(ctx, record(to, 0, string(r.Value))).FirstErr(); err != nil {
				return nil, err
			}
		}
	}
	committed, err := s.End(ctx, kgo.TransactionEndTry(commit))
	if err == nil && committed != commit {
		err = fmt.Errorf("committed: %v", committed)
	}
	return moved, err
}

func committed(ctx context.Context, group, topic string) (int64, error) {
	adm := kadm.NewClient(client())
	defer adm.Close()
	offsets, err := adm.FetchOffsets(ctx, group)
	if err != nil {
		return 0, err
	}
	if offset, ok := offsets.Lookup(topic, 0); ok {
		return offset.At, offset.Err
	}
	return -1, nil
}

func transactions() {
	gosuite.Transactional{
		Create: func(ctx context.Context, name string) (string, error) {
			return create(ctx, "transactions-"+name, 2, nil)
		},
		Open: open, Follow: follow, Move: move, Committed: committed,
		Fenced: func(err error) bool {
			return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
		},
	}.Run()
}
