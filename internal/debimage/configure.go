// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// User IDs. Debian fixes www-data and nobody; the redis package takes the first free system ID.
const (
	redisID   = 101
	wwwDataID = 33
)

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`

const group = `root:x:0:
daemon:x:1:
www-data:x:33:
nogroup:x:65534:
`

// configureBase adds what every image has.
func configureBase(s *fileset) error {
	s.file("etc/passwd", 0o644, passwd)
	s.file("etc/group", 0o644, group)
	s.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n")
	s.dir("root", 0o700, 0, 0)
	s.dir("tmp", 0o1777, 0, 0)
	s.dir("var/tmp", 0o1777, 0, 0)
	s.dir("run", 0o755, 0, 0)
	for _, d := range []string{"dev", "home", "mnt", "proc", "sys"} {
		s.dir(d, 0o755, 0, 0)
	}
	return nil
}

func configureRedis(s *fileset) error {
	err := configureBase(s)
	if err != nil {
		return err
	}
	s.file("etc/passwd", 0o644, passwd+fmt.Sprintf("redis:x:%d:%d::/var/lib/redis:/usr/sbin/nologin\n", redisID, redisID))
	s.file("etc/group", 0o644, group+fmt.Sprintf("redis:x:%d:\n", redisID))
	s.dir("data", 0o755, redisID, redisID)
	for _, d := range []string{"var/lib/redis", "var/log/redis"} {
		s.dir(d, 0o750, redisID, redisID)
	}
	return nil
}

const nginxSite = `server {
	listen 80 default_server;
	root /var/www/html;
	index index.html;
	server_name _;
}
`

const nginxPage = "<!DOCTYPE html>\n<title>cofferdam</title>\n<p>Served by an unmodified nginx.</p>\n"

func configureNginx(s *fileset) error {
	err := configureBase(s)
	if err != nil {
		return err
	}
	s.file("etc/nginx/sites-enabled/default", 0o644, nginxSite)
	s.file("var/www/html/index.html", 0o644, nginxPage)
	s.dir("var/log/nginx", 0o755, 0, 0)
	s.symlink("var/log/nginx/access.log", "/dev/stdout")
	s.symlink("var/log/nginx/error.log", "/dev/stderr")
	s.dir("var/lib/nginx", 0o755, 0, 0)
	for _, d := range []string{"body", "fastcgi", "proxy", "scgi", "uwsgi"} {
		s.dir("var/lib/nginx/"+d, 0o700, wwwDataID, 0)
	}
	return nil
}

// addApplets adds the symbolic links of the busybox in s. Which there are, only the program itself knows, so it is
// run; it comes from a package whose signature was checked.
func addApplets(ctx context.Context, s *fileset) error {
	n := s.nodes["bin/busybox"]
	if n == nil {
		return errors.New("the busybox package has no bin/busybox")
	}
	dir, err := os.MkdirTemp("", "debimage-")
	if err != nil {
		return fmt.Errorf("running busybox: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary
	program := filepath.Join(dir, "busybox")
	err = os.WriteFile(program, n.content, 0o700) // #nosec G306 -- it must be executable
	if err != nil {
		return fmt.Errorf("running busybox: %w", err)
	}
	out, err := exec.CommandContext(ctx, program, "--list-full").Output()
	if err != nil {
		return fmt.Errorf("running busybox: %w", err)
	}
	for _, name := range strings.Fields(string(out)) {
		if path.Clean("/"+name) != "/"+name {
			return fmt.Errorf("running busybox: it names an applet %q", name)
		}
		if s.nodes[name] == nil {
			s.symlink(name, "/bin/busybox")
		}
	}
	return nil
}

// checkLibraries makes sure that each program and library finds the libraries that it names.
func checkLibraries(sets []*fileset) error {
	files := map[string]*node{}
	for _, s := range sets {
		for name, n := range s.nodes {
			files[name] = n
		}
	}
	present := func(lib string) bool {
		return slices.ContainsFunc([]string{"lib", "usr/lib", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"},
			func(dir string) bool { return files[path.Join(dir, lib)] != nil })
	}
	for name, n := range files {
		if !bytes.HasPrefix(n.content, []byte(elf.ELFMAG)) {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(n.content))
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		libs, err := f.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		for _, lib := range libs {
			if !present(lib) {
				return fmt.Errorf("%s needs the library %s, which no package of the image has", name, lib)
			}
		}
	}
	return nil
}
