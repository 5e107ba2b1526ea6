# syntax=docker/dockerfile:1
#   docker build -t unitgate .
#   docker build -t unitgate-keys --target keys .      # makes nkeys, for compose.yaml
# The tag names one version of the compiler. A tag can be moved: where you build for production, put the digest that your
# registry shows behind it (golang:1.26.8-bookworm@sha256:…).
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ENV CGO_ENABLED=0
# The directories are here because the last stages have no shell to make them with.
RUN go build -trimpath -buildvcs=false -ldflags="-s -w" -o /image/unitgate ./services/unitgate \
    && go build -trimpath -buildvcs=false -ldflags="-s -w" -o /keys/keys ./deployments/keys \
    && mkdir -p /image/var/lib/unitgate /image/tmp /keys/data

# Programs are root's, as directories are by default: the user that runs them may not write over them. Its own are the
# directories for what it keeps, with what an engine puts into them.
FROM scratch AS keys
COPY --from=build /keys/keys /keys
COPY --from=build --chown=65532:65532 /keys/data/ /data/
USER 65532:65532
ENTRYPOINT ["/keys"]
CMD ["/data"]

# The binary, authorities to trust (hooks, collectors and DNS providers over https), a directory for an edge's state, and
# /tmp for `dev`. Nothing else: no shell, no time zones (all times are UTC), no user names.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /image/unitgate /unitgate
COPY --from=build --chown=65532:65532 /image/var/lib/unitgate/ /var/lib/unitgate/
COPY --from=build --chown=65532:65532 /image/tmp/ /tmp/
USER 65532:65532
ENTRYPOINT ["/unitgate"]
CMD ["--help"]
