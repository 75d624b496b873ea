// SPDX-License-Identifier: Apache-2.0

package azureclients

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/supervise"
	"cofferdam.dev/internal/groupapi"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/sandboxtest"
	"cofferdam.dev/internal/spec"
)

// The test binary is also the supervisor and the emulator.
func TestMain(m *testing.M) {
	sandboxtest.RunIfEmulator()
	if len(os.Args) == 4 && os.Args[1] == "test-supervise" {
		err := supervise.Main(context.Background(), supervise.Config{
			Home: os.Args[2], Name: os.Args[3], Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
			Probe: func(context.Context, string) (*qemu.Emulator, error) { return sandboxtest.Emulator() },
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// planner makes plans for the played emulator.
type planner struct{ home string }

func (p planner) Plan(_ context.Context, g spec.Group, tell groupapi.Tell) (*group.Plan, group.Contents, []string, error) {
	plan := &group.Plan{
		Accelerator: "tcg", TEE: "simulated", VCPUs: 1, MemoryMiB: 256, Network: group.NetworkNone, RestartPolicy: g.Restart,
		Boot:   group.Boot{Kernel: filepath.Join(p.home, "kernel"), Initrd: filepath.Join(p.home, "initrd"), Cmdline: "quiet"},
		Policy: []byte("package policy"),
	}
	for _, c := range g.Containers {
		if c.Image == "missing" {
			return nil, nil, nil, errors.New("no such image")
		}
		tell(c.Name, event.Pulled, event.Normal, "pulled")
		plan.Containers = append(plan.Containers, group.ContainerPlan{
			Name: c.Name, Image: c.Image, Command: c.Command, WorkingDir: "/", Life: c.Life,
			Layers: []group.Layer{{Path: filepath.Join(p.home, "layer.img"), RootHash: strings.Repeat("ab", 32)}},
		})
	}
	return plan, nil, nil, nil
}

// bearer lets everybody in who has a token.
type bearer struct{}

func (bearer) Authenticate(r *http.Request) (*auth.Identity, error) {
	token, err := auth.Bearer(r)
	if err != nil {
		return nil, err
	}
	return &auth.Identity{Method: "test", Subject: token, Roles: []auth.Role{groupapi.RoleOperator}}, nil
}

// credential is a token that needs nobody to be asked for.
type credential struct{}

func (credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "client", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// world is a service that listens, with Azure's clients for it.
type world struct {
	groups     *armcontainerinstance.ContainerGroupsClient
	containers *armcontainerinstance.ContainersClient
	http       *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	home := t.TempDir()
	var err error
	for _, f := range []string{"kernel", "initrd", "layer.img"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(home, f), []byte(f), 0o600))
	}
	store, errStore := group.OpenStore(home)
	log, errLog := audit.OpenState(home, "")
	self, errSelf := os.Executable()
	if err = errors.Join(err, errStore, errLog, errSelf); err != nil {
		t.Fatal(err)
	}
	api, err := groupapi.New(groupapi.Options{
		Groups: store, Dir: filepath.Join(home, "resources"), Planner: planner{home}, Supervisor: []string{self, "test-supervise", home},
		Auth: bearer{}, Audit: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(api)
	t.Cleanup(func() {
		api.Close()
		srv.Close()
		_ = log.Close()
	})
	options := &arm.ClientOptions{DisableRPRegistration: true, ClientOptions: policy.ClientOptions{
		Transport: srv.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: srv.URL,
			Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: srv.URL, Audience: srv.URL}},
		},
	}}
	w := &world{http: srv.Client()}
	w.groups, err = armcontainerinstance.NewContainerGroupsClient("00000000-0000-0000-0000-000000000001", credential{}, options)
	if err == nil {
		w.containers, err = armcontainerinstance.NewContainersClient("00000000-0000-0000-0000-000000000001", credential{}, options)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}
