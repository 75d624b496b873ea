// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/seal"
)

// hsmHelper is the program that speaks to modules, which are shared libraries in C.
const hsmHelper = "cofferdam-pkcs11"

// hsmConfig is a hardware security module.
type hsmConfig struct {
	// Module is its shared library, PIN a file with the user's PIN, and Helper the program that loads the library.
	Module string `json:"module"`
	PIN    string `json:"pinFile"`
	Helper string `json:"helper"`
}

func (c *hsmConfig) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.Module, "pkcs11-module", "", "for a root key under one of a hardware security module: the module's shared library")
	f.StringVar(&c.PIN, "pin-file", "", "file with the PIN of the module's token")
	f.StringVar(&c.Helper, "pkcs11-helper", "", "the program "+hsmHelper+" (default: beside this one, or in the PATH)")
}

// open returns the module. The caller destroys the PIN.
func (c *hsmConfig) open() (*seal.HSM, error) {
	if c.Module == "" || c.PIN == "" {
		return nil, errors.New("--pkcs11-module or --pin-file is missing: the root key is under one of a hardware security module")
	}
	helper, err := c.findHelper()
	if err != nil {
		return nil, err
	}
	pin, err := console.ReadSecretFile("the PIN", c.PIN)
	if err != nil {
		return nil, err
	}
	return &seal.HSM{Helper: helper, Module: c.Module, PIN: pin}, nil
}

func (c *hsmConfig) findHelper() (string, error) {
	if c.Helper != "" {
		return c.Helper, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), hsmHelper)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath(hsmHelper)
	if err != nil {
		return "", fmt.Errorf("the program %s is not beside this one and not in the PATH: build it with `make pkcs11`, or name it by --pkcs11-helper", hsmHelper)
	}
	return path, nil
}
