// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	name := func(n string) entry { return reg(n, "") }
	tests := []struct {
		name    string
		entries []entry
		wrapped error
		message string // must name the entry
	}{
		{"same path twice", []entry{reg("etc/twice", "1"), reg("other", "x"), reg("etc/twice", "2"), reg("z", "z")}, ErrConvert, `"etc/twice"`},
		{"hard link before its target", []entry{reg("first", "1"), hardlink("early", "late"), reg("late", "x")}, ErrConvert, `"early"`},
		{"hard link to a directory", []entry{dir("d/"), hardlink("l", "d")}, ErrConvert, `"l"`},
		{"file becomes directory", []entry{reg("x", "1"), dir("x/")}, ErrConvert, `"x/"`},
		{"directory becomes file", []entry{dir("x/"), reg("x", "1")}, ErrConvert, `"x"`},
		{"file below a file", []entry{reg("x", "1"), reg("x/y", "1")}, ErrConvert, `"x/y"`},
		{"file below a link", []entry{{tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "/etc"}, ""}, reg("s/passwd", "1")}, ErrConvert, `"s/passwd"`},
		{"whiteout of nothing", []entry{dir("d/"), name("d/.wh.")}, ErrEntry, `"d/.wh."`},
		{"whiteout of dot", []entry{dir("d/"), name("d/.wh..")}, ErrEntry, `"d/.wh.."`},
		{"whiteout of the parent", []entry{dir("d/"), name("d/.wh...")}, ErrEntry, `"d/.wh..."`},
		{"long component", []entry{name(strings.Repeat("n", 256))}, ErrEntry, "256 bytes"},
		{"long path", []entry{name(strings.Repeat("d/", 2100) + "f")}, ErrEntry, "4201 bytes"},
		{"long link", []entry{{tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: strings.Repeat("x", 4096)}, ""}}, ErrEntry, `"s"`},
		{"owner beyond 32 bits", []entry{{tar.Header{Typeflag: tar.TypeReg, Name: "rooted", Uid: 1 << 32}, ""}}, ErrEntry, `"rooted"`},
		{"device beyond the kernel's", []entry{{tar.Header{Typeflag: tar.TypeChar, Name: "dev", Devmajor: 1 << 12}, ""}}, ErrEntry, `"dev"`},
		{"long attribute name", []entry{{tar.Header{Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{"SCHILY.xattr.user." + strings.Repeat("n", 300): "v"}}, ""}}, ErrEntry, `"f"`},
		{"attribute without a name", []entry{{tar.Header{Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{"SCHILY.xattr.": "v"}}, ""}}, ErrEntry, `"f"`},
		{"attribute that does not fit", []entry{{tar.Header{Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{"SCHILY.xattr.user.v": strings.Repeat("v", 5000)}}, ""}}, ErrConvert, `"f"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := openCache(t)
			_, err := c.Get(t.Context(), layerOf(makeTar(t, tt.entries...)), nil)
			if !errors.Is(err, tt.wrapped) {
				t.Fatalf("error is %v, want one that wraps %v", err, tt.wrapped)
			}
			if !strings.Contains(err.Error(), tt.message) {
				t.Errorf("error %q does not contain %q", err, tt.message)
			}
			checkNothingLeft(t, c)
		})
	}
}

func TestMalformedStreams(t *testing.T) {
	t.Parallel()
	good := makeTar(t, reg("a", strings.Repeat("a", 10000)), reg("b", "b"))
	broken := bytes.Clone(good)
	broken[148] ^= 1 // checksum of the first header
	tests := []struct {
		name    string
		tar     []byte
		wrapped error
	}{
		{"checksum", broken, tar.ErrHeader},
		{"truncated in content", good[:5000], io.ErrUnexpectedEOF},
		{"truncated in a header", good[:512*21+100], io.ErrUnexpectedEOF},
		{"noise", bytes.Repeat([]byte("noise"), 1000), tar.ErrHeader},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := openCache(t)
			_, err := c.Get(t.Context(), layerOf(tt.tar), nil)
			if !errors.Is(err, tt.wrapped) {
				t.Errorf("error is %v, want one that wraps %v", err, tt.wrapped)
			}
			checkNothingLeft(t, c)
		})
	}
}

func TestDigestMismatch(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	l := layerOf(makeTar(t, reg("a", "1")))
	l.tar = append(bytes.Clone(l.tar), make([]byte, 512)...) // ignored by every reader of tar, not by the digest
	_, err := c.Get(t.Context(), l, nil)
	if !errors.Is(err, ErrDigest) {
		t.Errorf("error is %v, want one that wraps %v", err, ErrDigest)
	}
	checkNothingLeft(t, c)
}

func TestBadDiffIDs(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	for _, id := range []string{"", "sha256:", "sha256:../../etc/passwd", "sha512:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("0", 63)} {
		_, err := c.Get(t.Context(), memory{diffID: id}, nil)
		if err == nil {
			t.Errorf("DiffID %q was accepted", id)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	many := make([]entry, 0, 30)
	for i := range 30 {
		many = append(many, reg(strings.Repeat("f", i+1), ""))
	}
	tests := []struct {
		name   string
		tar    []byte
		limits Limits
	}{
		{"stream", makeTar(t, reg("f", strings.Repeat("x", 1<<20))), Limits{Size: 1 << 19}},
		{"trailing zeros", append(makeTar(t, reg("f", "x")), make([]byte, 1<<20)...), Limits{Size: 1 << 19}},
		{"file system", makeTar(t, many...), Limits{Size: 60 << 10}},
		{"entries", makeTar(t, many...), Limits{Entries: 29}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := OpenCacheLimited(t.TempDir(), tt.limits)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Get(t.Context(), layerOf(tt.tar), nil)
			if !errors.Is(err, ErrTooLarge) {
				t.Errorf("error is %v, want one that wraps %v", err, ErrTooLarge)
			}
			checkNothingLeft(t, c)
		})
	}
}

// failing is a stream that ends with an error.
type failing struct {
	io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = f.err
	}
	return n, err
}

func TestSourceFails(t *testing.T) {
	t.Parallel()
	b := makeTar(t, reg("a", strings.Repeat("a", 100000)))
	for _, cause := range []error{io.ErrUnexpectedEOF, syscall.EIO} {
		c := openCache(t)
		_, err := c.Get(t.Context(), memory{diffID: digestOf(b), open: func() (io.ReadCloser, error) {
			return io.NopCloser(failing{bytes.NewReader(b), cause}), nil
		}}, nil)
		if !errors.Is(err, cause) {
			t.Errorf("error is %v, want one that wraps %v", err, cause)
		}
		checkNothingLeft(t, c)
	}
}

// panicking is a stream whose reader has a bug.
type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("a bug") }

func TestSourcePanics(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	_, err := c.Get(t.Context(), memory{diffID: digestOf(nil), open: func() (io.ReadCloser, error) {
		return io.NopCloser(panicking{}), nil
	}}, nil)
	if err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("error is %v, want the panic's text", err)
	}
	checkNothingLeft(t, c)
}
