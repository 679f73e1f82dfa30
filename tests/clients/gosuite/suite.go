// Package gosuite is what the suites of Go clients share: cases that are counted, and a group whose members come and go.
package gosuite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Broker is what the suite runs against.
var Broker = os.Getenv("BROKER")

var passed, failed int

// Check runs one case within a minute and counts it; one that does not heed its context is left behind.
func Check(what string, body func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- body(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-time.After(time.Minute + 2*time.Second):
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

// Eventually waits until something holds.
func Eventually(what string, limit time.Duration, holds func() bool) error {
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, limit)
		}
	}
	return nil
}

// End prints the counts and ends the process.
func End() {
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
	os.Exit(0)
}
