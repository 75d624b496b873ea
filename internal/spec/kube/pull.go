// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// dockerConfig is the key of a Secret that holds logins for registries.
const dockerConfig = ".dockerconfigjson"

// pull reads the logins for the registries of the images. One that is not given is no error, as in a cluster: the image
// may need none.
func (p *pod) pull(*doc.Value) error {
	if p.options.VirtualNode {
		return nil
	}
	list, err := items(p.spec, "imagePullSecrets")
	if err != nil {
		return err
	}
	for _, v := range list {
		name, err := text(v, "name")
		if err != nil {
			return err
		}
		secret := p.find("Secret", name)
		if secret == nil {
			p.warnings.Add(spec.WarnIgnored, v.Path, "Secret %q is not given, so images are fetched without its logins", name)
			continue
		}
		config, ok := secret.data[dockerConfig]
		if !ok {
			return v.Errorf("Secret %q has no key %s", name, dockerConfig)
		}
		credentials, ok := logins(config)
		if !ok { // the text would show a part of it
			return v.Errorf("%s of Secret %q holds no logins", dockerConfig, name)
		}
		p.group.Credentials = append(p.group.Credentials, credentials...)
	}
	return nil
}

// logins reads the file in which Docker's client keeps them.
func logins(config string) ([]spec.RegistryCredential, bool) {
	var file struct {
		Auths map[string]struct {
			Username string `json:"username"`
			Password string `json:"password"`
			Auth     string `json:"auth"`
		} `json:"auths"`
	}
	if err := json.Unmarshal([]byte(config), &file); err != nil {
		return nil, false
	}
	var out []spec.RegistryCredential
	for server, login := range file.Auths {
		c := spec.RegistryCredential{Server: server, Username: login.Username, Password: spec.Content(login.Password)}
		if login.Auth != "" { // which wins, as in the client
			both, err := base64.StdEncoding.DecodeString(login.Auth)
			user, password, ok := strings.Cut(string(both), ":")
			if err != nil || !ok {
				return nil, false
			}
			c.Username, c.Password = user, spec.Content(password)
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b spec.RegistryCredential) int { return strings.Compare(a.Server, b.Server) })
	return out, true
}

// unheard warns of what changes how a pod runs and can not be had.
func (p *pod) unheard(*doc.Value) error {
	if p.options.VirtualNode {
		return nil
	}
	for _, key := range []string{"fsGroup", "supplementalGroups", "sysctls"} {
		if v := p.spec.Get("securityContext").Get(key); !v.IsNull() {
			p.warnings.Add(spec.WarnIgnored, v.Path, "%s has no effect here", key)
		}
	}
	return nil
}
