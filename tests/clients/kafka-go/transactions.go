// Transactions with kafka-go, which can send a group's offsets in one, and no records.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"weir/tests/clients/gosuite"
)

func session(ctx context.Context, id string) (*kafka.ProducerSession, error) {
	reply, err := client().InitProducerID(ctx, &kafka.InitProducerIDRequest{TransactionalID: id, TransactionTimeoutMs: 15000, ProducerID: -1, ProducerEpoch: -1})
	if err == nil {
		err = reply.Error
	}
	// What a producer that was replaced had begun is aborted first.
	if errors.Is(err, kafka.ConcurrentTransactions) {
		time.Sleep(50 * time.Millisecond)
		return session(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	return reply.Producer, nil
}

// sendOffset sends an offset of partition 0 in a transaction.
func sendOffset(ctx context.Context, p *kafka.ProducerSession, id, topic string, offset int64) error {
	added, err := client().AddOffsetsToTxn(ctx, &kafka.AddOffsetsToTxnRequest{
		TransactionalID: id, ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, GroupID: id,
	})
	// A commit is answered before its markers are written, and the next transaction waits for them.
	if err == nil && errors.Is(added.Error, kafka.ConcurrentTransactions) {
		time.Sleep(50 * time.Millisecond)
		return sendOffset(ctx, p, id, topic, offset)
	}
	if err != nil || added.Error != nil {
		return fmt.Errorf("%v %v", added, err)
	}
	sent, err := client().TxnOffsetCommit(ctx, &kafka.TxnOffsetCommitRequest{
		TransactionalID: id, ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, GroupID: id, GenerationID: -1,
		Topics: map[string][]kafka.TxnOffsetCommit{topic: {{Partition: 0, Offset: offset}}},
	})
	if err != nil || sent.Topics[topic][0].Error != nil {
		return fmt.Errorf("%v %v", sent, err)
	}
	return nil
}

func endTransaction(ctx context.Context, p *kafka.ProducerSession, id string, commit bool) error {
	reply, err := client().EndTxn(ctx, &kafka.EndTxnRequest{
		TransactionalID: id, ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, Committed: commit,
	})
	if err != nil {
		return err
	}
	return reply.Error
}

func transactions() {
	gosuite.Check("transactions: offsets sent in one are there once it is committed, not when it is aborted; a zombie is fenced", func(ctx context.Context) error {
		id, err := create(ctx, "transactions", 1)
		if err != nil {
			return err
		}
		p, err := session(ctx, id)
		if err != nil {
			return err
		}
		for offset, step := range []struct {
			commit bool
			after  int64
		}{{false, -1}, {true, 1}, {false, 1}, {true, 3}} {
			if err := errors.Join(sendOffset(ctx, p, id, id, int64(offset)), endTransaction(ctx, p, id, step.commit)); err != nil {
				return err
			}
			if err := gosuite.Eventually(fmt.Sprint("offset ", step.after), 10*time.Second, func() bool {
				found, err := client().OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: id, Topics: map[string][]int{id: {0}}})
				return err == nil && found.Topics[id][0].CommittedOffset == step.after
			}); err != nil {
				return err
			}
		}
		if err := sendOffset(ctx, p, id, id, 9); err != nil {
			return err
		}
		if _, err := session(ctx, id); err != nil {
			return err
		}
		if err := endTransaction(ctx, p, id, true); !errors.Is(err, kafka.ProducerFenced) && !errors.Is(err, kafka.InvalidProducerEpoch) {
			return fmt.Errorf("the zombie's commit: %v", err)
		}
		return nil
	})
}
