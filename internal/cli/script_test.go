// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/blobtest"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in the scripts")

// TestMain makes the command line and its test tools programs that scripts can run.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"cofferdam":  func() { os.Exit(Main(context.Background(), Current())) },
		"ociimage":   makeImage,
		"mkchain":    makeChain,
		"mkledger":   makeLedger,
		"mkaudit":    makeAudit,
		"mkevidence": makeEvidence,
		"mkkds":      serveKDS,
		"mkkey":      makeKey,
		"tcp":        talkTCP,
		"awaitlog":   awaitLog,
		"awaitfile":  awaitFile,
		"askservice": askService,
		"mkagent":    serveAgent,
		"mksigner":   makeSigner,
		"askvault":   askVault,
		"askbroker":  brokerGuest,
		"mktarget":   makeTarget,
		"mksocket":   makeSocket,
		"askskr":     askSidecar,
		"askgroups":  askGroups,
		"servefiles": serveFiles,
	})
}

// TestScripts runs what needs no machine: every command's help, its errors, and its work on files.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       *update,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("COFFERDAM_HOME", filepath.Join(env.WorkDir, "home"))
			program, err := exec.LookPath("cofferdam")
			env.Setenv("COFFERDAM", program)
			return err
		},
	})
}

// TestRootScripts runs what mounts.
func TestRootScripts(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Root, testcap.FUSE, testcap.Loop, testcap.E2fsprogs)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "root"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("COFFERDAM_HOME", filepath.Join(env.WorkDir, "home"))
			return nil
		},
	})
}

// TestStorageScripts runs what needs a storage server.
func TestStorageScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a storage server")
	}
	a := blobtest.StartAzurite(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "storage"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("COFFERDAM_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("STORAGE", a.URL)
			env.Setenv("ACCOUNT_KEY", a.Key)
			return nil
		},
	})
}

// TestMachineScripts runs what boots machines. All of a script's groups share one state directory, which takes the
// guest image and the layers from the project's cache.
func TestMachineScripts(t *testing.T) {
	testcap.Require(t, testcap.QEMU, testcap.GuestImage, testcap.Images)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "vm"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// The home stays out of the work directory: its layers are linked, and its path is short.
			home, err := os.MkdirTemp("", "cd-*")
			if err != nil {
				return err
			}
			env.Defer(func() { leaveNothing(t, home) })
			cache := filepath.Join(testcap.Dir(), "home")
			for _, d := range []string{"guest", "layers"} {
				err = os.MkdirAll(filepath.Join(cache, d), 0o700)
				if err != nil {
					return err
				}
				err = os.Symlink(filepath.Join(cache, d), filepath.Join(home, d))
				if err != nil {
					return err
				}
			}
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("COFFERDAM_HOME", home)
			env.Setenv("IMAGES", filepath.Join(testcap.Dir(), "images"))
			port, err := testcap.FreePort()
			env.Setenv("PORT", strconv.Itoa(port))
			return err
		},
	})
}

// leaveNothing ends the groups that a script which failed left running, and removes its state directory.
func leaveNothing(t *testing.T, home string) {
	t.Helper()
	store, err := group.OpenStore(home)
	if err != nil {
		t.Errorf("cleaning up: %v", err)
		return
	}
	groups, err := store.List()
	for _, g := range groups {
		if !g.Alive {
			continue
		}
		client, dialErr := group.DialDir(g.Dir)
		if dialErr == nil {
			dialErr = errors.Join(client.Stop(context.Background(), time.Millisecond), client.Close())
		}
		err = errors.Join(err, dialErr)
	}
	err = errors.Join(err, os.RemoveAll(home))
	if err != nil {
		t.Errorf("cleaning up: %v", err)
	}
}
