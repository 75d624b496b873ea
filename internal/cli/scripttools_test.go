// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/logfile"
	"cofferdam.dev/internal/testimage"
)

// makeImage writes an OCI layout with one tiny image of two layers: ociimage DIR TAG. The bytes are always the same.
func makeImage() {
	if len(os.Args) != 3 {
		fatalf("usage: ociimage DIR TAG")
	}
	img, err := testimage.Tiny()
	if err != nil {
		fatalf("%v", err)
	}
	dir, err := layout.Write(os.Args[1], empty.Index)
	if err != nil {
		fatalf("%v", err)
	}
	err = dir.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": os.Args[2]}))
	if err != nil {
		fatalf("%v", err)
	}
}

// talkTCP sends its second argument to the address in the first and prints the first line of the answer, trying again
// for a while when nobody listens yet, if a third one does not forbid it.
func talkTCP() {
	once := len(os.Args) == 4 && os.Args[3] == "once"
	if len(os.Args) != 3 && !once {
		fatalf("usage: tcp HOST:PORT TEXT [once]")
	}
	for end := time.Now().Add(4 * patience); ; time.Sleep(300 * time.Millisecond) {
		answer, err := exchange(os.Args[1], os.Args[2]+"\r\n")
		if err == nil {
			fmt.Print(answer)
			return
		}
		if once || time.Now().After(end) {
			fatalf("%v", err)
		}
	}
}

func exchange(addr, text string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()                      // the answer was read
	err = conn.SetDeadline(time.Now().Add(10 * time.Second)) // whoever asks tries again
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(conn, text)
	if err != nil {
		return "", err
	}
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if n > 0 {
		return string(buf[:n]), nil
	}
	return "", err
}

// awaitLog waits until a group's log holds a text: awaitlog GROUP TEXT [CONTAINER].
func awaitLog() {
	if len(os.Args) < 3 || len(os.Args) > 4 {
		fatalf("usage: awaitlog GROUP TEXT [CONTAINER]")
	}
	container := ""
	if len(os.Args) == 4 {
		container = os.Args[3]
	}
	store, err := group.OpenStore(os.Getenv("COFFERDAM_HOME"))
	if err != nil {
		fatalf("%v", err)
	}
	for end := time.Now().Add(4 * patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		found := false
		err = store.Logs(context.Background(), os.Args[1], container, logfile.Options{}, func(e logfile.Entry) error {
			found = found || bytes.Contains(e.Data, []byte(os.Args[2]))
			return nil
		})
		if found {
			return
		}
	}
	fatalf("the log of %s does not hold %q: %v", os.Args[1], os.Args[2], err)
}

// fatalf ends a test tool.
func fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// patience bounds what a test waits for on a loaded machine.
const patience = time.Minute
