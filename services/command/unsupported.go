package command

import "github.com/unitgate/unitgate/events"

// unsupported refuses what the core can decide already and no driver or edge of this version carries out: accepted, it
// would be a promise that nobody keeps, or a cutover that waits for ever.
func unsupported(c events.Command) error {
	switch c := c.(type) {
	case events.CreateNamespace:
		return unsupportedPolicy(c.Policy, "policy")
	case events.ApplyConfig:
		return unsupportedPolicy(c.Config.Policy, "config.policy")
	case events.PreviewCutover:
		if c.Gate != nil && c.Gate.Set() {
			return events.ErrUnsupported.With("gates are not judged yet: use steps and an interval, and look").At("gate")
		}
	default:
	}
	return nil
}

func unsupportedPolicy(p *events.PolicyPatch, field string) error {
	switch {
	case p == nil:
		return nil
	case p.Gate != nil && p.Gate.Set():
		return events.ErrUnsupported.With("gates are not judged yet: leave it out").At(field + ".gate")
	}
	return nil
}
