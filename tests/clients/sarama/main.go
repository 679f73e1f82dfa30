// sarama against BROKER: every codec with idempotence on and off, consumers by partition, a group of three whose members
// join, leave and die, commit and resume, admin.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var (
	broker         = os.Getenv("BROKER")
	run            = fmt.Sprintf("sarama-%d", os.Getpid())
	passed, failed int
)

func check(what string, body func() error) {
	done := make(chan error, 1)
	go func() { done <- body() }()
	var err error
	select {
	case err = <-done:
	case <-time.After(time.Minute):
		err = errors.New("took over a minute")
	}
	if err != nil {
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

func admin() (sarama.ClusterAdmin, error) { return sarama.NewClusterAdmin([]string{broker}, config()) }

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
	return topic, eventually(topic+" appears", 10*time.Second, func() bool {
		found, err := adm.DescribeTopics([]string{topic})
		return err == nil && len(found) == 1 && len(found[0].Partitions) == int(partitions)
	})
}

// produce sends the numbers from first on, spread over the partitions.
func produce(topic string, first, count int, change func(*sarama.Config)) error {
	c := config()
	change(c)
	p, err := sarama.NewSyncProducer([]string{broker}, c)
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
	c, err := sarama.NewConsumer([]string{broker}, config())
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
			check(fmt.Sprintf("codec %v, idempotent %v", codec, idempotent), func() error {
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

// A member counts what it gets and knows which partitions are its own.
type member struct {
	mu    sync.Mutex
	owned int
	got   map[string]int
	say   func(string)
	stop  func()
}

func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	n := 0
	for _, partitions := range s.Claims() {
		n += len(partitions)
	}
	m.mu.Lock()
	m.owned = n
	m.mu.Unlock()
	m.say(fmt.Sprintf("owns %d", n))
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owned = 0
	return nil
}

func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case r, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			m.mu.Lock()
			m.got[string(r.Value)]++
			m.mu.Unlock()
			m.say("got " + string(r.Value))
			s.MarkMessage(r, "")
		case <-s.Context().Done():
			return nil
		}
	}
}

func (m *member) count() (int, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owned, len(m.got)
}

func join(topic, group string, say func(string)) (*member, error) {
	g, err := sarama.NewConsumerGroup([]string{broker}, group, config())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{got: map[string]int{}, say: say}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); err != nil {
				say("error " + err.Error())
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	m.stop = func() { cancel(); <-ended; g.Close() }
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
	check("a group of three shares six partitions", func() (err error) {
		if topic, err = create("group", 6); err != nil {
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
		if err := produce(topic, 0, 300, asIs); err != nil {
			return err
		}
		return eventually("300 records", 20*time.Second, func() bool { return all() == 300 })
	})
	check("a member that dies is replaced", func() error {
		victim.Process.Kill()
		victim.Wait()
		if err := eventually("three partitions each", 30*time.Second, owned(3, 3)); err != nil {
			return err
		}
		if err := produce(topic, 300, 300, asIs); err != nil {
			return err
		}
		return eventually("600 records", 20*time.Second, func() bool { return all() == 600 })
	})
	check("a member that leaves is replaced at once", func() error {
		second.stop()
		return eventually("six partitions", 5*time.Second, owned(6))
	})
	check("a group resumes where it committed", func() error {
		first.stop()
		if err := produce(topic, 600, 100, asIs); err != nil {
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
	check("admin: groups and their offsets", func() error {
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
	check("admin: topics, partitions, configs, records", func() error {
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
		if err := eventually("the config is told", 5*time.Second, func() bool {
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
		c, err := sarama.NewClient([]string{broker}, config())
		if err != nil {
			return err
		}
		defer c.Close()
		if start, err := c.GetOffset(topic, 0, sarama.OffsetOldest); err != nil || start != 5 {
			return fmt.Errorf("begins at %d: %v", start, err)
		}
		return adm.DeleteTopic(topic)
	})
	check("admin: log directories, quotas, reassignments", func() error {
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
		if err := eventually("the quota is told", 5*time.Second, func() bool {
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
	if len(os.Args) == 4 && os.Args[1] == "member" {
		_, err := join(os.Args[2], os.Args[3], func(line string) { fmt.Println(line) })
		if err != nil {
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
