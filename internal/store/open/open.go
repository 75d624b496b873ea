// SPDX-License-Identifier: Apache-2.0

// Package open opens the store that a URL names, so that services take their state's place from one setting:
//
//	bolt:/var/lib/cofferdam/attestation.db
//	etcd://10.0.0.1:2379,10.0.0.2:2379/attestation?ca=ca.pem&cert=client.pem&key=client.key
//
// It trusts the setting. An etcd that is reached over a network needs a CA and a client certificate; only one on the
// loopback interface may go without.
package open

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/store/etcdstore"
)

const (
	dialWait = 5 * time.Second
	// keepAlive finds a server that vanished without a word.
	keepAlive = 10 * time.Second
	// maxReconnect is the longest pause between two attempts to reach a server that is away: a service works again soon
	// after its store does, however long that was gone.
	maxReconnect = 5 * time.Second
)

// URL opens the store that the URL names, and makes it if it is new.
func URL(ctx context.Context, name string) (store.Store, error) {
	s, err := openURL(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", name, err)
	}
	return s, nil
}

func openURL(ctx context.Context, name string) (store.Store, error) {
	scheme, rest, _ := strings.Cut(name, ":")
	switch scheme {
	case "bolt":
		if rest == "" || strings.HasPrefix(rest, "//") {
			return nil, errors.New("want bolt:PATH")
		}
		if err := os.MkdirAll(filepath.Dir(rest), 0o700); err != nil {
			return nil, err
		}
		return boltstore.Open(rest)
	case "etcd":
		return openEtcd(ctx, name)
	}
	return nil, errors.New("want bolt:PATH or etcd://HOST:PORT[,HOST:PORT…]/PREFIX[?ca=FILE&cert=FILE&key=FILE]")
}

func openEtcd(ctx context.Context, name string) (store.Store, error) {
	u, err := url.Parse(name)
	if err != nil {
		return nil, err
	}
	hosts := strings.Split(u.Host, ",")
	prefix := strings.Trim(u.Path, "/")
	if u.Host == "" || prefix == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("want etcd://HOST:PORT[,HOST:PORT…]/PREFIX, and certificates instead of a password")
	}
	config, err := tlsConfig(u.Query())
	if err != nil {
		return nil, err
	}
	scheme := "https://"
	if config == nil {
		scheme = "http://"
	}
	for i, h := range hosts {
		host, _, err := net.SplitHostPort(h)
		if err != nil {
			return nil, err
		}
		if ip := net.ParseIP(host); config == nil && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("etcd at %s without ca=, cert= and key=: only 127.0.0.1 and ::1 may go without TLS", h)
		}
		hosts[i] = scheme + h
	}
	reconnect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: dialWait}
	reconnect.Backoff.MaxDelay = maxReconnect
	c, err := clientv3.New(clientv3.Config{
		Context: context.WithoutCancel(ctx), Endpoints: hosts, TLS: config, DialTimeout: dialWait,
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: dialWait, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(reconnect)},
	})
	if err != nil {
		return nil, err
	}
	return etcdstore.New(c, prefix+"/")
}

// tlsConfig reads the certificates that the query names; nil when it names none.
func tlsConfig(q url.Values) (*tls.Config, error) {
	for k, v := range q {
		if k != "ca" && k != "cert" && k != "key" || len(v) != 1 || v[0] == "" {
			return nil, fmt.Errorf("parameter %q is unknown, empty or there twice", k)
		}
	}
	switch len(q) {
	case 0:
		return nil, nil //nolint:nilnil // no TLS is no error
	case 3:
	default:
		return nil, errors.New("ca=, cert= and key= go together")
	}
	pem, err := os.ReadFile(q.Get("ca"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", q.Get("ca"))
	}
	cert, err := tls.LoadX509KeyPair(q.Get("cert"), q.Get("key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{cert}}, nil
}
