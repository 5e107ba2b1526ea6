package handover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
)

// socketName is the unix socket's, in the state directory.
const socketName = "handover.sock"

// Door is where the process that accepts waits for the next one, see HandOver. One goroutine uses it.
type Door struct {
	ln   *net.UnixListener
	path string
	file os.FileInfo // of our socket
}

// Open begins to wait in a directory, in the place of whoever has waited there before.
func Open(dir string) (*Door, error) {
	temp := ".handover-" + rand.Text()
	at, done, err := address(dir, temp)
	if err != nil {
		return nil, err
	}
	defer done()
	ln, err := net.ListenUnix("unixpacket", at)
	if err != nil {
		return nil, fmt.Errorf("hand-over socket in %s: %w", dir, err)
	}
	ln.SetUnlinkOnClose(false)
	d := &Door{ln: ln, path: filepath.Join(dir, socketName)}
	made := filepath.Join(dir, temp)
	if err = os.Chmod(made, 0o600); err == nil {
		d.file, err = os.Lstat(made)
	}
	if err == nil {
		err = os.Rename(made, d.path)
	}
	if err != nil {
		_ = os.Remove(made)
		return nil, errors.Join(fmt.Errorf("hand-over socket in %s: %w", dir, err), ln.Close())
	}
	return d, nil
}

// address is that of a socket in a directory, however long the directory's path is: a unix socket's address has room for
// 107 bytes. done is to be called after its use.
func address(dir, name string) (at *net.UnixAddr, done func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	return &net.UnixAddr{Net: "unixpacket", Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)}, func() { _ = d.Close() }, nil
}

// Close ends the waiting. Another process may wait there already.
func (d *Door) Close() {
	if now, err := os.Lstat(d.path); err == nil && os.SameFile(now, d.file) {
		_ = os.Remove(d.path) // a socket where nobody listens does no harm
	}
	_ = d.ln.Close()
}

// Taker is a process that wants the sockets, as the one sees it that has them.
type Taker struct {
	link
	pid    int // as the kernel says; 0 for a process of another pid namespace
	giveUp context.CancelCauseFunc
	turn   chan struct{} // is closed when the sockets may be offered
}

// newTaker takes in a process that has connected. That of another user is refused.
func newTaker(c *net.UnixConn) (*Taker, error) {
	pid, err := checkPeer(c)
	t := &Taker{link: link{c}, pid: pid}
	if err != nil {
		_ = t.send(message{Is: isRefused, Why: err.Error()}) // it may be gone
		t.Close()
		return nil, err
	}
	return t, nil
}

// refuse says why the sockets are not handed over, and ends the connection. It waits for the other end to do so: what
// that has said and nobody has read would turn our end into an ECONNRESET, which takes the reason away from its reader.
func (t *Taker) refuse(why error) {
	defer t.Close()
	if t.send(message{Is: isRefused, Why: why.Error()}) != nil || t.c.CloseWrite() != nil {
		return // it is gone
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	for {
		_, files, err := t.receive(ctx)
		closeAll(files)
		if err != nil {
			return
		}
	}
}

// Close ends the connection.
func (t *Taker) Close() { _ = t.c.Close() }

// offer hands over. It closes the descriptors of the offer: the other end has its own.
func (t *Taker) offer(o *Offer) error {
	defer o.Close()
	var items []message
	var files [][]*os.File
	for _, it := range o.Items {
		for part := range slices.Chunk(it.Files, maxFiles) {
			items = append(items, message{Is: isItem, Kind: it.Kind, Addr: it.Addr})
			files = append(files, part)
		}
	}
	if err := t.send(message{Is: isOffer, Offer: o, Items: len(items)}); err != nil {
		return err
	}
	for i := range items {
		if err := t.send(items[i], files[i]...); err != nil {
			return err
		}
	}
	return nil
}

// Stopped tells that this end accepts nobody any more.
func (t *Taker) Stopped() error { return t.send(message{Is: isStopped}) }

// Released waits until the other end releases the sockets; io.EOF: it has died before. ctx's error if that ends.
func (t *Taker) Released(ctx context.Context) error {
	_, err := t.want(ctx, isRelease)
	if err != nil && ctx.Err() == nil {
		err = io.EOF
	}
	return err
}
