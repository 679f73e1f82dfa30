// segmentio's kafka-go against BROKER: every codec (it has no idempotent producer), readers by partition, a group of three
// whose members join, leave and die, commit and resume, admin.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

var (
	broker         = os.Getenv("BROKER")
	run            = fmt.Sprintf("kafka-go-%d", os.Getpid())
	passed, failed int
)

func check(what string, body func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := body(ctx); err != nil {
		failed++
		fmt.Printf("  FAILED: %s\n      %v\n", what, err)
		return
	}
	passed++
	fmt.Printf("  ok: %s\n", what)
}

func eventually(what string, limit time.Duration, holds func() bool) error {
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, limit)
		}
	}
	return nil
}

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func client() *kafka.Client {
	return &kafka.Client{Addr: net.Addr(address(broker)), Timeout: 20 * time.Second}
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
	return topic, eventually(topic+" appears", 10*time.Second, func() bool {
		found, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		return err == nil && len(found.Topics) == 1 && len(found.Topics[0].Partitions) == partitions && found.Topics[0].Partitions[0].Error == nil
	})
}

func produce(ctx context.Context, topic string, first, count int, codec kafka.Compression, acks kafka.RequiredAcks) error {
	w := &kafka.Writer{
		Addr: kafka.TCP(broker), Topic: topic, RequiredAcks: acks, Compression: codec, Balancer: &kafka.RoundRobin{},
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
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker}, Topic: topic, Partition: partition, MaxWait: 200 * time.Millisecond})
	return r, r.SetOffset(offset)
}

func producers() {
	codecs := map[string]kafka.Compression{"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	for name, codec := range codecs {
		check("codec "+name, func(ctx context.Context) error {
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

// A member counts what it gets and knows how many partitions are its own.
type member struct {
	mu    sync.Mutex
	owned int
	got   map[string]int
	say   func(string)
	stop  func()
}

func (m *member) own(n int) {
	m.mu.Lock()
	m.owned = n
	m.mu.Unlock()
	m.say(fmt.Sprintf("owns %d", n))
}

func (m *member) count() (int, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owned, len(m.got)
}

// serve reads a partition until the generation ends, committing every message.
func (m *member) serve(ctx context.Context, g *kafka.Generation, topic string, assigned kafka.PartitionAssignment) {
	r, err := reader(topic, assigned.ID, assigned.Offset)
	if err != nil {
		m.say("error " + err.Error())
		return
	}
	defer r.Close()
	for {
		message, err := r.ReadMessage(ctx)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.got[string(message.Value)]++
		m.mu.Unlock()
		m.say("got " + string(message.Value))
		if err := g.CommitOffsets(map[string]map[int]int64{topic: {assigned.ID: message.Offset + 1}}); err != nil {
			m.say("error " + err.Error())
		}
	}
}

func join(topic, group string, say func(string)) (*member, error) {
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: []string{broker}, Topics: []string{topic}, StartOffset: kafka.FirstOffset,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 500 * time.Millisecond, RebalanceTimeout: 10 * time.Second,
		JoinGroupBackoff: 200 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	m := &member{got: map[string]int{}, say: say}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			generation, err := g.Next(context.Background())
			if errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if err != nil {
				say("error " + err.Error())
				continue
			}
			assignments := generation.Assignments[topic]
			m.own(len(assignments))
			for _, assigned := range assignments {
				generation.Start(func(ctx context.Context) { m.serve(ctx, generation, topic, assigned) })
			}
		}
	}()
	m.stop = func() { g.Close(); <-ended }
	return m, nil
}

// process starts a member as a process of its own, which can be killed, and follows what it says.
func process(topic, group string) (*member, *exec.Cmd, error) {
	cmd := exec.Command(os.Args[0], "member", topic, group)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	m := &member{got: map[string]int{}}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			m.mu.Lock()
			if value, is := strings.CutPrefix(lines.Text(), "got "); is {
				m.got[value]++
			} else {
				fmt.Sscanf(lines.Text(), "owns %d", &m.owned)
			}
			m.mu.Unlock()
		}
	}()
	return m, cmd, cmd.Start()
}

func groups() {
	silent := func(string) {}
	topic, group := "", run+"-group"
	var first, second, third *member
	var victim *exec.Cmd
	all := func() int {
		seen := map[string]bool{}
		for _, m := range []*member{first, second, third} {
			m.mu.Lock()
			for value := range m.got {
				seen[value] = true
			}
			m.mu.Unlock()
		}
		return len(seen)
	}
	owned := func(want ...int) func() bool {
		return func() bool {
			for i, m := range []*member{first, second, third}[:len(want)] {
				if n, _ := m.count(); n != want[i] {
					return false
				}
			}
			return true
		}
	}
	check("a group of three shares six partitions", func(ctx context.Context) (err error) {
		if topic, err = create(ctx, "group", 6); err != nil {
			return err
		}
		if first, err = join(topic, group, silent); err != nil {
			return err
		}
		if second, err = join(topic, group, silent); err != nil {
			return err
		}
		if third, victim, err = process(topic, group); err != nil {
			return err
		}
		if err := eventually("two partitions each", 30*time.Second, owned(2, 2, 2)); err != nil {
			return err
		}
		if err := produce(ctx, topic, 0, 300, 0, kafka.RequireAll); err != nil {
			return err
		}
		return eventually("300 records", 20*time.Second, func() bool { return all() == 300 })
	})
	check("a member that dies is replaced", func(ctx context.Context) error {
		victim.Process.Kill()
		victim.Wait()
		if err := eventually("three partitions each", 30*time.Second, owned(3, 3)); err != nil {
			return err
		}
		if err := produce(ctx, topic, 300, 300, 0, kafka.RequireAll); err != nil {
			return err
		}
		return eventually("600 records", 20*time.Second, func() bool { return all() == 600 })
	})
	check("a member that leaves is replaced at once", func(context.Context) error {
		second.stop()
		return eventually("six partitions", 5*time.Second, owned(6))
	})
	check("a group resumes where it committed", func(ctx context.Context) error {
		first.stop()
		if err := produce(ctx, topic, 600, 100, 0, kafka.RequireAll); err != nil {
			return err
		}
		m, err := join(topic, group, silent)
		if err != nil {
			return err
		}
		defer m.stop()
		if err := eventually("100 records", 20*time.Second, func() bool { _, n := m.count(); return n >= 100 }); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond)
		if _, n := m.count(); n != 100 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
	check("admin: groups and their offsets", func(ctx context.Context) error {
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
	check("admin: topics, partitions, configs", func(ctx context.Context) error {
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
		if err := eventually("the config is told", 5*time.Second, func() bool {
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
	check("admin: elections, reassignments, quotas", func(ctx context.Context) error {
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
		if err := eventually("the quota is told", 5*time.Second, func() bool {
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
	if len(os.Args) == 4 && os.Args[1] == "member" {
		if _, err := join(os.Args[2], os.Args[3], func(line string) { fmt.Println(line) }); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		select {}
	}
	producers()
	groups()
	administration()
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
