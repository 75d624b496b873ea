// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	// redisTimeout bounds one exchange with the application.
	redisTimeout = 20 * time.Second
	// redisRetry is the pause before the next attempt to reach an application that does not listen yet.
	redisRetry = 100 * time.Millisecond
	// maxBulk bounds an answer: what comes from the guest is the tenant's data.
	maxBulk = 64 << 10
)

// redisClient speaks the Redis serialization protocol, as far as PING, SET and GET need it.
type redisClient struct {
	conn net.Conn
	r    *bufio.Reader
}

// dialRedis connects to a server that may still be starting, until it answers a PING or ctx ends.
func dialRedis(ctx context.Context, addr string) (*redisClient, error) {
	var last error
	for {
		c, err := tryRedis(ctx, addr)
		if err == nil {
			return c, nil
		}
		last = err
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connecting to the application at %s: %w", addr, errors.Join(ctx.Err(), last))
		case <-time.After(redisRetry):
		}
	}
}

func tryRedis(ctx context.Context, addr string) (*redisClient, error) {
	d := net.Dialer{Timeout: redisTimeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends an exchange that nobody waits for any more
	defer stop()
	c := &redisClient{conn: conn, r: bufio.NewReader(conn)}
	answer, err := c.do("PING")
	if err == nil && answer != "PONG" {
		err = fmt.Errorf("the answer to PING is %q", answer)
	}
	if err != nil {
		_ = conn.Close() // the first error is the telling one
		return nil, err
	}
	return c, nil
}

// do sends one command and returns the answer's text.
func (c *redisClient) do(words ...string) (string, error) {
	err := c.conn.SetDeadline(time.Now().Add(redisTimeout))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	_, err = io.WriteString(c.conn, b.String())
	if err != nil {
		return "", fmt.Errorf("sending %s: %w", words[0], err)
	}
	answer, err := c.answer()
	if err != nil {
		return "", fmt.Errorf("reading the answer to %s: %w", words[0], err)
	}
	return answer, nil
}

func (c *redisClient) answer() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if line == "" {
		return "", errors.New("it is empty")
	}
	switch line[0] {
	case '+', ':':
		return line[1:], nil
	case '-':
		return "", fmt.Errorf("the server says %q", line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 || n > maxBulk {
			return "", fmt.Errorf("its length is %q", line[1:])
		}
		b := make([]byte, n+2)
		_, err = io.ReadFull(c.r, b)
		if err != nil {
			return "", err
		}
		return string(b[:n]), nil
	}
	return "", fmt.Errorf("it begins with %q", line[0])
}

func (c *redisClient) close() { _ = c.conn.Close() } // every answer was read
