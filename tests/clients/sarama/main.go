// sarama against BROKER: every codec with idempotence on and off, consumers by partition, a group of three whose members
// join, leave and die, commit and resume, transactions (transactions.go), admin.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"
	"weir/tests/clients/gosuite"
)

var run = fmt.Sprintf("sarama-%d", os.Getpid())

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID = run
	c.Version = sarama.V3_9_0_0
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Interval = 100 * time.Millisecond
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	c.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	return c
}

func admin() (sarama.ClusterAdmin, error) {
	return sarama.NewClusterAdmin([]string{gosuite.Broker}, config())
}

func create(name string, partitions int32) (string, error) {
	topic := run + "-" + name
	adm, err := admin()
	if err != nil {
		return "", err
	}
	defer adm.Close()
	if err := adm.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false); err != nil {
		return "", err
	}
	return topic, gosuite.Eventually(topic+" appears", 10*time.Second, func() bool {
		found, err := adm.DescribeTopics([]string{topic})
		return err == nil && len(found) == 1 && len(found[0].Partitions) == int(partitions)
	})
}

// produce sends the numbers from first on, spread over the partitions.
func produce(topic string, first, count int, change func(*sarama.Config)) error {
	c := config()
	change(c)
	p, err := sarama.NewSyncProducer([]string{gosuite.Broker}, c)
	if err != nil {
		return err
	}
	defer p.Close()
	for i := first; i < first+count; i += 100 {
		var batch []*sarama.ProducerMessage
		for n := i; n < min(i+100, first+count); n++ {
			value := fmt.Sprint(n)
			batch = append(batch, &sarama.ProducerMessage{
				Topic: topic, Key: sarama.StringEncoder("k" + value), Value: sarama.StringEncoder(value),
				Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("v")}},
			})
		}
		if err := p.SendMessages(batch); err != nil {
			return err
		}
	}
	return nil
}

func asIs(*sarama.Config) {}

// read takes count records of every partition, from the beginning.
func read(topic string, count int) (map[string]int, error) {
	c, err := sarama.NewConsumer([]string{gosuite.Broker}, config())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	partitions, err := c.Partitions(topic)
	if err != nil {
		return nil, err
	}
	found := make(chan *sarama.ConsumerMessage, 1000)
	for _, partition := range partitions {
		pc, err := c.ConsumePartition(topic, partition, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		defer pc.Close()
		go func() {
			for m := range pc.Messages() {
				found <- m
			}
		}()
	}
	seen := map[string]int{}
	for range count {
		select {
		case m := <-found:
			if string(m.Key) != "k"+string(m.Value) || len(m.Headers) != 1 {
				return nil, fmt.Errorf("offset %d holds %s = %s", m.Offset, m.Key, m.Value)
			}
			seen[string(m.Value)]++
		case <-time.After(20 * time.Second):
			return nil, fmt.Errorf("%d of %d", len(seen), count)
		}
	}
	return seen, nil
}

func producers() {
	codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD}
	for _, codec := range codecs {
		for _, idempotent := range []bool{false, true} {
			gosuite.Check(fmt.Sprintf("codec %v, idempotent %v", codec, idempotent), func(context.Context) error {
				topic, err := create(fmt.Sprintf("%v-%v", codec, idempotent), 2)
				if err != nil {
					return err
				}
				err = produce(topic, 0, 1000, func(c *sarama.Config) {
					c.Producer.Compression = codec
					c.Producer.Idempotent = idempotent
					if idempotent {
						c.Net.MaxOpenRequests = 1
					}
				})
				if err != nil {
					return err
				}
				seen, err := read(topic, 1000)
				if err == nil && len(seen) != 1000 {
					err = fmt.Errorf("%d values", len(seen))
				}
				return err
			})
		}
	}
}

// A member as sarama calls it.
type member struct{ *gosuite.Member }

func (m member) Setup(s sarama.ConsumerGroupSession) error {
	n := 0
	for _, partitions := range s.Claims() {
		n += len(partitions)
	}
	m.Own(n)
	return nil
}

func (m member) Cleanup(sarama.ConsumerGroupSession) error {
	m.Own(0)
	return nil
}

func (m member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case r, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			m.Got(r.Value)
			s.MarkMessage(r, "")
		case <-s.Context().Done():
			return nil
		}
	}
}

func join(m *gosuite.Member, topic, group string) error {
	g, err := sarama.NewConsumerGroup([]string{gosuite.Broker}, group, config())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, member{m}); err != nil {
				m.Failed(err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	m.Stop = func() { cancel(); <-ended; g.Close() }
	return nil
}

var tried = gosuite.Client{
	Create: func(context.Context) (string, error) { return create("group", 6) },
	Produce: func(_ context.Context, topic string, first, count int) error {
		return produce(topic, first, count, asIs)
	},
	Join: join,
}

func groups() {
	group := run + "-group"
	topic := tried.Groups(group)
	gosuite.Check("admin: groups and their offsets", func(context.Context) error {
		adm, err := admin()
		if err != nil {
			return err
		}
		defer adm.Close()
		listed, err := adm.ListConsumerGroups()
		if _, is := listed[group]; err != nil || !is {
			return fmt.Errorf("%v %v", listed, err)
		}
		described, err := adm.DescribeConsumerGroups([]string{group})
		if err != nil || described[0].State != "Empty" {
			return fmt.Errorf("%v %v", described, err)
		}
		offsets, err := adm.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1, 2, 3, 4, 5}})
		if err != nil {
			return err
		}
		sum := int64(0)
		for p := range int32(6) {
			sum += offsets.GetBlock(topic, p).Offset
		}
		if sum != 700 {
			return fmt.Errorf("committed up to %d", sum)
		}
		if err := adm.DeleteConsumerGroup(group); err != nil {
			return err
		}
		listed, err = adm.ListConsumerGroups()
		if _, is := listed[group]; err != nil || is {
			return fmt.Errorf("%v %v", listed, err)
		}
		return nil
	})
}

func administration() {
	gosuite.Check("admin: topics, partitions, configs, records", func(context.Context) error {
		topic, err := create("admin", 2)
		if err != nil {
			return err
		}
		adm, err := admin()
		if err != nil {
			return err
		}
		defer adm.Close()
		if err := adm.CreatePartitions(topic, 4, nil, false); err != nil {
			return err
		}
		value := "123000"
		entries := map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}
		if err := adm.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false); err != nil {
			return err
		}
		resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}}
		if err := gosuite.Eventually("the config is told", 5*time.Second, func() bool {
			found, err := adm.DescribeConfig(resource)
			return err == nil && len(found) == 1 && found[0].Value == value
		}); err != nil {
			return err
		}
		if err := produce(topic, 0, 100, func(c *sarama.Config) { c.Producer.Partitioner = sarama.NewRoundRobinPartitioner }); err != nil {
			return err
		}
		if err := adm.DeleteRecords(topic, map[int32]int64{0: 5}); err != nil {
			return err
		}
		c, err := sarama.NewClient([]string{gosuite.Broker}, config())
		if err != nil {
			return err
		}
		defer c.Close()
		if start, err := c.GetOffset(topic, 0, sarama.OffsetOldest); err != nil || start != 5 {
			return fmt.Errorf("begins at %d: %v", start, err)
		}
		return adm.DeleteTopic(topic)
	})
	gosuite.Check("admin: log directories, quotas, reassignments", func(context.Context) error {
		adm, err := admin()
		if err != nil {
			return err
		}
		defer adm.Close()
		dirs, err := adm.DescribeLogDirs([]int32{1})
		if err != nil || len(dirs[1]) != 1 {
			return fmt.Errorf("%v %v", dirs, err)
		}
		entity := []sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Name: run + "-limited"}}
		op := sarama.ClientQuotasOp{Key: "producer_byte_rate", Value: 1e9}
		if err := adm.AlterClientQuotas(entity, op, false); err != nil {
			return err
		}
		filter := []sarama.QuotaFilterComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Match: run + "-limited"}}
		if err := gosuite.Eventually("the quota is told", 5*time.Second, func() bool {
			found, err := adm.DescribeClientQuotas(filter, true)
			return err == nil && len(found) == 1 && found[0].Values["producer_byte_rate"] == 1e9
		}); err != nil {
			return err
		}
		op.Remove = true
		if err := adm.AlterClientQuotas(entity, op, false); err != nil {
			return err
		}
		topic, err := create("stays", 1)
		if err != nil {
			return err
		}
		moving, err := adm.ListPartitionReassignments(topic, []int32{0})
		if err != nil || len(moving[topic]) != 0 {
			return fmt.Errorf("%v %v", moving, err)
		}
		return adm.AlterPartitionReassignments(topic, [][]int32{{1}})
	})
}

func main() {
	tried.AsMember()
	producers()
	groups()
	transactions()
	administration()
	gosuite.End()
}
