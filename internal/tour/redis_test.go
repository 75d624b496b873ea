// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// serve answers each request line sequence with the next of answers, after reading one whole request of n lines.
func serve(t *testing.T, answers ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		r := bufio.NewReader(conn)
		for _, a := range answers {
			head, err := r.ReadString('\n')
			if err != nil || head[0] != '*' {
				return
			}
			for range 2 * int(head[1]-'0') {
				_, err = r.ReadString('\n')
				if err != nil {
					return
				}
			}
			_, err = conn.Write([]byte(a))
			if err != nil {
				return
			}
		}
	}()
	return l.Addr().String()
}

func TestRedisClient(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := dialRedis(ctx, serve(t, "+PONG\r\n", "+OK\r\n", "$5\r\nwater\r\n", "-ERR no\r\n", ":7\r\n", "$-1\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, tc := range []struct {
		words     []string
		want, err string
	}{
		{[]string{"SET", "k", "water"}, "OK", ""},
		{[]string{"GET", "k"}, "water", ""},
		{[]string{"FLUSHALL"}, "", `the server says "ERR no"`},
		{[]string{"DBSIZE"}, "7", ""},
		{[]string{"GET", "gone"}, "", `length is "-1"`},
		{[]string{"GET", "k"}, "", "reading the answer to GET"}, // the server is gone
	} {
		got, err := c.do(tc.words...)
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%v answers %q, %v; want %q, %q", tc.words, got, err, tc.want, tc.err)
		}
	}
}

func TestRedisClientRefusesAnotherServer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	c, err := dialRedis(ctx, serve(t, "+HELLO\r\n"))
	if err == nil {
		c.close()
		t.Fatal("a server that does not answer PONG was taken for the application")
	}
}

func TestRedisClientBoundsAnswers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := dialRedis(ctx, serve(t, "+PONG\r\n", "$9999999999\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	_, err = c.do("GET", "k")
	if err == nil {
		t.Error("an answer of 10 GB was accepted")
	}
}
