// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/uvm"
)

// securityContextVariable names the directory that the host of an Azure container group puts beside each container.
const securityContextVariable = "UVM_SECURITY_CONTEXT_DIR"

// hostContext adds what the host of an Azure container group has of the group. Without it the evidence is as true, but the
// verifier needs the parts from elsewhere: so what can not be read is told and left out.
func (a *App) hostContext(d *evidence.Document) {
	name := os.Getenv(securityContextVariable)
	if name == "" || d.Type != evidence.TypeSEVSNP {
		return
	}
	dir, err := os.OpenRoot(name)
	if err == nil {
		err = addHostContext(d, dir.FS())
		err = errors.Join(err, dir.Close())
	}
	if err != nil {
		a.Say("security context: left out, because %v", err)
	}
}

// addHostContext adds the execution policy, the endorsement of the utility VM, and the chip's certificates where the
// report came without them. It changes nothing when a part is missing or too large.
func addHostContext(d *evidence.Document, dir fs.FS) error {
	c, err := uvm.ReadSecurityContext(dir)
	if err != nil {
		return err
	}
	more := *d
	more.Policy, more.Endorsements = c.Policy, [][]byte{c.Endorsement}
	if len(d.Certificates) == 0 {
		more.Certificates = c.HostCert.Certificates()
	}
	if err = more.Validate(); err != nil {
		return fmt.Errorf("it does not fit into a document: %w", err)
	}
	*d = more
	return nil
}
