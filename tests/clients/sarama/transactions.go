// Transactions with sarama: its transactional producer, and a group's member that moves records from topic to topic.
package main

import (
	"context"
	"errors"

	"github.com/IBM/sarama"
	"weir/tests/clients/gosuite"
)

// transactional is a producer of this id; it takes its epoch, and fences who has its id, as it is made.
func transactional(id string) (sarama.SyncProducer, error) {
	c := config()
	c.Producer.Idempotent = true
	c.Producer.Transaction.ID = id
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Net.MaxOpenRequests = 1
	return sarama.NewSyncProducer([]string{gosuite.Broker}, c)
}

func open(_ context.Context, id string) (*gosuite.Producer, error) {
	p, err := transactional(id)
	if err != nil {
		return nil, err
	}
	send := func(_ context.Context, topic string, partition int32, values ...string) error {
		var batch []*sarama.ProducerMessage
		for _, value := range values {
			batch = append(batch, &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.StringEncoder(value)})
		}
		return p.SendMessages(batch)
	}
	return &gosuite.Producer{Begin: p.BeginTxn, Commit: p.CommitTxn, Abort: p.AbortTxn, Send: send, Close: func() { p.Close() }}, nil
}

func follow(ctx context.Context, topic string, committed bool, each func(int32, string)) error {
	settings := config()
	if committed {
		settings.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	c, err := sarama.NewConsumer([]string{gosuite.Broker}, settings)
	if err != nil {
		return err
	}
	defer c.Close()
	for partition := range int32(2) {
		pc, err := c.ConsumePartition(topic, partition, sarama.OffsetOldest)
		if err != nil {
			return err
		}
		defer pc.Close()
		go func() {
			for m := range pc.Messages() {
				each(m.Partition, string(m.Value))
			}
		}()
	}
	<-ctx.Done()
	return nil
}

// mover is a member that moves some records in one transaction.
type mover struct {
	producer  sarama.SyncProducer
	group, to string
	count     int
	commit    bool
	moved     chan []string
	failed    chan error
}

func (m mover) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (m mover) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m mover) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	if claim.Partition() != 0 {
		// The session ends with the first of its claims.
		<-s.Context().Done()
		return nil
	}
	moved, err := m.transaction(claim)
	m.failed <- err
	m.moved <- moved
	return nil
}

func (m mover) transaction(claim sarama.ConsumerGroupClaim) (moved []string, err error) {
	if err := m.producer.BeginTxn(); err != nil {
		return nil, err
	}
	for r := range claim.Messages() {
		moved = append(moved, string(r.Value))
		if _, _, err := m.producer.SendMessage(&sarama.ProducerMessage{Topic: m.to, Value: sarama.ByteEncoder(r.Value)}); err != nil {
			return moved, err
		}
		if err := m.producer.AddMessageToTxn(r, m.group, nil); err != nil {
			return moved, err
		}
		if len(moved) == m.count {
			break
		}
	}
	if m.commit {
		return moved, m.producer.CommitTxn()
	}
	return moved, m.producer.AbortTxn()
}

func move(ctx context.Context, group, from, to string, count int, commit bool) ([]string, error) {
	producer, err := transactional(group)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	settings := config()
	settings.Consumer.IsolationLevel = sarama.ReadCommitted
	settings.Consumer.Offsets.AutoCommit.Enable = false
	g, err := sarama.NewConsumerGroup([]string{gosuite.Broker}, group, settings)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := mover{producer, group, to, count, commit, make(chan []string, 1), make(chan error, 2)}
	go func() {
		if err := g.Consume(ctx, []string{from}, m); err != nil {
			m.failed <- err
		}
	}()
	select {
	case err := <-m.failed:
		if err != nil {
			return nil, err
		}
		return <-m.moved, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func committed(_ context.Context, group, topic string) (int64, error) {
	adm, err := admin()
	if err != nil {
		return 0, err
	}
	defer adm.Close()
	offsets, err := adm.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
	if err != nil {
		return 0, err
	}
	return offsets.GetBlock(topic, 0).Offset, nil
}

func transactions() {
	gosuite.Transactional{
		Create: func(_ context.Context, name string) (string, error) { return create("transactions-"+name, 2) },
		Open:   open, Follow: follow, Move: move, Committed: committed,
		Fenced: func(err error) bool {
			return errors.Is(err, sarama.ErrProducerFenced) || errors.Is(err, sarama.ErrInvalidProducerEpoch)
		},
	}.Run()
}
