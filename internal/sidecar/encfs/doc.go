// SPDX-License-Identifier: Apache-2.0

// Package encfs is the filesystem sidecar: in a container group it has keys released, opens encrypted volumes on remote
// storage with them, and mounts the filesystems in them where other containers of the group see them. Its configuration is
// that of the sidecar that container groups on Azure use; what is ours beside it are descriptors, under the member
// x-cofferdam.
//
// It trusts its configuration, which the group's policy pins, and the keys that are released. It does not trust the storage:
// a volume with a descriptor is opened for no less than that asks for. A volume without one is opened as the original does,
// and its status says what that does not protect. A key is never written to a file, and nothing of one is logged.
package encfs
