package cli

import (
	"context"

	"github.com/choria-io/fisk"
	"go.opentelemetry.io/otel/attribute"

	"github.com/unitgate/unitgate/services/telemetry"
)

func addOTLP(cmd *fisk.CmdClause, to *string) {
	cmd.Flag("otlp", "collector that takes traces: http://HOST:4317 for gRPC, http://HOST:4318 for HTTP; or set the variables of OpenTelemetry, OTEL_EXPORTER_OTLP_ENDPOINT and its kin").PlaceHolder("URL").StringVar(to)
}

// startTelemetry starts a server's telemetry; stop sends the last spans, in bounded time.
func (s *servers) startTelemetry(ctx context.Context, service string, about ...attribute.KeyValue) (t *telemetry.T, stop func(), err error) {
	t, err = telemetry.Start(ctx, telemetry.Config{Service: service, OTLP: s.otlp, Attributes: about, Log: s.log()})
	if err != nil {
		return nil, nil, usage("%w", err)
	}
	return t, func() { _ = t.Shutdown(context.WithoutCancel(ctx)) }, nil // spans that a collector does not take in time are no failure of ours
}
