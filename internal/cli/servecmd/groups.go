// SPDX-License-Identifier: Apache-2.0

package servecmd

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
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/groupcmd"
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

func (a *App) serveGroupsCommand() *cobra.Command {
	var file, state string
	var flags groupsConfig
	var o groupcmd.GroupOptions
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
		Args: console.Arguments(0, 0, "no arguments"),
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
			if err := o.Check(cmd); err != nil {
				return err
			}
			if state == "" {
				state = filepath.Join(a.Home, groupsState)
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.serveGroups(ctx, cmd, &config, &o, state)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file in YAML (docs/reference/groups-api.md); flags win over it")
	f.StringVar(&state, "state", "", "directory of the service's state (default: "+groupsState+" in the state directory)")
	f.StringVar(&flags.Socket, "socket", "", "Unix socket to listen on (default: "+groupsSocket+" in the state directory)")
	flags.Listen.flags(c, "")
	o.ServiceFlags(c)
	return c
}

// serveGroups runs the service until ctx ends.
func (a *App) serveGroups(ctx context.Context, cmd *cobra.Command, c *groupsConfig, o *groupcmd.GroupOptions, state string) (err error) {
	if _, _, err := net.SplitHostPort(c.Listen.Listen); c.Listen.Listen != "" && err != nil {
		return console.Usage(cmd, fmt.Sprintf("--listen is %q; want HOST:PORT", c.Listen.Listen))
	}
	if c.Listen.Listen != "" && c.Socket != "" {
		return console.Usage(cmd, "--listen and --socket exclude each other")
	}
	if group.Neighbourly(o.Reach.Mode) {
		return console.Usage(cmd, "--network "+o.Reach.Mode+" is for one group with an address of its own; here it is nat, ingress or none")
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
func (a *App) groupsPlanner(o *groupcmd.GroupOptions) (*groupapi.Deployer, error) {
	stand, err := o.Stand(a.Home)
	if err != nil {
		return nil, err
	}
	return &groupapi.Deployer{
		Images: &groupcmd.Images{A: a.group, PlainHTTP: o.PlainHTTP}, Stand: stand, Shares: o.ShareDirs, ScratchMiB: o.ScratchMiB,
		Machine: func(ctx context.Context) (deploy.Machine, qemu.Choice, *qemu.Emulator, error) {
			m := o.Machine()
			var err error
			m.Guest, err = a.image.Guest()
			if err != nil {
				return m, qemu.Choice{}, nil, err
			}
			choice, emulator, err := a.group.Choose(ctx, &m)
			return m, choice, emulator, err
		},
	}, nil
}

// runGroups serves with what was opened.
func (a *App) runGroups(ctx context.Context, c *groupsConfig, state string, planner groupapi.Planner, log *audit.Log) error {
	logger := a.serviceLog()
	store, err := a.Store()
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
		Supervisor: []string{self, "--home", a.Home, "supervise"},
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
func (a *App) groupsListener(opts *serve.Options, c *groupsConfig, state string) (auth.Authenticator, string, error) {
	given, err := socket.Activated()
	if err != nil && !errors.Is(err, socket.ErrNotActivated) {
		return nil, "", err
	}
	c.Listen.apply(opts)
	if given == nil && c.Listen.Listen == "" {
		if c.Socket == "" {
			c.Socket = filepath.Join(a.Home, groupsSocket)
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
	a.Say("the operator's token is in %s", token)
	return who, "", nil
}
