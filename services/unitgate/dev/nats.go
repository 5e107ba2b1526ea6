package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

const natsPort = 4222

// startNATS starts the embedded server. Signals are the process's own affair.
func (d *Dev) startNATS(context.Context) error {
	port := server.RANDOM_PORT
	if !d.o.FreePorts {
		port = natsPort
		if err := free(port, "NATS"); err != nil {
			return err
		}
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "unitgate-dev", Host: "127.0.0.1", Port: port,
		JetStream: true, StoreDir: filepath.Join(d.data, "nats"), NoSigs: true, NoLog: true,
	})
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	d.server = s
	d.atEnd(func(context.Context) error { s.Shutdown(); s.WaitForShutdown(); return nil })
	s.Start()
	if !s.ReadyForConnections(readyWait) {
		return fmt.Errorf("the embedded NATS server does not start on port %d", port)
	}
	if !s.JetStreamEnabled() {
		return fmt.Errorf("the embedded NATS server cannot keep its data in %s", d.data)
	}
	return nil
}

// free tells which port is taken, and what to do about it.
func free(port int, what string) error {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d (%s) is in use: end what runs there, or take other ports with --free-ports", port, what)
	case err != nil:
		return fmt.Errorf("port %d (%s): %w", port, what, err)
	}
	return l.Close()
}

// lock takes a lock file for this process; the kernel drops it when the process ends, however it ends.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory %s is in use by another unitgate dev: %w", filepath.Dir(path), err)
	}
	return f.Close, nil
}
