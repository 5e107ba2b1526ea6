// Package check reads the files of deployments with the parsers of those for whom they are made: compose-go, the types of
// Kubernetes' API, BuildKit's Dockerfile parser and systemd-analyze. It is a module of its own, so that none of them takes
// part in choosing the versions of what we ship (decision record 0016). That the command lines in these files are ones of
// unitgate is checked beside its flags, in services/unitgate/cli.
package check
