package gosuite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Member counts what it gets and knows how many partitions are its own.
type Member struct {
	// Stop makes it leave its group.
	Stop  func()
	mu    sync.Mutex
	owned int
	got   map[string]int
	say   func(string)
}

func newMember(say func(string)) *Member { return &Member{got: map[string]int{}, say: say} }

// Own tells how many partitions it has now.
func (m *Member) Own(n int) {
	m.mu.Lock()
	m.owned = n
	m.mu.Unlock()
	m.say(fmt.Sprintf("owns %d", n))
}

// Got tells of a record.
func (m *Member) Got(value []byte) {
	m.mu.Lock()
	m.got[string(value)]++
	m.mu.Unlock()
	m.say("got " + string(value))
}

// Failed tells of an error that the client goes on after.
func (m *Member) Failed(err error) { m.say("error " + err.Error()) }

func (m *Member) count() (int, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owned, len(m.got)
}

// Client is what a group needs of the client that is tried.
type Client struct {
	// Create makes a topic of six partitions.
	Create func(ctx context.Context) (string, error)
	// Produce sends the numbers from first on, spread over the partitions.
	Produce func(ctx context.Context, topic string, first, count int) error
	// Join has a member take part in a group, and sets its Stop.
	Join func(m *Member, topic, group string) error
}

func (c Client) join(topic, group string) (*Member, error) {
	m := newMember(func(string) {})
	return m, c.Join(m, topic, group)
}

// AsMember is the whole process where it was started as a member by Groups.
func (c Client) AsMember() {
	if len(os.Args) != 4 || os.Args[1] != "member" {
		return
	}
	if err := c.Join(newMember(func(line string) { fmt.Println(line) }), os.Args[2], os.Args[3]); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	select {}
}

// process starts a member as a process of its own, which can be killed, and follows what it says.
func process(topic, group string) (*Member, *exec.Cmd, error) {
	cmd := exec.Command(os.Args[0], "member", topic, group)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	m := newMember(func(string) {})
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

// Groups has a group of three share a topic; members die and leave, and the group goes on where it was: 700 records.
// Returns the topic.
func (c Client) Groups(group string) string {
	topic := ""
	var first, second, third *Member
	var victim *exec.Cmd
	all := func() int {
		seen := map[string]bool{}
		for _, m := range []*Member{first, second, third} {
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
			for i, m := range []*Member{first, second, third}[:len(want)] {
				if n, _ := m.count(); n != want[i] {
					return false
				}
			}
			return true
		}
	}
	Check("a group of three shares six partitions", func(ctx context.Context) (err error) {
		if topic, err = c.Create(ctx); err != nil {
			return err
		}
		if first, err = c.join(topic, group); err != nil {
			return err
		}
		if second, err = c.join(topic, group); err != nil {
			return err
		}
		if third, victim, err = process(topic, group); err != nil {
			return err
		}
		if err := Eventually("two partitions each", 30*time.Second, owned(2, 2, 2)); err != nil {
			return err
		}
		if err := c.Produce(ctx, topic, 0, 300); err != nil {
			return err
		}
		return Eventually("300 records", 20*time.Second, func() bool { return all() == 300 })
	})
	Check("a member that dies is replaced", func(ctx context.Context) error {
		victim.Process.Kill()
		victim.Wait()
		if err := Eventually("three partitions each", 30*time.Second, owned(3, 3)); err != nil {
			return err
		}
		if err := c.Produce(ctx, topic, 300, 300); err != nil {
			return err
		}
		return Eventually("600 records", 20*time.Second, func() bool { return all() == 600 })
	})
	Check("a member that leaves is replaced at once", func(context.Context) error {
		second.Stop()
		return Eventually("six partitions", 5*time.Second, owned(6))
	})
	Check("a group resumes where it committed", func(ctx context.Context) error {
		first.Stop()
		if err := c.Produce(ctx, topic, 600, 100); err != nil {
			return err
		}
		m, err := c.join(topic, group)
		if err != nil {
			return err
		}
		defer m.Stop()
		if err := Eventually("100 records", 20*time.Second, func() bool { _, n := m.count(); return n >= 100 }); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond)
		if _, n := m.count(); n != 100 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
	return topic
}
