// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/attestationcmd"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/devdomain"
	"cofferdam.dev/internal/kbs"
	"cofferdam.dev/internal/plain"
)

// aboutBroker is what the help of each of these commands says about the broker.
const aboutBroker = `
The broker is --broker, else $COFFERDAM_BROKER, else the one that ` + "`cofferdam serve all`" + ` or
` + "`cofferdam serve broker`" + ` runs with this state directory, whose operator's token is used.`

// BrokerCommand returns `broker` with all that is below it.
func (a *App) BrokerCommand() *cobra.Command {
	return console.Noun("broker", "Say which guests of Confidential Containers get which resources",
		console.Noun("resource", "Set and delete what a key broker gives to guests", a.brokerSetCommand(), a.brokerDeleteCommand()),
		console.Noun("policy", "Show and set the rules by which it does", a.brokerPolicyShowCommand(), a.brokerPolicySetCommand()))
}

// brokerOptions say which broker is meant, how it is trusted, and who asks.
type brokerOptions struct{ broker, ca, tokenFile string }

func (o *brokerOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.broker, "broker", "", "the broker's URL (default $COFFERDAM_BROKER)")
	f.StringVar(&o.ca, "ca", "", "PEM file of the authority that the broker's TLS is trusted by")
	f.StringVar(&o.tokenFile, "token-file", "", "file of the operator's token, - for standard input")
}

// complete fills in what the flags leave open.
func (o *brokerOptions) complete(a *App) {
	if o.broker == "" {
		o.broker, _ = a.LookupEnv("COFFERDAM_BROKER")
	}
	if o.broker != "" {
		return
	}
	state := filepath.Join(a.Home, "broker")
	ca, token := filepath.Join(state, "tls-certificate.pem"), filepath.Join(state, "admin-token")
	if d, err := devdomain.Running(filepath.Join(a.Home, DomainState)); err == nil && d.Broker != nil {
		o.broker, ca, token = d.Broker.URL, d.CA, d.AdminToken
	} else {
		address, err := os.ReadFile(filepath.Join(state, "address"))
		if err != nil {
			return // then there is none, which is said
		}
		o.broker = strings.TrimSpace(string(address))
	}
	if o.ca == "" {
		o.ca = ca
	}
	if o.tokenFile == "" {
		o.tokenFile = token
	}
}

// ask sends a request to a path of the protocol.
func (o *brokerOptions) ask(a *App, cmd *cobra.Command, method, path string, body []byte) ([]byte, error) {
	o.complete(a)
	u, err := url.Parse(o.broker)
	switch {
	case o.broker == "":
		return nil, console.Usage(cmd, "--broker is missing, and no broker runs with this state directory")
	case err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil:
		return nil, console.Usage(cmd, fmt.Sprintf("--broker is %q; want an https URL", o.broker))
	case o.tokenFile == "":
		return nil, console.Usage(cmd, "--token-file is missing: administrators alone set what a broker gives")
	}
	c, err := attestationcmd.ServiceClient(o.ca)
	if err != nil {
		return nil, err
	}
	token, err := console.ReadLimited(o.tokenFile, a.In, MaxToken)
	if err != nil {
		return nil, fmt.Errorf("reading the token: %w", err)
	}
	ctx, stop := console.Interruptible(cmd.Context())
	defer stop()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(o.broker, "/")+kbs.Prefix+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	return brokerAnswer(c, req)
}

// brokerAnswer returns the answer, or the refusal in the broker's own words.
func brokerAnswer(c *http.Client, req *http.Request) ([]byte, error) {
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the key broker: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, attestationcmd.MaxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("asking the key broker: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	var e struct{ Type, Detail string }
	if json.Unmarshal(answer, &e) != nil || e.Type == "" {
		return nil, fmt.Errorf("the key broker answers %s", resp.Status)
	}
	err = fmt.Errorf("the key broker refuses: %s: %s", plain.Printable(e.Type[strings.LastIndex(e.Type, "/")+1:]), plain.Printable(e.Detail))
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return nil, &console.Failure{Code: console.ExitRefused, Err: err, Fix: "--token-file FILE with the operator's token (admin-token of the broker's state directory)"}
	}
	return nil, err
}

// resourcePath reads REPOSITORY/TYPE/TAG, with or without what guests write before it.
func resourcePath(cmd *cobra.Command, text string) (kbs.Path, error) {
	p, err := kbs.ParsePath(strings.Split(strings.TrimPrefix(text, "kbs:///"), "/")...)
	if err != nil {
		return p, console.Usage(cmd, fmt.Sprintf("%q is no resource; want REPOSITORY/TYPE/TAG, as in default/key/image", text))
	}
	return p, nil
}

func (a *App) brokerSetCommand() *cobra.Command {
	var o brokerOptions
	c := &cobra.Command{
		Use:   "set REPOSITORY/TYPE/TAG FILE|-",
		Short: "Set a resource",
		Long: `Set a resource to the content of a file or of standard input: 1 to 25600 bytes of it. Guests
know it as kbs:///REPOSITORY/TYPE/TAG. Nobody gets it until the rules say so
(` + "`cofferdam broker policy set`" + `), or a release policy of its secret in the vault.
` + aboutBroker,
		Example: `  cofferdam broker resource set default/key/image image-key.bin
  printf %s "$PASSWORD" | cofferdam broker resource set default/password/db -`,
		Args: console.Arguments(2, 2, "a resource and a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := resourcePath(cmd, args[0])
			if err != nil {
				return err
			}
			o.complete(a)
			if o.tokenFile == "-" && args[1] == "-" {
				return console.Usage(cmd, "standard input can not be the token and the resource")
			}
			secret, err := console.ReadLimited(args[1], a.In, kbs.MaxResource)
			if err != nil {
				return fmt.Errorf("reading the resource: %w", err)
			}
			defer clear(secret)
			if len(secret) == 0 {
				return fmt.Errorf("reading the resource: %s is empty", args[1])
			}
			if _, err := o.ask(a, cmd, http.MethodPost, "resource/"+p.String(), secret); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, "kbs:///"+p.String())
			return err
		},
	}
	o.flags(c)
	return c
}

func (a *App) brokerDeleteCommand() *cobra.Command {
	var o brokerOptions
	c := &cobra.Command{
		Use:   "delete REPOSITORY/TYPE/TAG",
		Short: "Delete a resource",
		Long: `Delete a resource. Its secret can be recovered in the vault as long as that keeps deleted
things, and comes back when the resource is set again.
` + aboutBroker,
		Example: `  cofferdam broker resource delete default/key/image`,
		Args:    console.Arguments(1, 1, "a resource"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := resourcePath(cmd, args[0])
			if err != nil {
				return err
			}
			if _, err := o.ask(a, cmd, http.MethodDelete, "resource/"+p.String(), nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "kbs:///%s is deleted\n", p)
			return err
		},
	}
	o.flags(c)
	return c
}

func (a *App) brokerPolicyShowCommand() *cobra.Command {
	var o brokerOptions
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the rules by which resources are given",
		Long: `Print the rules by which resources are given to guests, as the broker keeps them.
` + aboutBroker,
		Example: `  cofferdam broker policy show > rules.json`,
		Args:    console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			rules, err := o.ask(a, cmd, http.MethodGet, "resource-policy", nil)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, plain.Drawing(strings.TrimSpace(string(rules))))
			return err
		},
	}
	o.flags(c)
	return c
}

func (a *App) brokerPolicySetCommand() *cobra.Command {
	var o brokerOptions
	c := &cobra.Command{
		Use:   "set RULES|-",
		Short: "Replace the rules by which resources are given",
		Long: `Replace the rules by which resources are given to guests: which resources, and for each what
the token of a guest must say (docs/reference/key-broker.md). They count from the next
request on. What was given before stays where it is.
` + aboutBroker,
		Example: `  cofferdam broker policy set rules.json`,
		Args:    console.Arguments(1, 1, "a file of rules"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.complete(a)
			if o.tokenFile == "-" && args[0] == "-" {
				return console.Usage(cmd, "standard input can not be the token and the rules")
			}
			rules, err := console.ReadLimited(args[0], a.In, kbs.MaxRules)
			if err != nil {
				return fmt.Errorf("reading the rules: %w", err)
			}
			body, err := json.Marshal(map[string]string{"policy": base64.RawURLEncoding.EncodeToString(rules)})
			if err != nil {
				return fmt.Errorf("sending the rules: %w", err)
			}
			_, err = o.ask(a, cmd, http.MethodPost, "resource-policy", body)
			return err
		},
	}
	o.flags(c)
	return c
}
