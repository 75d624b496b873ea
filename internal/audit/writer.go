// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// zeroHash stands before the first line.
var zeroHash = strings.Repeat("0", 2*sha256.Size)

// KeyID returns the identifier under which a key signs checkpoints, and an error unless it is a key over P-256.
func KeyID(key *ecdsa.PrivateKey) (string, error) {
	if key == nil || key.Curve != elliptic.P256() {
		return "", errors.New("the key that signs checkpoints is no ECDSA key over P-256")
	}
	return publicKeyID(&key.PublicKey)
}

func publicKeyID(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding the key that signs checkpoints: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// write is the one writer: it takes what is pending, writes it, syncs once, and answers. What has no checkpoint gets one
// after a while: a log whose process dies before its end must not be unsigned for long.
func (l *Log) write() {
	defer close(l.done)
	tick := time.NewTicker(l.signAfter)
	defer tick.Stop()
	for open := true; open; {
		select {
		case first, ok := <-l.queue:
			if open = ok; ok {
				l.writeBatch(l.gather(first))
			}
		case <-tick.C:
			if err := l.sign(); err != nil {
				l.failing.Store(true)
			}
		}
	}
	l.closeError = errors.Join(l.sign(), l.file.close())
}

// gather takes what is pending besides the first.
func (l *Log) gather(first request) []request {
	batch := []request{first}
	for len(batch) < maxBatch {
		select {
		case r, ok := <-l.queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// pending is the lines of one batch with the state of the chain after them. The log takes that state over only once the
// lines are on disk.
type pending struct {
	lines    []byte
	sequence uint64
	previous string
	unsigned int
}

func (l *Log) begin() *pending {
	return &pending{sequence: l.sequence, previous: l.previous, unsigned: l.unsigned}
}

// add appends one line and returns its receipt.
func (l *Log) add(p *pending, kind string, event json.RawMessage) (Receipt, error) {
	e := &Entry{
		Sequence: p.sequence + 1, Time: l.opts.Now().UTC(), Instance: l.opts.Instance, Kind: kind, Event: event,
		Previous: p.previous,
	}
	line, err := e.encode()
	if err != nil {
		return Receipt{}, err
	}
	p.lines = append(append(p.lines, line...), '\n')
	p.sequence, p.previous = e.Sequence, hashLine(line)
	p.unsigned++
	return Receipt{l.opts.Instance, p.sequence, p.previous}, nil
}

func (l *Log) addCheckpoint(p *pending) error {
	digest := sha256.Sum256(signedBytes(l.opts.Instance, p.sequence+1, p.previous))
	sig, err := ecdsa.SignASN1(rand.Reader, l.opts.Key, digest[:])
	if err != nil {
		return fmt.Errorf("signing the audit log: %w", err)
	}
	event, err := json.Marshal(checkpoint{l.keyID, sig})
	if err != nil {
		return fmt.Errorf("signing the audit log: %w", err)
	}
	if _, err = l.add(p, kindCheckpoint, event); err == nil {
		p.unsigned = 0
	}
	return err
}

// commit writes the lines and takes over the state after them.
func (l *Log) commit(p *pending) error {
	if len(p.lines) == 0 {
		return nil
	}
	if err := l.file.append(p.lines); err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	l.sequence, l.previous, l.unsigned = p.sequence, p.previous, p.unsigned
	return nil
}

func (l *Log) writeBatch(batch []request) {
	answers := make([]answer, len(batch))
	err := l.roll()
	p := l.begin()
	for i, r := range batch {
		switch {
		case err != nil:
		case r.kind == kindCheckpoint:
			answers[i].err = l.addCheckpoint(p)
		default:
			answers[i].receipt, answers[i].err = l.add(p, r.kind, r.event)
		}
	}
	if err == nil && p.unsigned >= l.opts.CheckpointEvery {
		err = l.addCheckpoint(p)
	}
	if err == nil {
		err = l.commit(p)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l.failing.Store(err != nil)
	for i, r := range batch {
		if err != nil {
			answers[i] = answer{err: err}
		}
		r.answer <- answers[i] // has room
	}
}

// roll begins a file: the first, or the next when the current one is full.
func (l *Log) roll() error {
	if l.file.size > 0 && l.file.size < l.opts.MaxFileSize {
		return nil
	}
	if l.file.size > 0 {
		if err := errors.Join(l.sign(), l.file.next()); err != nil {
			return fmt.Errorf("beginning a file of the audit log: %w", err)
		}
	}
	event, err := json.Marshal(opening{Schema})
	if err != nil {
		return fmt.Errorf("beginning a file of the audit log: %w", err)
	}
	p := l.begin()
	if _, err = l.add(p, kindOpen, event); err != nil {
		return err
	}
	return l.commit(p)
}

// sign ends what has no checkpoint yet with one.
func (l *Log) sign() error {
	if l.unsigned == 0 || l.sequence == 0 {
		return nil
	}
	p := l.begin()
	if err := l.addCheckpoint(p); err != nil {
		return err
	}
	return l.commit(p)
}
