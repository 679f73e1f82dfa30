// segmentio's kafka-go against BROKER: every codec (it has no idempotent producer), readers by partition, a group of three
// whose members join, leave and die, commit and resume, offsets in transactions (transactions.go), admin.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/segmentio/kafka-go"
	"weir/tests/clients/gosuite"
)

var run = fmt.Sprintf("kafka-go-%d", os.Getpid())

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func client() *kafka.Client {
	return &kafka.Client{Addr: net.Addr(address(gosuite.Broker)), Timeout: 20 * time.Second}
}

func create(ctx context.Context, name string, partitions int) (string, error) {
	topic := run + "-" + name
	c := client()
	reply, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}})
	if err != nil {
		return "", err
	}
	if reply.Errors[topic] != nil {
		return "", reply.Errors[topic]
	}
	return topic, gosuite.Eventually(topic+" appears", 10*time.Second, func() bool {
		found, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		return err == nil && len(found.Topics) == 1 && len(found.Topics[0].Partitions) == partitions && found.Topics[0].Partitions[0].Error == nil
	})
}

func produce(ctx context.Context, topic string, first, count int, codec kafka.Compression, acks kafka.RequiredAcks) error {
	w := &kafka.Writer{
		Addr: kafka.TCP(gosuite.Broker), Topic: topic, RequiredAcks: acks, Compression: codec, Balancer: &kafka.RoundRobin{},
		BatchTimeout: 5 * time.Millisecond, MaxAttempts: 5,
	}
	defer w.Close()
	for i := first; i < first+count; i += 100 {
		var batch []kafka.Message
		for n := i; n < min(i+100, first+count); n++ {
			value := fmt.Sprint(n)
			batch = append(batch, kafka.Message{Key: []byte("k" + value), Value: []byte(value), Headers: []kafka.Header{{Key: "h", Value: []byte("v")}}})
		}
		if err := w.WriteMessages(ctx, batch...); err != nil {
			return err
		}
	}
	return nil
}

// reader reads one partition from an offset on.
func reader(topic string, partition int, offset int64) (*kafka.Reader, error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{gosuite.Broker}, Topic: topic, Partition: partition, MaxWait: 200 * time.Millisecond})
	return r, r.SetOffset(offset)
}

func producers() {
	codecs := map[string]kafka.Compression{"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	for name, codec := range codecs {
		gosuite.Check("codec "+name, func(ctx context.Context) error {
			topic, err := create(ctx, name, 2)
			if err != nil {
				return err
			}
			acks := kafka.RequireAll
			if name == "gzip" {
				acks = kafka.RequireOne
			}
			if err := produce(ctx, topic, 0, 1000, codec, acks); err != nil {
				return err
			}
			seen := map[string]bool{}
			for partition := range 2 {
				r, err := reader(topic, partition, kafka.FirstOffset)
				if err != nil {
					return err
				}
				defer r.Close()
				for range 500 {
					m, err := r.ReadMessage(ctx)
					if err != nil {
						return fmt.Errorf("after %d: %w", len(seen), err)
					}
					if string(m.Key) != "k"+string(m.Value) || len(m.Headers) != 1 {
						return fmt.Errorf("offset %d holds %s = %s", m.Offset, m.Key, m.Value)
					}
					seen[string(m.Value)] = true
				}
			}
			if len(seen) != 1000 {
				return fmt.Errorf("%d values", len(seen))
			}
			return nil
		})
	}
}

// serve reads a partition until the generation ends, committing every message.
func serve(ctx context.Context, m *gosuite.Member, g *kafka.Generation, topic string, assigned kafka.PartitionAssignment) {
	r, err := reader(topic, assigned.ID, assigned.Offset)
	if err != nil {
		m.Failed(err)
		return
	}
	defer r.Close()
	for {
		message, err := r.ReadMessage(ctx)
		if err != nil {
			return
		}
		m.Got(message.Value)
		if err := g.CommitOffsets(map[string]map[int]int64{topic: {assigned.ID: message.Offset + 1}}); err != nil {
			m.Failed(err)
		}
	}
}

func join(m *gosuite.Member, topic, group string) error {
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: []string{gosuite.Broker}, Topics: []string{topic}, StartOffset: kafka.FirstOffset,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 500 * time.Millisecond, RebalanceTimeout: 10 * time.Second,
		JoinGroupBackoff: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			generation, err := g.Next(context.Background())
			if errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if err != nil {
				m.Failed(err)
				continue
			}
			assignments := generation.Assignments[topic]
			m.Own(len(assignments))
			for _, assigned := range assignments {
				generation.Start(func(ctx context.Context) { serve(ctx, m, generation, topic, assigned) })
			}
		}
	}()
	m.Stop = func() { g.Close(); <-ended }
	return nil
}

var tried = gosuite.Client{
	Create: func(ctx context.Context) (string, error) { return create(ctx, "group", 6) },
	Produce: func(ctx context.Context, topic string, first, count int) error {
		return produce(ctx, topic, first, count, 0, kafka.RequireAll)
	},
	Join: join,
}

func groups() {
	group := run + "-group"
	topic := tried.Groups(group)
	gosuite.Check("admin: groups and their offsets", func(ctx context.Context) error {
		c := client()
		listed, err := c.ListGroups(ctx, &kafka.ListGroupsRequest{})
		if err != nil || listed.Error != nil {
			return fmt.Errorf("%v %v", listed, err)
		}
		described, err := c.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
		if err != nil || described.Groups[0].GroupState != "Empty" {
			return fmt.Errorf("%v %v", described, err)
		}
		offsets, err := c.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {0, 1, 2, 3, 4, 5}}})
		if err != nil {
			return err
		}
		sum := int64(0)
		for _, p := range offsets.Topics[topic] {
			sum += p.CommittedOffset
		}
		if sum != 700 {
			return fmt.Errorf("committed up to %d", sum)
		}
		deleted, err := c.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
		if err != nil || deleted.Errors[group] != nil {
			return fmt.Errorf("%v %v", deleted, err)
		}
		return nil
	})
}

func administration() {
	gosuite.Check("admin: topics, partitions, configs", func(ctx context.Context) error {
		topic, err := create(ctx, "admin", 2)
		if err != nil {
			return err
		}
		c := client()
		grown, err := c.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 4}}})
		if err != nil || grown.Errors[topic] != nil {
			return fmt.Errorf("%v %v", grown, err)
		}
		set := kafka.IncrementalAlterConfigsRequestConfig{Name: "retention.ms", Value: "123000", ConfigOperation: kafka.ConfigOperationSet}
		resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, Configs: []kafka.IncrementalAlterConfigsRequestConfig{set}}
		altered, err := c.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{resource}})
		if err != nil || altered.Resources[0].Error != nil {
			return fmt.Errorf("%v %v", altered, err)
		}
		asked := kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"}}
		if err := gosuite.Eventually("the config is told", 5*time.Second, func() bool {
			found, err := c.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{asked}})
			return err == nil && len(found.Resources) == 1 && len(found.Resources[0].ConfigEntries) == 1 && found.Resources[0].ConfigEntries[0].ConfigValue == "123000"
		}); err != nil {
			return err
		}
		offsets, err := c.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(0)}}})
		if err != nil || offsets.Topics[topic][0].LastOffset != 0 {
			return fmt.Errorf("%v %v", offsets, err)
		}
		gone, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
		if err != nil || gone.Errors[topic] != nil {
			return fmt.Errorf("%v %v", gone, err)
		}
		return nil
	})
	gosuite.Check("admin: elections, reassignments, quotas", func(ctx context.Context) error {
		topic, err := create(ctx, "stays", 1)
		if err != nil {
			return err
		}
		c := client()
		elected, err := c.ElectLeaders(ctx, &kafka.ElectLeadersRequest{Topic: topic, Partitions: []int{0}, Timeout: 5 * time.Second})
		if err != nil || len(elected.PartitionResults) != 1 {
			return fmt.Errorf("%v %v", elected, err)
		}
		moving, err := c.ListPartitionReassignments(ctx, &kafka.ListPartitionReassignmentsRequest{Timeout: 5 * time.Second})
		if err != nil || moving.Error != nil || len(moving.Topics) != 0 {
			return fmt.Errorf("%v %v", moving, err)
		}
		entity := []kafka.AlterClientQuotaEntity{{EntityType: "client-id", EntityName: run + "-limited"}}
		entry := kafka.AlterClientQuotaEntry{Entities: entity, Ops: []kafka.AlterClientQuotaOps{{Key: "consumer_byte_rate", Value: 1e9}}}
		altered, err := c.AlterClientQuotas(ctx, &kafka.AlterClientQuotasRequest{Entries: []kafka.AlterClientQuotaEntry{entry}})
		if err != nil || altered.Entries[0].Error != nil {
			return fmt.Errorf("%v %v", altered, err)
		}
		filter := []kafka.DescribeClientQuotasRequestComponent{{EntityType: "client-id", Match: run + "-limited"}}
		if err := gosuite.Eventually("the quota is told", 5*time.Second, func() bool {
			found, err := c.DescribeClientQuotas(ctx, &kafka.DescribeClientQuotasRequest{Components: filter})
			return err == nil && len(found.Entries) == 1 && found.Entries[0].Values[0].Value == 1e9
		}); err != nil {
			return err
		}
		entry.Ops[0].Remove = true
		_, err = c.AlterClientQuotas(ctx, &kafka.AlterClientQuotasRequest{Entries: []kafka.AlterClientQuotaEntry{entry}})
		return err
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
