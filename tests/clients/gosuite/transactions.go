package gosuite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Producer is a transactional producer of the client that is tried.
type Producer struct {
	Begin  func() error
	Commit func() error
	Abort  func() error
	// Send returns once the broker has the values.
	Send  func(ctx context.Context, topic string, partition int32, values ...string) error
	Close func()
}

// Transactional is what the checks of transactions need of the client that is tried.
type Transactional struct {
	// Create makes a topic of two partitions.
	Create func(ctx context.Context, name string) (string, error)
	// Open makes a producer of this transactional id.
	Open func(ctx context.Context, id string) (*Producer, error)
	// Follow reads a topic from its beginning until ctx ends.
	Follow func(ctx context.Context, topic string, committed bool, each func(partition int32, value string)) error
	// Move has a member of the group read count records of partition 0 of from and send them, with their offsets, to
	// partition 0 of to in one transaction.
	Move func(ctx context.Context, group, from, to string, count int, commit bool) ([]string, error)
	// Committed is the group's offset of partition 0, or -1.
	Committed func(ctx context.Context, group, topic string) (int64, error)
	// Fenced knows the client's error for a producer that was replaced.
	Fenced func(error) bool
}

func values(turn string, count int) []string {
	all := make([]string, count)
	for n := range all {
		all[n] = fmt.Sprintf("%s%d", turn, n)
	}
	return all
}

// read expects these values, in this order, and nothing more within half a second.
func (t Transactional) read(ctx context.Context, topic string, committed bool, wanted [2][]string) error {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var found [2][]string
	failed := make(chan error, 1)
	go func() {
		failed <- t.Follow(reading, topic, committed, func(partition int32, value string) {
			mu.Lock()
			defer mu.Unlock()
			found[partition] = append(found[partition], value)
		})
	}()
	err := Eventually("all that is to be read", 20*time.Second, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(found[0]) >= len(wanted[0]) && len(found[1]) >= len(wanted[1])
	})
	time.Sleep(500 * time.Millisecond)
	cancel()
	followed := <-failed
	if !slices.Equal(found[0], wanted[0]) || !slices.Equal(found[1], wanted[1]) {
		return fmt.Errorf("committed %v: read %v, want %v: %v %v", committed, found, wanted, err, followed)
	}
	return err
}

func (t Transactional) commitsAndAborts(ctx context.Context) error {
	topic, err := t.Create(ctx, "committed")
	if err != nil {
		return err
	}
	p, err := t.Open(ctx, topic)
	if err != nil {
		return err
	}
	defer p.Close()
	var committed, all [2][]string
	for turn := range 9 {
		if err := p.Begin(); err != nil {
			return err
		}
		sent := values(fmt.Sprintf("%d-", turn), 10)
		for partition := range 2 {
			if err := p.Send(ctx, topic, int32(partition), sent...); err != nil {
				return err
			}
			all[partition] = append(all[partition], sent...)
			if turn%3 != 1 {
				committed[partition] = append(committed[partition], sent...)
			}
		}
		end := p.Commit
		if turn%3 == 1 {
			end = p.Abort
		}
		if err := end(); err != nil {
			return err
		}
	}
	if err := p.Begin(); err != nil {
		return err
	}
	for partition := range 2 {
		if err := p.Send(ctx, topic, int32(partition), "open"); err != nil {
			return err
		}
		all[partition] = append(all[partition], "open")
	}
	return errors.Join(t.read(ctx, topic, true, committed), t.read(ctx, topic, false, all), p.Abort())
}

func (t Transactional) offsets(ctx context.Context) error {
	from, err := t.Create(ctx, "from")
	if err != nil {
		return err
	}
	to, err := t.Create(ctx, "to")
	if err != nil {
		return err
	}
	p, err := t.Open(ctx, from+"-fills")
	if err != nil {
		return err
	}
	defer p.Close()
	all := values("", 40)
	if err := errors.Join(p.Begin(), p.Send(ctx, from, 0, all...), p.Commit()); err != nil {
		return err
	}
	for _, step := range []struct {
		commit    bool
		moves     []string
		committed int64
	}{{false, all[:20], -1}, {true, all[:20], 20}, {true, all[20:], 40}} {
		moved, err := t.Move(ctx, from, from, to, 20, step.commit)
		if err != nil {
			return fmt.Errorf("moving: %w", err)
		}
		if !slices.Equal(moved, step.moves) {
			return fmt.Errorf("moved %v, want %v", moved, step.moves)
		}
		var offset int64
		// A commit is answered before its markers are written.
		if waited := Eventually("the group's offset", 10*time.Second, func() bool {
			offset, err = t.Committed(ctx, from, from)
			return err == nil && offset == step.committed
		}); waited != nil {
			return fmt.Errorf("%w: %d, want %d: %v", waited, offset, step.committed, err)
		}
	}
	return t.read(ctx, to, true, [2][]string{all, nil})
}

func (t Transactional) zombie(ctx context.Context) error {
	topic, err := t.Create(ctx, "zombie")
	if err != nil {
		return err
	}
	old, err := t.Open(ctx, topic)
	if err != nil {
		return err
	}
	defer old.Close()
	if err := errors.Join(old.Begin(), old.Send(ctx, topic, 0, "zombie")); err != nil {
		return err
	}
	young, err := t.Open(ctx, topic)
	if err != nil {
		return err
	}
	defer young.Close()
	if err := old.Commit(); !t.Fenced(err) {
		return fmt.Errorf("the zombie's commit: %v", err)
	}
	if err := errors.Join(young.Begin(), young.Send(ctx, topic, 0, "young"), young.Commit()); err != nil {
		return err
	}
	return t.read(ctx, topic, true, [2][]string{{"young"}, nil})
}

// Run checks what is committed and what is not, offsets in a transaction, and a producer that was replaced.
func (t Transactional) Run() {
	Check("transactions: read_committed sees what was committed in order, read_uncommitted all", t.commitsAndAborts)
	Check("transactions: offsets sent in one are there once it is committed, not when it is aborted", t.offsets)
	Check("transactions: a zombie is fenced", t.zombie)
}
