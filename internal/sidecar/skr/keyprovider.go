// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	kp "cofferdam.dev/api/keyprovider/v1"
	"cofferdam.dev/release"
)

// agents are the names under which the sidecar is the attestation agent of ocicrypt's parameters.
var agents = []string{"skr", "aasp"}

// agentParameter is the parameter of ocicrypt that names the agent, and when wrapping the key.
const agentParameter = "attestation-agent"

// keyProviderInput is ocicrypt's request. Members that are not needed are left alone; bytes are in base64.
type keyProviderInput struct {
	Op   string `json:"op"`
	Wrap struct {
		Config struct {
			Parameters map[string][][]byte `json:"Parameters"`
		} `json:"ec"`
		Data []byte `json:"optsdata"`
	} `json:"keywrapparams"`
	Unwrap struct {
		Config struct {
			Parameters map[string][][]byte `json:"Parameters"`
		} `json:"dc"`
		Annotation []byte `json:"annotation"`
	} `json:"keyunwrapparams"`
}

// keyProviderOutput is the answer.
type keyProviderOutput struct {
	Wrap struct {
		Annotation []byte `json:"annotation"`
	} `json:"keywrapresults"`
	Unwrap struct {
		Data []byte `json:"optsdata"`
	} `json:"keyunwrapresults"`
}

// annotation is what an image carries beside an encrypted layer: the layer's key, wrapped, and where the key is that it was
// wrapped by.
type annotation struct {
	KeyID    string `json:"kid"`
	Wrapped  []byte `json:"wrapped_data"`
	IV       []byte `json:"iv,omitempty"`
	Type     string `json:"wrap_type,omitempty"`
	Vault    string `json:"kms_endpoint,omitempty"`
	Attester string `json:"attester_endpoint,omitempty"`
}

// wrapType is what annotations call RSA-OAEP with SHA-256 over the secret itself, whatever the size of the key is.
const wrapType = "rsa_3072"

func parseInput(in *kp.KeyProviderKeyWrapProtocolInput, op string) (*keyProviderInput, error) {
	var v keyProviderInput
	if err := json.Unmarshal(in.GetKeyProviderKeyWrapProtocolInput(), &v); err != nil {
		return nil, invalid("the key provider's input is no JSON of the form that is wanted") // the parser's error may quote it
	}
	if v.Op != "" && v.Op != op {
		return nil, invalid("the operation is not %s", op)
	}
	return &v, nil
}

// UnWrapKey unwraps the key of a layer with a key that is released for it.
func (s keyProvider) UnWrapKey(ctx context.Context, in *kp.KeyProviderKeyWrapProtocolInput) (*kp.KeyProviderKeyWrapProtocolOutput, error) {
	v, err := parseInput(in, "keyunwrap")
	if err != nil {
		return nil, err
	}
	// Some callers of ocicrypt give no parameters for decryption; those that do must mean us.
	if p := v.Unwrap.Config.Parameters[agentParameter]; len(p) > 0 && !slices.Contains(agents, strings.ToLower(string(p[0]))) {
		return nil, invalid("the attestation agent that is named is another one than %s", agents[0])
	}
	var a annotation
	if json.Unmarshal(v.Unwrap.Annotation, &a) != nil {
		return nil, invalid("the annotation is no JSON of the form that is wanted")
	}
	if a.Type != "" && !strings.HasPrefix(a.Type, "rsa") {
		return nil, invalid("the annotation's wrap_type is another one than %s", wrapType)
	}
	var missing []string
	for _, m := range []struct {
		name  string
		empty bool
	}{{"kid", a.KeyID == ""}, {"wrapped_data", len(a.Wrapped) == 0}, {"kms_endpoint", a.Vault == ""}, {"attester_endpoint", a.Attester == ""}} {
		if m.empty {
			missing = append(missing, m.name)
		}
	}
	if len(missing) > 0 {
		return nil, invalid("missing or empty in the annotation: %s", strings.Join(missing, ", "))
	}
	name, err := release.ParseKeyName(a.KeyID)
	if err != nil {
		return nil, err
	}
	k, err := s.opts.Client.Release(ctx, &release.Request{Attestation: a.Attester, Vault: a.Vault, Key: name})
	if err != nil {
		return nil, err
	}
	secret, err := openWith(k, formatOAEP256, a.Wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	var out keyProviderOutput
	out.Unwrap.Data = secret
	return output(&out)
}

// WrapKey wraps the key of a layer under a public key in the key directory.
func (s keyProvider) WrapKey(_ context.Context, in *kp.KeyProviderKeyWrapProtocolInput) (*kp.KeyProviderKeyWrapProtocolOutput, error) {
	v, err := parseInput(in, "keywrap")
	if err != nil {
		return nil, err
	}
	p := v.Wrap.Config.Parameters[agentParameter]
	if len(p) == 0 {
		return nil, invalid("the encryption parameters have no %s: want %s:KEY", agentParameter, agents[0])
	}
	agent, key, _ := strings.Cut(string(p[0]), ":")
	if !slices.Contains(agents, strings.ToLower(agent)) || key == "" {
		return nil, invalid("the parameter %s is not %s:KEY", agentParameter, agents[0])
	}
	if s.opts.KeyDirectory == "" {
		return nil, &failure{status: http.StatusForbidden, code: codeInvalid, message: "the sidecar wraps nothing: it was started without a directory of public keys"}
	}
	if len(v.Wrap.Data) == 0 {
		return nil, invalid("missing or empty: optsdata")
	}
	b, err := WrapOffline(s.opts.KeyDirectory, key, v.Wrap.Data)
	if errors.Is(err, errNoKey) {
		return nil, &failure{status: http.StatusNotFound, code: codeInvalid, message: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	var out keyProviderOutput
	out.Wrap.Annotation = b
	return output(&out)
}

func output(v *keyProviderOutput) (*kp.KeyProviderKeyWrapProtocolOutput, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &kp.KeyProviderKeyWrapProtocolOutput{KeyProviderKeyWrapProtocolOutput: b}, nil
}
