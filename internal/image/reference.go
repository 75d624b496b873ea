// SPDX-License-Identifier: Apache-2.0

package image

// Config is what an image's configuration says about running it.
type Config struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string // NAME=VALUE
	User         string   // user[:group], names or numbers; empty means root
	WorkingDir   string
	StopSignal   string
	Volumes      []string // sorted
	ExposedPorts []string // sorted, such as 80/tcp
}

// Options say where images are kept and how registries are reached. The zero value needs Dir for registries only.
type Options struct {
	Dir       string // pull cache, an OCI layout that several processes may share; required for registries
	PlainHTTP bool   // speak HTTP without TLS to registries
}
