// franz-go against BROKER: every codec, idempotent and plain producers, consumers by partition and in
// groups (groups.go), transactions (transactions.go), admin.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"weir/tests/clients/gosuite"
)

var run = fmt.Sprintf("go-%d", os.Getpid())

func client(opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(gosuite.Broker)}, opts...)...)
	if err != nil {
		fmt.Println("client:", err)
		os.Exit(1)
	}
	return c
}

// create makes a topic and waits until it is there.
func create(ctx context.Context, name string, partitions int32, configs map[string]*string) (string, error) {
	topic := run + "-" + name
	adm := kadm.NewClient(client())
	defer adm.Close()
	if _, err := adm.CreateTopic(ctx, partitions, 1, configs, topic); err != nil {
		return "", err
	}
	for range 100 {
		if ends, err := adm.ListEndOffsets(ctx, topic); err == nil && ends.Error() == nil && len(ends[topic]) == int(partitions) {
			return topic, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", fmt.Errorf("%s did not appear", topic)
}

// produce sends values round robin over the partitions and waits for every acknowledgement.
func produce(ctx context.Context, topic string, partitions int32, count int, opts ...kgo.Opt) error {
	c := client(append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	defer c.Close()
	var mu sync.Mutex
	var first error
	for i := range count {
		r := &kgo.Record{
			Topic: topic, Partition: int32(i) % partitions,
			Key: []byte(fmt.Sprintf("k%d", i)), Value: []byte(fmt.Sprintf("%d", i)),
			Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}},
		}
		c.Produce(ctx, r, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil {
				first = err
			}
		})
	}
	if err := c.Flush(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return first
}

// read takes count records from the start of every partition and checks their order and fields.
func read(ctx context.Context, topic string, partitions int32, count int, opts ...kgo.Opt) error {
	start := map[int32]kgo.Offset{}
	for p := range partitions {
		start[p] = kgo.NewOffset().AtStart()
	}
	c := client(append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: start}))...)
	defer c.Close()
	next := map[int32]int64{}
	for got := 0; got < count; {
		fetches := c.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("after %d of %d: %w", got, count, errs[0].Err)
		}
		var wrong error
		fetches.EachRecord(func(r *kgo.Record) {
			want := fmt.Sprintf("%d", int64(r.Partition)+next[r.Partition]*int64(partitions))
			if r.Offset != next[r.Partition] || string(r.Value) != want || string(r.Key) != "k"+want || len(r.Headers) != 1 {
				wrong = fmt.Errorf("partition %d offset %d holds %s, want %s", r.Partition, r.Offset, r.Value, want)
			}
			next[r.Partition]++
			got++
		})
		if wrong != nil {
			return wrong
		}
	}
	return nil
}

func roundTrip(ctx context.Context, name string, partitions int32, count int, opts ...kgo.Opt) error {
	topic, err := create(ctx, name, partitions, nil)
	if err != nil {
		return err
	}
	if err := produce(ctx, topic, partitions, count, opts...); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	return read(ctx, topic, partitions, count)
}

func producers() {
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		gosuite.Check("idempotent, codec "+name, func(ctx context.Context) error {
			return roundTrip(ctx, name, 2, 4000, kgo.ProducerBatchCompression(codec))
		})
		gosuite.Check("not idempotent, codec "+name, func(ctx context.Context) error {
			return roundTrip(ctx, "plain-"+name, 2, 4000, kgo.ProducerBatchCompression(codec), kgo.DisableIdempotentWrite())
		})
	}
	for name, acks := range map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()} {
		gosuite.Check("not idempotent, acks "+name, func(ctx context.Context) error {
			return roundTrip(ctx, "acks-"+name, 2, 2000, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
		})
	}
	gosuite.Check("200,000 records over 12 partitions, five requests in flight", func(ctx context.Context) error {
		return roundTrip(ctx, "bulk", 12, 200_000, kgo.MaxBufferedRecords(50_000))
	})
	gosuite.Check("without fetch sessions", func(ctx context.Context) error {
		topic, err := create(ctx, "sessionless", 3, nil)
		if err != nil {
			return err
		}
		if err := produce(ctx, topic, 3, 300); err != nil {
			return err
		}
		return read(ctx, topic, 3, 300, kgo.DisableFetchSessions())
	})
	gosuite.Check("small fetches: many answers, many sessions' requests", func(ctx context.Context) error {
		topic, err := create(ctx, "small-fetches", 4, nil)
		if err != nil {
			return err
		}
		if err := produce(ctx, topic, 4, 20_000, kgo.ProducerBatchMaxBytes(4096)); err != nil {
			return err
		}
		return read(ctx, topic, 4, 20_000, kgo.FetchMaxBytes(20_000), kgo.FetchMaxPartitionBytes(5_000))
	})
	gosuite.Check("a record too large is refused", func(ctx context.Context) error {
		limit := "1000"
		topic, err := create(ctx, "refused", 1, map[string]*string{"max.message.bytes": &limit})
		if err != nil {
			return err
		}
		c := client(kgo.ProducerBatchCompression(kgo.NoCompression()))
		defer c.Close()
		err = c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: make([]byte, 5000)}).FirstErr()
		if !errors.Is(err, kerr.MessageTooLarge) {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	gosuite.Check("a topic is made on first use", func(ctx context.Context) error {
		c := client(kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(20))
		defer c.Close()
		return c.ProduceSync(ctx, &kgo.Record{Topic: run + "-auto", Value: []byte("x")}).FirstErr()
	})
}

func consumers() {
	gosuite.Check("a consumer starts at a time, at an offset, at the end", func(ctx context.Context) error {
		topic, err := create(ctx, "starts", 1, nil)
		if err != nil {
			return err
		}
		c := client()
		defer c.Close()
		base := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
		for i := range 10 {
			r := &kgo.Record{Topic: topic, Value: []byte{byte(i)}, Timestamp: base.Add(time.Duration(i) * time.Second)}
			if err := c.ProduceSync(ctx, r).FirstErr(); err != nil {
				return err
			}
		}
		first := func(at kgo.Offset) (int64, error) {
			c := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: at}}))
			defer c.Close()
			fetches := c.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return 0, err
			}
			return fetches.Records()[0].Offset, nil
		}
		for want, at := range map[int64]kgo.Offset{
			0: kgo.NewOffset().AtStart(),
			4: kgo.NewOffset().At(4),
			9: kgo.NewOffset().AtEnd().Relative(-1),
			7: kgo.NewOffset().AfterMilli(base.Add(6500 * time.Millisecond).UnixMilli()),
		} {
			got, err := first(at)
			if err != nil || got != want {
				return fmt.Errorf("started at %d, want %d: %v", got, want, err)
			}
		}
		return nil
	})
	gosuite.Check("a waiting consumer gets a record as it comes", func(ctx context.Context) error {
		topic, err := create(ctx, "waits", 3, nil)
		if err != nil {
			return err
		}
		end := kgo.NewOffset().AtStart()
		c := client(kgo.FetchMaxWait(20*time.Second),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: end, 1: end, 2: end}}))
		defer c.Close()
		go func() {
			time.Sleep(time.Second)
			_ = produce(ctx, topic, 1, 1)
		}()
		started := time.Now()
		fetches := c.PollFetches(ctx)
		if fetches.Err() != nil || fetches.NumRecords() != 1 || time.Since(started) > 8*time.Second {
			return fmt.Errorf("%d records after %v: %v", fetches.NumRecords(), time.Since(started), fetches.Err())
		}
		return nil
	})
}

func admin() {
	adm := kadm.NewClient(client())
	defer adm.Close()
	gosuite.Check("topics: create, describe, grow, delete", func(ctx context.Context) error {
		topic, err := create(ctx, "admin", 2, nil)
		if err != nil {
			return err
		}
		if _, err := adm.CreateTopic(ctx, 1, 1, nil, topic); !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("created again: %v", err)
		}
		if _, err := adm.UpdatePartitions(ctx, 5, topic); err != nil {
			return err
		}
		for range 50 {
			details, err := adm.ListTopics(ctx, topic)
			if err != nil {
				return err
			}
			if len(details[topic].Partitions) == 5 {
				_, err := adm.DeleteTopic(ctx, topic)
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return errors.New("five partitions did not appear")
	})
	gosuite.Check("configs: describe, change, unset", func(ctx context.Context) error {
		topic, err := create(ctx, "configs", 1, nil)
		if err != nil {
			return err
		}
		value := func() string {
			described, err := adm.DescribeTopicConfigs(ctx, topic)
			if err != nil || len(described) != 1 {
				return fmt.Sprint(err)
			}
			for _, c := range described[0].Configs {
				if c.Key == "retention.ms" {
					return c.MaybeValue()
				}
			}
			return "missing"
		}
		want := "123000"
		for _, step := range []struct {
			alter kadm.AlterConfig
			want  string
		}{
			{kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: &want}, want},
			{kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"}, "604800000"},
		} {
			if _, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{step.alter}, topic); err != nil {
				return err
			}
			for i := 0; value() != step.want; i++ {
				if i == 50 {
					return fmt.Errorf("retention.ms is %s, want %s", value(), step.want)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		return nil
	})
	gosuite.Check("offsets and records: list, by time, delete", func(ctx context.Context) error {
		topic, err := create(ctx, "records", 2, nil)
		if err != nil {
			return err
		}
		if err := produce(ctx, topic, 2, 100); err != nil {
			return err
		}
		deleted, err := adm.DeleteRecords(ctx, kadm.Offsets{topic: {0: {Topic: topic, Partition: 0, At: 20}}})
		if err != nil || deleted.Error() != nil {
			return fmt.Errorf("%v %v", err, deleted.Error())
		}
		starts, err := adm.ListStartOffsets(ctx, topic)
		if err != nil {
			return err
		}
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		var got []int64
		for p := range int32(2) {
			s, _ := starts.Lookup(topic, p)
			e, _ := ends.Lookup(topic, p)
			got = append(got, s.Offset, e.Offset)
		}
		if fmt.Sprint(got) != "[20 50 0 50]" {
			return fmt.Errorf("offsets %v", got)
		}
		after, err := adm.ListOffsetsAfterMilli(ctx, 1, topic)
		if err != nil || after.Error() != nil {
			return fmt.Errorf("%v %v", err, after.Error())
		}
		return nil
	})
	gosuite.Check("the cluster: brokers, versions, epochs", func(ctx context.Context) error {
		meta, err := adm.BrokerMetadata(ctx)
		if err != nil || len(meta.Brokers) != 1 || meta.Cluster == "" {
			return fmt.Errorf("%v %v", meta, err)
		}
		versions, err := adm.ApiVersions(ctx)
		if err != nil {
			return err
		}
		var keys []int
		for _, v := range versions {
			v.EachKeySorted(func(key, _, _ int16) { keys = append(keys, int(key)) })
		}
		sort.Ints(keys)
		if len(keys) < 15 {
			return fmt.Errorf("only %v", keys)
		}
		topic, err := create(ctx, "epochs", 1, nil)
		if err != nil {
			return err
		}
		if err := produce(ctx, topic, 1, 10); err != nil {
			return err
		}
		var set kadm.OffsetForLeaderEpochRequest
		set.Add(topic, 0, 0)
		ends, err := adm.OffetForLeaderEpoch(ctx, set)
		if err != nil || ends[topic][0].EndOffset != 10 {
			return fmt.Errorf("%+v %v", ends, err)
		}
		return nil
	})
}

func main() {
	producers()
	consumers()
	admin()
	groups()
	transactions()
	gosuite.End()
}
