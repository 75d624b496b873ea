// SPDX-License-Identifier: Apache-2.0

package rest

// backupKey answers POST /keys/{name}/backup.
func (h *Handler) backupKey(c *call) error {
	b, err := h.opts.Vault.BackupKey(c.r.Context(), c.name)
	return h.backup(c, b, err)
}

// backupSecret answers POST /secrets/{name}/backup.
func (h *Handler) backupSecret(c *call) error {
	b, err := h.opts.Vault.BackupSecret(c.r.Context(), c.name)
	return h.backup(c, b, err)
}

func (h *Handler) backup(c *call, b []byte, err error) error {
	if err != nil {
		return err
	}
	return c.respond(map[string]string{"value": encode64(b)})
}

// restoreKey answers POST /keys/restore.
func (h *Handler) restoreKey(c *call) error {
	b, err := c.readBackup()
	if err != nil {
		return err
	}
	k, err := h.opts.Vault.RestoreKey(c.r.Context(), b)
	return h.bundle(c, k, err)
}

// restoreSecret answers POST /secrets/restore.
func (h *Handler) restoreSecret(c *call) error {
	b, err := c.readBackup()
	if err != nil {
		return err
	}
	s, err := h.opts.Vault.RestoreSecret(c.r.Context(), b)
	return h.bareSecret(c, s, err)
}

func (c *call) readBackup() ([]byte, error) {
	m, err := c.readBody()
	if err != nil {
		return nil, err
	}
	b := m.binary("value")
	if *m.err == nil && len(b) == 0 {
		return nil, bad("The body has no member value: the backup.")
	}
	return b, *m.err
}
