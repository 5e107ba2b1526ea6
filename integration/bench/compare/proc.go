//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// stat is what /proc/PID/stat says of a process (proc(5)).
type stat struct {
	parent int
	cpu    time.Duration // user and system
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The second field is the program's name in parentheses, which may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return stat{}, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, err
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return stat{}, err
		}
		ticks += n
	}
	return stat{parent, time.Duration(ticks) * tick}, nil
}

// family is a set of processes and all that descend from them, as they are now.
func family(roots ...int) (map[int]stat, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all, children := map[int]stat{}, map[int][]int{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil { // it may have ended
			all[pid] = s
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	out := map[int]stat{}
	for len(roots) > 0 {
		pid := roots[0]
		roots = append(roots[1:], children[pid]...)
		if s, ok := all[pid]; ok {
			out[pid] = s
		}
	}
	return out, nil
}

// cpuOf is the processor time that a family has used.
func cpuOf(roots ...int) (time.Duration, error) {
	all, err := family(roots...)
	var sum time.Duration
	for _, s := range all {
		sum += s.cpu
	}
	return sum, err
}

// anonOf is the user memory of a family: its resident pages that no file backs, in bytes.
func anonOf(roots ...int) (int64, error) {
	all, err := family(roots...)
	if err != nil {
		return 0, err
	}
	var sum int64
	for pid := range all {
		kib, err := field(fmt.Sprintf("/proc/%d/status", pid), "RssAnon:", 1)
		if err != nil {
			return 0, err
		}
		sum += kib << 10
	}
	return sum, nil
}

// kernelOf is the memory of the kernel that sockets make grow: slabs and what TCP queues, in bytes, of the whole machine.
func kernelOf() (int64, error) {
	slab, err := field("/proc/meminfo", "Slab:", 1)
	if err != nil {
		return 0, err
	}
	pages, err := field("/proc/net/sockstat", "TCP:", 10)
	return slab<<10 + pages*int64(os.Getpagesize()), err
}

// field finds the line that begins with a word, and reads the number that is its n-th field.
func field(file, word string, n int) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > n && f[0] == word {
			return strconv.ParseInt(f[n], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no line %s", file, word)
}

// machine is a reading of the whole machine's processors.
type machine struct {
	at    time.Time
	busy  time.Duration // all processors, whoever used them; interrupts included
	stole time.Duration // the hypervisor gave them to others
	ours  time.Duration // this program and all that descends from it
}

func readMachine() (machine, error) {
	m := machine{at: time.Now()}
	for i, to := range map[int]*time.Duration{1: &m.busy, 2: &m.busy, 3: &m.busy, 6: &m.busy, 7: &m.busy, 8: &m.stole} {
		n, err := field("/proc/stat", "cpu", i) // user nice system idle iowait irq softirq steal
		if err != nil {
			return m, err
		}
		*to += time.Duration(n) * tick
	}
	var err error
	m.ours, err = cpuOf(os.Getpid())
	return m, err
}

// foreign is the part of the machine that others had between two readings, and the part that the hypervisor kept.
func (m machine) foreign(later machine) (others, stolen float64) {
	all := float64(later.at.Sub(m.at)) * float64(runtime.NumCPU())
	others = float64(later.busy-m.busy-(later.ours-m.ours)) / all
	return max(0, others), float64(later.stole-m.stole) / all
}

// loadAverage is that of the last minute.
func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return n
}
