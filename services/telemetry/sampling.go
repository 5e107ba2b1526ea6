package telemetry

import (
	"strconv"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	samplerVar    = "OTEL_TRACES_SAMPLER"
	samplerArgVar = "OTEL_TRACES_SAMPLER_ARG"

	// DefaultHandshakes is the share of handshakes that are traced where no variable says otherwise.
	DefaultHandshakes = 0.01
)

// sampled is what the sampler's variables come to.
//
// The ratio is for handshakes, of which there are thousands a second and which anybody can cause. What an operator does is
// rare, and the one cutover that nobody recorded is the one that is asked about: commands and cutovers are always traced,
// unless everything is off or the caller of a command that belongs to no cutover does not record it either.
type sampled struct {
	handshakes float64 // 0 to 1
	provider   sdktrace.Sampler
}

func sampling(v variables) sampled {
	always := sdktrace.ParentBased(sdktrace.AlwaysSample())
	switch name := env(samplerVar); name {
	case "traceidratio", "parentbased_traceidratio":
		return sampled{ratio(1, v), always}
	case "always_on", "parentbased_always_on":
		return sampled{1, always}
	case "always_off", "parentbased_always_off":
		return sampled{0, sdktrace.NeverSample()}
	case "":
	default:
		v.ignored(samplerVar, name, "want traceidratio, always_on or always_off, each with or without parentbased_")
	}
	return sampled{ratio(DefaultHandshakes, v), always}
}

func ratio(unset float64, v variables) float64 {
	arg := env(samplerArgVar)
	if arg == "" {
		return unset
	}
	r, err := strconv.ParseFloat(arg, 64)
	if err != nil || !(r >= 0 && r <= 1) {
		v.ignored(samplerArgVar, arg, "want a number from 0 to 1")
		return unset
	}
	return r
}
