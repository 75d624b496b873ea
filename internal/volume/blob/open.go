// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blob/s3"
	"cofferdam.dev/internal/volume/blob/wire"
)

// Options say how an object is reached. The zero value reads files and public objects.
type Options struct {
	// Write opens the object to be written as well: a file or a page blob.
	Write bool
	// HTTP makes the connections to servers; nil is NewHTTPClient(nil).
	HTTP *http.Client
	// AccountKey, Token or a signature in the URL are credentials for Azure.
	AccountKey azure.SharedKey
	Token      azure.TokenSource
	// S3 are the keys for S3-compatible storage.
	S3 s3.Keys
	// InsecurePlainHTTP lets credentials go over plain HTTP to other machines.
	InsecurePlainHTTP bool
	// Retry is how requests that fail for now are made again while an object is opened, uploaded, or leased.
	Retry Backoff
	// Lease is for how long the lease of a page blob is taken, from 15 to 60 seconds; zero is 60. A writer that dies keeps
	// others out for as long.
	Lease time.Duration
	// LeaseWait is how long to wait for another writer's lease to end; zero fails at once with ErrBusy.
	LeaseWait time.Duration
	// Now is the clock that requests are dated with; nil is the real one.
	Now func() time.Time
}

// place is a URL that was read: how it is reached, and where it is.
type place struct {
	kind kind
	path string
	at   wire.Location
}

type kind int

const (
	kindFile kind = iota + 1
	kindHTTP
	kindAzure
	kindS3
)

// azureHosts end the names of Azure's blob servers in its clouds.
var azureHosts = []string{
	".blob.core.windows.net", ".blob.core.usgovcloudapi.net", ".blob.core.chinacloudapi.cn", ".blob.storage.azure.net",
}

// parse reads a URL or a path:
//
//	/a/path, file:///a/path            a file or block device
//	https://host/path                  a server that gives out ranges; Azure if the host is one of its blob servers
//	azure+https://host/container/blob  Azure's protocol at another server; azure+http too
//	s3+https://host/bucket/key         S3's protocol; s3+http too
//	s3://bucket/key                    Amazon's own servers of the region
func parse(raw string, region string) (place, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		if raw == "" {
			return place{}, errors.New("the volume's URL is empty")
		}
		return place{kind: kindFile, path: raw}, nil
	}
	kind := kindHTTP
	switch scheme {
	case "file":
		u, err := url.Parse(raw)
		if err != nil || u.Host != "" && u.Host != "localhost" || u.Path == "" || u.RawQuery != "" || u.Fragment != "" {
			return place{}, errors.New("the URL of a file must be file:///PATH")
		}
		return place{kind: kindFile, path: u.Path}, nil
	case "http", "https":
	case "azure+http", "azure+https":
		kind, raw = kindAzure, strings.TrimPrefix(raw, "azure+")
	case "s3+http", "s3+https":
		kind, raw = kindS3, strings.TrimPrefix(raw, "s3+")
	case "s3":
		if region == "" {
			region = "us-east-1"
		}
		kind, raw = kindS3, "https://s3."+region+".amazonaws.com/"+rest
	default:
		return place{}, fmt.Errorf("the URL's scheme is %.16q, not one of file, http, https, azure+http, azure+https, s3, s3+http, s3+https", scheme)
	}
	at, err := wire.ParseLocation(raw)
	if err != nil {
		return place{}, err
	}
	for _, suffix := range azureHosts {
		if kind == kindHTTP && strings.HasSuffix(strings.ToLower(at.Hostname()), suffix) {
			kind = kindAzure
		}
	}
	return place{kind: kind, at: at}, nil
}

// Redact returns a URL as it may be logged: without parameters and credentials.
func Redact(raw string) string {
	p, err := parse(raw, "")
	if err != nil {
		return "an unreadable URL"
	}
	if p.kind == kindFile {
		return p.path
	}
	return p.at.String()
}

// Open opens an object by its URL or path; see the schemes in the documentation of volumes. With Options.Write the result is a
// Writable.
func Open(ctx context.Context, rawURL string, o Options) (Source, error) {
	if o.Write {
		return OpenWritable(ctx, rawURL, o)
	}
	p, err := parse(rawURL, o.S3.Region)
	if err != nil {
		return nil, err
	}
	o = o.complete()
	switch p.kind {
	case kindFile:
		return as(OpenFile(p.path, false))
	case kindAzure:
		return as(azure.Open(ctx, p.at, o.azure()))
	case kindS3:
		return as(s3.Open(ctx, p.at, o.s3()))
	default:
		return as(openHTTP(ctx, p.at, o))
	}
}

// OpenWritable opens a file or a page blob to be read and written. Nobody else can open it so until it is closed.
func OpenWritable(ctx context.Context, rawURL string, o Options) (Writable, error) {
	p, err := parse(rawURL, o.S3.Region)
	if err != nil {
		return nil, err
	}
	o = o.complete()
	switch p.kind {
	case kindFile:
		f, err := OpenFile(p.path, true)
		if err != nil {
			return nil, err
		}
		return f, nil
	case kindAzure:
		b, err := azure.OpenPageBlob(ctx, p.at, o.azure())
		if err != nil {
			return nil, err
		}
		return b, nil
	default:
		return nil, fmt.Errorf("opening %s: only files and page blobs can be written: %w", p.at, ErrRefused)
	}
}

// as keeps a nil pointer from becoming a Source that is not nil.
func as[S Source](s S, err error) (Source, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (o Options) complete() Options {
	if o.HTTP == nil {
		o.HTTP = NewHTTPClient(nil)
	}
	return o
}

func (o Options) azure() azure.Access {
	return azure.Access{
		HTTP: o.HTTP, Key: o.AccountKey, Token: o.Token, InsecurePlainHTTP: o.InsecurePlainHTTP, Retry: o.Retry,
		Lease: o.Lease, LeaseWait: o.LeaseWait, Now: o.Now,
	}
}

func (o Options) s3() s3.Access {
	return s3.Access{HTTP: o.HTTP, Keys: o.S3, InsecurePlainHTTP: o.InsecurePlainHTTP, Retry: o.Retry, Now: o.Now}
}
