# syntax=docker/dockerfile:1
#   docker build -t unitgate .
#   docker build -t unitgate-keys --target keys .      # makes nkeys, for compose.yaml
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

FROM scratch AS keys
COPY --from=build --chown=65532:65532 /keys/ /
USER 65532:65532
ENTRYPOINT ["/keys"]
CMD ["/data"]

# The binary, authorities to trust (hooks, collectors and DNS providers over https), a directory for an edge's state, and
# /tmp for `dev`. Nothing else: no shell, no time zones (all times are UTC), no user names.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /image/ /
USER 65532:65532
ENTRYPOINT ["/unitgate"]
CMD ["--help"]
