// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// A recipe is how one image is made: a base layer that images share, a layer of its packages, a layer of
// configuration as the packages' maintainer scripts would leave it.
type recipe struct {
	name      string
	packages  []string
	needed    []string // packages that this image does need although they are in unused
	shared    bool     // put the packages of sharedPackages into a layer of their own
	configure func(*fileset) error
	extra     func() ([]*fileset, error) // more layers
	alone     bool                       // take the packages without what they depend on
	reshape   func(*fileset) (*fileset, error)
	program   bool // end with a layer of our own program
	config    ocispec.ImageConfig
}

// sharedPackages are the base layer of all dynamically linked images.
var sharedPackages = []string{"libc6", "libgcc-s1", "libssl3", "zlib1g"}

// unused are packages that dependencies name for installing, documenting or administering; running the software needs
// none of them. The check of shared libraries finds an entry too many.
var unused = []string{
	"adduser", "debconf", "dpkg", "gcc-12-base", "init-system-helpers", "iproute2", "libacl1", "libaudit-common", "libaudit1",
	"libbpf1", "libbsd0", "libbz2-1.0", "libcap-ng0", "libcap2-bin", "libcom-err2", "libdb5.3", "libelf1",
	"libfile-find-rule-perl", "libgdbm-compat4", "libgdbm6", "libgssapi-krb5-2", "libk5crypto3", "libkeyutils1", "libkrb5-3",
	"libkrb5support0", "libmd0", "libmnl0", "libnumber-compare-perl", "libpam-modules", "libpam-modules-bin", "libpam0g",
	"libperl5.36", "libselinux1", "libsemanage-common", "libsemanage2", "libsepol2", "libtext-glob-perl", "libtirpc-common",
	"libtirpc3", "libxtables12", "lsb-base", "passwd", "perl", "perl-base", "perl-modules-5.36", "sysvinit-utils", "tar",
	"tzdata", "usrmerge",
}

func recipes() []recipe {
	return []recipe{
		{
			name: "busybox", packages: []string{"busybox-static"}, configure: configureBase,
			config: ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{searchPath}, WorkingDir: "/"},
		},
		{
			name: "redis", packages: []string{"redis-server"}, shared: true, configure: configureRedis,
			config: ocispec.ImageConfig{
				Entrypoint: []string{"redis-server"},
				Cmd:        []string{"--save", "", "--bind", "0.0.0.0", "--protected-mode", "no"},
				Env:        []string{searchPath}, User: "redis", WorkingDir: "/data", StopSignal: "SIGTERM",
				Volumes: map[string]struct{}{"/data": {}}, ExposedPorts: map[string]struct{}{"6379/tcp": {}},
			},
		},
		{
			name: "nginx", packages: []string{"nginx"}, shared: true, configure: configureNginx,
			config: ocispec.ImageConfig{
				Entrypoint: []string{"nginx"}, Cmd: []string{"-g", "daemon off;"}, Env: []string{searchPath},
				WorkingDir: "/", StopSignal: "SIGQUIT", ExposedPorts: map[string]struct{}{"80/tcp": {}},
			},
		},
		{
			name: "python", packages: []string{"python3"}, shared: true, configure: configureBase,
			needed: []string{ // for the modules dbm, bz2 and nis
				"libbz2-1.0", "libcom-err2", "libdb5.3", "libgssapi-krb5-2", "libk5crypto3", "libkeyutils1", "libkrb5-3",
				"libkrb5support0", "libtirpc-common", "libtirpc3",
			},
			config: ocispec.ImageConfig{
				Cmd: []string{"python3"}, Env: []string{searchPath, "LANG=C.UTF-8"}, User: "65534:65534", WorkingDir: "/tmp",
			},
		},
		{
			name: "openssl", packages: []string{"busybox-static", "openssl"}, shared: true, configure: configureBase,
			config: ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{searchPath}, User: "65534:65534", WorkingDir: "/tmp"},
		},
		sidecarRecipe(),
		{
			name: "layers7", packages: []string{"busybox-static"}, extra: layers7,
			config: ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{searchPath}, WorkingDir: "/"},
		},
	}
}

// closureFunc returns packages with all that they need.
type closureFunc func(ctx context.Context, packages, needed []string) ([]deb, error)

// layers makes the layers, base first, and returns the packages that they hold.
func (r recipe) layers(ctx context.Context, a *apt, program []byte) ([][]byte, []deb, error) {
	return r.layersOf(ctx, a, a.closure, program)
}

func (r recipe) layersOf(ctx context.Context, a *apt, closure closureFunc, program []byte) ([][]byte, []deb, error) {
	debs, err := closure(ctx, r.packages, r.needed)
	if err != nil {
		return nil, nil, err
	}
	if r.alone {
		debs = slices.DeleteFunc(debs, func(d deb) bool { return !slices.Contains(r.packages, d.Name) })
	}
	var sets []*fileset
	all := debs
	if r.shared {
		base, err := closure(ctx, sharedPackages, nil)
		if err != nil {
			return nil, nil, err
		}
		debs = slices.DeleteFunc(slices.Clone(debs), func(d deb) bool { return slices.Contains(base, d) })
		baseSet, err := a.unpack(ctx, base)
		if err != nil {
			return nil, nil, err
		}
		sets = append(sets, baseSet)
	}
	app, err := a.unpack(ctx, debs)
	if err != nil {
		return nil, nil, err
	}
	if slices.Contains(r.packages, "busybox-static") {
		err = addApplets(ctx, app)
		if err != nil {
			return nil, nil, err
		}
	}
	sets = append(sets, app)
	if r.shared {
		err = checkLibraries(sets)
		if err != nil {
			return nil, nil, err
		}
	}
	if r.reshape != nil {
		if sets[len(sets)-1], err = r.reshape(app); err != nil {
			return nil, nil, err
		}
	}
	sets, err = r.ownLayers(sets)
	if err != nil {
		return nil, nil, err
	}
	if r.program {
		sets = append(sets, programLayer(program))
	}
	out, err := tars(sets)
	return out, all, err
}

// ownLayers appends the layers that come from no package.
func (r recipe) ownLayers(sets []*fileset) ([]*fileset, error) {
	if r.configure != nil {
		c := newFileset()
		err := r.configure(c)
		if err != nil {
			return nil, err
		}
		sets = append(sets, c)
	}
	if r.extra != nil {
		more, err := r.extra()
		if err != nil {
			return nil, err
		}
		sets = append(sets, more...)
	}
	return sets, nil
}

func tars(sets []*fileset) ([][]byte, error) {
	var out [][]byte
	for _, s := range sets {
		b, err := s.tar()
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// closure resolves and downloads packages and drops the unused ones but those that are needed after all.
func (a *apt) closure(ctx context.Context, packages, needed []string) ([]deb, error) {
	debs, err := a.resolve(ctx, packages)
	if err != nil {
		return nil, err
	}
	err = a.download(ctx, packages, debs)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(debs, func(d deb) bool {
		return slices.Contains(unused, d.Name) && !slices.Contains(needed, d.Name)
	}), nil
}

// unpack reads the files of packages into one set.
func (a *apt) unpack(ctx context.Context, debs []deb) (*fileset, error) {
	s := newFileset()
	for _, d := range debs {
		cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", a.path(d))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", d.File, err)
		}
		addErr := s.addTar(out, keep)
		err = cmd.Wait()
		if addErr != nil {
			return nil, fmt.Errorf("unpacking %s: %w", d.File, addErr)
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking %s: %w: %s", d.File, err, strings.TrimSpace(stderr.String()))
		}
	}
	return s, nil
}

// keep says which files of a package go into an image: everything but documentation (licences stay), translations,
// start scripts of other init systems, and character set tables.
func keep(name string) bool {
	if strings.HasPrefix(name, "usr/share/doc/") {
		return path.Base(name) == "copyright"
	}
	for _, prefix := range []string{
		"etc/init.d", "etc/logrotate.d", "etc/ufw", "lib/systemd", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/audit",
		"usr/lib/systemd", "usr/share/apport", "usr/share/bash-completion", "usr/share/bug", "usr/share/doc", "usr/share/doc-base",
		"usr/share/info", "usr/share/initramfs-tools", "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/vim",
	} {
		if name == prefix || strings.HasPrefix(name, prefix+"/") {
			return false
		}
	}
	return true
}
