// Consumer groups with franz-go: three members that join, leave and die, commits, static members, the cooperative
// protocol, administration.
package main

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"weir/tests/clients/gosuite"
)

const groupPartitions = 6

// member is one consumer, polled by a goroutine of its own.
type member struct {
	c      *kgo.Client
	cancel context.CancelFunc
	seen   chan string
}

func join(ctx context.Context, group, topic string, opts ...kgo.Opt) *member {
	c := client(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.RebalanceTimeout(10 * time.Second),
	}, opts...)...)
	polling, cancel := context.WithCancel(ctx)
	m := &member{c: c, cancel: cancel, seen: make(chan string, 100_000)}
	go func() {
		for polling.Err() == nil {
			c.PollFetches(polling).EachRecord(func(r *kgo.Record) { m.seen <- string(r.Value) })
		}
	}()
	return m
}

// leave stops polling and says goodbye, as an application that ends does.
func (m *member) leave() {
	m.cancel()
	m.c.Close()
}

// settle waits until the group is stable, has this many members, and every partition is one member's.
func settle(ctx context.Context, group string, members int) error {
	adm := kadm.NewClient(client())
	defer adm.Close()
	var last string
	for ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		described, err := adm.DescribeGroups(ctx, group)
		if err != nil {
			last = err.Error()
			continue
		}
		d := described[group]
		var all []int
		for _, m := range d.Members {
			if a, ok := m.Assigned.AsConsumer(); ok {
				for _, t := range a.Topics {
					for _, p := range t.Partitions {
						all = append(all, int(p))
					}
				}
			}
		}
		sort.Ints(all)
		last = fmt.Sprintf("%s, %d members, %v", d.State, len(d.Members), all)
		if d.State == "Stable" && len(d.Members) == members && fmt.Sprint(all) == "[0 1 2 3 4 5]" {
			return nil
		}
	}
	return fmt.Errorf("not settled: %s", last)
}

func three(ctx context.Context, name string, balancer kgo.GroupBalancer) error {
	topic, err := create(ctx, name, groupPartitions, nil)
	if err != nil {
		return err
	}
	if err := produce(ctx, topic, groupPartitions, 120); err != nil {
		return err
	}
	a := join(ctx, topic, topic, kgo.Balancers(balancer))
	defer a.leave()
	if err := settle(ctx, topic, 1); err != nil {
		return err
	}
	b, c := join(ctx, topic, topic, kgo.Balancers(balancer)), join(ctx, topic, topic, kgo.Balancers(balancer))
	defer b.leave()
	if err := settle(ctx, topic, 3); err != nil {
		return err
	}
	c.leave()
	if err := settle(ctx, topic, 2); err != nil {
		return err
	}
	// A static member does not say goodbye: the group notices when its session ends.
	dead := join(ctx, topic, topic, kgo.Balancers(balancer), kgo.InstanceID("dead"))
	if err := settle(ctx, topic, 3); err != nil {
		return err
	}
	dead.leave()
	if err := settle(ctx, topic, 2); err != nil {
		return err
	}
	seen := map[string]bool{}
	for len(seen) < 120 {
		select {
		case v := <-a.seen:
			seen[v] = true
		case v := <-b.seen:
			seen[v] = true
		case v := <-c.seen:
			seen[v] = true
		case v := <-dead.seen:
			seen[v] = true
		case <-ctx.Done():
			return fmt.Errorf("%d of 120 records", len(seen))
		}
	}
	return nil
}

func groups() {
	gosuite.Check("a group of three, one leaves, one dies (range)", func(ctx context.Context) error {
		return three(ctx, "group-range", kgo.RangeBalancer())
	})
	gosuite.Check("a group of three, one leaves, one dies (cooperative-sticky)", func(ctx context.Context) error {
		return three(ctx, "group-cooperative", kgo.CooperativeStickyBalancer())
	})
	gosuite.Check("commits, and the next member goes on from there", func(ctx context.Context) error {
		topic, err := create(ctx, "group-resume", 1, nil)
		if err != nil {
			return err
		}
		if err := produce(ctx, topic, 1, 100); err != nil {
			return err
		}
		var got int64
		for _, want := range []int64{40, 100} {
			c := client(kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			for got < want {
				fetches := c.PollRecords(ctx, int(want-got))
				if err := fetches.Err(); err != nil {
					c.Close()
					return err
				}
				for _, r := range fetches.Records() {
					if r.Offset != got {
						c.Close()
						return fmt.Errorf("offset %d where %d was next", r.Offset, got)
					}
					got++
					if err := c.CommitRecords(ctx, r); err != nil {
						c.Close()
						return err
					}
				}
			}
			c.Close()
		}
		return nil
	})
	gosuite.Check("groups are listed, described with their lag, and deleted", func(ctx context.Context) error {
		topic, err := create(ctx, "group-admin", 1, nil)
		if err != nil {
			return err
		}
		if err := produce(ctx, topic, 1, 50); err != nil {
			return err
		}
		adm := kadm.NewClient(client())
		defer adm.Close()
		var offsets kadm.Offsets
		offsets.AddOffset(topic, 0, 20, -1)
		if committed, err := adm.CommitOffsets(ctx, topic, offsets); err != nil || committed.Error() != nil {
			return fmt.Errorf("%v %v", err, committed.Error())
		}
		lags, err := adm.Lag(ctx, topic)
		if err != nil {
			return err
		}
		if lag := lags[topic].Lag.Total(); lag != 30 {
			return fmt.Errorf("lag %d", lag)
		}
		listed, err := adm.ListGroups(ctx, "Empty")
		if err != nil || listed[topic].Group != topic {
			return fmt.Errorf("%v %v", err, listed)
		}
		if deleted, err := adm.DeleteGroups(ctx, topic); err != nil || deleted.Error() != nil {
			return fmt.Errorf("%v %v", err, deleted.Error())
		}
		fetched, err := adm.FetchOffsets(ctx, topic)
		if err != nil || len(fetched) != 0 {
			return fmt.Errorf("%v %v", err, fetched)
		}
		return nil
	})
}
