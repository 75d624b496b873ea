// SPDX-License-Identifier: Apache-2.0

// Debimage builds the container images that tests and the tour run, as OCI archives, from Debian packages. It needs
// apt and Debian's mirror, but no registry, no daemon and no root. A second run does nothing.
//
//	debimage -out .cache/images [-only busybox,redis] [-sidecar bin/cofferdam-sidecar] [-update]
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"cofferdam.dev/internal/debimage"
)

func main() {
	out := flag.String("out", "", "`directory` for the archives, the index and the package cache (required)")
	only := flag.String("only", "", "comma-separated `names` of images to build (default: all of "+strings.Join(debimage.Names(), ", ")+")")
	sidecar := flag.String("sidecar", "", "`program` of the sidecar image")
	update := flag.Bool("update", false, "fetch package lists and build again even if everything is there")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, debimage.Options{Out: *out, Sidecar: *sidecar, Update: *update}, *only)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "debimage:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o debimage.Options, only string) error {
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if only != "" {
		o.Only = strings.Split(only, ",")
	}
	index, err := debimage.Build(ctx, o)
	if err != nil {
		return err
	}
	for _, name := range debimage.Names() {
		if b, ok := index.Images[name]; ok {
			fmt.Printf("%-8s %s %8.1f MB  %s\n", name, b.Digest, float64(b.Size)/1e6, b.File)
		}
	}
	return nil
}
