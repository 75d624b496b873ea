// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/groupapi"
	"cofferdam.dev/internal/groupapi/socket"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/wholefile"
)

const (
	// groupsState is the directory of the groups service below the state directory, groupsSocket its socket.
	groupsState  = "groups-api"
	groupsSocket = "groups.sock"
	// groupsToken is the operator's token in the directory of the service.
	groupsToken = "operator-token"

	// groupsBody bounds a request's body in bytes, as Azure Resource Manager does; groupsRequest is how long one may take to be
	// answered, stopping a group included.
	groupsBody    = 4 << 20
	groupsRequest = 90 * time.Second
	// groupsRate is how many requests one address may send per second, unless the configuration says another number.
	groupsRate = 100
)

// groupsConfig is the configuration file of the groups service. Flags win over it.
type groupsConfig struct {
	Schema string       `json:"schema"`
	Listen listenConfig `json:"server"`
	// Callers are who may do what, by client certificate or by a provider's token: the roles are reader and operator.
	Callers adminConfig `json:"callers"`
	// Socket is the path of the Unix socket, which is made unless there is an address to listen on.
	Socket string `json:"socket"`
	// Instance names this instance in the audit log.
	Instance string `json:"instance"`
}

// groupsConfigSchema is the schema of the file.
const groupsConfigSchema = "cofferdam.dev/groups-config/v1"

func (a *app) serveGroupsCommand() *cobra.Command {
	var file, state string
	var flags groupsConfig
	var o groupOptions
	c := &cobra.Command{
		Use:   "groups",
		Short: "Own container groups, by the calls that Azure Container Instances has for them",
		Long: `Answer requests about container groups in the form of Azure Resource Manager: a group is a
resource that is put, asked for, started, stopped and deleted, with logs, exec and attach.
What was written for Azure Container Instances can point here (docs/reference/groups-api.md;
the service describes itself at /openapi.json).

Groups live in the same store as those of ` + "`cofferdam group up`" + `, whose siblings work on
them, too. Each has a supervisor of its own: they go on when the service ends, and it finds
them again when it starts. Secure values are held in memory alone.

It listens on a Unix socket that only this user can open, or on the socket that systemd
hands over. With --listen it is TCP with TLS, and callers need the token in the state
directory (operator-token), or a client certificate or token that the configuration's rules
know. Every change is in the audit log (` + "`cofferdam audit verify`" + `).`,
		Example: `  cofferdam serve groups
  cofferdam serve groups --image-map images.yaml --share data=/srv/data
  cofferdam serve groups --listen 0.0.0.0:8446 --client-ca clients.pem \
    --tls-certificate cert.pem --tls-key key.pem --config groups.yaml`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config := groupsConfig{}
			if file != "" {
				if err := readConfig(file, &config); err != nil {
					return err
				}
				if config.Schema != groupsConfigSchema {
					return fmt.Errorf("reading the configuration: %s: schema is %q, not %q", file, config.Schema, groupsConfigSchema)
				}
			}
			said := givenFlags{cmd}
			config.Listen.override(said, &flags.Listen)
			said.text(&config.Socket, "socket", flags.Socket)
			if err := o.check(cmd); err != nil {
				return err
			}
			if state == "" {
				state = filepath.Join(a.home, groupsState)
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.serveGroups(ctx, cmd, &config, &o, state)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file in YAML (docs/reference/groups-api.md); flags win over it")
	f.StringVar(&state, "state", "", "directory of the service's state (default: "+groupsState+" in the state directory)")
	f.StringVar(&flags.Socket, "socket", "", "Unix socket to listen on (default: "+groupsSocket+" in the state directory)")
	flags.Listen.flags(c, "")
	o.launchFlags(c)
	return c
}

// launchFlags are those that say how the groups of a service are launched.
func (o *groupOptions) launchFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.imageMap, "image-map", "", "file of images that take the place of others: YAML or JSON, reference to reference")
	f.StringVar(&o.sidecar, "sidecar-image", "", "image of the release sidecar (default: "+sidecarFile+" in the state directory)")
	f.StringArrayVar(&o.shares, "share", nil, "a directory of this machine for a file share: [ACCOUNT/]SHARE=DIR")
	f.BoolVar(&o.plainHTTP, "plain-http", false, "speak to the images' registries without TLS")
	f.StringVar(&o.scratch, "scratch", "", "keep each container's writable layer on an encrypted disk with room for this much")
	f.StringVar(&o.volumes, "scratch-volumes", "", "keep empty directories on an encrypted disk with room for this much")
	f.StringVar(&o.reach.mode, "network", group.NetworkNAT, "nat, ingress (only published ports) or none")
	f.StringVar(&o.hostIP, "publish-address", deploy.DefaultHostIP, "where the groups' ports listen")
	o.machineFlags(c)
}

// serveGroups runs the service until ctx ends.
func (a *app) serveGroups(ctx context.Context, cmd *cobra.Command, c *groupsConfig, o *groupOptions, state string) (err error) {
	if _, _, err := net.SplitHostPort(c.Listen.Listen); c.Listen.Listen != "" && err != nil {
		return usage(cmd, fmt.Sprintf("--listen is %q; want HOST:PORT", c.Listen.Listen))
	}
	if c.Listen.Listen != "" && c.Socket != "" {
		return usage(cmd, "--listen and --socket exclude each other")
	}
	if group.Neighbourly(o.reach.mode) {
		return usage(cmd, "--network "+o.reach.mode+" is for one group with an address of its own; here it is nat, ingress or none")
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	planner, err := a.groupsPlanner(o)
	if err != nil {
		return err
	}
	// Whoever has the log open has the documents: two services in one directory exclude each other by it.
	log, err := audit.OpenState(state, c.Instance)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return a.runGroups(ctx, c, state, planner, log)
}

// groupsPlanner is what prepares groups, as `group up` would with the same flags.
func (a *app) groupsPlanner(o *groupOptions) (*groupapi.Deployer, error) {
	stand, err := o.stand(a.home)
	if err != nil {
		return nil, err
	}
	return &groupapi.Deployer{
		Images: &images{a: a, plainHTTP: o.plainHTTP}, Stand: stand, Shares: o.shareDirs, ScratchMiB: o.scratchMiB,
		Machine: func(ctx context.Context) (deploy.Machine, qemu.Choice, *qemu.Emulator, error) {
			m := o.machine()
			var err error
			m.Guest, err = a.guest()
			if err != nil {
				return m, qemu.Choice{}, nil, err
			}
			choice, emulator, err := a.choose(ctx, &m)
			return m, choice, emulator, err
		},
	}, nil
}

// runGroups serves with what was opened.
func (a *app) runGroups(ctx context.Context, c *groupsConfig, state string, planner groupapi.Planner, log *audit.Log) error {
	logger := a.serviceLog()
	store, err := a.store()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	opts := serve.Options{
		Name: "groups", Error: groupapi.Error, Ready: log.Ready, Log: logger,
		Limits: serve.Limits{Body: groupsBody, Request: groupsRequest},
	}
	who, where, err := a.groupsListener(&opts, c, state)
	if err != nil {
		return err
	}
	if opts.Listener != nil {
		defer func() { _ = opts.Listener.Close() }() // the server has closed it, or never had it
	}
	api, err := groupapi.New(groupapi.Options{
		Groups: store, Dir: filepath.Join(state, "resources"), Planner: planner, Auth: who, Audit: log, Log: logger,
		Supervisor: []string{self, "--home", a.home, "supervise"},
	})
	if err != nil {
		return err
	}
	defer api.Close()
	opts.Handler = http.Handler(api)
	srv, err := serve.New(ctx, opts)
	if err != nil {
		return err
	}
	if where == "" {
		where = "https://" + srv.Addr()
	}
	err = wholefile.Replace(filepath.Join(state, "address"), []byte(where+"\n"), 0o644)
	if err == nil {
		_, err = fmt.Fprintln(a.Out, where)
	}
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return runServer(ctx, srv, func(ctx context.Context) {
		<-ctx.Done()
		api.Close() // ends the sessions, which the server does not know of
	})
}

// groupsListener settles where the service listens and who its callers are: systemd's socket, an address with TLS, or a Unix
// socket of its own. It returns what clients connect to where that is no address.
func (a *app) groupsListener(opts *serve.Options, c *groupsConfig, state string) (auth.Authenticator, string, error) {
	given, err := socket.Activated()
	if err != nil && !errors.Is(err, socket.ErrNotActivated) {
		return nil, "", err
	}
	c.Listen.apply(opts)
	if given == nil && c.Listen.Listen == "" {
		if c.Socket == "" {
			c.Socket = filepath.Join(a.home, groupsSocket)
		}
		given, err = socket.Listen(c.Socket)
		if err != nil {
			return nil, "", err
		}
	}
	opts.Listener = given
	if given != nil {
		if path, local := given.Addr().(*net.UnixAddr); local {
			return socket.Peers{Roles: []auth.Role{groupapi.RoleOperator}}, "unix:" + path.Name, nil
		}
	}
	if c.Listen.ClientRate == 0 {
		c.Listen.ClientRate = groupsRate
	}
	err = a.tlsOptions(opts, &c.Listen, state, c.Listen.names())
	if err != nil {
		return nil, "", err
	}
	token := filepath.Join(state, groupsToken)
	who, err := c.Callers.authenticator(token, groupapi.RoleOperator)
	if err != nil {
		return nil, "", err
	}
	a.say("the operator's token is in %s", token)
	return who, "", nil
}
